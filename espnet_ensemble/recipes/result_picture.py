"""A picture of a training and its result, for the folder of the experiment."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from espnet_ensemble.recipes.results import DatasetResult
from espnet_ensemble.recipes.train_log import Epoch


def draw_result(
    epochs: Sequence[Epoch], results: Sequence[DatasetResult], title: str, path: Path
) -> None:
    """Draw the learning curve, and the error rates beside it.

    Args:
        epochs: Of the training.
        results: A bar for each.
        title: Of both.
        path: The PNG file to write.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    figure.suptitle(title, fontsize=10)
    _draw_curves(left, epochs)
    figure.legend(loc="outside lower left", ncols=3, fontsize=8)
    _draw_bars(right, results)
    figure.savefig(path, dpi=120)


def _draw_curves(axes: Axes, epochs: Sequence[Epoch]) -> None:
    numbers = [epoch.number for epoch in epochs]
    axes.plot(numbers, [epoch.train_loss for epoch in epochs], label="train loss")
    axes.plot(numbers, [epoch.valid_loss for epoch in epochs], label="valid loss")
    axes.set(xlabel="epoch", ylabel="CTC loss", yscale="log")
    cer = axes.twinx()
    cer.plot(numbers, [100 * epoch.valid_cer for epoch in epochs], "k--", label="CER")
    cer.set(ylabel="valid CER, greedy (%)", ylim=(0, 100))


def _draw_bars(axes: Axes, results: Sequence[DatasetResult]) -> None:
    names = [f"{result.dataset}\n{result.metric.upper()}" for result in results]
    bars = axes.bar(names, [result.percentages.errors for result in results])
    axes.bar_label(bars, fmt="%.1f")
    axes.set(ylabel="error rate (%)", title="voices and sentences not heard before")
