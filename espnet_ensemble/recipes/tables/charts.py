"""Charts of a table: word error rates, and learning curves."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from espnet_ensemble.files import atomic_write
from espnet_ensemble.recipes.tables.comparison import Group
from espnet_ensemble.recipes.tables.report import SystemResult, TableReport

COLOURS = {"paper": "0.65", "ours": "tab:blue"}


def draw_rates(report: TableReport, path: Path) -> None:
    """Draw a bar for the mean word error rate of each system: the paper's and ours.

    What there is no number of is marked by a cross; a group without any is left out.

    Args:
        report: What to draw.
        path: The picture, PNG.
    """

    def draw(panel: Axes, group: Group) -> None:
        _draw_bars(panel, report, group)

    known = [
        g for g in report.groups if any(report.means(g, s) for s in report.sources)
    ]
    _draw_panels(report, path, known or list(report.groups), draw)


def draw_curves(report: TableReport, path: Path) -> None:
    """Draw the character error rate of the validation set over the epochs.

    Args:
        report: What to draw: all systems and seeds that have trained.
        path: The picture, PNG.
    """

    def draw(panel: Axes, group: Group) -> None:
        _draw_learning(panel, report.groups[group])

    trained = [
        group
        for group, results in report.groups.items()
        if any(run.epochs for result in results for run in result.runs)
    ]
    _draw_panels(report, path, trained, draw)


def _draw_panels(
    report: TableReport,
    path: Path,
    groups: Sequence[Group],
    draw: Callable[[Axes, Group], None],
) -> None:
    columns = min(2, len(groups))
    lines = -(-len(groups) // columns)
    # Inches: room for the names below the bars.
    width = max([8.0, *(0.9 * len(report.groups[group]) for group in groups)])
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(width * columns, 4 * lines),
        layout="constrained",
        squeeze=False,
    )
    for panel, group in zip(axes.flat, groups, strict=False):
        panel.set_title(report.title(group))
        draw(panel, group)
    for panel in list(axes.flat)[len(groups) :]:
        panel.set_visible(False)
    with atomic_write(path) as part:
        figure.savefig(part, dpi=80, format="png")
    plt.close(figure)


def _draw_bars(panel: Axes, report: TableReport, group: Group) -> None:
    """Draw the bars of a group on matplotlib's axes."""
    results, sources = [r for r in report.groups[group] if not r.method], report.sources
    width = 0.8 / len(sources)
    for number, source in enumerate(sources):
        means, shift = report.means(group, source), number - (len(sources) - 1) / 2
        places = {r.system.families: i + shift * width for i, r in enumerate(results)}
        known = {places[families]: mean for families, mean in means.items()}
        colour = COLOURS[source]
        bars = panel.bar(
            list(known), list(known.values()), width, label=source, color=colour
        )
        panel.bar_label(bars, fmt="%.1f", fontsize=8)
        for place in set(places.values()) - set(known):
            panel.text(place, 0, "x", ha="center", va="bottom", color=colour)
    names = [
        result.label.replace("+", "\n+ ").replace(" (", "\n(") for result in results
    ]
    panel.set_xticks(range(len(results)), names, fontsize=8)
    panel.set_xlim(-0.6, len(results) - 0.4)
    panel.margins(y=0.4)  # above the bars: room for the legend
    panel.set_ylim(bottom=0)
    panel.set_ylabel("word error rate (%), mean over the test sets")
    # Of bars, matplotlib takes the colour of the first: there may be none.
    handles = [Patch(color=COLOURS[source], label=source) for source in sources]
    panel.legend(handles=handles, title="x: no number")


def _draw_learning(panel: Axes, results: Sequence[SystemResult]) -> None:
    for number, result in enumerate(results):
        runs = [run for run in result.runs if run.epochs]
        for run in runs:
            panel.plot(
                [epoch.number for epoch in run.epochs],
                [100 * epoch.valid_cer for epoch in run.epochs],
                color=f"C{number % 10}",
                linestyle="-" if number < 10 else "--",
                linewidth=1,
                label=result.label if run is runs[0] else None,
            )
    panel.set(xlabel="epoch", ylabel="validation CER, greedy (%)", ylim=(0, 105))
    if panel.lines:
        panel.legend(fontsize=8)
