#!/usr/bin/env python3
"""Decode a trained model without each of its members: what does each contribute?

For a model that was trained with member_dropout. Each subset of the members gets an ordinary
decoding, <exp_dir>/members_<name>+<name>, which is scored at once; a table compares them.
Run it in the recipe's folder.
"""

import argparse
from pathlib import Path

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.bin.scoring_options import add_scoring_options, scoring_options
from espnet_ensemble.files import write_text
from espnet_ensemble.recipes.ablation import (
    all_subsets,
    contributions_table,
    decode_subset,
    leave_one_out,
)
from espnet_ensemble.recipes.compare.comparison import compare
from espnet_ensemble.recipes.compare.report import heading
from espnet_ensemble.recipes.compare.systems import read_systems
from espnet_ensemble.recipes.dataset_scoring import score_dataset
from espnet_ensemble.recipes.results_page import results_page
from espnet_ensemble.recipes.transcripts import read_transcripts


def get_parser() -> argparse.ArgumentParser:
    """Options of ``espnet-ensemble ablate``."""
    parser = make_parser("ablate", __doc__)
    parser.add_argument("exp_dir", type=Path, help="experiment, such as exp/asr_x")
    parser.add_argument(
        "--dataset",
        action="append",
        required=True,
        help="dataset, such as test or org/dev; may be repeated",
    )
    parser.add_argument(
        "--all_subsets",
        action="store_true",
        help="decode with every subset of the members, in place of leave-one-out",
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
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Decode, score and compare."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    # Takes seconds, in which options are refused.
    from espnet_ensemble.integrations.espnet2.model import load_ctc_model

    weights = args.exp_dir / args.inference_asr_model
    model = load_ctc_model(None, weights, device=args.device)
    names = model.member_names
    subsets = list((all_subsets if args.all_subsets else leave_one_out)(names))
    decodings = [args.exp_dir / f"members_{'+'.join(subset)}" for subset in subsets]
    for dataset in args.dataset:
        for members, decoding in zip(subsets, decodings, strict=True):
            wav_scp = args.data_dir / dataset / "wav.scp"
            decode_subset(model, members, wav_scp, decoding / dataset)
            _score(decoding / dataset, args.data_dir / dataset, args)
        comparison = compare(dataset, read_systems(decodings, dataset))
        print(heading(comparison), contributions_table(comparison, names), sep="\n\n")
        print(flush=True)
    write_text(args.exp_dir / "RESULTS.md", results_page([args.exp_dir]) + "\n")


def _score(folder: Path, data: Path, args: argparse.Namespace) -> None:
    texts = read_transcripts(data / "text", folder / "text", data / "utt2spk")
    score_dataset(texts, folder, scoring_options(args))


if __name__ == "__main__":
    main()
