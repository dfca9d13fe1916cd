import ctypes
import dataclasses
import json
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from cache_runs import everything, fork, in_child, write_noises
from safetensors.torch import load_file

from espnet_ensemble.data.datadir import validate, write
from espnet_ensemble.data.tables import DataError, read_table
from espnet_ensemble.feature_cache import CacheError, identity
from espnet_ensemble.feature_cache.dataset import FeatureCache
from espnet_ensemble.feature_cache.extract import ExtractConf, extract, extract_sets
from espnet_ensemble.feature_cache.identity import FeatureIdentity
from espnet_ensemble.feature_cache.index import Index
from espnet_ensemble.feature_cache.verify import verify

SMALL = ExtractConf(storage="float32", shard_seconds=0.6, batch_seconds=0.6)


def test_what_a_member_has(data, tmp_path, tiny_wavlm):
    conf = {"upstreams": [{"name": tiny_wavlm, "layer": [3, 1]}], "fusion": "concat"}
    extract(data, conf, tmp_path / "feats", SMALL)
    (folder,) = tmp_path.glob("feats/*-3_1-*/train")
    info = yaml.safe_load((folder / "cache.yaml").read_text())
    assert info.pop("format") == 2
    assert (
        folder.parent.name
        == f"{Path(tiny_wavlm).name}-3_1-{info['fingerprint'][:8]}-float32"
    )
    assert len(info.pop("fingerprint")) == 64
    assert info.pop("creator").startswith("espnet_ensemble ")
    assert len(info.pop("probe")) == 16
    assert info == {
        "upstream": tiny_wavlm,
        "layer": [3, 1],
        "layers": [3, 1],
        "extra_conf": None,
        "feature_size": 64,
        "fs": 16000,
        "hop_length": 320,
        "speech_fs": 16000,
        "dtype": "float32",
        "storage": "float32",
    }
    shards = sorted((folder / "shards" / "000").iterdir())
    assert [path.name for path in shards] == [f"{i:06}.safetensors" for i in range(4)]
    feats = {key: x for path in shards for key, x in load_file(path).items()}
    assert list(feats) == list(read_table(data / "wav.scp"))
    for x in feats.values():
        assert len(x) and x.shape[1:] == (64,) and x.dtype == torch.float32
    expected = {".lock", "cache.yaml", "index", "shards"}
    assert set(os.listdir(folder)) == expected


def test_batches_hold_so_many_seconds(data, tmp_path, tiny_wavlm, monkeypatch):
    from espnet_ensemble.ensemble import Ensemble

    shapes, run = [], Ensemble.extract

    def spy(self, speech, lengths):
        shapes.append(tuple(speech.shape))
        return run(self, speech, lengths)

    monkeypatch.setattr(Ensemble, "extract", spy)
    conf = ExtractConf(batch_seconds=1.0)
    extract(data, {"upstreams": [tiny_wavlm]}, tmp_path / "feats", conf)
    assert shapes == [(1, 16000), (2, 8000), (4, 3217)]


def test_complete_members_are_not_made_again(data, tmp_path, tiny_wavlm, tiny_hubert):
    cache_dir = tmp_path / "feats"
    extract(data, {"upstreams": [tiny_wavlm]}, cache_dir)
    before = {path: path.stat().st_mtime_ns for path in cache_dir.glob("*/train/*")}
    extract(data, {"upstreams": [tiny_hubert, tiny_wavlm]}, cache_dir, SMALL)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_several_sets_are_as_one_after_the_other(
    data, tmp_path, tiny_wavlm, tiny_hubert, monkeypatch
):
    shutil.copytree(data, tmp_path / "dev")
    conf, sets = {"upstreams": [tiny_wavlm, tiny_hubert]}, [data, tmp_path / "dev"]
    paths = [extract(path, conf, tmp_path / "feats", SMALL) for path in sets]
    expected = everything(tmp_path / "feats")
    shutil.rmtree(tmp_path / "feats")
    loaded, load = [], FeatureIdentity.load
    monkeypatch.setattr(
        FeatureIdentity, "load", lambda c: loaded.append(c.upstreams[0].name) or load(c)
    )
    assert extract_sets(sets, conf, tmp_path / "feats", SMALL) == paths
    assert everything(tmp_path / "feats") == expected
    assert loaded == [tiny_wavlm, tiny_hubert]


def test_all_sets_are_looked_at_before_the_first_is_made(data, tmp_path, tiny_wavlm):
    shutil.copytree(data, tmp_path / "dev")
    conf, cache_dir = {"upstreams": [tiny_wavlm]}, tmp_path / "feats"
    extract(tmp_path / "dev", conf, cache_dir)
    (tmp_path / "other").mkdir()
    write_noises(tmp_path / "other", first_seed=10)
    shutil.rmtree(tmp_path / "dev")
    (tmp_path / "other" / "train").rename(tmp_path / "dev")
    with pytest.raises(CacheError, match="found those of other audio"):
        extract_sets([data, tmp_path / "dev"], conf, cache_dir)
    assert not list(cache_dir.glob("*/train"))


def test_sets_of_one_name_are_refused(data, tmp_path, tiny_wavlm):
    other = shutil.copytree(data, tmp_path / "org" / "train")
    with pytest.raises(CacheError, match="different names, found train twice"):
        extract_sets([data, other], {"upstreams": [tiny_wavlm]}, tmp_path / "feats")


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    "name", ["000001.safetensors", "000002.safetensors", "index", "cache.yaml"]
)
def test_killed_and_run_again_is_as_if_undisturbed(
    name, before, data, tmp_path, tiny_wavlm, monkeypatch
):
    conf, cache_dir = {"upstreams": [tiny_wavlm]}, tmp_path / "feats"
    extract(data, conf, cache_dir, SMALL)
    undisturbed = everything(cache_dir)
    shutil.rmtree(cache_dir)
    replace = os.replace

    def dying_replace(source, target):
        if before and Path(target).name == name:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if Path(target).name == name:
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying_replace)
        assert in_child(extract, data, conf, cache_dir, SMALL) == -signal.SIGKILL
    first = next(cache_dir.glob("*/train/shards/000/000000.safetensors")).stat()
    extract(data, conf, cache_dir, SMALL)
    assert everything(cache_dir) == undisturbed
    after = next(cache_dir.glob("*/train/shards/000/000000.safetensors")).stat()
    assert after.st_mtime_ns == first.st_mtime_ns


@pytest.mark.slow
def test_killed_with_its_workers(data, tmp_path, tiny_wavlm):
    """No patches: the command with two processes dies when it has made two archives."""
    conf, cache_dir = {"upstreams": [tiny_wavlm]}, tmp_path / "feats"
    extract(data, conf, cache_dir, ExtractConf(shard_seconds=1e-3))
    undisturbed = everything(cache_dir)
    shutil.rmtree(cache_dir)
    command = [sys.executable, "-W", "ignore", "-m", "espnet_ensemble.bin.extract"]
    command += [
        "--data_dir",
        data,
        "--cache_dir",
        cache_dir,
        "--shard_seconds",
        "0.001",
    ]
    command += ["--frontend_conf", f'{{"upstreams": ["{tiny_wavlm}"]}}', "--nj", "2"]
    children = set()
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while (
            process.poll() is None and len(list(cache_dir.rglob("*.safetensors"))) < 2
        ):
            children.update(path.read_text().split())
            time.sleep(0.001)
        process.kill()
    assert len(children) >= 2
    deadline = time.monotonic() + 10
    while any(map(is_running, children)):
        assert time.monotonic() < deadline, f"still running: {children}"
        time.sleep(0.1)
    extract(data, conf, cache_dir, ExtractConf(shard_seconds=1e-3))
    assert everything(cache_dir) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("who", [["--nj", "1"], ["--nj", "2"]])
def test_interrupted(who, data, tmp_path, tiny_wavlm):
    """Ctrl-C, to the command and its processes, in the middle of the second archive."""
    soundfile.write(tmp_path / "x.wav", np.sin(np.arange(160000)) / 2, 16000)
    utt_ids = [f"x{number:03}" for number in range(400)]
    tables = {
        "utt2spk": dict.fromkeys(utt_ids, "alice"),
        "utt2num_samples": dict.fromkeys(utt_ids, "160000"),
        "wav.scp": dict.fromkeys(utt_ids, f"{tmp_path}/x.wav"),
    }
    write(data, tables)
    command = [sys.executable, "-W", "ignore", "-m", "espnet_ensemble.bin.extract"]
    command += ["--data_dir", data, "--cache_dir", tmp_path / "feats"]
    command += ["--shard_seconds", "100"]
    command += ["--frontend_conf", f'{{"upstreams": ["{tiny_wavlm}"]}}', *who]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        while not list(tmp_path.glob("feats/*/train/shards/000/*")):
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        started = time.monotonic()
        _, printed = process.communicate(timeout=60)
    assert process.returncode == 130 and time.monotonic() - started < 20
    assert "Traceback" not in printed
    *_, message, last = printed.splitlines()
    assert message.startswith(
        "interrupted: archives that are complete are kept; run it"
    )
    assert last == "extract: interrupted"
    assert not list(tmp_path.rglob("*.tmp"))


def is_running(pid):
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_killed_at_any_time(data, tmp_path, tiny_wavlm):
    """At 20 moments between the first file and the last one."""
    conf, options = {"upstreams": [tiny_wavlm]}, ExtractConf(shard_seconds=1e-3)
    extract(data, conf, tmp_path / "undisturbed", options)
    undisturbed = everything(tmp_path / "undisturbed")
    rng, killed, archives_left = np.random.default_rng(0), 0, set()
    while killed < 20:
        cache_dir = tmp_path / f"killed{killed}"
        process = fork(extract, data, conf, cache_dir, options)
        wait_for_archives(killed % 6, cache_dir, process)
        process.join(rng.uniform(0, 0.02))
        process.kill()
        process.join()
        # It may have been faster.
        killed += process.exitcode == -signal.SIGKILL
        archives_left.add(len(list(cache_dir.rglob("*.safetensors"))))
        extract(data, conf, cache_dir, options)
        assert everything(cache_dir) == undisturbed
        shutil.rmtree(cache_dir)
    assert len(archives_left) >= 3, archives_left


def wait_for_archives(number, cache_dir, process):
    """Wait until so many are complete, and something is there at all."""
    while process.is_alive() and (
        len(list(cache_dir.rglob("*.safetensors"))) < number or not cache_dir.exists()
    ):
        time.sleep(0.001)


def test_two_at_once(data, tmp_path, tiny_wavlm):
    conf, results = {"upstreams": [tiny_wavlm]}, []
    confs = [ExtractConf(shard_seconds=1e-3), ExtractConf(shard_seconds=0.6)]
    for number, options in enumerate(confs):
        assert in_child(extract, data, conf, tmp_path / str(number), options) == 0
        results.append(everything(tmp_path / str(number)))
    for number in range(5):
        cache_dir = tmp_path / f"both{number}"
        pair = [fork(extract, data, conf, cache_dir, options) for options in confs]
        for process in pair:
            process.join(60)
        assert [process.exitcode for process in pair] == [0, 0]
        found = everything(cache_dir)
        assert found in results


def test_other_shards_after_an_interruption(data, tmp_path, tiny_wavlm):
    conf, cache_dir = {"upstreams": [tiny_wavlm]}, tmp_path / "feats"
    extract(data, conf, cache_dir, ExtractConf(shard_seconds=0.8))
    undisturbed = everything(cache_dir)
    shutil.rmtree(cache_dir)
    extract(data, conf, cache_dir, ExtractConf(shard_seconds=0.6))
    (path,) = cache_dir.glob("*/train/cache.yaml")
    path.rename(f"{path}.part")
    extract(data, conf, cache_dir, ExtractConf(shard_seconds=0.8))
    assert everything(cache_dir) == undisturbed


def test_other_weights_get_a_folder_of_their_own(data, tmp_path, tiny_wavlm):
    model = shutil.copytree(tiny_wavlm, tmp_path / "model")
    conf, cache_dir = {"upstreams": [str(model)]}, tmp_path / "feats"
    first = extract(data, conf, cache_dir)

    from transformers import AutoModel

    changed = AutoModel.from_pretrained(model)
    with torch.no_grad():
        changed.encoder.layer_norm.bias[0] += 1
    changed.save_pretrained(model)
    assert extract(data, conf, cache_dir) != first
    assert len(list(cache_dir.glob("model-last-*"))) == 2


@pytest.mark.parametrize("name", ["cache.yaml", "cache.yaml.part"])
@pytest.mark.parametrize(
    "change,message",
    [
        ({"dtype": "bfloat16"}, "dtype: expected 'bfloat16', found 'float32'"),
        ({"fs": 8000}, "speech_fs: expected 8000, found 16000"),
    ],
)
def test_other_options_are_refused(name, change, message, data, tmp_path, tiny_wavlm):
    conf = {"upstreams": [tiny_wavlm]}
    extract(data, conf, tmp_path / "feats")
    (path,) = tmp_path.glob("feats/*/train/cache.yaml")
    path.rename(path.with_name(name))
    with pytest.raises(CacheError, match=f"{message}; remove {path.parent} to"):
        extract(data, {**conf, **change}, tmp_path / "feats")


def test_other_weights_in_the_same_folder_are_refused(data, tmp_path, tiny_wavlm):
    conf = {"upstreams": [tiny_wavlm]}
    extract(data, conf, tmp_path / "feats")
    (path,) = tmp_path.glob("feats/*/train/cache.yaml")
    path.write_text(re.sub("fingerprint: .*", "fingerprint: '00'", path.read_text()))
    with pytest.raises(CacheError, match="fingerprint: expected '.{64}', found '00'"):
        extract(data, conf, tmp_path / "feats")


@pytest.mark.parametrize(
    "name,key,value",
    [
        ("config.json", "hidden_act", "relu"),
        ("preprocessor_config.json", "do_normalize", False),
    ],
)
def test_other_features_of_the_same_weights_are_refused(
    name, key, value, data, tmp_path, tiny_wav2vec2
):
    model = shutil.copytree(tiny_wav2vec2, tmp_path / "model")
    conf = {"upstreams": [str(model)]}
    extract(data, conf, tmp_path / "feats")
    good = (model / name).read_text()
    (model / name).write_text(json.dumps({**json.loads(good), key: value}))
    with pytest.raises(CacheError, match="but the features differ by .* %: the config"):
        extract(data, conf, tmp_path / "feats")
    (path,) = tmp_path.glob("feats/*/train/cache.yaml")
    path.write_text(path.read_text().partition("probe:")[0])  # as version 0.1 wrote it
    extract(data, conf, tmp_path / "feats")


def test_changed_audio_is_refused(data, tmp_path, tiny_wavlm):
    conf, path = {"upstreams": [tiny_wavlm]}, tmp_path / "wav" / "d.wav"
    extract(data, conf, tmp_path / "feats")
    samples, fs = soundfile.read(path)
    os.utime(path, (1, 1))
    extract(data, conf, tmp_path / "feats")
    soundfile.write(path, samples[::-1], fs)
    with pytest.raises(CacheError, match=f"index: 'd': expected features of {path}"):
        extract(data, conf, tmp_path / "feats")
    path.unlink()
    with pytest.raises(CacheError, match=f"d: {path}: no such file"):
        extract(data, conf, tmp_path / "feats")


def test_audio_that_was_copied_is_read_once(
    data, tmp_path, tiny_wavlm, tiny_hubert, monkeypatch
):
    """For both members together, and not by the next run."""
    conf = {"upstreams": [tiny_wavlm, tiny_hubert]}
    path, read, reads = extract(data, conf, tmp_path / "feats"), [], 0
    read_file = identity.read_wav
    monkeypatch.setattr(
        identity, "read_wav", lambda path: read.append(path) or read_file(path)
    )
    for keys in ("abcdefg", "b", ""):
        for key in keys:
            os.utime(tmp_path / "wav" / f"{key}.wav", (len(keys), len(keys)))
        assert extract(data, conf, tmp_path / "feats") == path
        reads += len(keys)
        assert len(read) == reads
    assert verify(tmp_path / "feats") == 14


def test_audio_that_was_copied_during_an_interruption_is_read_once(
    data, tmp_path, tiny_wavlm, monkeypatch
):
    conf, read, read_file = {"upstreams": [tiny_wavlm]}, [], identity.read_wav
    extract(data, conf, tmp_path / "feats", SMALL)
    (info,) = tmp_path.glob("feats/*/train/cache.yaml")
    info.rename(f"{info}.part")
    monkeypatch.setattr(
        identity, "read_wav", lambda path: read.append(path) or read_file(path)
    )
    os.utime(tmp_path / "wav" / "b.wav", (1, 1))
    for _ in range(2):
        extract(data, conf, tmp_path / "feats", SMALL)
        assert len(read) == 1


def test_audio_that_changes_during_an_interruption_is_extracted_anew(
    data, tmp_path, tiny_wavlm
):
    conf, path = {"upstreams": [tiny_wavlm]}, tmp_path / "wav" / "d.wav"
    extract(data, conf, tmp_path / "feats", SMALL)
    (info,) = tmp_path.glob("feats/*/train/cache.yaml")
    info.rename(f"{info}.part")
    samples, fs = soundfile.read(path)
    soundfile.write(path, samples[::-1], fs)
    extract(data, conf, tmp_path / "feats", SMALL)
    extract(data, conf, tmp_path / "other", SMALL)
    assert everything(tmp_path / "feats") == everything(tmp_path / "other")


@pytest.mark.parametrize("of_before,of_now", [("abd", "abcd"), ("abcd", "abd")])
def test_other_utterances_are_refused(of_before, of_now, data, tmp_path, tiny_wavlm):
    conf, tables = {"upstreams": [tiny_wavlm]}, validate(data, need_text=False)
    for keys in (of_before, of_now):
        part = {name: {k: t[k] for k in keys} for name, t in tables.items()}
        if keys == of_now:
            break
        write(data, part)
        extract(data, conf, tmp_path / "feats")
    write(data, part)
    found = "no" if len(of_before) < len(of_now) else "also"
    with pytest.raises(
        CacheError, match=f"utterances of {data}, found {found} 'c'; rem"
    ):
        extract(data, conf, tmp_path / "feats")


def break_audio(path, how):
    if how == "nan":
        samples = np.full(7999, np.nan, np.float32)
        soundfile.write(path, samples, 16000, subtype="FLOAT")
    elif how == "rate":
        soundfile.write(path, np.zeros(7999), 8000)
    elif how == "length":
        soundfile.write(path, np.zeros(7998), 16000)
    elif how == "cut off":
        path.write_bytes(path.read_bytes()[:-100])
    elif how == "missing":
        path.unlink()


@pytest.mark.parametrize(
    "how,message",
    [
        ("nan", "found NaN"),
        ("rate", "7999 samples .* at 16000 Hz .*, found 7999 at 8000 Hz"),
        ("length", "expected 7999 samples .*, found 7998"),
        ("cut off", "cut off"),
        ("missing", "no such file"),
    ],
)
def test_bad_audio_is_named_and_the_rest_kept(how, message, data, tmp_path, tiny_wavlm):
    conf, path = {"upstreams": [tiny_wavlm]}, tmp_path / "wav" / "d.wav"
    good = path.read_bytes()
    break_audio(path, how)
    with pytest.raises(CacheError, match=f"^d: {path}: .*{message}"):
        extract(data, conf, tmp_path / "feats", SMALL)
    (kept,) = tmp_path.glob("feats/*/train/shards/000/000000.safetensors")
    mtime = kept.stat().st_mtime_ns
    assert not list(tmp_path.glob("feats/*/train/index"))
    path.write_bytes(good)
    extract(data, conf, tmp_path / "feats", SMALL)
    assert kept.stat().st_mtime_ns == mtime


@pytest.mark.parametrize("how", ["nan", "cut off", "missing"])
def test_bad_audio_is_skipped_on_request(how, data, tmp_path, tiny_wavlm):
    conf, path = {"upstreams": [tiny_wavlm]}, tmp_path / "wav" / "d.wav"
    good, skip = path.read_bytes(), dataclasses.replace(SMALL, skip=True)
    break_audio(path, how)
    for _ in range(2):
        extract(data, conf, tmp_path / "feats", skip)
        (member,) = tmp_path.glob("feats/*/train")
        skipped = read_table(member / "skipped")
        assert list(skipped) == ["d"] and skipped["d"].startswith(f"{path}: ")
        assert list(Index(member)) == list("abcefg")
    kept = {p: p.stat().st_mtime_ns for p in member.glob("shards/000/00000[023].*")}
    with pytest.raises(CacheError, match=f"^d: {path}: "):
        extract(data, conf, tmp_path / "feats", SMALL)
    path.write_bytes(good)
    extract(data, conf, tmp_path / "feats", SMALL)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    extract(data, conf, tmp_path / "good", SMALL)
    found = everything(tmp_path / "feats")
    assert found == everything(tmp_path / "good")


def test_archives_that_are_not_whole_are_made_anew(data, tmp_path, tiny_wavlm):
    conf = {"upstreams": [tiny_wavlm]}
    extract(data, conf, tmp_path / "feats", SMALL)
    undisturbed = everything(tmp_path / "feats")
    (shards,) = tmp_path.glob("feats/*/train/shards/000")
    first, second, third, fourth = sorted(shards.iterdir())
    kept = {first: first.stat().st_mtime_ns}
    second.write_bytes(second.read_bytes()[:-1])
    third.unlink()
    fourth.write_bytes(b"")
    extract(data, conf, tmp_path / "feats", SMALL)
    assert everything(tmp_path / "feats") == undisturbed
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def swap(path):
    places = np.load(path)
    places[[1, 3]] = places[[3, 1]]
    np.save(path, places)


@pytest.mark.parametrize(
    "name,damage",
    [
        ("index/places.npy", cut),
        ("index/places.npy", swap),
        ("index/places.npy", Path.unlink),
        ("index/digests.npy", cut),
        ("index/states.npy", cut),
        ("index/crc32.json", lambda path: path.write_text("{}")),
        ("index", shutil.rmtree),
        ("shards/000/000001.safetensors", cut),
        ("shards/000/000001.safetensors", lambda path: path.write_bytes(b"\xff")),
        ("shards/000/000001.safetensors", lambda path: path.write_text("")),
    ],
)
def test_what_is_damaged_is_named_and_mended(
    name, damage, data, tmp_path, tiny_wavlm, caplog
):
    conf = {"upstreams": [tiny_wavlm]}
    extract(data, conf, tmp_path / "feats", SMALL)
    undisturbed = everything(tmp_path / "feats")
    (member,) = tmp_path.glob("feats/*/train")
    kept = {path: path.stat().st_mtime_ns for path in member.glob("shards/*/000000.*")}
    damage(member / name)
    with pytest.raises(CacheError, match=f"{name}(.|\n)*the next extraction"):
        verify(tmp_path / "feats")
    extract(data, conf, tmp_path / "feats", SMALL)
    assert any(name in line and "mended" in line for line in caplog.messages)
    assert everything(tmp_path / "feats") == undisturbed
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    assert verify(tmp_path / "feats") == 7


def test_damaged_archive_of_a_member_that_was_interrupted(
    data, tmp_path, tiny_wavlm, caplog
):
    conf = {"upstreams": [tiny_wavlm]}
    extract(data, conf, tmp_path / "feats", SMALL)
    undisturbed = everything(tmp_path / "feats")
    (info,) = tmp_path.glob("feats/*/train/cache.yaml")
    info.rename(f"{info}.part")
    cut(info.parent / "shards" / "000" / "000001.safetensors")
    extract(data, conf, tmp_path / "feats", SMALL)
    assert any("000001" in line and "mended" in line for line in caplog.messages)
    assert everything(tmp_path / "feats") == undisturbed


def test_damage_is_no_reason_to_take_other_data(data, tmp_path, tiny_wavlm):
    conf = {"upstreams": [tiny_wavlm]}
    extract(data, conf, tmp_path / "feats")
    (path,) = tmp_path.glob("feats/*/train/index/ids.npy")
    cut(path)
    tables = validate(data, need_text=False)
    write(data, {name: {k: t[k] for k in "abd"} for name, t in tables.items()})
    with pytest.raises(CacheError, match=f"utterances of {data}, found also 'c' and"):
        extract(data, conf, tmp_path / "feats")


def test_complete_cache_is_used_where_nothing_can_be_written(
    data, tmp_path, tiny_wavlm
):
    conf, cache_dir = {"upstreams": [tiny_wavlm]}, tmp_path / "feats"
    path = extract(data, conf, cache_dir)
    # As by version 0.1, which wrote no data_dir.
    path.write_text(path.read_text().partition("data_dir")[0])
    before = everything(cache_dir)
    for file in [cache_dir, *cache_dir.rglob("*")]:
        file.chmod(0o555 if file.is_dir() else 0o444)

    def without_writing():
        # A root without capabilities obeys permissions.
        assert (
            ctypes.CDLL(None).capset(struct.pack("Ii", 0x20080522, 0), bytes(24)) == 0
        )
        with pytest.raises(PermissionError):
            (cache_dir / "x").touch()
        assert extract(data, conf, cache_dir) == path
        assert FeatureCache(path)["f"].shape == (49, 32)
        with pytest.raises(PermissionError, match="combinations"):
            extract(data, {"upstreams": [tiny_wavlm] * 2}, cache_dir)

    assert in_child(without_writing) == 0
    assert everything(cache_dir) == before


def test_archive_that_cannot_be_written_is_named(data, tmp_path, tiny_wavlm):
    """A process that may write 30 kB per file, where 57 are needed."""
    conf = {"upstreams": [{"name": tiny_wavlm, "layer": "weighted_sum"}]}

    def with_small_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))
        with pytest.raises(CacheError, match="/000000.safetensors: .*File too large"):
            extract(data, conf, tmp_path / "feats", ExtractConf(storage="float32"))

    assert in_child(with_small_files) == 0


def mount(folder, options, flags=0):
    """Mount a file system in memory; whether it could be."""
    libc, folder = ctypes.CDLL(None), str(folder).encode()
    return libc.mount(b"tmpfs", folder, b"tmpfs", flags, options.encode()) == 0


@pytest.mark.slow
def test_full_disk(data, tmp_path, tiny_wavlm):
    """Whatever is the first that does not fit, the rest stays, and it goes on with room."""
    conf, disk = {"upstreams": [tiny_wavlm]}, tmp_path / "disk"
    extract(data, conf, tmp_path / "good" / "feats", SMALL)
    expected = everything(tmp_path / "good" / "feats")
    disk.mkdir()

    def on_full_disk():
        libc, private = ctypes.CDLL(None), 1 << 18 | 1 << 14
        if libc.unshare(0x20000) or libc.mount(b"none", b"/", None, private, None):
            os._exit(77)  # only a root may
        left, failed = set(), 0
        for pages in range(2, 20, 2):
            if not mount(disk, f"size={4 * pages}k"):
                os._exit(77)
            try:
                extract(data, conf, disk / "feats", SMALL)
            except (CacheError, OSError) as error:
                assert "No space left on device" in str(error)
                assert "cache.yaml" not in [p.name for p in disk.rglob("*")]
                failed += 1
            kept = {
                p: p.stat().st_mtime_ns
                for p in disk.glob("feats/*/train/shards/000/0*")
            }
            left.add(len(kept))
            assert mount(disk, "size=4m", flags=32)  # the same one, with more room
            extract(data, conf, disk / "feats", SMALL)
            assert everything(disk / "feats") == expected
            assert kept == {p: p.stat().st_mtime_ns for p in kept}
            assert verify(disk / "feats") == 7
            assert libc.umount(str(disk).encode()) == 0
        assert failed >= 4 and len(left) >= 3, (failed, left)

    status = in_child(on_full_disk)
    if status == 77:
        pytest.skip("needs to mount a small file system")
    assert status == 0


@pytest.mark.parametrize(
    "conf,message",
    [
        ({}, "missing key 'upstreams'"),
        ({"upstreams": "wavlm"}, "upstreams: expected a list of at least one"),
        ({"upstreams": ["x"], "fussion": "sum"}, "unknown key 'fussion'; expected"),
        ({"upstreams": ["x"], "frozen": False}, "frozen: expected true"),
        ({"upstreams": ["x"]}, "unknown upstream 'x'"),
    ],
)
def test_bad_frontend_conf(conf, message, data, tmp_path):
    with pytest.raises(ValueError, match=message):
        extract(data, conf, tmp_path / "feats")
    assert not (tmp_path / "feats").exists()


@pytest.mark.parametrize(
    "options,message",
    [
        ({"shard_seconds": 0}, "shard_seconds: expected a number above 0, found 0"),
        ({"batch_seconds": -1.0}, "batch_seconds: expected a number above 0, found -1"),
        ({"storage": "int4"}, "storage: expected float32, .*, found 'int4'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(CacheError, match=message):
        ExtractConf(**options)


def test_not_a_data_directory(tmp_path, tiny_wavlm):
    with pytest.raises(DataError, match="expected a data directory"):
        extract(tmp_path / "none", {"upstreams": [tiny_wavlm]}, tmp_path / "feats")


# Each layer of an upstream as a member of its own.


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_layers_of_one_pass_are_those_of_a_pass_for_each(
    storage, data, tmp_path, tiny_wavlm
):
    conf = ExtractConf(storage, shard_seconds=0.8)
    upstream = {"name": tiny_wavlm, "layer": "weighted_sum"}
    one_pass = dataclasses.replace(conf, layers="all")
    extract(data, {"upstreams": [tiny_wavlm]}, tmp_path / "feats", one_pass)
    names = {path.parent.name for path in tmp_path.glob("feats/*/train")}
    for layer in (0, 1, 2, "last"):
        single = {"upstreams": [{**upstream, "layer": layer}]}
        expected = extract(data, single, tmp_path / f"{layer}", conf)
        members = everything(expected.parents[3])
        assert members
        for name, content in members.items():
            if "shards" in name or name.endswith("cache.yaml"):
                found = (tmp_path / "feats" / name).read_bytes()
                assert found == content, name
        names -= {path.parent.name for path in tmp_path.glob(f"{layer}/*/train")}
    assert not names


def test_layers_are_what_weighted_sum_trains_from(
    data, tmp_path, tiny_wavlm, tiny_hubert
):
    conf = {"upstreams": [{"name": tiny_wavlm, "layer": "weighted_sum"}, tiny_hubert]}
    whole = FeatureCache(extract(data, conf, tmp_path / "whole", SMALL))
    layers = dataclasses.replace(SMALL, layers="all")
    extract(data, {"upstreams": conf["upstreams"][:1]}, tmp_path / "feats", layers)
    path = extract(data, conf, tmp_path / "feats", SMALL)
    assert len(FeatureCache(path).members) == 5
    assert not list(tmp_path.glob("feats/*-weighted_sum-*"))
    assert path.relative_to(tmp_path / "feats") in {
        p.relative_to(tmp_path / "whole")
        for p in tmp_path.glob("whole/**/members.yaml")
    }
    for key, feats in FeatureCache(path).items():
        assert np.allclose(feats, whole[key], atol=1e-5)


def test_only_the_layers_that_are_missing_are_made(
    data, tmp_path, tiny_wavlm, monkeypatch
):
    from espnet_ensemble.ensemble import Ensemble

    conf, cache_dir = {"upstreams": [tiny_wavlm]}, tmp_path / "feats"
    first = dataclasses.replace(SMALL, layers=[1, 0])
    extract(data, conf, cache_dir, first)
    before = {path: path.stat().st_mtime_ns for path in cache_dir.glob("*/train/*")}
    sizes, run = set(), Ensemble.extract

    def spy(self, speech, lengths):
        sizes.add(self.upstreams[0].layers)
        return run(self, speech, lengths)

    monkeypatch.setattr(Ensemble, "extract", spy)
    every = dataclasses.replace(SMALL, layers="all")
    path = extract(data, conf, cache_dir, every)
    assert sizes == {(2, 3)}
    assert before == {path: path.stat().st_mtime_ns for path in before}
    shutil.rmtree(next(cache_dir.glob("*-1-*/train")) / "shards")
    sizes.clear()
    assert extract(data, conf, cache_dir, every) == path
    assert sizes == {(1,)}


def test_a_layer_that_cannot_be_stored_is_left_out_of_all(
    data, tmp_path, tiny_wavlm, monkeypatch
):
    from espnet_ensemble.ensemble import Ensemble

    run = Ensemble.extract

    def overflow(self, speech, lengths):
        hidden_states, feats_lens = run(self, speech, lengths)
        hidden_states[0][-1][lengths == 8000] = 1e6
        return hidden_states, feats_lens

    monkeypatch.setattr(Ensemble, "extract", overflow)
    conf = ExtractConf("float16", layers="all", skip=True)
    path = extract(data, {"upstreams": [tiny_wavlm]}, tmp_path / "feats", conf)
    assert set(FeatureCache(path)) == set("acdefg")
    assert verify(tmp_path / "feats") == 6 * 4
    for folder in tmp_path.glob("feats/*/train"):
        assert "up to 65504" in read_table(folder / "skipped")["b"]


def test_layers_that_are_no_layers_are_refused(data, tmp_path, tiny_wavlm):
    with pytest.raises(CacheError, match="expected all or indices, found 'last'"):
        ExtractConf(layers="last")
    conf = ExtractConf(layers=[7])
    with pytest.raises(ValueError, match="7 is out of range"):
        extract(data, {"upstreams": [tiny_wavlm]}, tmp_path / "feats", conf)
