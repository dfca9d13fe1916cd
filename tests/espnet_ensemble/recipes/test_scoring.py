import random
import subprocess
import sys

import pytest
from random_texts import TEXTS, random_texts

from espnet_ensemble.recipes import scoring
from espnet_ensemble.recipes.scoring import (
    Counts,
    Pair,
    Percentages,
    ScoredUtterance,
    align,
    count,
    find_all_edits,
    find_edits,
    score_tokens,
)


def align_plainly(ref, hyp):
    """sclite's alignment, step by step on the whole table of costs."""
    cost = {(0, 0): 0}
    for i in range(len(ref) + 1):
        for j in range(len(hyp) + 1):
            ways = []
            if i:
                ways.append(cost[i - 1, j] + 3)
            if j:
                ways.append(cost[i, j - 1] + 3)
            if i and j:
                same = ref[i - 1].lower() == hyp[j - 1].lower()
                ways.append(cost[i - 1, j - 1] + (0 if same else 4))
            if ways:
                cost[i, j] = min(ways)
    pairs, i, j = [], len(ref), len(hyp)
    while i or j:
        if i and j:
            same = ref[i - 1].lower() == hyp[j - 1].lower()
            if cost[i, j] == cost[i - 1, j - 1] + (0 if same else 4):
                i, j = i - 1, j - 1
                pairs.append(Pair(ref[i], hyp[j]))
                continue
        if i and (not j or cost[i - 1, j] < cost[i, j - 1]):
            i -= 1
            pairs.append(Pair(ref[i], None))
        else:
            j -= 1
            pairs.append(Pair(None, hyp[j]))
    return pairs[::-1]


@pytest.mark.parametrize("vocabulary,longest", TEXTS[:2] + TEXTS[3:])
def test_transcripts_are_aligned_as_by_sclite(vocabulary, longest):
    ref, hyp, _ = random_texts(0, vocabulary, longest)
    for utt in ref:
        assert align(ref[utt], hyp[utt]) == align_plainly(ref[utt], hyp[utt])


@pytest.mark.parametrize("vocabulary,longest", [("ab", 7), ("abC", 9), ("abcdefg", 12)])
def test_ties_go_as_by_sclite(vocabulary, longest):
    """Unrelated tokens have many alignments of least cost, and bounds that are not tight."""
    rng = random.Random(0)
    for _ in range(1000):
        ref, hyp = (
            rng.choices(vocabulary + vocabulary.upper(), k=rng.randint(0, longest))
            for _ in range(2)
        )
        assert align(ref, hyp) == align_plainly(ref, hyp)


@pytest.mark.parametrize("longest,max_width", [(7, 96), (40, 96), (40, 8)])
def test_many_at_once_are_aligned_as_each(longest, max_width, monkeypatch):
    """Some of them are too long, or too unlike, for the tables of many."""
    monkeypatch.setattr(scoring, "MAX_WIDTH", max_width)
    monkeypatch.setattr(scoring, "_WINDOW", 300)
    rng, pairs = random.Random(longest), []
    for number in range(1000):
        vocabulary = "abcdefgABC"[: rng.randint(2, 10)] + "\u65e5"
        ref = rng.choices(vocabulary, k=rng.randint(0, longest))
        hyp = rng.choices(vocabulary, k=rng.randint(0, longest))
        if number % 3:  # a few errors
            kept = [c if rng.random() < 0.9 else rng.choice(vocabulary) for c in ref]
            hyp = [c for c in kept if rng.random() < 0.9]
        pairs.append((ref, hyp))
    for (ref, hyp), edits in zip(pairs, find_all_edits(iter(pairs)), strict=True):
        assert edits == find_edits(ref, hyp)
        utterance = ScoredUtterance("u", "s", ref, hyp, tuple(edits))
        assert list(utterance.pairs) == align_plainly(ref, hyp)


def test_a_long_utterance_is_scored():
    ref = ["a", "b", "c", "d"] * 1000
    hyp = [*ref[:50], *ref[170:3000], "x", *ref[3001:]]
    (edits,) = find_all_edits([(ref, hyp)])
    assert [edit.kind for edit in edits].count("D") == 120
    assert len(edits) == 121


def test_tokens_are_any_text():
    ref, hyp = ["a\nb", "", "c\x00"], ["A\nB", "c\x00", ""]
    assert [pair.kind for pair in align(ref, hyp)] == ["C", "D", "C", "I"]


@pytest.mark.parametrize(
    "ref,hyp,expected",  # correct, substitutions, deletions, insertions
    [
        ("", "", (0, 0, 0, 0)),
        ("a b c", "", (0, 0, 3, 0)),
        ("", "a b", (0, 0, 0, 2)),
        ("a b c", "a b c", (3, 0, 0, 0)),
        ("a b c", "A B C", (3, 0, 0, 0)),
        ("été", "ÉTÉ", (0, 1, 0, 0)),
        ("été", "éTé", (1, 0, 0, 0)),
        ("a a a", "a", (1, 0, 2, 0)),
        ("a", "a a a", (1, 0, 0, 2)),
        ("a b c d", "b c d e", (3, 0, 1, 1)),
        ("the cat sat on the mat", "the cat sat on on bat", (4, 2, 0, 0)),
        # Equally cheap with fewer substitutions; sclite prefers these.
        ("a c a c a b c", "b b b b c c c", (2, 4, 1, 1)),
        ("e b a a d a e", "e d b e a e c a a", (4, 3, 0, 2)),
        ("a d b b b a d b c b a c a a", "d b b d a e b c a a e a c", (8, 5, 1, 0)),
    ],
)
def test_counts(ref, hyp, expected):
    counts = count(align(ref.split(), hyp.split()))
    found = counts.correct, counts.substitutions, counts.deletions, counts.insertions
    assert found == expected
    assert counts.words == len(ref.split())
    assert counts.errors == sum(expected[1:])
    assert (counts.sentences, counts.wrong_sentences) == (1, int(any(expected[1:])))


def test_percentages_round_halves_up():
    counts = Counts(16, 16, 11, 1, 4, 0, 5, 1)
    assert counts.percentages == Percentages(68.8, 6.3, 25.0, 0.0, 31.3, 6.3)


def test_percentages_of_nothing():
    counts = Counts(1, 0, 0, 0, 0, 2, 2, 1)
    assert counts.percentages == Percentages(0, 0, 0, 0, 0, 100)


def test_a_score_has_what_its_utterances_have():
    ref = {"u1": ["a", "b"], "u2": ["c"], "u3": ["d"]}
    hyp = {"u3": [], "u2": ["c"], "u1": ["a", "x", "b"]}
    score = score_tokens(ref, hyp, {"u1": "bob", "u2": "alice", "u3": "bob"})
    assert [utterance.utt_id for utterance in score.utterances] == ["u1", "u2", "u3"]
    assert score.utterances[0].pairs == (("a", "a"), (None, "x"), ("b", "b"))
    assert [pair.kind for pair in score.utterances[0].pairs] == ["C", "I", "C"]
    assert score.utterances[0].counts == Counts(1, 2, 2, 0, 0, 1, 1, 1)
    assert score.counts == Counts(3, 4, 3, 0, 1, 1, 2, 2)


def test_scores_of_speakers():
    ref = {"u1": ["a"], "u2": ["b"], "u3": ["c"]}
    score = score_tokens(ref, ref, {"u1": "bob", "u2": "alice", "u3": "Bob"})
    by_speaker = {spk: part.counts.words for spk, part in score.by_speaker().items()}
    assert list(by_speaker.items()) == [("bob", 1), ("alice", 1), ("Bob", 1)]
    together = score.by_speaker(str.lower)
    assert [utterance.utt_id for utterance in together["bob"].utterances] == [
        "u1",
        "u3",
    ]


def test_it_is_light():
    """Who aligns tokens waits for neither torch nor ESPnet."""
    code = (
        "import sys, espnet_ensemble.recipes.results; "
        "print(*{'torch', 'espnet2.text', 'matplotlib'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "\n"
