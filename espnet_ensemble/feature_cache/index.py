"""Where a member's features are, in arrays that are mapped into memory, not read.

.. code-block:: none

    <member>/index/
        ids.npy       ids of the utterances, sorted, in UTF-8
        places.npy    of each: number of the archive, byte of the matrix, number of frames
        shards.npy    names of the archives
        crc32.json    checksums of these, and of the tables that say the same

Processes on one machine share them, so that none grows with the corpus. The tables
(``feats.scp``, ``utt2num_frames``) remain for people and other programs; where they are not
those that the index was made of, or there is none, they are what counts.
"""

import json
import shutil
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.archive import Entry
from espnet_ensemble.files import atomic_write, check_keys, read_yaml

INDEX = "index"
_CHECKSUMS = "crc32.json"
_ARRAYS = ("ids.npy", "places.npy", "shards.npy")
_PLACE = np.dtype([("shard", "<i4"), ("offset", "<i8"), ("num_frames", "<i4")])
# Bytes, or utterances, that are looked at together.
_BLOCK = 1 << 16


class Place(NamedTuple):
    """Name of the archive of an utterance's features, their first byte, number of frames."""

    ark: str
    offset: int
    num_frames: int


class Index(Mapping):
    """utterance's id -> :class:`Place`, of a member's folder.

    No file stays open, and a copy for another process is made from the path.

    Args:
        folder: The member's, with an index that :func:`is_current` has found so.

    Raises:
        CacheError: If the arrays are damaged.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        try:
            ids, places, shards = (
                np.load(folder / INDEX / name, mmap_mode="r") for name in _ARRAYS
            )
            if len(ids) != len(places) or places.dtype != _PLACE:
                raise ValueError("arrays that do not belong together")
        except (OSError, ValueError) as error:
            raise CacheError(
                f"{folder / INDEX}: expected an index of the features, found {error}; "
                "remove that folder: the tables say the same"
            ) from error
        self._ids, self._places, self._shards = ids, places, shards

    def __reduce__(self):
        return Index, (self._folder,)

    def __getitem__(self, utt_id: str) -> Place:
        """Look up an utterance.

        Raises:
            KeyError: If it is not there.
        """
        row = self._find(utt_id)
        if row is None:
            raise KeyError(utt_id)
        shard, offset, num_frames = self._places[row].item()
        return Place(str(self._shards[shard]), offset, num_frames)

    def __contains__(self, utt_id: object) -> bool:
        return self._find(str(utt_id)) is not None

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self._ids), _BLOCK):
            for utt_id in self._ids[start : start + _BLOCK].tolist():
                yield utt_id.decode()

    def __len__(self) -> int:
        return len(self._ids)

    def has_same_keys(self, other: "Index") -> bool:
        """Whether another one is of the same utterances."""
        return len(self) == len(other) and all(
            np.array_equal(
                self._ids[start : start + _BLOCK], other._ids[start : start + _BLOCK]
            )
            for start in range(0, len(self), _BLOCK)
        )

    def _find(self, utt_id: str) -> int | None:
        key = utt_id.encode()
        # Of the array's own type: any other would have NumPy copy the array.
        row = int(np.searchsorted(self._ids, np.array(key, dtype=self._ids.dtype)))
        return row if row < len(self) and self._ids[row] == key else None


def make_index(
    folder: Path, entries: Mapping[str, tuple[str, Entry]], tables: list[str]
) -> None:
    """Write a member's index.

    Args:
        folder: The member's.
        entries: utterance's id -> name of the archive, and entry.
        tables: Names of the tables that say the same, which are there already.
    """
    utt_ids = sorted(entries)
    shards = sorted({ark for ark, _ in entries.values()})
    numbers = {ark: number for number, ark in enumerate(shards)}
    places = np.empty(len(utt_ids), dtype=_PLACE)
    for row, utt_id in enumerate(utt_ids):
        ark, entry = entries[utt_id]
        places[row] = numbers[ark], entry.offset, entry.num_frames
    ids = np.array([utt_id.encode() for utt_id in utt_ids], dtype=bytes)
    shutil.rmtree(folder / INDEX, ignore_errors=True)
    with atomic_write(folder / INDEX) as part:
        part.mkdir()
        arrays = ids, places, np.array(shards, dtype=str)
        for name, array in zip(_ARRAYS, arrays, strict=True):
            np.save(part / name, array)
        checksums = {name: _crc32(part / name) for name in _ARRAYS}
        checksums |= {name: _crc32(folder / name) for name in tables}
        (part / _CHECKSUMS).write_text(json.dumps(checksums) + "\n")


def is_current(folder: Path, tables: list[str]) -> bool:
    """Whether a member has an index, and it is of the tables that are there now."""
    checksums = _read_checksums(folder, tables)
    return bool(checksums) and all(
        checksums[name] == _crc32(folder / name) for name in tables
    )


def index_damage(folder: Path, tables: list[str]) -> str | None:
    """What is damaged in an index; None if nothing is, or there is none."""
    path = folder / INDEX
    if not path.exists():
        return None
    try:
        checksums = _read_checksums(folder, tables)
        damaged = [n for n in _ARRAYS if checksums.get(n) != _crc32(path / n)]
    except (EnsembleError, OSError) as error:
        return str(error)
    return f"{path / damaged[0]}: expected another checksum" if damaged else None


def _read_checksums(folder: Path, tables: list[str]) -> dict[str, int]:
    path = folder / INDEX / _CHECKSUMS
    if not path.exists():
        return {}
    content = read_yaml(path)  # which JSON is, too
    check_keys(str(path), content, [*_ARRAYS, *tables])
    return content


def _crc32(path: Path) -> int:
    checksum = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum
