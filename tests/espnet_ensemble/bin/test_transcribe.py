"""``espnet-ensemble transcribe``, on recordings as people have them."""

import io
import json
import sys

import numpy as np
import pytest
import soundfile
import soxr
from cache_runs import NUM_SAMPLES, write_noises

from espnet_ensemble.bin import asr_inference_ctc
from espnet_ensemble.bin.transcribe import main
from espnet_ensemble.data.tables import read_table
from espnet_ensemble.serving.formats import FORMATS


@pytest.fixture
def exp(build_model, tmp_path, tiny_wavlm, tiny_hubert):
    build_model(tmp_path / "exp", [tiny_wavlm, tiny_hubert])
    return tmp_path / "exp"


@pytest.fixture
def wavs(tmp_path):
    write_noises(tmp_path)
    return tmp_path / "wav"


@pytest.fixture
def transcribe(exp, capsys):
    def transcribe(*args):
        main([str(exp), *map(str, args)])
        return capsys.readouterr().out

    return transcribe


@pytest.fixture
def expected(exp, wavs, tmp_path, capsys):
    """utterance's id -> what stage 12 says."""
    asr_inference_ctc.main(
        [
            *("--asr_model_file", f"{exp}/valid.ave_2best.pth"),
            *("--output_dir", f"{tmp_path}/decoded"),
            "--data_path_and_name_and_type",
            f"{tmp_path}/train/wav.scp,speech,sound",
        ]
    )
    capsys.readouterr()
    return read_table(tmp_path / "decoded" / "1best_recog" / "text")


def test_one_file_is_its_text(transcribe, wavs, expected):
    assert transcribe(wavs / "f.wav") == f"{expected['f']}\n"


def test_of_several_each_has_its_name_in_their_order(transcribe, wavs, expected):
    paths = [wavs / f"{utt_id}.wav" for utt_id in sorted(NUM_SAMPLES)]
    lines = [f"{path}\t{expected[path.stem]}" for path in paths]
    assert transcribe(*paths).splitlines() == lines
    assert transcribe(wavs).splitlines() == lines


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_lossless_formats_say_what_stage_12_says(
    transcribe, wavs, expected, tmp_path, suffix
):
    samples, fs = soundfile.read(wavs / "f.wav", dtype="int16")
    stereo = np.stack([samples, samples], axis=1)
    soundfile.write(tmp_path / f"f.{suffix}", stereo, fs)
    assert transcribe(tmp_path / f"f.{suffix}") == f"{expected['f']}\n"


@pytest.mark.parametrize("fs", [8000, 44100])
@pytest.mark.parametrize("suffix", ["mp3", "wav"])
def test_other_rates_and_formats(transcribe, wavs, tmp_path, suffix, fs):
    samples, _ = soundfile.read(wavs / "f.wav")
    path = tmp_path / f"f.{suffix}"
    soundfile.write(path, soxr.resample(samples, 16000, fs), fs)
    found = json.loads(transcribe("-f", "json", path))
    assert found["duration"] == pytest.approx(1.0, abs=0.1)
    assert found["text"]


def test_standard_input(transcribe, wavs, expected, monkeypatch):
    stdin = io.BytesIO((wavs / "f.wav").read_bytes())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stdin))
    assert transcribe("-") == f"{expected['f']}\n"


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_goes_to_a_file(transcribe, wavs, tmp_path, name):
    folder = tmp_path / "talks"
    (folder / "day 1").mkdir(parents=True)
    (wavs / "f.wav").rename(folder / "day 1" / "f.wav")
    alone = transcribe(folder / "day 1" / "f.wav", "--output_format", name)
    out = transcribe(folder, "--output_dir", tmp_path / "out", "--output_format", name)
    assert out == ""
    (path,) = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert path == tmp_path / "out" / "day 1" / f"f.{name}"
    assert path.read_text() == alone


def test_or_all_of_them(transcribe, wavs, tmp_path):
    transcribe(wavs / "f.wav", "-o", tmp_path / "out", "-f", "all")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"f.{name}" for name in FORMATS}


def test_bad_files_are_named_and_the_rest_goes_on(exp, wavs, expected, capsys):
    (wavs / "a.wav").write_text("no audio")
    files = [str(wavs / f"{name}.wav") for name in "axf"]
    with pytest.raises(SystemExit, match="1"):
        main([str(exp), *files])
    out, err = capsys.readouterr()
    assert out == f"{files[2]}\t{expected['f']}\n"
    assert f"{files[0]}: not audio that can be decoded" in err
    assert f"{files[1]}: no such file" in err
    assert f"2 of 3 without a transcript: {files[0]}, {files[1]}\n" in err


def test_long_recordings_go_through_windows(transcribe, tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * 16000)
    soundfile.write(tmp_path / "long.wav", noise, 16000)
    windows = ["--long_seconds", 1, "--window_seconds", 1, "--overlap_seconds", 0.3]
    found = json.loads(transcribe(tmp_path / "long.wav", "-f", "json", *windows))
    assert found["duration"] == 3.0
    assert found["segments"][-1]["words"][-1]["end"] > 2


def test_hot_words_and_beams(transcribe, wavs, tmp_path, expected):
    (tmp_path / "hot").write_text("c b c b\n")
    hot = transcribe(
        wavs / "f.wav", "--hotwords", tmp_path / "hot", "--hotwords_weight", 50
    )
    assert "cbcb" in hot and "cbcb" not in expected["f"]
    assert transcribe(wavs / "f.wav", "--beam_size", 2)


@pytest.mark.parametrize(
    "options, message",
    [
        (["f.wav", "e.wav", "-f", "srt"], "srt: --output_dir is required"),
        (["f.wav", "-f", "all"], "all: --output_dir is required"),
        (["-", "-"], "standard input (-) can be read once"),
        (["f.wav", "f.mp3", "-o", "out"], "expected different names"),
        (["f.wav", "--ngpu", "2"], "--ngpu 2: expected 0 or 1"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(options, message, capsys):
    with pytest.raises(SystemExit, match="1"):
        main(["nowhere", *options])
    assert message in capsys.readouterr().err


def test_a_model_that_is_none(wavs, capsys):
    with pytest.raises(SystemExit, match="1"):
        main(["exp/asr/nowhere", str(wavs / "f.wav")])
    err = capsys.readouterr().err
    assert "exp/asr/nowhere: expected an experiment's folder, an archive" in err
