"""The files of a Kaldi-style data directory.

Each is a text of one line per utterance, recording or speaker: a key, a space, a value.
Lines are in C-locale order, which is the order of Python's strings, and name a key once.
In memory a file is a dictionary, and a directory a dictionary of those by file name.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, atomic_write

Table = dict[str, str]
Tables = dict[str, Table]

#: What the keys of a file are; without ``segments`` a recording is an utterance.
#: In the order of writing: what shows that a directory is there comes last.
KEYED_BY = {
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


@dataclass(frozen=True)
class Segment:
    """A part of a recording.

    Attributes:
        recording: The recording's id, a key of ``wav.scp``.
        start: Where the part begins, in seconds.
        end: Where it ends, in seconds; None: with the recording.
    """

    recording: str
    start: float = 0.0
    end: float | None = None

    @classmethod
    def parse(cls, value: str) -> "Segment":
        """Read what ``segments`` has after the utterance; -1 is the recording's end.

        Raises:
            DataError: If it is no segment.

        Example:
            >>> Segment.parse("call-861225-A 5.0 6.5")
            Segment(recording='call-861225-A', start=5.0, end=6.5)
        """
        try:
            recording, *times = value.split()
            start, end = map(float, times)
        except ValueError:
            recording, start, end = "", math.nan, math.nan
        if 0 <= start < math.inf and (start < end < math.inf or end == -1):
            return cls(recording, start, None if end == -1 else end)
        raise DataError(
            "expected a recording, its start and its end in seconds, 0 <= start < end "
            f"(or end -1: to the recording's end); found {value!r}"
        )

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its recording."""
        return self.start == 0 and self.end is None

    def __str__(self) -> str:
        until = "" if self.end is None else f" to {self.end} s"
        return f"from {self.start} s{until}"


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
    table: Table = {}
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


def write_table(path: PathLike, table: Table) -> None:
    """Write a file of keys and values, sorted, all of it or nothing."""
    with atomic_write(path) as part, open(part, "wb") as file:
        file.writelines(_lines(table))


def is_written(path: PathLike, table: Table) -> bool:
    """Whether a file is, to the byte, what :func:`write_table` makes of a table."""
    with open(path, "rb") as file:
        return all(found == line for found, line in zip_longest(file, _lines(table)))


def _lines(table: Table) -> Iterator[bytes]:
    for key in sorted(table):
        yield f"{key} {table[key]}".rstrip().encode() + b"\n"


def read_repeated(path: Path) -> Table:
    """Like :func:`read_table`, without the lines that say nothing new or nothing."""
    table: Table = {}
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


def _read_lines(path: PathLike) -> Iterator[tuple[str, str]]:
    """Keys and values, both "" in an empty line."""
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                yield _parse_line(path, number, line)
    except OSError as error:
        raise DataError(f"{path}: expected a file, found {error.strerror}") from error


def _parse_line(path: PathLike, number: int, line: bytes) -> tuple[str, str]:
    try:
        words = line.decode("utf-8").strip().split(maxsplit=1)
    except UnicodeDecodeError as error:
        line = line.removesuffix(b"\n")
        raise DataError(f"{path}:{number}: expected UTF-8, found {line!r}") from error
    key, value = [*words, "", ""][:2]
    return key, value


def _line(table: Table, key: str) -> int:
    return list(table).index(key) + 1
