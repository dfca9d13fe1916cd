import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from espnet_ensemble.decoding import rover as rover_module
from espnet_ensemble.decoding.hypothesis import Word
from espnet_ensemble.decoding.rover import METHODS, Voting, correspond, rover
from espnet_ensemble.errors import EnsembleError


def said(text, *confidences):
    """Words, each a second long, with these confidences or, without any, with 1."""
    words = text.split()
    assert len(confidences) in (0, len(words))
    return [
        Word(word, float(index), index + 1.0, confidence)
        for index, (word, confidence) in enumerate(
            zip(words, confidences or [1.0] * len(words), strict=True)
        )
    ]


def texts(words):
    return " ".join(word.text for word in words)


def test_a_majority_wins():
    hypotheses = [said("a b c"), said("a x c d"), said("a b d")]
    assert texts(rover(hypotheses)) == "a b c d"


def test_no_word_may_win():
    assert texts(rover([said("a b c"), said("a c"), said("a c")])) == "a c"


def test_of_two_the_first_wins_a_tie():
    assert texts(rover([said("a b"), said("a c")])) == "a b"
    assert texts(rover([said("a"), said("a b")])) == "a b"
    assert texts(rover([said("a b"), said("a")])) == "a b"


def test_one_transcript_stays():
    assert rover([said("a b", 0.1, 0.2)], Voting(alpha=0.0)) == said("a b", 0.1, 0.2)


def test_empty_transcripts():
    assert rover([[], []]) == []
    assert texts(rover([[], said("a b"), said("a b")])) == "a b"
    assert rover([[], [], said("a b")]) == []


def test_a_sure_minority_wins_by_confidence():
    hypotheses = [said("a", 0.9), said("b", 0.3), said("b", 0.4)]
    assert texts(rover(hypotheses, Voting("meth1", alpha=1.0))) == "b"
    assert texts(rover(hypotheses, Voting("meth1", alpha=0.0))) == "a"
    assert texts(rover(hypotheses, Voting("maxconf", alpha=0.0))) == "a"
    # 0.9 of 1.6 for a, by the sums.
    assert texts(rover(hypotheses, Voting("avgconf", alpha=0.0))) == "a"
    # a: 0.5 * 1/3 + 0.5 * 0.9 = 0.62, b: 0.5 * 2/3 + 0.5 * 0.35 = 0.51
    assert texts(rover(hypotheses, Voting("meth1", alpha=0.5))) == "a"
    # a: 0.7 * 1/3 + 0.3 * 0.9 = 0.50, b: 0.7 * 2/3 + 0.3 * 0.35 = 0.57
    assert texts(rover(hypotheses, Voting("meth1", alpha=0.7))) == "b"


def test_the_confidence_of_no_word():
    hypotheses = [said("a b", 0.9, 0.4), said("a", 0.9)]
    for null_conf, expected in ((0.3, "a b"), (0.5, "a")):
        voting = Voting("meth1", alpha=0.0, null_conf=null_conf)
        assert texts(rover(hypotheses, voting)) == expected


def test_no_confidence_at_all():
    hypotheses = [said("a", 0.0), said("b", 0.0)]
    assert texts(rover(hypotheses, Voting("avgconf", alpha=0.0))) == "a"


def test_times_and_confidences_are_means():
    one, two = Word("a", 0.0, 1.0, 0.4), Word("a", 0.2, 1.4, 0.8)
    (word,) = rover([[one], [two], [Word("b", 0.0, 9.0, 0.0)]])
    assert (word.start, word.end) == pytest.approx((0.1, 1.2))
    assert word.confidence == pytest.approx(0.6)


def test_every_word_of_every_transcript_is_in_the_network_once():
    hypotheses = [list("abcb"), list("xbc"), [], list("bcby")]
    sets = correspond(hypotheses)
    for number, words in enumerate(hypotheses):
        found = [members[number] for members in sets if members[number] is not None]
        assert found == list(range(len(words)))
    assert all(len(members) == 4 for members in sets)


def test_case_counts():
    assert correspond([["a"], ["A"]]) == [(0, 0)]
    assert texts(rover([said("A"), said("a"), said("a")])) == "a"


@pytest.mark.parametrize(
    "options,message",
    [
        ({"method": "best"}, "method: expected one of meth1, avgconf, maxconf, found"),
        ({"alpha": 1.5}, "alpha: expected 0 to 1, found 1.5"),
        ({"null_conf": -1}, "null_conf: expected 0 to 1, found -1"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(EnsembleError, match=message):
        Voting(**options)


def garble(words, rng):
    """Transcripts of anything from the same to another one."""
    share, known = rng.choice([0.0, 0.1, 0.5, 1.0]), rng.choice(["ab", "abcdefgh"])
    heard = []
    for word in words:
        kind = rng.random() / share if share else 1.0
        heard += [word] if kind >= 0.6 else rng.choices(known, k=int(3 * rng.random()))
    return heard


@pytest.mark.parametrize("seed", range(4))
def test_places_that_are_left_out_are_on_no_best_way(monkeypatch, seed):
    rng = random.Random(seed)
    utterances = []
    for _ in range(60):
        words = rng.choices("abcdefgh", k=rng.randrange(16))
        utterances.append([garble(words, rng) for _ in range(rng.randrange(2, 6))])
    found = list(map(correspond, utterances))

    def all_places(sets, words):
        return [range(len(words) + 1)] * (len(sets) + 1)

    monkeypatch.setattr(rover_module, "_limits", all_places)
    assert found == list(map(correspond, utterances))


def find_sctk_rover():
    """The program, on PATH or where Debian's package sctk puts it."""
    folders = [os.environ["PATH"], "/usr/lib/sctk/bin"]
    return shutil.which("rover", path=os.pathsep.join(folders))


def random_utterances(rng, size):
    """Transcripts of several systems: a common text with errors of their own."""
    vocabulary = rng.choice(["ab", "abcdef", "abcdefghijklmnopqrstuvwxyz"])
    systems = rng.randint(2, 6)
    for _ in range(size):
        text = rng.choices(vocabulary, k=rng.randint(1, 15))
        yield [random_words(rng, text, vocabulary) for _ in range(systems)]


def random_words(rng, text, vocabulary):
    words = []
    for letter in text:
        edit = rng.random()
        if edit > 0.15:
            words.append(rng.choice(vocabulary) if edit < 0.35 else letter)
        if edit > 0.85:
            words.append(rng.choice(vocabulary))
    words = words or [rng.choice(vocabulary)]
    # They overlap: where all are silent, sctk starts anew.
    return [
        Word(word, index / 10, index / 10 + 0.15, rng.uniform(0.001, 1))
        for index, word in enumerate(words)
    ]


def sctk_rover(program, utterances, voting, folder):
    """What sctk's rover makes of utterances, each with the words of every system."""
    # sctk forgets a last utterance of one word.
    ending = [said("the end")] * len(utterances[0])
    command = [program, "-s", "-f", "0", "-m", voting.method, "-o", "out.ctm"]
    command += ["-a", str(voting.alpha), "-c", str(voting.null_conf)]
    for system in range(len(ending)):
        lines = [
            f"{number:05} 1 {word.start:.2f} {word.end - word.start:.2f} {word.text} "
            f"{word.confidence:.9f}"
            for number, utterance in enumerate([*utterances, ending])
            for word in utterance[system]
        ]
        (folder / f"{system}.ctm").write_text("\n".join(lines) + "\n")
        command += ["-h", f"{system}.ctm", "ctm"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [[] for _ in [*utterances, ending]]
    for line in Path(folder, "out.ctm").read_text().splitlines():
        number, _, start, length, text, confidence = line.split()
        start = float(start)
        found[int(number)].append(
            Word(text, start, start + float(length), float(confidence))
        )
    return found[:-1]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("method", METHODS)
def test_equals_sctk(method, seed, tmp_path):
    program = find_sctk_rover()
    if program is None:
        pytest.skip("sctk's rover is not installed")
    rng = random.Random(seed)
    utterances = list(random_utterances(rng, size=60))
    alpha = rng.choice([0.0, 0.3, 0.5, 0.9, 1.0])
    voting = Voting(method, alpha, null_conf=rng.choice([0.0, 0.2, 0.7]))
    theirs = sctk_rover(program, utterances, voting, tmp_path)
    for utterance, expected in zip(utterances, theirs, strict=True):
        found = rover(utterance, voting)
        assert texts(found) == texts(expected)
        for word, other in zip(found, expected, strict=True):
            assert word.start == pytest.approx(other.start, abs=2e-3)
            assert word.end == pytest.approx(other.end, abs=2e-3)
            assert word.confidence == pytest.approx(other.confidence, abs=2e-6)
