"""Caches of versions 0.1 and 0.2, byte for byte as they wrote them."""

import os
import signal

import numpy as np
import pytest
import torch
from cache_runs import everything, in_child

from espnet_ensemble.data.tables import read_table
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.archive import Archive
from espnet_ensemble.feature_cache.convert import convert
from espnet_ensemble.feature_cache.dataset import FeatureCache
from espnet_ensemble.feature_cache.member import Member
from espnet_ensemble.feature_cache.verify import verify

FEATS = np.float32([[0, 0.5], [2, -3]])
AUDIO = "5b1d7bd97b3e3e2bd9b4a93b9f2d4f11 32044 1700000000000000000"
#: Records of "utt1" with these features.
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


def write(storage, cache_dir):
    """A cache of two archives: of "utt1", and of nothing."""
    name = f"wavlm-base-last-01234567-{storage}"
    member = cache_dir / name / "train"
    files = {
        "shards/0000.ark": bytes.fromhex(RECORDS[storage]),
        "shards/0000.index": f"utt1 {ENTRIES[storage]}\n".encode(),
        "shards/0001.ark": b"",
        "shards/0001.index": b"",
        "shards/0001.skipped": b"utt2 x.wav: nothing to hear\n",
        "skipped": b"utt2 x.wav: nothing to hear\n",
        "utt2audio": f"utt1 {AUDIO}\n".encode(),
        "utt2num_frames": b"utt1 2\n",
        "feats.scp": f"utt1 {member}/shards/0000.ark:5\n".encode(),
        "cache.yaml": CACHE_YAML.format(storage=storage).encode(),
        f"../../combinations/{name}/train/members.yaml": (
            f"members:\n- ../../../{name}/train\n".encode()
        ),
    }
    (member / "index").mkdir(parents=True)
    (member / "index" / "crc32.json").write_text("{}")
    for path, content in files.items():
        (member / path).parent.mkdir(parents=True, exist_ok=True)
        (member / path).write_bytes(content)
    (path,) = cache_dir.rglob("members.yaml")
    return member, path


@pytest.mark.parametrize("storage", RECORDS)
def test_first_format(storage, tmp_path):
    member, path = write(storage, tmp_path / "feats")
    message = f"cache.yaml: format: expected 2, .* --cache_dir {tmp_path}/feats makes"
    for function in (lambda: FeatureCache(path), lambda: verify(tmp_path / "feats")):
        with pytest.raises(CacheError, match=message):
            function()
    assert convert(tmp_path / "feats") == 1
    cache = FeatureCache(path)
    assert list(cache) == ["utt1"]
    if storage == "int8":
        assert np.allclose(cache["utt1"], FEATS, atol=0.02)
    else:
        assert np.array_equal(cache["utt1"], FEATS)
    assert read_table(member / "skipped") == {"utt2": "x.wav: nothing to hear"}
    assert verify(tmp_path / "feats") == 1
    archives = list(Member.open(member).archives())
    assert str(archives[0].entries["utt1"].audio) == AUDIO
    assert archives[1].skipped == {"utt2": "x.wav: nothing to hear"}
    expected = {"shards", "index", "skipped", "cache.yaml", ".lock"}
    assert set(os.listdir(member)) == expected
    assert os.listdir(member / "shards") == ["000"]
    assert convert(tmp_path / "feats") == 0


@pytest.mark.parametrize("name", ["000000.safetensors", "index", "cache.yaml"])
@pytest.mark.parametrize("before", [True, False])
def test_killed_and_run_again(name, before, tmp_path, monkeypatch):
    write("float16", tmp_path / "expected")
    convert(tmp_path / "expected")
    write("float16", tmp_path / "feats")
    replace = os.replace

    def dying_replace(source, target):
        if os.path.basename(target) != name:
            return replace(source, target)
        if not before:
            replace(source, target)
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying_replace)
        assert in_child(convert, tmp_path / "feats") == -signal.SIGKILL
    assert convert(tmp_path / "feats") == (name != "cache.yaml" or before)
    assert everything(tmp_path / "feats") == everything(tmp_path / "expected")


@pytest.mark.parametrize("storage", RECORDS)
@pytest.mark.parametrize("damage", ["cut", "flip", "pickle", "missing", "index"])
def test_damage_is_named(damage, storage, tmp_path):
    member, _ = write(storage, tmp_path / "feats")
    ark = member / "shards" / "0000.ark"
    good = ark.read_bytes()
    if damage == "cut":
        ark.write_bytes(good[:-1])
    elif damage == "flip":
        ark.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    elif damage == "pickle":
        torch.save(torch.zeros(1), ark)
    elif damage == "missing":
        ark.unlink()
    else:
        ark.with_suffix(".index").write_text("utt1 5 31\n")
    with pytest.raises(CacheError, match=f"{ark}: .*; remove {member} to extract anew"):
        convert(tmp_path / "feats")
    assert not list(member.rglob("*.safetensors"))


def test_a_member_that_is_not_complete_is_to_be_removed(tmp_path):
    member, _ = write("float16", tmp_path / "feats")
    (member / "cache.yaml").rename(member / "cache.yaml.part")
    assert convert(tmp_path / "feats") == 0
    opened = Member(member, None)
    with pytest.raises(CacheError, match=f"not complete; remove {member} to extract"):
        opened.is_complete(None, skip=False)


def test_later_format(tmp_path):
    member, path = write("float16", tmp_path / "feats")
    convert(tmp_path / "feats")
    info = member / "cache.yaml"
    info.write_text(info.read_text().replace("format: 2", "format: 3"))
    for function in (lambda: FeatureCache(path), lambda: convert(tmp_path / "feats")):
        with pytest.raises(CacheError, match="found 3: is it of a later version"):
            function()


def test_archive_of_nothing_is_read(tmp_path):
    member, _ = write("float32", tmp_path / "feats")
    convert(tmp_path / "feats")
    path = member / "shards" / "000" / "000001.safetensors"
    assert not Archive.read(path).entries
