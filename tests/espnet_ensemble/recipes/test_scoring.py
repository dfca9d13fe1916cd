import random
import re
import shutil

import pytest

from espnet_ensemble.data.tables import DataError, write_table
from espnet_ensemble.recipes import scoring


def least_cost(ref, hyp):
    """Plain recursion of the weighted edit distance, on whole tables."""
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
    return cost[len(ref), len(hyp)]


def random_texts(seed, vocabulary, longest, size=60):
    """Utterances with all kinds of errors, and hypotheses that are empty or unrelated."""
    rng = random.Random(seed)
    ref, hyp, speakers = {}, {}, {}
    for number in range(size):
        speaker = rng.choice(["alice", "Bob_X", "103-1240", "日本"])
        utt = f"{speaker}-{number}"
        words = [rng.choice(vocabulary) for _ in range(rng.randint(0, longest))]
        ref[utt], hyp[utt], speakers[utt] = words, [], speaker
        if rng.random() < 0.1:
            continue
        for word in words:
            edit = rng.random()
            if edit < 0.15:
                continue
            if edit < 0.3:
                word = rng.choice(vocabulary)
            elif edit < 0.45:
                hyp[utt].append(rng.choice(vocabulary))
            elif edit < 0.5:
                word = word.upper()
            hyp[utt].append(word)
    return ref, hyp, speakers


TEXTS = [
    ("ab", 8),
    ("abcdefghijklmnopqrstuvwxyz", 50),
    ("été É é naïve 日本 語 ß hello HELLO ü Ü a A".split(), 15),
    (["a", "b", "<space>", "'", "-", "%"], 40),
]


@pytest.mark.parametrize("vocabulary,longest", TEXTS[:2] + TEXTS[3:])
def test_alignment_has_the_least_cost(vocabulary, longest):
    ref, hyp, _ = random_texts(0, vocabulary, longest)
    for utt in ref:
        pairs = scoring.align(ref[utt], hyp[utt])
        assert [token for token, _ in pairs if token is not None] == ref[utt]
        assert [token for _, token in pairs if token is not None] == hyp[utt]
        counts = scoring.count(pairs)
        cost = 4 * counts.substitutions + 3 * (counts.deletions + counts.insertions)
        assert cost == least_cost(ref[utt], hyp[utt])


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
    counts = scoring.count(scoring.align(ref.split(), hyp.split()))
    assert counts[2:6] == expected
    assert counts.words == len(ref.split())
    assert counts.errors == sum(expected[1:])
    assert counts[:1] + counts[-1:] == (1, int(any(expected[1:])))


def test_percentages_round_halves_up():
    counts = scoring.Counts(16, 16, 11, 1, 4, 0, 5, 1)
    assert scoring.percentages(counts) == (68.8, 6.3, 25.0, 0.0, 31.3, 6.3)


def test_percentages_of_nothing():
    counts = scoring.Counts(1, 0, 0, 0, 0, 2, 2, 1)
    assert scoring.percentages(counts) == (0, 0, 0, 0, 0, 100)


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
    if not shutil.which("sclite"):
        pytest.skip("sclite is not installed")
    texts = random_texts(seed, vocabulary, longest)
    theirs = scoring.write_score(tmp_path, *texts).read_text(encoding="utf-8")
    ours = scoring.report(*texts)
    assert len(rows(ours)) == 10
    assert rows(ours) == rows(theirs)
    assert len(scores(ours)) == 60
    assert scores(ours) == scores(theirs)


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


def test_written_files(no_sclite, tmp_path):
    ref = {
        "u1": "the CAT sat on the mat".split(),
        "u2": [],
        "u3": ["hello", "world"],
        "u4": ["日本", "b"],
    }
    hyp = {
        "u1": "The cat sat on on bat".split(),
        "u2": ["x"],
        "u3": ["world"],
        "u4": ["日本", "halo", "ya"],
    }
    speakers = {"u1": "Alice", "u2": "bob", "u3": "Alice", "u4": "carl-1", "u5": "eve"}
    folder = tmp_path / "score_wer"
    result = scoring.write_score(folder, ref, hyp, speakers)
    assert result.read_text(encoding="utf-8") == REPORT
    assert (folder / "ref.trn").read_text(encoding="utf-8") == (
        "the CAT sat on the mat\t(Alice-u1)\n"
        "\t(bob-u2)\n"
        "hello world\t(Alice-u3)\n"
        "日本 b\t(carl-1-u4)\n"
    )
    assert sorted(path.name for path in folder.iterdir()) == [
        "hyp.trn",
        "ref.trn",
        "result.txt",
    ]


def test_options_need_sclite(no_sclite, tmp_path):
    message = "score_opts are options of sclite, which is not on PATH: '-s'"
    with pytest.raises(DataError, match=message):
        scoring.write_score(tmp_path, {"u": ["a"]}, {"u": []}, {"u": "s"}, "-s")
    assert scoring.find_sclite(" ") is None
    assert not (tmp_path / "result.txt").exists()


def install_sclite(folder, script, monkeypatch):
    program = folder / "sclite"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_sclite_s_output_and_options(tmp_path, monkeypatch):
    row = "| Sum | 1 2 | 2 0 0 0 0 0 |"
    install_sclite(tmp_path, f'echo "$@"; echo "{row}"', monkeypatch)
    tokens = {"u": ["a", "b"]}
    result = scoring.write_score(tmp_path, tokens, tokens, {"u": "s"}, "-s -e 'utf-8'")
    assert result.read_text() == (
        f"-s -e utf-8 -r {tmp_path}/ref.trn trn -h {tmp_path}/hyp.trn trn "
        f"-i rm -o all stdout\n{row}\n"
    )


@pytest.mark.parametrize(
    "script,message",
    [
        ("echo double text >&2; exit 1", "sclite failed: double text"),
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
    (tmp_path / "result.txt").write_text("of another run")
    with pytest.raises(DataError, match=f"{tmp_path}: {message}"):
        scoring.write_score(tmp_path, tokens, tokens, {"u": "s"})
    assert not (tmp_path / "result.txt").exists()


GOOD = {
    "ref": {"u1": "a b", "u2": "c"},
    "hyp": {"u2": "", "u1": "a"},
    "utt2spk": {"u1": "alice", "u2": "alice", "u3": "bob"},
}


def read_texts(folder, **tables):
    paths = []
    for name, table in {**GOOD, **tables}.items():
        write_table(folder / name, table)
        paths.append(folder / name)
    return scoring.read_texts(*paths)


def test_texts_are_in_the_order_of_ref(tmp_path):
    texts = read_texts(tmp_path)
    assert list(texts.ref.items()) == [("u1", "a b"), ("u2", "c")]
    assert list(texts.hyp.items()) == [("u1", "a"), ("u2", "")]


@pytest.mark.parametrize(
    "tables,message",
    [
        ({"ref": {}}, "/ref: expected transcripts, found none"),
        ({"ref": {"u1": "a"}}, "/hyp:2: 'u2': expected an utterance of "),
        ({"ref": {"u1": "a", "u2": ""}}, "/ref:2: 'u2': expected a transcript"),
        ({"hyp": {"u1": "a"}}, "/hyp: expected a line for 'u2' of "),
        ({"utt2spk": {"u1": "x"}}, "/utt2spk: expected a speaker for 'u2' of "),
        ({"utt2spk": {"u1": "", "u2": "x"}}, "/utt2spk: expected a speaker for 'u1'"),
    ],
)
def test_wrong_texts(tables, message, tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path}{message}"):
        read_texts(tmp_path, **tables)


def test_utterance_twice(tmp_path):
    (tmp_path / "hyp").write_text("u1 a\nu1 a\n")
    with pytest.raises(DataError, match="/hyp:2: expected every key once, found 'u1'"):
        scoring.read_texts(*[tmp_path / "hyp"] * 3)


def test_symbols_that_are_no_language(tmp_path):
    symbols = tmp_path / "nlsyms.txt"
    symbols.write_text("<noise>\n\n[a b]\n")
    tokenizers = scoring.build_tokenizers(tmp_path / "no_model", symbols)
    assert list(tokenizers) == ["wer", "cer"]
    texts = {"u1": "hé  <noise> you", "u2": ""}
    assert scoring.tokenize(texts, tokenizers["wer"]) == {"u1": ["hé", "you"], "u2": []}
    assert scoring.tokenize(texts, tokenizers["cer"]) == {
        "u1": ["h", "é", "<space>", "<space>", "y", "o", "u"],
        "u2": [],
    }
    assert tokenizers["cer"].text2tokens("x[a b]y") == ["x", "y"]


def test_missing_symbols(tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path}/x: expected non-linguistic"):
        scoring.build_tokenizers(nlsyms_txt=tmp_path / "x")


def test_cleaner():
    tokenizer = scoring.build_tokenizers()["wer"]
    tokens = scoring.tokenize({"u": "jr. & dr."}, tokenizer, "tacotron")
    assert tokens == {"u": ["JUNIOR", "AND", "DOCTOR"]}


def test_cleaner_without_its_library():
    tokenizer = scoring.build_tokenizers()["wer"]
    with pytest.raises(DataError, match="cleaner no_such: Not supported"):
        scoring.tokenize({"u": "a"}, tokenizer, "no_such")


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


def write_result(folder, text=SCLITE_TABLES):
    folder.mkdir(parents=True)
    (folder / "result.txt").write_text(text)


def test_results(tmp_path):
    for dataset in ("test", "org/dev"):
        for metric in ("ter", "cer", "wer"):
            write_result(tmp_path / "decode_y" / dataset / f"score_{metric}")
    write_result(tmp_path / "decode_x/test/score_cer", REPORT)
    results = scoring.read_results(tmp_path)
    assert [result[:3] for result in results] == [
        ("decode_y", "org/dev", "wer"),
        ("decode_y", "test", "wer"),
        ("decode_x", "test", "cer"),
        ("decode_y", "org/dev", "cer"),
        ("decode_y", "test", "cer"),
        ("decode_y", "org/dev", "ter"),
        ("decode_y", "test", "ter"),
    ]
    assert results[0].counts == (5, 16, 6, 5, 5, 2, 12, 5)
    assert results[0].percentages == (37.5, 31.3, 31.3, 12.5, 75.0, 100.0)
    assert results[2].counts == (4, 10, 6, 3, 1, 2, 6, 4)


def test_no_results(tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path}: expected results, such as"):
        scoring.read_results(tmp_path)


def test_results_without_sums(tmp_path):
    write_result(tmp_path / "decode/test/score_wer", "sclite: command not found")
    path = tmp_path / "decode/test/score_wer/result.txt"
    with pytest.raises(DataError, match=f"{path}: expected sclite's tables"):
        scoring.read_results(tmp_path)
