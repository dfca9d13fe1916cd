#!/usr/bin/env python3
"""Make a data directory with copies of each utterance at other speeds."""

import argparse

from espnet_ensemble.bin.format_wav_scp import (
    add_audio_options,
    audio_conf,
    print_failures,
)
from espnet_ensemble.data.formatting import speed_perturb
from espnet_ensemble.data.tables import DataError


def get_parser() -> argparse.ArgumentParser:
    """Options of ``perturb_data_dir_speed``."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet_ensemble.bin.perturb_data_dir_speed", description=__doc__
    )
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
    """Make it."""
    parser = get_parser()
    args = parser.parse_args(cmd)
    try:
        print_failures(
            speed_perturb(
                args.src,
                args.dest,
                args.speed_perturb_factors,
                audio_conf(args),
                args.nj,
                args.ignore_errors,
            )
        )
    except DataError as error:
        parser.exit(1, f"perturb_data_dir_speed: {error}\n")


if __name__ == "__main__":
    main()
