import re

import pytest
import sentencepiece

from espnet_ensemble.data.tables import DataError, write_table
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.tokens import PieceConf, Symbols, train_pieces

WORDS = "one two three four five six seven eight nine ten eleven twelve".split()


@pytest.fixture
def text(tmp_path):
    """Sixty utterances of five words, and one of none."""
    lines = {
        f"utt{i:02}": " ".join(WORDS[(i * j) % len(WORDS)] for j in range(1, 6))
        for i in range(60)
    }
    write_table(tmp_path / "text", {**lines, "utt99": ""})
    return tmp_path / "text"


@pytest.mark.parametrize("mode", ["unigram", "bpe"])
def test_tokens_are_the_model_s_pieces_between_espnet_s_symbols(mode, text, tmp_path):
    folder = tmp_path / "out"
    conf = PieceConf(bpemode=mode, bpe_nlsyms=("<noise>", "<laugh>"))
    tokens = train_pieces([text], folder, conf, Symbols("<b>", "<o>", "<s>"))
    model = sentencepiece.SentencePieceProcessor(str(folder / "bpe.model"))
    pieces = [model.id_to_piece(i) for i in range(len(model))]
    assert len(pieces) == 30
    assert tokens == ["<b>", "<o>", *pieces[3:], "<s>"]
    assert {"<noise>", "<laugh>"} <= set(tokens)
    for sentence in ("seven eleven two", "twelve <noise> one"):
        assert set(model.encode(sentence, out_type=str)) <= set(tokens)


def test_files_say_what_the_model_has(text, tmp_path):
    folder = tmp_path / "out"
    tokens = train_pieces([text], folder, PieceConf(), Symbols())
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["bpe.model", "bpe.vocab", "tokens.txt"]
    assert (folder / "tokens.txt").read_text(encoding="utf-8").split("\n")[
        :-1
    ] == tokens
    model = sentencepiece.SentencePieceProcessor(str(folder / "bpe.model"))
    lines = (folder / "bpe.vocab").read_text(encoding="utf-8").splitlines()
    for i, (piece, score) in enumerate(line.split("\t") for line in lines):
        assert piece == model.id_to_piece(i)
        assert float(score) == pytest.approx(model.get_score(i), rel=1e-5)


def test_vocabulary_is_as_sentencepiece_writes_it(text, tmp_path):
    train_pieces([text], tmp_path / "out", PieceConf(), Symbols())
    lines = [line.split(maxsplit=1)[1:] for line in text.read_text().splitlines()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([words[0] for words in lines if words]),
        model_prefix=str(tmp_path / "reference"),
        vocab_size=30,
        minloglevel=1,
        character_coverage=1.0,
    )
    expected = (tmp_path / "reference.vocab").read_bytes()
    assert (tmp_path / "out" / "bpe.vocab").read_bytes() == expected


def test_same_text_gives_the_same_files(text, tmp_path):
    """Also where they are written to is not in them."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        train_pieces([text], folder, PieceConf(), Symbols())
    for name in ("bpe.model", "bpe.vocab", "tokens.txt"):
        one, two = ((folder / name).read_bytes() for folder in folders)
        assert one == two


def test_several_texts_count_as_one(text, tmp_path):
    write_table(tmp_path / "more", {"utt": "zzz"})
    texts = [text, tmp_path / "more"]
    tokens = train_pieces(texts, tmp_path / "out", PieceConf(), Symbols())
    assert any("z" in token for token in tokens)


@pytest.mark.parametrize("nbpe", [5, 5000])
def test_too_many_or_too_few_pieces(nbpe, text, tmp_path):
    with pytest.raises(EnsembleError, match=re.escape(f"{text}: --nbpe {nbpe}: ")):
        train_pieces([text], tmp_path / "out", PieceConf(nbpe=nbpe), Symbols())
    assert not (tmp_path / "out").exists()


def test_missing_text(tmp_path):
    with pytest.raises(DataError, match="text: expected a file, found No such file"):
        train_pieces([tmp_path / "text"], tmp_path / "out", PieceConf(), Symbols())
