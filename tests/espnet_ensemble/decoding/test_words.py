import pytest
import torch

from espnet_ensemble.decoding.alignment import TokenSpan
from espnet_ensemble.decoding.confidence import token_confidences
from espnet_ensemble.decoding.vocabulary import Vocabulary
from espnet_ensemble.decoding.words import WordFinder, find_words, group_words

LETTERS = Vocabulary(
    ("<blank>", "<space>", "a", "b"),
    lambda tokens: "".join(tokens).replace("<space>", " "),
)
PIECES = Vocabulary(
    ("<blank>", "▁", "▁a", "b", "▁c", "<unk>"),
    # As SentencePiece does: an unknown piece is a word by itself.
    lambda tokens: "".join(tokens).replace("<unk>", " ⁇ ").replace("▁", " ").strip(),
    word_boundary="▁",
)
WORDS = Vocabulary(("<blank>", "hello", "world"), " ".join, word_boundary=None)


def sharp(path, size):
    """Posteriors that follow a path."""
    return (torch.eye(size)[torch.tensor(path)] * 0.9 + 0.1 / size).log()


def texts(token_ids, vocabulary):
    path = [0] + [token for token_id in token_ids for token in (token_id, 0)]
    words = find_words(sharp(path, len(vocabulary)), token_ids, vocabulary, 0.02)
    return [word.text for word in words]


@pytest.mark.parametrize(
    "vocabulary,token_ids",
    [
        (LETTERS, [2, 3, 1, 3]),
        (LETTERS, [1, 2, 1, 1, 3, 1]),
        (PIECES, [2, 3, 3, 4]),
        (PIECES, [3, 1, 3, 4]),
        (PIECES, [1, 2, 1]),
        (PIECES, [2, 3, 5, 3, 5]),
        (WORDS, [1, 2, 2]),
        (LETTERS, []),
        (LETTERS, [1]),
    ],
)
def test_words_are_those_of_the_text(vocabulary, token_ids):
    assert texts(token_ids, vocabulary) == vocabulary.to_text(token_ids).split()


def test_times_and_confidences():
    log_probs = sharp([0, 2, 2, 0, 3, 1, 1, 0, 2], 4)
    first, second = find_words(log_probs, [2, 3, 1, 2], LETTERS, frame_seconds=0.04)
    assert (first.text, second.text) == ("ab", "a")
    assert (first.start, first.end) == pytest.approx((0.04, 0.2))
    assert (second.start, second.end) == pytest.approx((0.32, 0.36))
    (one,) = token_confidences(log_probs, [TokenSpan(2, 1, 3)])
    assert second.confidence == pytest.approx(one)
    assert first.confidence == pytest.approx(one**2)


def test_groups_leave_out_what_stands_between_words():
    spans = [TokenSpan(token, i, i + 1) for i, token in enumerate([1, 2, 1, 1, 3])]
    assert group_words(spans, LETTERS) == [[spans[1]], [spans[4]]]


def test_parts_are_found_as_the_whole():
    path, token_ids = [0, 2, 0, 3, 0, 1, 0, 2, 2, 0], [2, 3, 1, 2]
    log_probs = sharp(path, 4)
    finder = WordFinder(LETTERS, frame_seconds=0.02)
    # In the middle of a word, and of silence.
    for start, end, part in ((0, 3, [2]), (3, 6, [3, 1]), (6, 7, []), (7, 10, [2])):
        finder.add(log_probs[start:end], part)
    assert finder.words() == find_words(log_probs, token_ids, LETTERS, 0.02)
