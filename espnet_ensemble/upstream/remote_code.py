"""Upstreams whose code is on the hub: loaded where a configuration says so, by commit."""

import inspect
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from espnet_ensemble.files import check_keys
from espnet_ensemble.layers import Layer
from espnet_ensemble.upstream.errors import UpstreamError
from espnet_ensemble.upstream.one_at_a_time import OneAtATimeUpstream
from espnet_ensemble.upstream.unreadable import UNREADABLE, unreadable

#: Options of ``extra_conf`` and what they are if they are not given.
#: ``fs``, the sample rate in Hz, where no extractor says it; ``arguments``, what the model
#: calls the waveform and its number of samples (the second may be left out); ``last`` and
#: ``states``, what it calls the last hidden state and all of them; ``shortest``, samples that a
#: shorter utterance is padded to.
OPTIONS: dict[str, Any] = {
    "fs": None,
    "arguments": None,
    "last": "last_hidden_state",
    "states": "hidden_states",
    "shortest": 400,
}


@dataclass(frozen=True)
class _Call:
    """How a model is called, and what it gives is understood."""

    name: str
    extractor: Any
    options: Mapping[str, Any]

    @property
    def fs(self) -> int:
        return self.options["fs"] or getattr(self.extractor, "sampling_rate", 16000)

    def __call__(self, model: Any, wav: Tensor) -> list[Tensor]:
        """All hidden states of one waveform, (samples,): each (1, frames, features)."""
        dtype = next((p.dtype for p in model.parameters()), wav.dtype)
        arguments = self._arguments(wav, dtype)
        if "output_hidden_states" in inspect.signature(model.forward).parameters:
            arguments["output_hidden_states"] = True
        return self._states(model(**arguments))

    def _arguments(self, wav: Tensor, dtype: torch.dtype) -> dict[str, Any]:
        names = self.options["arguments"]
        if self.extractor is None or names is not None:
            values = (wav[None].to(dtype), torch.tensor([len(wav)], device=wav.device))
            return dict(zip(names or ["input_values"], values, strict=False))
        found = self.extractor(
            wav.float().cpu().numpy(), sampling_rate=self.fs, return_tensors="pt"
        )
        return {
            key: value.to(wav.device, dtype if value.is_floating_point() else None)
            for key, value in found.items()
        }

    def _states(self, found: Any) -> list[Tensor]:
        if isinstance(found, Tensor):
            found = {self.options["last"]: found}
        last = _find(found, self.options["last"])
        states = list(_find(found, self.options["states"]) or ())
        if last is not None:
            # That of the others may lack a norm.
            states = [*states[:-1], last]
        if not states or any(h.dim() != 3 or len(h) != 1 for h in states):
            shapes = [tuple(h.shape) for h in states]
            given = list(found) if isinstance(found, Mapping) else type(found).__name__
            raise UpstreamError(
                f"upstream {self.name!r}: expected {self.options['last']!r} or "
                f"{self.options['states']!r}, (1, frames, features), of what it gives; "
                f"found {shapes or given}. Name what it has in extra_conf: last, states"
            )
        return states


def _find(found: Any, key: str) -> Any:
    return found.get(key) if isinstance(found, Mapping) else getattr(found, key, None)


def load_remote_code(
    name: str,
    layer: Layer = "last",
    cache_dir: str | None = None,
    revision: str | None = None,
    extra_conf: Mapping[str, Any] | None = None,
) -> OneAtATimeUpstream:
    """Load an upstream with the code that is in its repository: it runs here.

    Utterances are run one at a time, and all layers are computed. That it may run, and that
    a hub id has a commit, :func:`~.registry.check_upstream` has made sure.

    Args:
        name: Hub id, or local folder.
        layer: See :func:`espnet_ensemble.layers.layer_indices`.
        cache_dir: Where transformers keeps what it downloads; None: its default.
        revision: Commit of a hub id, of weights and code; None, of a folder.
        extra_conf: Some of :data:`OPTIONS`.

    Raises:
        UpstreamError: If it is not found, has no code, or code of another repository, which
            no commit pins; if that lacks weights, or does not give what it should.
    """
    from transformers import AutoFeatureExtractor, AutoModel

    options = dict(extra_conf or {})
    check_keys(f"upstream {name!r}: extra_conf", options, [], OPTIONS)
    names = options.get("arguments")
    if names is not None and (
        not isinstance(names, Sequence) or isinstance(names, str) or len(names) > 2
    ):
        raise UpstreamError(
            f"upstream {name!r}: extra_conf: arguments: expected what the model calls "
            f"the waveform, and its number of samples; found {names!r}"
        )
    find = partial(_read_json, name, revision=revision, cache_dir=cache_dir)
    config, preprocessor = find("config.json"), find("preprocessor_config.json")
    if config is None or "AutoModel" not in (config.get("auto_map") or {}):
        raise UpstreamError(
            f"upstream {name!r}: expected config.json with auto_map: AutoModel, found "
            "none; a model without code of its own needs no trust_remote_code"
        )
    for content in (config, preprocessor or {}):
        _check_own(name, content.get("auto_map") or {})
    given: dict[str, Any] = dict(
        revision=revision,
        code_revision=revision,
        cache_dir=cache_dir,
        trust_remote_code=True,
    )
    try:
        extractor = None
        if preprocessor is not None and names is None:
            extractor = AutoFeatureExtractor.from_pretrained(name, **given)
        model, loading = AutoModel.from_pretrained(
            name, dtype=torch.float32, output_loading_info=True, **given
        )
    except UNREADABLE as e:
        raise unreadable(name, e) from e
    except (OSError, ValueError, ImportError) as e:
        raise UpstreamError(f"upstream {name!r}: {e}") from e
    if loading["missing_keys"]:
        raise UpstreamError(
            f"upstream {name!r} lacks weights, which would be random: "
            + ", ".join(sorted(loading["missing_keys"]))
        )
    call = _Call(name, extractor, {**OPTIONS, **options})
    shortest = call.options["shortest"]
    return OneAtATimeUpstream(name, model.eval(), call, layer, call.fs, shortest)


def _read_json(
    name: str, file: str, revision: str | None, cache_dir: str | None
) -> dict[str, Any] | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        path = Path(name, file)
        if not os.path.isdir(name):
            path = Path(
                hf_hub_download(name, file, revision=revision, cache_dir=cache_dir)
            )
        return json.loads(path.read_text(encoding="utf-8"))
    except (EntryNotFoundError, FileNotFoundError):
        return None
    except (OSError, ValueError) as e:
        raise UpstreamError(f"upstream {name!r}: {file}: {e}") from e


def _check_own(name: str, auto_map: Mapping[str, Any]) -> None:
    for value in auto_map.values():
        for reference in [value] if isinstance(value, str) else value:
            if reference and "--" in reference:
                raise UpstreamError(
                    f"upstream {name!r}: auto_map: expected code of its own repository, "
                    f"which the revision pins; found {reference!r}"
                )
