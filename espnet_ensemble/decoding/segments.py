"""Long audio: segments as long as a model knows, cut in pauses.

A model that was trained on utterances knows no recordings: not what comes after the length
of an utterance, nor what comes before its beginning. Segments that begin and end in pauses
are most like what it knows (M. Bain et al., *WhisperX*, Interspeech 2023, cut likewise).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

# Loudness is the mean over that long: longer than the closure of a stop.
_PAUSE_SECONDS = 0.2
# Shortest and longest segment, in typical ones.
_SHORTEST, _LONGEST = 0.25, 2.0
# What a cut in loud speech costs, where a segment of twice the typical length costs 1.
_LOUD_COST = 1.0
# Of that logit, nothing else is seen beside a token.
_SURE = 30.0


@dataclass(frozen=True)
class Segment:
    """A part of a recording.

    Attributes:
        start: First sample.
        end: The one after the last.
    """

    start: int
    end: int


def plan_segments(
    samples: Tensor, frame_samples: int, frame_seconds: float, segment_seconds: float
) -> list[Segment]:
    """Choose segments: quiet where they meet, and about as long as is typical.

    Of all ways to cut, the one is found that costs least (by dynamic programming): a cut
    costs how loud it is there, and a segment the square of how much its length differs
    from the typical one.

    Args:
        samples: Speech, (samples,).
        frame_samples: Samples from one frame of posteriors to the next.
        frame_seconds: The same in seconds.
        segment_seconds: Typical length of a segment. None is longer than twice that.

    Returns:
        Segments in order, with all samples in one of them.

    Example:
        >>> tone = torch.sin(torch.arange(16000) * 0.3)
        >>> speech = torch.cat([tone, torch.zeros(8000), tone])
        >>> plan_segments(speech, 160, 0.01, segment_seconds=1.0)
        [Segment(start=0, end=20000), Segment(start=20000, end=40000)]
    """
    loudness = _loudness(samples, frame_samples, round(_PAUSE_SECONDS / frame_seconds))
    typical = max(segment_seconds / frame_seconds, 1 / _SHORTEST)
    inner = _cheapest_cuts(loudness, typical)
    bounds = [0, *(cut * frame_samples for cut in inner), len(samples)]
    return [Segment(start, end) for start, end in pairwise(bounds)]


def _loudness(samples: Tensor, frame_samples: int, pause_frames: int) -> np.ndarray:
    """Before each frame, and at the end, from 0 (a pause) to 1 (speech): (frames + 1,)."""
    num_frames = len(samples) // frame_samples
    frames = samples[: num_frames * frame_samples].view(-1, frame_samples)
    # Block by block, so that no copy of all samples is made.
    power = torch.cat([x.square().mean(1) for x in frames.split(1000)]).double().numpy()
    sums = np.concatenate([[0.0], power.cumsum()])
    middle = np.arange(num_frames + 1)
    half = max(1, pause_frames // 2)
    first, last = np.maximum(middle - half, 0), np.minimum(middle + half, num_frames)
    mean = (sums[last] - sums[first]) / np.maximum(last - first, 1)
    decibels = 10 * np.log10(mean + 1e-10)
    quiet, loud = np.quantile(decibels, [0.01, 0.9])
    return np.clip((decibels - quiet) / max(loud - quiet, 1e-3), 0, 1)


def _cheapest_cuts(loudness: np.ndarray, typical: float) -> list[int]:
    """Frames to cut before."""
    places = _places(loudness, typical)
    costs = np.full(len(places), np.inf)
    costs[0] = 0.0
    before = np.zeros(len(places), dtype=int)
    for i in range(1, len(places)):
        nearest = np.searchsorted(places, places[i] - _SHORTEST * typical, "right")
        farthest = np.searchsorted(places, places[i] - _LONGEST * typical, "left")
        lengths = (places[i] - places[farthest:nearest]) / typical
        if not len(lengths):
            continue
        paths = costs[farthest:nearest] + (lengths - 1) ** 2
        best = int(paths.argmin())
        before[i] = farthest + best
        costs[i] = paths[best] + _LOUD_COST * loudness[places[i]]
    cuts, i = [], int(before[-1])
    while i:
        cuts.append(int(places[i]))
        i = int(before[i])
    return cuts[::-1]


def _places(loudness: np.ndarray, typical: float) -> np.ndarray:
    """Where it may be cut: where it is quieter than around, and some places in any case."""
    end = len(loudness) - 1
    inner = loudness[1:-1]
    dips = 1 + np.flatnonzero((inner <= loudness[:-2]) & (inner <= loudness[2:]))
    regular = np.arange(0, end, max(1, int(_SHORTEST * typical)))
    return np.union1d(np.union1d(dips, regular), [0, end])


def batch_segments(
    segments: Iterable[Segment], max_samples: float, max_segments: int
) -> Iterator[list[Segment]]:
    """Group segments that follow each other.

    Args:
        segments: Segments in order.
        max_samples: Samples of a batch, with padding, unless a segment has more.
        max_segments: Segments of a batch.

    Example:
        >>> segments = [Segment(0, 4), Segment(4, 6), Segment(6, 12)]
        >>> [len(batch) for batch in batch_segments(segments, 10, max_segments=8)]
        [2, 1]
    """
    batch: list[Segment] = []
    for segment in segments:
        longest = max(x.end - x.start for x in (*batch, segment))
        too_much = longest * (len(batch) + 1) > max_samples
        if batch and (too_much or len(batch) == max_segments):
            yield batch
            batch = []
        batch.append(segment)
    if batch:
        yield batch


def join_segments(
    parts: Iterable[tuple[int, Tensor]], blank_id: int, boundary_id: int | None
) -> Iterator[Tensor]:
    """Join the posteriors of segments, with a word boundary between them.

    An encoder has a frame less for a segment than the segment has steps; in that frame, the
    next one begins, and it is sure of the boundary. (Of an encoder that has as many, the
    segment's last frame is given up for that.) So frames keep their time, and whatever
    reads the posteriors finds the same words.

    Args:
        parts: Of each segment, in order, its first frame in the whole, and its posteriors:
            natural logarithms, (frames, tokens).
        blank_id: Index of CTC's blank.
        boundary_id: Index of the token that stands between words; None: there is none.

    Yields:
        One after the other, the posteriors of the utterance: (frames, tokens) of each
        segment, with what is between it and the one before.
    """
    num_frames, in_word = 0, False
    before: Tensor | None = None
    for first_frame, log_probs in parts:
        if before is not None:
            before = before[: max(0, first_frame - 1 - num_frames)]
            yield before
            num_frames += len(before)
            gap = [blank_id] * (first_frame - num_frames)
            said, heard = _said(before, blank_id), _said(log_probs, blank_id)
            in_word = said[-1] != boundary_id if said else in_word
            if (
                boundary_id is not None
                and in_word
                and heard[:1] not in ([], [boundary_id])
            ):
                gap[-1] = boundary_id
            log_probs = torch.cat([_sure_of(gap, log_probs), log_probs])
        before = log_probs
    if before is not None:
        yield before


def _said(log_probs: Tensor, blank_id: int) -> list[int]:
    return [x for x in log_probs.argmax(1).tolist() if x != blank_id]


def _sure_of(token_ids: list[int], like: Tensor) -> Tensor:
    wanted = one_hot(torch.tensor(token_ids, device=like.device), like.size(1))
    return (_SURE * wanted).log_softmax(1).to(like.dtype)
