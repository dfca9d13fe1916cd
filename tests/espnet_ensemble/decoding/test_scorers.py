import itertools
import math
from pathlib import Path

import pytest
import torch

from espnet_ensemble.decoding import scorers
from espnet_ensemble.decoding.beam import NEVER, BeamOptions, beam_search
from espnet_ensemble.decoding.ngram import BEGIN, END, estimate_ngram
from espnet_ensemble.decoding.scorers import (
    HotWordsScorer,
    LexiconScorer,
    TokenNgramScorer,
    WordNgramScorer,
    load_ngram,
    spell_tokens,
)
from espnet_ensemble.errors import EnsembleError

CHARS = ["<blank>", "<unk>", "<space>", "a", "b", "c", "n", "<sos/eos>"]
PIECES = ["<blank>", "<unk>", "▁a", "▁b", "a", "b", "▁", "n", "c", "<sos/eos>"]
WORDS = ["<blank>", "<unk>", "a", "b", "ab", "can", "<sos/eos>"]
VOCABULARIES = pytest.mark.parametrize(
    "tokens", [CHARS, PIECES, WORDS], ids=["characters", "pieces", "words"]
)
SENTENCES = [["a", "can"], ["ban", "a", "can"], ["ban", "ab"], ["a", "ab", "can"]]


def total(scorer, token_ids):
    """What a scorer adds to a transcript in all."""
    state, score = scorer.start(), 0.0
    for token_id in token_ids:
        more, state = scorer.extend(state, token_id)
        score += more
    return score + scorer.end(state)


def spell(text):
    """Token ids of a text, by characters."""
    return [CHARS.index("<space>" if char == " " else char) for char in text]


def transcripts(tokens, length):
    """Token ids of every transcript, and its words."""
    labels = [i for i, token in enumerate(tokens) if token not in ("<blank>",)]
    spellings = spell_tokens(tokens)
    for token_ids in itertools.product(labels, repeat=length):
        yield token_ids, "".join(spellings[i] for i in token_ids).split()


@pytest.fixture
def word_lm(tmp_path):
    estimate_ngram(SENTENCES, 3).write_arpa(tmp_path / "words.arpa")
    return tmp_path / "words.arpa"


class Stub:
    """Scores of our own n-grams behind kenlm's interface, where that is not installed."""

    class State:
        words = ()

    def __init__(self, model):
        self._model = model

    def BeginSentenceWrite(self, state):
        state.words = (BEGIN,)

    def BaseScore(self, state, word, after):
        after.words = (*state.words, word)
        return math.log10(self._model.prob(word, state.words))


@pytest.fixture
def stub(monkeypatch):
    """Stands in for kenlm; scores are those of the naive formula of backing off."""
    monkeypatch.setattr(scorers, "import_kenlm", lambda: Stub)
    return Stub


def log_prob(model, words):
    """Natural logarithm of a sentence's probability."""
    context = [BEGIN, *words]
    return sum(
        math.log(model.prob(word, context[: place + 1]))
        for place, word in enumerate([*words, END])
    )


@VOCABULARIES
def test_words_are_scored_however_they_are_spelt(tokens, stub):
    model = estimate_ngram(SENTENCES, 3)
    scorer = WordNgramScorer(stub(model), tokens, weight=0.5, bonus=0.25)
    for token_ids, words in transcripts(tokens, 3):
        expected = 0.5 * log_prob(model, words) + 0.25 * len(words)
        assert total(scorer, token_ids) == pytest.approx(expected)


def test_tokens_are_scored_by_their_names(stub):
    model = estimate_ngram([["a", "<space>", "c", "a", "n"]], 2)
    scorer = TokenNgramScorer(stub(model), CHARS, weight=2.0, bonus=-1.0)
    for token_ids, _ in transcripts(CHARS, 3):
        named = [CHARS[i] for i in token_ids]
        expected = 2 * log_prob(model, named) - 3
        assert total(scorer, token_ids) == pytest.approx(expected)


def test_the_search_finds_what_the_language_model_prefers(stub):
    model = estimate_ngram(SENTENCES, 3)
    wanted = spell("a can")
    probs = torch.full((5, len(CHARS)), 1e-4)
    probs[torch.arange(5), wanted] = 0.9
    probs[4, CHARS.index("c")], probs[4, CHARS.index("n")] = 0.5, 0.4
    log_probs = probs.log()
    alone = beam_search(log_probs)[0].token_ids
    scorer = WordNgramScorer(stub(model), CHARS, weight=1.0)
    with_words = beam_search(log_probs, scorers=[scorer])[0].token_ids
    assert alone == tuple(spell("a cac")) and with_words == tuple(wanted)


def test_kenlm_scores_words(word_lm):
    pytest.importorskip("kenlm")
    model = estimate_ngram(SENTENCES, 3)
    scorer = load_ngram(word_lm, CHARS, weight=0.7, bonus=0.1)
    for text in ["a can", "ban ab", "nab", "", "can can can"]:
        words = text.split()
        expected = 0.7 * log_prob(model, words) + 0.1 * len(words)
        assert total(scorer, spell(text)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "sentences, tokens, kind",
    [
        (SENTENCES, CHARS, WordNgramScorer),
        (SENTENCES, PIECES, WordNgramScorer),
        (SENTENCES, ["<blank>", "a", "can", "ab", "ban"], TokenNgramScorer),
        ([["a", "<space>", "c", "a", "n", "b"]], CHARS, TokenNgramScorer),
        ([["▁a", "b", "▁b", "a", "n"]], PIECES, TokenNgramScorer),
    ],
)
def test_a_language_model_is_of_words_or_of_tokens(sentences, tokens, kind, tmp_path):
    pytest.importorskip("kenlm")
    estimate_ngram(sentences, 2).write_arpa(tmp_path / "lm.arpa")
    assert type(load_ngram(tmp_path / "lm.arpa", tokens, weight=1.0)) is kind


@pytest.mark.parametrize("tokens", [CHARS, PIECES, ["<blank>", "x", "y", "z"]])
def test_a_language_model_of_other_words_is_refused(tokens, tmp_path):
    pytest.importorskip("kenlm")
    estimate_ngram([["CAN", "BAN"], ["a"]], 2).write_arpa(tmp_path / "lm.arpa")
    with pytest.raises(EnsembleError, match="expected a language model of"):
        load_ngram(tmp_path / "lm.arpa", tokens, weight=1.0)


@pytest.mark.parametrize("kind", ["trie", "probing"])
def test_binary_files_of_kenlm_score_as_their_arpa(kind):
    """``kenlm/tiny.*`` are what KenLM's ``build_binary`` makes of ``tiny.arpa``."""
    pytest.importorskip("kenlm")
    folder = Path(__file__).with_name("kenlm")
    arpa = load_ngram(folder / "tiny.arpa", CHARS, weight=0.9, bonus=0.3)
    binary = load_ngram(folder / f"tiny.{kind}", CHARS, weight=0.9, bonus=0.3)
    assert type(binary) is WordNgramScorer
    for text in ("a can", "a ban", "can a", "b a can can", ""):
        expected = total(arpa, spell(text))
        assert total(binary, spell(text)) == pytest.approx(expected, abs=1e-4)


def test_what_is_no_language_model_is_refused(tmp_path):
    pytest.importorskip("kenlm")
    with pytest.raises(EnsembleError, match="found no file"):
        load_ngram(tmp_path / "lm.arpa", CHARS, weight=1.0)
    (tmp_path / "lm.arpa").write_text("a can\n")
    with pytest.raises(EnsembleError, match="expected ARPA or KenLM's binary format"):
        load_ngram(tmp_path / "lm.arpa", CHARS, weight=1.0)


@VOCABULARIES
def test_a_lexicon_allows_its_words_alone(tokens):
    lexicon = ["a", "ab", "b"]
    scorer = LexiconScorer(lexicon, tokens)
    for token_ids, words in transcripts(tokens, 3):
        allowed = all(word in lexicon for word in words)
        assert total(scorer, token_ids) == (0 if allowed else NEVER)


def test_the_search_keeps_to_a_lexicon():
    log_probs = torch.randn(40, 8, generator=torch.Generator().manual_seed(0)) * 3
    found = beam_search(
        log_probs.log_softmax(-1),
        BeamOptions(beam_size=50),
        [LexiconScorer(["ban", "can", "a"], CHARS)],
        nbest=20,
    )
    assert len(found) > 1
    for hyp in found:
        text = "".join(spell_tokens(CHARS)[i] for i in hyp.token_ids)
        assert set(text.split()) <= {"ban", "can", "a"}


def test_a_lexicon_s_word_that_cannot_be_spelt_is_refused():
    with pytest.raises(EnsembleError, match=r"lexicon: expected words .*'CAN' and 1"):
        LexiconScorer(["can", "CAN", "zoo"], CHARS)
    with pytest.raises(EnsembleError, match="expected words, found none"):
        LexiconScorer([], CHARS)


@VOCABULARIES
@pytest.mark.parametrize(
    "phrases", [["ab"], ["a", "a b"], ["b a", "a b", "a"], ["a a", "a a a"], []]
)
def test_every_hot_phrase_counts_every_time(phrases, tokens):
    scorer = HotWordsScorer(phrases, tokens, weight=1.5)
    for token_ids, words in transcripts(tokens, 4):
        expected = sum(
            1.5 * len(phrase)
            for phrase in phrases
            for place in range(len(words))
            if words[place : place + len(phrase.split())] == phrase.split()
        )
        assert total(scorer, token_ids) == pytest.approx(expected)


def test_a_hot_word_counts_while_it_is_being_said():
    scorer = HotWordsScorer(["can"], CHARS, weight=1.0)
    state, scores = scorer.start(), []
    for token_id in spell("cab can"):
        score, state = scorer.extend(state, token_id)
        scores.append(score)
    assert scores == [1, 1, -2, 0, 1, 1, 1] and scorer.end(state) == 0


def test_hot_words_that_cannot_be_spelt_are_refused():
    with pytest.raises(EnsembleError, match="hot words: expected words .*'a zoo'"):
        HotWordsScorer(["a zoo"], CHARS, weight=1.0)


def test_hot_words_raise_what_they_name():
    probs = torch.full((3, len(CHARS)), 1e-4)
    probs[torch.arange(3), spell("can")] = 0.5
    probs[0, CHARS.index("b")] = 0.9
    plain = beam_search(probs.log())[0].token_ids
    scorer = HotWordsScorer(["can"], CHARS, weight=1.0)
    hot = beam_search(probs.log(), scorers=[scorer])[0].token_ids
    assert plain == tuple(spell("ban")) and hot == tuple(spell("can"))
