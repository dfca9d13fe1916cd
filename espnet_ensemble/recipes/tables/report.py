"""The results of a table: in Markdown, and as a chart."""

import os
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from espnet_ensemble.recipes.tables.comparison import (
    Means,
    check_claims,
    mean_rate,
    relative_gain,
)
from espnet_ensemble.recipes.tables.systems import ExperimentTable, Rates, System

Group = tuple[str, str, str]


@dataclass(frozen=True)
class Row:
    """A system with our word error rates, and the epochs that its training has."""

    system: System
    ours: Rates
    max_epoch: int


@dataclass(frozen=True)
class Report:
    """What there is to report.

    Attributes:
        table: The table.
        rows: All of its systems.
        options: What the command that runs them has beyond the paper, such as
            "--layer 8".
    """

    table: ExperimentTable
    rows: list[Row]
    options: str = ""

    def groups(self) -> dict[Group, list[Row]]:
        """The rows by what they have in common: corpus, size and head."""
        groups: dict[Group, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(row.system.group, []).append(row)
        return groups

    def titles(self, group: Group) -> list[str]:
        """What a reader calls corpus, size and head of a group."""
        corpus = self.groups()[group][0].system.corpus
        return [corpus.title, group[1], self.table.heads[group[2]]]


def render(report: Report, chart: str) -> str:
    """The text of the Markdown file.

    Args:
        chart: The picture, relative to the file.
    """
    table = report.table
    options = f" {report.options}" if report.options else ""
    number = table.name.removeprefix("table")
    run = f"espnet-ensemble table --table {number}{options}"
    parts = [f"# Table {number}{options}: {table.title}", _WHAT]
    if report.options:
        parts.append("The paper's numbers are of its own systems, without the options.")
    parts.append(
        f"Made by `{run} --collect`. Below each title is what runs its systems; with "
        f"`--upstreams {table.systems[-1].combination}` it runs one of them."
    )
    parts.append(f"![Mean word error rates of all systems]({chart})")
    for group, rows in report.groups().items():
        parts += [f"## {', '.join(report.titles(group))}", _training(rows, run)]
        parts.append(_table(rows))
    parts += ["## The paper's claims", _CLAIMS, claims_table(report)]
    return "\n\n".join(parts) + "\n"


_WHAT = """\
Word error rates in percent, without a language model: the paper's, and ours. Ours are
empty where nobody has run the system, the paper's where its cell is empty. Gain: how much
lower the mean over the sets is than that of the best single member, in percent of it."""
_CLAIMS = """\
On the means over the sets. "About" so many percent is half as much at least."""


def _training(rows: list[Row], run: str) -> str:
    """How a group is trained, and what runs it."""
    system = rows[0].system
    name, size, head = system.group
    return (
        f"Trained on {system.corpus.train_set} ({system.corpus.hours:g} h) for "
        f"{rows[0].max_epoch} epochs: "
        f"`{run} --corpus {name} --size {size} --head {head} --run`"
    )


def claims_table(report: Report) -> str:
    """Whether the paper's claims hold, by the paper's numbers and by ours."""
    lines = []
    for group, rows in report.groups().items():
        combinations = [row.system.members for row in rows]
        paper, ours = (
            check_claims(report.table.claims, means, combinations)
            for means in _means(rows)
        )
        for claim, verdict in paper.items():
            lines.append([*report.titles(group), claim, verdict, ours[claim]])
    headers = ["corpus", "size", "head", "claim", "the paper's numbers", "ours"]
    return tabulate(lines, headers, "github")


def draw(report: Report, path: Path) -> None:
    """Draw a bar for the mean word error rate of each system: the paper's and ours."""
    # Takes seconds: who only lists systems need not wait.
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = len(report.table.heads)
    groups = report.groups()
    lines = -(-len(groups) // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(8 * columns, 4 * lines),
        layout="constrained",
        squeeze=False,
    )
    for panel, (group, rows) in zip(axes.flat, groups.items()):
        panel.set_title(", ".join(report.titles(group)))
        _draw_group(panel, rows)
    unfinished = path.with_name(f"{path.name}.tmp")
    figure.savefig(unfinished, dpi=100, format="png")
    plt.close(figure)
    os.replace(unfinished, path)


def _draw_group(panel, rows: list[Row]) -> None:
    """Draw the bars of a group on matplotlib's axes."""
    width = 0.4
    for shift, (name, means) in enumerate(zip(("paper", "ours"), _means(rows))):
        heights = {
            place + (shift - 0.5) * width: means[row.system.members]
            for place, row in enumerate(rows)
            if row.system.members in means
        }
        bars = panel.bar(list(heights), list(heights.values()), width, label=name)
        panel.bar_label(bars, fmt="%.1f", fontsize=8)
    names = [row.system.combination.replace("+", "\n+ ") for row in rows]
    panel.set_xticks(range(len(rows)), names)
    panel.set_xlim(-0.6, len(rows) - 0.4)
    panel.set_ylim(bottom=0)
    panel.set_ylabel("word error rate (%), mean over the sets")
    panel.legend()


def _means(rows: list[Row]) -> tuple[Means, Means]:
    """By the paper's numbers, and by ours."""
    paper, ours = {}, {}
    for row in rows:
        for means, rates in ((paper, row.system.paper), (ours, row.ours)):
            mean = mean_rate(row.system, rates)
            if mean is not None:
                means[row.system.members] = mean
    return paper, ours


def _table(rows: list[Row]) -> str:
    """A row for each combination."""
    sets = rows[0].system.corpus.sets
    paper, ours = _means(rows)
    lines = []
    for row in rows:
        line = [row.system.combination]
        for name in sets:
            line += [_cell(row.system.paper.get(name)), _cell(row.ours.get(name))]
        for means in (paper, ours):
            line.append(_cell(relative_gain(means, row.system.members), "+.1f"))
        lines.append(line)
    headers = ["upstreams"]
    for name in (*sets, "gain"):
        headers += [f"{name}: paper", "ours"]
    align = ("left", *["right"] * (len(headers) - 1))
    return tabulate(lines, headers, "github", colalign=align, disable_numparse=True)


def _cell(number: float | None, style: str = ".2f") -> str:
    return "" if number is None else format(number, style)
