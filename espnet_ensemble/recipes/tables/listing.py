"""Lists experiments: how far each has come, and the command that runs it."""

import shlex
from collections.abc import Iterator, Sequence

from tabulate import tabulate

from espnet_ensemble.recipes.tables.experiments import Experiment
from espnet_ensemble.recipes.tables.states import read_state


def list_experiments(experiments: Sequence[Experiment]) -> str:
    """A table of experiments and their states.

    Raises:
        EnsembleError: If results cannot be read.
    """
    states = [read_state(experiment) for experiment in experiments]
    lines = [
        (
            experiment.system.corpus.name,
            experiment.system.size,
            experiment.system.combination,
            experiment.system.head.name,
            experiment.setup.seed,
            state.describe(experiment.max_epoch),
        )
        for experiment, state in zip(experiments, states, strict=True)
    ]
    done = sum(state.done for state in states)
    table = tabulate(lines, ["corpus", "size", "upstreams", "head", "seed", "state"])
    return f"{table}\n{done} of {len(experiments)} done"


def list_commands(
    experiments: Sequence[Experiment], run_args: list[str]
) -> Iterator[str]:
    """Give the commands, to be run in the checkout; write the files that they name.

    Args:
        experiments: What the commands run.
        run_args: More options of ``run.sh``.

    Yields:
        For each experiment a comment with its state, and the command.

    Raises:
        EnsembleError: If ``run_args`` has an option that the table sets.
    """
    for experiment in experiments:
        words = experiment.command(run_args)
        experiment.write_configs()
        state = read_state(experiment).describe(experiment.max_epoch)
        yield f"# {experiment}: {state}\n{shlex.join(words)}"
