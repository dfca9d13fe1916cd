#!/usr/bin/env python3
"""Write a file for each upstream of a frontend, for experiments with one of them alone.

A line is printed for each: what the upstream is called, and the file, which
`asr.sh --frontend_config` takes.
"""

import argparse
from pathlib import Path

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.files import write_yaml
from espnet_ensemble.recipes.compare.members import member_frontends
from espnet_ensemble.recipes.training_config import TrainingConfig


def get_parser() -> argparse.ArgumentParser:
    """Options of ``member_frontends``."""
    parser = make_parser("member_frontends", __doc__)
    parser.add_argument("asr_config", help="training configuration of the ensemble")
    parser.add_argument("output_dir", type=Path, help="where the files go")
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Write the files."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    frontends = member_frontends(TrainingConfig.read(args.asr_config))
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for name, frontend in frontends.items():
        path = args.output_dir / f"{name}.yaml"
        write_yaml(path, frontend)
        print(name, path)


if __name__ == "__main__":
    main()
