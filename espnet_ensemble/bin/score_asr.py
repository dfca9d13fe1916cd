#!/usr/bin/env python3
"""Score transcripts: word, character and, with a BPE model, token error rates."""

import argparse
from pathlib import Path

from espnet2.utils.types import str_or_none

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.recipes.results import write_score
from espnet_ensemble.recipes.sclite import find_sclite, summary
from espnet_ensemble.recipes.transcripts import (
    CLEANERS,
    build_tokenizers,
    read_transcripts,
    tokenize,
)


def get_parser() -> argparse.ArgumentParser:
    """Options of ``score_asr``."""
    parser = make_parser("score_asr", __doc__)
    parser.add_argument("--ref", required=True, help="transcripts, as in a Kaldi text")
    parser.add_argument("--hyp", required=True, help="what was recognised, likewise")
    parser.add_argument("--utt2spk", required=True, help="speaker of each utterance")
    parser.add_argument(
        "--output_dir",
        required=True,
        type=Path,
        help="folder for score_wer, score_cer and score_ter",
    )
    parser.add_argument(
        "--bpemodel", help="SentencePiece model; no TER if it is no file"
    )
    parser.add_argument(
        "--nlsyms_txt",
        type=str_or_none,
        help="file of non-linguistic symbols, which words and characters leave out",
    )
    for name, of in (("cleaner", "references"), ("hyp_cleaner", "hypotheses")):
        parser.add_argument(
            f"--{name}",
            type=str_or_none,
            choices=[None, *CLEANERS],
            help=f"text cleaner of the {of} (default: none)",
        )
    parser.add_argument(
        "--score_opts",
        default="",
        help='options of sclite, such as --score_opts="-s -e utf-8"',
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Score, and print the sums."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    # Asked first: nothing is written where the options cannot be met.
    find_sclite(args.score_opts)
    texts = read_transcripts(args.ref, args.hyp, args.utt2spk)
    tokenizers = build_tokenizers(args.bpemodel, args.nlsyms_txt)
    for metric, tokenizer in tokenizers.items():
        result = write_score(
            args.output_dir / f"score_{metric}",
            tokenize(texts.ref, tokenizer, args.cleaner),
            tokenize(texts.hyp, tokenizer, args.hyp_cleaner),
            texts.utt2spk,
            args.score_opts,
        )
        print(f"Write {metric} result in {result}")
        print(*summary(result.read_text(encoding="utf-8")), sep="\n")


if __name__ == "__main__":
    main()
