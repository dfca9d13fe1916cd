#!/usr/bin/env python3
"""Compare decodings of the same utterances: error rates with confidence intervals and a
paired test, what differs in the configurations, where the systems differ, what a perfect
combination could reach, and which references may be wrong."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.bin.systems_options import add_systems_options, find_systems
from espnet_ensemble.files import write_text
from espnet_ensemble.recipes.compare.comparison import compare
from espnet_ensemble.recipes.compare.page import render_page
from espnet_ensemble.recipes.compare.report import render
from espnet_ensemble.recipes.compare.systems import read_systems


def get_parser() -> argparse.ArgumentParser:
    """Options of ``espnet-ensemble compare``."""
    parser = make_parser("compare", __doc__)
    add_systems_options(parser, "the first is the baseline")
    parser.add_argument(
        "--number", type=int, default=10, help="utterances to print of each kind"
    )
    parser.add_argument(
        "--draws", type=int, default=10000, help="draws of the bootstrap"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument(
        "--html", type=Path, help="write a page with all utterances that differ"
    )
    parser.add_argument("--json", type=Path, help="write the numbers, for programs")
    parser.add_argument(
        "--image", type=Path, help="draw the error rates and their intervals (PNG)"
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Compare, print and write."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    decodings, datasets = find_systems(args)
    comparisons = [
        compare(dataset, read_systems(decodings, dataset), args.draws, args.seed)
        for dataset in datasets
    ]
    print("\n\n\n".join(render(comparison, args.number) for comparison in comparisons))
    if args.html:
        write_text(args.html, render_page(comparisons))
        print(f"\npage: {args.html.resolve()}")
    if args.json:
        numbers = [asdict(comparison) for comparison in comparisons]
        write_text(args.json, json.dumps(numbers, indent=1, default=str) + "\n")
    if args.image:
        # Who wants no picture need not wait for matplotlib.
        from espnet_ensemble.recipes.compare.picture import draw_systems

        draw_systems(comparisons, args.image)
        print(f"\npicture: {args.image.resolve()}")


if __name__ == "__main__":
    main()
