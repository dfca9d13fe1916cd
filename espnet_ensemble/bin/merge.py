#!/usr/bin/env python3
"""Merge models that were trained with several seeds into one, by averaging their weights.

The result is an ordinary experiment, which costs no more than one of them: decode it with
asr.sh --asr_exp <output_dir> --stage 12. Configurations must be alike but for the seed.
"""

import argparse
from pathlib import Path

from espnet_ensemble.bin.command import make_parser, run


def get_parser() -> argparse.ArgumentParser:
    """Options of ``espnet-ensemble merge``."""
    parser = make_parser("merge", __doc__)
    parser.add_argument(
        "exp_dir", nargs="+", type=Path, help="experiment, such as exp/asr_x"
    )
    parser.add_argument(
        "--output_dir",
        type=Path,
        required=True,
        help="for the experiment that is made, such as exp/asr_merged",
    )
    parser.add_argument(
        "--inference_asr_model",
        default="valid.cer_ctc.ave.pth",
        help="checkpoint of each, and its name in the result (default: %(default)s)",
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Merge models."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    # Takes seconds, in which options are refused.
    from espnet_ensemble.recipes.merging import merge_experiments

    print(merge_experiments(args.exp_dir, args.output_dir, args.inference_asr_model))


if __name__ == "__main__":
    main()
