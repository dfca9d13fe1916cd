"""The record of smoke runs: which systems of a table ran, when, and of which commit."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tabulate import tabulate

from espnet_ensemble.files import write_text
from espnet_ensemble.recipes.results_page import ask_git
from espnet_ensemble.recipes.tables.experiments import Experiment, Setup
from espnet_ensemble.recipes.tables.runs import time_file
from espnet_ensemble.recipes.tables.states import read_state
from espnet_ensemble.recipes.tables.systems import ExperimentTable


def write_smoke_record(
    root: Path, sandbox: Path, table: ExperimentTable, setup: Setup
) -> Path:
    """Write ``docs/results/smoke_<table>.md``: all of the paper's systems, run or not.

    Others of the table are in it if they have run.

    Args:
        root: The checkout.
        sandbox: The folder where the systems ran.
        table: The table.
        setup: How they are made.

    Returns:
        The file.
    """
    experiments = [
        Experiment(sandbox, replace(system, max_epoch=1), setup)
        for system in table.systems
    ]
    name = "_".join(filter(None, ["smoke", table.name, setup.name]))
    path = root / "docs" / "results" / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, _render(root, table, setup, experiments))
    return path


def _render(
    root: Path, table: ExperimentTable, setup: Setup, experiments: Sequence[Experiment]
) -> str:
    rows = [_row(experiment) for experiment in experiments]
    rows = [row for row in rows if row[4] != "not run" or row[0] == "paper"]
    of_the_paper = [row[4] for row in rows if row[0] == "paper"]
    options = " ".join(filter(None, [f"--table {table.label}", setup.options]))
    parts = [
        f"# Do they run? {options}",
        _WHAT,
        f"`espnet-ensemble table {options} --smoke` wrote this on "
        f"{time.strftime('%Y-%m-%d')}, at commit `{_commit(root)}`: of the paper's systems, "
        f"{of_the_paper.count('ran')} of {len(of_the_paper)} ran.",
        tabulate(rows, _HEADERS, "github", disable_numparse=True),
    ]
    return "\n\n".join(parts) + "\n"


_HEADERS = ["part", "corpus", "size", "upstreams and head", "state", "s"]
_WHAT = """\
Stages 1 to 13 of each system, on a few synthetic sentences in the layout of its corpus, for one
epoch, on CPU. Its upstreams are tiny and random, of the names, families, numbers of layers,
styles and normalization of the published ones, and 24 (wav2vec 2.0), 32 (HuBERT), 48 (HuBERT
xlarge) or 40 (WavLM) wide. Error rates mean nothing and are not here. A system's time is that
of all its stages that were not done for another one before."""


def _row(experiment: Experiment) -> list[str]:
    system, state, seconds = experiment.system, "not run", ""
    # Recipes come into the sandbox with the first of their systems.
    if experiment.recipe_dir.exists() and experiment.exp_dir.exists():
        state = "ran" if read_state(experiment).done else "failed"
        took = time_file(experiment)
        seconds = took.read_text().strip() if took.exists() else ""
    return [
        system.part,
        system.corpus.name,
        system.size,
        f"{system.combination} {system.head.name}",
        state,
        seconds,
    ]


def _commit(root: Path) -> str:
    commit = ask_git("rev-parse", "--short=12", "HEAD", folder=root) or "unknown"
    changed = ask_git("status", "--porcelain", "--untracked-files=no", folder=root)
    return f"{commit}, with changes" if changed else commit
