#!/usr/bin/env python3
"""Decode a trained model without each of its members: what does each contribute?

For a model that was trained with member_dropout. Each subset of the members gets an ordinary
decoding, <exp_dir>/members_<name>+<name>, which is scored at once; a table compares them.
Run it in the recipe's folder.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.bin.scoring_options import add_scoring_options, scoring_options
from espnet_ensemble.files import write_text
from espnet_ensemble.integrations.espnet2.model import ESPnetCTCModel, load_ctc_model
from espnet_ensemble.recipes.ablation import (
    all_subsets,
    contributions_table,
    decode_subsets,
    leave_one_out,
)
from espnet_ensemble.recipes.compare.comparison import compare
from espnet_ensemble.recipes.compare.report import heading
from espnet_ensemble.recipes.compare.systems import read_systems
from espnet_ensemble.recipes.results_page import results_page


def get_parser() -> argparse.ArgumentParser:
    """Options of ``espnet-ensemble ablate``."""
    parser = make_parser("ablate", __doc__)
    add_ablation_options(parser)
    parser.add_argument(
        "--all_subsets",
        action="store_true",
        help="decode with every subset of the members, in place of leave-one-out",
    )
    return parser


def add_ablation_options(parser: argparse.ArgumentParser) -> None:
    """Add what decoding with subsets of members needs."""
    parser.add_argument("exp_dir", type=Path, help="experiment, such as exp/asr_x")
    parser.add_argument(
        "--dataset",
        action="append",
        required=True,
        help="dataset, such as test or org/dev; may be repeated",
    )
    parser.add_argument(
        "--inference_asr_model",
        default="valid.cer_ctc.ave.pth",
        help="its checkpoint (default: %(default)s)",
    )
    parser.add_argument(
        "--data_dir",
        type=Path,
        default="dump/raw",
        help="folder with each dataset's wav.scp, text and utt2spk (default: dump/raw)",
    )
    parser.add_argument(
        "--device", default="cpu", help="such as cuda:0 (default: %(default)s)"
    )
    add_scoring_options(parser)


def load_model(args: argparse.Namespace) -> ESPnetCTCModel:
    """The checkpoint that the options name."""
    weights = args.exp_dir / args.inference_asr_model
    return load_ctc_model(None, weights, device=args.device)


def decode(
    args: argparse.Namespace,
    model: ESPnetCTCModel,
    subsets: Sequence[Sequence[str]],
    dataset: str,
) -> list[Path]:
    """Decode a dataset with each subset of the members; the folders of the decodings."""
    options = scoring_options(args)
    return decode_subsets(model, subsets, args.exp_dir, dataset, args.data_dir, options)


def main(cmd: list[str] | None = None) -> None:
    """Decode, score and compare."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    model = load_model(args)
    names = model.member_names
    subsets = list((all_subsets if args.all_subsets else leave_one_out)(names))
    for dataset in args.dataset:
        decodings = decode(args, model, subsets, dataset)
        comparison = compare(dataset, read_systems(decodings, dataset))
        print(heading(comparison), contributions_table(comparison, names), sep="\n\n")
        print(flush=True)
    write_text(args.exp_dir / "RESULTS.md", results_page([args.exp_dir]) + "\n")


if __name__ == "__main__":
    main()
