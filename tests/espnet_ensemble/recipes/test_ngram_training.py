import pytest

from espnet_ensemble.bin.ngram_train import main
from espnet_ensemble.decoding.ngram import estimate_ngram
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.ngram_training import NgramConf, train_ngram


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text").write_text("utt1 a  can\nutt2 ban\nutt3\n")
    return tmp_path / "text"


@pytest.mark.parametrize(
    "token_type, sentences",
    [
        ("word", [["a", "can"], ["ban"]]),
        ("char", [["a", "<space>", "c", "a", "n"], ["b", "a", "n"]]),
    ],
)
def test_it_is_of_words_or_of_characters(token_type, sentences, text, tmp_path):
    conf = NgramConf(ngram_num=2, token_type=token_type)
    assert train_ngram([text], tmp_path / "lm.arpa", conf) == 2
    estimate_ngram(sentences, 2).write_arpa(tmp_path / "expected.arpa")
    found = (tmp_path / "lm.arpa").read_text()
    assert found == (tmp_path / "expected.arpa").read_text()


def test_several_texts_are_learned_from_whatever_their_ids(text, tmp_path):
    assert train_ngram([text, text], tmp_path / "lm.arpa", NgramConf()) == 4


def test_a_text_without_words_is_named(tmp_path):
    (tmp_path / "text").write_text("utt1\n")
    with pytest.raises(
        EnsembleError, match="text: expected sentences .* found no word"
    ):
        train_ngram([tmp_path / "text"], tmp_path / "lm.arpa", NgramConf())
    with pytest.raises(EnsembleError, match="nowhere: cannot be read"):
        train_ngram([tmp_path / "nowhere"], tmp_path / "lm.arpa", NgramConf())


def test_the_command_says_what_it_made(text, tmp_path, capsys):
    main([str(text), "--output", str(tmp_path / "lm.arpa"), "--ngram_num", "2"])
    assert "lm.arpa: 2-gram (word) of 2 utterances" in capsys.readouterr().out
