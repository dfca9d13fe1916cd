#!/usr/bin/env python3
"""``espnet-ensemble table``: list, run and collect the systems of the paper's tables."""

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path

from tabulate import tabulate

from espnet_ensemble.bin.train_config import ConfigError
from espnet_ensemble.data.tables import DataError
from espnet_ensemble.files import write_text
from espnet_ensemble.fusion import FUSIONS
from espnet_ensemble.recipes.tables.commands import (
    ENCODERS,
    Variant,
    command,
    experiment_dir,
    recipe_dir,
    training_config,
    write_frontend_config,
)
from espnet_ensemble.recipes.tables.report import (
    Report,
    Row,
    claims_table,
    draw,
    render,
)
from espnet_ensemble.recipes.tables.runs import Job, run_jobs
from espnet_ensemble.recipes.tables.smoke import make_sandbox, shorten
from espnet_ensemble.recipes.tables.smoke import run_args as sandbox_args
from espnet_ensemble.recipes.tables.states import State, read_state
from espnet_ensemble.recipes.tables.systems import (
    ExperimentTable,
    System,
    TableError,
    read_experiment_table,
    select,
)


def get_parser() -> argparse.ArgumentParser:
    """Options of ``espnet-ensemble table``."""
    parser = argparse.ArgumentParser(
        prog="espnet-ensemble table",
        description="List the systems of one of the paper's tables and how far each has "
        "come, run them, or collect their results. Run it in a checkout.",
    )
    parser.add_argument("--table", required=True, type=int, choices=(1, 2, 3))
    parser.add_argument(
        "--root",
        type=Path,
        help="checkout with conf/ and egs2/ (default: the one around the working "
        "directory, else the one that the package is installed from)",
    )

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

    which = parser.add_argument_group("which systems (default: all of the table)")
    which.add_argument("--corpus", help="such as wsj_10h")
    which.add_argument("--size", help="such as base")
    which.add_argument("--upstreams", help="such as wavlm+hubert")
    which.add_argument("--head", help="such as ctc")

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

    parser.add_argument(
        "--run_args",
        type=shlex.split,
        default=[],
        help='more options of run.sh for every system, such as "--ngpu 4 --nj 8"',
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    """List, run or collect."""
    parser = get_parser()
    args = parser.parse_args(cmd)
    try:
        root = find_root(args.root)
        table = read_experiment_table(
            root / "conf" / "tables" / f"table{args.table}.yaml"
        )
        variant = Variant(args.layer, args.fusion, args.encoder)
        systems = select(
            table.systems,
            corpus=args.corpus,
            size=args.size,
            upstreams=args.upstreams,
            head=args.head,
        )
        if args.collect:
            collect(root, table, variant)
        elif args.dry_run:
            dry_run(root, systems, variant, args.run_args)
        elif args.run:
            run(root, systems, variant, lambda _: args.run_args)
        elif args.smoke:
            smoke(root, systems, variant, args.run_args)
        else:
            show(root, systems, variant)
    except (TableError, ConfigError, DataError, OSError) as error:
        parser.exit(1, f"table: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "table: interrupted; run it again to go on\n")


def find_root(given: Path | None = None) -> Path:
    """The checkout: the one that is given, around the working directory, or installed.

    Raises:
        TableError: If there is none.
    """
    here, installed = Path.cwd(), Path(__file__).resolve().parents[2]
    folders = [given] if given else [here, *here.parents, installed]
    for folder in folders:
        if (folder / "conf" / "tables").is_dir():
            return folder.resolve()
    raise TableError(
        f"{given or here}: expected a checkout, with conf/tables; give one with --root"
    )


def show(root: Path, systems: list[System], variant: Variant) -> None:
    """Print the systems and how far each has come."""
    lines = [
        [
            system.corpus.name,
            system.size,
            system.combination,
            system.head,
            _describe(root, system, variant),
        ]
        for system in systems
    ]
    done = sum(_state(root, system, variant).done for system in systems)
    print(tabulate(lines, ["corpus", "size", "upstreams", "head", "state"]))
    print(f"{done} of {len(systems)} done")


def dry_run(
    root: Path, systems: list[System], variant: Variant, run_args: list[str]
) -> None:
    """Print the commands, to be run in the checkout; write the files that they name."""
    for system in systems:
        words = command(root, system, variant, run_args)
        write_frontend_config(root, system, variant)
        print(f"# {system}: {_describe(root, system, variant)}\n{shlex.join(words)}")


def run(
    root: Path,
    systems: list[System],
    variant: Variant,
    run_args: Callable[[System], list[str]],
    env: dict[str, str] | None = None,
) -> None:
    """Run what is not done.

    Args:
        root: The checkout.
        systems: What to run.
        variant: How they differ from the paper's.
        run_args: Gives more options of a system's run.sh.
        env: More environment variables.

    Raises:
        TableError: If a recipe is missing, or systems failed.
    """
    jobs = []
    for system in systems:
        script = recipe_dir(root, system) / "run.sh"
        if not script.is_file():
            raise TableError(f"{script}: there is no such file")
        words = command(root, system, variant, run_args(system))
        exp_dir = experiment_dir(root, system, variant)
        jobs.append(Job(system, words, exp_dir, env or {}))
    for system in systems:
        write_frontend_config(root, system, variant)
    failures = run_jobs(root, jobs)
    print(f"{len(jobs) - len(failures)} of {len(jobs)} systems done")
    if failures:
        raise TableError("failed:\n  " + "\n  ".join(failures))


def smoke(
    root: Path, systems: list[System], variant: Variant, run_args: list[str]
) -> None:
    """Run stand-ins of the systems, and print their error rates, which mean nothing."""
    sandbox = make_sandbox(root, root / "exp" / "smoke", systems)
    systems = [shorten(system) for system in systems]
    try:
        run(
            sandbox.root,
            systems,
            variant,
            lambda system: sandbox_args(system) + run_args,
            sandbox.env,
        )
    finally:
        show(sandbox.root, systems, variant)


def collect(root: Path, table: ExperimentTable, variant: Variant) -> None:
    """Write the results of the whole table, and print whether the claims hold."""
    rows = [
        Row(
            system,
            _state(root, system, variant).rates,
            training_config(root, system, variant)["max_epoch"],
        )
        for system in table.systems
    ]
    report = Report(table, rows, _options(variant))
    folder = root / "docs" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    name = "_".join(filter(None, [table.name, variant.name]))
    draw(report, folder / f"{name}.png")
    write_text(folder / f"{name}.md", render(report, f"{name}.png"))
    print(claims_table(report))
    print(f"{folder / name}.md\n{folder / name}.png")


def _layer(value: str):
    return int(value) if value.lstrip("-").isdigit() else value


def _options(variant: Variant) -> str:
    """The options of the command that make the variant."""
    given, paper = vars(variant), vars(Variant())
    return " ".join(f"--{k} {v}" for k, v in given.items() if v != paper[k])


def _state(root: Path, system: System, variant: Variant) -> State:
    return read_state(experiment_dir(root, system, variant), system)


def _describe(root: Path, system: System, variant: Variant) -> str:
    max_epoch = training_config(root, system, variant)["max_epoch"]
    return _state(root, system, variant).describe(max_epoch)


if __name__ == "__main__":
    main()
