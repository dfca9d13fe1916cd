#!/usr/bin/env python3
"""Show what an experiment has come to: transcripts, and a picture."""

import argparse
import sys
from pathlib import Path

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.decoding.ctm import read_ctm
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import read_yaml
from espnet_ensemble.recipes.calibration import Calibration, calibrate
from espnet_ensemble.recipes.result_picture import draw_result
from espnet_ensemble.recipes.results import (
    DatasetResult,
    ScoredWords,
    first_transcripts,
    read_results,
    read_scored_words,
)
from espnet_ensemble.recipes.train_log import read_epochs


def get_parser() -> argparse.ArgumentParser:
    """Options of ``show_result``."""
    parser = make_parser("show_result", __doc__)
    parser.add_argument("exp_dir", type=Path, help="folder of the experiment")
    parser.add_argument(
        "--inference_tag", help="which decoding (default: the last by name)"
    )
    parser.add_argument("--number", type=int, default=5, help="of transcripts")
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Print transcripts, and draw the picture."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    results = _results(args.exp_dir, args.inference_tag)
    last = [result for result in results if result.metric == "wer"][-1]
    folder = args.exp_dir / last.inference_tag / last.dataset
    words = read_scored_words(folder)
    for spk, said, text in first_transcripts(words, args.number):
        print(f"{spk}:", f"    said: {said}", f"    text: {text}", sep="\n")
    calibration = _calibration(folder, words)
    if calibration is not None:
        print(_describe(calibration))
    picture = args.exp_dir / "images" / "result.png"
    picture.parent.mkdir(exist_ok=True)
    title = args.exp_dir.name
    draw_result(read_epochs(args.exp_dir), results, calibration, title, picture)
    print(f"picture: {picture.resolve()}")
    if _is_ctc_only(args.exp_dir / "config.yaml"):
        command = Path(sys.executable).with_name("espnet-ensemble")
        print("to transcribe a recording of yours, of any format:")
        print(f"    {command} transcribe {args.exp_dir.resolve()} my.wav")


def _is_ctc_only(config: Path) -> bool:
    return config.is_file() and read_yaml(config).get("decoder") is None


def _results(exp_dir: Path, inference_tag: str | None) -> list[DatasetResult]:
    """Those of one decoding."""
    results = read_results(exp_dir)
    tags = sorted({result.inference_tag for result in results})
    tag = inference_tag or tags[-1]
    if tag not in tags:
        raise EnsembleError(
            f"{exp_dir}: expected results of {tag}, found {', '.join(tags)}"
        )
    return [result for result in results if result.inference_tag == tag]


def _calibration(folder: Path, words: ScoredWords) -> Calibration | None:
    if not (folder / "ctm").exists():
        return None
    recognised = read_ctm(folder / "ctm")
    return calibrate(words.ref, recognised) if recognised else None


def _describe(calibration: Calibration) -> str:
    nce = "" if calibration.nce is None else f", NCE {calibration.nce:.3f}"
    return (
        f"confidences of {len(calibration.correct)} words: expected calibration error "
        f"{calibration.ece:.3f}{nce}"
    )


if __name__ == "__main__":
    main()
