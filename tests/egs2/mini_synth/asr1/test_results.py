"""The recipe's table, charts and transcripts."""

import doctest

import pytest

from espnet_ensemble.recipes.results import write_score

TAG = "decode_asr_ctc_asr_model_valid.cer_ctc.ave"
LOG = (
    "[vm] 2026-01-01 00:00:00,000 (trainer:394) INFO: {epoch}epoch results: [train] "
    "iter_time=0.1, loss_ctc=1.5, loss={train}, time=1 second, [valid] loss_ctc=2.5, "
    "cer_ctc={cer}, loss_att=nan, acc=nan, cer=nan, wer=nan, loss={valid}, time=1 second\n"
)


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


def test_learning_curve_goes_over_all_parts_of_a_training(local, tmp_path):
    show_result = local("show_result")
    first = LOG.format(epoch=1, train=9, cer=0.5, valid=8)
    (tmp_path / "train.1.log").write_text(first)
    second = LOG.format(epoch=2, train=7, cer="nan", valid=6)
    (tmp_path / "train.log").write_text("other\n" + second)
    epochs = show_result.read_epochs(tmp_path)
    assert list(epochs) == [1, 2]
    assert epochs[1] == (9, 8, 0.5) and epochs[2][:2] == (7, 6)


def test_show_result(local, tmp_path, capsys):
    make_result(tmp_path, "exp", 1, words=2)
    exp = tmp_path / "exp"
    (exp / "train.log").write_text(LOG.format(epoch=1, train=9, cer=0.5, valid=8))
    local("show_result").main([str(exp)])
    output = capsys.readouterr().out.splitlines()
    assert output[:3] == ["alice:", "    said: a a", "    text: b a"]
    assert output[3] == f"picture: {exp / 'images' / 'result.png'}"
    assert (exp / "images" / "result.png").stat().st_size > 1000


def test_examples_in_docstrings(local):
    results = doctest.testmod(local("make_table"))
    assert results.attempted and not results.failed
