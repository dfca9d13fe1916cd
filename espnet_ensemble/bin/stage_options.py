"""Options of ESPnet's ``local/data.sh``: which of its stages to run."""

import argparse
from collections.abc import Sequence


def add_stage_options(parser: argparse.ArgumentParser, stages: Sequence[str]) -> None:
    """Add ``--stage`` and ``--stop_stage``.

    Args:
        parser: The command's.
        stages: What each does, from the first.
    """
    listing = ", ".join(f"{number}: {what}" for number, what in enumerate(stages, 1))
    for name, default, which in (
        ("stage", 1, "first"),
        ("stop_stage", len(stages), "last"),
    ):
        parser.add_argument(
            f"--{name}",
            type=int,
            default=default,
            metavar="N",
            help=f"{which} stage to run, of {listing}",
        )


def runs(args: argparse.Namespace, stage: int) -> bool:
    """Whether a stage is to be run.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_stage_options(parser, ["get the corpus", "make data directories"])
        >>> [runs(parser.parse_args(["--stage", "2"]), stage) for stage in (1, 2)]
        [False, True]
    """
    return args.stage <= stage <= args.stop_stage
