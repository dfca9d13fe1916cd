import os
import struct
from fractions import Fraction

import librosa
import numpy as np
import pytest
import scipy.signal
import soundfile

from espnet_ensemble.data.audio import (
    AudioConf,
    AudioError,
    change_speed,
    open_audio,
    read_audio,
    write_audio,
)
from espnet_ensemble.data.tables import DataError, Segment


def noise(num_samples, seed=0, lowpass=None):
    samples = np.random.default_rng(seed).normal(0, 0.1, num_samples)
    if lowpass:
        samples = scipy.signal.sosfiltfilt(
            scipy.signal.butter(8, lowpass, output="sos"), samples
        )
    return samples.astype(np.float32)


def sine(frequency, rate, seconds):
    time = np.arange(int(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def frequency_of(samples, rate):
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 2**20))
    return np.argmax(spectrum) * rate / 2**20


def read(entry, segment=None, ref_channel=None):
    with open_audio(str(entry)) as sound:
        return read_audio(sound, segment, ref_channel)


@pytest.mark.parametrize("audio_format", ["flac", "wav"])
def test_every_16_bit_value_survives(audio_format, tmp_path):
    values = np.arange(-32768, 32768).astype(np.int16)
    path = tmp_path / f"x.{audio_format}"
    soundfile.write(path, values, 16000, subtype="PCM_16")
    write_audio(tmp_path / "y", read(path), 16000, audio_format)
    assert np.array_equal(soundfile.read(tmp_path / "y", dtype="int16")[0], values)
    assert sorted(os.listdir(tmp_path)) == [f"x.{audio_format}", "y"]


def test_too_loud_is_clipped_not_wrapped(tmp_path):
    write_audio(tmp_path / "x", np.array([-3, -1, 0, 1, 3], np.float32), 8000, "wav")
    written = soundfile.read(tmp_path / "x", dtype="int16")[0]
    assert written.tolist() == [-32768, -32768, 0, 32767, 32767]


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "ULAW"])
def test_any_encoding(subtype, tmp_path):
    soundfile.write(tmp_path / "x.wav", noise(1000), 8000, subtype=subtype)
    expected = soundfile.read(tmp_path / "x.wav", dtype="float32")[0]
    assert np.array_equal(read(tmp_path / "x.wav"), expected)


@pytest.mark.parametrize("rate,fs", [(8000, 16000), (44100, 16000), (48000, 16000)])
def test_resampling_equals_scipy_and_librosa(rate, fs):
    """On noise below both Nyquist frequencies, away from the ends."""
    samples = noise(rate, lowpass=0.7 * min(1, fs / rate))
    resampled = change_speed(samples, rate, fs, Fraction(1))
    scipy_s = scipy.signal.resample_poly(samples.astype(float), fs, rate)
    librosa_s = librosa.resample(samples, orig_sr=rate, target_sr=fs, res_type="scipy")
    middle = slice(fs // 10, -fs // 10)
    for reference in (scipy_s, librosa_s):
        assert len(resampled) == len(reference) == fs
        error = np.linalg.norm((resampled - reference)[middle])
        assert error < 0.01 * np.linalg.norm(reference[middle])


@pytest.mark.parametrize("speed", ["0.9", "1.1", "0.5", "2", "1.05", "3/7"])
@pytest.mark.parametrize("rate,fs", [(16000, 16000), (8000, 16000), (44100, 16000)])
@pytest.mark.parametrize("num_samples", [8000, 8001, 5555])
def test_speed_changes_the_length_by_exactly_the_factor(speed, rate, fs, num_samples):
    speed = Fraction(speed)
    length = len(change_speed(noise(num_samples), rate, fs, speed))
    assert abs(length - num_samples * fs / (rate * speed)) <= Fraction(1, 2)


@pytest.mark.parametrize("speed", ["0.9", "1.1", "1.5"])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_speed_changes_tempo_and_pitch(speed, rate):
    """As `sox speed` does: a sine gets another frequency, a click another time."""
    speed = Fraction(speed)
    faster = change_speed(sine(440, rate, 1), rate, 16000, speed)
    assert frequency_of(faster, 16000) == pytest.approx(440 * float(speed), abs=0.1)
    click = np.zeros(rate, np.float32)
    click[rate // 2] = 0.5
    faster = change_speed(click, rate, 16000, speed)
    assert np.argmax(np.abs(faster)) == pytest.approx(8000 / speed, abs=1)


def test_slower_and_faster_again_is_the_same():
    samples = noise(16000, lowpass=0.5)
    slower = change_speed(samples, 16000, 16000, Fraction("0.9"))
    again = change_speed(slower, 16000, 16000, 1 / Fraction("0.9"))
    assert len(again) == len(samples)
    error = np.linalg.norm((again - samples)[1000:-1000])
    assert error < 1e-3 * np.linalg.norm(samples)


def test_same_rate_is_the_same_samples():
    samples = noise(100)
    assert change_speed(samples, 16000, 16000, Fraction(1)) is samples


@pytest.mark.parametrize("audio_format", ["flac", "wav", "ogg", "mp3"])
def test_segment_is_a_slice(audio_format, tmp_path):
    path = tmp_path / f"x.{audio_format}"
    soundfile.write(path, noise(16000), 8000)
    whole = read(path)
    for start, end in [(0, 0.5), (0.29, 1.29), (1.7, 2), (0.5, None), (0, 2.4)]:
        last = None if end is None else round(end * 8000)
        part = read(path, Segment("r", start, end))
        np.testing.assert_allclose(part, whole[round(start * 8000) : last], atol=1e-4)


def test_channels(tmp_path):
    stereo = np.stack([noise(100, 1), noise(100, 2)], axis=1)
    soundfile.write(tmp_path / "x.wav", stereo, 8000, subtype="FLOAT")
    for channel in (0, 1):
        samples = read(tmp_path / "x.wav", ref_channel=channel)
        assert np.array_equal(samples, stereo[:, channel])
    message = "expected one channel, found 2; choose one with --ref_channel"
    with pytest.raises(AudioError, match=message):
        read(tmp_path / "x.wav")
    with pytest.raises(AudioError, match="ref_channel: expected 0 to 1, found 2"):
        read(tmp_path / "x.wav", ref_channel=2)


def test_command(tmp_path):
    soundfile.write(tmp_path / "a b.wav", noise(100), 8000, subtype="FLOAT")
    assert np.array_equal(read(f"cat '{tmp_path}/a b.wav' | cat |"), noise(100))


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000, 0])
def test_command_that_does_not_know_its_length(size, tmp_path):
    """ffmpeg and sox write such headers into a pipe."""
    soundfile.write(tmp_path / "x.wav", noise(1000), 8000, subtype="PCM_16")
    content = bytearray((tmp_path / "x.wav").read_bytes())
    at = content.find(b"data") + 4
    content[at : at + 4] = struct.pack("<I", size)
    (tmp_path / "y.wav").write_bytes(content)
    if size:
        expected = read(tmp_path / "x.wav")
        assert np.array_equal(read(f"cat {tmp_path}/y.wav |"), expected)
    else:
        with pytest.raises(AudioError, match="from 0.0 s, found 0 samples"):
            read(f"cat {tmp_path}/y.wav |")


def test_flac_of_unknown_length(tmp_path):
    soundfile.write(tmp_path / "x.flac", noise(1000), 8000)
    content = bytearray((tmp_path / "x.flac").read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    (tmp_path / "x.flac").write_bytes(content)
    with pytest.raises(
        AudioError, match="does not say how long it is; let the command"
    ):
        read(f"cat {tmp_path}/x.flac |")


@pytest.mark.parametrize(
    "command,message",
    [
        ("exit 3 |", "the command's status is 3: "),
        ("echo oops >&2; exit 1 |", "the command's status is 1: oops"),
        ("no_such_program x |", "the command's status is 127: .*no_such_program"),
        ("false | cat |", "the command's status is 1: "),
        ("echo none >&2 |", "the command gave no output: none"),
        ("echo junk |", "not an audio file: Format not recognised."),
    ],
)
def test_wrong_command(command, message):
    with pytest.raises(AudioError, match=message):
        open_audio(command)


@pytest.mark.parametrize(
    "audio_format,share", [("flac", 0.5), ("flac", 0.99), ("wav", 0.5), ("wav", 0.99)]
)
def test_cut_off(audio_format, share, tmp_path):
    path = tmp_path / f"x.{audio_format}"
    soundfile.write(path, noise(80000), 8000, subtype="PCM_16")
    os.truncate(path, int(share * path.stat().st_size))
    for entry in (path, f"cat {path} |"):
        with pytest.raises(AudioError, match="cut off"):
            read(entry)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(value, tmp_path):
    samples = noise(100)
    samples[50] = value
    soundfile.write(tmp_path / "x.wav", samples, 8000, subtype="FLOAT")
    with pytest.raises(AudioError, match="expected finite samples, found NaN or inf"):
        read(tmp_path / "x.wav")
    assert len(read(tmp_path / "x.wav", Segment("r", 0, 0.005))) == 40


@pytest.mark.parametrize(
    "start,end,message",
    [
        (0, 1.6, "expected audio from 0 s to 1.6 s, found 8000 samples in all, 1.0 s"),
        (1, 1.2, "expected audio from 1 s to 1.2 s, found 8000 samples in all, 1.0 s"),
        (2, None, "expected audio from 2 s, found 8000 samples in all, 1.0 s"),
        (0.5, 0.50001, "expected audio from 0.5 s to 0.50001 s, found 8000 samples"),
    ],
)
def test_segment_outside(start, end, message, tmp_path):
    soundfile.write(tmp_path / "x.wav", noise(8000), 8000)
    with pytest.raises(AudioError, match=message):
        read(tmp_path / "x.wav", Segment("r", start, end))


def test_unreadable(tmp_path):
    with pytest.raises(AudioError, match="no such file"):
        open_audio(str(tmp_path / "x.wav"))
    (tmp_path / "x.wav").write_bytes(b"")
    with pytest.raises(AudioError, match="not an audio file: "):
        open_audio(str(tmp_path / "x.wav"))
    soundfile.write(tmp_path / "x.wav", noise(0), 8000)
    with pytest.raises(AudioError, match="expected audio from 0.0 s, found 0 samples"):
        read(tmp_path / "x.wav")


@pytest.mark.parametrize(
    "options,message",
    [
        (dict(fs=0), "fs: expected a sample rate in Hz, found 0"),
        (dict(audio_format="mp3"), "audio_format: expected flac or wav, found 'mp3'"),
        (dict(ref_channel=-1), "ref_channel: expected a channel, from 0, found -1"),
    ],
)
def test_wrong_conf(options, message):
    with pytest.raises(DataError, match=message):
        AudioConf(**options)
