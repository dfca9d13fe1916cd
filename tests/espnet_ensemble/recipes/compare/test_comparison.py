import pytest

from espnet_ensemble.recipes.compare.comparison import compare
from espnet_ensemble.recipes.compare.systems import read_systems


@pytest.fixture
def comparison(make_decoding):
    """A baseline, a better system and a worse one; one reference looks wrong."""
    wrong = {"bob-u2": "and swept"}
    decodings = [
        make_decoding("asr_base", {**wrong, "alice-u1": "a cat sat", "bob-u1": "day"}),
        make_decoding("asr_best", {**wrong, "alice-u1": "the hat sat"}, seed=1),
        make_decoding(
            "asr_worst",
            {**wrong, "alice-u1": "the hat", "alice-u2": "", "bob-u1": "all may"},
        ),
    ]
    return compare("test", read_systems(decodings, "test"), draws=500)


def test_the_best_comes_first(comparison):
    assert [row.name for row in comparison.rows] == [
        "asr_best",
        "asr_base",
        "asr_worst",
    ]
    assert [row.number for row in comparison.rows] == [1, 2, 3]
    assert [row.counts.errors for row in comparison.rows] == [2, 4, 8]
    assert [row.wer for row in comparison.rows] == pytest.approx(
        [18.18, 36.36, 72.73], abs=0.01
    )


def test_the_first_that_is_given_is_the_baseline(comparison):
    assert comparison.baseline == 2
    assert [row.p is None for row in comparison.rows] == [False, True, False]


def test_intervals_lie_around_the_rates(comparison):
    for row in comparison.rows:
        assert row.interval.low < row.wer < row.interval.high


def test_oracle(comparison):
    # bob-u2 is wrong in all, and so is alice-u1, each of whose words some have.
    assert comparison.oracle.utterance_wer == pytest.approx(100 * 2 / 11)
    assert comparison.oracle.word_wer == pytest.approx(100 * 1 / 11)


def test_utterances_that_some_recognise_better(comparison):
    assert [u.utt_id for u in comparison.differing] == [
        "alice-u2",
        "bob-u1",
        "alice-u1",
    ]
    assert comparison.differing[0].errors == (0, 0, 3)


def test_references_that_all_contradict(comparison):
    (utterance,) = comparison.suspicious
    assert utterance.utt_id == "bob-u2"
    assert utterance.columns[-1] == ("slept", ("swept", "swept", "swept"))


def test_configurations(comparison):
    assert comparison.differences == {"seed": ["1", "", ""]}


def test_one_system_alone(make_decoding):
    decodings = [make_decoding("asr_a", {"bob-u2": "and swept"})]
    comparison = compare("test", read_systems(decodings, "test"), draws=50)
    (row,) = comparison.rows
    assert row.name == "asr_a" and row.p is None
    assert comparison.differing == comparison.suspicious == []
    assert comparison.oracle.utterance_wer == comparison.oracle.word_wer == row.wer
