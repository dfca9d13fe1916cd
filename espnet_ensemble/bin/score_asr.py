#!/usr/bin/env python3
"""Score transcripts: word, character and, with a BPE model, token error rates."""

import argparse
from pathlib import Path

from espnet2.utils.types import str_or_none

from espnet_ensemble.data.tables import DataError
from espnet_ensemble.recipes import scoring


def get_parser() -> argparse.ArgumentParser:
    """Options of ``score_asr``."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet_ensemble.bin.score_asr", description=__doc__
    )
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
            choices=[None, *scoring.CLEANERS],
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
    parser = get_parser()
    args = parser.parse_args(cmd)
    try:
        _score(args)
    except DataError as error:
        parser.exit(1, f"score_asr: {error}\n")


def _score(args: argparse.Namespace) -> None:
    scoring.find_sclite(args.score_opts)
    texts = scoring.read_texts(args.ref, args.hyp, args.utt2spk)
    tokenizers = scoring.build_tokenizers(args.bpemodel, args.nlsyms_txt)
    for metric, tokenizer in tokenizers.items():
        ref = scoring.tokenize(texts.ref, tokenizer, args.cleaner)
        hyp = scoring.tokenize(texts.hyp, tokenizer, args.hyp_cleaner)
        result = scoring.write_score(
            args.output_dir / f"score_{metric}",
            ref,
            hyp,
            texts.speakers,
            args.score_opts,
        )
        print(f"Write {metric} result in {result}")
        lines = result.read_text(encoding="utf-8").splitlines()
        print(next(line for line in lines if "SPKR" in line))
        print(next(line for line in lines if "Sum/Avg" in line))


if __name__ == "__main__":
    main()
