"""Long audio: when it is decoded in parts, and windows over features.

Memory and time of self-attention grow with the square of an utterance's length. Of parts
they do not, and what is joined comes in chunks: nothing but the speech itself is in memory
as a whole. Waveforms are cut in pauses (:mod:`espnet_ensemble.decoding.segments`). Cached
features do not tell where it is quiet: there, neighbouring windows share some seconds;
somewhere in their middle, where both have seen enough of what is around, one takes over
from the other: where both are surest that nothing is said.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from heapq import nlargest

import torch
from torch import Tensor
from torch.nn.functional import max_pool1d

from espnet_ensemble.decoding.hypothesis import Hypothesis
from espnet_ensemble.errors import EnsembleError

# A pause of this length is looked for, to join in.
_PAUSE_SECONDS = 0.3


@dataclass(frozen=True)
class LongAudioConf:
    """When speech is decoded in parts, and in which.

    Attributes:
        long_seconds: Speech that is longer.
        segment_seconds: Length that segments of waveforms shall have, more or less: that
            of an utterance that the model was trained on.
        window_seconds: Length of a window over features.
        overlap_seconds: What neighbouring windows share.

    Raises:
        EnsembleError: If a number is not above 0, or windows would not go on, or be longer
            than what is long.
    """

    long_seconds: float = 60.0
    segment_seconds: float = 15.0
    window_seconds: float = 40.0
    overlap_seconds: float = 8.0

    @classmethod
    def of(cls, utt_seconds: float) -> "LongAudioConf":
        """For a model that was trained on utterances of that length, on average.

        Example:
            >>> LongAudioConf.of(7.5).long_seconds
            30.0
        """
        usual = cls()
        factor = utt_seconds / usual.segment_seconds
        return cls(
            *(factor * getattr(usual, each.name) for each in fields(usual)),
        )

    def __post_init__(self):
        if not self.segment_seconds > 0:
            raise EnsembleError(
                "segment_seconds: expected a number above 0, found "
                f"{self.segment_seconds}"
            )
        if not 0 < self.overlap_seconds <= self.window_seconds / 2:
            raise EnsembleError(
                f"overlap_seconds: expected up to half of window_seconds "
                f"({self.window_seconds}), found {self.overlap_seconds}"
            )
        if self.window_seconds > self.long_seconds:
            raise EnsembleError(
                f"window_seconds: expected up to long_seconds ({self.long_seconds}), "
                f"found {self.window_seconds}"
            )


@dataclass(frozen=True)
class Window:
    """A part of an utterance.

    Attributes:
        start: First item, a sample or a frame of features.
        end: The one after the last.
        first_frame: Frame of the utterance's posteriors that the part's first one is.
    """

    start: int
    end: int
    first_frame: int


def plan_windows(
    num_items: int, items_per_frame: int, window_frames: int, overlap_frames: int
) -> list[Window]:
    """Cover an utterance with windows.

    Args:
        num_items: Its length, in samples or frames of features.
        items_per_frame: Items from one frame of posteriors to the next.
        window_frames: Frames of a window.
        overlap_frames: Frames that neighbouring windows share.

    Returns:
        Windows, all but the last of one length. The last is longer than the overlap, and
        may be as much longer than the others as that.

    Example:
        >>> plan_windows(23, items_per_frame=2, window_frames=6, overlap_frames=2)
        [Window(start=0, end=12, first_frame=0), Window(start=8, end=23, first_frame=4)]
    """
    step, first = window_frames - overlap_frames, 0
    windows: list[Window] = []
    while True:
        start, end = first * items_per_frame, (first + window_frames) * items_per_frame
        if num_items - end <= overlap_frames * items_per_frame:
            return [*windows, Window(start, num_items, first)]
        windows.append(Window(start, end, first))
        first += step


def join_windows(
    parts: Iterable[tuple[Window, Tensor]], blank_id: int, frame_seconds: float
) -> Iterator[Tensor]:
    """Join the posteriors of windows.

    Args:
        parts: Windows in order, each overlapping the next, and their posteriors: natural
            logarithms, (frames, tokens).
        blank_id: Index of CTC's blank.
        frame_seconds: Seconds from one frame to the next.

    Yields:
        One after the other, the posteriors of the utterance: (frames, tokens) of each
        window, up to where the next takes over.
    """
    pause_frames = max(1, round(_PAUSE_SECONDS / frame_seconds))
    before, begin = None, 0  # what is not given yet, and its first frame
    for window, log_probs in parts:
        if before is not None:
            shared = window.first_frame - begin
            ours, theirs = before[shared:, blank_id], log_probs[:, blank_id]
            cut = _find_pause(ours, theirs[: len(ours)], pause_frames)
            yield before[: shared + cut]
            log_probs, begin = log_probs[cut:], window.first_frame + cut
        before = log_probs
    if before is not None:
        yield before


def join_hypotheses(parts: Sequence[list[Hypothesis]], nbest: int) -> list[Hypothesis]:
    """Put what was found in the chunks of an utterance one after the other.

    Args:
        parts: The n-best of each chunk.
        nbest: How many to return, at most.

    Returns:
        The best combinations, the best first. Scores are added.

    Example:
        >>> a, b = Hypothesis((1,), -1.0), Hypothesis((2,), -2.5)
        >>> [h.token_ids for h in join_hypotheses([[a, b], [a, b]], nbest=2)]
        [(1, 1), (1, 2)]
    """

    def combine(left: list[Hypothesis], right: list[Hypothesis]) -> list[Hypothesis]:
        both = (
            Hypothesis(one.token_ids + two.token_ids, one.score + two.score)
            for one in left
            for two in right
        )
        return nlargest(nbest, both, key=lambda hypothesis: hypothesis.score)

    return reduce(combine, parts, [Hypothesis((), 0.0)])


def _find_pause(ours: Tensor, theirs: Tensor, pause_frames: int) -> int:
    """The middle of the pause that both windows are surest of, far from both ends.

    Args:
        ours: Log-probability of the blank in the frames that both windows have, (frames,).
        theirs: What the other window says of them.
        pause_frames: Frames of a pause.
    """
    frames = len(ours)
    margin = frames // 4
    unsure = -torch.minimum(ours, theirs[:frames])
    kernel = min(pause_frames | 1, (frames - 1) | 1)  # odd: it has a middle
    worst = max_pool1d(unsure[None], kernel, stride=1, padding=kernel // 2)[0]
    middle = worst[margin : max(frames - margin, margin + 1)]
    return margin + int(middle.argmin())
