"""Find a corpus, or get it: downloads that can be interrupted, checksums, unpacking."""

import gzip
import hashlib
import http.client
import os
import posixpath
import shutil
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, BinaryIO

from tqdm import tqdm

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, atomic_write, remove_unfinished

#: Given in place of a corpus's folder: get it.
DOWNLOADS = "downloads"

_CHUNK = 1 << 20
_TIMEOUT = 60  # seconds without any data


def find_corpus(
    option: str, value: str, name: str, folders: Sequence[str] = ()
) -> Path:
    """Say where a corpus is, or will be after its download.

    Args:
        option: The option that was used, for messages.
        value: Its value: the corpus's folder, or :data:`DOWNLOADS`.
        name: The name of the corpus's folder.
        folders: What must be in a folder that is given.

    Raises:
        EnsembleError: If nothing was given, or some of the folders are not there.
    """
    if not value:
        raise EnsembleError(
            f"{option}: expected the folder {name}, or '{DOWNLOADS}' to get it, found "
            "nothing: set it in db.sh"
        )
    if value == DOWNLOADS:
        return Path(DOWNLOADS, name)
    corpus_dir = Path(value)
    missing = [folder for folder in folders if not (corpus_dir / folder).is_dir()]
    if missing:
        raise EnsembleError(
            f"{corpus_dir / missing[0]}: expected this folder, found none"
            f"{_nearby(corpus_dir, missing[0])}"
        )
    return corpus_dir


def download_folder(url: str, checksum: str, root: PathLike, folder: str) -> None:
    """Download an archive, unpack a folder of it and remove it; or leave what is there.

    Args:
        url: The archive's address. It is kept in ``root`` until it is unpacked.
        checksum: As of :func:`download`.
        root: Where to unpack it.
        folder: As of :func:`unpack`.

    Raises:
        EnsembleError: If that fails.
    """
    if Path(root, folder).is_dir():
        return
    archive = Path(root, url.rpartition("/")[2])
    download(url, archive, checksum)
    unpack(archive, root, folder)
    archive.unlink()


def download(url: str, path: PathLike, checksum: str) -> None:
    """Download a file, or what is missing of it.

    Data goes to ``<path>.part``. When the connection breaks, or in the next run, it goes
    on from there. A file that has its final name is complete, and is left alone.

    Args:
        url: What to download.
        path: Where to.
        checksum: What it must have, such as ``"md5:42e2234ba48799c1f50f24a7926300a1"``.

    Raises:
        EnsembleError: If the server refuses, or sends nothing more; or if the file has
            another checksum, in which case it is removed.
    """
    path = Path(path)
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # No atomic_write: another run must find it under the same name.
    part = path.with_name(f"{path.name}.part")
    _receive_all(url, part)
    found = _checksum(part, checksum.partition(":")[0])
    if found != checksum:
        part.unlink()
        raise EnsembleError(
            f"{url}: expected {checksum}, found {found}; it was removed, and another run "
            "starts anew"
        )
    os.replace(part, path)


def unpack(archive: Path, root: PathLike, folder: str) -> None:
    """Unpack one folder of a tar archive.

    It gets its name when it is complete.

    Args:
        archive: The archive.
        root: Where to unpack it.
        folder: The folder that the archive is about, such as ``"LibriSpeech/dev-clean"``.
            Files beside it, such as the licence, are kept, too.

    Raises:
        EnsembleError: If the archive is damaged, lacks the folder, or has a member that
            would be written elsewhere, which is not done.
    """
    target = Path(root, folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(target.parent)  # gigabytes, if a run was killed
    with atomic_write(target) as part:
        beside = _extract(archive, folder, part)
        if not part.is_dir():
            raise EnsembleError(f"{archive}: expected a folder {folder}, found none")
        for name, content in beside.items():
            (target.parent / name).write_bytes(content)


def _nearby(corpus_dir: Path, folder: str) -> str:
    """A hint, where what was given is the corpus's parent or one of its parts."""
    if not corpus_dir.is_dir():
        return ""
    places = [corpus_dir.resolve().parent, *sorted(corpus_dir.iterdir())]
    found = [place for place in places if (place / folder).is_dir()]
    return f"; it is in {found[0]}: give that folder" if found else ""


def _receive_all(url: str, part: Path) -> None:
    """Receive a file, again and again as long as each time brings more of it."""
    size = None
    while size is None or size < _size(part):
        size = _size(part)
        try:
            return _receive(url, part)
        except urllib.error.HTTPError as error:
            raise EnsembleError(f"{url}: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            reason = error
    raise EnsembleError(
        f"{url}: {reason}; {part} has {size} bytes, and another run goes on from there"
    )


def _receive(url: str, part: Path) -> None:
    """Append to a file what it lacks; start anew where the server cannot go on."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={_size(part)}-"})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # there is no more; the checksum tells whether it is right
        raise
    with response:
        is_rest = response.status == http.HTTPStatus.PARTIAL_CONTENT
        with part.open("ab" if is_rest else "wb") as file:
            _copy(response, file, part.name.removesuffix(".part"))


def _copy(response: http.client.HTTPResponse, file: BinaryIO, name: str) -> None:
    # Python ends quietly where a connection does, so its length must be compared.
    length = response.headers["Content-Length"]
    total = file.tell() + int(length) if length else None
    with _progress(name, file.tell(), total) as progress:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            progress.update(len(chunk))
    if total and file.tell() < total:
        raise OSError(f"the connection broke at {file.tell()} of {total} bytes")


def _extract(archive: Path, folder: str, target: Path) -> dict[str, bytes]:
    """Write what is in a folder of an archive; return the files beside it, by name."""
    beside = {}
    try:
        for tar, member in _members(archive):
            name = _check_member(archive, member)
            if name == folder or name.startswith(f"{folder}/"):
                _write_member(tar, member, target / name[len(folder) + 1 :])
            elif member.isfile() and posixpath.dirname(name) == posixpath.dirname(
                folder
            ):
                beside[posixpath.basename(name)] = _read(tar, member)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise EnsembleError(f"{archive}: damaged: {error}") from error
    return beside


def _members(archive: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The open archive with each of its members, while these can be read."""
    with (
        _progress(f"unpack {archive.name}", 0, _size(archive)) as progress,
        archive.open("rb") as file,
        tarfile.open(fileobj=file) as tar,
    ):
        for member in tar:
            yield tar, member
            progress.update(file.tell() - progress.n)


def _check_member(archive: Path, member: tarfile.TarInfo) -> str:
    """The path of a file or folder: what corpora consist of, and nothing else.

    Not by tarfile's filters: Python 3.10 and 3.11 have them from 3.11.4 on only.
    """
    name = posixpath.normpath(member.name)
    if name.startswith(("/", "../")) or name == "..":
        raise EnsembleError(
            f"{archive}: refused: {member.name} would be written outside"
        )
    if not (member.isdir() or member.isfile()):
        raise EnsembleError(
            f"{archive}: refused: {member.name}: expected files and folders, found a link "
            "or a device"
        )
    return name


def _write_member(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _open(tar, member) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target, _CHUNK)


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    with _open(tar, member) as source:
        return source.read()


def _open(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(member)
    assert file is not None  # it is a file, and no link: _check_member has seen to it
    return file


def _checksum(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm)
    with path.open("rb") as file, _progress("checksum", 0, _size(path)) as progress:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            progress.update(len(chunk))
    return f"{algorithm}:{digest.hexdigest()}"


def _progress(name: str, done: int, total: int | None) -> tqdm:
    return tqdm(
        desc=name, initial=done, total=total, unit="B", unit_scale=True, mininterval=1
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
