"""Options of the commands that search with a beam."""

import argparse
from dataclasses import asdict
from typing import Any

from espnet2.utils.types import str_or_none

from espnet_ensemble.decoding.beam import BeamOptions
from espnet_ensemble.decoding.beam_search import BeamConf

#: What a search for the best path cannot take into account.
BEAM_ONLY = ("ngram_file", "lexicon", "hotwords", "utt2hotwords")


def add_beam_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of beam search and language model, named as ESPnet's."""
    group = parser.add_argument_group("beam search and language model")
    width, conf = BeamOptions(), BeamConf()
    group.add_argument(
        "--beam_size",
        type=int,
        default=width.beam_size,
        help="transcripts that are kept after each frame (default: %(default)s)",
    )
    group.add_argument(
        "--token_threshold",
        type=float,
        default=width.token_threshold,
        help="tokens with a lower log-probability are left out of a frame "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--beam_threshold",
        type=float,
        default=width.beam_threshold,
        help="transcripts whose score is further below the best are dropped "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--ngram_file",
        type=str_or_none,
        help="n-gram language model of words or tokens: ARPA, or KenLM's binary format",
    )
    group.add_argument(
        "--ngram_weight",
        type=float,
        default=conf.ngram_weight,
        help="factor of its log-probabilities (default: %(default)s)",
    )
    group.add_argument(
        "--word_bonus",
        type=float,
        default=conf.word_bonus,
        help="added for each word, or token, that it scores (default: %(default)s)",
    )
    group.add_argument(
        "--lexicon",
        type=str_or_none,
        help="file with an allowed word at the beginning of each line "
        "(default: all are allowed)",
    )
    group.add_argument(
        "--hotwords",
        type=str_or_none,
        help="file with a word or phrase on each line that is raised",
    )
    group.add_argument(
        "--utt2hotwords",
        type=str_or_none,
        help="file with those of single utterances: utt_id phrase, phrase",
    )
    group.add_argument(
        "--hotwords_weight",
        type=float,
        default=conf.hotwords_weight,
        help="added for each of their characters (default: %(default)s)",
    )


def beam_conf(args: argparse.Namespace) -> BeamConf:
    """What those options say."""
    return BeamConf(
        BeamOptions(args.beam_size, args.token_threshold, args.beam_threshold),
        args.ngram_file,
        args.ngram_weight,
        args.word_bonus,
        args.lexicon,
        args.hotwords,
        args.utt2hotwords,
        args.hotwords_weight,
    )


def beam_settings(conf: BeamConf) -> dict[str, Any]:
    """The options that say it, by name."""
    settings = {**asdict(conf), **asdict(conf.options)}
    del settings["options"]
    return {name: value for name, value in settings.items() if value is not None}
