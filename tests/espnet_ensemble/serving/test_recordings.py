import io
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile
import soxr

from espnet_ensemble.data.audio import AudioError
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.serving.recordings import (
    find_audio,
    read_recording,
    recorded_seconds,
)

FS = 16000


@pytest.fixture
def tone():
    """Three seconds that are heard at any rate."""
    time = np.arange(3 * FS) / FS
    return (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)


def write(path, samples, fs=FS, subtype=None):
    soundfile.write(path, samples, fs, subtype=subtype)
    return path


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW"])
def test_wav_is_read_sample_by_sample(tmp_path, tone, subtype):
    path = write(tmp_path / "a.wav", tone, subtype=subtype)
    expected, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(read_recording(path, FS).samples, expected)


def test_flac_is_what_wav_is(tmp_path, tone):
    samples = np.rint(tone * 32767).astype(np.int16)
    wav = read_recording(write(tmp_path / "a.wav", samples), FS)
    flac = read_recording(write(tmp_path / "a.flac", samples), FS)
    np.testing.assert_array_equal(flac.samples, wav.samples)
    assert (flac.name, flac.duration) == (str(tmp_path / "a.flac"), 3.0)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_any_rate_becomes_the_models(tmp_path, tone, rate):
    path = write(tmp_path / "a.wav", soxr.resample(tone, FS, rate), rate, "FLOAT")
    samples = read_recording(path, FS).samples
    assert len(samples) == len(tone)
    inner = slice(FS // 10, -FS // 10)  # away from where the tone is switched on
    assert np.abs(samples - tone)[inner].max() < 1e-4


def test_chunks_are_resampled_as_a_whole_is(tmp_path, tone):
    path = write(tmp_path / "a.wav", tone, 44100, "FLOAT")
    expected = soxr.resample(tone, 44100, FS)
    np.testing.assert_array_equal(read_recording(path, FS).samples, expected)


def test_channels_are_mixed(tmp_path, tone):
    stereo = np.stack([tone, np.zeros_like(tone)], axis=1)
    path = write(tmp_path / "a.wav", stereo, subtype="FLOAT")
    np.testing.assert_array_equal(read_recording(path, FS).samples, tone / 2)


def test_mp3_keeps_length_and_sound(tmp_path, tone):
    samples = read_recording(write(tmp_path / "a.mp3", tone), FS).samples
    assert len(samples) == len(tone)
    assert np.corrcoef(samples, tone)[0, 1] > 0.999


def test_ogg_keeps_all_but_a_moment(tmp_path, tone):
    duration = read_recording(write(tmp_path / "a.ogg", tone), FS).duration
    assert duration == pytest.approx(3.0, abs=0.02)


def write_video(path, tone):
    """A second of black, and the tone, as a phone would record them."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=5)
        video.width = video.height = 32
        audio = container.add_stream("aac", rate=FS, layout="mono")
        for number in range(5):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))
            picture.pts, picture.time_base = number, Fraction(1, 5)
            container.mux(video.encode(picture))
        sound = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        sound.sample_rate = FS
        container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_of_a_video_the_sound_is_taken(tmp_path, tone, suffix):
    path = write_video(tmp_path / f"a{suffix}", tone)
    assert read_recording(path, FS).duration == pytest.approx(3.0, abs=0.2)
    assert recorded_seconds(path) == pytest.approx(3.0, abs=0.2)


def test_bytes_and_open_files(tmp_path, tone):
    content = write(tmp_path / "a.mp3", tone).read_bytes()
    expected = read_recording(tmp_path / "a.mp3", FS).samples
    from_bytes = read_recording(content, FS, "upload.mp3")
    np.testing.assert_array_equal(from_bytes.samples, expected)
    assert from_bytes.name == "upload.mp3"
    from_file = read_recording(io.BytesIO(content), FS)
    np.testing.assert_array_equal(from_file.samples, expected)
    assert from_file.name == "audio"


def test_broken_packets_are_left_out_and_told(tmp_path, tone, caplog):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * FS)
    content = write(tmp_path / "a.flac", noise).read_bytes()
    (tmp_path / "a.flac").write_bytes(content[: len(content) // 2])
    assert 0.5 < read_recording(tmp_path / "a.flac", FS).duration < 2
    assert "a.flac: 1 broken packets are left out" in caplog.text


def bad_files(tmp_path, tone):
    nan = np.where(np.arange(len(tone)) == 100, np.nan, tone)
    with av.open(str(tmp_path / "video.mp4"), "w") as container:
        video = container.add_stream("mpeg4", rate=5)
        video.width = video.height = 32
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))
        container.mux(video.encode(picture))
        container.mux(video.encode(None))
    (tmp_path / "text.wav").write_text("no audio at all")
    (tmp_path / "nothing.wav").touch()
    return {
        "absent.wav": "no such file",
        ".": "not a file",
        "text.wav": "not audio that can be decoded",
        "nothing.wav": "not audio that can be decoded",
        write(tmp_path / "empty.wav", np.zeros(0)).name: "no sample",
        write(tmp_path / "nan.wav", nan, subtype="FLOAT").name: "finite",
        "video.mp4": "expected audio, found none",
    }


def test_what_cannot_be_read_says_why(tmp_path, tone):
    for name, reason in bad_files(tmp_path, tone).items():
        with pytest.raises(AudioError, match=reason):
            read_recording(tmp_path / name, FS)


@pytest.mark.parametrize("address", ["http://localhost:9/a.wav", "concat:a.wav|b.wav"])
def test_a_path_is_a_path_and_nothing_that_ffmpeg_would_fetch(address):
    with pytest.raises(AudioError, match="no such file"):
        read_recording(address, FS)


def test_length_without_decoding(tmp_path, tone):
    assert recorded_seconds(write(tmp_path / "a.flac", tone)) == 3.0
    assert recorded_seconds(tmp_path / "absent.wav") == 0.0
    assert recorded_seconds(io.BytesIO()) == 0.0


def test_folders_are_searched_at_any_depth(tmp_path):
    names = ["b.WAV", "a/c.mp4", "a/.hidden.wav", "notes.txt", "a/d.mp3"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in find_audio(tmp_path)]
    assert found == ["a/c.mp4", "a/d.mp3", "b.WAV"]
    (tmp_path / "none").mkdir()
    with pytest.raises(EnsembleError, match="none: expected audio or video"):
        find_audio(tmp_path / "none")
