"""Files: written whole or not at all, told apart, and YAML read with the safe loader."""

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from espnet_ensemble.errors import EnsembleError

PathLike = str | Path


@contextmanager
def atomic_write(path: PathLike) -> Iterator[Path]:
    """Write a file, or a folder, all of it or nothing.

    The temporary name is hidden, ends in ``.tmp`` and belongs to this call alone, so
    several processes may write the same path at once: the last one's content stays.

    Args:
        path: What to write. A file that is there, also a link, is replaced; a folder that
            is there must be empty.

    Yields:
        A name in the same folder, where nothing is yet. What is written there gets the
        name ``path`` in the end; if an error is raised, it is removed.

    Example:
        >>> path = getfixture("tmp_path") / "greeting"
        >>> with atomic_write(path) as part:
        ...     _ = part.write_text("hello")
        ...     path.exists()
        False
        >>> path.read_text()
        'hello'
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield part
        os.replace(part, path)
    finally:
        _remove(part)


def remove_unfinished(folder: PathLike) -> None:
    """Remove what killed processes left of :func:`atomic_write`, also in subfolders.

    Only for a folder in which no other process is writing: its files would go, too.
    """
    for part in list(Path(folder).rglob(f".*.{'[0-9a-f]' * 8}.tmp")):
        _remove(part)


@dataclass(frozen=True)
class FileState:
    """Size and time of a file: if both are as before, it counts as unchanged.

    Attributes:
        num_bytes: Size.
        mtime_ns: When it was changed, in ns since 1970.
    """

    num_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, path: PathLike) -> "FileState":
        """Ask the file system.

        Raises:
            OSError: If there is no such file.
        """
        stat = os.stat(path)
        return cls(stat.st_size, stat.st_mtime_ns)


def write_text(path: PathLike, text: str) -> None:
    """Write a file in UTF-8, all of it or nothing."""
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_yaml(path: PathLike, content: Mapping[str, Any]) -> None:
    """Write a mapping of plain values as YAML, in its own order, all of it or nothing."""
    write_text(path, yaml.safe_dump(content, sort_keys=False))


def read_yaml(path: PathLike) -> dict[str, Any]:
    """Read a YAML file of keys and values, with the safe loader.

    Raises:
        EnsembleError: If it is not there, no YAML, or holds something else.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise EnsembleError(
            f"{path}: expected a file, found {error.strerror}"
        ) from error
    except (UnicodeError, yaml.YAMLError) as error:
        raise EnsembleError(f"{path}: expected YAML, found {error}") from error
    if not isinstance(content, dict):
        raise EnsembleError(f"{path}: expected keys and values, found {content!r}")
    return content


def edit_yaml(text: str, changes: Mapping[str, Any]) -> str:
    """Replace keys at the top of a YAML text; all the rest, with comments, stays as it is.

    Args:
        text: The text, which has keys and values.
        changes: New values. Keys that are not there come at the end.

    Example:
        >>> print(edit_yaml("a: 1  # one\\nb: [2]\\n", {"b": {"c": 3}, "d": 4}), end="")
        a: 1  # one
        b:
            c: 3
        d: 4
    """
    content = {**yaml.safe_load(text), **changes}
    edited = _replace_keys(text, dict(changes))
    try:
        if yaml.safe_load(edited) == content:
            return edited
    except yaml.YAMLError:
        pass
    # What was replaced is part of something else: of braces, or of references.
    return _dump(content)


def _replace_keys(text: str, changes: dict[str, Any]) -> str:
    parts, position = [], 0
    node = yaml.compose(text, yaml.SafeLoader)
    for key, value in node.value if node else []:
        if key.value in changes:
            new = _dump({key.value: changes.pop(key.value)}).rstrip("\n")
            parts += [text[position : key.start_mark.index], new]
            position = _last_place(value)
    parts.append(text[position:])
    if changes:
        parts += ["" if parts[-1].endswith("\n") else "\n", _dump(changes)]
    return "".join(parts)


def _last_place(node: yaml.Node) -> int:
    """Where a value ends; blocks of them take what follows for their own."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_place(last[1] if isinstance(last, tuple) else last)
    return node.end_mark.index


def _dump(content: Mapping[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, indent=4)


def check_keys(
    where: str,
    found: Iterable[str],
    required: Iterable[str],
    optional: Iterable[str] = (),
) -> None:
    """Refuse keys that are unknown, and the lack of those that are required.

    Args:
        where: Of what, for the message.
        found: The keys that are there.
        required: Those that must be.
        optional: Those that may be.

    Raises:
        EnsembleError: If a key is unknown or missing. It names the first, and all known.

    Example:
        >>> check_keys("conf/x.yaml", ["lr"], required=["lr"], optional=["seed"])
        >>> check_keys("conf/x.yaml", ["lrr"], required=["lr"])
        Traceback (most recent call last):
        espnet_ensemble.errors.EnsembleError: conf/x.yaml: unknown key 'lrr'; expected lr
    """
    found, required = list(map(str, found)), list(required)
    known = [*required, *optional]
    for kind, keys in (
        ("unknown", [key for key in found if key not in known]),
        ("missing", [key for key in required if key not in found]),
    ):
        if keys:
            raise EnsembleError(
                f"{where}: {kind} key {keys[0]!r}; expected {', '.join(known)}"
            )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def working_directory(path: PathLike) -> Iterator[None]:
    """Let relative paths be from a folder, in all threads of the process, for a while."""
    before = os.getcwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)
