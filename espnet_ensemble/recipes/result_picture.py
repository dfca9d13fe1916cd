"""A picture of a training and its result, for the folder of the experiment."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from espnet_ensemble.recipes.calibration import Calibration
from espnet_ensemble.recipes.results import DatasetResult
from espnet_ensemble.recipes.train_log import Epoch


def draw_result(
    epochs: Sequence[Epoch],
    results: Sequence[DatasetResult],
    calibration: Calibration | None,
    title: str,
    path: Path,
) -> None:
    """Draw the learning curve, the error rates, and how well confidences are calibrated.

    Args:
        epochs: Of the training; none: there is no curve.
        results: A bar for each.
        calibration: Of the words' confidences; None: there is no diagram.
        title: Of all.
        path: The PNG file to write.
    """
    panels: list[Callable[[Axes], None]] = [partial(_draw_bars, results=results)]
    if epochs:
        panels.insert(0, partial(_draw_curves, epochs=epochs))
    if calibration is not None:
        panels.append(partial(draw_reliability, calibration=calibration))
    figure = Figure(figsize=(5 * len(panels), 4), layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for draw, place in zip(panels, axes, strict=True):
        draw(place)
    if epochs:
        figure.legend(loc="outside lower left", ncols=3, fontsize=8)
    figure.savefig(path, dpi=120)


def draw_reliability(axes: Axes, calibration: Calibration) -> None:
    """Draw how many words of a confidence are right: on the diagonal if it is calibrated.

    Args:
        axes: Where to.
        calibration: The words; the area of a point shows how many they are.
    """
    bins = calibration.bins()
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="dotted")
    axes.plot([b.confidence for b in bins], [b.correct for b in bins], color="C0")
    axes.scatter(
        [b.confidence for b in bins],
        [b.correct for b in bins],
        s=[10 + 400 * b.size / len(calibration.correct) for b in bins],
    )
    axes.set(
        xlabel="confidence of words",
        ylabel="share that is right",
        xlim=(0, 1.03),
        ylim=(0, 1.03),
        title=f"expected calibration error {calibration.ece:.3f}",
    )


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
    axes.set(ylabel="error rate (%)")
