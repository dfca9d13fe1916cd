import itertools
import math
import random
from collections import Counter, defaultdict

import pytest

from espnet_ensemble.decoding.ngram import BEGIN, END, UNKNOWN, estimate_ngram
from espnet_ensemble.errors import EnsembleError

SENTENCES = [
    ["turn", "on", "the", "light"],
    ["turn", "off", "the", "light"],
    ["turn", "the", "volume", "up"],
    ["the", "light"],
    ["up"],
    [],
]
WORDS = sorted({word for sentence in SENTENCES for word in sentence})


def random_sentences(seed, number=60):
    rng = random.Random(seed)
    return [rng.choices("abcde", k=rng.randrange(1, 8)) for _ in range(number)]


def naive_prob(sentences, order, word, context):
    """The formula of interpolated Kneser-Ney, each sum by itself."""
    padded = [(BEGIN, *sentence, END) for sentence in sentences]

    def raw(n):
        spans = ((s[end - n : end]) for s in padded for end in range(2, len(s) + 1))
        return Counter(g for g in spans if len(g) == n)

    def counts(n):
        if n == order:
            return raw(n)
        lefts = defaultdict(set)
        for ngram in raw(n + 1):
            lefts[ngram[1:]].add(ngram[0])
        continued = {ngram: len(left) for ngram, left in lefts.items()}
        return Counter(
            {g: c if g[0] == BEGIN else continued[g] for g, c in raw(n).items()}
        )

    vocabulary = {w for s in padded for w in s[1:]} | {UNKNOWN}

    def prob(context):
        lower = prob(context[1:]) if context else 1 / len(vocabulary)
        of_order = counts(len(context) + 1)
        found = Counter(of_order.values())
        discount = (
            found[1] / (found[1] + 2 * found[2]) if found[1] and found[2] else 0.5
        )
        here = {g: c for g, c in of_order.items() if g[:-1] == context}
        if not here:
            return lower
        total = sum(here.values())
        own = max(here.get((*context, word), 0) - discount, 0) / total
        return own + discount * len(here) / total * lower

    return prob(tuple(context)[-(order - 1) :])


@pytest.mark.parametrize("order", [2, 3, 4])
def test_probabilities_sum_to_one_after_every_context(order):
    model = estimate_ngram(SENTENCES, order)
    for length in range(3):
        for context in itertools.product([BEGIN, *WORDS, "never"], repeat=length):
            total = sum(model.prob(word, context) for word in [*WORDS, END, UNKNOWN])
            assert total == pytest.approx(1)


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_probabilities_are_those_of_the_formula(seed, order):
    sentences = random_sentences(seed)
    model = estimate_ngram(sentences, order)
    rng = random.Random(seed)
    for _ in range(30):
        context = [BEGIN, *rng.choices("abcdef", k=rng.randrange(4))]
        word = rng.choice([*"abcde", END])
        expected = naive_prob(sentences, order, word, context)
        assert model.prob(word, context) == pytest.approx(expected)


def test_what_follows_is_more_probable_than_what_does_not():
    model = estimate_ngram(SENTENCES, 3)
    assert model.prob("light", ["on", "the"]) > model.prob("up", ["on", "the"])
    assert 0 < model.prob("never", ["on", "the"]) < model.prob("up", ["on", "the"])


@pytest.mark.parametrize("order", [2, 3])
def test_an_arpa_file_holds_all_that_is_needed(order, tmp_path):
    model = estimate_ngram(SENTENCES, order)
    model.write_arpa(tmp_path / "lm.arpa")
    lines = (tmp_path / "lm.arpa").read_text().splitlines()
    assert lines[0] == "\\data\\" and lines[-1] == "\\end\\"
    for n in range(1, order + 1):
        start = lines.index(f"\\{n}-grams:") + 1
        entries = lines[start : lines.index("", start)]
        assert f"ngram {n}={len(entries)}" in lines
        for entry in entries:
            log_prob, ngram, *backoff = entry.split("\t")
            ngram = tuple(ngram.split())
            assert len(ngram) == n
            if ngram != (BEGIN,):
                assert 10 ** float(log_prob) == pytest.approx(model.probs[ngram], 1e-5)
            if backoff:
                expected = math.log10(model.backoffs[ngram])
                assert float(backoff[0]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("order", [2, 4])
def test_kenlm_reads_the_same_probabilities(order, tmp_path):
    kenlm = pytest.importorskip("kenlm")
    sentences = random_sentences(0)
    model = estimate_ngram(sentences, order)
    model.write_arpa(tmp_path / "lm.arpa")
    of_kenlm = kenlm.Model(str(tmp_path / "lm.arpa"))
    for sentence in [*random_sentences(1, 10), ["a", "never", "b"], []]:
        found = [score for score, _, _ in of_kenlm.full_scores(" ".join(sentence))]
        expected = [
            math.log10(model.prob(word, [BEGIN, *sentence[:place]]))
            for place, word in enumerate([*sentence, END])
        ]
        assert found == pytest.approx(expected, abs=1e-4)


def test_an_order_below_two_is_refused():
    with pytest.raises(EnsembleError, match="order: expected 2 or more, found 1"):
        estimate_ngram(SENTENCES, 1)


@pytest.mark.parametrize("sentences", [[], [[]]])
def test_a_text_without_words_is_refused(sentences):
    with pytest.raises(EnsembleError, match="found no word"):
        estimate_ngram(sentences, 2)


@pytest.mark.parametrize("word", [BEGIN, END, "a b", ""])
def test_what_is_no_word_is_refused(word):
    with pytest.raises(EnsembleError, match="expected a word"):
        estimate_ngram([["a", word]], 2)
