#!/usr/bin/env python3
"""Train an n-gram language model by interpolated Kneser-Ney, and write it as ARPA."""

import argparse

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.recipes.ngram_training import NgramConf, train_ngram


def get_parser() -> argparse.ArgumentParser:
    """Options of ``ngram_train``, named as in ESPnet's ``asr.sh``."""
    conf = NgramConf()
    parser = make_parser(
        "ngram_train", __doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("text", nargs="+", help="Kaldi-style text file")
    parser.add_argument("--output", required=True, help="gets the language model")
    parser.add_argument(
        "--ngram_num",
        type=int,
        default=conf.ngram_num,
        help="words in the longest n-grams",
    )
    parser.add_argument(
        "--token_type",
        choices=("word", "char", "bpe"),
        default=conf.token_type,
        help="what it is of",
    )
    parser.add_argument(
        "--bpemodel", default=conf.bpemodel, help="SentencePiece model, for bpe"
    )
    parser.add_argument(
        "--nlsyms_txt", default=conf.nlsyms_txt, help="non-linguistic symbols"
    )
    parser.add_argument("--cleaner", default=conf.cleaner, help="text cleaner")
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Train the language model, and say what was made."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    conf = NgramConf(
        args.ngram_num, args.token_type, args.bpemodel, args.nlsyms_txt, args.cleaner
    )
    number = train_ngram(args.text, args.output, conf)
    print(
        f"{args.output}: {args.ngram_num}-gram ({args.token_type}) of {number} utterances"
    )


if __name__ == "__main__":
    main()
