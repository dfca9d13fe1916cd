import os

import numpy as np
import pytest
import soundfile

from espnet_ensemble.bin import filter_lengths, format_wav_scp, perturb_data_dir_speed
from espnet_ensemble.data.datadir import validate, write
from espnet_ensemble.data.tables import read_table


@pytest.fixture
def data(tmp_path):
    """Utterances of 0.05 s, 0.5 s and 1 s at 8 kHz, the last one without text."""
    samples = {"a": 400, "b": 4000, "c": 8000}
    for utterance, num_samples in samples.items():
        path = tmp_path / f"{utterance}.wav"
        soundfile.write(path, np.sin(np.arange(num_samples)) / 2, 8000)
    tables = {
        "utt2spk": {utt: "alice" for utt in samples},
        "text": {"a": "X", "b": "Y", "c": ""},
        "wav.scp": {utt: f"cat {tmp_path}/{utt}.wav |" for utt in samples},
    }
    write(tmp_path / "data", tables)
    return str(tmp_path / "data")


def test_stages_2_to_4_of_a_recipe(data, tmp_path, capsys):
    options = ["--fs", "16k", "--audio_format", "flac", "--nj", "2"]
    factors = ["--speed_perturb_factors", "0.9 1.0 1.1"]
    train_sp, org, dump = (str(tmp_path / name) for name in ("train_sp", "org", "dump"))
    perturb_data_dir_speed.main([*options, *factors, data, train_sp])
    format_wav_scp.main([*options, train_sp, org])
    assert capsys.readouterr().out == ""
    duration = ["--min_wav_duration", "0.1", "--max_wav_duration", "0.52"]
    filter_lengths.main(["--fs", "16k", *duration, org, dump])
    assert capsys.readouterr().out == (
        "a: too short\nsp0.9-a: too short\nsp1.1-a: too short\n"
        "c: too long\nsp0.9-b: too long\nsp0.9-c: too long\nsp1.1-c: too long\n"
        f"{dump}: left out 3 too short, 4 too long, 0 empty text\n"
    )
    assert validate(dump)["utt2num_samples"] == {"b": "8000", "sp1.1-b": "7273"}
    assert read_table(f"{dump}/audio_format") == {"flac": ""}
    assert read_table(f"{dump}/feats_type") == {"raw": ""}


@pytest.mark.parametrize("main", [format_wav_scp.main, perturb_data_dir_speed.main])
def test_broken_audio(main, data, tmp_path, capsys):
    os.unlink(tmp_path / "b.wav")
    with pytest.raises(SystemExit, match="1"):
        main([data, f"{tmp_path}/dump"])
    assert f"b: cat {tmp_path}/b.wav |: the command's" in capsys.readouterr().err
    main([data, f"{tmp_path}/dump", "--ignore_errors", "true"])
    assert f"left out b: cat {tmp_path}/b.wav |:" in capsys.readouterr().out
    assert "b" not in validate(f"{tmp_path}/dump")["utt2spk"]


@pytest.mark.parametrize(
    "fs,expected", [("none", 8000), ("16k", 16000), ("8000", 8000)]
)
def test_fs(fs, expected, data, tmp_path):
    dump = f"{tmp_path}/dump"
    format_wav_scp.main([data, dump, "--fs", fs, "--audio_format", "wav"])
    paths = read_table(f"{dump}/wav.scp").values()
    assert {soundfile.info(path).samplerate for path in paths} == {expected}


def test_ref_channel(data, tmp_path):
    soundfile.write(tmp_path / "b.wav", np.zeros((100, 2)), 8000)
    with pytest.raises(SystemExit, match="1"):
        format_wav_scp.main([data, f"{tmp_path}/dump"])
    format_wav_scp.main([data, f"{tmp_path}/dump", "--ref_channel", "0"])
    assert read_table(f"{tmp_path}/dump/utt2num_samples")["b"] == "100"
