import os
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from cache_runs import FEATURES

from espnet_ensemble.data.audio import AudioError
from espnet_ensemble.data.datadir import validate, write
from espnet_ensemble.data.tables import DataError
from espnet_ensemble.feature_cache.identity import (
    AudioStates,
    DataSet,
    FeatureIdentity,
    read_wav,
)
from espnet_ensemble.frontend_conf import FrontendConf


@pytest.fixture
def wav(tmp_path):
    samples = np.random.default_rng(0).integers(-9999, 9999, 800).astype(np.int16)
    soundfile.write(tmp_path / "x.wav", samples, 16000)
    return tmp_path / "x.wav"


def test_read_wav(wav):
    found = read_wav(wav)
    expected, _ = soundfile.read(wav, dtype="float32")
    assert found.fs == 16000 and found.identity.file.num_bytes == wav.stat().st_size
    assert found.samples.dtype == np.float32
    assert np.array_equal(found.samples, expected)


def states(path):
    """What is known of it now: nothing, yet."""
    return AudioStates({"a": str(path)})


def test_touched_and_converted_audio_is_the_same(wav, tmp_path):
    read = read_wav(wav)
    os.utime(wav, (1, 1))
    assert states(wav).has("a", read.identity)
    soundfile.write(tmp_path / "x.flac", read.samples, read.fs)
    assert states(tmp_path / "x.flac").has("a", read.identity)


def test_other_samples_or_rate_are_not_the_same(wav):
    read = read_wav(wav)
    soundfile.write(wav, read.samples, 8000)
    assert not states(wav).has("a", read.identity)
    read.samples[400] += 1 / 32768
    soundfile.write(wav, read.samples, read.fs)
    os.utime(wav, (1, 1))
    assert not states(wav).has("a", read.identity)


def test_a_file_of_the_same_size_and_time_is_not_read(wav):
    identity = read_wav(wav).identity
    wav.write_bytes(bytes(identity.file.num_bytes))
    os.utime(wav, ns=(identity.file.mtime_ns, identity.file.mtime_ns))
    assert states(wav).has("a", identity)


def test_missing_file(wav):
    identity = read_wav(wav).identity
    wav.unlink()
    assert states(wav).states.tolist() == [(0, -1)]
    with pytest.raises(AudioError, match="no such file"):
        states(wav).has("a", identity)


def test_states_are_sorted_and_looked_at_once(wav, tmp_path):
    (tmp_path / "y.wav").write_bytes(b"12345")
    os.utime(tmp_path / "y.wav", ns=(6, 7))
    known = AudioStates({"é": str(wav), "z": str(tmp_path / "y.wav")})
    assert known.ids.tolist() == [b"z", "é".encode()]
    assert known.states.tolist()[0] == (5, 7)
    (tmp_path / "y.wav").unlink()
    assert known.states.tolist()[0] == (5, 7)


@pytest.mark.parametrize(
    "upstream,layer,expected",
    [
        ("microsoft/wavlm-base", "last", "wavlm-base-last-01234567"),
        ("/models/my hubert/", 6, "my_hubert-6-01234567"),
        ("wavlm_base", [6, 7, 8], "wavlm_base-6_7_8-01234567"),
    ],
)
def test_tag(upstream, layer, expected):
    layers = layer if isinstance(layer, list) else [12]
    features = replace(FEATURES, upstream=upstream, layer=layer, layers=layers)
    assert features.tag == expected


def test_names_do_not_make_other_features():
    renamed = replace(FEATURES, upstream="/m/wavlm-base", layer=12)
    assert renamed == FEATURES and FEATURES.difference(renamed) is None


@pytest.mark.parametrize(
    "key,value",
    [("fingerprint", "01234567"), ("dtype", "bfloat16"), ("hop_length", 640)],
)
def test_difference_is_named(key, value):
    other = replace(FEATURES, **{key: value})
    expected = f"{key}: expected {getattr(FEATURES, key)!r}, found {value!r}"
    assert other != FEATURES and FEATURES.difference(other) == expected


def test_other_features_of_the_same_weights_are_a_difference():
    ours, theirs = (replace(FEATURES, probe=[x] * 16) for x in (1.0, 1.1))
    assert ours.difference(replace(FEATURES, probe=[1.001] * 16)) is None
    assert ours.difference(FEATURES) is None and FEATURES.difference(ours) is None
    message = ours.difference(theirs)
    assert message.startswith(
        "the weights are the same, but the features differ by 10 %"
    )


def test_features_of_an_upstream(tiny_wavlm):
    upstream = {"name": tiny_wavlm, "layer": [1, -1]}
    conf = FrontendConf.parse({"upstreams": [upstream], "fs": 8000})
    features, parts = FeatureIdentity.load(conf)
    assert features.layers == [1, 3] and features.feature_size == 64
    assert (features.speech_fs, features.fs) == (8000, 16000)
    assert features == FeatureIdentity.load(conf.absolute())[0]
    assert [part.layers for part in parts] == [[1], [3]]
    for part in parts:
        alone = FrontendConf.parse(
            {"upstreams": [{**upstream, "layer": part.layers[0]}], "fs": 8000}
        )
        expected, _ = FeatureIdentity.load(alone)
        assert part == expected and part.tag == expected.tag
        assert part.probe == pytest.approx(expected.probe, rel=1e-3)


def test_data_set(data):
    data_set = DataSet.read(data)
    assert data_set.name == "train"
    assert data_set.num_samples["f"] == 16000
    assert soundfile.info(data_set.paths["f"]).frames == 16000


def test_name_of_a_data_set(data, tmp_path, monkeypatch):
    (data / "sub").mkdir()
    assert DataSet.read(data / "sub" / "..").name == "train"
    (tmp_path / "link").symlink_to(data)
    assert DataSet.read(tmp_path / "link").name == "link"
    monkeypatch.chdir(data)
    assert DataSet.read(".").name == "train"
    with pytest.raises(DataError, match="/: expected a folder with a name"):
        DataSet.read("/")


@pytest.mark.parametrize(
    "name,table,message",
    [
        ("utt2num_samples", None, "utt2num_samples: expected this file, found none"),
        ("wav.scp", {key: "cat x |" for key in "abcdefg"}, "found a command: 'a'"),
        ("segments", {key: f"{key} 0 -1" for key in "abcdefg"}, "found segments"),
    ],
)
def test_data_set_that_is_not_files(data, name, table, message):
    tables = validate(data, need_text=False)
    tables.pop(name, None)
    if table:
        tables[name] = table
    write(data, tables)
    with pytest.raises(DataError, match=message):
        DataSet.read(data)
