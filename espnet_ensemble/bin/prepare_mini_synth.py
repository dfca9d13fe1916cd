#!/usr/bin/env python3
"""Make the corpus mini_synth and its data directories.

A run that was cut short goes on where it stopped.
"""

import argparse
import os
from pathlib import Path

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.bin.stage_options import add_stage_options, runs
from espnet_ensemble.data.datadir import subset
from espnet_ensemble.recipes.corpora.mini_synth.prepare import (
    MINUTES,
    VALID_MINUTES,
    plan,
    prepare_mini_synth,
)


def get_parser() -> argparse.ArgumentParser:
    """Options of ``prepare_mini_synth``."""
    parser = make_parser(
        "prepare_mini_synth",
        __doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output_dir", default="data", help="for data directories")
    parser.add_argument(
        "--corpus_dir", default="downloads/mini_synth", help="for wav files"
    )
    for name, length in MINUTES.items():
        parser.add_argument(
            f"--{name}_minutes", type=float, default=length, help=f"length of {name}"
        )
    only = parser.add_mutually_exclusive_group()
    only.add_argument(
        "--unlabelled",
        action="store_true",
        help="make speech for pre-training (OUTPUT_DIR/unlabelled), and nothing else",
    )
    only.add_argument(
        "--finetune",
        action="store_true",
        help="make speech for fine-tuning (OUTPUT_DIR/finetune), and nothing else",
    )
    parser.add_argument(
        "--hours", type=float, default=5.0, help="length of unlabelled or finetune"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="another one makes another corpus"
    )
    parser.add_argument(
        "--nj", type=int, default=len(os.sched_getaffinity(0)), help="processes"
    )
    add_stage_options(parser, ["make the corpus", "take parts of its sets"])
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Make the corpus."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    minutes = {name: getattr(args, f"{name}_minutes") for name in MINUTES}
    for name in ("unlabelled", "finetune"):
        if getattr(args, name):
            minutes = {name: 60 * args.hours}
    if runs(args, 1):
        prepare_mini_synth(
            args.corpus_dir, args.output_dir, minutes, args.seed, args.nj
        )
    if runs(args, 2) and "train" in minutes:
        data = Path(args.output_dir)
        # Fewer labels, for conf/tables/mini_synth.yaml.
        subset(data / "train", data / "train_7min", per_speaker=3)
        first = plan("dev", min(VALID_MINUTES, args.dev_minutes), args.seed)
        subset(data / "dev", data / "valid", [prompt.utt_id for prompt in first])


if __name__ == "__main__":
    main()
