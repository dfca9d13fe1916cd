import dataclasses

import kaldiio
import numpy as np
import pytest
import yaml

from espnet_ensemble.feature_cache.store import (
    CacheError,
    MemberInfo,
    append_feats,
    read_combination,
    read_feats,
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
        ("microsoft/wavlm-base", "last", "wavlm-base-last-01234567"),
        ("/models/my hubert/", 6, "my_hubert-6-01234567"),
        ("wavlm_base", [6, 7, 8], "wavlm_base-6_7_8-01234567"),
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


@pytest.fixture
def ark(tmp_path):
    """An archive of two utterances -> (path, {utterance: (offset, feats)})."""
    generator, content = np.random.default_rng(0), {}
    with (tmp_path / "0000.ark").open("wb") as file:
        for key in ("utt1", "äöü"):
            feats = generator.random((7, 5), np.float32)
            content[key] = append_feats(file, key, feats), feats
    return tmp_path / "0000.ark", content


def test_archive_is_kaldi_s(ark):
    path, content = ark
    for key, feats in kaldiio.load_ark(str(path)):
        offset, expected = content.pop(key)
        assert np.array_equal(feats, expected)
        assert np.array_equal(read_feats(path, offset, key, (7, 5)), expected)
    assert not content


@pytest.mark.parametrize("lost", [1, 100, 139, 141, 150, 155])
def test_cut_off_archive(lost, ark):
    path, content = ark
    path.write_bytes(path.read_bytes()[:-lost])
    first, second = content["utt1"], content["äöü"]
    assert np.array_equal(read_feats(path, first[0], "utt1", (7, 5)), first[1])
    with pytest.raises(CacheError, match="0000.ark: expected features of 'äöü'"):
        read_feats(path, second[0], "äöü", (7, 5))


def test_wrong_or_missing_archive(ark):
    path, content = ark
    with pytest.raises(CacheError, match="7 frames of 6, at byte 5, found something"):
        read_feats(path, 5, "utt1", (7, 6))
    with pytest.raises(CacheError, match="found No such file"):
        read_feats(path.with_name("1.ark"), 5, "utt1", (7, 5))


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
