#!/usr/bin/env python3
"""Show what an experiment has come to: transcripts, and a picture."""

import argparse
import re
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

from espnet_ensemble.recipes.results import (  # noqa: E402
    DatasetResult,
    read_results,
)

# What ESPnet's trainer logs after an epoch.
_EPOCH = re.compile(
    r" (\d+)epoch results: \[train\].*? loss=([^,]+),"
    r".*\[valid\].*? cer_ctc=([^,]+),.*? loss=([^,]+),"
)


class Epoch(NamedTuple):
    """Means over an epoch: losses, and the character error rate, 0 to 1."""

    train_loss: float
    valid_loss: float
    valid_cer: float


def read_epochs(exp_dir: Path) -> dict[int, Epoch]:
    """Read the learning curve from the logs of training, also of its earlier parts."""
    epochs = {}
    for log in exp_dir.glob("train*.log"):
        for match in _EPOCH.finditer(log.read_text(encoding="utf-8")):
            number, train_loss, cer, valid_loss = match.groups()
            epochs[int(number)] = Epoch(
                float(train_loss), float(valid_loss), float(cer)
            )
    return dict(sorted(epochs.items()))


def read_trn(path: Path) -> dict[str, str]:
    """Read transcripts as sclite takes them.

    Returns:
        "speaker-utterance" -> words
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    split = (re.fullmatch(r"(.*)\((.+)\)", line).groups() for line in lines)
    return {key: words.strip() for words, key in split}


def transcripts(exp_dir: Path, result: DatasetResult, number: int) -> list[str]:
    """The first utterance of as many voices: what was said, and what was recognised."""
    folder = exp_dir / result.inference_tag / result.dataset / "score_wer"
    refs, hyps = read_trn(folder / "ref.trn"), read_trn(folder / "hyp.trn")
    first = {}
    for key in refs:
        first.setdefault(key.split("-")[0], key)
    lines = []
    for speaker, key in list(first.items())[:number]:
        lines += [f"{speaker}:", f"    said: {refs[key]}", f"    text: {hyps[key]}"]
    return lines


def draw(epochs: dict[int, Epoch], results: list[DatasetResult], title: str, path: Path):
    """Draw the learning curve and the error rates."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    figure.suptitle(title, fontsize=10)
    left.plot(list(epochs), [e.train_loss for e in epochs.values()], label="train loss")
    left.plot(list(epochs), [e.valid_loss for e in epochs.values()], label="valid loss")
    left.set(xlabel="epoch", ylabel="CTC loss", yscale="log")
    cer = left.twinx()
    cer.plot(
        list(epochs), [100 * e.valid_cer for e in epochs.values()], "k--", label="CER"
    )
    cer.set(ylabel="valid CER, greedy (%)", ylim=(0, 100))
    figure.legend(loc="outside lower left", ncols=3, fontsize=8)
    _draw_bars(right, results)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_bars(axes: Axes, results: list[DatasetResult]) -> None:
    names = [f"{result.dataset}\n{result.metric.upper()}" for result in results]
    bars = axes.bar(names, [result.percentages.errors for result in results])
    axes.bar_label(bars, fmt="%.1f")
    axes.set(ylabel="error rate (%)", title="voices and sentences not heard before")


def get_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("exp_dir", type=Path, help="folder of the experiment")
    parser.add_argument("--number", type=int, default=5, help="of transcripts")
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Show it."""
    args = get_parser().parse_args(cmd)
    results = read_results(args.exp_dir)
    words = [result for result in results if result.metric == "wer"]
    print("\n".join(transcripts(args.exp_dir, words[-1], args.number)))
    picture = args.exp_dir / "images" / "result.png"
    picture.parent.mkdir(exist_ok=True)
    draw(read_epochs(args.exp_dir), results, args.exp_dir.name, picture)
    print(f"picture: {picture.resolve()}")


if __name__ == "__main__":
    main()
