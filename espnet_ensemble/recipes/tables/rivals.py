"""The cheap rivals of fused features: the outputs of the single systems, combined."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_ensemble.decoding.vocabulary import Vocabulary
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.combination import (
    CTM,
    Combination,
    combine_words,
    decode_means,
)
from espnet_ensemble.recipes.compare.systems import read_systems
from espnet_ensemble.recipes.scoring import Tokens, score_tokens
from espnet_ensemble.recipes.tables.experiments import Experiment
from espnet_ensemble.recipes.tables.measures import (
    scored_sets,
    sets_without_posteriors,
)
from espnet_ensemble.recipes.tables.systems import Rates

_log = logging.getLogger(__name__)

# Of speech without words; the unknown letter's is an error.
_SYMBOL = re.compile("<[^<>]+>")


@dataclass(frozen=True)
class Rival:
    """A way of combining outputs.

    Attributes:
        title: What a reader calls it.
        can: Whether the decoding of an experiment, of a set in this folder, has what it
            needs.
        combine: Makes of decodings and the name of a set's folder the words of each
            utterance.
    """

    title: str
    can: Callable[[Experiment, str], bool]
    combine: Callable[[Sequence[Path], str], Tokens]


def combined_rates(rival: Rival, members: Sequence[Experiment]) -> Rates:
    """Word error rates of the members' outputs, combined as ``espnet-ensemble combine`` does.

    Symbols in angle brackets, such as WSJ's noises, do not count, as in scoring.

    Args:
        rival: How.
        members: Experiments of single upstreams, of the same seed; the best first.

    Returns:
        Those of the evaluation sets that all members have scored, with all that is needed.
        Outputs that cannot be read or do not fit together are left out, with a warning.
    """
    decodings = [_decoding(member) for member in members]
    rates = {}
    for name, folder in scored_sets(members[0]).items():
        scored = all(name in scored_sets(member) for member in members)
        if scored and all(rival.can(member, folder) for member in members):
            try:
                hyp = rival.combine(decodings, folder)
            except EnsembleError as error:
                _log.warning("%s, left out: %s", rival.title, error)
            else:
                rates[name] = _rate(hyp, decodings[0], folder)
    return rates


def _rate(hyp: Mapping[str, Sequence[str]], decoding: Path, folder: str) -> float:
    """The word error rate, by the references that a decoding was scored with."""
    spoken = {
        utt_id: [
            word for word in words if word == "<unk>" or not _SYMBOL.fullmatch(word)
        ]
        for utt_id, words in hyp.items()
    }
    (system,) = read_systems([decoding], folder)
    ref = {utterance.utt_id: utterance.ref for utterance in system.score.utterances}
    counts = score_tokens(ref, spoken, dict.fromkeys(ref, "all")).counts
    return 100 * counts.errors / counts.words


def _decoding(experiment: Experiment) -> Path:
    return experiment.exp_dir / experiment.names.inference_tag


def _has_times(member: Experiment, folder: str) -> bool:
    return (_decoding(member) / folder / CTM).exists()


def _vote(decodings: Sequence[Path], folder: str) -> Tokens:
    words = combine_words(Combination("rover"), decodings, folder)
    return {utt_id: [word.text for word in found] for utt_id, found in words.items()}


def _has_posteriors(member: Experiment, folder: str) -> bool:
    return member.system.save_posteriors and folder not in sets_without_posteriors(
        member
    )


def _average(decodings: Sequence[Path], folder: str) -> Tokens:
    def vocabulary() -> Vocabulary:
        # With ESPnet, takes seconds: only who has posteriors waits.
        from espnet_ensemble.integrations.espnet2.model import read_vocabulary

        return read_vocabulary(decodings[0].parent / "config.yaml")

    texts = decode_means(decodings, folder, vocabulary)
    return {utt_id: text.split() for utt_id, text in texts.items()}


RIVALS = (
    Rival("ROVER", _has_times, _vote),
    Rival("mean of posteriors", _has_posteriors, _average),
)
