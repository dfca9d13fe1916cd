"""The files of a checkpoint folder that loading it reads."""

import json
from pathlib import Path

from espnet_ensemble.files import PathLike
from espnet_ensemble.upstream.errors import UpstreamError

#: Weights of a checkpoint in transformers format: the first of these that is there is
#: what transformers loads.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
#: How it normalises waveforms: transformers looks into both of these.
EXTRACTORS = ("processor_config.json", "preprocessor_config.json")
#: Of a model that ESPnet has trained, beside its weights.
ESPNET_CONFIG = "config.yaml"
#: What goes with weights that are handed on.
DOCUMENTS = ("README.md", "LICENSE")


def checkpoint_files(folder: PathLike) -> list[str]:
    """List the files of a checkpoint in transformers' or ESPnet's format that loading reads.

    The documents that should go with it are listed too; logs, the state of the training
    and weights in a second format are not.

    Args:
        folder: What ``save_pretrained`` wrote.

    Returns:
        Names relative to ``folder``.

    Raises:
        UpstreamError: If one is missing, or the index of the weights names a file
            elsewhere.
    """
    folder = Path(folder)
    if (folder / ESPNET_CONFIG).is_file() and not (folder / "config.json").is_file():
        needed = [ESPNET_CONFIG, espnet_weights(folder).name]
        return needed + [name for name in DOCUMENTS if (folder / name).is_file()]
    weights = next((name for name in WEIGHTS if (folder / name).is_file()), WEIGHTS[0])
    extractors = [name for name in EXTRACTORS if (folder / name).is_file()]
    needed = ["config.json", *(extractors or EXTRACTORS[-1:]), weights]
    if weights.endswith(".index.json") and (folder / weights).is_file():
        needed += _shards(folder / weights)
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise UpstreamError(f"upstream {folder}: found no {', '.join(missing)}")
    return needed + [name for name in DOCUMENTS if (folder / name).is_file()]


def espnet_weights(path: PathLike) -> Path:
    """Find the weights of a model that ESPnet has trained.

    Args:
        path: Their file, or the folder of them alone and ``config.yaml``.

    Raises:
        UpstreamError: If there is no such file, no ``config.yaml`` beside it, or the folder
            has several.
    """
    path = Path(path)
    found = sorted(path.glob("*.pth")) if path.is_dir() else [path]
    if len(found) != 1 or not found[0].is_file():
        names = ", ".join(x.name for x in found if x.exists()) or "none"
        raise UpstreamError(
            f"upstream {path}: expected weights, one .pth file, found {names}; name the file"
        )
    config = found[0].parent / ESPNET_CONFIG
    if not config.is_file():
        raise UpstreamError(
            f"upstream {path}: expected {config}, as ESPnet's training writes it, found none"
        )
    return found[0]


def check_index(folder: PathLike) -> None:
    """Refuse a folder whose index of the weights leads out of it.

    Args:
        folder: What ``save_pretrained`` wrote, or somebody's download.

    Raises:
        UpstreamError: If an index is none, or names a file elsewhere.
    """
    for name in WEIGHTS:
        index = Path(folder, name)
        if name.endswith(".index.json") and index.is_file():
            _shards(index)


def _shards(index: Path) -> list[str]:
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        names = sorted({str(name) for name in content["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UpstreamError(
            f"{index}: expected the weight_map of a checkpoint in several files, found "
            f"none ({error!r})"
        ) from error
    for name in names:
        if Path(name).name != name:
            raise UpstreamError(
                f"{index}: weight_map: expected names of files beside it, found {name!r}"
            )
    return names
