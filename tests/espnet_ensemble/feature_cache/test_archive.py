import io
import zlib

import kaldiio
import numpy as np
import pytest

from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.archive import (
    STORAGES,
    append_feats,
    check_records,
    is_whole,
    read_feats,
    read_index,
    read_skipped,
    write_index,
    write_skipped,
)
from espnet_ensemble.feature_cache.identity import AudioIdentity, FileState

AUDIO = AudioIdentity("5b1d", FileState(32044, 1700000000000000000))
SHAPE = (40, 5)


@pytest.fixture
def ark(tmp_path, request):
    """An archive of two utterances -> (path, storage, {id: (entry, feats)})."""
    generator, content = np.random.default_rng(0), {}
    with (tmp_path / "0000.ark").open("wb") as file:
        for key in ("utt1", "äöü"):
            feats = generator.normal(size=SHAPE).astype(np.float32)
            entry = append_feats(file, key, feats, AUDIO, request.param)
            content[key] = entry, feats
    return tmp_path / "0000.ark", request.param, content


every_storage = pytest.mark.parametrize("ark", STORAGES, indirect=True)
# Of the features' norm. Of float16, a rounding error is at most 2**-11.
ERRORS = {"float32": 0, "float16": 2**-11, "int8": 0.015}


@every_storage
def test_archive_is_one_for_kaldiio(ark):
    path, storage, content = ark
    for key, feats in kaldiio.load_ark(str(path)):
        entry, expected = content.pop(key)
        error = np.linalg.norm(feats.astype(np.float32) - expected)
        assert error <= ERRORS[storage] * np.linalg.norm(expected)
        found = read_feats(path, entry.offset, key, SHAPE, storage)
        assert found.dtype == np.float32 and np.array_equal(found, feats)
        assert (entry.num_frames, entry.audio) == (len(feats), AUDIO)
        matrix = path.read_bytes()[entry.offset :][: entry.num_bytes]
        assert len(matrix) == entry.num_bytes and zlib.crc32(matrix) == entry.checksum
    assert not content


@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("storage", STORAGES)
def test_few_frames_and_constant_channels(storage, num_frames, tmp_path):
    feats = np.zeros((num_frames, 4), np.float32)
    feats[:, 1], feats[:, 2] = 3, np.arange(num_frames)
    with (tmp_path / "0.ark").open("wb") as file:
        entry = append_feats(file, "a", feats, AUDIO, storage)
    found = read_feats(tmp_path / "0.ark", entry.offset, "a", feats.shape, storage)
    assert np.allclose(found, feats, atol=2e-3)


def test_what_float16_cannot_hold():
    feats = np.float32([[1, -70000]])
    with pytest.raises(
        CacheError, match="up to 65504 .* found 70000; use --storage fl"
    ):
        append_feats(io.BytesIO(), "a", feats, AUDIO, "float16")


@every_storage
@pytest.mark.parametrize("share", [0.01, 0.5, 0.98, 0.999])
def test_cut_off_archive(share, ark):
    path, storage, content = ark
    first, second = content["utt1"][0], content["äöü"][0]
    size = second.offset + int(share * second.num_bytes)
    path.write_bytes(path.read_bytes()[:size])
    read_feats(path, first.offset, "utt1", SHAPE, storage)
    with pytest.raises(CacheError, match="0000.ark: expected features of 'äöü'"):
        read_feats(path, second.offset, "äöü", SHAPE, storage)


@every_storage
def test_wrong_or_missing_archive(ark):
    path, storage, _ = ark
    with pytest.raises(CacheError, match="40 frames of 6, at byte 5, found float"):
        read_feats(path, 5, "utt1", (40, 6), storage)
    with pytest.raises(CacheError, match="at byte 6, found none"):
        read_feats(path, 6, "utt1", SHAPE, storage)
    with pytest.raises(CacheError, match="found No such file"):
        read_feats(path.with_name("1.ark"), 5, "utt1", SHAPE, storage)


@pytest.mark.parametrize("storage", STORAGES)
def test_code_in_an_archive_is_not_run(storage, tmp_path):
    class Harmful:
        def __reduce__(self):
            return open, (f"{tmp_path}/harm", "w")

    path = tmp_path / "0000.ark"
    with path.open("wb") as file:
        kaldiio.save_ark(file, {"a": Harmful()}, write_function="pickle")
    with pytest.raises(CacheError, match="found none"):
        read_feats(path, 2, "a", SHAPE, storage)
    assert not (tmp_path / "harm").exists()
    kaldiio.load_mat(f"{path}:2").close()
    assert (tmp_path / "harm").exists(), "a test that could not fail"


@every_storage
def test_features_that_are_not_finite(ark):
    _, storage, _ = ark
    with pytest.raises(CacheError, match="expected finite features, found NaN"):
        append_feats(io.BytesIO(), "a", np.float32([[1, np.nan]]), AUDIO, storage)


@every_storage
def test_index_and_checksums(ark, tmp_path):
    path, _, content = ark
    entries = {utt_id: entry for utt_id, (entry, _) in content.items()}
    write_index(tmp_path / "0000.index", entries)
    assert read_index(tmp_path / "0000.index") == entries
    assert is_whole(path, entries)
    check_records(path, entries)
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert is_whole(path, entries)
    with pytest.raises(CacheError, match="0000.ark: 'äöü': expected .* checksum"):
        check_records(path, entries)
    path.write_bytes(good[:-1])
    assert not is_whole(path, entries)


def test_skipped(tmp_path):
    write_skipped(tmp_path / "skipped", {"a": "x.wav:\nnothing   to hear"})
    assert read_skipped(tmp_path / "skipped") == {"a": "x.wav: nothing to hear"}
    write_skipped(tmp_path / "skipped", {})
    assert not (tmp_path / "skipped").exists()
    assert read_skipped(tmp_path / "skipped") == {}


@pytest.mark.parametrize("content", ["utt1 12 a\n", "utt1 1 2 3 4 5b1d\n", "\n"])
def test_bad_index(content, tmp_path):
    (tmp_path / "0000.index").write_text(content)
    with pytest.raises(CacheError, match="0000.index: expected an index"):
        read_index(tmp_path / "0000.index")
