"""A packed model, in an archive or a folder: what it holds, checked before it is used."""

import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
import yaml

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, read_yaml
from espnet_ensemble.integrations.espnet2.archive import open_archive
from espnet_ensemble.integrations.espnet2.manifest import MANIFEST, Manifest
from espnet_ensemble.integrations.espnet2.packed_config import check_config, is_ensemble

#: The file in which ESPnet lists the arguments of its ``Speech2Text``.
META = "meta.yaml"
#: Bytes of a configuration: that of a vocabulary of 100,000 words has 2 MB.
MAX_TEXT = 1 << 23
#: Values in a configuration, with those that it repeats by reference.
MAX_VALUES = 1 << 20

# The C library is ten times as fast, where PyYAML has it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Read = Callable[[str], bytes]


@dataclass(frozen=True)
class _Meta:
    """What ``meta.yaml`` lists: option of inference -> name in the archive."""

    configs: dict[str, str]
    weights: dict[str, str]

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> "_Meta":
        """Read it, as far as it is what ESPnet writes."""
        lists = []
        for key in ("yaml_files", "files"):
            found = content.get(key)
            pairs = found.items() if isinstance(found, dict) else ()
            lists.append({str(k): v for k, v in pairs if isinstance(v, str)})
        return cls(*lists)


def check_archived_model(path: PathLike, is_asr: bool = False) -> bool:
    """Refuse an archive whose configurations could run code, or that lacks something.

    What has neither the frontend ``ensemble`` nor a manifest is ESPnet's own affair.

    Args:
        path: An archive that has passed :func:`~.archive.check_archive`.
        is_asr: Whether it must be a model of ESPnet's ASR task, whatever its frontend.

    Returns:
        Whether it is one of those that are checked.

    Raises:
        EnsembleError: As :func:`~.packed_config.check_config`; or if the format of
            ``ensemble.yaml`` is unknown, or something that is listed is not there.
    """
    with open_archive(path) as archive:
        names = [entry.name.rstrip("/") for entry in archive.entries]
        # ESPnet takes the first that is called so, also in a folder.
        metas = [name for name in names if PurePosixPath(name).name == META]
        return _check(str(path), {*names}, metas[:1] == [META], archive.read, is_asr)


def check_unpacked_model(folder: PathLike) -> None:
    """Refuse an unpacked ASR model for what its archive would be refused for.

    Args:
        folder: Such as a snapshot from the Hugging Face hub.

    Raises:
        EnsembleError: As :func:`check_archived_model`, or if its weights are more than
            weights.
    """
    folder = Path(folder)
    names = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    # ESPnet 202511 makes those in the configurations of a snapshot absolute.
    known = names | {str(folder / name) for name in names}
    read = lambda name: (folder / name).read_bytes()  # noqa: E731
    _check(str(folder), known, META in names, read, is_asr=True)
    for name in _Meta.parse(_read(str(folder), META, read)).weights.values():
        read_weights(folder / name)


def listed_files(folder: PathLike) -> dict[str, str]:
    """The files of an unpacked model: option of ESPnet's inference -> path.

    Raises:
        EnsembleError: If there is no ``meta.yaml``, or it is none.
    """
    meta = _Meta.parse(read_yaml(Path(folder, META)))
    listed = {**meta.configs, **meta.weights}
    return {option: str(Path(folder, name)) for option, name in listed.items()}


def read_weights(path: PathLike) -> dict[str, Any]:
    """Read a checkpoint, and run nothing of what it may hold.

    Raises:
        EnsembleError: If it holds more than weights, or is damaged.
    """
    path = Path(path)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as file:
                inside = sum(info.file_size for info in file.infolist())
            if inside > 2 * path.stat().st_size:  # torch does not compress
                raise ValueError(f"{inside} bytes, compressed")
        weights = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(weights, dict):
            raise TypeError(type(weights).__name__)
        return weights
    except Exception as error:  # torch's, pickle's and zipfile's are many
        reason = str(error).partition(". In PyTorch")[0] or type(error).__name__
        found = " ".join(reason.split())[:300]
        raise EnsembleError(
            f"{path}: refused: expected weights alone, which is all that is ever loaded, "
            f"found {found}"
        ) from error


def weights_in(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The weights of a model in its checkpoint: DeepSpeed's and Lightning's have more."""
    for key in ("module", "state_dict"):
        if isinstance(checkpoint.get(key), dict):
            return checkpoint[key]
    return checkpoint


def _check(
    where: str, names: Collection[str], has_meta: bool, read: _Read, is_asr: bool
) -> bool:
    is_ours = is_asr or MANIFEST in names
    if not has_meta:
        if is_ours:
            raise EnsembleError(f"{where}: expected {META}, which ESPnet's pack writes")
        return False
    meta = _Meta.parse(_read(where, META, read))
    configs = {
        name: _read(where, name, read)
        for name in meta.configs.values()
        if name in names
    }
    if not is_ours and not any(map(is_ensemble, configs.values())):
        return False
    _check_meta(where, meta, names, is_asr)
    for option in ("asr_train_config", "lm_train_config"):
        if option in meta.configs:
            name = meta.configs[option]
            check_config(configs[name], f"{where}: {name}", names)
    if MANIFEST in names:
        _check_manifest(where, _read(where, MANIFEST, read), names)
    return True


def _check_meta(where: str, meta: _Meta, names: Collection[str], is_asr: bool) -> None:
    listed = {**meta.configs, **meta.weights}
    needed = ("asr_train_config", "asr_model_file") if is_asr else ()
    missing = [option for option in needed if option not in listed]
    if missing:
        raise EnsembleError(
            f"{where}: {META}: expected {', '.join(needed)}, as of ESPnet's ASR task, found "
            f"{', '.join(listed) or 'nothing'}"
        )
    for option, name in listed.items():
        if name not in names:
            raise EnsembleError(
                f"{where}: {META}: {option}: {name!r} is not in the archive; pack the model "
                "again, or fetch it once more"
            )


def _check_manifest(
    where: str, content: Mapping[str, Any], names: Collection[str]
) -> None:
    manifest = Manifest.parse(content, f"{where}: {MANIFEST}")
    bundled = [upstream.name for upstream in manifest.upstreams if upstream.bundled]
    decoding = [] if manifest.decoding is None else [manifest.decoding]
    for name in [*bundled, *decoding]:
        if name not in names:
            raise EnsembleError(
                f"{where}: {MANIFEST}: {name!r} is not in the archive; pack the model again "
                "with espnet-ensemble, or fetch it once more"
            )


def _read(where: str, name: str, read: _Read) -> dict[str, Any]:
    """Read a mapping, whatever somebody may have written."""
    text = read(name)
    try:
        if len(text) > MAX_TEXT:
            raise ValueError(f"{len(text)} bytes")
        content = yaml.load(text, _Loader)
        if _num_values(content, {}) > MAX_VALUES:
            raise ValueError("references to references")
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise EnsembleError(f"{where}: {name}: expected YAML, found {error}") from error
    if not isinstance(content, dict):
        raise EnsembleError(f"{where}: {name}: expected keys and values")
    return content


def _num_values(value: Any, known: dict[int, int]) -> int:
    """Count values as who goes through all of them does: repeated ones each time."""
    if not isinstance(value, (dict, list, set, tuple)):
        return 1
    if id(value) not in known:
        known[id(value)] = MAX_VALUES + 1  # while it is counted: it holds itself
        items = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_num_values(item, known) for item in items)
    return known[id(value)]
