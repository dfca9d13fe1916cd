import json
import os

import pytest

from espnet_ensemble.data.tables import write_table
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes import sclite
from espnet_ensemble.recipes.results import (
    DatasetResult,
    first_transcripts,
    read_results,
    read_scored_words,
    write_score,
)
from espnet_ensemble.recipes.scoring import Counts, Percentages

REPORT = """
SYSTEM SUMMARY PERCENTAGES by SPEAKER

|---------------------------------------------------------------------|
| SPKR    |  # Snt  # Wrd |   Corr    Sub    Del    Ins    Err  S.Err |
|---------------------------------------------------------------------|
| alice   |      2      8 |   62.5   25.0   12.5    0.0   37.5  100.0 |
| bob     |      1      0 |     0*     0*     0*     1*     1*  100.0 |
| carl    |      1      2 |   50.0   50.0    0.0   50.0  100.0  100.0 |
|=====================================================================|
| Sum/Avg |      4     10 |   60.0   30.0   10.0   20.0   60.0  100.0 |
|---------------------------------------------------------------------|

* No reference words for this speaker: counts, not percentages.

SYSTEM SUMMARY PERCENTAGES by SPEAKER

|-------------------------------------------------------------------|
| SPKR  |  # Snt  # Wrd |   Corr    Sub    Del    Ins    Err  S.Err |
|-------------------------------------------------------------------|
| alice |      2      8 |      5      2      1      0      3      2 |
| bob   |      1      0 |      0      0      0      1      1      1 |
| carl  |      1      2 |      1      1      0      1      2      1 |
|===================================================================|
| Sum   |      4     10 |      6      3      1      2      6      4 |
|-------------------------------------------------------------------|

Speaker sentences   0:  alice   #utts: 2
id: (Alice-u1)
Scores: (#C #S #D #I) 4 2 0 0
REF:  the cat sat on THE MAT
HYP:  the cat sat on ON  BAT
Eval:                S   S

id: (Alice-u3)
Scores: (#C #S #D #I) 1 0 1 0
REF:  HELLO world
HYP:  ***** world
Eval: D


Speaker sentences   1:  bob   #utts: 1
id: (bob-u2)
Scores: (#C #S #D #I) 0 0 0 1
REF:  *
HYP:  X
Eval: I


Speaker sentences   2:  carl   #utts: 1
id: (carl-1-u4)
Scores: (#C #S #D #I) 1 1 0 1
REF:  日本 **** B
HYP:  日本 HALO YA
Eval:      I    S

"""


@pytest.fixture
def no_sclite(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(sclite, "_DEBIAN", str(tmp_path / "debian"))


def test_written_files(tmp_path, monkeypatch):
    install_sclite(tmp_path, "exit 1", monkeypatch)  # not asked for: not run
    ref = {
        "u1": ["the", "CAT", "sat", "on", "the", "mat"],
        "u2": [],
        "u3": ["hello", "world"],
        "u4": ["日本", "b"],
    }
    hyp = {
        "u1": ["The", "cat", "sat", "on", "on", "bat"],
        "u2": ["x"],
        "u3": ["world"],
        "u4": ["日本", "halo", "ya"],
    }
    speakers = {"u1": "Alice", "u2": "bob", "u3": "Alice", "u4": "carl-1", "u5": "eve"}
    folder = tmp_path / "score_wer"
    result = write_score(folder, ref, hyp, speakers)
    assert result.read_text(encoding="utf-8") == REPORT
    assert (folder / "ref.trn").read_text(encoding="utf-8") == (
        "the CAT sat on the mat\t(Alice-u1)\n"
        "\t(bob-u2)\n"
        "hello world\t(Alice-u3)\n"
        "日本 b\t(carl-1-u4)\n"
    )
    assert sorted(path.name for path in folder.iterdir()) == [
        "counts.json",
        "hyp.trn",
        "ref.trn",
        "result.txt",
    ]


@pytest.mark.parametrize("options", [{"score_opts": "-s"}, {"use_sclite": True}])
def test_who_asks_for_sclite_needs_it(no_sclite, options, tmp_path):
    message = "scoring by sclite was asked for .* is neither on PATH nor in .*/debian: "
    with pytest.raises(EnsembleError, match=message):
        write_score(tmp_path / "new", {"u": ["a"]}, {"u": []}, {"u": "s"}, **options)
    assert not (tmp_path / "new").exists()


def test_sclite_where_debian_has_it(no_sclite, tmp_path, monkeypatch):
    (tmp_path / "debian").mkdir()
    row = "| Sum | 1 2 | 2 0 0 0 0 0 |"
    install_sclite(tmp_path / "debian", f'echo "{row}"', monkeypatch, on_path=False)
    tokens = {"u": ["a", "b"]}
    write_score(tmp_path, tokens, tokens, {"u": "s"}, use_sclite=True)
    assert (tmp_path / "result.txt").read_text() == f"{row}\n"


def install_sclite(folder, script, monkeypatch, on_path=True):
    program = folder / "sclite"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    if on_path:
        monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_sclite_s_output_and_options(tmp_path, monkeypatch):
    row = "| Sum | 1 2 | 2 0 0 0 0 0 |"
    install_sclite(tmp_path, f'echo "$@"; echo "{row}"', monkeypatch)
    tokens = {"u": ["a", "b"]}
    result = write_score(tmp_path, tokens, tokens, {"u": "s"}, "-s -e 'utf-8'")
    assert result.read_text() == (
        f"-s -e utf-8 -r {tmp_path}/ref.trn trn -h {tmp_path}/hyp.trn trn "
        f"-i rm -o all stdout\n{row}\n"
    )
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert Counts(**counts) == Counts(1, 2, 2, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    "script,message",
    [
        ("echo double text >&2; exit 1", "sclite failed: double text"),
        ("exit 3", "sclite failed: its status is 3, it said nothing"),
        (
            "kill -KILL $$",
            r"sclite was killed \(SIGKILL\), maybe as there was no memory left",
        ),
        ("echo nothing", "expected sclite's tables, found no row of sums"),
        (
            "echo '| Sum | 3 2 | 2 0 0 0 0 0 |'",
            "expected scores of 1 utterances, sclite gave 3",
        ),
    ],
)
def test_sclite_fails(script, message, tmp_path, monkeypatch):
    install_sclite(tmp_path, script, monkeypatch)
    tokens = {"u": ["a", "b"]}
    for name in ("result.txt", "counts.json"):
        (tmp_path / name).write_text("of another run")
    with pytest.raises(EnsembleError, match=f"{tmp_path}: {message}"):
        write_score(tmp_path, tokens, tokens, {"u": "s"}, use_sclite=True)
    assert not (tmp_path / "result.txt").exists()
    assert not (tmp_path / "counts.json").exists()


SCLITE_TABLES = """

       ,----------------------------------------------------------------.
       | SPKR   | # Snt # Wrd | Corr    Sub    Del    Ins    Err  S.Err |
       |--------+-------------+-----------------------------------------|
       | Sum/Avg|    5     16 | 37.5   31.3   31.3   12.5   75.0  100.0 |
       |================================================================|

       | sum   |    2      8 |    5      3      0      0      3      2 |
       |===============================================================|
       | Sum   |    5     16 |    6      5      5      2     12      5 |
       |===============================================================|
       | Mean  |  2.5    8.0 |  3.0    2.5    2.5    1.0    6.0    2.5 |
"""


def write_old_result(folder, text=SCLITE_TABLES):
    folder.mkdir(parents=True)
    (folder / "result.txt").write_text(text)


def test_results_that_only_a_text_tells(tmp_path):
    for dataset in ("test", "org/dev"):
        for metric in ("ter", "cer", "wer"):
            write_old_result(tmp_path / "decode_y" / dataset / f"score_{metric}")
    write_old_result(tmp_path / "decode_x/test/score_cer", REPORT)
    results = read_results(tmp_path)
    found = [
        (result.inference_tag, result.dataset, result.metric) for result in results
    ]
    assert found == [
        ("decode_y", "org/dev", "wer"),
        ("decode_y", "test", "wer"),
        ("decode_x", "test", "cer"),
        ("decode_y", "org/dev", "cer"),
        ("decode_y", "test", "cer"),
        ("decode_y", "org/dev", "ter"),
        ("decode_y", "test", "ter"),
    ]
    assert results[0].counts == Counts(5, 16, 6, 5, 5, 2, 12, 5)
    assert results[0].percentages == Percentages(37.5, 31.3, 31.3, 12.5, 75.0, 100.0)
    assert results[2].counts == Counts(4, 10, 6, 3, 1, 2, 6, 4)


def test_no_results(tmp_path):
    with pytest.raises(EnsembleError, match=f"{tmp_path}: expected results, such as"):
        read_results(tmp_path)


def test_results_without_sums(tmp_path):
    write_old_result(tmp_path / "decode/test/score_wer", "sclite: command not found")
    path = tmp_path / "decode/test/score_wer/result.txt"
    with pytest.raises(EnsembleError, match=f"{path}: expected sclite's tables"):
        read_results(tmp_path)


@pytest.fixture
def scored(no_sclite, tmp_path):
    """A folder score_wer in which all that result.txt says is wrong."""
    folder = tmp_path / "decode/test/score_wer"
    write_score(folder, {"u": ["a", "b"]}, {"u": ["a"]}, {"u": "s"})
    before = (folder / "result.txt").stat()
    (folder / "result.txt").write_text(SCLITE_TABLES)
    os.utime(folder / "result.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    return folder


def test_results_are_read_as_numbers(scored, tmp_path):
    (result,) = read_results(tmp_path)
    counts = Counts(1, 2, 1, 0, 1, 0, 1, 1)
    assert result == DatasetResult("decode", "test", "wer", counts)
    assert result.percentages.errors == 50


def test_numbers_of_an_earlier_scoring_are_not_believed(scored, tmp_path):
    now = (scored / "counts.json").stat().st_mtime_ns + 1
    os.utime(scored / "result.txt", ns=(now, now))
    (result,) = read_results(tmp_path)
    assert result.counts.words == 16


@pytest.mark.parametrize("text", ["{", "[]", '{"words": 3}'])
def test_damaged_numbers(text, scored, tmp_path):
    (scored / "counts.json").write_text(text)
    with pytest.raises(EnsembleError, match=f"{scored}/counts.json: "):
        read_results(tmp_path)


def test_first_transcripts_of_speakers(no_sclite, tmp_path):
    ref = {"u1": ["a", "b"], "u2": ["c"], "u3": ["d"], "u4": ["e"]}
    speakers = {"u1": "bob", "u2": "bob", "u3": "alice-x", "u4": "carl"}
    folder = tmp_path / "decode/test"
    write_score(folder / "score_wer", ref, {**ref, "u3": []}, speakers)
    write_table(folder / "text", dict.fromkeys(ref, "whatever"))
    assert list(first_transcripts(read_scored_words(folder), 2)) == [
        ("bob", "a b", "a b"),
        ("alice-x", "d", ""),
    ]


def test_speakers_and_utterances_with_dashes(no_sclite, tmp_path):
    ref = {"a-b-1": ["x"], "b-1": ["y"]}
    write_score(tmp_path / "score_wer", ref, ref, {"a-b-1": "a-b", "b-1": "b"})
    write_table(tmp_path / "text", {"a-b-1": "x", "b-1": "y"})
    words = read_scored_words(tmp_path)
    assert words.ref == words.hyp == ref
    assert words.utt2spk == {"a-b-1": "a-b", "b-1": "b"}


def test_words_that_were_not_scored(tmp_path):
    message = f"{tmp_path}: expected score_wer .stage 13 makes it"
    with pytest.raises(EnsembleError, match=message):
        read_scored_words(tmp_path)
