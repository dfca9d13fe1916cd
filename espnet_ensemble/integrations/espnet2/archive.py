"""Zip and tar archives: refused where unpacking them could do harm."""

import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike

#: More than a model with bundled upstreams has.
MAX_ENTRIES = 10_000
#: Weights can hardly be compressed: what gets this much larger is no model.
MAX_RATIO = 100
#: Small archives of text may: up to so many bytes, ratios do not matter.
SMALL = 1 << 30
#: Bytes that a name may have in common file systems.
MAX_NAME = 255
#: Bytes of what a tar says about one entry, beside its content.
MAX_HEADER = 1 << 20
#: What reading a damaged archive raises.
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError)

_COMPRESSIONS = (
    zipfile.ZIP_STORED,
    zipfile.ZIP_DEFLATED,
    zipfile.ZIP_BZIP2,
    zipfile.ZIP_LZMA,
)
_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


@dataclass(frozen=True)
class Entry:
    """What an archive says about a file or folder in it.

    Attributes:
        name: Its path in the archive.
        num_bytes: Its size when it is unpacked.
        kind: "file", "folder" or "other": links and devices.
    """

    name: str
    num_bytes: int
    kind: str


@dataclass(frozen=True)
class Archive:
    """An open archive.

    Attributes:
        entries: What is in it, one after the other.
        read: Gives the content of a file by its name.
    """

    entries: Iterator[Entry]
    read: Callable[[str], bytes]


@contextmanager
def open_archive(path: PathLike) -> Iterator[Archive]:
    """Open an archive as ESPnet does: what kind it is, the end of its name says.

    Raises:
        EnsembleError: If it is none, or damaged; also while it is read.
    """
    try:
        if Path(path).suffix == ".zip":
            with zipfile.ZipFile(path) as file:
                yield Archive(map(_zip_entry, file.infolist()), file.read)
        else:
            with tarfile.open(path, tarinfo=_TarInfo) as tar:
                yield Archive(map(_tar_entry, tar), lambda name: _read_tar(tar, name))
    except (*DAMAGED, NotImplementedError, RuntimeError) as error:
        raise EnsembleError(f"{path}: expected an archive, found {error}") from error


def check_archive(path: PathLike, outpath: PathLike | None = None) -> None:
    """Refuse an archive that could do harm when it is unpacked.

    Args:
        path: A zip or tar archive, the latter also compressed.
        outpath: Where it will be unpacked; None: where there is nothing yet.

    Raises:
        EnsembleError: If it is no archive, or an entry would be written elsewhere, is a link
            or a device, or takes the place of another, or of a folder that is there; or if
            there are too many, or too large ones. It names the entry.
    """
    limit = max(SMALL, MAX_RATIO * Path(path).stat().st_size)
    files: set[PurePosixPath] = set()
    folders: set[PurePosixPath] = set()
    num_entries = num_bytes = 0
    with open_archive(path) as archive:
        for entry in archive.entries:
            num_entries, num_bytes = num_entries + 1, num_bytes + entry.num_bytes
            if num_entries > MAX_ENTRIES:
                raise _refused(
                    path, f"expected at most {MAX_ENTRIES} entries, found more"
                )
            if num_bytes > limit:
                raise _refused(path, f"expected at most {limit} bytes, found more")
            _check_entry(path, entry)
            name = PurePosixPath(entry.name)
            if entry.kind == "file":
                if name in files:
                    raise _refused(path, f"{entry.name!r} is there twice")
                files.add(name)
            folders.update([name] if entry.kind == "folder" else [], name.parents)
    _check_overlap(path, files, folders)
    if outpath is not None:
        _check_outpath(path, Path(outpath), files, folders)


def _check_entry(path: PathLike, entry: Entry) -> None:
    name = PurePosixPath(entry.name)
    if name.is_absolute() or ".." in name.parts or "\\" in entry.name:
        raise _refused(path, f"{entry.name!r} would be written outside")
    if not entry.name.isprintable():
        raise _refused(path, f"{entry.name!r} has characters that cannot be printed")
    if any(len(part.encode()) > MAX_NAME for part in name.parts):
        raise _refused(path, f"{entry.name[:40]!r}… is too long a name")
    if entry.kind == "other":
        raise _refused(path, f"{entry.name!r} is a link or a device")


def _check_overlap(
    path: PathLike, files: set[PurePosixPath], folders: set[PurePosixPath]
) -> None:
    both = sorted(files & folders)
    if both:
        raise _refused(path, f"{str(both[0])!r} is a file and a folder")
    # Some file systems ignore case, and how accents are written.
    seen: dict[str, PurePosixPath] = {}
    for name in sorted(files | folders):
        folded = unicodedata.normalize("NFC", str(name)).casefold()
        other = seen.setdefault(folded, name)
        if other != name:
            raise _refused(
                path, f"{str(other)!r} and {str(name)!r} differ in case only"
            )


def _check_outpath(
    path: PathLike,
    outpath: Path,
    files: set[PurePosixPath],
    folders: set[PurePosixPath],
) -> None:
    """Refuse a file where there is a folder already, and a folder where there is a file."""
    for name in sorted(files | folders):
        there = outpath / name
        if there.is_dir() if name in files else there.exists() and not there.is_dir():
            found, wanted = ("folder", "file") if name in files else ("file", "folder")
            raise _refused(
                path,
                f"{there} is a {found}, and in the archive a {wanted}; unpack it elsewhere, "
                f"or remove the {found}",
            )


def _refused(path: PathLike, reason: str) -> EnsembleError:
    return EnsembleError(f"{path}: refused, nothing was unpacked: {reason}")


class _TarInfo(tarfile.TarInfo):
    """Reads no header that would fill the memory."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _HEADERS and self.size > MAX_HEADER:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(tar)  # type: ignore[misc]


def _zip_entry(info: zipfile.ZipInfo) -> Entry:
    if info.flag_bits & 1:
        raise zipfile.BadZipFile(f"{info.filename!r}, which is encrypted")
    if info.compress_type not in _COMPRESSIONS:
        raise zipfile.BadZipFile(f"{info.filename!r}, compressed in an unknown way")
    mode = info.external_attr >> 16
    is_other = stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR)
    kind = "other" if is_other else "folder" if info.is_dir() else "file"
    return Entry(info.filename, info.file_size, kind)


def _tar_entry(info: tarfile.TarInfo) -> Entry:
    kind = "folder" if info.isdir() else "file" if info.isfile() else "other"
    return Entry(info.name, info.size, kind)


def _read_tar(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise tarfile.ReadError(f"{name!r}, which is no file")
    return file.read()
