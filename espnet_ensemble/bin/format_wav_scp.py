#!/usr/bin/env python3
"""Make the audio files of a data directory, as training reads them."""

import argparse

import humanfriendly
from espnet2.utils.types import str2bool

from espnet_ensemble.data.formatting import format_audio
from espnet_ensemble.data.tables import DataError


def add_audio_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that all commands which make audio share."""
    parser.add_argument("src", help="data directory")
    parser.add_argument("dest", help="where to write the result")
    parser.add_argument(
        "--fs",
        type=_fs,
        metavar="HZ",
        help="sample rate, such as 16k; none (the default): each file's own",
    )
    parser.add_argument("--audio_format", choices=FORMATS, default="flac")
    parser.add_argument(
        "--ref_channel",
        type=int,
        help="channel to take, from 0 (default: audio with several channels is refused)",
    )
    parser.add_argument(
        "--nj", type=int, default=4, help="recordings worked on at a time (default: 4)"
    )
    parser.add_argument(
        "--ignore_errors",
        type=str2bool,
        default=False,
        metavar="BOOL",
        help="leave out utterances whose audio is broken (default: false)",
    )


def audio_conf(args: argparse.Namespace) -> AudioConf:
    """What those options say about how audio is written."""
    return AudioConf(args.fs, args.audio_format, args.ref_channel)


def print_failures(failures: list[Failure]) -> None:
    """Say what was left out."""
    for failure in failures:
        print(f"left out {failure}")


def get_parser() -> argparse.ArgumentParser:
    """Options of ``format_wav_scp``."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet_ensemble.bin.format_wav_scp", description=__doc__
    )
    add_audio_options(parser)
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Make them."""
    parser = get_parser()
    args = parser.parse_args(cmd)
    try:
        print_failures(
            format_audio(
                args.src, args.dest, audio_conf(args), args.nj, args.ignore_errors
            )
        )
    except DataError as error:
        parser.exit(1, f"format_wav_scp: {error}\n")


def _fs(value: str) -> int | None:
    return None if value.lower() == "none" else humanfriendly.parse_size(value)


if __name__ == "__main__":
    main()
