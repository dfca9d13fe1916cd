#!/usr/bin/env python3
"""Make data directories of LibriSpeech, after getting it if asked for.

A download that was cut short goes on where it stopped.
"""

import argparse
import os
from collections.abc import Mapping

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.bin.stage_options import add_stage_options, runs
from espnet_ensemble.recipes.corpora.data_dir import DataDir
from espnet_ensemble.recipes.corpora.download import DOWNLOADS, find_corpus
from espnet_ensemble.recipes.corpora.librispeech import (
    NGRAM_URL,
    PARTS,
    URL,
    download_librispeech,
    download_ngram,
    prepare_librispeech,
)

#: What is done, in the stages of local/data.sh.
STAGES = ("get the corpus, if asked for", "check it and make data directories")


def get_parser() -> argparse.ArgumentParser:
    """Options of ``prepare_librispeech``."""
    parser = make_parser(
        "prepare_librispeech",
        __doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_options(parser)
    add_stage_options(parser, [*STAGES, "get the language model (with --ngram)"])
    parser.add_argument(
        "--ngram",
        action="store_true",
        help="also get a language model: OpenSLR 11's pruned trigrams, 34 MB",
    )
    parser.add_argument("--ngram_url", default=NGRAM_URL, help="OpenSLR, or a mirror")
    parser.add_argument("sets", nargs="+", choices=PARTS, help="what to make")
    return parser


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that the commands for corpora in LibriSpeech's layout share."""
    parser.add_argument(
        "--librispeech",
        default="",
        metavar="DIR",
        help=f"the folder LibriSpeech, or '{DOWNLOADS}' to get it",
    )
    parser.add_argument("--librispeech_url", default=URL, help="OpenSLR, or a mirror")
    parser.add_argument("--output_dir", default="data", help="for data directories")
    parser.add_argument(
        "--partial", action="store_true", help="take less than the whole corpus"
    )
    parser.add_argument(
        "--nj", type=int, default=len(os.sched_getaffinity(0)), help="files at a time"
    )


def print_data_dirs(made: Mapping[str, DataDir]) -> None:
    """Say what data directories have."""
    for data_dir in made.values():
        print(
            f"{data_dir.path}: {data_dir.num_utts} utterances, {data_dir.hours:.2f} h"
        )


def main(cmd: list[str] | None = None) -> None:
    """Make the data directories, and print what they have."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    folders = [PARTS[name].name for name in args.sets]
    corpus_dir = find_corpus("--librispeech", args.librispeech, "LibriSpeech", folders)
    if runs(args, 1) and args.librispeech == DOWNLOADS:
        download_librispeech(corpus_dir, args.sets, args.librispeech_url)
    if runs(args, 2):
        made = prepare_librispeech(
            corpus_dir, args.output_dir, args.sets, args.nj, args.partial
        )
        print_data_dirs(made)
    if runs(args, 3) and args.ngram:
        print(download_ngram(args.output_dir, args.ngram_url))


if __name__ == "__main__":
    main()
