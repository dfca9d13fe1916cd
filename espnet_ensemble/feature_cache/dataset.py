"""Training from the feature cache: ESPnet's data type ``feature_cache``."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from espnet_ensemble.data.tables import read_table
from espnet_ensemble.errors import name_keys
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.archive import STORAGES, read_feats, read_values
from espnet_ensemble.feature_cache.member import (
    FEATS,
    INFO,
    NUM_FRAMES,
    Member,
    read_complete,
)
from espnet_ensemble.files import PathLike, remove_unfinished, write_yaml
from espnet_ensemble.frames import FrameGrid


class FeatureCache(Mapping):
    """utterance's id -> features of all upstreams, as ``EnsembleFrontend`` takes them.

    Features of several upstreams are brought to one frame rate and one length as
    :meth:`espnet_ensemble.ensemble.Ensemble.extract` does, so training from them
    is training from audio.

    No file stays open, so this can be used in several processes.

    Args:
        path: The ``members.yaml`` that extraction wrote.

    Raises:
        CacheError: If a member is not complete, or lacks utterances of another one.

    Attributes:
        members: Where the upstreams' features are.
    """

    def __init__(self, path: PathLike):
        self.members = [Member.open(folder) for folder in read_combination(path)]
        self._readers = [_Reader(member) for member in self.members]
        self._grid = FrameGrid.common(
            [member.info.features.hop_length for member in self.members]
        )
        self._utt_ids = dict.fromkeys(self._readers[0].places)
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
        feats = [
            self._grid.repeat(torch.from_numpy(reader.read(utt_id)), index)
            for index, reader in enumerate(self._readers)
        ]
        num_frames = min(map(len, feats))
        return torch.cat([x[:num_frames] for x in feats], dim=1).numpy()

    def __iter__(self) -> Iterator[str]:
        return iter(self._utt_ids)

    def __len__(self) -> int:
        return len(self._utt_ids)


class _Reader:
    """Reads a member's features."""

    def __init__(self, member: Member):
        self.member = member
        self._storage = member.info.storage
        if self._storage not in STORAGES:
            raise CacheError(
                f"{member.folder / INFO}: storage: expected {', '.join(STORAGES)}, found "
                f"{self._storage!r}; is it of a later version?"
            )
        self.places = read_table(member.folder / FEATS)
        path = member.folder / NUM_FRAMES
        self._num_frames = read_values(path, int, "numbers of frames")

    def read(self, utt_id: str) -> np.ndarray:
        written, _, offset = self.places[utt_id].rpartition(":")
        # Where the archive was written is in feats.scp; the cache may have been moved.
        ark = self.member.shards / Path(written).name
        shape = (self._num_frames[utt_id], self.member.info.features.feature_size)
        return read_feats(ark, int(offset), utt_id, shape, self._storage)


def _check_utterances(reader: _Reader, other: _Reader) -> None:
    missing: list[str] = sorted(set(other.places).difference(reader.places))
    if missing:
        raise CacheError(
            f"{reader.member.folder / FEATS}: expected the utterances of "
            f"{other.member.folder / FEATS}, found no {name_keys(missing)}"
        )


def write_combination(cache_dir: Path, members: Sequence[Member]) -> Path:
    """Write which members' features, one after the other, a frontend takes.

    No other process may be writing it.

    Args:
        cache_dir: The cache.
        members: Of one data set.

    Returns:
        Path of the ``members.yaml``, for training.
    """
    combination = "+".join(member.name for member in members)
    folder = cache_dir / "combinations" / combination / members[0].folder.name
    folder.mkdir(parents=True, exist_ok=True)
    remove_unfinished(folder)
    # Relative to the file: the cache may be moved.
    paths = [os.path.relpath(member.folder, folder) for member in members]
    write_yaml(folder / "members.yaml", {"members": paths})
    return folder / "members.yaml"


def read_combination(path: PathLike) -> list[Path]:
    """Read the members' folders from a ``members.yaml``.

    Raises:
        EnsembleError: If it is not there or not what it should be.
    """
    members = read_complete(path, ["members"])["members"]
    if not isinstance(members, list) or not members:
        raise CacheError(f"{path}: expected a list of members, found {members!r}")
    folder = Path(path).parent
    return [Path(os.path.normpath(folder / str(member))) for member in members]
