#!/usr/bin/env python3
"""Compare an ensemble with its members, each trained alone and alike.

`asr.sh --compare_members true` makes their experiments, in EXP/members.
"""

import argparse
from pathlib import Path

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.recipes.compare.members import compare_members, render_members


def get_parser() -> argparse.ArgumentParser:
    """Options of ``compare_members``."""
    parser = make_parser("compare_members", __doc__)
    parser.add_argument("exp", type=Path, help="experiment, such as exp/asr_x")
    parser.add_argument("--inference_tag", required=True, help="decoding of all")
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Print a table for each dataset, and draw them."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    from espnet_ensemble.recipes.compare.picture import draw_systems

    comparisons = compare_members(args.exp, args.inference_tag)
    print("\n\n".join(map(render_members, comparisons)))
    picture = args.exp / "images" / "members.png"
    draw_systems(comparisons, picture)
    print(f"picture: {picture.resolve()}")


if __name__ == "__main__":
    main()
