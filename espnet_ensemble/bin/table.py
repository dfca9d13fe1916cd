#!/usr/bin/env python3
"""List the systems of a table of experiments and how far each has come, run them, or
collect their results. Run it in a checkout: conf/tables has the tables."""

import argparse
import shlex
from collections.abc import Iterable
from pathlib import Path

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.fusion import FUSIONS
from espnet_ensemble.recipes.checkout import find_checkout
from espnet_ensemble.recipes.tables.experiments import ENCODERS, Experiment, Variant
from espnet_ensemble.recipes.tables.listing import list_commands, list_experiments
from espnet_ensemble.recipes.tables.report import collect, summary, write_report
from espnet_ensemble.recipes.tables.runs import SystemRun, run_systems
from espnet_ensemble.recipes.tables.systems import (
    find_experiment_table,
    read_experiment_table,
    select,
)


def get_parser() -> argparse.ArgumentParser:
    """Options of ``espnet-ensemble table``."""
    parser = make_parser("table", __doc__)
    parser.add_argument(
        "--table",
        required=True,
        metavar="NAME",
        help="1, 2 or 3 of the paper, or another of conf/tables, such as mini_synth",
    )
    parser.add_argument(
        "--root",
        type=Path,
        help="checkout with conf/ and egs2/ (default: the one around the working "
        "directory)",
    )

    _add_actions(parser)
    _add_selection(parser)
    _add_variant(parser)
    parser.add_argument(
        "--run_args",
        type=shlex.split,
        default=[],
        help='more options of run.sh for every system, such as "--ngpu 4 --nj 8"',
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    """List, run or collect."""
    run(get_parser(), _work, cmd)


def _add_actions(parser: argparse.ArgumentParser) -> None:
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--dry_run", action="store_true", help="print the command of each system"
    )
    action.add_argument(
        "--run",
        action="store_true",
        help="run what is missing, and what was interrupted where it stopped; go on with "
        "the next system where one fails",
    )
    action.add_argument(
        "--collect",
        action="store_true",
        help="write docs/results/table<N>.md and .png: the paper's numbers and ours",
    )
    action.add_argument(
        "--smoke",
        action="store_true",
        help="see whether the systems run: in exp/smoke of the checkout, on a few "
        "synthetic sentences in each corpus's layout, with tiny random upstreams, for one "
        "epoch; no corpus, GPU or network is needed",
    )


def _add_selection(parser: argparse.ArgumentParser) -> None:
    which = parser.add_argument_group("which systems (default: all of the table)")
    which.add_argument("--corpus", help="such as wsj_10h")
    which.add_argument("--size", help="such as base")
    which.add_argument("--upstreams", help="such as wavlm+hubert")
    which.add_argument("--head", help="the downstream model, such as ctc")


def _add_variant(parser: argparse.ArgumentParser) -> None:
    beyond = parser.add_argument_group("beyond the paper")
    beyond.add_argument(
        "--layer",
        type=_layer,
        default="last",
        help="layer of all upstreams: last, weighted_sum or an index (default: last)",
    )
    beyond.add_argument(
        "--fusion",
        choices=FUSIONS,
        default="concat",
        help="how several upstreams are combined (default: concat)",
    )
    beyond.add_argument(
        "--encoder",
        choices=ENCODERS,
        default="transformer",
        help="where the head has one (default: transformer)",
    )


def _work(args: argparse.Namespace) -> None:
    root = find_checkout(args.root)
    table = read_experiment_table(find_experiment_table(root, args.table))
    variant = Variant(args.layer, args.fusion, args.encoder)
    systems = select(
        table.systems,
        corpus=args.corpus,
        size=args.size,
        upstreams=args.upstreams,
        head=args.head,
    )
    experiments = [Experiment(root, system, variant) for system in systems]
    if args.collect:
        report = collect(root, table, variant)
        files = write_report(report, root / "docs" / "results")
        _print([summary(report), *map(str, files)])
    elif args.dry_run:
        _print(list_commands(experiments, args.run_args))
    elif args.run:
        _print(run_systems([SystemRun(e, args.run_args) for e in experiments]))
    elif args.smoke:
        _smoke(experiments, root / "exp" / "smoke", args.run_args)
    else:
        print(list_experiments(experiments))


def _smoke(experiments: list[Experiment], sandbox: Path, run_args: list[str]) -> None:
    # Stand-ins for corpora and models, with torch and transformers: only here.
    from espnet_ensemble.recipes.tables.smoke import prepare_smoke_runs

    runs = prepare_smoke_runs(experiments, sandbox, run_args)
    try:
        _print(run_systems(runs))
    finally:
        print(list_experiments([smoke_run.experiment for smoke_run in runs]))


def _print(lines: Iterable[str]) -> None:
    """Print lines as they come, also into a pipe."""
    for line in lines:
        print(line, flush=True)


def _layer(value: str) -> str | int:
    return int(value) if value.lstrip("-").isdigit() else value


if __name__ == "__main__":
    main()
