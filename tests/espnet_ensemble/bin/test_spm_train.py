import pytest
import sentencepiece

from espnet_ensemble.bin.spm_train import main
from espnet_ensemble.data.tables import write_table

WORDS = "one two three four five six seven eight nine ten eleven twelve".split()


@pytest.fixture
def text(tmp_path):
    lines = {
        f"utt{i:02}": " ".join(WORDS[(i * j) % len(WORDS)] for j in range(1, 6))
        for i in range(60)
    }
    write_table(tmp_path / "text", {**lines, "utt99": ""})
    return str(tmp_path / "text")


def test_options_are_those_of_asr_sh(text, tmp_path, capsys):
    folder = tmp_path / "out"
    options = ["--nbpe", "30", "--bpemode", "bpe", "--bpe_nlsyms", "<noise>,<laugh>"]
    symbols = ["--blank", "<b>", "--oov", "<o>", "--sos_eos", "<s>"]
    sizes = ["--bpe_char_cover", "0.99", "--bpe_input_sentence_size", "500"]
    main([text, "--output_dir", str(folder), *options, *symbols, *sizes])
    assert capsys.readouterr().out == f"{folder}: 30 pieces (bpe)\n"
    tokens = (folder / "tokens.txt").read_text(encoding="utf-8").splitlines()
    model = sentencepiece.SentencePieceProcessor(str(folder / "bpe.model"))
    assert (len(tokens), len(model)) == (30, 30)
    assert [*tokens[:2], tokens[-1]] == ["<b>", "<o>", "<s>"]
    assert {"<noise>", "<laugh>"} <= set(tokens)


def test_symbols_from_a_file(text, tmp_path):
    (tmp_path / "nlsyms").write_text("<noise>\n<laugh>\n")
    options = ["--nbpe", "30", "--bpe_nlsyms", str(tmp_path / "nlsyms")]
    main([text, "--output_dir", str(tmp_path / "out"), *options])
    tokens = (tmp_path / "out" / "tokens.txt").read_text(encoding="utf-8").split()
    assert {"<noise>", "<laugh>"} <= set(tokens)


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--nbpe", "5000"], "--nbpe 5000: "), (["--nbpe", "5"], "--nbpe 5: ")],
)
def test_too_many_or_too_few_pieces(options, message, text, tmp_path, capsys):
    folder = tmp_path / "out"
    with pytest.raises(SystemExit) as exit:
        main([text, "--output_dir", str(folder), *options])
    assert exit.value.code == 1
    assert f"spm_train: {text}: {message}" in capsys.readouterr().err
    assert not folder.exists()


def test_missing_text(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path / "text"), "--output_dir", str(tmp_path / "out")])
    assert f"{tmp_path / 'text'}: expected" in capsys.readouterr().err
