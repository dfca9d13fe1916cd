"""Options of the commands that search with a beam."""

import argparse

from espnet2.utils.types import str_or_none

from espnet_ensemble.decoding.beam import BeamOptions
from espnet_ensemble.decoding.beam_search import BeamConf


def add_beam_options(parser: argparse.ArgumentParser, for_utts: bool = True) -> None:
    """Add the options of beam search and language model, named as ESPnet's.

    :meth:`espnet_ensemble.decoding.beam_search.BeamConf.of` takes what they say.

    Args:
        parser: Gets them.
        for_utts: Also those of single utterances.
    """
    group = parser.add_argument_group("beam search and language model")
    width, conf = BeamOptions(), BeamConf()
    group.add_argument(
        "--beam_size",
        type=int,
        default=width.beam_size,
        help=f"transcripts that are kept after each frame (default: {width.beam_size})",
    )
    group.add_argument(
        "--token_threshold",
        type=float,
        default=width.token_threshold,
        help="tokens with a lower log-probability are left out of a frame "
        f"(default: {width.token_threshold})",
    )
    group.add_argument(
        "--beam_threshold",
        type=float,
        default=width.beam_threshold,
        help="transcripts whose score is further below the best are dropped "
        f"(default: {width.beam_threshold})",
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
        help=f"factor of its log-probabilities (default: {conf.ngram_weight})",
    )
    group.add_argument(
        "--word_bonus",
        type=float,
        default=conf.word_bonus,
        help=f"added for each word, or token, that it scores (default: {conf.word_bonus})",
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
    if for_utts:
        group.add_argument(
            "--utt2hotwords",
            type=str_or_none,
            help="file with those of single utterances: utt_id phrase, phrase",
        )
    group.add_argument(
        "--hotwords_weight",
        type=float,
        default=conf.hotwords_weight,
        help=f"added for each of their characters (default: {conf.hotwords_weight})",
    )
