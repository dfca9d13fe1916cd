#!/usr/bin/env python3
"""List the systems of a table of experiments and how far each has come, run them, or
collect their results. Run it in a checkout: conf/tables has the tables."""

import argparse
import re
import shlex
from collections.abc import Iterable
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.fusion import FUSIONS
from espnet_ensemble.recipes.checkout import find_checkout
from espnet_ensemble.recipes.tables.experiments import (
    ENCODERS,
    LOADERS,
    Experiment,
    Setup,
)
from espnet_ensemble.recipes.tables.listing import list_commands, list_experiments
from espnet_ensemble.recipes.tables.report import collect, summary
from espnet_ensemble.recipes.tables.runs import SystemRun, run_systems
from espnet_ensemble.recipes.tables.systems import (
    PARTS,
    ExperimentTable,
    find_experiment_table,
    read_experiment_table,
    select,
)
from espnet_ensemble.recipes.tables.variants import DEFAULT_VARIANT, VARIANTS
from espnet_ensemble.recipes.tables.writing import write_report


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
    _add_setup(parser)
    parser.add_argument(
        "--run_args",
        type=shlex.split,
        default=[],
        help='more options of run.sh for every system, such as "--ngpu 4 --nj 8"; with '
        "--asr_args, which makes other experiments, give it with --collect, too",
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
        "epoch; no corpus, GPU or network is needed; docs/results/smoke_table<N>.md says "
        "what ran",
    )


def _add_selection(parser: argparse.ArgumentParser) -> None:
    which = parser.add_argument_group("which systems (default: all of the paper's)")
    which.add_argument(
        "--part",
        choices=[*PARTS.values(), "all"],
        default="paper",
        help="systems of the paper; by another reading of what it says; controls, which a "
        "reviewer asks for (default: paper)",
    )
    which.add_argument("--corpus", help="such as wsj_10h")
    which.add_argument("--size", help="such as base")
    which.add_argument("--upstreams", help="such as wavlm+hubert")
    which.add_argument("--head", help="the downstream model, such as ctc")
    which.add_argument(
        "--seeds",
        type=_seeds,
        default=[0],
        metavar="SEEDS",
        help="train each system with each of these, such as 0-4 or 0,7 (default: 0)",
    )


def _add_setup(parser: argparse.ArgumentParser) -> None:
    left_open = parser.add_argument_group("what the paper leaves open: docs/paper.md")
    left_open.add_argument(
        "--variant",
        choices=VARIANTS,
        default=DEFAULT_VARIANT,
        help=f"(default: {DEFAULT_VARIANT})",
    )
    left_open.add_argument(
        "--loader",
        choices=LOADERS,
        default="transformers",
        help="what loads the upstreams; with s3prl, transformers loads those that S3PRL has "
        "no name for (default: transformers)",
    )
    beyond = parser.add_argument_group("beyond the paper")
    beyond.add_argument(
        "--layer",
        type=_layers,
        default=_layers("last"),
        metavar="LAYER",
        help="layer of all upstreams: last, weighted_sum or an index; or of one, such as "
        "wav2vec2=7; several with commas (default: last)",
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
    systems = select(
        table.systems,
        part=None if args.part == "all" else args.part,
        corpus=args.corpus,
        size=args.size,
        upstreams=args.upstreams,
        head=args.head,
    )
    run_args, asr_args = _take(args.run_args, "asr_args")
    setup = Setup(
        **args.layer,
        variant=args.variant,
        fusion=args.fusion,
        encoder=args.encoder,
        loader=args.loader,
        asr_args=asr_args,
    )
    setups = [replace(setup, seed=seed) for seed in args.seeds]
    experiments = [Experiment(root, system, s) for system in systems for s in setups]
    if args.collect:
        report = collect(root, table, setup, args.seeds)
        files = write_report(report, root / "docs" / "results")
        _print([summary(report), *map(str, files)])
    elif args.dry_run:
        _print(list_commands(experiments, run_args))
    elif args.run:
        _print(run_systems([SystemRun(e, run_args) for e in experiments]))
    elif args.smoke:
        _smoke(root, table, experiments, run_args)
    else:
        print(list_experiments(experiments))


def _smoke(
    root: Path,
    table: ExperimentTable,
    experiments: list[Experiment],
    run_args: list[str],
) -> None:
    # Stand-ins for corpora and models, with torch and transformers: only here.
    from espnet_ensemble.recipes.tables.smoke import prepare_smoke_runs
    from espnet_ensemble.recipes.tables.smoke_record import write_smoke_record

    sandbox = root / "exp" / "smoke"
    runs = prepare_smoke_runs(experiments, sandbox, run_args)
    try:
        _print(run_systems(runs))
    finally:
        print(list_experiments([smoke_run.experiment for smoke_run in runs]))
        print(write_smoke_record(root, sandbox, table, experiments[0].setup))


def _print(lines: Iterable[str]) -> None:
    """Print lines as they come, also into a pipe."""
    for line in lines:
        print(line, flush=True)


def _take(run_args: list[str], name: str) -> tuple[list[str], str]:
    """Take an option and its value out of a list; the value is "" where it is not there."""
    rest: list[tuple[str, str]] = []
    taken: list[tuple[str, str]] = []
    for option, value in zip_longest(run_args[::2], run_args[1::2], fillvalue=""):
        is_it = option.removeprefix("--").replace("-", "_") == name
        (taken if is_it else rest).append((option, value))
    words = [word for pair in rest for word in pair][: len(run_args)]
    return words, " ".join(value for _, value in taken)


def _layers(value: str) -> dict[str, Any]:
    """Read ``--layer``: of all upstreams, and of those that are named."""
    words = [word.rpartition("=") for word in value.split(",")]
    alone = [_layer(layer) for family, _, layer in words if not family]
    named = [(family, _layer(layer)) for family, _, layer in words if family]
    if len(alone) > 1:
        raise argparse.ArgumentTypeError(
            f"expected one layer of all upstreams, found {', '.join(map(str, alone))}"
        )
    return {"layer": alone[0] if alone else "last", "layers": tuple(named)}


def _layer(value: str) -> str | int:
    return int(value) if value.lstrip("-").isdigit() else value


def _seeds(value: str) -> list[int]:
    """Read ``--seeds``: numbers and ranges."""
    seeds: list[int] = []
    for part in value.split(","):
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if found is None:
            raise argparse.ArgumentTypeError(
                f"expected numbers from 0 and ranges, such as 0-4, found {value!r}"
            )
        seeds += range(int(found[1]), int(found[2] or found[1]) + 1)
    return list(dict.fromkeys(seeds))


if __name__ == "__main__":
    main()
