import pytest

from espnet_ensemble.recipes.tables.comparison import (
    HELD,
    NOT_HELD,
    UNKNOWN,
    check_claims,
    mean_rate,
    relative_gain,
)
from espnet_ensemble.recipes.tables.systems import Claims

CLAIMS = Claims(best=("wavlm", "hubert"), gain=10, last="wav2vec2")
MEANS = {
    ("wavlm",): 10.0,
    ("hubert",): 12.0,
    ("wav2vec2",): 40.0,
    ("wavlm", "hubert"): 9.0,
    ("wav2vec2", "hubert", "wavlm"): 9.5,
}


def check(change=(), missing=()):
    means = {**MEANS, **dict(change)}
    means = {key: mean for key, mean in means.items() if key not in missing}
    return list(check_claims(CLAIMS, means, list(MEANS)).values())


def test_all_hold():
    assert check() == [HELD, f"{HELD} (+10.0 %)", HELD]


@pytest.mark.parametrize(
    ("families", "mean", "verdicts"),
    [
        # The first claim falls with any that is better.
        (("wav2vec2", "hubert", "wavlm"), 8.9, [NOT_HELD, "held (+10.0 %)", HELD]),
        (("wavlm", "hubert"), 9.6, [NOT_HELD, "not held (+4.0 %)", HELD]),
        (("wavlm", "hubert"), 9.5, [HELD, "held (+5.0 %)", HELD]),
        (("wav2vec2",), 11.9, [HELD, "held (+10.0 %)", NOT_HELD]),
    ],
)
def test_not_held(families, mean, verdicts):
    assert check({families: mean}.items()) == verdicts


@pytest.mark.parametrize(
    ("missing", "verdicts"),
    [
        ([("wavlm", "hubert")], [UNKNOWN, UNKNOWN, HELD]),
        ([("hubert",)], [UNKNOWN, UNKNOWN, UNKNOWN]),
        ([("wav2vec2",)], [UNKNOWN, "held (+10.0 %)", UNKNOWN]),
        (list(MEANS), [UNKNOWN, UNKNOWN, UNKNOWN]),
    ],
)
def test_not_enough_data(missing, verdicts):
    assert check(missing=missing) == verdicts


def test_one_number_refutes_whatever_is_missing():
    better = {("wav2vec2", "hubert", "wavlm"): 8.0}.items()
    assert check(better, missing=[("wavlm",)])[0] == NOT_HELD


def test_gain_is_over_the_members_alone():
    means = {("a",): 20.0, ("b",): 25.0, ("c",): 1.0, ("a", "b"): 22.0}
    assert relative_gain(means, ("a", "b")) == pytest.approx(-10)
    assert relative_gain(means, ("a",)) is None
    assert relative_gain(means, ("a", "c")) is None
    assert relative_gain({("a",): 20.0, ("a", "b"): 22.0}, ("a", "b")) is None


def test_mean_needs_every_set(tables):
    system = tables[3].systems[0]
    assert mean_rate(system, system.paper) == pytest.approx((66.81 + 65.28) / 2)
    assert mean_rate(system, {"test_dev93": 66.81}) is None
