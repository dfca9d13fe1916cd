import pytest

from espnet_ensemble.recipes.tables.comparison import (
    UNKNOWN,
    best_member,
    check_claims,
    mean_rate,
    relative_gain,
)
from espnet_ensemble.recipes.tables.systems import Claims

CLAIMS = Claims(
    best=("wavlm", "hubert"),
    gain=10,
    order=("wavlm", "hubert", "wav2vec2"),
    hurts="wav2vec2",
)
MEANS = {
    ("wavlm",): 10.0,
    ("hubert",): 12.0,
    ("wav2vec2",): 40.0,
    ("wavlm", "hubert"): 9.0,
    ("wav2vec2", "hubert"): 13.0,
    ("wav2vec2", "hubert", "wavlm"): 9.5,
}
GROUP = ("words", "base", "ctc")


def check(change=(), missing=()):
    """Answers of a group of which some rates are other ones, or not known."""
    means = {**MEANS, **dict(change)}
    means = {key: mean for key, mean in means.items() if key not in missing}
    verdicts = check_claims(CLAIMS, {GROUP: list(MEANS)}, {GROUP: means})
    return [verdict.answer for verdict in verdicts]


def test_claims_say_what_is_compared():
    verdicts = check_claims(CLAIMS, {GROUP: list(MEANS)}, {GROUP: MEANS})
    assert [verdict.claim for verdict in verdicts] == [
        "wavlm+hubert has the lowest rate",
        "wavlm+hubert is about 10 % (5 to 15) below its best member",
        "alone, wavlm < hubert < wav2vec2",
        "wav2vec2 makes worse what it joins",
    ]


def test_all_hold():
    assert check() == [
        "held (9.0)",
        "held (+10.0 %)",
        "held (10.0, 12.0, 40.0)",
        "held (2 of 2)",
    ]


@pytest.mark.parametrize(
    ("families", "mean", "place", "answer"),
    [
        (
            ("wav2vec2", "hubert", "wavlm"),
            8.9,
            0,
            "not held (9.0, wav2vec2+hubert+wavlm 8.9)",
        ),
        # Who shares it has it not.
        (("wavlm", "hubert"), 9.5, 0, "not held (9.5, wav2vec2+hubert+wavlm 9.5)"),
        (("hubert",), 10.0, 2, "not held (10.0, 10.0, 40.0)"),
        (("wavlm", "hubert"), 9.6, 1, "not held (+4.0 %)"),
        (("wavlm", "hubert"), 9.5, 1, "held (+5.0 %)"),
        (("wavlm", "hubert"), 8.5, 1, "held (+15.0 %)"),
        (("wavlm", "hubert"), 8.4, 1, "not held (+16.0 %)"),
        (("wav2vec2",), 11.9, 2, "not held (10.0, 12.0, 11.9)"),
        (
            ("wav2vec2", "hubert"),
            11.0,
            3,
            "not held (1 of 2 do; not: hubert 11.0, 12.0)",
        ),
    ],
)
def test_not_held(families, mean, place, answer):
    assert check({families: mean}.items())[place] == answer


@pytest.mark.parametrize(
    ("missing", "unknown"),
    [
        ([("wavlm", "hubert")], [0, 1, 3]),
        ([("hubert",)], [0, 1, 2, 3]),
        ([("wav2vec2",)], [0, 2]),
        (list(MEANS), [0, 1, 2, 3]),
    ],
)
def test_not_enough_data(missing, unknown):
    answers = check(missing=missing)
    assert [i for i, answer in enumerate(answers) if answer == UNKNOWN] == unknown


def test_one_number_refutes_whatever_is_missing():
    better = {("wav2vec2", "hubert", "wavlm"): 8.0}.items()
    assert check(better, missing=[("wavlm",)])[0].startswith("not held")
    reverse = {("wavlm",): 14.0}.items()
    assert check(reverse, missing=[("wav2vec2",)])[2] == "not held (14.0, 12.0)"


def check_groups(means):
    """Answers about groups: sizes small and large, heads ctc and deep."""
    claims = Claims(
        best=("a", "b"),
        larger=("small", "large"),
        gain_grows=True,
        encoder=("ctc", "deep"),
    )
    groups = {
        ("words", size, head): [("a",), ("b",), ("a", "b")]
        for size in ("small", "large")
        for head in ("ctc", "deep")
    }
    verdicts = check_claims(claims, groups, means)
    return {(v.size, v.head): v.answer for v in verdicts if "lowest" not in v.claim}, [
        verdict for verdict in verdicts if "gains more" in verdict.claim
    ]


def rates(a, b, both):
    return {("a",): a, ("b",): b, ("a", "b"): both}


def test_sizes_and_heads():
    answers, growth = check_groups(
        {
            ("words", "small", "ctc"): rates(60, 50, 45),
            ("words", "large", "ctc"): rates(40, 70, 30),
            ("words", "small", "deep"): rates(20, 26, 10),
        }
    )
    assert answers["small", "ctc, deep"] == ("not held (2 of 3 do; not: b 50.0, 26.0)")
    assert answers["large", "ctc, deep"] == UNKNOWN
    by_head = {verdict.head: verdict.answer for verdict in growth}
    assert by_head == {"ctc": "held (+10.0 %, +25.0 %)", "deep": UNKNOWN}


def test_larger_upstreams_are_compared_system_by_system():
    claims = Claims(best=("a", "b"), larger=("small", "large"))
    groups = {("words", s, "ctc"): [("a",), ("b",)] for s in ("small", "large")}
    means = {
        ("words", "small", "ctc"): {("a",): 37.3, ("b",): 50.0},
        ("words", "large", "ctc"): {("a",): 98.6, ("b",): 40.0},
    }
    verdict = check_claims(claims, groups, means)[-1]
    assert verdict.size == "small, large"
    assert (
        verdict.claim == "every system is better with large upstreams than with small"
    )
    assert verdict.answer == "not held (1 of 2 do; not: a 37.3, 98.6)"


def test_the_paper_refutes_that_larger_is_always_better(tables):
    table = tables[2]
    groups, means = {}, {}
    for system in table.systems:
        if system.part == "paper":
            groups.setdefault(system.group, []).append(system.families)
            mean = mean_rate(system, system.paper)
            if mean is not None:
                means.setdefault(system.group, {})[system.families] = mean
    verdicts = check_claims(table.claims, groups, means)
    (answer,) = [
        v.answer
        for v in verdicts
        if "every system" in v.claim and v.head == "transformer2_ctc"
    ]
    assert answer == "not held (5 of 6 do; not: wav2vec2 37.9, 98.6)"


def test_gain_is_over_the_members_alone():
    means = {("a",): 20.0, ("b",): 25.0, ("c",): 1.0, ("a", "b"): 22.0}
    assert relative_gain(means, ("a", "b")) == pytest.approx(-10)
    assert best_member(means, ("a", "b")) == ("a",)
    assert relative_gain(means, ("a",)) is None
    assert relative_gain(means, ("a", "c")) is None
    assert relative_gain({("a",): 20.0, ("a", "b"): 22.0}, ("a", "b")) is None


def test_one_upstream_twice_is_compared_with_itself():
    assert relative_gain({("a",): 20.0, ("a", "a"): 19.0}, ("a", "a")) == 5.0


def test_the_mean_is_that_of_the_sets_that_choose_nothing(tables):
    system = tables[2].systems[0]
    assert mean_rate(system, system.paper) == pytest.approx((60.19 + 67.85) / 2)
    tests = {"test_clean": 60.0, "test_other": 70.0}
    assert mean_rate(system, tests) == 65.0
    assert mean_rate(system, {"dev_clean": 60.0, "test_other": 70.0}) is None
    wsj = tables[3].systems[0]
    assert mean_rate(wsj, wsj.paper) == wsj.paper["test_eval93"]
