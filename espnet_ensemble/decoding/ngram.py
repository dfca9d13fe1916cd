"""Estimation of n-gram language models: interpolated Kneser-Ney, written as ARPA.

R. Kneser and H. Ney, *Improved backing-off for m-gram language modeling*, ICASSP 1995, in
the interpolated form of S. F. Chen and J. Goodman, *An empirical study of smoothing
techniques for language modeling*, Computer Speech and Language 13 (1999), section 3, with
one discount for each order. It is meant for texts of a recipe's size, in memory; for more,
KenLM's ``lmplz`` writes the same format.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, write_text

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"

Ngram = tuple[str, ...]


@dataclass(frozen=True)
class NgramModel:
    """An n-gram language model.

    Attributes:
        probs: For each n-gram that was seen, the probability of its last word after the
            others, interpolated. ``("<unk>",)`` is for every other word.
        backoffs: For each context, the weight of the probability after the context without
            its first word, for words that were not seen here.

    Example:
        >>> model = estimate_ngram([["a", "b"], ["a", "c"]], order=2)
        >>> round(sum(model.prob(word, ("a",)) for word in ["a", "b", "c", END, UNKNOWN]), 6)
        1.0
    """

    probs: dict[Ngram, float]
    backoffs: dict[Ngram, float]

    @property
    def order(self) -> int:
        """Words in the longest n-grams."""
        return max(map(len, self.probs))

    def prob(self, word: str, context: Sequence[str]) -> float:
        """Probability of a word after others, of which as many count as the order allows."""
        if (word,) not in self.probs:
            word = UNKNOWN
        history = tuple(context)[-(self.order - 1) :]
        weight = 1.0
        while (ngram := (*history, word)) not in self.probs:
            weight *= self.backoffs.get(history, 1.0)
            history = history[1:]
        return weight * self.probs[ngram]

    def write_arpa(self, path: PathLike) -> None:
        """Write it in the ARPA format, which KenLM, SRILM and k2 read."""
        orders = range(1, self.order + 1)
        by_order = {n: sorted(g for g in self.probs if len(g) == n) for n in orders}
        # No word follows nothing to give the beginning; its context must be listed still.
        by_order[1].insert(0, (BEGIN,))
        lines = ["\\data\\"] + [f"ngram {n}={len(by_order[n])}" for n in orders]
        for n in orders:
            lines += ["", f"\\{n}-grams:", *map(self._arpa_line, by_order[n])]
        write_text(path, "\n".join([*lines, "", "\\end\\", ""]))

    def _arpa_line(self, ngram: Ngram) -> str:
        prob = self.probs.get(ngram)
        fields = [f"{math.log10(prob):.7f}" if prob else "-99", " ".join(ngram)]
        if ngram in self.backoffs:
            fields.append(f"{math.log10(self.backoffs[ngram]):.7f}")
        return "\t".join(fields)


def estimate_ngram(sentences: Iterable[Sequence[str]], order: int) -> NgramModel:
    """Estimate an n-gram language model.

    Args:
        sentences: Of words, or of other units.
        order: Words in the longest n-grams, 2 or more.

    Raises:
        EnsembleError: If the order is less than 2, there is no word at all, or one is among
            ``<s>``, ``</s>``.
    """
    if order < 2:  # such a model remembers nothing, and kenlm reads none
        raise EnsembleError(f"order: expected 2 or more, found {order}")
    counts = _counts(sentences, order)
    if len(counts[0]) < 2:
        raise EnsembleError("expected sentences to learn from, found no word")
    uniform = 1 / len({(UNKNOWN,), *counts[0]})
    probs: dict[Ngram, float] = {(): uniform}
    backoffs: dict[Ngram, float] = {}
    for of_order in counts:
        _interpolate(of_order, probs, backoffs)
    if (UNKNOWN,) not in probs:
        probs[(UNKNOWN,)] = backoffs[()] * uniform
    del probs[()], backoffs[()]
    return NgramModel(probs, backoffs)


def _counts(sentences: Iterable[Sequence[str]], order: int) -> list[Counter[Ngram]]:
    """How often each n-gram counts, for each n up to the order.

    The longest, and those that begin a sentence: as often as they are in the text. Others:
    in as many contexts of one word as they are seen (their "continuation counts").
    """
    seen: list[Counter[Ngram]] = [Counter() for _ in range(order)]
    for sentence in sentences:
        _check_words(sentence)
        words = (BEGIN, *sentence, END)
        for end in range(2, len(words) + 1):
            for n in range(1, min(order, end) + 1):
                seen[n - 1][words[end - n : end]] += 1
    for shorter, longer in pairwise(seen):
        continued = Counter(ngram[1:] for ngram in longer)
        for ngram in shorter:
            if ngram[0] != BEGIN:
                shorter[ngram] = continued[ngram]
    return seen


def _check_words(sentence: Sequence[str]) -> None:
    for word in sentence:
        if word in (BEGIN, END) or not word or word.split() != [word]:
            raise EnsembleError(
                f"{word!r}: expected a word other than {BEGIN} and {END}"
            )


def _interpolate(
    counts: Counter[Ngram], probs: dict[Ngram, float], backoffs: dict[Ngram, float]
) -> None:
    """Add an order to a model that has all lower ones."""
    discount = _discount(counts)
    totals: Counter[Ngram] = Counter()
    kinds: Counter[Ngram] = Counter()
    for ngram, count in counts.items():
        totals[ngram[:-1]] += count
        kinds[ngram[:-1]] += 1
    for context, total in totals.items():
        backoffs[context] = discount * kinds[context] / total
    for ngram, count in counts.items():
        context = ngram[:-1]
        own = (count - discount) / totals[context]
        probs[ngram] = own + backoffs[context] * probs[ngram[1:]]


def _discount(counts: Counter[Ngram]) -> float:
    """What is taken from each count: Ney's estimate, or one half where that has no base."""
    how_often = Counter(counts.values())
    once, twice = how_often[1], how_often[2]
    return once / (once + 2 * twice) if once and twice else 0.5
