import pytest

from espnet_ensemble.bin.show_result import main
from espnet_ensemble.data.tables import write_table
from espnet_ensemble.decoding.ctm import write_ctm
from espnet_ensemble.decoding.hypothesis import Word
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
    make_decoding(exp / "decode_y" / "test", "b a")
    (exp / "train.log").write_text(LOG)
    return exp


def make_decoding(folder, text):
    ref, hyp = {"utt1": ["a", "a"]}, {"utt1": text.split()}
    for metric in ("wer", "cer"):
        write_score(folder / f"score_{metric}", ref, hyp, {"utt1": "alice"})
    write_table(folder / "text", {"utt1": text})


def test_transcripts_and_a_picture(exp, capsys):
    main([str(exp)])
    assert capsys.readouterr().out.splitlines() == [
        "alice:",
        "    said: a a",
        "    text: b a",
        f"picture: {exp / 'images' / 'result.png'}",
    ]
    assert (exp / "images" / "result.png").stat().st_size > 1000


@pytest.mark.parametrize("decoder", ["null", "transformer"])
def test_the_next_thing_to_do_with_a_ctc_model(exp, capsys, decoder):
    (exp / "config.yaml").write_text(f"decoder: {decoder}\n")
    main([str(exp)])
    last = capsys.readouterr().out.splitlines()[-1]
    is_hint = last.endswith(f"bin/espnet-ensemble transcribe {exp} my.wav")
    assert is_hint == (decoder == "null")


def test_how_well_confidences_are_calibrated(exp, capsys):
    words = [Word("b", 0.0, 0.5, 0.3), Word("a", 0.5, 1.0, 0.9)]
    write_ctm(exp / "decode_y" / "test" / "ctm", {"utt1": words})
    main([str(exp)])
    assert (
        "confidences of 2 words: expected calibration error 0.200, NCE 0.667\n"
        in capsys.readouterr().out
    )


def test_nothing_recognised(exp, capsys):
    write_ctm(exp / "decode_y" / "test" / "ctm", {})
    main([str(exp)])
    assert "confidences" not in capsys.readouterr().out


def test_one_decoding_of_several(exp, capsys):
    make_decoding(exp / "decode_a" / "test", "c c")
    main([str(exp), "--inference_tag", "decode_a"])
    assert "    text: c c\n" in capsys.readouterr().out
    main([str(exp)])
    assert "    text: b a\n" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="1"):
        main([str(exp), "--inference_tag", "other"])
    message = "expected results of other, found decode_a, decode_y"
    assert message in capsys.readouterr().err


def test_an_experiment_without_a_training(exp):
    (exp / "train.log").unlink()
    main([str(exp)])
    assert (exp / "images" / "result.png").stat().st_size > 1000


def test_no_transcripts(exp, capsys):
    main([str(exp), "--number", "0"])
    assert capsys.readouterr().out.startswith("picture: ")


def test_no_results(tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        main([str(tmp_path)])
    error = capsys.readouterr().err
    assert error.startswith(f"show_result: {tmp_path}: expected results, such as ")
