#!/usr/bin/env python3
"""Make data directories of a folder of audio files and their transcripts.

The transcripts are a table (.tsv or .csv, with the columns file and text, and maybe spk
and set: train, dev or test), or a .txt beside each audio file.
"""

import argparse
import logging
import os

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.bin.stage_options import add_stage_options, runs
from espnet_ensemble.recipes.corpora.audio_folder import Columns, prepare_audio_folder


def get_parser() -> argparse.ArgumentParser:
    """Options of ``prepare_audio_folder``."""
    parser = make_parser("prepare_audio_folder", __doc__)
    parser.add_argument("--audio_dir", required=True, help="folder of the audio files")
    parser.add_argument(
        "--transcripts",
        metavar="FILE",
        help="the table (default, or empty: a .txt beside each audio file)",
    )
    parser.add_argument(
        "--output_dir", default="data", help="for data directories (default: data)"
    )
    for own, what in (
        ("file", "paths of audio files in the folder, with or without suffix"),
        ("text", "what is said"),
    ):
        parser.add_argument(
            f"--{own}_column",
            default=own,
            metavar="NAME",
            help=f"column of {what} (default: {own})",
        )
    for own, what in (("spk", "speakers"), ("set", "sets")):
        parser.add_argument(
            f"--{own}_column",
            metavar="NAME",
            help=f"column of {what} (default: {own}, if there is one)",
        )
    for name in ("dev", "test"):
        parser.add_argument(
            f"--{name}_share",
            type=float,
            default=0.1,
            metavar="SHARE",
            help=f"part that {name} gets where the table has no sets (default: 0.1)",
        )
    parser.add_argument(
        "--nj",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="threads (default: one for each core)",
    )
    add_stage_options(parser, ["make data directories"])
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Make the data directories, and print what they have."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    logging.basicConfig(format="%(levelname)s: %(message)s")
    if not runs(args, 1):
        return
    made = prepare_audio_folder(
        args.audio_dir,
        args.output_dir,
        args.transcripts or None,
        Columns(args.file_column, args.text_column, args.spk_column, args.set_column),
        args.dev_share,
        args.test_share,
        args.nj,
    )
    for data_dir in made.values():
        print(
            f"{data_dir.path}: {data_dir.num_utts} utt, {data_dir.num_spks} speakers, "
            f"{60 * data_dir.hours:.1f} min"
        )


if __name__ == "__main__":
    main()
