"""The files of a Kaldi-style data directory.

Each is a text of one line per utterance, recording or speaker: a key, a space, a value.
Lines are in C-locale order, which is the order of Python's strings, and name a key once.
In memory a file is a dictionary, and a directory a dictionary of those by file name; read a
line at a time, it is rows (:mod:`espnet_ensemble.data.streams`).
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from espnet_ensemble.data.streams import Row
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
    for line, (key, value) in enumerate(read_rows(path), start=1):
        if not key:
            raise DataError(f"{path}:{line}: expected a key and a value, found no text")
        if key in table:
            raise DataError(
                f"{path}:{line}: expected every key once, found {key!r} also in line "
                f"{_line(table, key)}"
            )
        table[key] = value
    return table


def stream_table(path: PathLike) -> Iterator[Row]:
    """Read a file of keys and values that is in order, a line at a time.

    Yields:
        Key and value, "" where a line has only a key.

    Raises:
        DataError: If the file is missing, not UTF-8 or not sorted, has an empty line, or
            names a key twice.

    Example:
        >>> folder = getfixture("tmp_path")
        >>> write_table(folder / "text", {"utt2": "", "utt1": "HELLO WORLD"})
        >>> list(stream_table(folder / "text"))
        [('utt1', 'HELLO WORLD'), ('utt2', '')]
    """
    before = ""
    for line, row in enumerate(read_rows(path), start=1):
        key = row[0]
        # No key is "": this is one comparison for three mistakes.
        if key <= before:
            raise DataError(f"{path}:{line}: {_out_of_order(path, line, key, before)}")
        before = key
        yield row


def _out_of_order(path: PathLike, line: int, key: str, before: str) -> str:
    if not key:
        return "expected a key and a value, found no text"
    first = next(n for n, row in enumerate(read_rows(path), start=1) if row[0] == key)
    if first < line:
        return f"expected every key once, found {key!r} also in line {first}"
    return (
        f"{key!r}: expected C-locale order (LC_ALL=C sort), found it after {before!r}; "
        "`data_dir fix` sorts"
    )


def write_table(path: PathLike, table: Mapping[str, str]) -> None:
    """Write a file of keys and values, sorted, all of it or nothing."""
    with atomic_write(path) as part:
        write_rows(part, sorted(table.items()))


def write_rows(path: PathLike, rows: Iterable[Row]) -> None:
    """Write keys and values as they come."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{key} {value}".rstrip() + "\n" for key, value in rows)


def at(path: Path, table: Table, key: str) -> str:
    """The beginning of a message about a line that :func:`read_table` has read."""
    return f"{path}:{_line(table, key)}: {key!r}:"


def read_rows(path: PathLike) -> Iterator[Row]:
    """Read keys and values, both "" in an empty line, in whatever order they are.

    Raises:
        DataError: If the file is missing or not UTF-8.
    """
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            for line in file:
                words = line.split(maxsplit=1)
                if len(words) == 2:
                    yield words[0], words[1].rstrip()
                else:
                    yield (words[0], "") if words else ("", "")
    except OSError as error:
        raise DataError(f"{path}: expected a file, found {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{_not_utf8(path)}") from error


def _not_utf8(path: PathLike) -> str:
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                line = line.removesuffix(b"\n")
                return f"{number}: expected UTF-8, found {line!r}"
    return " expected UTF-8"


def _line(table: Table, key: str) -> int:
    return list(table).index(key) + 1
