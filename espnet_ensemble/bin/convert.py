#!/usr/bin/env python3
"""Convert a configuration with ESPnet's s3prl, fused or huggingface to frontend: ensemble.

The new one is printed; on standard error, what changes and why results will differ. With
--model_file, a trained model is converted, too: without the weights of frozen upstreams, with the
same features of an utterance alone, which is checked.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import edit_yaml, read_yaml


def get_parser() -> argparse.ArgumentParser:
    """Options of ``espnet-ensemble convert``."""
    parser = make_parser("convert", __doc__)
    parser.add_argument(
        "config",
        type=Path,
        help="training configuration, such as conf/train_asr.yaml; or that of a trained "
        "model, such as exp/asr_x/config.yaml",
    )
    parser.add_argument(
        "--model_file",
        type=Path,
        help="its weights, such as exp/asr_x/valid.acc.ave.pth",
    )
    parser.add_argument(
        "--output_dir",
        type=Path,
        help="for the experiment that is made of both, such as exp/asr_x_ensemble",
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Convert a configuration, or a model."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    if (args.model_file is None) != (args.output_dir is None):
        raise EnsembleError("expected --model_file and --output_dir, or neither")
    # Takes seconds, in which options are refused.
    from espnet_ensemble.integrations.espnet2.stock_frontends import translate

    if args.model_file is None:
        translation = translate(read_yaml(args.config))
        text = args.config.read_text(encoding="utf-8")
        print(edit_yaml(text, translation.changes), end="")
        _say(translation.remarks)
        return
    from espnet_ensemble.integrations.espnet2.stock_models import convert_model

    translation, found = convert_model(args.config, args.model_file, args.output_dir)
    print(args.output_dir / args.model_file.name)
    _say(
        [
            *translation.remarks,
            f"features of 1 s of noise alone: those of {translation.stock}, but for "
            f"{found.alone:.1e}, relative to their size",
            f"beside 2 s of noise, they differ from those alone by {found.stock_in_batch:.1%} "
            f"with {translation.stock}, by {found.ours_in_batch:.1e} with ensemble",
        ]
    )


def _say(remarks: Sequence[str]) -> None:
    for remark in remarks:
        print(f"- {remark}", file=sys.stderr)


if __name__ == "__main__":
    main()
