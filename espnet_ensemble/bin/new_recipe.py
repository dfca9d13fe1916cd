#!/usr/bin/env python3
"""Make a recipe for a corpus of your own, from a folder of audio files to error rates.

It has a configuration for minutes to some hours of speech. Where the audio files and their
transcripts are is in its db.sh; both options below only fill that in.
"""

import argparse
from pathlib import Path

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.recipes.starter import make_recipe, recipe_folder


def get_parser() -> argparse.ArgumentParser:
    """Options of ``new-recipe``."""
    parser = make_parser("new-recipe", __doc__)
    parser.add_argument("name", help="the corpus's name, such as my_corpus")
    parser.add_argument(
        "--folder",
        type=Path,
        help="the recipe's folder (default: egs2/NAME/asr1 of the checkout around this "
        "folder, or of this folder)",
    )
    parser.add_argument("--audio_dir", type=Path, help="folder of the audio files")
    parser.add_argument(
        "--transcripts",
        type=Path,
        help="table of what is said in them, .tsv or .csv (default: a .txt beside each)",
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Make a recipe, and say what comes next."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    folder = recipe_folder(args.name)
    folder = args.folder or folder
    make_recipe(args.name, folder, args.audio_dir, args.transcripts)
    print(f"{folder}: made. Next:")
    print(f"    cd {folder}")
    if args.audio_dir is None:
        print(
            "    edit db.sh          # where the audio files and their transcripts are"
        )
    print(
        "    ./run.sh --stop_stage 5    # look at data/; then --stage 10, or see README.md"
    )


if __name__ == "__main__":
    main()
