import numpy as np
import pytest

from espnet_ensemble.analysis.bootstrap import draw_rates, interval, p_value


@pytest.fixture
def errors():
    return np.random.default_rng(1).poisson(1.5, size=(40, 3))


@pytest.fixture
def words():
    return np.random.default_rng(2).integers(1, 20, size=40)


def test_equals_a_naive_loop(errors, words):
    rng = np.random.default_rng(7)
    expected = []
    for _ in range(300):
        counts, length = np.zeros(3), 0
        for utterance in rng.integers(40, size=40):
            counts += errors[utterance]
            length += words[utterance]
        expected.append(100 * counts / length)
    rates = draw_rates(errors, words, draws=300, seed=7)
    assert rates == pytest.approx(np.array(expected))


def test_every_draw_is_of_the_same_utterances_for_all_systems(errors, words):
    twice = np.column_stack([errors[:, 0], 2 * errors[:, 0]])
    rates = draw_rates(twice, words, draws=500)
    assert rates[:, 1] == pytest.approx(2 * rates[:, 0])


def test_the_seed_decides(errors, words):
    first, again = (draw_rates(errors, words, draws=300, seed=3) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, draw_rates(errors, words, draws=300, seed=4))


def test_the_interval_is_that_of_the_normal_approximation():
    """Of many utterances of one word each, the errors are binomial."""
    errors = np.zeros((2000, 1), dtype=int)
    errors[:400] = 1
    found = interval(draw_rates(errors, np.ones(2000), draws=4000))
    spread = 1.96 * 100 * np.sqrt(0.2 * 0.8 / 2000)
    assert found.low == pytest.approx(20 - spread, abs=0.15)
    assert found.high == pytest.approx(20 + spread, abs=0.15)


def test_the_same_system_does_not_differ(errors, words):
    rates = draw_rates(errors, words, draws=200)
    assert p_value(rates[:, 0], rates[:, 0]) == 1.0


@pytest.mark.parametrize("fixed", [1, 2, 4])
def test_p_of_some_errors_fewer_and_none_more(fixed):
    """It is not better only where none of those utterances is drawn."""
    size = 50
    errors = np.ones((size, 2), dtype=int)
    errors[:fixed, 1] = 0
    rates = draw_rates(errors, np.full(size, 5), draws=20000)
    expected = 2 * (1 - fixed / size) ** size
    for one, two in ((0, 1), (1, 0)):
        found = p_value(rates[:, one], rates[:, two])
        assert found == pytest.approx(expected, abs=0.02)


def test_errors_that_balance_are_no_difference():
    errors = np.zeros((100, 2), dtype=int)
    errors[:20, 0] = errors[20:40, 1] = 1
    rates = draw_rates(errors, np.full(100, 5), draws=5000)
    assert p_value(rates[:, 1], rates[:, 0]) > 0.8


def test_a_clear_difference_is_as_small_as_the_draws_can_tell():
    errors = np.zeros((100, 2), dtype=int)
    errors[:, 0] = 1
    rates = draw_rates(errors, np.full(100, 5), draws=999)
    assert p_value(rates[:, 1], rates[:, 0]) == pytest.approx(0.002)


def test_p_under_no_difference_is_small_as_rarely_as_it_should_be():
    rng = np.random.default_rng(0)
    found = []
    for seed in range(200):
        errors = rng.poisson(1.0, size=(150, 2))
        rates = draw_rates(errors, np.full(150, 8), draws=400, seed=seed)
        found.append(p_value(rates[:, 1], rates[:, 0]))
    assert np.mean(np.array(found) < 0.1) == pytest.approx(0.1, abs=0.05)
