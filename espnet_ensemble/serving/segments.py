"""Transcripts in pieces of a line or two, as subtitles show them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from espnet_ensemble.decoding.hypothesis import Word

#: Seconds without a word that always part two segments.
PAUSE_SECONDS = 1.0
#: What a segment may have: seconds, and characters (two lines of 42, as is usual).
MAX_SECONDS = 7.0
MAX_CHARS = 84
# CTC models emit a word's last token before its sound ends; and subtitles need a moment.
_LINGER_SECONDS = 0.5


@dataclass(frozen=True)
class Segment:
    """A piece of a transcript.

    Attributes:
        start: When its first word begins, in seconds from the recording's beginning.
        end: When it may go from the screen: a moment after its last word, and before the
            next segment.
        words: Its words, at least one.
    """

    start: float
    end: float
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        """Its words, with spaces between them."""
        return " ".join(word.text for word in self.words)


def split_segments(words: Sequence[Word], duration: float) -> list[Segment]:
    """Divide a transcript at its longest pauses.

    Args:
        words: Its words, in order.
        duration: Seconds of the recording.

    Returns:
        Segments of at most ``MAX_SECONDS`` and ``MAX_CHARS``, unless a single word
        has more.

    Example:
        >>> words = [Word("one", 0.1, 0.3, 1), Word("two", 0.4, 0.6, 1), Word("six", 3, 4, 1)]
        >>> [segment.text for segment in split_segments(words, duration=4.2)]
        ['one two', 'six']
    """
    pieces = list(_pieces(words))
    latest = [*(piece[0].start for piece in pieces[1:]), duration]
    return [
        Segment(piece[0].start, _end(piece, latest[number]), tuple(piece))
        for number, piece in enumerate(pieces)
    ]


def _pieces(words: Sequence[Word]) -> Iterator[Sequence[Word]]:
    todo = [words] if words else []
    while todo:
        piece = todo.pop()
        gaps = [two.start - one.end for one, two in pairwise(piece)]
        if not gaps or (_fits(piece) and max(gaps) < PAUSE_SECONDS):
            yield piece
            continue
        # Of pauses that are equal, the one nearest to the middle.
        middle = (len(gaps) - 1) / 2
        at = max(range(len(gaps)), key=lambda i: (gaps[i], -abs(i - middle))) + 1
        todo += [piece[at:], piece[:at]]


def _fits(piece: Sequence[Word]) -> bool:
    chars = sum(len(word.text) + 1 for word in piece) - 1
    return chars <= MAX_CHARS and piece[-1].end - piece[0].start <= MAX_SECONDS


def _end(piece: Sequence[Word], latest: float) -> float:
    last = piece[-1].end
    return max(last, min(last + _LINGER_SECONDS, latest))
