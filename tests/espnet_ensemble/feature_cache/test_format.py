"""The files of a cache, byte for byte: caches that users have must stay readable."""

import os
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from cache_runs import FEATURES, everything

from espnet_ensemble.feature_cache.archive import ArchiveWriter, encode
from espnet_ensemble.feature_cache.dataset import FeatureCache, write_combination
from espnet_ensemble.feature_cache.identity import (
    AudioIdentity,
    AudioStates,
    read_wav,
)
from espnet_ensemble.feature_cache.member import Member, MemberInfo
from espnet_ensemble.feature_cache.verify import verify

FEATS = torch.tensor([[0, 0.5], [2, -3]])
AUDIO = "5b1d7bd97b3e3e2bd9b4a93b9f2d4f11 32044 1700000000000000000"
#: Archives of "utt1" with these features: what the header says, and the tensors.
HEADER = (
    '{{"__metadata__":{{"contents":"{{\\"skipped\\": {{}}, \\"utterances\\": {{'
    '\\"utt1\\": [{checksum}, \\"5b1d7bd97b3e3e2bd9b4a93b9f2d4f11\\", \\"32044\\", '
    '\\"1700000000000000000\\"]}}}}"}},{tensors}}}'
)
ARCHIVES = {
    "float32": (
        786272682,
        '"utt1":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}',
        "00000000 0000003f 00000040 000040c0",
    ),
    "float16": (
        4051894898,
        '"utt1":{"dtype":"F16","shape":[2,2],"data_offsets":[0,8]}',
        "0000 0038 0040 00c2",
    ),
    "int8": (
        3882974592,
        '"utt1 scale":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},'
        '"utt1":{"dtype":"U8","shape":[2,2],"data_offsets":[16,20]}',
        "00000000 000040c0 8180003c e1e0603c 00ff ff00",
    ),
}
CACHE_YAML = """\
upstream: microsoft/wavlm-base
layer: last
layers:
- 12
extra_conf: null
fingerprint: 0123456789abcdef
feature_size: 2
fs: 16000
hop_length: 320
speech_fs: 16000
dtype: float32
storage: {storage}
creator: espnet_ensemble 0.3.0
format: 2
"""


def info(storage):
    features = replace(FEATURES, feature_size=2)
    return MemberInfo(features, storage, creator="espnet_ensemble 0.3.0")


def archive(storage):
    checksum, tensors, content = ARCHIVES[storage]
    header = HEADER.format(checksum=checksum, tensors=tensors)
    header += " " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header.encode() + bytes.fromhex(content)


def write(storage, cache_dir):
    """Write a cache of one utterance."""
    member = Member(
        cache_dir / f"wavlm-base-last-01234567-{storage}" / "train", info(storage)
    )
    with member.lock(), member.being_made(AudioStates({})):
        writer = ArchiveWriter()
        writer.add("utt1", encode(FEATS, storage), AudioIdentity.parse(AUDIO))
        writer.write(member.shards / "000" / "000000.safetensors", {})
    return write_combination(cache_dir, [member], cache_dir / "raw", [member.name])


@pytest.mark.parametrize("storage", ARCHIVES)
def test_what_is_written(storage, tmp_path):
    write(storage, tmp_path)
    found, name = everything(tmp_path), f"wavlm-base-last-01234567-{storage}"
    member = f"{name}/train"
    assert found[f"{member}/shards/000/000000.safetensors"] == archive(storage)
    assert found[f"{member}/cache.yaml"].decode() == CACHE_YAML.format(storage=storage)
    combination = found[f"combinations/{name}/train/members.yaml"].decode()
    assert combination == f"members:\n- ../../../{member}\ndata_dir: ../../../raw\n"
    # NumPy's own format, whose header has changed over its versions.
    arrays = {}
    for path in (tmp_path / member / "index").glob("*.npy"):
        arrays[path.stem] = np.load(path)
    ends = len(archive(storage)) - len(bytes.fromhex(ARCHIVES[storage][2]))
    offsets = (ends + 16, ends) if storage == "int8" else (ends, ends)
    assert {key: array.tolist() for key, array in arrays.items()} == {
        "ids": [b"utt1"],
        "places": [(0, 2, *offsets)],
        "digests": [AUDIO.split()[0].encode()],
        "archives": [("000/000000.safetensors", len(archive(storage)))],
        "states": [(32044, 1700000000000000000)],
    }


@pytest.mark.parametrize("storage", ARCHIVES)
def test_what_is_read(storage, tmp_path):
    path = write(storage, tmp_path)
    cache = FeatureCache(path)
    assert cache.members[0].info == info(storage)
    assert np.allclose(cache["utt1"], FEATS, atol=1e-6)
    assert verify(tmp_path) == 1


def test_hash_of_audio_is_that_of_version_0_1(tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, np.arange(-4, 4) / 8, 16000)
    os.utime(path, ns=(17, 17))
    assert str(read_wav(path).identity) == "57bdcbc54ded15f4ea1f185f310eed66 60 17"
