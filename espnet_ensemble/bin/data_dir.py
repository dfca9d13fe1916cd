#!/usr/bin/env python3
"""Check, repair, combine and divide Kaldi-style data directories."""

import argparse

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.data import datadir
from espnet_ensemble.data.streams import keys_of
from espnet_ensemble.data.tables import read_rows


def get_parser() -> argparse.ArgumentParser:
    """Options of ``data_dir``, with a sub-command for each thing to do."""
    parser = make_parser("data_dir", __doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")

    verb = verbs.add_parser(
        "validate", help="check that the files are sorted and agree"
    )
    verb.add_argument("data_dir")
    verb.add_argument("--no_text", action="store_true", help="it need not have a text")

    verb = verbs.add_parser("fix", help="sort, keep the utterances that all files have")
    verb.add_argument("data_dir")

    verb = verbs.add_parser("combine", help="join data directories")
    verb.add_argument("dest")
    verb.add_argument("src", nargs="+")

    verb = verbs.add_parser("subset", help="take a part of a data directory")
    verb.add_argument("src")
    verb.add_argument("dest")
    which = verb.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--utt_list", help="file with an utterance at the beginning of each line"
    )
    which.add_argument("--first", type=int, help="this many, from the beginning")
    which.add_argument("--per_spk", type=int, help="this many of each speaker")

    verb = verbs.add_parser(
        "split", help="divide a data directory, or one of its files, into n parts"
    )
    verb.add_argument("src")
    verb.add_argument("dest", help="folder for the parts")
    verb.add_argument("n", type=int)
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Check or change data directories, and say what was done."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    for line in _VERBS[args.verb](args):
        print(line)


def _validate(args: argparse.Namespace) -> list[str]:
    size = datadir.check(args.data_dir, need_text=not args.no_text)
    return [f"{args.data_dir}: {size} utterances, valid"]


def _fix(args: argparse.Namespace) -> list[str]:
    dropped = datadir.fix(args.data_dir)
    lines = [
        f"{utt_id}: not in {', '.join(names)}" for utt_id, names in dropped.items()
    ]
    return [*lines, f"{args.data_dir}: dropped {len(dropped)} utterances"]


def _combine(args: argparse.Namespace) -> list[str]:
    left_out = datadir.combine(args.dest, *args.src)
    return [f"{args.dest}: no {name}, as not all sources have it" for name in left_out]


def _subset(args: argparse.Namespace) -> list[str]:
    utt_ids = keys_of(read_rows(args.utt_list)) if args.utt_list else None
    size = datadir.subset(args.src, args.dest, utt_ids, args.first, args.per_spk)
    return [f"{args.dest}: {size} utterances"]


def _split(args: argparse.Namespace) -> list[str]:
    return list(map(str, datadir.split(args.src, args.dest, args.n)))


_VERBS = {
    "validate": _validate,
    "fix": _fix,
    "combine": _combine,
    "subset": _subset,
    "split": _split,
}


if __name__ == "__main__":
    main()
