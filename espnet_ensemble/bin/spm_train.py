#!/usr/bin/env python3
"""Train a SentencePiece model, and write the token list that ESPnet wants."""

import argparse
from pathlib import Path

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.recipes.tokens import PieceConf, Symbols, train_pieces


def get_parser() -> argparse.ArgumentParser:
    """Options of ``spm_train``, named as in ESPnet's ``asr.sh``."""
    conf, symbols = PieceConf(), Symbols()
    parser = make_parser(
        "spm_train", __doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("text", nargs="+", help="Kaldi-style text file")
    parser.add_argument(
        "--output_dir", required=True, help="gets bpe.model, bpe.vocab and tokens.txt"
    )
    parser.add_argument("--nbpe", type=int, default=conf.nbpe, help="number of pieces")
    parser.add_argument(
        "--bpemode",
        choices=("unigram", "bpe"),
        default=conf.bpemode,
        help="kind of model",
    )
    parser.add_argument(
        "--bpe_char_cover",
        type=float,
        default=conf.bpe_char_cover,
        help="share of the characters that the pieces cover",
    )
    parser.add_argument(
        "--bpe_input_sentence_size",
        type=int,
        default=conf.bpe_input_sentence_size,
        help="at most how many lines it is trained on",
    )
    parser.add_argument(
        "--bpe_nlsyms",
        type=_nlsyms,
        default=conf.bpe_nlsyms,
        help="non-linguistic symbols: a file, or separated by commas",
    )
    parser.add_argument("--blank", default=symbols.blank, help="CTC's blank")
    parser.add_argument("--oov", default=symbols.oov, help="for what no piece covers")
    parser.add_argument(
        "--sos_eos", default=symbols.sos_eos, help="start and end of an utterance"
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Train the model, and say what was made."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    conf = PieceConf(
        args.nbpe,
        args.bpemode,
        args.bpe_char_cover,
        args.bpe_input_sentence_size,
        args.bpe_nlsyms,
    )
    symbols = Symbols(args.blank, args.oov, args.sos_eos)
    train_pieces(args.text, args.output_dir, conf, symbols)
    print(f"{args.output_dir}: {args.nbpe} pieces ({args.bpemode})")


def _nlsyms(value: str) -> tuple[str, ...]:
    if Path(value).is_file():
        return tuple(Path(value).read_text(encoding="utf-8").split())
    return tuple(symbol for symbol in value.split(",") if symbol)


if __name__ == "__main__":
    main()
