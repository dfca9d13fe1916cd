"""What a member has, and where, in arrays that are mapped into memory, not read.

.. code-block:: none

    <member>/index/
        ids.npy       ids of the utterances, sorted, in UTF-8
        places.npy    of each: number of the archive, number of frames, bytes of its tensors
        digests.npy   of each: hash of the audio
        archives.npy  name and size of each archive
        states.npy    of each utterance: size and time of its audio file, when last seen
        crc32.json    checksums of all but the last

Processes on one machine share them, so that none grows with the corpus. They say what the
headers of the archives say, of which they can be made again.
"""

import json
import os
import shutil
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.archive import Archive
from espnet_ensemble.feature_cache.identity import STATE, encode_ids
from espnet_ensemble.files import atomic_write, check_keys, read_yaml

INDEX = "index"
_CHECKSUMS = "crc32.json"
_STATES = "states"
_PLACE = np.dtype(
    [("archive", "<i4"), ("num_frames", "<i4"), ("offset", "<i8"), ("scale", "<i8")]
)
# Arrays of an item for each utterance -> its type, at least.
_OF_UTTERANCES: dict[str, Any] = {
    "ids": "S1",
    "places": _PLACE,
    "digests": "S32",
    _STATES: STATE,
}
_CHECKED = ["ids", "places", "digests", "archives"]
_MEND = "run the same extraction again, which mends it"
# Bytes, or utterances, that are looked at together.
_BLOCK = 1 << 16


class Place(NamedTuple):
    """Where an utterance's features are.

    Attributes:
        archive: Name of the archive, in the folder of the archives.
        num_bytes: Its size.
        offsets: Where the utterance's tensors begin; the last is of no use if it has one.
        num_frames: Number of frames.
    """

    archive: str
    num_bytes: int
    offsets: tuple[int, int]
    num_frames: int


class Index(Mapping):
    """utterance's id -> :class:`Place`, of a member.

    No file stays open, and a copy for another process is made from the path.

    Args:
        folder: The member's.

    Raises:
        CacheError: If there is no index, or it is damaged.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        arrays = _check_arrays(folder / INDEX)
        self.ids, self._places = arrays["ids"], arrays["places"]
        self.digests, self.archives = arrays["digests"], arrays["archives"]
        self.states = arrays[_STATES]

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
        number, num_frames, *offsets = self._places.item(row)
        name, num_bytes = self.archives.item(number)
        return Place(name, num_bytes, tuple(offsets), num_frames)

    def __contains__(self, utt_id: object) -> bool:
        return self._find(str(utt_id)) is not None

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self.ids), _BLOCK):
            for utt_id in self.ids[start : start + _BLOCK].tolist():
                yield utt_id.decode()

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Where utterances are in the arrays.

        Args:
            ids: Of utterances, sorted, in UTF-8.

        Returns:
            (utterances,), -1 where one is not there.
        """
        if np.array_equal(ids, self.ids):
            return np.arange(len(ids))
        rows = np.searchsorted(self.ids, ids)
        rows[rows == len(self.ids)] = -1
        rows[self.ids[rows] != ids if len(self.ids) else slice(None)] = -1
        return rows

    def num_frames(self) -> np.ndarray:
        """Numbers of frames of all utterances, in their order."""
        return self._places["num_frames"]

    def archive_numbers(self) -> np.ndarray:
        """In which archive each utterance is: its number, in the order of the names."""
        return self._places["archive"]

    def has_same_keys(self, other: "Index") -> bool:
        """Whether another one is of the same utterances."""
        return len(self) == len(other) and all(
            np.array_equal(
                self.ids[start : start + _BLOCK], other.ids[start : start + _BLOCK]
            )
            for start in range(0, len(self), _BLOCK)
        )

    def check_archives(self, folder: Path) -> None:
        """Compare the sizes of the archives.

        Args:
            folder: Where they are.

        Raises:
            CacheError: If one is missing, or has another size. It names the first.
        """
        for name, num_bytes in self.archives.tolist():
            try:
                found = f"{os.stat(folder / name).st_size} bytes"
            except OSError as error:
                found = str(error.strerror)
            if found != f"{num_bytes} bytes":
                raise CacheError(
                    f"{folder / name}: expected {num_bytes} bytes, found {found}"
                )

    def keep_states(self, rows: np.ndarray, states: np.ndarray) -> None:
        """Write which state audio files have now, so that they are not read once more.

        Args:
            rows: Of the utterances, in the arrays.
            states: Of their files.

        Raises:
            OSError: If it cannot be written.
        """
        known = np.array(self.states)
        known[rows] = states
        with atomic_write(self._folder / INDEX / f"{_STATES}.npy") as part:
            _save(part, known)
        self.states = known

    def _find(self, utt_id: str) -> int | None:
        key = utt_id.encode()
        row = bisect_left(self.ids, key)
        return row if row < len(self) and self.ids[row] == key else None


def make_index(folder: Path, archives: Iterable[Archive], shards: Path) -> int:
    """Write a member's index.

    Args:
        folder: The member's.
        archives: What it has.
        shards: The folder of the archives.

    Returns:
        The number of utterances.
    """
    arrays = gather(archives, shards)
    shutil.rmtree(folder / INDEX, ignore_errors=True)
    with atomic_write(folder / INDEX) as part:
        part.mkdir()
        for name, array in arrays.items():
            _save(part / f"{name}.npy", array)
        checksums = {name: _crc32(part / f"{name}.npy") for name in _CHECKED}
        (part / _CHECKSUMS).write_text(json.dumps(checksums) + "\n")
    return len(arrays["ids"])


def differs(folder: Path, archives: Iterable[Archive], shards: Path) -> bool:
    """Whether a member's index is not what :func:`make_index` would write.

    States of audio files are not compared: they may have changed since.

    Raises:
        CacheError: If it is not there or damaged.
    """
    found, expected = _check_arrays(folder / INDEX), gather(archives, shards)
    return any(not np.array_equal(found[name], expected[name]) for name in _CHECKED)


def gather(archives: Iterable[Archive], shards: Path) -> dict[str, np.ndarray]:
    """Make the arrays of what archives say: name -> array, a part at a time.

    Args:
        archives: They, in the order of their names.
        shards: Their folder.
    """
    parts = {name: [np.array([], dtype)] for name, dtype in _OF_UTTERANCES.items()}
    names: list[tuple[str, int]] = []
    for number, archive in enumerate(archives):
        names.append((archive.path.relative_to(shards).as_posix(), archive.num_bytes))
        entries = archive.entries.values()
        places = [(number, e.num_frames, e.offsets[0], e.offsets[-1]) for e in entries]
        states = [(e.audio.file.num_bytes, e.audio.file.mtime_ns) for e in entries]
        parts["ids"].append(encode_ids(archive.entries))
        parts["places"].append(np.array(places, _PLACE))
        parts["digests"].append(np.array([e.audio.digest for e in entries], "S"))
        parts[_STATES].append(np.array(states, STATE))
    arrays = {name: np.concatenate(parts.pop(name)) for name in _OF_UTTERANCES}
    order = np.argsort(arrays["ids"], kind="stable")
    arrays = {name: array[order] for name, array in arrays.items()}
    longest = max((len(name) for name, _ in names), default=1)
    arrays["archives"] = np.array(names, [("name", f"U{longest}"), ("size", "<i8")])
    return arrays


def _check_arrays(path: Path) -> dict[str, np.ndarray]:
    """Map the arrays of an index, after their checksums.

    Raises:
        CacheError: If one is missing, damaged, or of another length.
    """
    try:
        checksums = read_yaml(path / _CHECKSUMS)  # which JSON is, too
        check_keys(str(path / _CHECKSUMS), checksums, _CHECKED)
        arrays = {}
        for name in (*_CHECKED, _STATES):
            file = path / f"{name}.npy"
            if name in checksums and checksums[name] != _crc32(file):
                raise CacheError(f"{file}: expected another checksum; {_MEND}")
            mapped = np.load(file, mmap_mode="r", allow_pickle=False)
            # As memmap itself, each look at an item would take many times as long.
            arrays[name] = mapped.view(np.ndarray)
    except CacheError:
        raise
    except EnsembleError as error:
        raise CacheError(f"{error}; {_MEND}") from error
    except (OSError, ValueError, EOFError) as error:
        raise CacheError(
            f"{file}: expected an array of the index, found {error}; {_MEND}"
        ) from error
    states, ids = arrays[_STATES], arrays["ids"]
    if states.dtype != STATE or states.shape != ids.shape:
        raise CacheError(f"{file}: expected {len(ids)} states of files; {_MEND}")
    return arrays


def _save(path: Path, array: np.ndarray) -> None:
    # To a file: to a name, NumPy would add its suffix.
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _crc32(path: Path) -> int:
    checksum = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum
