#!/usr/bin/env python3
"""Combine decodings of the same utterances, by systems, seeds or checkpoints, into one.

The result is an ordinary decoding, in <expdir>/asr_combined_<tag>, and scored at once. Run
it in the recipe's folder.
"""

import argparse
from pathlib import Path

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.bin.scoring_options import (
    add_scoring_options,
    print_results,
    scoring_options,
)
from espnet_ensemble.bin.systems_options import add_systems_options, find_systems
from espnet_ensemble.data.tables import read_table
from espnet_ensemble.decoding.rover import METHODS as VOTING_METHODS
from espnet_ensemble.decoding.rover import Voting
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import write_text
from espnet_ensemble.recipes.combination import (
    METHODS,
    Combination,
    Words,
    combine_posteriors,
    combine_words,
    prepare_folder,
    tune_voting,
    write_words,
)
from espnet_ensemble.recipes.dataset_scoring import score_dataset
from espnet_ensemble.recipes.decodings import common_datasets
from espnet_ensemble.recipes.results_page import results_page
from espnet_ensemble.recipes.transcripts import (
    build_tokenizers,
    read_transcripts,
    tokenize,
)


def get_parser() -> argparse.ArgumentParser:
    """Options of ``espnet-ensemble combine``."""
    parser = make_parser("combine", __doc__)
    add_systems_options(parser, "the best first")
    parser.add_argument("--expdir", type=Path, default="exp", help="for the result")
    parser.add_argument(
        "--tag", default="", help="end of the result's name, asr_combined_<tag>"
    )
    parser.add_argument(
        "--data_dir",
        type=Path,
        default="dump/raw",
        help="folder with each dataset's text and utt2spk, to score (default: dump/raw)",
    )
    _add_method_options(parser)
    add_scoring_options(parser)
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Combine, write and score."""
    run(get_parser(), _work, cmd)


def _add_method_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how")
    group.add_argument(
        "--method",
        choices=METHODS,
        default="rover",
        help="rover: a vote about every word; posteriors: the mean of the posteriors; "
        "likelihood: of each utterance, the transcript that all systems together hold "
        "most likely; confidence: the one that its own system is surest of (default: "
        "rover)",
    )
    group.add_argument(
        "--voting",
        choices=VOTING_METHODS,
        default="meth1",
        help="what ROVER takes for the confidence of a word that several have: meth1, "
        "their mean; maxconf, the highest; avgconf, their share of all (default: meth1)",
    )
    group.add_argument(
        "--alpha",
        type=float,
        default=1.0,
        help="weight of the number of votes, the rest is for confidences (default: 1)",
    )
    group.add_argument(
        "--null_conf",
        type=float,
        default=0.0,
        help="confidence of no word (default: 0)",
    )
    group.add_argument(
        "--tune",
        metavar="DATASET",
        help="choose --alpha and --null_conf by the errors of ROVER on this dataset, such "
        "as org/dev",
    )


def _work(args: argparse.Namespace) -> None:
    if len(args.exp_dir) < 2:
        raise EnsembleError(f"expected several decodings, found {args.exp_dir[0]} only")
    decodings, datasets = find_systems(args)
    voting = Voting(args.voting, args.alpha, args.null_conf)
    if args.tune:
        voting = _tune(decodings, args)
        print(f"--alpha {voting.alpha:g} --null_conf {voting.null_conf:g}")
    combination = Combination(args.method, voting)
    exp_dir = args.expdir / "_".join(filter(None, ["asr_combined", args.tag]))
    folder = exp_dir / combination.tag
    prepare_folder(folder, combination, decodings)
    for dataset in datasets:
        write_words(folder / dataset, _combine(combination, decodings, dataset))
        print(f"{folder / dataset}/text")
        _score(folder, dataset, args)
    write_text(exp_dir / "RESULTS.md", results_page([exp_dir]) + "\n")


def _tune(decodings: list[Path], args: argparse.Namespace) -> Voting:
    common_datasets(decodings, [args.tune])
    text = read_table(args.data_dir / args.tune / "text")
    tokenizer = build_tokenizers(nlsyms_txt=args.nlsyms_txt)["wer"]
    ref = dict(tokenize(text, tokenizer, args.cleaner))
    return tune_voting(args.voting, decodings, args.tune, ref)


def _combine(combination: Combination, decodings: list[Path], dataset: str) -> Words:
    if combination.method in ("rover", "confidence"):
        return combine_words(combination, decodings, dataset)

    def vocabulary():
        # Takes seconds, in which options and files are refused.
        from espnet_ensemble.integrations.espnet2.model import read_vocabulary

        return read_vocabulary(decodings[0].parent / "config.yaml")

    return combine_posteriors(combination, decodings, dataset, vocabulary)


def _score(folder: Path, dataset: str, args: argparse.Namespace) -> None:
    data = args.data_dir / dataset
    texts = read_transcripts(data / "text", folder / dataset / "text", data / "utt2spk")
    print_results(score_dataset(texts, folder / dataset, scoring_options(args)))


if __name__ == "__main__":
    main()
