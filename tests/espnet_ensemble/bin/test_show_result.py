import pytest

from espnet_ensemble.bin.show_result import main
from espnet_ensemble.recipes.results import write_score

LOG = (
    "[vm] 2026-01-01 00:00:00,000 (trainer:394) INFO: 1epoch results: [train] "
    "loss_ctc=9, loss=9, time=1 second, [valid] loss_ctc=8, cer_ctc=0.5, loss=8, "
    "time=1 second\n"
)


@pytest.fixture
def exp(tmp_path):
    """An experiment of one epoch, with one of two words wrong."""
    exp = tmp_path / "exp" / "asr_x"
    ref, hyp = {"utt1": ["a", "a"]}, {"utt1": ["b", "a"]}
    for metric in ("wer", "cer"):
        folder = exp / "decode_y" / "test" / f"score_{metric}"
        write_score(folder, ref, hyp, {"utt1": "alice"})
    (exp / "train.log").write_text(LOG)
    return exp


def test_transcripts_and_a_picture(exp, capsys):
    main([str(exp)])
    assert capsys.readouterr().out.splitlines() == [
        "alice:",
        "    said: a a",
        "    text: b a",
        f"picture: {exp / 'images' / 'result.png'}",
    ]
    assert (exp / "images" / "result.png").stat().st_size > 1000


def test_no_transcripts(exp, capsys):
    main([str(exp), "--number", "0"])
    assert capsys.readouterr().out.startswith("picture: ")


def test_no_results(tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        main([str(tmp_path)])
    error = capsys.readouterr().err
    assert error.startswith(f"show_result: {tmp_path}: expected results, such as ")
