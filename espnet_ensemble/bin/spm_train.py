#!/usr/bin/env python3
"""Train a SentencePiece model, and write the token list that ESPnet wants."""

import argparse
import os
import tempfile
from pathlib import Path

import sentencepiece

from espnet_ensemble.data.tables import DataError, read_table

# The first three pieces of any SentencePiece model: <unk>, <s>, </s>.
_CONTROL = 3


def train(args: argparse.Namespace) -> None:
    """Write ``bpe.model``, ``bpe.vocab`` and, last, ``tokens.txt``.

    Raises:
        DataError: If the text is missing or does not suffice for so many pieces.
    """
    output_dir = Path(args.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    texts = [text for path in args.text for text in read_table(path).values() if text]
    with tempfile.TemporaryDirectory(dir=output_dir) as temporary:
        prefix = Path(temporary, "bpe")
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(texts),
                model_prefix=str(prefix),
                vocab_size=args.nbpe,
                model_type=args.bpemode,
                character_coverage=args.bpe_char_cover,
                input_sentence_size=args.bpe_input_sentence_size,
                user_defined_symbols=args.bpe_nlsyms,
                minloglevel=1,
            )
        except RuntimeError as error:
            raise DataError(
                f"{' '.join(args.text)}: --nbpe {args.nbpe}: {error}"
            ) from error
        lines = prefix.with_suffix(".vocab").read_text(encoding="utf-8").splitlines()
        pieces = [line.split("\t")[0] for line in lines[_CONTROL:]]
        tokens = [args.blank, args.oov, *pieces, args.sos_eos]
        Path(temporary, "tokens.txt").write_text(
            "\n".join(tokens) + "\n", encoding="utf-8"
        )
        for name in ("bpe.model", "bpe.vocab", "tokens.txt"):
            os.replace(Path(temporary, name), output_dir / name)


def get_parser() -> argparse.ArgumentParser:
    """Options of ``spm_train``, named as in ESPnet's ``asr.sh``."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet_ensemble.bin.spm_train",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("text", nargs="+", help="Kaldi-style text file")
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--nbpe", type=int, default=30, help="number of pieces")
    parser.add_argument("--bpemode", choices=("unigram", "bpe"), default="unigram")
    parser.add_argument("--bpe_char_cover", type=float, default=1.0)
    parser.add_argument("--bpe_input_sentence_size", type=int, default=100000000)
    parser.add_argument(
        "--bpe_nlsyms", type=_symbols, default=[], help="a file, or separated by commas"
    )
    parser.add_argument("--blank", default="<blank>")
    parser.add_argument("--oov", default="<unk>")
    parser.add_argument("--sos_eos", default="<sos/eos>")
    return parser


def _symbols(value: str) -> list[str]:
    if Path(value).is_file():
        return Path(value).read_text(encoding="utf-8").split()
    return [symbol for symbol in value.split(",") if symbol]


def main(cmd: list[str] | None = None) -> None:
    """Train it."""
    parser = get_parser()
    args = parser.parse_args(cmd)
    try:
        train(args)
    except DataError as error:
        parser.exit(1, f"spm_train: {error}\n")
    print(f"{args.output_dir}: {args.nbpe} pieces ({args.bpemode})")


if __name__ == "__main__":
    main()
