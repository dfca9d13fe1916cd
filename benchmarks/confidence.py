#!/usr/bin/env python3
"""How well definitions of a word's confidence are calibrated, on decodings with their
posteriors; and a reliability diagram of the one that decoding uses.

Run it in a recipe's folder, as models may be named relative to it:

    cd egs2/mini_synth/asr1
    ./run.sh --eval_valid_set true --inference_args "--save_posteriors true"
    python ../../../benchmarks/confidence.py exp/asr_…/decode_… \\
        --dataset org/valid --dataset test --picture ../../../docs/results/confidence.png
"""

import argparse
import math
import statistics
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from tabulate import tabulate

from espnet_ensemble.decoding.alignment import TokenSpan, align_tokens
from espnet_ensemble.decoding.confidence import TEMPERATURE
from espnet_ensemble.decoding.greedy import best_paths
from espnet_ensemble.decoding.hypothesis import Word
from espnet_ensemble.decoding.posteriors import SavedPosteriors
from espnet_ensemble.decoding.vocabulary import Vocabulary
from espnet_ensemble.decoding.words import group_words
from espnet_ensemble.integrations.espnet2.model import read_vocabulary
from espnet_ensemble.recipes.calibration import Calibration, calibrate
from espnet_ensemble.recipes.result_picture import draw_reliability
from espnet_ensemble.recipes.results import read_scored_words


def tempered(temperature: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Posteriors at a temperature."""
    return lambda log_probs: (log_probs / temperature).softmax(-1)


def negentropy(log_probs: torch.Tensor) -> torch.Tensor:
    """1 - entropy, 1 where one token has all, 0 where all have the same."""
    entropy = -(log_probs.exp() * log_probs).nan_to_num().sum(-1, keepdim=True)
    return (1 - entropy / math.log(log_probs.size(-1))).expand_as(log_probs)


def tsallis(log_probs: torch.Tensor, order: float = 1 / 3) -> torch.Tensor:
    """The same with Tsallis' entropy: A. Laptev and B. Ginsburg, SLT 2022."""
    most = log_probs.size(-1) ** (1 - order) - 1
    entropy = (order * log_probs).exp().sum(-1, keepdim=True) - 1
    return (1 - entropy / most).expand_as(log_probs)


FRAME = {
    "posterior": tempered(1.0),
    "at temperature 1.5": tempered(1.5),
    "at temperature 2": tempered(2.0),
    "at temperature 2.5": tempered(2.5),
    "entropy": negentropy,
    "Tsallis entropy": tsallis,
}
TOKEN = {"max": max, "mean": statistics.fmean}
WORD = {"product": math.prod, "min": min, "mean": statistics.fmean}
CHOSEN = (f"at temperature {TEMPERATURE:g}", "max", "product")

#: utt_id -> words, each a text and, for each token, a row of values by frame.
Values = Mapping[str, list[tuple[str, list[list[float]]]]]


def read_values(
    posteriors: SavedPosteriors, vocabulary: Vocabulary, measure: Callable
) -> Values:
    """Measure every frame of every token of the best paths."""
    values = {}
    for utt_id, found in posteriors.items():
        log_probs = found.log_probs
        lengths = torch.tensor([len(log_probs)])
        (path,) = best_paths(log_probs[None], lengths, vocabulary.blank_id)
        spans = align_tokens(log_probs, path.token_ids, vocabulary.blank_id)
        measured = measure(log_probs)
        values[utt_id] = [
            (
                vocabulary.to_text([span.token_id for span in word]).strip(),
                [_frames(measured, span) for span in word],
            )
            for word in group_words(spans, vocabulary)
        ]
    return values


def _frames(measured: torch.Tensor, span: TokenSpan) -> list[float]:
    frames = measured[span.start : span.end, span.token_id]
    return frames.clamp(0, 1).tolist()


def measure_all(decoding: Path, dataset: str, vocabulary: Vocabulary) -> dict:
    """The calibration of each definition on a dataset."""
    folder = decoding / dataset
    ref = read_scored_words(folder).ref
    posteriors = SavedPosteriors(folder / "posteriors")
    found = {}
    for frame, measure in FRAME.items():
        values = read_values(posteriors, vocabulary, measure)
        for token, word in product(TOKEN, WORD):
            words = {
                utt_id: [
                    Word(text, 0, 0, WORD[word]([TOKEN[token](t) for t in tokens]))
                    for text, tokens in texts
                ]
                for utt_id, texts in values.items()
            }
            found[frame, token, word] = calibrate(ref, words)
    return found


def draw(found: Mapping[str, Calibration], path: Path) -> None:
    """A reliability diagram for each dataset."""
    figure = Figure(figsize=(4.5 * len(found), 4.5), layout="constrained")
    for axes, (dataset, calibration) in zip(
        np.ravel(figure.subplots(1, len(found))), found.items(), strict=True
    ):
        draw_reliability(axes, calibration)
        axes.set_title(f"{dataset}: {axes.get_title()}", fontsize=10)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("decoding", type=Path)
    parser.add_argument("--dataset", action="append", required=True)
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    vocabulary = read_vocabulary(args.decoding.parent / "config.yaml")
    found = {
        dataset: measure_all(args.decoding, dataset, vocabulary)
        for dataset in args.dataset
    }
    first = found[args.dataset[0]]
    rows = [
        [
            *key,
            *(
                n
                for by in found.values()
                for n in (by[key].ece, by[key].nce, by[key].auc)
            ),
        ]
        for key in sorted(first, key=lambda key: -first[key].nce)
    ]
    titles = [f"{dataset}: {n}" for dataset in found for n in ("ECE", "NCE", "AUC")]
    headers = ["frame", "token", "word", *titles]
    print(tabulate(rows, headers, "github", floatfmt=".3f"))
    if args.picture:
        draw({dataset: by[CHOSEN] for dataset, by in found.items()}, args.picture)


if __name__ == "__main__":
    main()
