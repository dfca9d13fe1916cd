import os

import numpy as np
import pytest
import soundfile

from espnet_ensemble.data.audio import AudioError
from espnet_ensemble.data.datadir import validate, write
from espnet_ensemble.data.tables import DataError
from espnet_ensemble.feature_cache.identity import Corpus, is_same, read_utterance


@pytest.fixture
def wav(tmp_path):
    samples = np.random.default_rng(0).integers(-9999, 9999, 800).astype(np.int16)
    soundfile.write(tmp_path / "x.wav", samples, 16000)
    return tmp_path / "x.wav"


def test_read_utterance(wav):
    samples, rate, audio = read_utterance(wav)
    expected, _ = soundfile.read(wav, dtype="float32")
    assert rate == 16000 and audio.num_bytes == wav.stat().st_size
    assert samples.dtype == np.float32 and np.array_equal(samples, expected)


def test_touched_and_converted_audio_is_the_same(wav, tmp_path):
    samples, rate, audio = read_utterance(wav)
    os.utime(wav, (1, 1))
    assert is_same(audio, wav)
    soundfile.write(tmp_path / "x.flac", samples, rate)
    assert is_same(audio, tmp_path / "x.flac")


def test_other_samples_or_rate_are_not_the_same(wav):
    samples, rate, audio = read_utterance(wav)
    soundfile.write(wav, samples, 8000)
    assert not is_same(audio, wav)
    samples[400] += 1 / 32768
    soundfile.write(wav, samples, rate)
    os.utime(wav, (1, 1))
    assert not is_same(audio, wav)


def test_a_file_of_the_same_size_and_time_is_not_read(wav):
    audio = read_utterance(wav)[2]
    wav.write_bytes(bytes(audio.num_bytes))
    os.utime(wav, ns=(audio.mtime_ns, audio.mtime_ns))
    assert is_same(audio, wav)


def test_missing_file(wav):
    audio = read_utterance(wav)[2]
    wav.unlink()
    with pytest.raises(AudioError, match="found No such file"):
        is_same(audio, wav)
    with pytest.raises(AudioError, match="no such file"):
        read_utterance(wav)


def test_corpus(data):
    corpus = Corpus.read(data)
    assert corpus.name == "train"
    assert corpus.num_samples["f"] == 16000
    assert soundfile.info(corpus.paths["f"]).frames == 16000


@pytest.mark.parametrize(
    "name,table,message",
    [
        ("utt2num_samples", None, "utt2num_samples: expected this file, found none"),
        ("wav.scp", {key: "cat x |" for key in "abcdefg"}, "found a command: 'a'"),
        ("segments", {key: f"{key} 0 -1" for key in "abcdefg"}, "found segments"),
    ],
)
def test_corpus_that_is_not_files(data, name, table, message):
    tables = validate(data, need_text=False)
    tables.pop(name, None)
    if table:
        tables[name] = table
    write(data, tables)
    with pytest.raises(DataError, match=message):
        Corpus.read(data)
