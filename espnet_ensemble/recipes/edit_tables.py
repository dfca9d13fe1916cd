"""sclite's alignments of many utterances at once: a table of gains in a band, by NumPy.

One step makes a row of the tables of all utterances. An alignment of least cost stays near the
diagonal, as far as it has insertions or deletions; so does the band.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from rapidfuzz.distance import Indel, Levenshtein

# How to go back: by what all but equal tokens say.
_SUBSTITUTION, _INSERTION, _DELETION = 1, 2, 3
# No gain is as low.
_NOWHERE = -20_000
#: Utterances whose band is wider, or which have more tokens, are not for these tables.
MAX_WIDTH, MAX_TOKENS = 96, 3_000


class Edit(NamedTuple):
    """A substitution, deletion or insertion, and where in the reference and the hypothesis.

    On the side that has no token, it is where the next one is.
    """

    kind: Literal["S", "D", "I"]
    ref: int
    hyp: int


def find_band(ref: str, hyp: str) -> tuple[int, int]:
    """Between which diagonals (columns less rows) the alignments of least cost are.

    Args:
        ref: Tokens that were said, as characters.
        hyp: Tokens that were recognised.
    """
    shift = len(hyp) - len(ref)
    # An alignment with G insertions and deletions, and S substitutions, costs 3 G + 4 S. G + 2 S
    # is not less than the indel distance, so G is at most the cost less twice that distance.
    indel = Indel.distance(ref, hyp)
    errors = Levenshtein.editops(ref, hyp)
    substitutions = sum(error.tag == "replace" for error in errors)
    cost = min(3 * len(errors) + substitutions, 3 * indel)
    spare = (cost - 2 * indel - abs(shift)) // 2
    return min(0, shift) - spare, max(0, shift) + spare


def trace_all(
    texts: Sequence[tuple[str, str]], bands: Sequence[tuple[int, int]]
) -> Iterator[list[Edit]]:
    """Find the alignments that sclite finds.

    Args:
        texts: References and hypotheses, tokens as characters.
        bands: The lowest and the highest diagonal of each: tables are as wide as the widest.

    Yields:
        The errors of each, from the last to the first.
    """
    lowest = np.fromiter((low for low, _ in bands), int, len(bands))
    width = max(high - low for low, high in bands) + 1
    moves = _moves(texts, lowest, width).tobytes()
    rows = len(moves) // (len(texts) * width)
    for number, (ref, hyp) in enumerate(texts):
        low = bands[number][0]
        yield _trace(moves, rows, number * width - low, len(ref), len(hyp))


def _trace(moves: bytes, rows: int, first: int, row: int, column: int) -> list[Edit]:
    """Go back from the end; ``first`` is the place of the diagonal 0."""
    edits: list[Edit] = []
    while row and column:
        start = (first + column - row) * rows
        # Equal tokens stand for each other: on to the next that are not, or to the edge.
        edge = row - column if row > column else 0
        equal = row - edge - len(moves[start + edge : start + row].rstrip(b"\0"))
        row, column = row - equal, column - equal
        if row == edge:
            break
        move = moves[start + row - 1]
        if move == _SUBSTITUTION:
            row, column = row - 1, column - 1
            edits.append(Edit("S", row, column))
        elif move == _INSERTION:
            column -= 1
            edits.append(Edit("I", row, column))
        else:
            row -= 1
            edits.append(Edit("D", row, column))
    edits += [Edit("D", place, 0) for place in range(row - 1, -1, -1)]
    edits += [Edit("I", 0, place) for place in range(column - 1, -1, -1)]
    return edits


def _moves(
    texts: Sequence[tuple[str, str]], lowest: np.ndarray, width: int
) -> np.ndarray:
    """How to go back from every cell of the bands: (texts, diagonals, rows)."""
    rows, number = max(len(ref) for ref, _ in texts), len(texts)
    refs = _characters([ref for ref, _ in texts], 0, rows, 0xFFFFFFFF)
    # Row r of a text has the columns from r + lowest on.
    hyps = _characters([hyp for _, hyp in texts], -lowest, rows + width - 1, 0xFFFFFFFE)
    windows = sliding_window_view(hyps, width, axis=0).transpose(0, 2, 1)[:rows]
    equal = windows == refs[:rows, None]
    # What a step along the diagonal gains.
    diagonal = equal.astype(np.int16)
    diagonal *= 2
    diagonal += 1
    # The last of each row is of no diagonal.
    gains = np.full((rows + 1, width + 1, number), _NOWHERE, np.int16)
    place = np.arange(width)[:, None]
    gains[0, :width][place >= -lowest] = 0
    before_first = -int(lowest.min())
    for row in range(rows):
        before, best = gains[row], gains[row + 1, :width]
        np.add(before[:width], diagonal[row], out=best)
        np.maximum(best, before[1:], out=best)
        if row < before_first - 1:  # some have columns before the first
            best[place < -lowest - row - 1] = _NOWHERE
        np.maximum.accumulate(best, axis=0, out=best)
    return _choose(gains, equal)


def _choose(gains: np.ndarray, equal: np.ndarray) -> np.ndarray:
    """What sclite prefers among the steps that lose nothing."""
    best = gains[1:, :-1]
    other = best != gains[:-1, :-1] + np.int16(1)
    moves = other.view(np.uint8) + np.uint8(_SUBSTITUTION)
    moves[:, 1:] += other[:, 1:] & (best[:, 1:] != best[:, :-1])
    moves[:, 0] += other[:, 0]
    moves *= ~equal
    return np.ascontiguousarray(moves.transpose(2, 1, 0))


def _characters(
    texts: list[str], first: int | np.ndarray, size: int, filler: int
) -> np.ndarray:
    """Texts as columns of numbers, each from its place on: (size, texts), uint32."""
    lengths = np.fromiter(map(len, texts), int, len(texts))
    size = max(size, int(np.max(first + lengths)))
    table = np.full((len(texts), size), filler, np.uint32)
    start, places = np.broadcast_to(first, lengths.shape)[:, None], np.arange(size)
    is_there = (places >= start) & (places < start + lengths[:, None])
    table[is_there] = np.frombuffer(
        "".join(texts).encode("utf-32-le", "surrogatepass"), "<u4"
    )
    return np.ascontiguousarray(table.T)
