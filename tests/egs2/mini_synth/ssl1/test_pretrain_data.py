"""Speech for pre-training, and units of it."""

import numpy as np
import pytest
import soundfile

from espnet_ensemble.data.tables import DataError


def test_windows_and_their_units_belong_together(local):
    data = local("pretrain_data")
    frames = np.arange(1000)
    speech = np.repeat(frames, data.HOP).astype(np.int16)
    units = frames[: data.num_frames(len(speech))]
    windows = data.draw_windows(speech, 5, 1.0, np.random.default_rng(0))
    assert windows.wavs.shape == (5, 16000)
    cut = windows.units(units)
    assert cut.shape == (5, 49)
    np.testing.assert_array_equal(cut, windows.wavs[:, : 49 * data.HOP : 320] * 32768)


def test_units_are_aligned_with_the_frames(local):
    data = local("pretrain_data")
    speech = np.zeros(330_000, np.int16)
    speech[160_000:] = 5000 * np.sin(np.arange(170_000) / 3)
    units = data.make_units(speech, data.mfcc, num_units=2, seed=0)
    assert len(units) == data.num_frames(len(speech)) == 1031
    changes = np.flatnonzero(np.diff(units))
    assert len(changes) and np.abs(changes - 500).max() <= 10


def test_units_of_a_file_are_not_made_again(local, tmp_path):
    data, path = local("pretrain_data"), tmp_path / "units.npy"
    speech = np.random.default_rng(0).integers(-99, 99, 16000, dtype=np.int16)
    made = data.load_or_make_units(path, speech, lambda: data.mfcc, 3, 0)
    assert [found.name for found in tmp_path.iterdir()] == ["units.npy"]
    found = data.load_or_make_units(path, speech, lambda: 1 / 0, 3, 0)
    np.testing.assert_array_equal(made, found)
    with pytest.raises(DataError, match="units.npy: expected 24 units.*found 49"):
        data.load_or_make_units(path, speech[:8000], lambda: data.mfcc, 3, 0)


def test_errors_name_the_file(local, tmp_path):
    data = local("pretrain_data")
    (tmp_path / "wav.scp").write_text("")
    with pytest.raises(DataError, match="wav.scp: expected recordings"):
        data.read_speech(tmp_path)
    soundfile.write(tmp_path / "a.wav", np.zeros((80, 2)), 8000)
    (tmp_path / "wav.scp").write_text(f"a {tmp_path}/a.wav\n")
    with pytest.raises(
        DataError, match=r"a.wav: expected mono at 16000 Hz, found 2 .* at 8000 Hz"
    ):
        data.read_speech(tmp_path)
    with pytest.raises(DataError, match=r"at least 2.0 s of speech, found 1.0 s"):
        data.draw_windows(np.zeros(16000), 1, 2.0, np.random.default_rng(0))
