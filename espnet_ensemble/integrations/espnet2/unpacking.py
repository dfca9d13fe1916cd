"""Model zoo archives, checked before ESPnet unpacks them."""

import hashlib
from inspect import signature
from pathlib import Path
from types import ModuleType

import wrapt
from filelock import FileLock
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, read_yaml, write_yaml
from espnet_ensemble.integrations.espnet2.archive import DAMAGED, check_archive
from espnet_ensemble.integrations.espnet2.packed_config import ENSEMBLE_WITH_ADVICE
from espnet_ensemble.integrations.espnet2.packed_model import (
    META,
    check_archived_model,
    check_unpacked_model,
    listed_files,
    read_weights,
)


def check_before_unpacking(module: ModuleType) -> None:
    """Let ESPnet's ``unpack`` refuse what could do harm, or cannot work.

    That is what :func:`~.archive.check_archive` refuses; and of models with the frontend
    ``ensemble``, what :func:`~.packed_model.check_archived_model` and
    :func:`~.packed_model.read_weights` do.

    Args:
        module: :mod:`espnet2.main_funcs.pack_funcs`.
    """
    wrapt.wrap_function_wrapper(module, "unpack", _unpack)


def use_checked_unpack(module: ModuleType) -> None:
    """Let ESPnet's downloader call what is checked, also if it was imported before.

    Args:
        module: ``espnet_model_zoo.downloader``.
    """
    from espnet2.main_funcs import pack_funcs

    vars(module)["unpack"] = pack_funcs.unpack


def _unpack(unpack, instance, args, kwargs):
    given = signature(unpack).bind(*args, **kwargs).arguments
    path, outpath = given["input_archive"], Path(given["outpath"])
    check_archive(path, outpath)
    is_checked = check_archived_model(path)
    try:
        files = unpack(*args, **kwargs)
        if is_checked:
            _finish(files)
    except BaseException as error:
        # ESPnet takes a folder that has this for one that is complete.
        (outpath / META).unlink(missing_ok=True)
        if isinstance(error, DAMAGED):
            raise EnsembleError(f"{path}: damaged: {error}") from error
        raise
    return files


def _finish(files: dict[str, str]) -> None:
    for option, path in files.items():
        if not option.endswith("_config"):
            read_weights(path)
            continue
        config = read_yaml(path)
        if config.get("frontend") == ENSEMBLE_WITH_ADVICE:
            write_yaml(path, {**config, "frontend": "ensemble"})


def unpack_model(archive: PathLike, cache_dir: PathLike | None = None) -> Path:
    """Unpack an ASR model to a place of its own, once.

    Unlike ESPnet's downloader, which knows an archive by its path, this one looks at what
    is in it: another archive of the same name is another model.

    Args:
        archive: What ``pack`` has made, or ESPnet.
        cache_dir: Where such places are; None: ``~/.cache/espnet_ensemble/models``.

    Returns:
        The folder. Names of files in its configurations are absolute.

    Raises:
        EnsembleError: If it is refused, see :func:`check_before_unpacking`.
    """
    from espnet2.main_funcs import pack_funcs

    archive = Path(archive).absolute()
    if not archive.is_file():
        raise EnsembleError(f"{archive}: expected an archive, found no such file")
    check_archive(archive)
    check_archived_model(archive, is_asr=True)
    folder = (
        Path(cache_dir or "~/.cache/espnet_ensemble/models").expanduser().absolute()
    )
    folder = folder / f"{archive.stem[:100]}-{_digest(archive)}"
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / ".unpacked"
    with FileLock(f"{folder}.lock"):
        # Elsewhere, the names in its configurations would be wrong.
        if not (done.is_file() and done.read_text(encoding="utf-8") == str(folder)):
            pack_funcs.unpack(archive, folder, use_cache=False)
            done.write_text(str(folder), encoding="utf-8")
    return folder


def fetch_model(model_tag: str, cache_dir: PathLike | None = None) -> dict[str, str]:
    """Fetch a packed ASR model, or unpack a local archive.

    Args:
        model_tag: Path of an archive; id on the Hugging Face hub, also with ``@revision``;
            or name or address in ESPnet's model zoo.
        cache_dir: Where models are kept; None: ``~/.cache``, as ESPnet does.

    Returns:
        The arguments of ESPnet's ``Speech2Text``: paths.

    Raises:
        EnsembleError: If there is none, or it is refused, see
            :func:`check_before_unpacking`.
    """
    from espnet_model_zoo.downloader import ModelDownloader, is_url

    if Path(model_tag).is_file():
        return listed_files(unpack_model(model_tag, cache_dir))
    downloader = ModelDownloader(cache_dir or "~/.cache/espnet_model_zoo")
    try:
        if not is_url(model_tag) and "/" in model_tag:
            repo_id, _, revision = model_tag.partition("@")
            snapshot = snapshot_download(
                repo_id,
                revision=revision or None,
                library_name="espnet",
                cache_dir=downloader.cachedir,
            )
            check_unpacked_model(snapshot)
        files = downloader.download_and_unpack(model_tag)
    except EnsembleError:
        raise
    except (OSError, HfHubHTTPError, RuntimeError, ValueError) as error:
        raise EnsembleError(
            f"{model_tag}: expected an archive, or a model of the Hugging Face hub "
            f"(user/model) or of ESPnet's model zoo, found none: {error}"
        ) from error
    for option, path in files.items():
        if option.endswith("_file"):
            read_weights(path)
    return files


def _digest(archive: Path) -> str:
    digest = hashlib.sha256()
    with open(archive, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()[:16]
