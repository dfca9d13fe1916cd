import re

import pytest
import torch

from espnet_ensemble.data.tables import write_table
from espnet_ensemble.decoding.ctm import read_ctm, write_ctm
from espnet_ensemble.decoding.hypothesis import Word
from espnet_ensemble.decoding.posteriors import PosteriorWriter
from espnet_ensemble.decoding.rover import Voting
from espnet_ensemble.decoding.vocabulary import Vocabulary
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.combination import (
    Combination,
    combine_posteriors,
    combine_words,
    prepare_folder,
    tune_voting,
    write_words,
)

TOKENS = ("<blank>", "<space>", "a", "b", "c")
LETTERS = Vocabulary(TOKENS, lambda t: "".join(t).replace("<space>", " "))


@pytest.fixture
def make_decoding(tmp_path):
    """Make a decoding of words with confidences: make(name, utt1=[(word, sure), ...])."""

    def make(name, **utterances):
        folder = tmp_path / name / "decode" / "test"
        folder.mkdir(parents=True)
        words = {
            utt_id: [Word(text, i, i + 1, sure) for i, (text, sure) in enumerate(found)]
            for utt_id, found in utterances.items()
        }
        texts = {u: " ".join(w.text for w in found) for u, found in words.items()}
        write_table(folder / "text", texts)
        write_ctm(folder / "ctm", words)
        ids = {u: " ".join(map(str, ids_of(text))) for u, text in texts.items()}
        write_table(folder / "token_int", ids)
        return folder.parent

    return make


def ids_of(text):
    return [TOKENS.index({" ": "<space>"}.get(letter, letter)) for letter in text]


def keep_posteriors(decoding, tokens=TOKENS, frame_seconds=0.02, **utterances):
    """Write posteriors: of each frame, the letter ("_" is the blank) and how sure it is."""
    folder = decoding / "test" / "posteriors"
    with PosteriorWriter(folder, tokens, frame_seconds) as writer:
        for utt_id, frames in utterances.items():
            rows = torch.zeros(len(frames), len(tokens))
            for frame, (letter, sure) in enumerate(frames):
                rows[frame] = (1 - sure) / (len(tokens) - 1)
                rows[frame, 0 if letter == "_" else ids_of(letter)[0]] = sure
            writer.write(utt_id, rows.log())


def texts(words):
    return {u: " ".join(word.text for word in found) for u, found in words.items()}


def test_a_vote(make_decoding):
    decodings = [
        make_decoding("x", u1=[("a", 0.5), ("b", 0.5)], u2=[("a", 0.9)]),
        make_decoding("y", u1=[("a", 0.5), ("c", 0.5)], u2=[]),
        make_decoding("z", u1=[("a", 0.5), ("c", 0.9)], u2=[]),
    ]
    found = combine_words(Combination("rover"), decodings, "test")
    assert texts(found) == {"u1": "a c", "u2": ""}
    assert found["u1"][1].confidence == pytest.approx(0.7)
    by_confidence = Combination("rover", Voting(alpha=0.0, null_conf=0.5))
    assert texts(combine_words(by_confidence, decodings, "test"))["u2"] == "a"


def test_the_surest_transcript(make_decoding):
    decodings = [
        make_decoding("x", u1=[("a", 0.5), ("b", 0.8)], u2=[], u3=[("a", 0.5)]),
        make_decoding("y", u1=[("c", 0.7)], u2=[("a", 0.1)], u3=[("b", 0.5)]),
    ]
    found = combine_words(Combination("confidence"), decodings, "test")
    assert texts(found) == {"u1": "c", "u2": "a", "u3": "a"}


def test_tuned_voting(make_decoding):
    """Confidences tell what is right, votes do not; a word with 0.2 is none."""
    decodings = [
        make_decoding("x", u1=[("a", 0.9)], u2=[("c", 0.5)], u3=[("b", 0.2)]),
        make_decoding("y", u1=[("b", 0.4)], u2=[], u3=[]),
        make_decoding("z", u1=[("b", 0.5)], u2=[], u3=[]),
    ]
    ref = {"u1": ["a"], "u2": ["c"], "u3": []}
    voting = tune_voting("maxconf", decodings, "test", ref)
    found = combine_words(Combination("rover", voting), decodings, "test")
    assert texts(found) == {"u1": "a", "u2": "c", "u3": ""}
    assert voting.method == "maxconf"
    more_votes = Voting("maxconf", voting.alpha + 0.1, voting.null_conf)
    found = combine_words(Combination("rover", more_votes), decodings, "test")
    assert texts(found) != {"u1": "a", "u2": "c", "u3": ""}


def test_votes_alone_where_confidences_do_not_help(make_decoding):
    decodings = [make_decoding(name, u1=[("a", 0.5)]) for name in "xy"]
    voting = tune_voting("meth1", decodings, "test", {"u1": ["a"]})
    assert voting == Voting("meth1", alpha=1.0, null_conf=0.0)


def combine(method, decodings):
    return combine_posteriors(
        Combination(method), decodings, "test", load_vocabulary=lambda: LETTERS
    )


def test_the_mean_of_posteriors(make_decoding):
    decodings = [
        make_decoding("x", u1=[("a", 0.5)]),
        make_decoding("y", u1=[("b", 0.5)]),
    ]
    keep_posteriors(decodings[0], u1=[("a", 0.6), ("_", 0.9), ("c", 0.4)])
    keep_posteriors(decodings[1], u1=[("b", 0.9), ("_", 0.9), ("c", 0.4)])
    (word,) = combine("posteriors", decodings)["u1"]
    assert (word.text, word.start, word.end) == ("bc", 0, pytest.approx(0.06))


def test_the_likeliest_transcript(make_decoding):
    decodings = [
        make_decoding("x", u1=[("a", 0.3)]),
        make_decoding("y", u1=[("b", 0.2)]),
    ]
    keep_posteriors(decodings[0], u1=[("a", 0.4), ("_", 0.9)])
    # Another frame rate does not matter.
    keep_posteriors(decodings[1], frame_seconds=0.04, u1=[("b", 0.9)])
    assert combine("likelihood", decodings) == {"u1": [Word("b", 0, 1, 0.2)]}


@pytest.mark.parametrize("method", ["posteriors", "likelihood"])
def test_what_could_not_be_decoded_stays_empty(method, make_decoding):
    decodings = [make_decoding(name, u1=[("a", 0.3)], u2=[]) for name in "xy"]
    for decoding in decodings:
        keep_posteriors(decoding, u1=[("a", 0.9)])
    assert texts(combine(method, decodings)) == {"u1": "a", "u2": ""}


def refuses(message, call, *args):
    with pytest.raises(EnsembleError, match=re.escape(message)):
        call(*args)


def test_posteriors_that_do_not_fit(make_decoding):
    decodings = [make_decoding(name, u1=[("a", 0.3)]) for name in "xy"]
    refuses("decode with --save_posteriors true", combine, "posteriors", decodings)
    keep_posteriors(decodings[0], u1=[("a", 0.9)])
    keep_posteriors(decodings[1], tokens=(*TOKENS, "d"), u1=[("a", 0.9)])
    message = "found 6, or others; combine by rover"
    refuses(message, combine, "posteriors", decodings)
    refuses(message, combine, "likelihood", decodings)
    keep_posteriors(decodings[1], frame_seconds=0.04, u1=[("a", 0.9)])
    message = (
        f"expected a frame every 0.02 s, as in {decodings[0]}/test, found one every"
    )
    refuses(message, combine, "posteriors", decodings)
    keep_posteriors(decodings[1], u1=[("a", 0.9), ("_", 0.9), ("_", 0.9)])
    refuses("u1: expected posteriors with the same", combine, "posteriors", decodings)


def test_other_utterances(make_decoding):
    decodings = [make_decoding("x", u1=[], u2=[]), make_decoding("y", u1=[], u3=[])]
    message = "found that only one of them has 'u2' and 1 more"
    refuses(message, combine_words, Combination("rover"), decodings, "test")


def test_no_confidences(make_decoding):
    decodings = [make_decoding(name, u1=[]) for name in "xy"]
    (decodings[1] / "test" / "ctm").unlink()
    message = f"{decodings[1]}/test/ctm: expected words with confidences, found none"
    refuses(message, combine_words, Combination("rover"), decodings, "test")


def test_what_is_written(tmp_path):
    words = {"u1": [Word("a", 0, 1, 0.5), Word("b", 1, 2, 0.5)], "u2": []}
    write_words(tmp_path / "test", words)
    assert (tmp_path / "test" / "text").read_text() == "u1 a b\nu2\n"
    assert read_ctm(tmp_path / "test" / "ctm") == {"u1": words["u1"]}


def test_a_folder_of_other_decodings_is_not_mixed_with(tmp_path):
    folder = tmp_path / "asr_combined" / "decode_rover"
    members = [tmp_path / "x", tmp_path / "y"]
    for _ in range(2):  # again, with the same
        prepare_folder(folder, Combination("rover"), members)
    message = f"{folder}: there already, of other decodings or settings"
    refuses(message, prepare_folder, folder, Combination("rover"), members[::-1])


def test_settings_are_in_the_name():
    voting = Voting("maxconf", alpha=0.5, null_conf=0.25)
    assert Combination("rover").tag == "decode_rover"
    tag = "decode_rover_maxconf_alpha0.5_null_conf0.25"
    assert Combination("rover", voting).tag == tag
    assert Combination("likelihood", voting).tag == "decode_likelihood"
