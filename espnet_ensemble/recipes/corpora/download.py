"""Get a published archive: downloads that can be interrupted, checksums, unpacking."""

import gzip
import hashlib
import http.client
import os
import shutil
import tarfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

_CHUNK = 1 << 20
_TIMEOUT = 60  # seconds without any data


from espnet_ensemble.errors import EnsembleError


class DownloadError(EnsembleError):
    """An archive cannot be had."""


def download(url: str, path: Path, checksum: str) -> None:
    """Download a file, or what is missing of it.

    Data goes to ``<path>.part``. When the connection breaks, or in the next run, it goes
    on from there. A file that has its final name is complete, and is left alone.

    Args:
        url: What to download.
        path: Where to.
        checksum: What it must have, such as ``"md5:42e2234ba48799c1f50f24a7926300a1"``.

    Raises:
        DownloadError: If the server refuses, or sends nothing more; or if the file has
            another checksum, in which case it is removed.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    size = -1
    while size < _size(part):
        size = _size(part)
        try:
            _receive(url, part)
            break
        except urllib.error.HTTPError as error:
            raise DownloadError(f"{url}: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            reason = error
    else:
        raise DownloadError(
            f"{url}: {reason}; {part} has {size} bytes, and another run goes on from there"
        )
    found = _checksum(part, checksum.partition(":")[0])
    if found != checksum:
        part.unlink()
        raise DownloadError(
            f"{url}: expected {checksum}, found {found}; it was removed, and another run "
            "starts anew"
        )
    os.replace(part, path)


def unpack(archive: Path, folder: Path, wanted: str) -> None:
    """Unpack a tar archive.

    What is unpacked gets its name when it is complete.

    Args:
        archive: The archive.
        folder: Where to.
        wanted: The folder that the archive is about, such as ``"LibriSpeech/dev-clean"``.
            Files beside it, such as the licence, are kept, too.

    Raises:
        DownloadError: If the archive is damaged, lacks what is wanted, or has a member that
            would be written elsewhere, which is not done.
    """
    unfinished = folder / f".{archive.name}.tmp"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        _extract(archive, unfinished)
        if not (unfinished / wanted).is_dir():
            raise DownloadError(f"{archive}: expected a folder {wanted}, found none")
        target = folder / wanted
        target.parent.mkdir(parents=True, exist_ok=True)
        for path in (unfinished / wanted).parent.iterdir():
            if path.is_file():
                os.replace(path, target.parent / path.name)
        (unfinished / wanted).rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


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
    total = length and file.tell() + int(length)
    with _progress(name, file.tell(), total) as progress:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            progress.update(len(chunk))
    if total and file.tell() < total:
        raise OSError(f"the connection broke at {file.tell()} of {total} bytes")


def _extract(archive: Path, folder: Path) -> None:
    with _progress(f"unpack {archive.name}", 0, _size(archive)) as progress:
        try:
            with archive.open("rb") as file, tarfile.open(fileobj=file) as tar:
                for member in tar:
                    _write_member(archive, tar, member, folder)
                    progress.update(file.tell() - progress.n)
        except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DownloadError(f"{archive}: damaged: {error}") from error


def _write_member(
    archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path
) -> None:
    """Write a file or make a folder: what corpora consist of, and nothing else.

    Not by ``tar.extract``: Python 3.10 and 3.11 have its filters from 3.11.4 on only.
    """
    path = (folder / member.name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise DownloadError(
            f"{archive}: refused: {member.name} would be written outside"
        )
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
    elif member.isfile():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tar.extractfile(member) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, _CHUNK)
    else:
        raise DownloadError(
            f"{archive}: refused: {member.name}: expected files and folders, found a link "
            "or a device"
        )


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
