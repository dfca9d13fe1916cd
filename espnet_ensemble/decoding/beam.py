"""CTC prefix beam search: the transcripts whose paths are the most probable together.

The search is that of A. Hannun et al., *First-pass large vocabulary continuous speech
recognition using bi-directional recurrent DNNs* (arXiv 1408.2873). Where it prunes nothing,
its scores are exact: sums over all paths.
"""

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

import torch

from espnet_ensemble.decoding.hypothesis import Hypothesis
from espnet_ensemble.errors import EnsembleError

NEVER = -math.inf  # the logarithm of 0


class Scorer(Protocol):
    """What is added to the score of a transcript, token by token: a language model, say.

    A state is what the scorer must remember of the tokens so far, whatever that is to it.
    The search keeps one for each transcript, and never changes it.
    """

    def start(self) -> Any:
        """State before the first token."""

    def extend(self, state: Any, token_id: int) -> tuple[float, Any]:
        """What one more token adds, ``-inf`` if it must not come here, and the new state."""

    def end(self, state: Any) -> float:
        """What the end of the transcript adds, ``-inf`` if it must not end here."""


@dataclass(frozen=True)
class BeamOptions:
    """How wide the search is.

    Attributes:
        beam_size: Transcripts that are kept after each frame.
        token_threshold: In a frame, tokens with a log-probability below this are left out,
            the frame's best excepted. ``-inf`` leaves out none.
        beam_threshold: Transcripts whose score is further below the best are dropped. ``inf``
            drops none.

    Raises:
        EnsembleError: ``beam_size`` is less than 1.
    """

    beam_size: int = 10
    token_threshold: float = -9.0
    beam_threshold: float = 20.0

    def __post_init__(self) -> None:
        if self.beam_size < 1:
            raise EnsembleError(f"beam_size must be 1 or more, found {self.beam_size}")


class _Frame(NamedTuple):
    """What is looked at in a frame: log-probabilities of the blank and of some tokens.

    The tokens are the second of each pair; the most probable comes first.
    """

    blank: float
    labels: list[tuple[float, int]]

    @property
    def best(self) -> float:
        return max(self.blank, self.labels[0][0]) if self.labels else self.blank


class _Prefix:
    """A node in the tree of transcripts, whose root is the empty one.

    ``blank`` and ``label`` are log-probabilities: of its paths up to this frame that end in
    a blank, and in its last token. ``next_*`` collect those of the frame at hand.
    """

    __slots__ = (
        "blank",
        "bonus",
        "children",
        "label",
        "next_blank",
        "next_label",
        "parent",
        "states",
        "token",
        "total",
    )

    def __init__(self, parent: "_Prefix | None", token: int | None) -> None:
        self.parent, self.token = parent, token
        self.children: dict[int, _Prefix] = {}
        self.states: list[Any] = []
        self.bonus = 0.0
        self.blank = self.label = self.total = NEVER
        self.next_blank = self.next_label = NEVER

    def child(self, token: int, scorers: Sequence[Scorer]) -> "_Prefix":
        child = self.children.get(token)
        if child is None:
            child = self.children[token] = _Prefix(self, token)
            child.bonus = self.bonus
            for scorer, state in zip(scorers, self.states, strict=True):
                score, state = scorer.extend(state, token)
                child.bonus += score
                child.states.append(state)
        return child

    def advance(self) -> float:
        """Go on to the next frame; returns the score there."""
        self.blank, self.label = self.next_blank, self.next_label
        self.total = _log_add(self.blank, self.label)
        self.next_blank = self.next_label = NEVER
        return self.total + self.bonus

    def end(self, scorers: Sequence[Scorer]) -> float:
        """What the scorers give the whole transcript."""
        ends = zip(scorers, self.states, strict=True)
        return self.bonus + sum(scorer.end(state) for scorer, state in ends)

    def token_ids(self) -> tuple[int, ...]:
        found: list[int] = []
        prefix: _Prefix | None = self
        while prefix is not None and prefix.token is not None:
            found.append(prefix.token)
            prefix = prefix.parent
        return tuple(reversed(found))


def _log_add(a: float, b: float) -> float:
    """Logarithm of the sum of two numbers given by their logarithms."""
    if a < b:
        a, b = b, a
    return a if b == NEVER else a + math.log1p(math.exp(b - a))


def beam_search(
    log_probs: torch.Tensor,
    options: BeamOptions = BeamOptions(),
    scorers: Sequence[Scorer] = (),
    nbest: int = 1,
    blank_id: int = 0,
) -> list[Hypothesis]:
    """The best transcripts of an utterance, the best first.

    Args:
        log_probs: Natural logarithms of the tokens' probabilities, ``(frames, tokens)``.
        options: How wide the search is.
        scorers: What else counts: language models, a lexicon, hot words.
        nbest: Transcripts to return; fewer are returned where the search kept fewer.
        blank_id: Index of CTC's blank.

    Returns:
        At least one. A score is the logarithm of the summed probability of all paths that
        the search kept, and what the scorers add. Where no transcript may end (in the
        middle of a word that a lexicon must complete), the best without its last tokens.

    Example:
        >>> probs = torch.tensor([[0.6, 0.4], [0.6, 0.4]])  # of blank, and of token 1
        >>> best = beam_search(probs.log())[0]  # though the best path has blanks alone
        >>> best.token_ids, round(best.score, 3)  # the logarithm of 0.64
        ((1,), -0.446)
    """
    root = _Prefix(None, None)
    root.states = [scorer.start() for scorer in scorers]
    root.blank = root.total = 0.0
    active = [root]
    for frame in _frames(log_probs, options.token_threshold, blank_id):
        reached = _extend(active, frame, scorers, options.beam_threshold)
        active = _prune(reached, options)
    return _finish(active, scorers, nbest)


def _frames(
    log_probs: torch.Tensor, threshold: float, blank_id: int
) -> Iterator[_Frame]:
    wanted = log_probs >= threshold
    wanted[torch.arange(len(log_probs)), log_probs.argmax(-1)] = True
    wanted[:, blank_id] = False
    for row, chosen in zip(log_probs.tolist(), wanted, strict=True):
        labels = [(row[token], token) for token in chosen.nonzero()[:, 0].tolist()]
        yield _Frame(row[blank_id], sorted(labels, reverse=True))


def _extend(
    active: list[_Prefix],
    frame: _Frame,
    scorers: Sequence[Scorer],
    beam_threshold: float,
) -> list[_Prefix]:
    """Take each transcript through a frame; returns all that this leads to."""
    # Every transcript can wait, so that none comes to a dead end.
    for prefix in active:
        prefix.next_blank = prefix.total + frame.blank
    reached = dict.fromkeys(active)
    best = max(prefix.total + prefix.bonus for prefix in active)
    lowest = best + frame.best - beam_threshold
    for prefix in active:
        for log_prob, token in frame.labels:
            if prefix.total + prefix.bonus + log_prob < lowest:
                break
            before = prefix.total
            if token == prefix.token:
                prefix.next_label = _log_add(prefix.next_label, prefix.label + log_prob)
                before = prefix.blank  # only a blank parts two equal tokens
                if before == NEVER:
                    continue
            child = prefix.child(token, scorers)
            child.next_label = _log_add(child.next_label, before + log_prob)
            reached[child] = None
    return list(reached)


def _prune(reached: list[_Prefix], options: BeamOptions) -> list[_Prefix]:
    """Of the transcripts that a frame leads to, those that are kept; the best first."""
    scored = [(prefix.advance(), prefix) for prefix in reached]
    best = heapq.nlargest(options.beam_size, scored, key=itemgetter(0))
    lowest = best[0][0] - options.beam_threshold
    kept = [prefix for score, prefix in best if score >= lowest and score > NEVER]
    return kept or [best[0][1]]


def _finish(
    active: list[_Prefix], scorers: Sequence[Scorer], nbest: int
) -> list[Hypothesis]:
    scored = [(prefix.total + prefix.end(scorers), prefix) for prefix in active]
    best = heapq.nlargest(nbest, scored, key=itemgetter(0))
    ended = [
        Hypothesis(prefix.token_ids(), score) for score, prefix in best if score > NEVER
    ]
    return ended or [_cut_back(active[0], scorers)]


def _cut_back(prefix: _Prefix, scorers: Sequence[Scorer]) -> Hypothesis:
    """A transcript without the last tokens that keep it from ending here."""
    score = prefix.total + prefix.bonus
    while prefix.parent is not None and prefix.end(scorers) == NEVER:
        prefix = prefix.parent
    return Hypothesis(prefix.token_ids(), score)
