#!/usr/bin/env python3
"""Do a job's part of the extraction, which extract --cmd has submitted."""

import argparse

from espnet_ensemble.bin.command import make_parser, run, show_log
from espnet_ensemble.feature_cache.jobs import make_planned


def get_parser() -> argparse.ArgumentParser:
    """Options of ``extract_shards``."""
    parser = make_parser("extract_shards", __doc__)
    parser.add_argument("plan", help="file that says which archives it makes, and how")
    parser.add_argument("--ngpu", type=int, choices=(0, 1), default=0, help="GPUs")
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Make the archives, and log each."""
    show_log("%(asctime)s %(message)s")
    run(get_parser(), lambda args: make_planned(args.plan, args.ngpu), cmd)


if __name__ == "__main__":
    main()
