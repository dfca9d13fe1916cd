#!/usr/bin/env python3
"""Filter ESPnet's train.log, as it is written: a line for each epoch.

tail -F exp/asr_x/train.log | python -m espnet_ensemble.bin.show_epochs
"""

import argparse
import signal
import sys

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.recipes.train_log import epoch_lines


def get_parser() -> argparse.ArgumentParser:
    """Options of ``show_epochs``; the log is its standard input."""
    parser = make_parser("show_epochs", __doc__)
    parser.add_argument(
        "--train_config",
        help="config.yaml of the experiment, to warn if warm-up outlasts training",
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Print a line when an epoch's comes."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    # On Ctrl-C a filter goes at once and says nothing.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # What programs write into a log need not be UTF-8.
    log = open(sys.stdin.fileno(), encoding="utf-8", errors="replace", closefd=False)
    for line in epoch_lines(log, args.train_config):
        print(line, flush=True)


if __name__ == "__main__":
    main()
