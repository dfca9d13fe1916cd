#!/usr/bin/env python3
"""Make the audio files of a data directory, as training reads them."""

import argparse

from espnet_ensemble.bin.audio_options import add_audio_options, audio_conf
from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.data.formatting import format_audio


def get_parser() -> argparse.ArgumentParser:
    """Options of ``format_wav_scp``."""
    parser = make_parser("format_wav_scp", __doc__)
    add_audio_options(parser)
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Make the files, and say which utterances are left out."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    failures = format_audio(
        args.src, args.dest, audio_conf(args), args.nj, args.ignore_errors
    )
    for failure in failures:
        print(f"left out {failure}")


if __name__ == "__main__":
    main()
