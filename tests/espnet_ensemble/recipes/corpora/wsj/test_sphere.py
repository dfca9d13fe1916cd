"""SPHERE files, with and without compression."""

import numpy as np
import pytest
import soundfile

from espnet_ensemble.data.audio import AudioError
from espnet_ensemble.recipes.corpora.wsj.sphere import decode, read_header
from espnet_ensemble.testing.wsj import sphere, tones

SAMPLES = tones("four hundred")
RANDOM = np.random.default_rng(0).integers(-32768, 32768, 5000).astype(np.int16)


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize(
    "samples", [SAMPLES, SAMPLES[:1], RANDOM, np.full(700, -321, np.int16)]
)
def test_samples_are_exact(tmp_path, samples, compress):
    path = tmp_path / "utt.wv1"
    path.write_bytes(sphere("utt", samples, compress))
    np.testing.assert_array_equal(decode(path), samples)


def test_compression_compresses():
    compressed, plain = (len(sphere("utt", SAMPLES, c)) for c in (True, False))
    assert compressed < 0.8 * plain


def test_plain_files_are_those_that_libsndfile_knows(tmp_path):
    path = tmp_path / "utt.wv1"
    path.write_bytes(sphere("utt", SAMPLES, compress=False))
    samples, fs = soundfile.read(path, dtype="int16")
    assert fs == 16000
    np.testing.assert_array_equal(samples, SAMPLES)


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize(
    "old, new, message",
    [
        (b"NIST_1A", b"RIFF_1A", "expected a SPHERE file, found b'RIFF_1A"),
        (b"   1024", b"   many", "expected a SPHERE file"),
        (b"end_head", b"", "cut off in its header"),
        (b"count -i 1\n", b"count -i 2\n", "channel_count: expected 1, found 2"),
        (b"sample_rate -i 16000\n", b"", "sample_rate: expected 16000, found none"),
        (b"n_bytes -i 2", b"n_bytes -i 1", "sample_n_bytes: expected 2, found 1"),
        (
            b"sample_count",
            b"sample_summe",
            "sample_count: expected a number, found none",
        ),
        (b" pcm", b" ulaw", "sample_coding: expected pcm or .*, found ulaw"),
    ],
)
def test_wrong_headers(tmp_path, compress, old, new, message):
    path = tmp_path / "utt.wv1"
    data = sphere("utt", SAMPLES, compress)
    assert data.count(old) == 1
    # Samples stay at 1024 bytes.
    header = data[:1024].replace(old, new).ljust(1024)[:1024]
    path.write_bytes(header + data[1024:])
    with pytest.raises(AudioError, match=f"{path}: {message}"):
        read_header(path)


@pytest.mark.parametrize(
    "compress, size, message",
    [
        (True, 0, "expected a SPHERE file, found b''"),
        (True, 200, "cut off in its header"),
        (True, 1024, "cut off: expected at least 1 bytes of samples, found 0"),
        (False, 5000, "cut off: expected at least 19200 bytes of samples, found 3976"),
    ],
)
def test_cut_off_as_the_header_shows(tmp_path, compress, size, message):
    path = tmp_path / "utt.wv1"
    path.write_bytes(sphere("utt", SAMPLES, compress)[:size])
    with pytest.raises(AudioError, match=f"{path}: {message}"):
        read_header(path)


@pytest.mark.parametrize("size", [1025, 1040, 2000, 10000])
def test_cut_off_as_decoding_shows(tmp_path, size):
    path = tmp_path / "utt.wv1"
    path.write_bytes(sphere("utt", SAMPLES, compress=True)[:size])
    read_header(path)
    with pytest.raises(AudioError, match=f"{path}: .*cut off"):
        decode(path)


def test_damaged_samples(tmp_path):
    path = tmp_path / "utt.wv1"
    data = bytearray(sphere("utt", SAMPLES, compress=False))
    data[3000] ^= 1
    path.write_bytes(data)
    with pytest.raises(AudioError, match=f"{path}: damaged: .*sample_checksum"):
        decode(path)


def test_missing_file(tmp_path):
    with pytest.raises(AudioError, match="utt.wv1: not readable: No such file"):
        read_header(tmp_path / "utt.wv1")
