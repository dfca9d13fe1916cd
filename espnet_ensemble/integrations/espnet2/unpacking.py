"""Model zoo archives, checked before ESPnet unpacks them."""

import stat
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import signature
from pathlib import Path, PurePosixPath
from types import ModuleType

import wrapt

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike

#: More than a model with bundled upstreams has.
MAX_ENTRIES = 10_000
#: Weights can hardly be compressed: what gets this much larger is no model.
MAX_RATIO = 100
#: Small archives of text may: up to so many bytes, ratios do not matter.
SMALL = 1 << 30


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
    for entry in _entries(path):
        num_entries, num_bytes = num_entries + 1, num_bytes + entry.num_bytes
        if num_entries > MAX_ENTRIES:
            raise _refused(path, f"expected at most {MAX_ENTRIES} entries, found more")
        if num_bytes > limit:
            raise _refused(path, f"expected at most {limit} bytes, found more")
        name = PurePosixPath(entry.name)
        if name.is_absolute() or ".." in name.parts or "\\" in entry.name:
            raise _refused(path, f"{entry.name!r} would be written outside")
        if entry.kind == "other":
            raise _refused(path, f"{entry.name!r} is a link or a device")
        if entry.kind == "file":
            if name in files:
                raise _refused(path, f"{entry.name!r} is there twice")
            files.add(name)
        folders.update([name] if entry.kind == "folder" else [], name.parents)
    both = sorted(files & folders)
    if both:
        raise _refused(path, f"{str(both[0])!r} is a file and a folder")
    if outpath is not None:
        _check_outpath(path, Path(outpath), files, folders)


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


def check_before_unpacking(pack_funcs: ModuleType) -> None:
    """Let ESPnet's ``unpack`` refuse what :func:`check_archive` does.

    Args:
        pack_funcs: :mod:`espnet2.main_funcs.pack_funcs`.
    """
    wrapt.wrap_function_wrapper(pack_funcs, "unpack", _unpack)


def _unpack(unpack, instance, args, kwargs):
    given = signature(unpack).bind(*args, **kwargs).arguments
    check_archive(given["input_archive"], given["outpath"])
    return unpack(*args, **kwargs)


def _refused(path: PathLike, reason: str) -> EnsembleError:
    return EnsembleError(f"{path}: refused, nothing was unpacked: {reason}")


def _entries(path: PathLike) -> Iterator[Entry]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield from map(_zip_entry, archive.infolist())
            return
        with tarfile.open(path) as archive:
            yield from map(_tar_entry, archive)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise EnsembleError(f"{path}: expected an archive, found {error}") from error


def _zip_entry(info: zipfile.ZipInfo) -> Entry:
    mode = info.external_attr >> 16
    is_other = stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR)
    kind = "other" if is_other else "folder" if info.is_dir() else "file"
    return Entry(info.filename, info.file_size, kind)


def _tar_entry(info: tarfile.TarInfo) -> Entry:
    kind = "folder" if info.isdir() else "file" if info.isfile() else "other"
    return Entry(info.name, info.size, kind)
