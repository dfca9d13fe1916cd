"""The files of the corpus's discs, however these are laid out."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.corpora.wsj.transcripts import read_lines

_SUFFIXES = (".wv1", ".dot", ".ndx")
_ENTRY = re.compile(r"(\d+)_(\d+)_(\d+):\s*/?(\S+/\S+/\S+)")


class Discs:
    """Finds files by their path on the discs.

    Args:
        roots: Folders, each with anything of: folders of discs (``11-1.1/wsj0/...``), the
            discs' content merged (``wsj0/...``), or what is in ``wsj0`` or ``wsj1``. File
            names may be in upper case, as on some copies of disc 13-16.1.

    Raises:
        EnsembleError: If a root is not a folder.
    """

    def __init__(self, roots: Sequence[Path]):
        self._paths: dict[str, list[str]] = {}
        for root in roots:
            if not Path(root).is_dir():
                raise EnsembleError(f"{root}: expected a folder with discs, found none")
            for path in _walk(root):
                name = os.path.basename(path).lower()
                self._paths.setdefault(name, []).append(path)

    def find(self, path: str) -> Path | None:
        """Find a file.

        Args:
            path: Where it is on the discs, such as
                ``13-34.1/wsj1/doc/indices/h1_p0.ndx``. Where there is no such file, that
                path without its first folder is looked for, and without its second.
        """
        folders = path.lower().split("/")
        candidates = self._paths.get(folders[-1], [])
        for first in range(min(3, len(folders))):
            suffix = "/" + "/".join(folders[first:])
            for candidate in candidates:
                if candidate.replace(os.sep, "/").lower().endswith(suffix):
                    return Path(candidate)
        return None


def read_index(path: Path) -> list[str]:
    """Read a list of recordings (``.ndx`` file).

    Returns:
        The recordings' paths on the discs, such as
        ``11-1.1/wsj0/si_tr_s/01i/01ic0201.wv1``.

    Raises:
        EnsembleError: If a line is no path, or there is none.
    """
    listed = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line or line.startswith(";"):
            continue
        match = _ENTRY.fullmatch(line)
        if not match:
            raise EnsembleError(
                f"{path}:{number}: expected a disc and a file, such as "
                f"11_1_1:wsj0/si_tr_s/01i/01ic0201.wv1, found {line!r}"
            )
        *disc, name = match.groups()
        # The lists of the Nov'92 test have names without it.
        name = name if name.lower().endswith(".wv1") else f"{name}.wv1"
        listed.append("{}-{}.{}/{}".format(*disc, name))
    if not listed:
        raise EnsembleError(f"{path}: expected a list of recordings, found none")
    return listed


def _walk(root: Path) -> list[str]:
    """The files below a folder, sorted. Folders may be links; each is entered once."""
    found, entered = [], set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in entered:
            subfolders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        found += [
            os.path.join(folder, name)
            for name in names
            if name.lower().endswith(_SUFFIXES)
        ]
    return sorted(found)
