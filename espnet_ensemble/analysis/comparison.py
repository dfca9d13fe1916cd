"""Every layer of every upstream against every other, over frames that stream by."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any

import numpy as np

from espnet_ensemble.analysis.features import LayerFeatures
from espnet_ensemble.analysis.moments import Moments
from espnet_ensemble.analysis.ridge import Fold, cross_validated_r2
from espnet_ensemble.analysis.similarity import Whitening, linear_cka, svcca

#: Utterances are divided into so many parts to cross-validate.
FOLDS = 4


@dataclass(frozen=True)
class Similarities:
    """How alike all layers are.

    Attributes:
        labels: The layers.
        cka: Linear CKA, (layers, layers).
        svcca: Mean canonical correlation, (layers, layers).
        frames: How many frames it was computed of.
    """

    labels: list[str]
    cka: list[list[float]]
    svcca: list[list[float]]
    frames: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dict(vars(self))


def compare_layers(
    layers: Sequence[LayerFeatures],
    utt_ids: Sequence[str],
    max_frames: int,
    max_bytes: int,
) -> Iterator[float | Similarities]:
    """Compute similarities; memory is for so many covariances as fit, not for frames.

    Args:
        layers: All layers of all upstreams.
        utt_ids: The utterances.
        max_frames: How many frames to look at; of more, every so-manieth utterance is.
        max_bytes: Memory for covariances at a time. Where they do not fit, the features are
            read again for the next.

    Yields:
        Shares of the work that are done, and last the result.
    """
    total = sum(layers[0].num_frames(key) for key in utt_ids)
    utt_ids = utt_ids[:: max(1, -(-total // max_frames))]
    groups = _groups([layer.size for layer in layers], max_bytes)
    whitenings: dict[int, Whitening] = {}
    own: dict[int, np.ndarray] = {}
    number = len(layers)
    cka, cca = np.eye(number), np.eye(number)
    # Those on the diagonal come first: the others need what they find.
    tiles = [(g, g) for g in groups]
    tiles += [(g, h) for i, g in enumerate(groups) for h in groups[i + 1 :]]
    frames = 0
    for rows, columns in tiles:
        moments = _tile(layers, rows, columns, utt_ids)
        covariance, frames = moments.covariance, moments.count
        places = _places(layers, rows), _places(layers, columns)
        if rows is columns:
            for i in rows:
                own[i] = covariance[places[0][i], places[1][i]]
                whitenings[i] = Whitening.of(own[i])
        for i in rows:
            for j in columns:
                if j <= i:
                    continue
                xy = covariance[places[0][i], places[1][j]]
                cka[i, j] = cka[j, i] = linear_cka(own[i], xy, own[j])
                cca[i, j] = cca[j, i] = svcca(whitenings[i], xy, whitenings[j])
        yield 1 / len(tiles)
    labels = [layer.label for layer in layers]
    yield Similarities(labels, cka.tolist(), cca.tolist(), frames)


def _groups(sizes: Sequence[int], max_bytes: int) -> list[range]:
    """Layers in a row whose covariances with as many others fit into the memory."""
    most = max(int((max_bytes / 8) ** 0.5), max(sizes))
    starts, taken = [0], 0
    for index, size in enumerate(sizes):
        if taken + size > most:
            starts.append(index)
            taken = 0
        taken += size
    return [range(*pair) for pair in pairwise([*starts, len(sizes)])]


def _places(layers: Sequence[LayerFeatures], group: range) -> dict[int, slice]:
    ends = np.cumsum([0, *(layers[i].size for i in group)])
    return {
        index: slice(int(first), int(last))
        for index, (first, last) in zip(group, pairwise(ends), strict=True)
    }


def _tile(
    layers: Sequence[LayerFeatures],
    rows: range,
    columns: range,
    utt_ids: Sequence[str],
) -> Moments:
    moments = Moments.zeros(
        sum(layers[i].size for i in rows), sum(layers[i].size for i in columns)
    )
    for batch in _batches(layers[0], utt_ids):
        x = np.concatenate([_read(layers, rows, key) for key in batch])
        if rows is columns:
            moments.add(x, x)
        else:
            moments.add(x, np.concatenate([_read(layers, columns, k) for k in batch]))
    return moments


def _batches(layer: LayerFeatures, utt_ids: Sequence[str]) -> Iterator[list[str]]:
    """A product of many frames is quicker than many products of few."""
    batch, frames = [], 0
    for key in utt_ids:
        batch.append(key)
        frames += layer.num_frames(key)
        if frames > 1000:
            yield batch
            batch, frames = [], 0
    if batch:
        yield batch


def _read(layers: Sequence[LayerFeatures], group: range, key: str) -> np.ndarray:
    return np.concatenate([layers[i].read(key) for i in group], axis=1)


@dataclass(frozen=True)
class Predictions:
    """How well each upstream's layer is predicted from another's.

    Attributes:
        labels: The layers.
        r2: Share of the variance of the second that the first predicts, in cross-validation,
            (layers, layers).
    """

    labels: list[str]
    r2: list[list[float]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dict(vars(self))


def predict_layers(
    layers: Sequence[LayerFeatures], utt_ids: Sequence[str]
) -> Iterator[float | Predictions]:
    """Predict each of some layers from each other, by ridge regression.

    Args:
        layers: One of each upstream.
        utt_ids: The utterances.

    Yields:
        Shares of the work that are done, and last the result.
    """
    parts = [utt_ids[number::FOLDS] for number in range(FOLDS)]
    number = len(layers)
    r2 = np.eye(number)
    own = []
    for index in range(number):
        own.append([_pair(layers, index, index, part) for part in parts])
        yield 1 / (number * (number + 1) / 2)
    for i in range(number):
        for j in range(i + 1, number):
            crossed = [_pair(layers, i, j, part) for part in parts]
            r2[i, j] = _r2(own[i], crossed, own[j])
            r2[j, i] = _r2(own[j], [_turned(m) for m in crossed], own[i])
            yield 1 / (number * (number + 1) / 2)
    yield Predictions([layer.label for layer in layers], r2.tolist())


def _pair(
    layers: Sequence[LayerFeatures], i: int, j: int, utt_ids: Sequence[str]
) -> Moments:
    rows = range(i, i + 1)
    return _tile(layers, rows, rows if i == j else range(j, j + 1), utt_ids)


def _turned(moments: Moments) -> Moments:
    return Moments(moments.count, moments.y, moments.x, moments.xy.T)


def _r2(
    inputs: Sequence[Moments], crossed: Sequence[Moments], targets: Sequence[Moments]
) -> float:
    folds = [
        Fold(xx, xy, np.diagonal(yy.xy))
        for xx, xy, yy in zip(inputs, crossed, targets, strict=True)
        if xx.count
    ]
    if len(folds) < 2 or not reduce(add, folds).xx.count:
        return 0.0
    return cross_validated_r2(folds)[0]
