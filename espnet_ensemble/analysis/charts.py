"""Pictures of an analysis."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from espnet_ensemble.files import atomic_write

if TYPE_CHECKING:
    from espnet_ensemble.analysis.study import Study

#: Cells of a heat map with a number in each, at most.
_NUMBERED = 12
#: Gains below are left out: that far, nothing is chosen.
_LOWEST = -60


def draw_heat_map(
    path: Path,
    values: Sequence[Sequence[float]],
    labels: Sequence[str],
    title: str,
    axes: tuple[str, str] = ("", ""),
) -> None:
    """Draw a table of values from 0 to 1.

    Args:
        path: The picture, PNG.
        values: (rows, columns)
        labels: Of rows and columns.
        title: What it shows.
        axes: What rows and columns are.
    """
    size = max(5.0, 0.22 * len(labels) + 3)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    panel = figure.subplots()
    image = panel.imshow(np.asarray(values), vmin=0, vmax=1, cmap="viridis")
    places = range(len(labels))
    panel.set_xticks(places, labels, rotation=90, fontsize=8)
    panel.set_yticks(places, labels, fontsize=8)
    panel.set(title=title, ylabel=axes[0], xlabel=axes[1])
    if len(labels) <= _NUMBERED:
        for row in places:
            for column in places:
                value = values[row][column]
                panel.text(
                    column,
                    row,
                    f"{value:.2f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="black" if value > 0.6 else "white",
                )
    figure.colorbar(image)
    _save(figure, path)


def draw_probes(study: "Study", path: Path) -> None:
    """Draw the error rate of each layer's probe, a curve for each upstream."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    panel = figure.subplots()
    for number, name in enumerate(study.frontend.member_names):
        of_upstream = [
            (layer.layer, probe)
            for layer, probe in zip(study.layers, study.probes, strict=True)
            if layer.upstream == number
        ]
        places = [layer for layer, _ in of_upstream]
        rates = [probe.cer for _, probe in of_upstream]
        intervals = [probe.interval for _, probe in of_upstream]
        bounds = (
            [max(0, r - i.low) for r, i in zip(rates, intervals, strict=True)],
            [max(0, i.high - r) for r, i in zip(rates, intervals, strict=True)],
        )
        panel.errorbar(places, rates, bounds, label=name, marker="o", capsize=3)
    panel.set(xlabel="hidden state", ylabel="character error rate of the probe (%)")
    panel.set_ylim(bottom=0)
    panel.legend(fontsize=8)
    _save(figure, path)


def draw_gains(study: "Study", path: Path) -> None:
    """Draw what combinations gain, with the interval, against what they cost."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    panel = figure.subplots()
    for number in sorted({len(choice.members) for choice in study.choices}):
        choices = [c for c in study.choices if len(c.members) == number]
        gains = [c.gain.percent for c in choices]
        bounds = (
            [max(0, c.gain.percent - c.gain.interval.low) for c in choices],
            [max(0, c.gain.interval.high - c.gain.percent) for c in choices],
        )
        costs = [c.cost.parameters / 1e6 for c in choices]
        panel.errorbar(
            costs, gains, bounds, linestyle="", marker="o", capsize=3, label=f"{number}"
        )
    best = max(study.choices, key=lambda choice: choice.gain.percent)
    names = "\n+ ".join(study.layers[i].label for i in best.members)
    place = best.cost.parameters / 1e6, best.gain.percent
    panel.annotate(names, place, fontsize=8, xytext=(5, 5), textcoords="offset points")
    panel.axhline(0, color="0.7", linewidth=1)
    panel.set(xlabel="parameters of the encoders (millions)")
    panel.set_ylabel("fewer errors than the best layer alone (%)")
    if panel.get_ylim()[0] < _LOWEST:
        panel.set_ylim(bottom=_LOWEST)
        panel.set_title(f"those below {_LOWEST} % are left out", fontsize=9)
    panel.legend(title="members", fontsize=8)
    _save(figure, path)


def draw_bars(path: Path, series: Mapping[str, Mapping[str, float]], axis: str) -> None:
    """Draw bars of one or several series over the same names.

    Args:
        path: The picture, PNG.
        series: What it is called -> name -> value.
        axis: What values are.
    """
    names = list(dict.fromkeys(name for values in series.values() for name in values))
    figure = Figure(figsize=(max(5.0, 0.7 * len(names) + 2), 4), layout="constrained")
    panel = figure.subplots()
    width = 0.8 / len(series)
    for number, (label, values) in enumerate(series.items()):
        shift = (number - (len(series) - 1) / 2) * width
        places = [index + shift for index, name in enumerate(names) if name in values]
        heights = [values[name] for name in names if name in values]
        bars = panel.bar(places, heights, width, label=label)
        panel.bar_label(bars, fmt="%.3g", fontsize=8)
    panel.set_xticks(range(len(names)), names, fontsize=8)
    panel.set_ylabel(axis)
    if len(series) > 1:
        panel.legend(fontsize=8)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with atomic_write(path) as part:
        figure.savefig(part, dpi=80, format="png")
