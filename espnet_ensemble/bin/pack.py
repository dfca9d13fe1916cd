#!/usr/bin/env python3
"""``espnet2.bin.pack``, which also packs the upstreams that exist only locally."""

import argparse

from espnet2.bin.pack import get_parser

from espnet_ensemble.integrations.espnet2.packing import PackError, pack

__all__ = ["get_parser", "main"]


def main(cmd: list[str] | None = None) -> None:
    """Pack, and list what the archive holds."""
    parser = get_parser()
    args = parser.parse_args(cmd)
    if not hasattr(args, "contents"):
        parser.error("expected what to pack, such as asr")
    try:
        members = pack(
            yaml_files=_given(args, args.contents.yaml_files),
            files=_given(args, args.contents.files),
            option=args.option,
            outpath=args.outpath,
        )
    except (PackError, OSError) as error:
        parser.exit(1, f"pack: {error}\n")
    for member in members:
        print(f"  {member}")
    print(f"{args.outpath}: {len(members)} members")


def _given(args: argparse.Namespace, keys: list[str]) -> dict:
    return {key: getattr(args, key) for key in keys if getattr(args, key) is not None}


if __name__ == "__main__":
    main()
