"""A comparison as an HTML page that stands alone: no other file, no script."""

from collections.abc import Iterable, Sequence
from html import escape

from espnet_ensemble.recipes.compare import report
from espnet_ensemble.recipes.compare.comparison import Comparison, Row, Utterance
from espnet_ensemble.recipes.scoring import Pair

_STYLE = """\
body { font: 15px/1.4 sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em;
       color: #222; background: #fff; }
table { border-collapse: collapse; margin: 0.5em 0; }
th, td { padding: 0.15em 0.5em; text-align: left; vertical-align: top; }
.results td, .results th, .settings td, .settings th { border-bottom: 1px solid #ddd; }
.scroll { overflow-x: auto; }
.bar { display: inline-block; height: 0.7em; background: #cdd9e5; position: relative; }
.bar i { position: absolute; top: 0; height: 100%; background: #4a78a8; }
.words td { border-left: 1px solid #eee; white-space: nowrap; }
.words tr:first-child { background: #f4f4f4; }
.S { background: #ffd9a8; } .D { background: #ffc9c9; } .I { background: #d5d0ff; }
summary { cursor: pointer; font-family: monospace; }
"""
_LEGEND = (
    '<p>Errors: <span class="S">another word</span>, <span class="D">no word</span>, '
    '<span class="I">a word too many</span>.</p>'
)


def render_page(comparisons: Sequence[Comparison]) -> str:
    """Make the page.

    Args:
        comparisons: Of each dataset; each gets a section, with all of its utterances that
            the systems recognise differently.
    """
    title = "Comparison of systems"
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{title}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{title}</h1>",
            *(_section(comparison) for comparison in comparisons),
            "</body></html>",
            "",
        ]
    )


def _section(comparison: Comparison) -> str:
    parts = [f"<h2>{escape(report.heading(comparison))}</h2>", _results(comparison)]
    parts.append(f"<p>{escape(report.oracle_line(comparison))}</p>")
    if comparison.differences:
        parts += [
            "<h3>What differs in their configurations</h3>",
            _settings(comparison),
        ]
    for title, utterances in (
        (report.differing_title(comparison), comparison.differing),
        (report.suspicious_title(comparison), comparison.suspicious),
    ):
        if utterances:
            parts += [f"<h3>{escape(title.removesuffix(':'))}</h3>", _LEGEND]
            parts += map(_utterance, utterances)
    return "\n".join(parts)


def _results(comparison: Comparison) -> str:
    widest = max(row.interval.high for row in comparison.rows) or 1.0
    lines = [[*map(escape, report.TITLES), ""]]
    for row in comparison.rows:
        lines.append([*map(escape, report.cells(row)), _bar(row, widest)])
    return _table("results", lines)


def _bar(row: Row, widest: float) -> str:
    """The error rate as a bar, and the interval inside and beyond it."""
    wer, low, high = (
        100 * rate / widest for rate in (row.wer, row.interval.low, row.interval.high)
    )
    return (
        '<div style="width: 15em">'
        f'<div class="bar" style="width: {wer:.1f}%">'
        f'<i style="left: {100 * low / (wer or 1):.1f}%; '
        f'width: {100 * (high - low) / (wer or 1):.1f}%; opacity: 0.5"></i></div></div>'
    )


def _settings(comparison: Comparison) -> str:
    lines = [["", *(str(row.number) for row in comparison.rows)]]
    for key, values in comparison.differences.items():
        lines.append([escape(key), *map(escape, values)])
    return _table("settings", lines)


def _table(kind: str, lines: Iterable[Sequence[str]]) -> str:
    """A table of cells that are escaped already, the first line of which has titles."""
    titles, *rest = lines
    rows = ["".join(f"<th>{cell}</th>" for cell in titles)]
    rows += ["".join(f"<td>{cell}</td>" for cell in line) for line in rest]
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="scroll"><table class="{kind}">\n{body}\n</table></div>'


def _utterance(utterance: Utterance) -> str:
    errors = ", ".join(map(str, utterance.errors))
    said = "".join(f"<td>{escape(ref or '')}</td>" for ref, _ in utterance.columns)
    rows = [f"<tr><td>said</td>{said}</tr>"]
    for index, _ in enumerate(utterance.errors):
        words = (_word(ref, hyps[index]) for ref, hyps in utterance.columns)
        rows.append(f"<tr><td>{index + 1}</td>{''.join(words)}</tr>")
    body = "\n".join(rows)
    return (
        f"<details open><summary>{escape(utterance.utt_id)} (errors: {errors})</summary>"
        f'<div class="scroll"><table class="words">\n{body}\n</table></div></details>'
    )


def _word(ref: str | None, hyp: str | None) -> str:
    kind = "C" if ref is None and hyp is None else Pair(ref, hyp).kind
    mark = "" if kind == "C" else f' class="{kind}"'
    return f"<td{mark}>{escape(hyp or '')}</td>"
