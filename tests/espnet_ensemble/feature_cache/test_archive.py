import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.archive import (
    STORAGES,
    Archive,
    ArchiveWriter,
    encode,
    read_feats,
)
from espnet_ensemble.feature_cache.identity import AudioIdentity, FileState

AUDIO = AudioIdentity("5b1d", FileState(32044, 1700000000000000000))
SHAPE = (40, 5)
# Of the features' norm. Of float16, a rounding error is at most 2**-11.
ERRORS = {"float32": 0, "float16": 2**-11, "int8": 0.006}

every_storage = pytest.mark.parametrize("storage", STORAGES)


def features(seed, shape=SHAPE):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def write(path, feats, storage, skipped=None):
    writer = ArchiveWriter()
    for utt_id, x in feats.items():
        writer.add(utt_id, encode(x, storage), AUDIO)
    writer.write(path, skipped or {})
    return Archive.read(path)


def read(archive, utt_id, storage, shape=SHAPE, num_bytes=None):
    entry, out = archive.entries[utt_id], torch.full(shape, torch.nan)
    num_bytes = num_bytes or archive.num_bytes
    of = STORAGES[storage]
    read_feats(archive.path, num_bytes, entry.offsets, of, shape, out)
    return out


@pytest.fixture
def two(tmp_path):
    feats = {"utt1": features(0), "äöü": features(1)}
    return feats, lambda storage: write(
        tmp_path / "000" / "0.safetensors", feats, storage
    )


@every_storage
def test_what_was_written_is_read(storage, two):
    feats, make = two
    archive = make(storage)
    assert (archive.storage, archive.num_bytes) == (
        storage,
        archive.path.stat().st_size,
    )
    assert list(archive.entries) == list(feats) and not archive.skipped
    for utt_id, expected in feats.items():
        found = read(archive, utt_id, storage)
        assert (found - expected).norm() <= ERRORS[storage] * expected.norm()
        entry = archive.entries[utt_id]
        assert (entry.num_frames, entry.audio) == (len(expected), AUDIO)
    archive.check()


@every_storage
def test_others_read_it_with_safetensors(storage, two):
    feats, make = two
    archive = make(storage)
    with safe_open(archive.path, "pt") as file:
        for utt_id in feats:
            found = file.get_tensor(utt_id)
            if storage == "int8":
                least, step = file.get_tensor(f"{utt_id} scale")
                found = least + step * found
            assert torch.allclose(found.float(), read(archive, utt_id, storage))


def test_bytes_do_not_depend_on_the_order(tmp_path):
    feats = {f"utt{number}": features(number) for number in range(5)}
    first = write(tmp_path / "a", feats, "int8", {"x": "why", "y": "because"})
    feats, skipped = dict(reversed(feats.items())), {"y": "because", "x": "why"}
    second = write(tmp_path / "b", feats, "int8", skipped)
    assert first.path.read_bytes() == second.path.read_bytes()


@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 5])
@every_storage
def test_few_frames_and_constant_channels(storage, num_frames, tmp_path):
    feats = torch.zeros(num_frames, 4)
    feats[:, 1], feats[:, 2] = 3, torch.arange(num_frames)
    archive = write(tmp_path / "a", {"a": feats}, storage)
    found = read(archive, "a", storage, feats.shape)
    assert torch.allclose(found, feats, atol=num_frames / 500)
    assert torch.equal(found[:, [0, 1, 3]], feats[:, [0, 1, 3]])


def test_int8_is_half_a_step_off_at_most(tmp_path):
    feats = features(0, (300, 16)) * torch.logspace(-3, 3, 16) + torch.arange(16)
    found = read(write(tmp_path / "a", {"a": feats}, "int8"), "a", "int8", feats.shape)
    step = (feats.amax(0) - feats.amin(0)) / 255
    assert ((found - feats).abs() <= 0.501 * step).all()


@every_storage
def test_the_first_frames_alone(storage, two):
    archive = two[1](storage)
    whole, out = read(archive, "utt1", storage), torch.empty(7, 5)
    offsets = archive.entries["utt1"].offsets
    args = archive.path, archive.num_bytes, offsets, STORAGES[storage]
    read_feats(*args, SHAPE, out)
    assert torch.equal(out, whole[:7])


def test_what_float16_cannot_hold():
    with pytest.raises(
        CacheError, match="up to 65504 for float16, found 70000; use --storage fl"
    ):
        encode(torch.tensor([[1.0, -70000]]), "float16")


@every_storage
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_features_that_are_not_finite(value, storage):
    with pytest.raises(CacheError, match="expected finite features, found NaN"):
        encode(torch.tensor([[1, value]]), storage)


@every_storage
@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.5, 0.999])
def test_cut_off_archive(share, storage, two):
    archive = two[1](storage)
    content = archive.path.read_bytes()
    archive.path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CacheError, match="0.safetensors: expected [0-9]+ bytes, found"):
        read(archive, "utt1", storage)
    with pytest.raises(CacheError, match="0.safetensors: expected an archive of feat"):
        Archive.read(archive.path)


@every_storage
def test_a_place_behind_the_end(storage, two):
    archive, of = two[1](storage), STORAGES[storage]
    offsets = (archive.num_bytes - 10,) * 2
    with pytest.raises(CacheError, match="0.safetensors: .*, found its end"):
        read_feats(
            archive.path, archive.num_bytes, offsets, of, SHAPE, torch.empty(SHAPE)
        )


def test_missing_archive(two):
    archive = two[1]("float16")
    archive.path.unlink()
    for function in (lambda: read(archive, "utt1", "float16"), archive.check):
        with pytest.raises(CacheError, match="No such file"):
            function()
    with pytest.raises(CacheError, match="No such file"):
        Archive.read(archive.path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x" * 100,
        b"\x02" + bytes(7) + b"{}",
        b"\x02" + bytes(7) + b"[]",
        bytes(8),
        b"\xff" * 8 + b"{}",
    ],
)
def test_something_else(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(CacheError, match="a: expected an archive of features, found s"):
        Archive.read(tmp_path / "a")


def edited(archive, edit):
    """The archive with another header."""
    content = archive.path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    edit(header)
    text = json.dumps(header).encode()
    archive.path.write_bytes(
        len(text).to_bytes(8, "little") + text + content[8 + length :]
    )


@pytest.mark.parametrize(
    "edit",
    [
        lambda header: header.pop("__metadata__"),
        lambda header: header.pop("utt1"),
        lambda header: header["utt1"].update(dtype="I64"),
        lambda header: header["utt1"]["data_offsets"].reverse(),
        lambda header: header.update(utt2=header["utt1"]),
        lambda header: header.update(utt1=header.pop("utt1") | {"data_offsets": [0]}),
        lambda header: header["__metadata__"].update(contents="{}"),
    ],
)
def test_header_that_does_not_fit(edit, two):
    archive = two[1]("float16")
    edited(archive, lambda header: None)
    Archive.read(archive.path)
    edited(archive, edit)
    with pytest.raises(CacheError, match="expected an archive of features, found"):
        Archive.read(archive.path)


@every_storage
def test_a_bit_that_flips(storage, two):
    archive = two[1](storage)
    good = archive.path.read_bytes()
    for place in range(archive.num_bytes - 2 * sum(SHAPE), archive.num_bytes, 7):
        bad = bytearray(good)
        bad[place] ^= 4
        archive.path.write_bytes(bad)
        with pytest.raises(CacheError, match="'(utt1|äöü)': expected .* checksum"):
            Archive.read(archive.path).check()


def test_skipped_and_nothing_else(tmp_path):
    archive = write(tmp_path / "a", {}, "int8", {"x": "x.wav: nothing to hear"})
    assert archive.storage is None and not archive.entries
    assert archive.skipped == {"x": "x.wav: nothing to hear"}
    archive.check()
