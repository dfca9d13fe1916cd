#!/usr/bin/env python3
"""Divide a training set's tables, for ESPnet's --multiple_iterator true."""

import argparse

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.recipes.splitting import split_training


def get_parser() -> argparse.ArgumentParser:
    """Options of ``split_training``."""
    parser = make_parser("split_training", __doc__)
    parser.add_argument("tables", nargs="+", help="of the same utterances: text, ...")
    parser.add_argument("--num_splits", type=int, required=True, help="parts")
    parser.add_argument("--output_dir", required=True, help="where they go")
    parser.add_argument("--members", help="members.yaml of cached features")
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Divide them."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    split_training(args.tables, args.output_dir, args.num_splits, args.members)


if __name__ == "__main__":
    main()
