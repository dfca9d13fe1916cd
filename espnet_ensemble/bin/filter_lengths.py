#!/usr/bin/env python3
"""Leave out utterances that are too short, too long or without text."""

import argparse

import humanfriendly

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.data.length import filter_lengths


def get_parser() -> argparse.ArgumentParser:
    """Options of ``filter_lengths``."""
    parser = make_parser(
        "filter_lengths",
        __doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("src", help="data directory with utt2num_samples")
    parser.add_argument("dest", help="where to write the result")
    parser.add_argument(
        "--fs", type=humanfriendly.parse_size, default="16k", help="sample rate, in Hz"
    )
    parser.add_argument(
        "--min_wav_duration", type=float, default=0.1, help="shortest, in seconds"
    )
    parser.add_argument(
        "--max_wav_duration", type=float, default=20, help="longest, in seconds"
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Write the result, and say which utterances are left out."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    left_out = filter_lengths(
        args.src, args.dest, args.fs, args.min_wav_duration, args.max_wav_duration
    )
    faults = {name.replace("_", " "): ids for name, ids in vars(left_out).items()}
    for fault, utt_ids in faults.items():
        for utt_id in utt_ids:
            print(f"{utt_id}: {fault}")
    counts = ", ".join(f"{len(utt_ids)} {fault}" for fault, utt_ids in faults.items())
    print(f"{args.dest}: left out {counts}")


if __name__ == "__main__":
    main()
