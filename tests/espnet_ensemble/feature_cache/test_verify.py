import shutil

import pytest

from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.extract import ExtractConf, extract
from espnet_ensemble.feature_cache.verify import verify


@pytest.fixture(params=["float32", "float16", "int8"])
def conf(request):
    return ExtractConf(storage=request.param, shard_seconds=0.8)


def damage_one_bit(path):
    content = bytearray(path.read_bytes())
    content[-100] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage,message",
    [
        (
            damage_one_bit,
            "000001.safetensors: '[a-g]': expected [0-9]+ bytes with checksum",
        ),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-1]),
            "000001.safetensors: expected an archive",
        ),
        (
            lambda path: path.write_text("something else"),
            "000001.safetensors: expected an archive",
        ),
    ],
)
def test_damage_is_found_and_can_be_mended(
    damage, message, conf, data, tmp_path, tiny_wavlm
):
    frontend_conf, cache_dir = {"upstreams": [tiny_wavlm]}, tmp_path / "feats"
    extract(data, frontend_conf, cache_dir, conf)
    assert verify(cache_dir) == 7
    (path,) = cache_dir.glob("*/train/shards/*/000001.safetensors")
    good = path.read_bytes()
    damage(path)
    with pytest.raises(
        CacheError, match=f"{message}(.|\n)*1 of 3 archives are damaged"
    ):
        verify(cache_dir)
    if damage_one_bit is damage:
        path.unlink()
    extract(data, frontend_conf, cache_dir, conf)
    assert verify(cache_dir) == 7 and path.read_bytes() == good


def test_not_a_cache(tmp_path):
    with pytest.raises(CacheError, match="expected a feature cache, found no archives"):
        verify(tmp_path)


def test_missing_archive_and_other_index(data, tmp_path, tiny_wavlm):
    frontend_conf, cache_dir = {"upstreams": [tiny_wavlm]}, tmp_path / "feats"
    conf = ExtractConf(shard_seconds=0.8)
    extract(data, frontend_conf, cache_dir, conf)
    first, *_ = sorted(cache_dir.glob("*/train/shards/*/*"))
    good = first.read_bytes()
    first.unlink()
    with pytest.raises(CacheError, match="000000.* expected .* found No such file"):
        verify(cache_dir)
    first.write_bytes(good)
    index = first.parents[2] / "index"
    shutil.rmtree(index)
    extract(data, frontend_conf, tmp_path / "feats2", ExtractConf(shard_seconds=0.6))
    (other,) = (tmp_path / "feats2").glob("*/train/index")
    shutil.copytree(other, index)
    with pytest.raises(CacheError, match="(.|\n)*the next extraction mends"):
        verify(cache_dir)
    extract(data, frontend_conf, cache_dir, conf)
    assert verify(cache_dir) == 7
