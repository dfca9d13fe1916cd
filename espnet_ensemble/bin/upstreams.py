#!/usr/bin/env python3
"""List the checkpoints that the paper uses, by the names that `upstreams` takes.

Any other of S3PRL's hub, or of the supported families on the Hugging Face hub, works in
`frontend_conf`, too.
"""

import argparse

from tabulate import tabulate

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.upstream.checkpoints import CHECKPOINTS


def get_parser() -> argparse.ArgumentParser:
    """Options of ``upstreams``."""
    return make_parser("upstreams", __doc__)


def main(cmd: list[str] | None = None) -> None:
    """List them."""
    run(get_parser(), lambda _: print(_table()), cmd)


def _table() -> str:
    notes = [checkpoint.note for checkpoint in CHECKPOINTS if checkpoint.note]
    rows = [
        (
            c.huggingface + (f" [{notes.index(c.note) + 1}]" if c.note else ""),
            c.s3prl,
            c.feature_size,
            c.num_layers,
            f"{c.parameters:.1f} M",
            c.data,
        )
        for c in CHECKPOINTS
    ]
    headers = ("transformers", "S3PRL", "size", "layers", "parameters", "data")
    numbered = [f"[{number}] {note}" for number, note in enumerate(notes, start=1)]
    return "\n".join([tabulate(rows, headers=headers), *numbered, _CUSTOM])


_CUSTOM = """\
S3PRL's hf_hubert_custom and hf_wav2vec2_custom take the id on the left as path_or_url."""


if __name__ == "__main__":
    main()
