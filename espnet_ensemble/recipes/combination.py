"""Decodings of several systems, seeds or checkpoints combined into one.

.. code-block:: none

    exp/asr_combined/decode_rover_alpha0.5/
        combination.yaml        which decodings, and how
        test/text  test/ctm     as of any decoding
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from espnet_ensemble.data.tables import read_table, write_table
from espnet_ensemble.decoding.averaging import average_posteriors
from espnet_ensemble.decoding.ctm import read_ctm, write_ctm
from espnet_ensemble.decoding.datasets import POSTERIORS
from espnet_ensemble.decoding.greedy import best_paths
from espnet_ensemble.decoding.hypothesis import Word
from espnet_ensemble.decoding.likelihood import most_likely
from espnet_ensemble.decoding.posteriors import SavedPosteriors
from espnet_ensemble.decoding.rover import (
    CorrespondenceSet,
    Method,
    Voting,
    correspond,
    rover,
    vote,
)
from espnet_ensemble.decoding.vocabulary import Vocabulary
from espnet_ensemble.decoding.words import find_words
from espnet_ensemble.errors import EnsembleError, name_keys
from espnet_ensemble.files import read_yaml, write_yaml
from espnet_ensemble.recipes.scoring import Tokens, align, count

#: Ways of combining.
METHODS = ("rover", "posteriors", "likelihood", "confidence")
#: In the folder of a combined decoding: what it was made of.
COMBINATION = "combination.yaml"
#: In the folder of a dataset: its words.
CTM = "ctm"

Words = dict[str, list[Word]]


@dataclass(frozen=True)
class Combination:
    """How decodings are combined.

    Attributes:
        method: "rover": a vote about every word; "posteriors": the best path through the
            mean of the posteriors; "likelihood": for each utterance, the transcript that
            all systems together hold most likely; "confidence": the one with the highest
            mean confidence of its words.
        voting: Of ROVER.
    """

    method: str
    voting: Voting = field(default_factory=Voting)

    @property
    def settings(self) -> dict[str, Any]:
        """All that the result depends on but the decodings."""
        voting = {"voting": asdict(self.voting)} if self.method == "rover" else {}
        return {"method": self.method, **voting}

    @property
    def tag(self) -> str:
        """Name for the folder of the decoding.

        Example:
            >>> Combination("posteriors").tag
            'decode_posteriors'
            >>> Combination("rover", Voting("maxconf", 0.5, null_conf=0.7)).tag
            'decode_rover_maxconf_alpha0.5_null_conf0.7'
        """
        tag, voting = f"decode_{self.method}", self.voting
        if self.method == "rover" and voting.alpha < 1:
            tag += f"_{voting.method}_alpha{voting.alpha:g}"
            tag += f"_null_conf{voting.null_conf:g}"
        return tag


def combine_words(
    combination: Combination, decodings: Sequence[Path], dataset: str
) -> Words:
    """Combine transcripts, by ROVER or by choosing one for each utterance.

    Args:
        combination: How.
        decodings: Folders of decodings, the best system's first.
        dataset: Name of the dataset.

    Returns:
        utt_id -> words, of all utterances.

    Raises:
        EnsembleError: If a decoding is without words' confidences, or they are not of the
            same utterances.
    """
    members = _read_members(decodings, dataset)
    combined = {}
    for utt_id in members[0]:
        hypotheses = [words[utt_id] for words in members]
        if combination.method == "rover":
            combined[utt_id] = rover(hypotheses, combination.voting)
        else:
            combined[utt_id] = max(hypotheses, key=_mean_confidence)
    return combined


def tune_voting(
    method: Method, decodings: Sequence[Path], dataset: str, ref: Tokens
) -> Voting:
    """Find the voting of ROVER with the fewest errors on a dataset.

    All pairs of ``alpha`` and ``null_conf`` in steps of 0.1 are tried; of equal ones, the
    one with most weight on votes is taken.

    Args:
        method: Of the voting.
        decodings: Folders of decodings, the best system's first.
        dataset: Name of the dataset, which no result is reported of.
        ref: utt_id -> words that were said.

    Raises:
        EnsembleError: As by :func:`combine_words`.
    """
    members = _read_members(decodings, dataset)
    aligned = []
    for utt_id in members[0]:
        hypotheses = [words[utt_id] for words in members]
        texts = [[word.text for word in words] for words in hypotheses]
        if any(text != texts[0] for text in texts):  # else, no voting changes it
            aligned.append((ref[utt_id], correspond(texts), hypotheses))
    steps = [step / 10 for step in range(11)]
    pairs = [(alpha, null_conf) for alpha in reversed(steps) for null_conf in steps]
    votings = [Voting(method, alpha, null_conf) for alpha, null_conf in pairs]
    return min(votings, key=lambda voting: _count_errors(aligned, voting))


def _count_errors(
    aligned: Sequence[tuple[list[str], list[CorrespondenceSet], list[list[Word]]]],
    voting: Voting,
) -> int:
    return sum(
        count(align(ref, [word.text for word in vote(sets, hypotheses, voting)])).errors
        for ref, sets, hypotheses in aligned
    )


def _read_members(decodings: Sequence[Path], dataset: str) -> list[Words]:
    folders = [decoding / dataset for decoding in decodings]
    members = [read_words(folder) for folder in folders]
    _check_same_utterances(members, folders)
    return members


def combine_posteriors(
    combination: Combination,
    decodings: Sequence[Path],
    dataset: str,
    load_vocabulary: Callable[[], Vocabulary],
) -> Words:
    """Combine by posteriors: their means, or the likelihoods that they give transcripts.

    Args:
        combination: How.
        decodings: Folders of decodings that have kept their posteriors.
        dataset: Name of the dataset.
        load_vocabulary: Called once they are known to fit: what the tokens stand for.

    Returns:
        utt_id -> words, of all utterances.

    Raises:
        EnsembleError: If a decoding has not kept its posteriors, or they differ in token
            list, utterances or, for means, frame rate.
    """
    folders = [decoding / dataset for decoding in decodings]
    members = _open_members(folders)
    if combination.method == "likelihood":
        combined = _choose_most_likely(members, folders, load_vocabulary().blank_id)
    else:
        _check_same_frame_rate(members, folders)
        vocabulary = load_vocabulary()
        combined = {
            utt_id: find_words(
                log_probs, token_ids, vocabulary, members[0].frame_seconds
            )
            for utt_id, log_probs, token_ids in _mean_paths(members, vocabulary)
        }
    # Without posteriors: what could not be decoded.
    texts = read_table(folders[0] / "text")
    return {utt_id: combined.get(utt_id, []) for utt_id in texts}


def decode_means(
    decodings: Sequence[Path], dataset: str, load_vocabulary: Callable[[], Vocabulary]
) -> dict[str, str]:
    """Transcripts by the means of posteriors, without times and confidences: fast.

    Args, errors: As of :func:`combine_posteriors`.

    Returns:
        utt_id -> transcript, of all utterances.
    """
    folders = [decoding / dataset for decoding in decodings]
    members = _open_members(folders)
    _check_same_frame_rate(members, folders)
    vocabulary = load_vocabulary()
    combined = {
        utt_id: vocabulary.to_text(token_ids)
        for utt_id, _, token_ids in _mean_paths(members, vocabulary)
    }
    texts = read_table(folders[0] / "text")
    return {utt_id: combined.get(utt_id, "") for utt_id in texts}


def _open_members(folders: Sequence[Path]) -> list[SavedPosteriors]:
    members = [_open_posteriors(folder / POSTERIORS) for folder in folders]
    _check_same_utterances(members, folders)
    _check_same_tokens(members, folders)
    return members


def _mean_paths(
    members: Sequence[SavedPosteriors], vocabulary: Vocabulary
) -> Iterator[tuple[str, Tensor, Sequence[int]]]:
    """Of each utterance, the mean of its posteriors and the best path through it."""
    for utt_id in members[0]:
        found = [member[utt_id].log_probs for member in members]
        # Loaders of upstreams differ by a frame at the end: as in an ensemble, the smallest
        # number counts.
        shortest = min(map(len, found))
        if max(map(len, found)) == shortest + 1:
            found = [log_probs[:shortest] for log_probs in found]
        try:
            log_probs = average_posteriors(found)
        except EnsembleError as error:
            raise EnsembleError(f"{utt_id}: {error}") from error
        lengths = torch.tensor([len(log_probs)])
        (path,) = best_paths(log_probs[None], lengths, vocabulary.blank_id)
        yield utt_id, log_probs, path.token_ids


def _choose_most_likely(
    members: Sequence[SavedPosteriors], folders: Sequence[Path], blank_id: int
) -> Words:
    words = [read_words(folder) for folder in folders]
    tokens = [read_table(folder / "token_int") for folder in folders]
    combined = {}
    for utt_id in members[0]:
        log_probs = [member[utt_id].log_probs for member in members]
        candidates = [list(map(int, table[utt_id].split())) for table in tokens]
        best = most_likely(log_probs, candidates, blank_id)
        combined[utt_id] = words[best][utt_id]
    return combined


def read_words(folder: Path) -> Words:
    """Read the words of a decoded dataset, also of utterances that have none.

    Raises:
        EnsembleError: If it is without words' times and confidences.
    """
    texts = read_table(folder / "text")
    if not (folder / CTM).exists():
        raise EnsembleError(
            f"{folder / CTM}: expected words with confidences, found none; "
            "espnet-ensemble decode writes them (asr.sh, stage 12)"
        )
    words = read_ctm(folder / CTM)
    return {utt_id: words.get(utt_id, []) for utt_id in texts}


def prepare_folder(
    folder: Path, combination: Combination, decodings: Sequence[Path]
) -> None:
    """Make the folder of a combined decoding.

    Raises:
        EnsembleError: If it is there already, of other decodings.
    """
    content = {
        **combination.settings,
        "decodings": [str(decoding) for decoding in decodings],
    }
    path = folder / COMBINATION
    if path.exists() and read_yaml(path) != content:
        raise EnsembleError(
            f"{folder}: there already, of other decodings or settings: give another "
            "--tag, or remove it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_yaml(path, content)


def write_words(folder: Path, words: Words) -> None:
    """Write the combined decoding of a dataset."""
    folder.mkdir(parents=True, exist_ok=True)
    write_ctm(folder / CTM, words)
    texts = {u: " ".join(word.text for word in found) for u, found in words.items()}
    write_table(folder / "text", texts)


def _mean_confidence(words: Sequence[Word]) -> float:
    return fmean(word.confidence for word in words) if words else 0.0


def _check_same_utterances(
    members: Sequence[Mapping[str, Any]], folders: Sequence[Path]
) -> None:
    for member, folder in zip(members, folders, strict=True):
        others = sorted(member.keys() ^ members[0].keys())
        if others:
            raise EnsembleError(
                f"{folder}: expected the utterances of {folders[0]}, found that only one "
                f"of them has {name_keys(others)}"
            )


def _open_posteriors(folder: Path) -> SavedPosteriors:
    if not folder.exists():
        raise EnsembleError(
            f"{folder}: expected posteriors, found none; decode with "
            '--save_posteriors true (asr.sh: --inference_args "--save_posteriors true")'
        )
    return SavedPosteriors(folder)


def _check_same_tokens(
    members: Sequence[SavedPosteriors], folders: Sequence[Path]
) -> None:
    first = members[0].tokens
    for member, folder in zip(members, folders, strict=True):
        if member.tokens != first:
            raise EnsembleError(
                f"{folder}: expected the {len(first)} tokens of {folders[0]}, found "
                f"{len(member.tokens)}, or others; combine by rover"
            )


def _check_same_frame_rate(
    members: Sequence[SavedPosteriors], folders: Sequence[Path]
) -> None:
    first = members[0].frame_seconds
    for member, folder in zip(members, folders, strict=True):
        if member.frame_seconds != first:
            raise EnsembleError(
                f"{folder}: expected a frame every {first} s, as in {folders[0]}, found "
                f"one every {member.frame_seconds} s; combine by likelihood"
            )
