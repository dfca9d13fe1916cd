import json
import logging
import shutil

import numpy as np
import pytest
import soundfile
import yaml

from espnet_ensemble.bin import extract
from espnet_ensemble.data.datadir import write
from espnet_ensemble.feature_cache.dataset import FeatureCache


@pytest.fixture
def options(tmp_path):
    """A data directory of two utterances, and where to keep their features."""
    tables = {"utt2spk": {}, "wav.scp": {}, "utt2num_samples": {}}
    for key, num_samples in (("a", 4000), ("b", 3000)):
        path = tmp_path / f"{key}.wav"
        soundfile.write(path, np.sin(np.arange(num_samples)) / 2, 16000)
        values = ("alice", str(path), str(num_samples))
        for table, value in zip(tables.values(), values, strict=True):
            table[key] = value
    write(tmp_path / "train", tables)
    options = ["--data_dir", f"{tmp_path}/train", "--cache_dir", f"{tmp_path}/feats"]
    return [*options, "--nj", "1", "--frontend_conf"]


def test_prints_what_training_reads(options, tmp_path, tiny_wavlm, capsys):
    frontend_conf = {"upstreams": [tiny_wavlm], "fusion": "concat", "fs": "16k"}
    files = {
        "train.yaml": {"frontend": "ensemble", "frontend_conf": frontend_conf},
        "conf.yaml": frontend_conf,
    }
    values = [json.dumps(frontend_conf)]
    for name, content in files.items():
        (tmp_path / name).write_text(yaml.safe_dump(content))
        values.append(f"{tmp_path}/{name}")
    printed = set()
    for value in values:
        extract.main([*options, value])
        printed.add(capsys.readouterr().out.splitlines()[-1])
    (path,) = printed
    feats = FeatureCache(path)
    assert {key: x.shape for key, x in feats.items()} == {"a": (12, 32), "b": (9, 32)}


def test_prints_a_line_for_each_data_directory(options, tmp_path, tiny_wavlm, capsys):
    shutil.copytree(tmp_path / "train", tmp_path / "dev")
    options.insert(options.index("--cache_dir"), f"{tmp_path}/dev")
    extract.main([*options, json.dumps({"upstreams": [tiny_wavlm]})])
    train, dev = capsys.readouterr().out.splitlines()
    assert train.endswith("/train/members.yaml") and list(FeatureCache(train)) == [
        "a",
        "b",
    ]
    assert dev.endswith("/dev/members.yaml") and list(FeatureCache(dev)) == ["a", "b"]


@pytest.mark.parametrize(
    "value,message",
    [
        ("none.yaml", "none.yaml: expected a file, found No such file"),
        ('{"fusion": "sum"}', "expected frontend_conf with upstreams, found none"),
        ("{", "--frontend_conf {: while parsing"),
        ('{"upstreams": ["nothing"]}', "unknown upstream 'nothing'"),
    ],
)
def test_bad_frontend_conf(value, message, options, capsys):
    with pytest.raises(SystemExit, match="1"):
        extract.main([*options, value])
    error = capsys.readouterr().err
    assert error.startswith("extract: ") and message in error


def test_bad_audio(options, tmp_path, tiny_wavlm, capsys):
    (tmp_path / "b.wav").write_text("nothing to hear")
    with pytest.raises(SystemExit, match="1"):
        extract.main([*options, json.dumps({"upstreams": [tiny_wavlm]})])
    assert f"extract: b: {tmp_path}/b.wav: not an audio" in capsys.readouterr().err


def test_skip_and_verify(options, tmp_path, tiny_wavlm, capsys, monkeypatch):
    # As in a process of its own: pytest's handlers are in the way of the command's.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    (tmp_path / "b.wav").write_text("nothing to hear")
    conf = json.dumps({"upstreams": [tiny_wavlm]})
    extract.main([*options, conf, "--on_error", "skip", "--storage", "int8"])
    printed = capsys.readouterr()
    assert set(FeatureCache(printed.out.splitlines()[-1])) == {"a"}
    (member,) = tmp_path.glob("feats/*-int8/train")
    message = f"1 of 2 utterances skipped: see {member}/skipped"
    assert message in printed.err
    verify = ["--verify", "--cache_dir", f"{tmp_path}/feats"]
    extract.main(verify)
    assert "feats: 1 records are as written" in capsys.readouterr().out
    (path,) = member.glob("shards/*/*.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SystemExit, match="1"):
        extract.main(verify)
    assert f"extract: {path}: expected an archive" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["data_dir", "frontend_conf"])
def test_what_extraction_needs(option, options, capsys):
    args = dict(zip(options[::2], [*options[1::2], "{}"], strict=True))
    del args[f"--{option}"]
    with pytest.raises(SystemExit, match="2"):
        extract.main([word for pair in args.items() for word in pair])
    assert f"--{option} is required" in capsys.readouterr().err
