#!/usr/bin/env python3
"""Print the environment and the error rates of experiments, as ESPnet's RESULTS.md."""

import argparse

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.recipes.results_page import results_page


def get_parser() -> argparse.ArgumentParser:
    """Options of ``show_asr_result``."""
    parser = make_parser("show_asr_result", __doc__)
    parser.add_argument(
        "exp_dir",
        nargs="*",
        default=["exp"],
        help="experiment, such as exp/asr_x, or a folder of some (default: exp)",
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Print them."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    print(results_page(args.exp_dir))


if __name__ == "__main__":
    main()
