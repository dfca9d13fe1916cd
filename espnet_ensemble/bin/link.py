#!/usr/bin/env python3
"""Place our recipes in a checkout of ESPnet, where they run with its own asr.sh.

egs2/<corpus>/asr1 becomes egs2/<corpus>/asr1_ensemble there, by links; no file of ESPnet's is
touched. With --remove, they are taken out again; what they have made stays.
"""

import argparse
from pathlib import Path

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.recipes.checkout import find_checkout
from espnet_ensemble.recipes.linking import link_recipes, unlink_recipes


def get_parser() -> argparse.ArgumentParser:
    """Options of ``link``."""
    parser = make_parser("link", __doc__)
    parser.add_argument(
        "espnet_root", type=Path, metavar="ESPNET_ROOT", help="checkout of ESPnet"
    )
    parser.add_argument(
        "--root",
        type=Path,
        help="checkout of ESPnet-Ensemble (default: the one around this folder)",
    )
    parser.add_argument("--remove", action="store_true", help="take them out again")
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Link recipes, or unlink them, and say which."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    root = find_checkout(args.root)
    if not args.remove:
        for folder in link_recipes(args.espnet_root, root):
            print(f"{folder}/run.sh")
        return
    for folder, left in unlink_recipes(args.espnet_root, root).items():
        print(f"{folder}: kept {', '.join(left)}" if left else f"{folder}: removed")


if __name__ == "__main__":
    main()
