#!/usr/bin/env python3
"""``espnet-ensemble upstreams``: the published checkpoints that the paper uses."""

import argparse

from tabulate import tabulate

from espnet_ensemble.upstream.checkpoints import CHECKPOINTS


def get_parser() -> argparse.ArgumentParser:
    """Options of ``espnet-ensemble upstreams``."""
    return argparse.ArgumentParser(
        prog="espnet-ensemble upstreams",
        description="List the checkpoints that the paper uses, by the names that "
        "`upstreams` of frontend_conf takes. Any other of S3PRL's hub, or of the "
        "supported families on the Hugging Face hub, works too.",
    )


def main(cmd: list[str] | None = None) -> None:
    """Print the table."""
    get_parser().parse_args(cmd)
    notes = [checkpoint.note for checkpoint in CHECKPOINTS if checkpoint.note]
    rows = [
        (
            c.huggingface + (f" [{notes.index(c.note) + 1}]" if c.note else ""),
            c.s3prl or "-",
            c.feature_size,
            c.num_layers,
            f"{c.parameters:.1f} M",
            c.data,
        )
        for c in CHECKPOINTS
    ]
    headers = ("transformers", "S3PRL", "size", "layers", "parameters", "data")
    print(tabulate(rows, headers=headers))
    for number, note in enumerate(notes, start=1):
        print(f"[{number}] {note}")


if __name__ == "__main__":
    main()
