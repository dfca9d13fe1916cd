#!/usr/bin/env python3
"""Leave out utterances that are too short, too long or without text."""

import argparse

import humanfriendly

from espnet_ensemble.data.length import filter_lengths
from espnet_ensemble.data.tables import DataError


def get_parser() -> argparse.ArgumentParser:
    """Options of ``filter_lengths``."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet_ensemble.bin.filter_lengths",
        description=__doc__,
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
    """Leave them out, and say which."""
    parser = get_parser()
    args = parser.parse_args(cmd)
    try:
        left_out = filter_lengths(
            args.src, args.dest, args.fs, args.min_wav_duration, args.max_wav_duration
        )
    except DataError as error:
        parser.exit(1, f"filter_lengths: {error}\n")
    counts = []
    for name, utterances in left_out._asdict().items():
        reason = name.replace("_", " ")
        counts.append(f"{len(utterances)} {reason}")
        for utterance in utterances:
            print(f"{utterance}: {reason}")
    print(f"{args.dest}: left out {', '.join(counts)}")


if __name__ == "__main__":
    main()
