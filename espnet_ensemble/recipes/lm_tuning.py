"""Weight and bonus of a language model, chosen on a validation set's saved posteriors."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing import get_context

import torch

from espnet_ensemble.decoding.beam_search import BeamConf, BeamSearch
from espnet_ensemble.decoding.posteriors import SavedPosteriors
from espnet_ensemble.decoding.scorers import spell_tokens
from espnet_ensemble.errors import EnsembleError, name_keys
from espnet_ensemble.extras import import_extra


@dataclass(frozen=True)
class Trial:
    """What a weight and a bonus led to.

    Attributes:
        ngram_weight: Factor of the language model's log-probabilities.
        word_bonus: Added for each word, or token, that it scores.
        errors: Words that were substituted, deleted or inserted: the edit distance.
        words: Of the references.
    """

    ngram_weight: float
    word_bonus: float
    errors: int
    words: int

    @property
    def error_rate(self) -> float:
        """Word error rate, in percent."""
        return 100 * self.errors / self.words


@dataclass(frozen=True)
class _Task:
    """What a process gets: it reads the posteriors itself."""

    posteriors: str
    refs: Mapping[str, str]
    conf: BeamConf


def try_weights(
    posteriors: str,
    refs: Mapping[str, str],
    conf: BeamConf,
    weights: Sequence[float],
    bonuses: Sequence[float],
    nj: int = 1,
) -> Iterator[Trial]:
    """Decode a set with every weight and every bonus.

    Args:
        posteriors: Folder of its posteriors.
        refs: utt_id -> what was said, of each utterance there.
        conf: All else about the search.
        weights: Of the language model.
        bonuses: For each word.
        nj: Processes.

    Yields:
        One trial after the other, in the order of the weights.

    Raises:
        EnsembleError: If there is no language model, an utterance has no reference, or the
            references are empty.
    """
    if not conf.ngram_file:
        raise EnsembleError("--ngram_file is required: there is nothing else to tune")
    missing = [utt_id for utt_id in SavedPosteriors(posteriors) if utt_id not in refs]
    if missing:
        raise EnsembleError(
            f"expected references of all, found none of {name_keys(missing)}"
        )
    tasks = [
        _Task(posteriors, refs, replace(conf, ngram_weight=weight, word_bonus=bonus))
        for weight, bonus in product(weights, bonuses)
    ]
    # Not fork: a process that has started threads, as torch does, must not.
    with ProcessPoolExecutor(
        min(nj, len(tasks)),
        mp_context=get_context("spawn"),
        initializer=_use_one_core,
    ) as pool:
        yield from pool.map(_try, tasks)


def best_trial(trials: Sequence[Trial]) -> Trial:
    """The one with the fewest errors; of several, with the least weight and bonus."""
    return min(trials, key=lambda x: (x.errors, x.ngram_weight, abs(x.word_bonus)))


def _use_one_core() -> None:
    torch.set_num_threads(1)


def _try(task: _Task) -> Trial:
    distance = import_extra("editdistance", "recipes").eval
    posteriors = SavedPosteriors(task.posteriors)
    search = BeamSearch(posteriors.tokens, task.conf)
    spellings = spell_tokens(posteriors.tokens)
    errors = words = 0
    for utt_id, found in posteriors.items():
        lengths = torch.tensor([len(found.log_probs)])
        ((best, *_),) = search([utt_id], found.log_probs[None], lengths)
        hyp = "".join(spellings[token_id] for token_id in best.token_ids).split()
        ref = task.refs[utt_id].split()
        errors += distance(ref, hyp)
        words += len(ref)
    if not words:
        raise EnsembleError(f"{task.posteriors}: expected references, found no word")
    return Trial(task.conf.ngram_weight, task.conf.word_bonus, errors, words)
