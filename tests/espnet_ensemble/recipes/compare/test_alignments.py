import itertools
import random

import pytest

from espnet_ensemble.decoding.rover import correspond
from espnet_ensemble.recipes.compare.alignments import align_systems, oracle_errors
from espnet_ensemble.recipes.scoring import align, count


def systems_of(ref, *hyps):
    return [align(ref.split(), hyp.split()) for hyp in hyps]


def test_insertions_of_several_systems_share_columns():
    columns = align_systems(systems_of("a b", "x a b", "y a z b w", "a b"))
    assert columns == [
        (None, ("x", "y", None)),
        ("a", ("a", "a", "a")),
        (None, (None, "z", None)),
        ("b", ("b", "b", "b")),
        (None, (None, "w", None)),
    ]


def test_an_empty_reference():
    assert align_systems(systems_of("", "x", "")) == [(None, ("x", None))]
    assert align_systems(systems_of("", "", "")) == []


def test_every_system_s_errors_stay():
    rng = random.Random(0)
    for _ in range(30):
        ref, *hyps = (rng.choices("abc", k=rng.randint(0, 8)) for _ in range(4))
        columns = align_systems([align(ref, hyp) for hyp in hyps])
        for number, hyp in enumerate(hyps):
            found = [(c.ref, c.hyps[number]) for c in columns]
            assert [pair for pair in found if pair != (None, None)] == align(ref, hyp)


@pytest.mark.parametrize(
    "ref,hyps,errors",
    [
        ("a b c", ["a x c", "y b c"], 0),
        ("a b c", ["a x c", "a y c"], 1),
        ("a b", ["a", "b"], 1),
        ("a b c", ["a c", "b c"], 1),
        ("a b c", ["a b", "b c"], 0),
        ("a b", ["", ""], 2),
        ("", ["a", ""], 0),
        ("", ["a", "a"], 1),
        ("A b", ["a x"], 1),
    ],
)
def test_the_best_word_everywhere(ref, hyps, errors):
    assert oracle_errors(ref.split(), [hyp.split() for hyp in hyps]) == errors


def test_never_worse_than_the_best_system():
    rng = random.Random(1)
    for _ in range(50):
        ref, *hyps = (rng.choices("abc", k=rng.randint(0, 6)) for _ in range(4))
        best = min(count(align(ref, hyp)).errors for hyp in hyps)
        assert oracle_errors(ref, hyps) <= best


def test_equals_trying_every_path():
    rng = random.Random(2)
    for _ in range(30):
        ref, *hyps = (rng.choices("ab", k=rng.randint(0, 4)) for _ in range(3))
        choices = [
            {None if i is None else hyps[n][i] for n, i in enumerate(members)}
            for members in correspond(hyps)
        ]
        paths = (
            [word for word in path if word] for path in itertools.product(*choices)
        )
        best = min(count(align(ref, path)).errors for path in paths)
        assert oracle_errors(ref, hyps) == best
