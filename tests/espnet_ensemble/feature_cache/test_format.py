"""The files of a cache, byte for byte: caches that users have must stay readable."""

import io
import os

import numpy as np
import pytest
import soundfile

from espnet_ensemble.feature_cache.archive import append_feats, write_index
from espnet_ensemble.feature_cache.dataset import FeatureCache, write_combination
from espnet_ensemble.feature_cache.identity import (
    AudioIdentity,
    FeatureIdentity,
    read_wav,
)
from espnet_ensemble.feature_cache.member import Member, MemberInfo
from espnet_ensemble.feature_cache.verify import verify

FEATS = np.float32([[0, 0.5], [2, -3]])
AUDIO = "5b1d7bd97b3e3e2bd9b4a93b9f2d4f11 32044 1700000000000000000"
#: Records of "utt1" with these features, as version 0.1 wrote them.
RECORDS = {
    "float32": "757474312000"
    "42464d20 0402000000 0402000000"
    "00000000 0000003f 00000040 000040c0",
    "float16": "7574743120"
    + b"NPY\x01\x88".hex()
    + b"\x93NUMPY\x01\x00v\x00{'descr': '<f2', 'fortran_order': False, ".hex()
    + b"'shape': (2, 2), }".hex()
    + "20" * 58
    + "0a 0000 0038 0040 00c2",
    "int8": "757474312000"
    "42434d20 000040c0 0000a040 02000000 02000000"
    "9999fdff feffffff 000033b3 66e667e6 00ff 4000",
}
ENTRIES = {
    "float32": f"5 31 2502007431 2 {AUDIO}",
    "float16": f"5 141 2104783732 2 {AUDIO}",
    "int8": f"5 41 2743738563 2 {AUDIO}",
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
creator: espnet_ensemble 0.1.0
"""


def info(storage):
    features = FeatureIdentity(
        upstream="microsoft/wavlm-base",
        layer="last",
        layers=[12],
        extra_conf=None,
        fingerprint="0123456789abcdef",
        feature_size=2,
        fs=16000,
        hop_length=320,
        speech_fs=16000,
        dtype="float32",
    )
    return MemberInfo(features, storage, creator="espnet_ensemble 0.1.0")


def files(storage, cache_dir):
    """A cache of version 0.1: path -> content."""
    name = f"wavlm-base-last-01234567-{storage}"
    member = f"{name}/train"
    return {
        f"{member}/shards/0000.ark": bytes.fromhex(RECORDS[storage]),
        f"{member}/shards/0000.index": f"utt1 {ENTRIES[storage]}\n".encode(),
        f"{member}/utt2audio": f"utt1 {AUDIO}\n".encode(),
        f"{member}/utt2num_frames": b"utt1 2\n",
        f"{member}/feats.scp": f"utt1 {cache_dir}/{member}/shards/0000.ark:5\n".encode(),
        f"{member}/cache.yaml": CACHE_YAML.format(storage=storage).encode(),
        f"combinations/{name}/train/members.yaml": (
            f"members:\n- ../../../{member}\n".encode()
        ),
    }


@pytest.mark.parametrize("storage", RECORDS)
def test_cache_of_version_0_1_is_read(storage, tmp_path):
    for name, content in files(storage, "/elsewhere").items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (path,) = tmp_path.rglob("members.yaml")
    cache = FeatureCache(path)
    assert list(cache) == ["utt1"]
    assert np.allclose(cache["utt1"], FEATS, atol=2e-3)
    assert cache.members[0].info == info(storage)
    assert verify(tmp_path) == 1


@pytest.mark.parametrize("storage", RECORDS)
def test_cache_is_written_as_by_version_0_1(storage, tmp_path):
    name = f"wavlm-base-last-01234567-{storage}"
    member = Member(tmp_path / name / "train", info(storage))
    with member.lock(), member.being_made():
        ark = io.BytesIO()
        audio = AudioIdentity.parse(AUDIO)
        entry = append_feats(ark, "utt1", FEATS, audio, storage)
        (member.shards / "0000.ark").write_bytes(ark.getvalue())
        write_index(member.shards / "0000.index", {"utt1": entry})
    path = write_combination(tmp_path, [member], tmp_path / "raw")
    expected = files(storage, tmp_path)
    # What has been added since.
    expected[str(path.relative_to(tmp_path))] += b"data_dir: ../../../raw\n"
    for path, content in expected.items():
        assert (tmp_path / path).read_bytes() == content, path


def test_hash_of_audio_is_that_of_version_0_1(tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, np.arange(-4, 4) / 8, 16000)
    os.utime(path, ns=(17, 17))
    assert str(read_wav(path).identity) == "57bdcbc54ded15f4ea1f185f310eed66 60 17"
