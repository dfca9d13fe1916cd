"""A comparison as a picture: error rates with their intervals."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from espnet_ensemble.recipes.compare.comparison import Comparison


def draw_systems(comparisons: Sequence[Comparison], path: Path) -> None:
    """Draw the word error rate of each system, a panel for each dataset.

    Args:
        comparisons: The baseline's bar has a colour of its own.
        path: The PNG file to write.
    """
    most = max(len(comparison.rows) for comparison in comparisons)
    size = (6 * len(comparisons), 1.2 + 0.5 * most)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(comparisons), squeeze=False)[0]
    for axes, comparison in zip(panels, comparisons, strict=True):
        rows = comparison.rows
        below = [row.wer - row.interval.low for row in rows]
        above = [row.interval.high - row.wer for row in rows]
        bars = axes.barh(
            [row.name for row in rows],
            [row.wer for row in rows],
            xerr=[below, above],
            color=["C1" if row.p is None else "C0" for row in rows],
            ecolor="0.3",
            capsize=4,
        )
        labels = [f"{row.wer:.1f}" for row in rows]
        axes.bar_label(bars, labels, label_type="center", color="white", weight="bold")
        axes.invert_yaxis()
        axes.set(xlabel="WER (%), with its 95 % interval", title=comparison.dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
