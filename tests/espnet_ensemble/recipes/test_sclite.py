import re

import pytest
from random_texts import TEXTS, random_texts

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes import sclite
from espnet_ensemble.recipes.results import write_score
from espnet_ensemble.recipes.scoring import Counts, score_tokens


def rows(text):
    """Every row of the tables but sclite's means."""
    lines = [line for line in text.splitlines() if line.strip().startswith("|")]
    cells = [line.replace("|", " ").split() for line in lines]
    means = "Mean", "S.D.", "Median"
    return [row for row in cells if len(row) == 9 and row[0] not in means]


def scores(text):
    found = re.findall(r"^id: \((.*)\)\nScores: .*\) (.*)$", text, re.MULTILINE)
    return {utt.lower(): numbers for utt, numbers in found}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("vocabulary,longest", TEXTS)
def test_agrees_with_sclite(vocabulary, longest, seed, tmp_path):
    try:
        sclite.find_sclite()
    except EnsembleError:
        pytest.skip("sclite is not installed")
    texts = random_texts(seed, vocabulary, longest)
    result = write_score(tmp_path, *texts, use_sclite=True)
    theirs = result.read_text(encoding="utf-8")
    ours = sclite.format_score(score_tokens(*texts))
    assert len(rows(ours)) == 10
    assert rows(ours) == rows(theirs)
    assert len(scores(ours)) == 60
    assert scores(ours) == scores(theirs)


def test_transcripts_come_back():
    text = sclite.format_trn("u1", "alice", ["hé", "(x)", "a\u2028b"])
    text += sclite.format_trn("u2", "bob (jr)", [])
    assert text == "hé (x) a\u2028b\t(alice-u1)\n\t(bob (jr)-u2)\n"
    assert sclite.parse_trn(text) == {"alice-u1": "hé (x) a\u2028b", "bob (jr)-u2": ""}


def test_tables_of_any_size(tmp_path):
    large = Counts(281241, 54_000_000, 53_000_000, 800_000, 200_000, 7, 1_000_007, 9)
    result = tmp_path / "result.txt"
    result.write_text(sclite.format_tables({"alice": large, "bob": large}))
    assert sclite.read_counts(result, result) == large + large
    heading, sums = sclite.read_summary(result)
    assert sums.replace("|", " ").split()[1:3] == ["562482", "108000000"]
    assert len(heading) == len(sums)


def test_no_table(tmp_path):
    result = tmp_path / "result.txt"
    result.write_text("| Sum | 1 2 | 3 |\n")
    with pytest.raises(EnsembleError, match="there: expected sclite's tables"):
        sclite.read_counts(result, "there")


def test_columns_are_as_wide_as_their_numbers(tmp_path):
    """A set of a million words, or of a billion."""
    for words in (1_200_000, 1_200_000_000):
        counts = Counts(120_000, words, words - 3, 1, 1, 1, 4, 2)
        result = tmp_path / "result.txt"
        result.write_text(sclite.format_tables({"alice": counts, "bob": counts}))
        assert sclite.read_counts(result, result) == counts + counts
        assert f" 240000 {2 * words} |" in result.read_text()
