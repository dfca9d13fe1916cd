#!/usr/bin/env python3
"""Make data directories of the Wall Street Journal corpus from LDC's discs.

A run that was cut short goes on where it stopped.
"""

import argparse
import logging
import os

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.bin.stage_options import add_stage_options, runs
from espnet_ensemble.recipes.corpora.wsj.prepare import HOURS, prepare_wsj


def get_parser() -> argparse.ArgumentParser:
    """Options of ``prepare_wsj``."""
    parser = make_parser(
        "prepare_wsj", __doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--wsj0", required=True, help="folder of the discs of LDC93S6A/B"
    )
    parser.add_argument(
        "--wsj1", required=True, help="folder of the discs of LDC94S13A/B"
    )
    parser.add_argument("--output_dir", default="data", help="for data directories")
    parser.add_argument("--flac_dir", default="downloads/wsj", help="for FLAC files")
    parser.add_argument(
        "--hours", type=float, default=HOURS, help="length of the balanced subset"
    )
    parser.add_argument(
        "--nj", type=int, default=len(os.sched_getaffinity(0)), help="processes"
    )
    add_stage_options(parser, ["make FLAC files and data directories"])
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Make the data directories, and print what they have."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    logging.basicConfig(format="%(levelname)s: %(message)s")
    if not runs(args, 1):
        return
    options = {k: v for k, v in vars(args).items() if k not in ("stage", "stop_stage")}
    for made in prepare_wsj(**options).values():
        print(
            f"{made.path}: {made.num_utts} utt, {made.num_spks} speakers, "
            f"{made.hours:.2f} h"
        )


if __name__ == "__main__":
    main()
