#!/usr/bin/env python3
"""Upload a packed model and its card to the Hugging Face hub."""

import argparse

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.recipes.publishing import upload


def get_parser() -> argparse.ArgumentParser:
    """Options of ``espnet-ensemble upload``."""
    parser = make_parser("upload", __doc__)
    parser.add_argument("archive", help="what pack has made")
    parser.add_argument("hf_repo", help="repository on the hub, such as user/model")
    parser.add_argument(
        "--dry_run", action="store_true", help="show what would be uploaded"
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Upload a model, or show what that would be."""
    run(get_parser(), _upload, cmd)


def _upload(args: argparse.Namespace) -> None:
    files, card = upload(args.archive, args.hf_repo, args.dry_run)
    for file in files:
        print(f"{file.num_bytes:>12}  {file.name}")
    verb = "would be uploaded" if args.dry_run else "uploaded"
    total = sum(file.num_bytes for file in files)
    print(
        f"{verb} to https://huggingface.co/{args.hf_repo}: {len(files)} files, {total} bytes"
    )
    if args.dry_run:
        print(f"\nREADME.md:\n\n{card}", end="")


if __name__ == "__main__":
    main()
