"""Pages that stand alone, or with pictures beside them: no script."""

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """\
body { font: 15px/1.4 sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em;
       color: #222; background: #fff; }
table { border-collapse: collapse; margin: 0.5em 0; }
th, td { padding: 0.15em 0.6em; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A page of parts that are HTML already."""
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        *parts,
        "</body></html>",
        "",
    ]
    return "\n".join(lines)


def heading(text: str) -> str:
    """The title of a section.

    Example:
        >>> heading("a < b")
        '<h2>a &lt; b</h2>'
    """
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    """A paragraph of text."""
    return f"<p>{escape(text)}</p>"


def picture(name: str, text: str) -> str:
    """A picture beside the page, below what it shows."""
    return f'{heading(text)}\n<img src="{escape(name)}" alt="{escape(text)}">'


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of text."""
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in titles)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table>\n{body}\n</table>"
