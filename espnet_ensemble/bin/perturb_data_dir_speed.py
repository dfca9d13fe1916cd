#!/usr/bin/env python3
"""Make a data directory with copies of each utterance at other speeds."""

import argparse

from espnet_ensemble.bin.audio_options import add_audio_options, audio_conf
from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.data.formatting import speed_perturb


def get_parser() -> argparse.ArgumentParser:
    """Options of ``perturb_data_dir_speed``."""
    parser = make_parser("perturb_data_dir_speed", __doc__)
    add_audio_options(parser)
    parser.add_argument(
        "--speed_perturb_factors",
        type=str.split,
        default=["0.9", "1.0", "1.1"],
        metavar="FACTORS",
        help='separated by spaces; 1.0 for the original (default: "0.9 1.0 1.1")',
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Make the copies, and say which utterances are left out."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    failures = speed_perturb(
        args.src,
        args.dest,
        args.speed_perturb_factors,
        audio_conf(args),
        args.nj,
        args.ignore_errors,
    )
    for failure in failures:
        print(f"left out {failure}")


if __name__ == "__main__":
    main()
