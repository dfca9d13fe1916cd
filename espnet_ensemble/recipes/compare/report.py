"""A comparison as text for a terminal."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tabulate import tabulate

from espnet_ensemble.recipes.compare.comparison import Comparison, Row, Utterance
from espnet_ensemble.recipes.sclite import count_columns, pad
from espnet_ensemble.recipes.scoring import Pair

# Columns of a terminal for a value of a configuration.
_WIDEST = 40

TITLES = ("", "system", "WER", "95 %", "Sub", "Del", "Ins", "S.Err", "p")


def render(comparison: Comparison, number: int) -> str:
    """Lay out a comparison.

    Args:
        comparison: What to tell.
        number: Utterances to show of each kind, at most.
    """
    parts = [heading(comparison), results_table(comparison), oracle_line(comparison)]
    if comparison.differences:
        parts += ["What differs in their configurations:", settings_table(comparison)]
    for title, utterances in (
        (differing_title(comparison), comparison.differing),
        (suspicious_title(comparison), comparison.suspicious),
    ):
        if utterances:
            parts += [title, *map(_lay_out, utterances[:number])]
    return "\n\n".join(parts)


def heading(comparison: Comparison) -> str:
    """The dataset and its size."""
    counts = comparison.rows[0].counts
    return f"{comparison.dataset}: {counts.sentences} utterances, {counts.words} words"


def cells(row: Row) -> list[str]:
    """A system's line, below ``TITLES``."""
    percent = row.counts.percentages
    shares = percent.substitutions, percent.deletions, percent.insertions
    return [
        str(row.number),
        row.name,
        f"{row.wer:.2f}",
        f"{row.interval.low:.2f} to {row.interval.high:.2f}",
        *(f"{share:.1f}" for share in (*shares, percent.wrong_sentences)),
        "baseline" if row.p is None else f"{row.p:.4f}",
    ]


def results_table(comparison: Comparison) -> str:
    """Error rates of all systems."""
    return _table(map(cells, comparison.rows), TITLES, ["right", "left"])


def settings_table(comparison: Comparison) -> str:
    """What differs in their configurations: a line for each key."""
    titles = ["", *(str(row.number) for row in comparison.rows)]
    lines = ([key, *values] for key, values in comparison.differences.items())
    return _table(lines, titles, ["left"] * len(titles), maxcolwidths=_WIDEST)


def oracle_line(comparison: Comparison) -> str:
    """What a perfect combination could reach."""
    oracle, best = comparison.oracle, comparison.rows[0]
    return (
        f"The best system for each utterance: {oracle.utterance_wer:.2f} %; the best word "
        f"at each place: {oracle.word_wer:.2f} %. That much a perfect combination could "
        f"reach, where {best.number} has {best.wer:.2f} %."
    )


def differing_title(comparison: Comparison) -> str:
    """What the list of utterances is that some recognise better than others."""
    return (
        f"{len(comparison.differing)} utterances that some recognise better than others, "
        "the widest gap first; errors in brackets:"
    )


def suspicious_title(comparison: Comparison) -> str:
    """What the list of utterances is whose reference may be wrong."""
    return (
        f"{len(comparison.suspicious)} utterances in which all agree, and not with the "
        "reference: is that right?"
    )


def _table(
    lines: Iterable[Sequence[str]],
    titles: Sequence[str],
    align: list[str],
    **options: Any,
) -> str:
    align = align + ["right"] * (len(titles) - len(align))
    return tabulate(
        list(lines), titles, "github", disable_numparse=True, colalign=align, **options
    )


def _lay_out(utterance: Utterance) -> str:
    """An utterance: a line for the reference, and one for each system."""
    lines = [["said"], *([str(n)] for n, _ in enumerate(utterance.errors, start=1))]
    lines[0] += [column.ref or "*" for column in utterance.columns]
    for column in utterance.columns:
        for line, hyp in zip(lines[1:], column.hyps, strict=True):
            line.append(_mark(column.ref, hyp))
    widths = [max(map(count_columns, texts)) for texts in zip(*lines, strict=True)]
    return "\n".join([utterance.utt_id, *_pad_all(lines, widths)])


def _pad_all(lines: list[list[str]], widths: list[int]) -> Iterator[str]:
    for line in lines:
        texts = (pad(text, width) for text, width in zip(line, widths, strict=True))
        yield f"  {' '.join(texts)}".rstrip()


def _mark(ref: str | None, hyp: str | None) -> str:
    if ref is None and hyp is None:
        return ""
    return f"{hyp}" if Pair(ref, hyp).kind == "C" else f"[{hyp or ''}]"
