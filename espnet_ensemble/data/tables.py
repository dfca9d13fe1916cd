"""The files of a Kaldi-style data directory.

Each is a text of one line per utterance, recording or speaker: a key, a space, a value.
Lines are in C-locale order, which is the order of Python's strings, and name a key once.
In memory a file is a dictionary, and a directory a dictionary of those by file name.
"""

import math
from pathlib import Path
from typing import NamedTuple

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, write_text

Table = dict[str, str]
Tables = dict[str, Table]

#: What the lines of a file are about; without ``segments`` a recording is an utterance.
#: In the order of writing: what shows that a directory is there comes last.
KEYS = {
    "text": "utterance",
    "utt2lang": "utterance",
    "utt2uniq": "utterance",
    "utt2dur": "utterance",
    "utt2num_frames": "utterance",
    "utt2num_samples": "utterance",
    "feats_shape": "utterance",
    "segments": "utterance",
    "utt2spk": "utterance",
    "spk2gender": "speaker",
    "reco2dur": "recording",
    "reco2file_and_channel": "recording",
    "feats.scp": "utterance",
    "wav.scp": "recording",
}
#: Files whose values may be empty.
MAY_BE_EMPTY = ("text",)


class DataError(EnsembleError):
    """Something is wrong with a data directory, one of its files or its audio."""


class Segment(NamedTuple):
    """A part of a recording: start and end in seconds; end -1 is the recording's end."""

    recording: str
    start: float
    end: float

    @classmethod
    def parse(cls, value: str) -> "Segment":
        """Read what ``segments`` has after the utterance.

        Raises:
            DataError: If it is no segment.

        Example:
            >>> Segment.parse("call-861225-A 5.0 6.5")
            Segment(recording='call-861225-A', start=5.0, end=6.5)
        """
        try:
            recording, start, end = value.split()
            segment = cls(recording, float(start), float(end))
        except ValueError:
            segment = cls("", -1, -1)
        _, start, end = segment
        if 0 <= start < math.inf and (start < end < math.inf or end == -1):
            return segment
        raise DataError(
            "expected a recording, its start and its end in seconds, 0 <= start < end "
            f"(or end -1: to the recording's end); found {value!r}"
        )


def read_table(path: PathLike) -> Table:
    """Read a file of keys and values, in its own order.

    Returns:
        key -> value, "" where a line has only a key.

    Raises:
        DataError: If the file is missing or not UTF-8, has an empty line, or names a key
            twice.

    Example:
        >>> folder = getfixture("tmp_path")
        >>> write_table(folder / "text", {"utt2": "", "utt1": "HELLO WORLD"})
        >>> read_table(folder / "text")
        {'utt1': 'HELLO WORLD', 'utt2': ''}
    """
    table = {}
    for line, (key, value) in enumerate(_read_lines(path), start=1):
        if not key:
            raise DataError(f"{path}:{line}: expected a key and a value, found no text")
        if key in table:
            raise DataError(
                f"{path}:{line}: expected every key once, found {key!r} also in line "
                f"{_line(table, key)}"
            )
        table[key] = value
    return table


def render(table: Table) -> str:
    """The text of a file."""
    return "".join(f"{key} {table[key]}".rstrip() + "\n" for key in sorted(table))


def write_table(path: PathLike, table: Table) -> None:
    """Write a file of keys and values, sorted, all of it or nothing."""
    write_text(path, render(table))


def read_repeated(path: Path) -> Table:
    """Like :func:`read_table`, without the lines that say nothing new or nothing."""
    table = {}
    for line, (key, value) in enumerate(_read_lines(path), start=1):
        if not key or not (value or path.name in MAY_BE_EMPTY):
            continue
        if table.setdefault(key, value) != value:
            raise DataError(
                f"{path}:{line}: expected one value for {key!r}, found {value!r} and "
                f"before it {table[key]!r}"
            )
    return table


def at(path: Path, table: Table, key: str) -> str:
    """The beginning of a message about a line that :func:`read_table` has read."""
    return f"{path}:{_line(table, key)}: {key!r}:"


def _read_lines(path: PathLike) -> list[tuple[str, str]]:
    """Keys and values, both "" in an empty line."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: expected a file, found {error.strerror}") from error
    lines = []
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), start=1):
        try:
            words = line.decode("utf-8").strip().split(maxsplit=1)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}:{number}: expected UTF-8, found {line!r}"
            ) from error
        lines.append((words + ["", ""])[:2])
    return lines if content else []


def _line(table: Table, key: str) -> int:
    return list(table).index(key) + 1
