#!/usr/bin/env python3
"""Make data directories of Libri-Light's 10 hours and of LibriSpeech's evaluation sets.

The corpora are downloaded first if asked for. A download that was cut short goes on where
it stopped.
"""

import argparse

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.bin.prepare_librispeech import (
    STAGES,
    add_options,
    print_data_dirs,
)
from espnet_ensemble.bin.stage_options import add_stage_options, runs
from espnet_ensemble.recipes.corpora.download import DOWNLOADS, find_corpus
from espnet_ensemble.recipes.corpora.librilight import (
    EVALUATION,
    FOLDERS,
    NAME,
    URL,
    download_librilight,
    prepare_librilight,
)
from espnet_ensemble.recipes.corpora.librispeech import PARTS, download_librispeech


def get_parser() -> argparse.ArgumentParser:
    """Options of ``prepare_librilight``."""
    parser = make_parser(
        "prepare_librilight",
        __doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--librilight",
        default="",
        metavar="DIR",
        help=f"the folder {NAME}, or '{DOWNLOADS}' to get it",
    )
    parser.add_argument("--librilight_url", default=URL, help="where its archive is")
    add_options(parser)
    add_stage_options(parser, STAGES)
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Make the data directories, and print what they have."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    parts = [PARTS[name].name for name in EVALUATION]
    librilight = find_corpus("--librilight", args.librilight, NAME, FOLDERS)
    librispeech = find_corpus("--librispeech", args.librispeech, "LibriSpeech", parts)
    if runs(args, 1) and args.librilight == DOWNLOADS:
        download_librilight(librilight, args.librilight_url)
    if runs(args, 1) and args.librispeech == DOWNLOADS:
        download_librispeech(librispeech, EVALUATION, args.librispeech_url)
    if runs(args, 2):
        made = prepare_librilight(
            librilight, args.output_dir, librispeech, args.nj, args.partial
        )
        print_data_dirs(made)


if __name__ == "__main__":
    main()
