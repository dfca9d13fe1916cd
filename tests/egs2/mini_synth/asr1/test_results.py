"""The recipe's table and its chart."""

import doctest

import pytest

from espnet_ensemble.recipes.results import write_score

TAG = "decode_asr_ctc_asr_model_valid.cer_ctc.ave"


def make_result(exp, name, errors, words=20):
    """Results of a system that gets so many of the words wrong."""
    ref = {"utt1": ["a"] * words}
    hyp = {"utt1": ["b"] * errors + ["a"] * (words - errors)}
    write_score(exp / name / TAG / "test" / "score_wer", ref, hyp, {"utt1": "alice"})


def test_table_and_chart(local, tmp_path, capsys):
    make_table = local("make_table")
    errors = {("wav2vec2",): 10, ("hubert",): 5, ("wavlm",): 4}
    for head in make_table.HEADS:
        for names in make_table.COMBINATIONS:
            name = "_".join(f"{name}_ctc" for name in names)
            number = errors.get(names, 3) - (head != "ctc")
            make_result(tmp_path, f"asr_train_asr_{head}_{name}_raw_char", number)
    out = tmp_path / "table"
    make_table.main([str(tmp_path), "--suffix", "_ctc", "--output_dir", str(out)])
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (out / "table.md").read_text().splitlines()
    ]
    assert len(rows) == 2 + 7
    assert rows[2] == ["wav2vec2", "50.0", "", "45.0", ""]
    assert rows[5] == ["wav2vec2 + hubert", "15.0", "+40.0", "10.0", "+50.0"]
    assert rows[8] == ["wav2vec2 + hubert + wavlm", "15.0", "+25.0", "10.0", "+33.3"]
    assert (out / "table.png").stat().st_size > 1000
    assert (out / "table.md").read_text() in capsys.readouterr().out


def test_a_missing_system_is_named(local, tmp_path):
    make_result(tmp_path, "asr_train_asr_ctc_wav2vec2_raw_char", 1)
    with pytest.raises(ValueError, match="asr_train_asr_ctc_hubert_raw_char: expected"):
        local("make_table").main([str(tmp_path), "--output_dir", str(tmp_path / "t")])


def test_examples_in_docstrings(local):
    results = doctest.testmod(local("make_table"))
    assert results.attempted and not results.failed
