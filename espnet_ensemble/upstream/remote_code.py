"""Upstreams whose code is on the hub: loaded where a configuration says so, by commit."""

import inspect
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from espnet_ensemble.files import check_keys
from espnet_ensemble.layers import Layer, layer_indices
from espnet_ensemble.upstream.base import Upstream, pad_to
from espnet_ensemble.upstream.errors import UpstreamError
from espnet_ensemble.upstream.fingerprint import fingerprint
from espnet_ensemble.upstream.unreadable import UNREADABLE, unreadable

if TYPE_CHECKING:
    from espnet_ensemble.upstream.registry import UpstreamConf

#: Options of ``extra_conf`` and what they are if they are not given.
OPTIONS: dict[str, Any] = {
    "fs": None,
    "arguments": None,
    "last": "last_hidden_state",
    "states": "hidden_states",
    "shortest": 400,
}
# Samples that two probes differ by: frames of 40 ms are 100 of them.
_PROBED = 64000


class RemoteCodeUpstream(Upstream):
    """A model that its repository's own code computes; utterances are run one at a time.

    Whatever it does with padding, there is none. All its layers are computed. How many frames
    it gives, of what size, is seen by running it.

    Args:
        name: Hub id or folder.
        model: What that code has made.
        extractor: What makes the model's input of a waveform; None: it takes the waveform.
        layer: See :func:`espnet_ensemble.layers.layer_indices`; hidden states are counted as
            the model gives them.
        options: Of :data:`OPTIONS`: ``fs``, the sample rate in Hz, where no extractor says it;
            ``arguments``, what the model calls the waveform and its number of samples (the
            second may be left out); ``last`` and ``states``, what it calls the last hidden
            state and all of them; ``shortest``, samples that a shorter utterance is padded to.

    Raises:
        UpstreamError: If it gives no frames that could be used.
    """

    def __init__(
        self, name: str, model: Any, extractor: Any, layer: Layer, options: Mapping
    ):
        call = _Call(name, extractor, {**OPTIONS, **options})
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            short, long = (
                call(model, 0.01 * torch.randn(n, generator=generator))
                for n in (_PROBED, 2 * _PROBED)
            )
        layers = layer_indices(layer, len(long) - 1)
        sizes = {tuple(long[index].shape[1:]) for index in layers}
        more = long[layers[0]].size(1) - short[layers[0]].size(1)
        if len(sizes) > 1 or more < 1:
            found = ", ".join(f"{i}: {tuple(long[i].shape)}" for i in layers)
            raise UpstreamError(
                f"upstream {name!r}: expected hidden states of one size, (1, frames, "
                f"features), more of a longer utterance; found {found}"
            )
        super().__init__(
            name=name,
            fs=call.fs,
            hop_length=round(_PROBED / more),
            feature_size=long[layers[0]].size(2),
            layers=layers,
            fingerprint=fingerprint(model.state_dict()),
        )
        self._run = call
        self.model = model

    def forward(self, wavs: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Compute hidden states, see :meth:`.Upstream.forward`."""
        shortest = self._run.options["shortest"]
        wavs = pad_to(wavs, shortest)
        samples = lengths.clamp(min=shortest).tolist()
        alone = [
            self._run(self.model, wav[:n]) for wav, n in zip(wavs, samples, strict=True)
        ]
        states = [
            pad_sequence([found[index][0] for found in alone], batch_first=True)
            for index in self.layers
        ]
        frames = [found[self.layers[0]].size(1) for found in alone]
        return states, torch.tensor(frames, device=wavs.device)


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
    conf: "UpstreamConf", download_dir: str | None = None
) -> RemoteCodeUpstream:
    """Load an upstream with the code that is in its repository.

    Args:
        conf: It has passed :func:`~.registry.check_upstream`: with ``trust_remote_code``, and
            the commit, or a folder.
        download_dir: Where transformers keeps what it downloads; None: its default.

    Raises:
        UpstreamError: If it is not found, has no code, or code of another repository, which
            no commit pins; if that lacks weights, or does not give what it should.
    """
    from transformers import AutoFeatureExtractor, AutoModel

    options = dict(conf.extra_conf or {})
    check_keys(f"upstream {conf.name!r}: extra_conf", options, [], OPTIONS)
    names = options.get("arguments")
    if names is not None and (
        not isinstance(names, Sequence) or isinstance(names, str) or len(names) > 2
    ):
        raise UpstreamError(
            f"upstream {conf.name!r}: extra_conf: arguments: expected what the model calls "
            f"the waveform, and its number of samples; found {names!r}"
        )
    find = partial(_read_json, conf=conf, download_dir=download_dir)
    config, preprocessor = find("config.json"), find("preprocessor_config.json")
    if config is None or "AutoModel" not in (config.get("auto_map") or {}):
        raise UpstreamError(
            f"upstream {conf.name!r}: expected config.json with auto_map: AutoModel, found "
            "none; a model without code of its own needs no trust_remote_code"
        )
    for content in (config, preprocessor or {}):
        _check_own(conf.name, content.get("auto_map") or {})
    given: dict[str, Any] = dict(
        revision=conf.revision,
        code_revision=conf.revision,
        cache_dir=download_dir,
        trust_remote_code=True,
    )
    try:
        extractor = None
        if preprocessor is not None and names is None:
            extractor = AutoFeatureExtractor.from_pretrained(conf.name, **given)
        model, loading = AutoModel.from_pretrained(
            conf.name, dtype=torch.float32, output_loading_info=True, **given
        )
    except UNREADABLE as e:
        raise unreadable(conf.name, e) from e
    except (OSError, ValueError, ImportError) as e:
        raise UpstreamError(f"upstream {conf.name!r}: {e}") from e
    if loading["missing_keys"]:
        raise UpstreamError(
            f"upstream {conf.name!r} lacks weights, which would be random: "
            + ", ".join(sorted(loading["missing_keys"]))
        )
    return RemoteCodeUpstream(conf.name, model.eval(), extractor, conf.layer, options)


def _read_json(
    file: str, conf: "UpstreamConf", download_dir: str | None
) -> dict[str, Any] | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        path = Path(conf.name, file)
        if not os.path.isdir(conf.name):
            path = Path(
                hf_hub_download(
                    conf.name, file, revision=conf.revision, cache_dir=download_dir
                )
            )
        return json.loads(path.read_text(encoding="utf-8"))
    except (EntryNotFoundError, FileNotFoundError):
        return None
    except (OSError, ValueError) as e:
        raise UpstreamError(f"upstream {conf.name!r}: {file}: {e}") from e


def _check_own(name: str, auto_map: Mapping[str, Any]) -> None:
    for value in auto_map.values():
        for reference in [value] if isinstance(value, str) else value:
            if reference and "--" in reference:
                raise UpstreamError(
                    f"upstream {name!r}: auto_map: expected code of its own repository, "
                    f"which the revision pins; found {reference!r}"
                )
