import multiprocessing
import shutil

import numpy as np
import pytest
import soundfile
import torch
import yaml
from espnet2.train.dataset import ESPnetDataset
from torch.utils.data import DataLoader

from espnet_ensemble.data.datadir import validate, write
from espnet_ensemble.data.tables import read_table, write_table
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.dataset import (
    Combination,
    FeatureCache,
    read_combination,
    write_combination,
)
from espnet_ensemble.feature_cache.extract import ExtractConf, extract
from espnet_ensemble.feature_cache.index import Index
from espnet_ensemble.feature_cache.member import Member
from espnet_ensemble.frontend_conf import FrontendConf


@pytest.fixture
def cache(data, tmp_path, tiny_wavlm, tiny_hubert):
    """The members.yaml of two upstreams."""
    conf = {"upstreams": [tiny_wavlm, tiny_hubert]}
    return extract(data, conf, tmp_path / "feats")


def members(cache):
    folders = yaml.safe_load(cache.read_text())["members"]
    return [(cache.parent / folder).resolve() for folder in folders]


@pytest.mark.parametrize(
    "fs,storage,tolerance",
    [
        (16000, "float32", 1e-5),
        (8000, "float32", 1e-5),
        (16000, "float16", 1e-3),
        (16000, "int8", 2e-2),
    ],
)
def test_equals_the_frontend_on_audio(
    fs, storage, tolerance, data, tmp_path, tiny_wavlm, tiny_hubert, slow_hubert
):
    """Layers, hops, numbers of frames and sample rates differ."""
    wavs = {}
    for key, path in read_table(data / "wav.scp").items():
        wavs[key], _ = soundfile.read(path, dtype="float32")
        soundfile.write(path, wavs[key], fs, subtype="PCM_16")
    upstreams = [
        {"name": tiny_wavlm, "layer": "weighted_sum"},
        {"name": slow_hubert, "layer": 1},
        {"name": tiny_hubert, "layer": [-1, 0]},
    ]
    conf = {"upstreams": upstreams, "fs": fs}
    extract_conf = ExtractConf(storage=storage)
    cache = FeatureCache(extract(data, conf, tmp_path / "feats", extract_conf))
    assert list(cache) == list(wavs) and len(cache) == len(wavs)

    ensemble = FrontendConf.parse(conf).build()
    for key, wav in wavs.items():
        states, lengths = ensemble.extract(
            torch.from_numpy(wav).unsqueeze(0), torch.tensor([len(wav)])
        )
        expected = torch.cat([s for member in states for s in member], dim=2)[0]
        feats = cache[key]
        assert feats.dtype == np.float32 and feats.flags.writeable
        assert len(feats) == lengths.item()
        error = np.linalg.norm(feats - expected.numpy()) / expected.norm()
        assert error <= tolerance, (key, error)


def test_three_members_serve_pairs(
    data, tmp_path, tiny_wavlm, tiny_hubert, tiny_wav2vec2
):
    cache_dir = tmp_path / "feats"
    names = {"w": tiny_wavlm, "h": tiny_hubert, "v": tiny_wav2vec2}
    extract(data, {"upstreams": list(names.values())}, cache_dir)
    written = {p: p.stat().st_mtime_ns for p in cache_dir.glob("*/train/shards/*/*")}
    feats = {}
    for which in ("w", "h", "v", "wh", "vw", "hv", "whv"):
        conf = {"upstreams": [names[letter] for letter in which]}
        feats[which] = FeatureCache(extract(data, conf, cache_dir))["f"]
    assert len(list(cache_dir.iterdir())) == 3 + 1
    assert written == {
        p: p.stat().st_mtime_ns for p in cache_dir.glob("*/train/shards/*/*")
    }
    for which, x in feats.items():
        parts = [feats[letter] for letter in which]
        assert np.array_equal(x, np.concatenate(parts, axis=1))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_several_loader_workers(start, cache):
    dataset = ESPnetDataset([(str(cache), "speech", "feature_cache")])
    expected = FeatureCache(cache)
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=list(expected) * 3,
        num_workers=2,
        multiprocessing_context=multiprocessing.get_context(start),
    )
    found = [(key, batch["speech"]) for key, batch in loader]
    assert [key for key, _ in found] == list(expected) * 3
    assert all(np.array_equal(feats, expected[key]) for key, feats in found)


def test_moved_cache(cache, tmp_path):
    expected = FeatureCache(cache)["a"]
    shutil.move(tmp_path / "feats", tmp_path / "moved")
    cache = tmp_path / "moved" / cache.relative_to(tmp_path / "feats")
    assert np.array_equal(FeatureCache(cache)["a"], expected)


def test_unknown_utterance(cache):
    assert "nobody" not in FeatureCache(cache)
    with pytest.raises(KeyError, match="nobody"):
        FeatureCache(cache)["nobody"]


def test_missing_utterances_are_named(data, tmp_path, tiny_wavlm, tiny_hubert):
    """Of a combination of members of different utterances."""
    cache_dir, tables = tmp_path / "feats", validate(data, need_text=False)
    for names in ("abdeg", "abcdefg"):
        write(data, {n: {k: t[k] for k in names} for n, t in tables.items()})
        upstream = tiny_wavlm if names == "abdeg" else tiny_hubert
        extract(data, {"upstreams": [upstream]}, cache_dir)
    folders = sorted(cache_dir.glob("*/train/cache.yaml"), reverse=True)
    both = [Member.open(info.parent) for info in folders]
    path = write_combination(cache_dir, both, data, [m.name for m in both])
    few = next(m for m in both if len(Index(m.folder)) == 5)
    message = f"{few.name}.* no 'c' and 1 more: run the same extraction"
    with pytest.raises(CacheError, match=message):
        FeatureCache(path)
    write_table(few.folder / "skipped", {"c": "c.wav: no such file"})
    with pytest.raises(CacheError, match="no 'c' and 1 more: c.wav: no such file"):
        FeatureCache(path)


def test_index_that_is_damaged(cache):
    path = members(cache)[0] / "index" / "places.npy"
    places = np.load(path)
    places[[1, 3]] = places[[3, 1]]
    np.save(path, places)
    with pytest.raises(CacheError, match="places.npy: expected another checksum; run"):
        FeatureCache(cache)


def test_numbers_of_frames(cache):
    feats = FeatureCache(cache)
    assert {key: feats.num_frames(key) for key in feats} == {
        key: len(x) for key, x in feats.items()
    }


def test_member_that_is_not_complete(cache):
    (members(cache)[1] / "cache.yaml").unlink()
    with pytest.raises(CacheError, match="Hubert.*cache.yaml: expected this file"):
        FeatureCache(cache)


def test_storage_of_a_later_version(cache):
    path = members(cache)[0] / "cache.yaml"
    path.write_text(path.read_text().replace("storage: float16", "storage: int4"))
    with pytest.raises(CacheError, match="storage: expected float32, .*, found 'int4'"):
        FeatureCache(cache)


def test_cut_off_archive(cache):
    feats = FeatureCache(cache)
    feats["f"]
    archive = members(cache)[1] / "shards" / "000" / "000000.safetensors"
    archive.write_bytes(archive.read_bytes()[:-1])
    with pytest.raises(CacheError, match="000000.safetensors: .*is the file cut off"):
        feats["f"]


def test_combination_may_be_moved(tmp_path):
    folders = [tmp_path / "feats" / name / "train" for name in ("one", "two")]
    # Only their folders matter.
    members = [Member(folder, None) for folder in folders]
    path = write_combination(tmp_path / "feats", members, tmp_path / "raw" / "train")
    assert path == tmp_path / "feats/combinations/one+two/train/members.yaml"
    assert read_combination(path) == Combination(folders, tmp_path / "raw" / "train")
    (tmp_path / "feats").rename(tmp_path / "moved")
    path = tmp_path / "moved" / path.relative_to(tmp_path / "feats")
    expected = [tmp_path / "moved" / name / "train" for name in ("one", "two")]
    assert read_combination(path).members == expected


def test_combination_of_many_members_has_a_short_name(tmp_path):
    names = [f"wavlm_base_plus_hd-layer{n}-0123abcd-float16" for n in range(12)]
    members = [Member(tmp_path / "feats" / name / "train", None) for name in names]
    paths = [
        write_combination(tmp_path / "feats", chosen, tmp_path / "raw")
        for chosen in (members, members[::-1], members[:11])
    ]
    folders = [path.parent.parent.name for path in paths]
    assert [name.partition("-")[0] for name in folders] == [
        *("12_members", "12_members", "11_members")
    ]
    assert len(set(folders)) == 3 and max(map(len, folders)) < 20
    assert read_combination(paths[0]).members == [m.folder for m in members]


def test_combination_of_version_0_1_says_no_data_directory(tmp_path):
    (tmp_path / "members.yaml").write_text("members:\n- one\n")
    expected = Combination([tmp_path / "one"], None)
    assert read_combination(tmp_path / "members.yaml") == expected


@pytest.mark.parametrize("members", [[], "one", None])
def test_bad_combination(members, tmp_path):
    path = tmp_path / "members.yaml"
    path.write_text(yaml.safe_dump({"members": members}))
    with pytest.raises(CacheError, match="members.yaml: expected a list of members"):
        read_combination(path)
