"""Trained models with a frontend of ESPnet's own, made into models with ``ensemble``.

.. code-block:: none

    exp/asr_converted/
        config.yaml                   with frontend: ensemble
        converted.yaml                of what, and how its features compare
        valid.acc.ave.pth             without the weights of frozen upstreams
"""

import importlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from espnet_ensemble.errors import EnsembleError, name_keys
from espnet_ensemble.files import PathLike, atomic_write, read_yaml, write_yaml
from espnet_ensemble.integrations.espnet2.frontend import EnsembleFrontend
from espnet_ensemble.integrations.espnet2.packed_model import read_weights
from espnet_ensemble.integrations.espnet2.stock_frontends import (
    PREFIXES,
    Translation,
    translate,
)
from espnet_ensemble.upstream.base import Upstream
from espnet_ensemble.upstream.families import HuggingFaceUpstream
from espnet_ensemble.upstream.fingerprint import fingerprint
from espnet_ensemble.upstream.s3prl import fingerprint_expert
from espnet_ensemble.upstream.s3prl_hub import import_s3prl_nn, safe_loading

#: In the folder of a converted experiment: what it was made of.
CONVERTED = "converted.yaml"
#: How much features of an utterance alone may differ, relative to their size: rounding.
TOLERANCE = 1e-4
# Name of a frontend -> module and class.
_STOCK = {
    "s3prl": ("s3prl", "S3prlFrontend"),
    "fused": ("fused", "FusedFrontends"),
    "huggingface": ("huggingface", "HuggingFaceFrontend"),
}
_FS = 16000

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Differences:
    """How features differ, of one second of noise, relative to their size.

    Attributes:
        alone: Ours from those of the stock frontend.
        stock_in_batch: Those of the stock frontend beside a noise of two seconds, from those
            alone.
        ours_in_batch: The same of ours.
    """

    alone: float
    stock_in_batch: float
    ours_in_batch: float


def convert_model(
    config_file: PathLike, model_file: PathLike, output_dir: PathLike
) -> tuple[Translation, Differences]:
    """Convert a trained model, and see that its features stay as they are.

    Args:
        config_file: Its ``config.yaml``.
        model_file: Its weights, such as ``valid.acc.ave.pth``.
        output_dir: For the experiment that is made, which has a file of the same name. Another
            checkpoint of the same experiment may be there.

    Raises:
        EnsembleError: If the frontend cannot be translated; frozen upstreams in the model
            have other weights than those that are loaded here; a weight is missing, or of
            another size; features differ by more than :data:`TOLERANCE`; or the folder is
            there already, made of something else.
    """
    config, output_dir = read_yaml(config_file), Path(output_dir)
    translation = translate(config)
    content = {**translation.config, "output_dir": str(output_dir)}
    _check_folder(output_dir, content)
    model = read_weights(model_file)
    prefix, stock_weights = _frontend_weights(model, model_file)
    frontend = EnsembleFrontend(**content["frontend_conf"])
    weights = _convert_weights(translation, stock_weights, frontend, model_file)
    frontend.load_state_dict(weights)
    stock = load_stock_frontend(config, stock_weights)
    differences = compare(stock, frontend)
    if not differences.alone <= TOLERANCE:
        raise EnsembleError(
            f"{model_file}: expected the same features of an utterance alone, found that "
            f"they differ by {differences.alone:.2g}, relative to their size: ensemble does "
            "not compute what this frontend does with the versions of S3PRL and "
            "transformers that are installed (of large models by S3PRL's hf_* names, it "
            "computes what transformers 4 does: convert where that is)"
        )
    converted = {f"{prefix}.{name}": weight for name, weight in weights.items()}
    converted |= {k: v for k, v in model.items() if not k.startswith(f"{prefix}.")}
    output_dir.mkdir(parents=True, exist_ok=True)
    write_yaml(output_dir / "config.yaml", content)
    write_yaml(
        output_dir / CONVERTED,
        {
            "asr_train_config": str(config_file),
            "asr_model_file": str(model_file),
            "differences": asdict(differences),
        },
    )
    with atomic_write(output_dir / Path(model_file).name) as part:
        torch.save(converted, part)
    return translation, differences


def load_stock_frontend(config: Mapping[str, Any], weights: Weights | None) -> Module:
    """Build a frontend of ESPnet's own, in evaluation mode.

    Args:
        config: Has ``frontend`` and ``frontend_conf``.
        weights: Its weights; None: what its upstreams are loaded with, and random ones.

    Raises:
        EnsembleError: If this ESPnet cannot build it, or the weights are others.
    """
    name = config["frontend"]
    module, cls = _STOCK[name]
    try:
        if name != "huggingface":
            import_s3prl_nn()
        found = getattr(importlib.import_module(f"espnet2.asr.frontend.{module}"), cls)
        with safe_loading():
            frontend = found(**(config.get("frontend_conf") or {}))
        if weights is not None:
            frontend.load_state_dict(weights)
    except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise EnsembleError(
            f"frontend: {name}: expected ESPnet's frontend, to compare with, found "
            f"{type(error).__name__}: {error}"
        ) from error
    return frontend.eval()


@torch.no_grad()
def compare(stock: Module, ours: Module) -> Differences:
    """Compare two frontends that should be one, alone and in a batch."""
    generator = torch.Generator().manual_seed(0)
    speech = 0.1 * torch.randn(2, 2 * _FS, generator=generator)
    speech[1, _FS:] = 0
    lengths = torch.tensor([2 * _FS, _FS])
    alone = [_features(f, speech[1:, :_FS], lengths[1:]) for f in (stock, ours)]
    batch = [_features(f, speech, lengths) for f in (stock, ours)]
    return Differences(
        relative_error(alone[1], alone[0]),
        relative_error(batch[0][: len(alone[0])], alone[0]),
        relative_error(batch[1][: len(alone[1])], alone[1]),
    )


def _features(frontend: Module, speech: Tensor, lengths: Tensor) -> Tensor:
    """Features of the last utterance of a batch, (frames, features).

    Whatever lengths the frontend gives: in some versions of ESPnet, they are wrong.
    """
    return frontend(speech, lengths)[0][-1]


def relative_error(found: Tensor, expected: Tensor) -> float:
    """How much features differ, relative to their size; infinite if their shapes do.

    Example:
        >>> relative_error(torch.tensor([3.0, 6.5]), torch.tensor([3.0, 4.0]))
        0.5
        >>> relative_error(torch.zeros(2), torch.zeros(3))
        inf
    """
    if found.shape != expected.shape:
        return float("inf")
    return float((found - expected).norm() / expected.norm())


def _frontend_weights(model: Weights, path: PathLike) -> tuple[str, Weights]:
    """What the frontend is called in a model, and its weights."""
    for prefix in PREFIXES:
        start = f"{prefix}."
        found = {k[len(start) :]: v for k, v in model.items() if k.startswith(start)}
        if found:
            return prefix, found
    raise EnsembleError(
        f"{path}: expected weights of a model, such as valid.acc.ave.pth, found none called "
        f"frontend.* among {name_keys(list(model) or ['nothing'])}; checkpoint.pth holds the "
        "state of a training, which cannot go on with another frontend"
    )


def _convert_weights(
    translation: Translation,
    stock_weights: Weights,
    frontend: EnsembleFrontend,
    path: PathLike,
) -> dict[str, Tensor]:
    """The weights of our frontend: its fingerprints, and what the stock one has trained."""
    _check_frozen(translation, stock_weights, frontend, path)
    weights = frontend.state_dict()
    missing = {name for name in weights if name not in ("fingerprints", "probes")}
    for stock_name, weight in stock_weights.items():
        name = translation.rename(stock_name)
        # Layers above the highest one used are not there.
        if name is None or name not in missing:
            continue
        if weight.shape != weights[name].shape:
            raise EnsembleError(
                f"{path}: frontend.{stock_name}: expected {tuple(weights[name].shape)}, "
                f"found {tuple(weight.shape)}"
            )
        weights[name] = weight
        missing.remove(name)
    if missing:
        raise EnsembleError(
            f"{path}: expected weights for {name_keys(sorted(missing))} of the frontend "
            "ensemble, found none"
        )
    return weights


def _check_frozen(
    translation: Translation,
    stock_weights: Weights,
    frontend: EnsembleFrontend,
    path: PathLike,
) -> None:
    """Refuse to leave out weights that cannot be had again."""
    if not frontend.frozen:
        return
    places = [name for name in translation.names if _is_upstream(name)]
    for place, upstream in zip(places, frontend.upstreams, strict=True):
        start = f"{place}."
        weights = {
            k[len(start) :]: v for k, v in stock_weights.items() if k.startswith(start)
        }
        if _fingerprint(weights, upstream) != upstream.fingerprint:
            raise EnsembleError(
                f"{path}: frontend.{place}: expected the weights of the upstream "
                f"{upstream.name!r} that frontend_conf loads here, found others: the model "
                "was trained over another checkpoint of it, which path_or_url (or model) "
                "must name, or training has changed them (batch norms)"
            )


def _is_upstream(place: str) -> bool:
    return place.endswith("upstream") or place == "encoder"


def _fingerprint(weights: Weights, upstream: Upstream) -> bytes:
    """What the upstream's fingerprint would be with these weights."""
    if isinstance(upstream, HuggingFaceUpstream):
        # That of the mask is there if it is used.
        known = upstream.model.state_dict()
        return fingerprint({k: v for k, v in weights.items() if k in known})
    return fingerprint_expert(weights)


def _check_folder(output_dir: Path, content: Mapping[str, Any]) -> None:
    path = output_dir / "config.yaml"
    if path.exists() and read_yaml(path) != content:
        raise EnsembleError(
            f"{output_dir}: there already, not made of this configuration: give another "
            "--output_dir, or remove it"
        )
