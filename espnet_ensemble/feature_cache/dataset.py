"""Training from the feature cache: ESPnet's data type ``feature_cache``."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from espnet_ensemble.data.tables import read_table
from espnet_ensemble.feature_cache.store import (
    INFO,
    STORAGES,
    CacheError,
    MemberInfo,
    name_keys,
    read_combination,
    read_feats,
)
from espnet_ensemble.files import PathLike
from espnet_ensemble.frames import FrameGrid


class FeatureCache(Mapping):
    """utterance -> features of all upstreams, as ``EnsembleFrontend`` takes them.

    Features of several upstreams are brought to one frame rate and one length as
    :meth:`espnet_ensemble.ensemble.Ensemble.extract` does, so training from them
    is training from audio.

    No file stays open, so this can be used in several processes.

    Args:
        path: The ``members.yaml`` that extraction wrote.

    Raises:
        CacheError: If a member is not complete, or lacks utterances of another one.
    """

    def __init__(self, path: PathLike):
        self._members = [_Member(folder) for folder in read_combination(path)]
        self._grid = FrameGrid.common([m.info.hop_length for m in self._members])
        self._utterances = dict.fromkeys(self._members[0].places)
        for member in self._members[1:]:
            _check_utterances(member, self._members[0])
            _check_utterances(self._members[0], member)

    def __getitem__(self, utterance: str) -> np.ndarray:
        """Read an utterance's features.

        Returns:
            (frames, features), float32

        Raises:
            CacheError: If they cannot be read.
            KeyError: If there is no such utterance.
        """
        feats = [
            self._grid.repeat(torch.from_numpy(member.read(utterance)), index)
            for index, member in enumerate(self._members)
        ]
        num_frames = min(map(len, feats))
        return torch.cat([x[:num_frames] for x in feats], dim=1).numpy()

    def __iter__(self) -> Iterator[str]:
        return iter(self._utterances)

    def __len__(self) -> int:
        return len(self._utterances)


class _Member:
    """One upstream's features of a data set."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.info = MemberInfo.read(folder / INFO)
        if self.info.storage not in STORAGES:
            raise CacheError(
                f"{folder / INFO}: storage: expected {', '.join(STORAGES)}, found "
                f"{self.info.storage!r}; is it of a later version?"
            )
        self.places = read_table(folder / "feats.scp")
        self._num_frames = read_table(folder / "utt2num_frames")

    def read(self, utterance: str) -> np.ndarray:
        ark, _, offset = self.places[utterance].rpartition(":")
        # Where the archive was written is in feats.scp; the cache may have been moved.
        ark = self.folder / "shards" / Path(ark).name
        shape = (int(self._num_frames[utterance]), self.info.feature_size)
        return read_feats(ark, int(offset), utterance, shape, self.info.storage)


def _check_utterances(member: _Member, other: _Member) -> None:
    missing: list[str] = sorted(set(other.places).difference(member.places))
    if missing:
        raise CacheError(
            f"{member.folder / 'feats.scp'}: expected the utterances of "
            f"{other.folder / 'feats.scp'}, found no {name_keys(missing)}"
        )
