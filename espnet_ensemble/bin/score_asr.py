#!/usr/bin/env python3
"""Score transcripts: word, character and, with a BPE model, token error rates."""

import argparse
from pathlib import Path

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.bin.scoring_options import (
    add_scoring_options,
    print_results,
    scoring_options,
)
from espnet_ensemble.recipes.dataset_scoring import score_dataset
from espnet_ensemble.recipes.transcripts import read_transcripts


def get_parser() -> argparse.ArgumentParser:
    """Options of ``score_asr``."""
    parser = make_parser("score_asr", __doc__)
    parser.add_argument("--ref", required=True, help="transcripts, as in a Kaldi text")
    parser.add_argument("--hyp", required=True, help="what was recognised, likewise")
    parser.add_argument("--utt2spk", required=True, help="speaker of each utterance")
    parser.add_argument(
        "--output_dir",
        required=True,
        type=Path,
        help="folder for score_wer, score_cer and score_ter",
    )
    add_scoring_options(parser)
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Score, and print the sums."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    texts = read_transcripts(args.ref, args.hyp, args.utt2spk)
    print_results(score_dataset(texts, args.output_dir, scoring_options(args)))


if __name__ == "__main__":
    main()
