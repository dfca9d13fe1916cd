#!/usr/bin/env python3
"""Choose weight and word bonus of a language model on a validation set.

Decode that set first with --save_posteriors true. Each pair of --ngram_weights and
--word_bonuses is tried, and the best is written as a decoding configuration.
"""

import argparse
from dataclasses import replace

from tqdm import tqdm

from espnet_ensemble.bin.beam_options import add_beam_options
from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.data.tables import read_table
from espnet_ensemble.decoding.beam_search import BeamConf
from espnet_ensemble.files import read_yaml, write_yaml
from espnet_ensemble.recipes.lm_tuning import Trial, best_trial, try_weights


def get_parser() -> argparse.ArgumentParser:
    """Options of ``tune_lm``."""
    parser = make_parser("tune_lm", __doc__)
    parser.add_argument(
        "--posteriors", required=True, help="folder of the set's posteriors"
    )
    parser.add_argument("--ref", required=True, help="what was said: Kaldi's text")
    parser.add_argument(
        "--output", required=True, help="decoding configuration to write"
    )
    parser.add_argument(
        "--inference_config", help="decoding configuration whose other options it keeps"
    )
    parser.add_argument(
        "--ngram_weights",
        type=_floats,
        default=[0.3, 0.6, 0.9, 1.2, 1.5],
        help='such as "0.5 1.0" (default: "0.3 0.6 0.9 1.2 1.5")',
    )
    parser.add_argument(
        "--word_bonuses",
        type=_floats,
        default=[0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        help='likewise (default: "0 1 2 3 4 5")',
    )
    parser.add_argument(
        "--nj", type=int, default=1, help="processes (default: %(default)s)"
    )
    add_beam_options(parser)
    return parser


def _floats(value: str) -> list[float]:
    return [float(word) for word in value.split()]


def main(cmd: list[str] | None = None) -> None:
    """Try all pairs, show their error rates, and write the best."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    refs = read_table(args.ref)
    config = read_yaml(args.inference_config) if args.inference_config else {}
    conf = BeamConf.of(vars(args))
    tried = try_weights(
        args.posteriors, refs, conf, args.ngram_weights, args.word_bonuses, args.nj
    )
    number = len(args.ngram_weights) * len(args.word_bonuses)
    trials = list(tqdm(tried, total=number, unit="trial"))
    best = best_trial(trials)
    _show(trials, best)
    for name in ("ngram_weight", "word_bonus"):
        if getattr(best, name) == max(getattr(trial, name) for trial in trials):
            print(f"{name}: the best is the greatest that was tried; try greater ones")
    chosen = replace(conf, ngram_weight=best.ngram_weight, word_bonus=best.word_bonus)
    write_yaml(args.output, {**config, **chosen.to_options()})


def _show(trials: list[Trial], best: Trial) -> None:
    print("ngram_weight word_bonus  WER")
    for trial in trials:
        mark = " *" if trial is best else ""
        print(
            f"{trial.ngram_weight:12g} {trial.word_bonus:10g} {trial.error_rate:5.2f}{mark}"
        )


if __name__ == "__main__":
    main()
