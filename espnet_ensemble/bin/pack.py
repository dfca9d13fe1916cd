#!/usr/bin/env python3
"""``espnet2.bin.pack``, which also packs the upstreams that exist only locally."""

import argparse

from espnet2.bin import pack as espnet_pack

from espnet_ensemble.bin.command import run
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.integrations.espnet2.packing import pack


def get_parser() -> argparse.ArgumentParser:
    """Options of ``espnet2.bin.pack``."""
    parser = espnet_pack.get_parser()
    parser.prog = "espnet-ensemble pack"
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Pack a model."""
    run(get_parser(), _pack, cmd)


def _pack(args: argparse.Namespace) -> None:
    if not hasattr(args, "contents"):
        raise EnsembleError("expected what to pack, such as asr")
    names = pack(
        yaml_files=_given(args, args.contents.yaml_files),
        files=_given(args, args.contents.files),
        option=args.option,
        outpath=args.outpath,
    )
    for name in names:
        print(f"  {name}")
    print(f"{args.outpath}: {len(names)} files and folders")


def _given(args: argparse.Namespace, keys: list[str]) -> dict:
    return {key: getattr(args, key) for key in keys if getattr(args, key) is not None}


if __name__ == "__main__":
    main()
