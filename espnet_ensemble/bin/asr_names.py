#!/usr/bin/env python3
"""Print what asr.sh calls its folders and files, as assignments for the shell.

First, the training configuration with its frontend is written to <expdir>/conf.
"""

import argparse
import shlex
from dataclasses import fields
from pathlib import Path

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.recipes.names import AsrNames, NamingOptions
from espnet_ensemble.recipes.training_config import read_training_config


def get_parser() -> argparse.ArgumentParser:
    """Options of ``asr_names``: those of ``asr.sh`` that names depend on."""
    parser = make_parser("asr_names", __doc__)
    parser.add_argument("--asr_config", required=True, help="training configuration")
    parser.add_argument(
        "--frontend_config", help="file with frontend and frontend_conf to use instead"
    )
    parser.add_argument(
        "--upstreams",
        type=str.split,
        default=[],
        help="names of upstreams to use instead, separated by spaces",
    )
    group = parser.add_argument_group("options of asr.sh, with its defaults")
    for field in fields(NamingOptions):
        group.add_argument(f"--{field.name}", default=field.default)
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Write the configuration, and print its path and all names."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    config = read_training_config(args.asr_config, args.frontend_config, args.upstreams)
    given = {field.name: getattr(args, field.name) for field in fields(NamingOptions)}
    names = AsrNames.of(NamingOptions(**given), config.name)
    path = config.write(Path(args.expdir, "conf"))
    print(f"asr_config={shlex.quote(str(path))}\n{names.to_shell()}")


if __name__ == "__main__":
    main()
