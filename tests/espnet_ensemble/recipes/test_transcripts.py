import pytest
from versions import ESPNET

from espnet_ensemble.data.tables import write_table
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.transcripts import (
    build_tokenizers,
    read_transcripts,
    tokenize,
)

GOOD = {
    "ref": {"u1": "a b", "u2": "c"},
    "hyp": {"u2": "", "u1": "a"},
    "utt2spk": {"u1": "alice", "u2": "alice", "u3": "bob"},
}


def read(folder, **tables):
    paths = []
    for name, table in {**GOOD, **tables}.items():
        write_table(folder / name, table)
        paths.append(folder / name)
    return read_transcripts(*paths)


def test_texts_are_in_the_order_of_ref(tmp_path):
    texts = read(tmp_path)
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
    with pytest.raises(EnsembleError, match=f"{tmp_path}{message}"):
        read(tmp_path, **tables)


def test_utterance_twice(tmp_path):
    (tmp_path / "hyp").write_text("u1 a\nu1 a\n")
    with pytest.raises(
        EnsembleError, match="/hyp:2: expected every key once, found 'u1'"
    ):
        read_transcripts(*[tmp_path / "hyp"] * 3)


def test_symbols_that_are_no_language(tmp_path):
    symbols = tmp_path / "nlsyms.txt"
    symbols.write_text("<noise>\n\n[a b]\n")
    tokenizers = build_tokenizers(tmp_path / "no_model", symbols)
    assert list(tokenizers) == ["wer", "cer"]
    texts = {"u1": "hé  <noise> you", "u2": ""}
    assert tokenize(texts, tokenizers["wer"]) == {"u1": ["hé", "you"], "u2": []}
    # To 202511, ESPnet counts the spaces on both sides of a symbol that it leaves out.
    spaces = ["<space>"] * (2 if ESPNET < 202611 else 1)
    assert tokenize(texts, tokenizers["cer"]) == {
        "u1": ["h", "é", *spaces, "y", "o", "u"],
        "u2": [],
    }
    between = ["x", "<space>", "y", "<space>", "z"]
    assert tokenizers["cer"].text2tokens("x y z") == between
    assert tokenizers["cer"].text2tokens("x[a b]y") == ["x", "y"]


def test_missing_symbols(tmp_path):
    with pytest.raises(EnsembleError, match=f"{tmp_path}/x: expected non-linguistic"):
        build_tokenizers(nlsyms_txt=tmp_path / "x")


def test_cleaner():
    tokenizer = build_tokenizers()["wer"]
    tokens = tokenize({"u": "jr. & dr."}, tokenizer, "tacotron")
    assert tokens == {"u": ["JUNIOR", "AND", "DOCTOR"]}


def test_cleaner_without_its_library():
    tokenizer = build_tokenizers()["wer"]
    with pytest.raises(EnsembleError, match="cleaner no_such: Not supported"):
        tokenize({"u": "a"}, tokenizer, "no_such")
