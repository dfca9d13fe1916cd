import logging
from dataclasses import replace

import pytest
import torch
from cache_runs import FEATURES

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.archive import ArchiveWriter, encode
from espnet_ensemble.feature_cache.identity import AudioIdentity, AudioStates, DataSet
from espnet_ensemble.feature_cache.member import Member, MemberInfo

INFO = MemberInfo(FEATURES, "float16")


@pytest.fixture
def member(tmp_path):
    """A complete member, of no utterances."""
    member = Member.of(tmp_path / "feats", INFO, DataSet(tmp_path / "train", {}, {}))
    with member.lock(), member.being_made(AudioStates({})):
        pass
    return member


def test_folder(member, tmp_path):
    assert member.name == "wavlm-base-last-01234567-float16"
    assert member.folder == tmp_path / "feats" / member.name / "train"


def test_info_survives_yaml(tmp_path):
    INFO.write(tmp_path / "cache.yaml")
    assert MemberInfo.read(tmp_path / "cache.yaml") == INFO
    probe = [0.5, -1e-05] * 8
    replace(INFO, features=replace(FEATURES, probe=probe)).write(
        tmp_path / "cache.yaml"
    )
    assert MemberInfo.read(tmp_path / "cache.yaml").features.probe == probe


@pytest.mark.parametrize("content", ["", "a: 1", "[", "- 1", "\xff"])
def test_bad_info(content, tmp_path):
    path = tmp_path / "cache.yaml"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(EnsembleError, match="cache.yaml: .*expected"):
        MemberInfo.read(path)
    path.unlink()
    with pytest.raises(
        CacheError, match="the extraction that makes it is not complete"
    ):
        MemberInfo.read(path)


def test_incomplete_while_it_is_made(member, tmp_path):
    data = DataSet(tmp_path / "train", {}, {})
    assert member.is_complete(data, skip=False)
    with pytest.raises(ZeroDivisionError), member.being_made(AudioStates({})):
        assert not member.is_complete(data, skip=False)
        raise ZeroDivisionError
    assert not member.is_complete(data, skip=False)
    with member.being_made(AudioStates({})):
        pass
    assert Member.open(member.folder).info == INFO
    assert member.is_complete(data, skip=False)


@pytest.mark.parametrize("name", ["cache.yaml", "cache.yaml.part"])
@pytest.mark.parametrize(
    "other,message",
    [
        (MemberInfo(replace(FEATURES, dtype="bfloat16"), "float16"), "dtype: expected"),
        (MemberInfo(FEATURES, "int8"), "storage: expected 'float16', found 'int8'"),
    ],
)
def test_what_is_there_of_others_is_refused(other, message, name, member, tmp_path):
    (member.folder / "cache.yaml").unlink()
    other.write(member.folder / name)
    with pytest.raises(
        CacheError, match=f"/{name}: {message}.*; remove {member.folder} to"
    ):
        member.is_complete(DataSet(tmp_path / "train", {}, {}), skip=False)


def test_damaged_index_is_for_extraction_to_mend(member, tmp_path):
    path = member.folder / "index" / "ids.npy"
    assert member.damage() is None
    path.write_bytes(path.read_bytes()[:-1])
    assert not member.is_complete(DataSet(tmp_path / "train", {}, {}), skip=False)
    assert member.damage().startswith(f"{path}: expected another checksum")


def test_archive_of_another_type(member):
    writer = ArchiveWriter()
    tensors = encode(torch.ones(2, 768), "float32")
    writer.add("a", tensors, AudioIdentity.parse("5b1d 32044 17"))
    with pytest.raises(CacheError, match="000000.* expected float16, found float32"):
        with member.being_made(AudioStates({})):
            writer.write(member.shards / "000" / "000000.safetensors", {})


def test_damaged_info_is_named(member, tmp_path):
    (member.folder / "cache.yaml").write_text("upst")
    message = f"cache.yaml: .*; it is damaged: remove {member.folder} to extract anew"
    with pytest.raises(CacheError, match=message):
        member.is_complete(DataSet(tmp_path / "train", {}, {}), skip=False)


def test_skipped_utterances_are_logged(member, caplog):
    with member.being_made(AudioStates({})):
        path = member.shards / "000" / "000000.safetensors"
        ArchiveWriter().write(path, {"a": "no such\nfile"})
    assert member.skipped() == {"a": "no such file"}
    expected = f"1 of 1 utterances skipped: see {member.folder}/skipped"
    assert caplog.messages == [expected]


def test_who_waits_says_so(member, caplog, monkeypatch):
    monkeypatch.setattr("filelock.FileLock.acquire", acquire_at_second_try())
    caplog.set_level(logging.INFO, "espnet_ensemble")
    with member.lock():
        expected = f"waiting for another extraction to {member.folder}"
        assert caplog.messages == [expected]


def acquire_at_second_try():
    from filelock import FileLock, Timeout

    acquire = FileLock.acquire

    def busy(self, timeout=-1):
        if timeout == 0:
            raise Timeout(self.lock_file)
        return acquire(self)

    return busy
