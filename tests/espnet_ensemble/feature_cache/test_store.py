import dataclasses
import io
import zlib

import kaldiio
import numpy as np
import pytest
import yaml

from espnet_ensemble.feature_cache.store import (
    STORAGES,
    CacheError,
    MemberInfo,
    append_feats,
    read_combination,
    read_feats,
    read_index,
    write_combination,
)

INFO = MemberInfo(
    upstream="microsoft/wavlm-base",
    layer="last",
    layers=[12],
    extra_conf=None,
    fingerprint="0123456789abcdef",
    feature_size=768,
    fs=16000,
    hop_length=320,
    speech_fs=16000,
    dtype="float32",
    storage="float32",
    creator="espnet_ensemble 0",
)


@pytest.mark.parametrize(
    "upstream,layer,expected",
    [
        ("microsoft/wavlm-base", "last", "wavlm-base-last-01234567-float32"),
        ("/models/my hubert/", 6, "my_hubert-6-01234567-float32"),
        ("wavlm_base", [6, 7, 8], "wavlm_base-6_7_8-01234567-float32"),
    ],
)
def test_folder_name(upstream, layer, expected):
    layers = layer if isinstance(layer, list) else [12]
    info = dataclasses.replace(INFO, upstream=upstream, layer=layer, layers=layers)
    assert info.folder_name == expected


def test_info_survives_yaml(tmp_path):
    INFO.write(tmp_path / "cache.yaml")
    assert MemberInfo.read(tmp_path / "cache.yaml") == INFO
    moved = dataclasses.replace(INFO, upstream="/m/wavlm-base", layer=12, creator="2")
    moved.check(tmp_path / "cache.yaml")


@pytest.mark.parametrize(
    "key,value",
    [("fingerprint", "01234567"), ("dtype", "bfloat16"), ("hop_length", 640)],
)
def test_difference_is_named(key, value, tmp_path):
    dataclasses.replace(INFO, **{key: value}).write(tmp_path / "cache.yaml")
    with pytest.raises(CacheError, match=f"{key}: expected .*, found {value!r}; r"):
        INFO.check(tmp_path / "cache.yaml")


@pytest.mark.parametrize("content", ["", "a: 1", "[", "- 1", "\xff"])
def test_bad_info(content, tmp_path):
    path = tmp_path / "cache.yaml"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(CacheError, match="cache.yaml: expected"):
        MemberInfo.read(path)
    path.unlink()
    with pytest.raises(
        CacheError, match="the extraction that makes it is not complete"
    ):
        MemberInfo.read(path)


SHAPE = (40, 5)


@pytest.fixture
def ark(tmp_path, request):
    """An archive of two utterances -> (path, storage, {utterance: (place, feats)})."""
    generator, content = np.random.default_rng(0), {}
    with (tmp_path / "0000.ark").open("wb") as file:
        for key in ("utt1", "äöü"):
            feats = generator.normal(size=SHAPE).astype(np.float32)
            content[key] = append_feats(file, key, feats, request.param), feats
    return tmp_path / "0000.ark", request.param, content


every_storage = pytest.mark.parametrize("ark", STORAGES, indirect=True)
# Of the features' norm. Of float16, a rounding error is at most 2**-11.
ERRORS = {"float32": 0, "float16": 2**-11, "int8": 0.015}


@every_storage
def test_archive_is_one_for_kaldiio(ark):
    path, storage, content = ark
    for key, feats in kaldiio.load_ark(str(path)):
        (offset, num_bytes, checksum), expected = content.pop(key)
        error = np.linalg.norm(feats.astype(np.float32) - expected)
        assert error <= ERRORS[storage] * np.linalg.norm(expected)
        found = read_feats(path, offset, key, SHAPE, storage)
        assert found.dtype == np.float32 and np.array_equal(found, feats)
        matrix = path.read_bytes()[offset : offset + num_bytes]
        assert len(matrix) == num_bytes and zlib.crc32(matrix) == checksum
    assert not content


@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("storage", STORAGES)
def test_few_frames_and_constant_channels(storage, num_frames, tmp_path):
    feats = np.zeros((num_frames, 4), np.float32)
    feats[:, 1], feats[:, 2] = 3, np.arange(num_frames)
    with (tmp_path / "0.ark").open("wb") as file:
        offset, _, _ = append_feats(file, "a", feats, storage)
    found = read_feats(tmp_path / "0.ark", offset, "a", feats.shape, storage)
    assert np.allclose(found, feats, atol=2e-3)


def test_what_float16_cannot_hold():
    feats = np.float32([[1, -70000]])
    with pytest.raises(
        CacheError, match="up to 65504 .* found 70000; use --storage fl"
    ):
        append_feats(io.BytesIO(), "a", feats, "float16")


@every_storage
@pytest.mark.parametrize("share", [0.01, 0.5, 0.98, 0.999])
def test_cut_off_archive(share, ark):
    path, storage, content = ark
    (first, _, _), _ = content["utt1"]
    (second, num_bytes, _), _ = content["äöü"]
    path.write_bytes(path.read_bytes()[: second + int(share * num_bytes)])
    read_feats(path, first, "utt1", SHAPE, storage)
    with pytest.raises(CacheError, match="0000.ark: expected features of 'äöü'"):
        read_feats(path, second, "äöü", SHAPE, storage)


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
    kaldiio.load_mat(f"{path}:2")
    assert (tmp_path / "harm").exists(), "a test that could not fail"


def test_bad_index(tmp_path):
    (tmp_path / "0000.index").write_text("utt1 12 a\n")
    with pytest.raises(CacheError, match="0000.index: expected an index"):
        read_index(tmp_path / "0000.index")


def test_combination_may_be_moved(tmp_path):
    members = [tmp_path / "feats" / name / "train" for name in ("one", "two")]
    path = write_combination(tmp_path / "feats", "train", members)
    assert [folder.resolve() for folder in read_combination(path)] == members
    (tmp_path / "feats").rename(tmp_path / "moved")
    path = tmp_path / "moved" / path.relative_to(tmp_path / "feats")
    expected = [tmp_path / "moved" / name / "train" for name in ("one", "two")]
    assert [folder.resolve() for folder in read_combination(path)] == expected


@pytest.mark.parametrize("members", [[], "one", None])
def test_bad_combination(members, tmp_path):
    path = tmp_path / "members.yaml"
    path.write_text(yaml.safe_dump({"members": members}))
    with pytest.raises(CacheError, match="members.yaml: expected a list of members"):
        read_combination(path)
