"""Packed models with their card: made, and uploaded to the Hugging Face hub."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from huggingface_hub import HfApi

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike
from espnet_ensemble.integrations.espnet2.archive import check_archive
from espnet_ensemble.integrations.espnet2.packed_model import check_archived_model
from espnet_ensemble.integrations.espnet2.packing import CARD, PackConf, pack
from espnet_ensemble.recipes.model_card import CardSource, model_card


def pack_with_card(
    yaml_files: Mapping[str, PathLike],
    files: Mapping[str, PathLike],
    option: Iterable[PathLike],
    outpath: PathLike,
    conf: PackConf | None = None,
    model: str | None = None,
) -> list[str]:
    """Pack a model, with a card that tells of its experiment.

    Args:
        yaml_files: As :func:`~espnet_ensemble.integrations.espnet2.packing.pack`.
        files: Likewise.
        option: Likewise.
        outpath: Likewise.
        conf: Likewise.
        model: What users will call it; None: as the archive is called.

    Returns:
        The names in the archive.

    Raises:
        EnsembleError: Likewise.
    """
    conf = conf or PackConf()
    configs = [Path(p) for key, p in yaml_files.items() if key.endswith("train_config")]
    if configs:
        source = CardSource(configs[0], model or Path(outpath).name)
        conf = replace(conf, write_card=partial(model_card, source))
    return pack(yaml_files, files, option, outpath, conf)


@dataclass(frozen=True)
class UploadedFile:
    """A file that is uploaded: its name in the repository, and its size in bytes."""

    name: str
    num_bytes: int


def upload(
    archive: PathLike, repo_id: str, dry_run: bool = False
) -> tuple[list[UploadedFile], str]:
    """Upload what is in an archive to the Hugging Face hub, as ESPnet's models are there.

    Args:
        archive: What :func:`pack_with_card` has made.
        repo_id: Repository, such as "user/model"; it is made where there is none.
        dry_run: Upload nothing.

    Returns:
        What is uploaded, and the card, which calls the model by its repository.

    Raises:
        EnsembleError: If the archive is refused or has no card, or the hub refuses it.
    """
    archive = Path(archive)
    check_archive(archive)
    check_archived_model(archive, is_asr=True)
    with TemporaryDirectory(prefix=f".{archive.name}.", dir=archive.parent) as temp:
        with ZipFile(archive) as file:
            file.extractall(temp)
        path = Path(temp, CARD)
        if not path.is_file():
            raise EnsembleError(
                f"{archive}: expected {CARD}, the model card, found none; stage 14 makes it"
            )
        card = path.read_text(encoding="utf-8").replace(archive.name, repo_id)
        path.write_text(card, encoding="utf-8")
        if not dry_run:
            _upload_folder(Path(temp), repo_id)
        files = [
            UploadedFile(str(p.relative_to(temp)), p.stat().st_size)
            for p in sorted(Path(temp).rglob("*"))
            if p.is_file()
        ]
    return files, card


def _upload_folder(folder: Path, repo_id: str) -> None:
    hub = HfApi()
    try:
        hub.create_repo(repo_id, exist_ok=True)
        hub.upload_folder(repo_id=repo_id, folder_path=folder)
    except Exception as error:  # those of the hub's HTTP library are among them
        raise EnsembleError(
            f"{repo_id}: {error}\nLog in with `hf auth login`, with a token that may write"
        ) from error
