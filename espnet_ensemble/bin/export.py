#!/usr/bin/env python3
"""Make an encoder for transformers of a trained model's frontend.

The folder that is written holds the trained fusion, names published upstreams, and has copies of
those of this machine. In Python, where espnet_ensemble is imported,
transformers.AutoModel.from_pretrained(DIR) loads it.
"""

import argparse
from pathlib import Path

from espnet_ensemble.bin.command import make_parser, run


def get_parser() -> argparse.ArgumentParser:
    """Options of ``espnet-ensemble export``."""
    parser = make_parser("export", __doc__)
    parser.add_argument(
        "model",
        help="an experiment (exp/asr_x), an archive, or an id on the Hugging Face hub",
    )
    parser.add_argument("output_dir", type=Path, help="folder to write")
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Write the encoder."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    # Takes seconds, in which options are refused.
    from espnet_ensemble.integrations.huggingface.trained_encoder import trained_encoder

    encoder = trained_encoder(args.model)
    encoder.save_pretrained(args.output_dir)
    print(
        f"{args.output_dir}: {encoder.output_dim} features every "
        f"{encoder.hop_size_in_ms:g} ms, of speech at {encoder.sampling_rate} Hz"
    )


if __name__ == "__main__":
    main()
