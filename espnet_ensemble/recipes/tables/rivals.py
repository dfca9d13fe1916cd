"""The cheap rival of fused features: ROVER of the single systems' outputs."""

from collections.abc import Sequence

from espnet_ensemble.recipes.combination import CTM, Combination, combine_words
from espnet_ensemble.recipes.compare.systems import read_systems
from espnet_ensemble.recipes.scoring import Tokens, score_tokens
from espnet_ensemble.recipes.tables.experiments import Experiment
from espnet_ensemble.recipes.tables.measures import scored_sets
from espnet_ensemble.recipes.tables.systems import Rates


def vote(members: Sequence[Experiment]) -> Rates:
    """Word error rates of a vote about every word, as ``espnet-ensemble combine`` has it.

    Symbols in angle brackets, such as WSJ's noises, do not count.

    Args:
        members: Experiments of single upstreams, of the same seed.

    Returns:
        Those of the evaluation sets that all members have decoded, with times of words, and
        scored.

    Raises:
        EnsembleError: If outputs cannot be read, or are of different utterances.
    """
    decodings = [e.exp_dir / e.names.inference_tag for e in members]
    folders = scored_sets(members[0])
    rates = {}
    for name, folder in folders.items():
        needed = ("score_wer/hyp.trn", CTM)
        if not all((d / folder / file).exists() for d in decodings for file in needed):
            continue
        words = combine_words(Combination("rover"), decodings, folder)
        hyp: Tokens = {
            utt_id: [word.text for word in found if not word.text.startswith("<")]
            for utt_id, found in words.items()
        }
        (member,) = read_systems(decodings[:1], folder)
        ref = {
            utterance.utt_id: [
                pair.ref for pair in utterance.pairs if pair.ref is not None
            ]
            for utterance in member.score.utterances
        }
        counts = score_tokens(ref, hyp, dict.fromkeys(ref, "all")).counts
        rates[name] = 100 * counts.errors / counts.words
    return rates
