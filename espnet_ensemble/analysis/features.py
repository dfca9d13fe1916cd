"""Features of layers, read from the feature cache utterance by utterance."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from espnet_ensemble.ensemble import check_sample_rates
from espnet_ensemble.feature_cache.dataset import (
    FeatureCache,
    read_combination,
    write_combination,
)
from espnet_ensemble.feature_cache.extract import ExtractConf, extract_sets
from espnet_ensemble.feature_cache.identity import FeatureIdentity
from espnet_ensemble.feature_cache.index import Index
from espnet_ensemble.feature_cache.member import Member
from espnet_ensemble.files import PathLike
from espnet_ensemble.frames import FrameGrid
from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.normalization import find_normalization


@dataclass(frozen=True)
class LayerFeatures:
    """One hidden state of an upstream, of all utterances.

    Attributes:
        upstream: Its place in the frontend.
        name: What people call the upstream.
        layer: Which hidden state.
        identity: What the features are.
        num_bytes: Size of its archives.
    """

    upstream: int
    name: str
    layer: int
    identity: FeatureIdentity
    num_bytes: int
    _cache: FeatureCache
    _repeats: int
    _num_frames: Mapping[str, int]
    _normalize: str

    @property
    def label(self) -> str:
        """What a layer is called, such as "wavlm:3"."""
        return f"{self.name}:{self.layer}"

    @property
    def about(self) -> list[Any]:
        """What tells it from all others: plain values."""
        return [self.label, self.identity.fingerprint, self.identity.extra_conf]

    @property
    def size(self) -> int:
        """Features per frame."""
        return self.identity.feature_size

    @property
    def utterances(self) -> Iterable[str]:
        """Those that all upstreams have features of."""
        return self._num_frames.keys()

    def num_frames(self, utt_id: str) -> int:
        """Frames of an utterance, the same of all upstreams."""
        return self._num_frames[utt_id]

    def read(self, utt_id: str) -> np.ndarray:
        """Read an utterance's features, normalised.

        Returns:
            (frames, features), float32
        """
        feats = torch.from_numpy(self._cache[utt_id]).unsqueeze(0)
        lengths = torch.tensor([feats.size(1)])
        feats = find_normalization(self._normalize)(feats, lengths)
        if self._repeats > 1:
            feats = feats.repeat_interleave(self._repeats, dim=1)
        return feats[0, : self._num_frames[utt_id]].numpy()


def extract_layers(
    data_dir: Path,
    frontend: FrontendConf,
    cache_dir: PathLike,
    conf: ExtractConf,
) -> list[list[LayerFeatures]]:
    """Run each upstream once, where it has not been, and open the features of its layers.

    Args:
        data_dir: The speech.
        frontend: The upstreams; ``normalize`` is applied.
        cache_dir: The cache.
        conf: How, and which layers.

    Returns:
        The layers of each upstream, all with the same number of frames of an utterance, as
        those of upstreams with larger hops are repeated.

    Raises:
        EnsembleError: As extraction; also if sample rates differ.
    """
    members = []
    for member in frontend.members():
        (path,) = extract_sets([data_dir], member.to_dict(), cache_dir, conf)
        members.append([Member.open(f) for f in read_combination(path).members])
    first = [layers[0].info.features for layers in members]
    check_sample_rates([f.upstream for f in first], [f.fs for f in first])
    grid = FrameGrid.common([f.hop_length for f in first])
    indices = [Index(layers[0].folder) for layers in members]
    num_frames = {
        key: min(
            index[key].num_frames * repeats
            for index, repeats in zip(indices, grid.repeats, strict=True)
        )
        for key in indices[0]
        if all(key in index for index in indices)
    }
    return [
        [
            LayerFeatures(
                upstream=index,
                name=name,
                layer=member.info.features.layers[0],
                identity=member.info.features,
                num_bytes=sum(map(os.path.getsize, member.archive_paths())),
                _cache=_open(Path(cache_dir), member, data_dir),
                _repeats=grid.repeats[index],
                _num_frames=num_frames,
                _normalize=frontend.normalize,
            )
            for member in layers
        ]
        for index, (name, layers) in enumerate(
            zip(frontend.member_names, members, strict=True)
        )
    ]


def _open(cache_dir: Path, member: Member, data_dir: Path) -> FeatureCache:
    with member.lock():
        return FeatureCache(write_combination(cache_dir, [member], data_dir))


@dataclass(frozen=True)
class Frames:
    """Features of some utterances, one after the other, mapped from a file.

    Attributes:
        values: (frames of all, features), float16
        places: utterance's id -> its first frame, and the one after its last.
        mean: Of the frames, (features,), float32.
        scale: Their standard deviation.
    """

    values: np.ndarray
    places: Mapping[str, tuple[int, int]]
    mean: np.ndarray
    scale: np.ndarray

    def of(self, utt_id: str) -> torch.Tensor:
        """An utterance's features with mean 0 and variance 1, (frames, features)."""
        first, last = self.places[utt_id]
        feats = (self.values[first:last].astype(np.float32) - self.mean) / self.scale
        return torch.from_numpy(feats)


@contextmanager
def map_frames(
    layers: Sequence[LayerFeatures], utt_ids: Iterable[str], seen: Iterable[str]
) -> Iterator[Frames]:
    """Lay features side by side in a temporary file: none of them need be in memory.

    Args:
        layers: What to read.
        utt_ids: Of these utterances.
        seen: Those that mean and variance are of.
    """
    utt_ids, seen = list(utt_ids), set(seen)
    size, position, places = sum(layer.size for layer in layers), 0, {}
    for key in utt_ids:
        places[key] = (position, position + layers[0].num_frames(key))
        position = places[key][1]
    with TemporaryDirectory(prefix="espnet_ensemble-") as folder:
        values = np.lib.format.open_memmap(
            f"{folder}/frames.npy", "w+", np.float16, (position, size)
        )
        count, sums, squares = 0, np.zeros(size), np.zeros(size)
        for key in utt_ids:
            feats = np.concatenate([layer.read(key) for layer in layers], axis=1)
            values[slice(*places[key])] = feats
            if key in seen:
                count += len(feats)
                sums += feats.sum(axis=0, dtype=np.float64)
                squares += np.square(feats, dtype=np.float64).sum(axis=0)
        mean = sums / max(1, count)
        variance = (squares / max(1, count) - mean**2).clip(min=1e-10)
        yield Frames(
            values, places, mean.astype(np.float32), np.sqrt(variance).astype("f4")
        )
