"""Training from the feature cache: ESPnet's data type ``feature_cache``."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from espnet_ensemble.errors import name_keys
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.archive import STORAGES, read_feats
from espnet_ensemble.feature_cache.identity import AudioStates, encode_ids
from espnet_ensemble.feature_cache.index import Index, Place
from espnet_ensemble.feature_cache.member import (
    INFO,
    READ_ONLY,
    Member,
    read_complete,
)
from espnet_ensemble.files import PathLike, read_yaml, remove_unfinished, write_yaml
from espnet_ensemble.frames import FrameGrid

#: The longest name of a combination's folder; file systems take 255.
MAX_NAME_BYTES = 200
# What to do about damage that training finds.
_MEND = "run the same extraction again, which mends it"


class FeatureCache(Mapping):
    """utterance's id -> features of all upstreams, as ``EnsembleFrontend`` takes them.

    Features of several upstreams are brought to one frame rate and one length as
    :meth:`espnet_ensemble.ensemble.Ensemble.extract` does, so training from them
    is training from audio.

    No file stays open, so this can be used in several processes. Where features are is mapped
    into memory, which processes share (:mod:`espnet_ensemble.feature_cache.index`).

    Args:
        path: The ``members.yaml`` that extraction wrote.

    Raises:
        CacheError: If a member is not complete, or lacks utterances of another one.

    Attributes:
        members: Where the upstreams' features are.
        data_dir: Where the data directory is that they were extracted from; None: it is
            not known, in a cache of version 0.1.
    """

    def __init__(self, path: PathLike):
        combination = read_combination(path)
        self.data_dir = combination.data_dir
        self.members = [Member.open(folder) for folder in combination.members]
        self._readers = [_Reader(member) for member in self.members]
        self._grid = FrameGrid.common(
            [member.info.features.hop_length for member in self.members]
        )
        sizes = [member.info.features.feature_size for member in self.members]
        ends = list(accumulate(sizes))
        # Of each member; torch's split of them would take as long as opening the file.
        self._columns = list(map(slice, [0, *ends], ends))
        for reader in self._readers[1:]:
            _check_utterances(reader, self._readers[0])
            _check_utterances(self._readers[0], reader)

    def __getitem__(self, utt_id: str) -> np.ndarray:
        """Read an utterance's features.

        Returns:
            (frames, features), float32

        Raises:
            CacheError: If they cannot be read.
            KeyError: If there is no such utterance.
        """
        places = [reader.index[utt_id] for reader in self._readers]
        size = self._columns[-1].stop
        feats = np.empty((self._num_frames(places), size), np.float32)
        for number, columns in enumerate(self._columns):
            part = torch.from_numpy(feats[:, columns])
            repeats = self._grid.repeats[number]
            self._readers[number].read(places[number], part, repeats)
        return feats

    def num_frames(self, utt_id: str) -> int:
        """Look up how many frames an utterance has.

        Raises:
            KeyError: If there is no such utterance.
        """
        return self._num_frames([reader.index[utt_id] for reader in self._readers])

    def archive_numbers(self, utt_ids: Sequence[str]) -> np.ndarray:
        """Look up which utterances lie together on the disk.

        Args:
            utt_ids: They, sorted.

        Returns:
            (utterances,), the number of the first member's archive.

        Raises:
            CacheError: If one is not there.
        """
        return self._readers[0].archive_numbers(utt_ids)

    def archive_paths(self, utt_ids: Sequence[str]) -> list[Path]:
        """Name the archives, of all members, that have some utterances.

        Args:
            utt_ids: They, sorted.

        Raises:
            CacheError: If one is not there.
        """
        return [path for r in self._readers for path in r.archive_paths(utt_ids)]

    def check_audio(self, files: AudioStates) -> None:
        """Compare features with some audio files, as far as these are there.

        Args:
            files: They.

        Raises:
            CacheError: If one has other audio, or cannot be read.
        """
        for reader in self._readers:
            reader.member.check_audio(files, reader.index, may_lack=True)

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers[0].index)

    def __contains__(self, utt_id: object) -> bool:
        return utt_id in self._readers[0].index

    def __len__(self) -> int:
        return len(self._readers[0].index)

    def _num_frames(self, places: Sequence[Place]) -> int:
        return min(
            place.num_frames * repeats
            for place, repeats in zip(places, self._grid.repeats, strict=True)
        )


class _Reader:
    """Reads a member's features."""

    def __init__(self, member: Member):
        info = member.info
        if info.storage not in STORAGES:
            raise CacheError(
                f"{member.folder / INFO}: storage: expected {', '.join(STORAGES)}, found "
                f"{info.storage!r}; is it of a later version?"
            )
        self.member = member
        self.index = Index(member.folder)
        self._storage = STORAGES[info.storage]
        self._size = info.features.feature_size
        self._shards = str(member.shards)

    def archive_numbers(self, utt_ids: Sequence[str]) -> np.ndarray:
        rows = self.index.rows(encode_ids(utt_ids))
        missing = [utt_ids[number] for number in np.flatnonzero(rows < 0).tolist()]
        if missing:
            raise CacheError(
                f"{self.member.folder}: expected features of {name_keys(missing)}, found "
                "none"
            )
        return self.index.archive_numbers()[rows]

    def archive_paths(self, utt_ids: Sequence[str]) -> list[Path]:
        names = self.index.archives[np.unique(self.archive_numbers(utt_ids))]["name"]
        return [self.member.shards / name for name in names.tolist()]

    def read(self, place: Place, out: Tensor, repeats: int) -> None:
        """Read features, (frames, features), and repeat each frame."""
        feats = out
        if repeats > 1:
            feats = torch.empty(-(-len(out) // repeats), self._size)
        path = f"{self._shards}/{place.archive}"  # pathlib's way takes longer
        shape = (place.num_frames, self._size)
        read_feats(path, place.num_bytes, place.offsets, self._storage, shape, feats)
        if repeats > 1:
            out.copy_(feats.repeat_interleave(repeats, dim=0)[: len(out)])


def _check_utterances(reader: _Reader, other: _Reader) -> None:
    if reader.index.has_same_keys(other.index):
        return
    missing: list[str] = sorted(set(other.index).difference(reader.index))
    if missing:
        reason = reader.member.skipped().get(missing[0], _MEND)
        raise CacheError(
            f"{reader.member.folder}: expected the utterances of "
            f"{other.member.folder}, found no {name_keys(missing)}: {reason}"
        )


@dataclass(frozen=True)
class Combination:
    """The content of a ``members.yaml``.

    Attributes:
        members: Folders of the members.
        data_dir: The data directory; None: it is not known.
    """

    members: list[Path]
    data_dir: Path | None = None


def write_combination(
    cache_dir: Path,
    members: Sequence[Member],
    data_dir: Path,
    names: Sequence[str] | None = None,
) -> Path:
    """Write which members' features, one after the other, a frontend takes.

    No other process may be writing it. If it is there already, nothing is written.

    Args:
        cache_dir: The cache.
        members: Of one data set.
        data_dir: The data directory that they were extracted from.
        names: What the combination is called after; None: the members' names. Where each
            layer of an upstream is a member, it is the name of one that has them all.

    Returns:
        Path of the ``members.yaml``, for training.
    """
    names = names or [member.name for member in members]
    path = combination_path(cache_dir, names, members[0].folder.name)
    folders = [member.folder for member in members]
    # Relative to the file: the cache may be moved.
    content = {
        "members": [os.path.relpath(folder, path.parent) for folder in folders],
        "data_dir": os.path.relpath(data_dir, path.parent),
    }
    found = read_yaml(path) if path.exists() else {}
    if found == content:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(path.parent)
        write_yaml(path, content)
    except OSError as error:
        # Without the data directory, training from it is only not checked for its audio.
        if error.errno not in READ_ONLY or found.get("members") != content["members"]:
            raise
    return path


def combination_path(cache_dir: Path, members: Sequence[str], data_set: str) -> Path:
    """Name the ``members.yaml`` of members of a data set.

    Its folder is named after them; where that is longer than a file system may take, by how
    many they are, and a hash.

    Example:
        >>> str(combination_path(Path("feats"), ["a-float16", "b-float16"], "train"))
        'feats/combinations/a-float16+b-float16/train/members.yaml'
        >>> str(combination_path(Path("feats"), 12 * ["wavlm_base-float16"], "train"))
        'feats/combinations/12_members-ae6e9b17/train/members.yaml'
    """
    name = "+".join(members)
    if len(name.encode()) > MAX_NAME_BYTES:
        digest = hashlib.sha256(name.encode()).hexdigest()
        name = f"{len(members)}_members-{digest[:8]}"
    return cache_dir / "combinations" / name / data_set / "members.yaml"


def read_combination(path: PathLike) -> Combination:
    """Read a ``members.yaml``.

    Raises:
        EnsembleError: If it is not there or not what it should be.
    """
    # Version 0.1 wrote no data_dir.
    content = read_complete(path, ["members"], ["data_dir"])
    members, data_dir = content["members"], content.get("data_dir")
    if not isinstance(members, list) or not members:
        raise CacheError(f"{path}: expected a list of members, found {members!r}")

    def resolve(part: Any) -> Path:
        return Path(os.path.normpath(Path(path).parent / str(part)))

    return Combination(
        [resolve(member) for member in members],
        None if data_dir is None else resolve(data_dir),
    )
