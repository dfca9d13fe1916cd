"""Options of commands that score transcripts."""

import argparse
from pathlib import Path

from espnet2.utils.types import str2bool, str_or_none

from espnet_ensemble.recipes.dataset_scoring import ScoringOptions
from espnet_ensemble.recipes.sclite import read_summary
from espnet_ensemble.recipes.transcripts import CLEANERS


def add_scoring_options(parser: argparse.ArgumentParser) -> None:
    """Add those of ESPnet's ``asr.sh``."""
    group = parser.add_argument_group("scoring")
    group.add_argument(
        "--bpemodel", help="SentencePiece model; no TER if it is no file"
    )
    group.add_argument(
        "--nlsyms_txt",
        type=str_or_none,
        help="file of non-linguistic symbols, which words and characters leave out",
    )
    for name, of in (("cleaner", "references"), ("hyp_cleaner", "hypotheses")):
        group.add_argument(
            f"--{name}",
            type=str_or_none,
            choices=[None, *CLEANERS],
            help=f"text cleaner of the {of} (default: none)",
        )
    group.add_argument(
        "--score_opts",
        default="",
        help='options of sclite, which then scores, such as --score_opts="-s -e utf-8"',
    )
    group.add_argument(
        "--use_sclite",
        type=str2bool,
        default=False,
        help="score by sclite (default: false; the same numbers are computed here)",
    )


def scoring_options(args: argparse.Namespace) -> ScoringOptions:
    """What the options say."""
    return ScoringOptions(
        args.bpemodel,
        args.nlsyms_txt,
        args.cleaner,
        args.hyp_cleaner,
        args.score_opts,
        args.use_sclite,
    )


def print_results(results: dict[str, Path]) -> None:
    """Print the sums of each metric."""
    for metric, result in results.items():
        print(f"Write {metric} result in {result}")
        print(*read_summary(result), sep="\n")
