"""What goes into an archive, under which names."""

import os
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike
from espnet_ensemble.upstream.checkpoint_files import checkpoint_files

#: What makes the things that are packed: stages of asr.sh, by option or file name.
MADE_BY = {
    "asr_train_config": "stage 11, training",
    "asr_model_file": "stage 11, training",
    "images": "stage 11, training",
    "lm_train_config": "stage 7, LM training",
    "lm_file": "stage 7, LM training",
    "RESULTS.md": "stage 13, scoring",
    "feats_stats.npz": "stage 10, statistics",
    "bpe.model": "stage 5, token list",
}


class Contents:
    """Files, and the names that they get.

    Attributes:
        files: Name in the archive -> file.
        folders: Names of folders that configurations mention.
    """

    def __init__(self):
        self.files: dict[str, Path] = {}
        self.folders: list[str] = []
        self._names: dict[str, str] = {}  # real path -> name in the archive
        self._upstreams: dict[str, str] = {}
        self._problems: list[str] = []

    def add(self, path: PathLike) -> str:
        """Add a file, or a folder with all that is in it; return its name."""
        real = os.path.realpath(path)
        if real not in self._names:
            self._names[real] = name = self._unused(_name(path))
            files = [f for f in Path(path).rglob("*") if f.is_file()]
            for file in files if os.path.isdir(path) else [Path(path)]:
                self.files[str(name / file.relative_to(path))] = file
        return self._names[real]

    @property
    def upstreams(self) -> Collection[str]:
        """Names of the upstreams that were added."""
        return self._upstreams.values()

    def add_upstream(self, path: str, title: str | None = None) -> str:
        """Add what loading an upstream reads of its file or folder; return its name.

        Args:
            path: The file or folder.
            title: What to call it; None: as it is called.
        """
        real = os.path.realpath(path)
        if real not in self._upstreams:
            name = self._unused(f"upstreams/{title or _basename(path)}")
            self._upstreams[real] = name
            self._add_checkpoint(name, Path(path))
        return self._upstreams[real]

    def _add_checkpoint(self, name: str, path: Path) -> None:
        if path.is_file():
            self.files[name] = path
            return
        try:
            if not path.is_dir():
                raise EnsembleError(f"upstream {path}: there is no such file or folder")
            for file in checkpoint_files(path):
                self.files[f"{name}/{file}"] = path / file
            self.folders.append(name)
        except EnsembleError as problem:
            self._problems.append(str(problem))

    def _unused(self, name: str) -> str:
        path, number = Path(name), 1
        while any(Path(name) in (Path(m), *Path(m).parents) for m in self.files):
            number += 1
            name = str(path.with_name(f"{path.stem}_{number}{path.suffix}"))
        return name

    def rename(self, value: Any) -> Any:
        """Replace every string in plain data that is the path of something added."""
        if isinstance(value, dict):
            return {key: self.rename(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.rename(item) for item in value]
        if isinstance(value, str):
            return self._names.get(os.path.realpath(value), value)
        return value

    def check(self) -> None:
        """Raise EnsembleError if an upstream lacks something."""
        if self._problems:
            raise EnsembleError("\n".join(self._problems))

    def lay_out(self, root: Path) -> None:
        """Copy everything below a folder, under the names it has in the archive."""
        for name, file in self.files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            if not _is_same(file, root / name):
                # Copies, because ESPnet names what a link points to.
                shutil.copyfile(file, root / name)


def _is_same(file: Path, other: Path) -> bool:
    return other.exists() and file.samefile(other)


def _name(path: PathLike) -> str:
    relative = Path(os.path.relpath(path))
    # A name without folder could also be a word of a token list, which ESPnet would
    # take for the file.
    if len(relative.parts) > 1 and relative.parts[0] != "..":
        return str(relative)
    return f"files/{_basename(path)}"


def _basename(path: PathLike) -> str:
    return os.path.basename(os.path.abspath(path))


def check_given(given: Iterable[tuple[str, PathLike]]) -> None:
    """Refuse what is not there.

    Args:
        given: Options, and the files or folders that they name.

    Raises:
        EnsembleError: If any is missing. It names all, and what makes them.
    """
    missing = [(key, path) for key, path in given if not os.path.exists(path)]
    if missing:
        raise EnsembleError("\n".join(_not_found(key, path) for key, path in missing))


def _not_found(key: str, path: PathLike) -> str:
    made_by = MADE_BY.get(key) or MADE_BY.get(_basename(path))
    advice = f"; {made_by}, makes it" if made_by else ""
    return f"--{key} {path}: there is no such file or folder{advice}"
