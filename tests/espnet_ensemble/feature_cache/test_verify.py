import pytest

from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.extract import ExtractConf, extract
from espnet_ensemble.feature_cache.verify import verify


@pytest.fixture(params=["float32", "float16", "int8"])
def conf(request):
    return ExtractConf(storage=request.param, shard_utts=3)


def damage_one_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage,message",
    [
        (
            damage_one_bit,
            "0001.ark: '[a-g]': expected [0-9]+ bytes with checksum [0-9a-f]",
        ),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-1]),
            "0001.ark: '[a-g]': exp",
        ),
        (lambda path: path.unlink(), "0001.ark: No such file"),
        (
            lambda path: path.with_suffix(".index").write_text("a 1\n"),
            "0001.index: expected an index",
        ),
    ],
)
def test_damage_is_found_and_can_be_mended(
    damage, message, conf, data, tmp_path, tiny_wavlm
):
    frontend_conf, cache_dir = {"upstreams": [tiny_wavlm]}, tmp_path / "feats"
    extract(data, frontend_conf, cache_dir, conf)
    assert verify(cache_dir) == 7
    (ark,) = cache_dir.glob("*/train/shards/0001.ark")
    good = ark.read_bytes()
    damage(ark)
    with pytest.raises(
        CacheError, match=f"{message}(.|\n)*1 of 3 archives are damaged"
    ):
        verify(cache_dir)
    if damage_one_bit is damage:
        ark.unlink()
    if "index" in message:
        ark.with_suffix(".index").unlink()
    extract(data, frontend_conf, cache_dir, conf)
    assert verify(cache_dir) == 7 and ark.read_bytes() == good


def test_not_a_cache(tmp_path):
    with pytest.raises(CacheError, match="expected a feature cache, found no archives"):
        verify(tmp_path)
