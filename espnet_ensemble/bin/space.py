#!/usr/bin/env python3
"""Write a Hugging Face Space that shows a model to the world.

DIR gets app.py, a card and requirements.txt, and of an archive a copy. `python DIR/app.py`
runs it here; `hf upload --repo-type space NAME DIR .` publishes it.
"""

import argparse
from pathlib import Path

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.serving.space import write_space


def get_parser() -> argparse.ArgumentParser:
    """Options of ``espnet-ensemble space``."""
    parser = make_parser("space", __doc__)
    parser.add_argument(
        "model", help="an archive, or a model's name on the Hugging Face hub"
    )
    parser.add_argument("dir", type=Path, help="where the files go")
    parser.add_argument("--title", help="the Space's (default: the model's name)")
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Write the files."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    for path in write_space(args.model, args.dir, args.title):
        print(path)


if __name__ == "__main__":
    main()
