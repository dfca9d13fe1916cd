#!/usr/bin/env python3
"""Show what an experiment has come to: transcripts, and a picture."""

import argparse
from pathlib import Path

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.recipes.result_picture import draw_result
from espnet_ensemble.recipes.results import first_transcripts, read_results
from espnet_ensemble.recipes.train_log import read_epochs


def get_parser() -> argparse.ArgumentParser:
    """Options of ``show_result``."""
    parser = make_parser("show_result", __doc__)
    parser.add_argument("exp_dir", type=Path, help="folder of the experiment")
    parser.add_argument("--number", type=int, default=5, help="of transcripts")
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Print transcripts, and draw the picture."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    results = read_results(args.exp_dir)
    last = [result for result in results if result.metric == "wer"][-1]
    for speaker, said, text in first_transcripts(args.exp_dir, last, args.number):
        print(f"{speaker}:", f"    said: {said}", f"    text: {text}", sep="\n")
    picture = args.exp_dir / "images" / "result.png"
    picture.parent.mkdir(exist_ok=True)
    draw_result(read_epochs(args.exp_dir), results, args.exp_dir.name, picture)
    print(f"picture: {picture.resolve()}")


if __name__ == "__main__":
    main()
