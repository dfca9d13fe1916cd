from espnet_ensemble.recipes.compare.comparison import compare
from espnet_ensemble.recipes.compare.report import render
from espnet_ensemble.recipes.compare.systems import read_systems

EXPECTED = """\
test: 4 utterances, 11 words

|    | system   |   WER |   95 % |   Sub |   Del |   Ins |   S.Err |        p |
|----|----------|-------|--------|-------|-------|-------|---------|----------|
|  1 | asr_b    | 18.18 | INTVAL |  18.2 |   0.0 |   0.0 |    50.0 |   PVALUE |
|  2 | asr_a    | 27.27 | INTVAL |   9.1 |   0.0 |  18.2 |    50.0 | baseline |

The best system for each utterance: 18.18 %; the best word at each place: 9.09 %. That much \
a perfect combination could reach, where 1 has 18.18 %.

What differs in their configurations:

|      | 1   | 2   |
|------|-----|-----|
| seed | 2   | 1   |

1 utterances that some recognise better than others, the widest gap first; errors in \
brackets:

alice-u1
  said the cat sat *   *
  1    [a] cat sat
  2    the cat sat [x] [y]

1 utterances in which all agree, and not with the reference: is that right?

bob-u2
  said and slept
  1    and [swept]
  2    and [swept]"""


def test_a_comparison_as_text(make_decoding):
    wrong = {"bob-u2": "and swept"}
    decodings = [
        make_decoding("asr_a", {**wrong, "alice-u1": "the cat sat x y"}, seed=1),
        make_decoding("asr_b", {**wrong, "alice-u1": "a cat sat"}, seed=2),
    ]
    comparison = compare("test", read_systems(decodings, "test"), draws=200)
    best, base = comparison.rows
    found = render(comparison, number=5)
    for row in (best, base):
        between = f"{row.interval.low:.2f} to {row.interval.high:.2f}"
        found = found.replace(between, "INTVAL".rjust(len(between)))
    assert tidy(found) == tidy(EXPECTED.replace("PVALUE", f"{best.p:.4f}"))


def tidy(text):
    """Without what depends on how wide columns are."""
    return [" ".join(line.replace("-", "").split()) for line in text.splitlines()]


def test_no_more_utterances_than_wanted(make_decoding):
    decodings = [
        make_decoding("asr_a", {"alice-u1": "a", "alice-u2": "b", "bob-u1": "c"}),
        make_decoding("asr_b", {}),
    ]
    comparison = compare("test", read_systems(decodings, "test"), draws=20)
    assert "3 utterances that some" in render(comparison, number=2)
    assert render(comparison, number=2).count("\n  said ") == 2
    assert render(comparison, number=0).count("\n  said ") == 0


def test_wide_characters_stay_in_columns(make_decoding):
    decodings = [
        make_decoding("asr_a", {"u-1": "日本 y"}, {"u-1": "日本語 x"}),
        make_decoding("asr_b", {}, {"u-1": "日本語 x"}),
    ]
    comparison = compare("test", read_systems(decodings, "test"), draws=20)
    lines = render(comparison, number=1).splitlines()[-3:]
    assert lines == ["  said 日本語 x", "  1    日本語 x", "  2    [日本] [y]"]
