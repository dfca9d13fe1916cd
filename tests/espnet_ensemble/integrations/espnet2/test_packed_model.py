"""Hostile and damaged models are refused, and nothing of them runs."""

import contextlib
import functools
import io
import os
import pickle
import random
import time
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from espnet2.main_funcs.pack_funcs import unpack

import espnet_ensemble  # noqa: F401
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.integrations.espnet2 import packed_model
from espnet_ensemble.integrations.espnet2.manifest import Manifest, PackedUpstream
from espnet_ensemble.integrations.espnet2.packed_model import (
    check_unpacked_model,
    read_weights,
)
from espnet_ensemble.integrations.espnet2.unpacking import fetch_model, unpack_model

CONFIG = "exp/asr/config.yaml"
WEIGHTS = "exp/asr/valid.pth"
BUNDLED = PackedUpstream("upstreams/wavlm", bundled=True)


class Canary:
    """A pickle that leaves a file where it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@functools.cache
def weights() -> bytes:
    buffer = io.BytesIO()
    torch.save({"ctc.weight": torch.zeros(2)}, buffer)
    return buffer.getvalue()


def good() -> dict[str, bytes]:
    """The files of a packed model: what pack writes, as small as can be."""
    return dict(_good())


@functools.cache
def _good() -> dict[str, bytes]:
    meta = {
        "files": {"asr_model_file": WEIGHTS},
        "yaml_files": {"asr_train_config": CONFIG},
        "torch": "2.12.1",
    }
    config = {
        "frontend": "ensemble",
        "frontend_conf": {"upstreams": ["upstreams/wavlm"]},
        "encoder": "identity",
        "token_list": ["<blank>", "a"],
    }
    return {
        "meta.yaml": yaml.safe_dump(meta).encode(),
        CONFIG: yaml.safe_dump(config).encode(),
        WEIGHTS: weights(),
        "ensemble.yaml": yaml.safe_dump(Manifest(16000, (BUNDLED,)).to_dict()).encode(),
        "upstreams/wavlm/config.json": b"{}",
    }


def write(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr("upstreams/wavlm/", b"")
    return path


def change(name: str, **values) -> dict[str, bytes]:
    """The files with other values in one of the YAML files."""
    files = good()
    content = {**yaml.safe_load(files[name]), **values}
    return {**files, name: yaml.safe_dump(content).encode()}


def refuses(files: dict[str, bytes], message: str, tmp_path: Path) -> None:
    """Whoever unpacks it: ESPnet, and this package."""
    path = write(tmp_path / "model.zip", files)
    for attempt in (
        lambda: unpack(path, tmp_path / "a"),
        lambda: unpack_model(path, tmp_path / "b"),
    ):
        with pytest.raises(EnsembleError, match=message):
            attempt()
    assert not (tmp_path / "a" / "meta.yaml").exists()
    assert not list(tmp_path.glob("b/*/.unpacked"))


def test_a_good_one_is_unpacked_once(tmp_path):
    path = write(tmp_path / "model.zip", good())
    files = fetch_model(str(path), tmp_path / "models")
    assert sorted(files) == ["asr_model_file", "asr_train_config"]
    config = yaml.safe_load(Path(files["asr_train_config"]).read_text())
    (upstream,) = config["frontend_conf"]["upstreams"]
    assert Path(upstream, "config.json").is_file()
    before = os.stat(files["asr_model_file"])
    assert fetch_model(str(path), tmp_path / "models") == files
    assert os.stat(files["asr_model_file"]) == before


def test_another_archive_of_the_same_name_is_another_model(tmp_path):
    first = unpack_model(write(tmp_path / "model.zip", good()), tmp_path / "models")
    changed = change(CONFIG, token_list=["<blank>", "b"])
    second = unpack_model(write(tmp_path / "model.zip", changed), tmp_path / "models")
    assert first != second
    assert yaml.safe_load((second / CONFIG).read_text())["token_list"][1] == "b"


def test_what_was_unpacked_half_is_unpacked_again(tmp_path):
    path = write(tmp_path / "model.zip", good())
    folder = unpack_model(path, tmp_path / "models")
    (folder / ".unpacked").unlink()
    (folder / WEIGHTS).write_bytes(b"half")
    assert unpack_model(path, tmp_path / "models") == folder
    assert (folder / WEIGHTS).read_bytes() == weights()


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.mkdir [{canary}]",
        "!!python/name:os.system",
        "!!python/module:antigravity",
        "!custom x",
    ],
)
def test_tags_in_yaml(tag, tmp_path):
    canary = tmp_path / "canary"
    for name in ("meta.yaml", CONFIG, "ensemble.yaml"):
        text = good()[name] + f"\nmore: {tag.format(canary=canary)}\n".encode()
        message = "could not determine a constructor"
        refuses({**good(), name: text}, message, tmp_path)
    assert not canary.exists()


def test_references_to_references(tmp_path):
    levels = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"l{i}: &l{i} [{', '.join(9 * [f'*l{i - 1}'])}]" for i in range(1, 12)]
    bomb = good()[CONFIG] + ("\n" + "\n".join(levels) + "\n").encode()
    refuses({**good(), CONFIG: bomb}, "references to references", tmp_path)
    itself = good()[CONFIG] + b"\na: &a [*a]\n"
    refuses({**good(), CONFIG: itself}, "references to references", tmp_path)


@pytest.mark.parametrize("text", [b"[" * 100_000, b"a: " * 50_000, b"- " * 100_000])
def test_yaml_as_deep_as_a_well(text, tmp_path):
    refuses({**good(), CONFIG: text}, "expected ", tmp_path)


def test_a_configuration_that_is_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(packed_model, "MAX_TEXT", 1000)
    long = good()[CONFIG] + b"#" * 1000
    refuses({**good(), CONFIG: long}, "expected YAML, found 1... bytes", tmp_path)


def test_weights_that_are_more_than_weights(tmp_path):
    canary = tmp_path / "canary"
    buffer = io.BytesIO()
    torch.save({"a": Canary(canary)}, buffer)
    for content in (buffer.getvalue(), pickle.dumps(Canary(canary))):
        files = {**good(), WEIGHTS: content}
        refuses(files, "refused: expected weights alone", tmp_path)
    assert not canary.exists()


@pytest.mark.parametrize("content", [b"", b"weights", pickle.dumps(["a"])])
def test_weights_that_are_none(content, tmp_path):
    refuses({**good(), WEIGHTS: content}, "expected weights alone", tmp_path)


def test_weights_that_get_larger_when_they_are_read(tmp_path):
    """A bomb inside of what is not compressed itself."""
    path = tmp_path / "bomb.pth"
    torch.save({"a": torch.zeros(1_000_000)}, path)
    with (
        zipfile.ZipFile(path) as stored,
        zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for info in stored.infolist():
            packed.writestr(info.filename, stored.read(info))
    with pytest.raises(EnsembleError, match="bytes, compressed"):
        read_weights(tmp_path / "b.pth")
    assert list(read_weights(path)) == ["a"]


def test_meta_yaml_that_names_what_is_not_there(tmp_path):
    for option, name in (
        ("files", "asr_model_file"),
        ("yaml_files", "asr_train_config"),
    ):
        for path in ("/etc/passwd", "../model.pth", "gone"):
            files = change("meta.yaml", **{option: {name: path}})
            refuses(files, f"{path!r} is not in the archive|expected asr_", tmp_path)


def test_meta_yaml_in_a_folder_before_the_real_one(tmp_path):
    """ESPnet would read that one."""
    other = {"a/meta.yaml": good()["meta.yaml"]}
    refuses({**other, **good()}, "expected meta.yaml", tmp_path)


def test_a_missing_upstream_says_what_to_do(tmp_path):
    files = good()
    del files["upstreams/wavlm/config.json"]
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    message = "'upstreams/wavlm' is not in the archive; pack the model again"
    with pytest.raises(EnsembleError, match=message):
        unpack(path, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_a_later_format_says_which_version_reads_it(tmp_path):
    files = change("ensemble.yaml", format=7, versions={"espnet-ensemble": "3.0"})
    refuses(files, r"written by espnet-ensemble 3\.0; install that one", tmp_path)


def test_a_configuration_that_names_code(tmp_path):
    refuses(change(CONFIG, encoder="whisper"), "encoder: expected one of", tmp_path)
    conf = {"upstreams": [{"name": "a/b", "trust_remote_code": True}]}
    refuses(
        change(CONFIG, frontend_conf=conf), "trust_remote_code: runs code", tmp_path
    )


def test_models_that_are_none_of_the_asr_task(tmp_path):
    """ESPnet may unpack them; this package has no use for them."""
    files = change("meta.yaml", yaml_files={"tts_config": CONFIG}, files={})
    del files["ensemble.yaml"]
    files[CONFIG] = b"tts: vits\nencoder: os.system\n"
    path = write(tmp_path / "model.zip", files)
    assert unpack(path, tmp_path / "there")["tts_config"]
    with pytest.raises(EnsembleError, match="expected asr_train_config, asr_model_fi"):
        unpack_model(path, tmp_path / "models")


def test_a_snapshot_of_the_hub_is_checked_likewise(tmp_path):
    folder = tmp_path / "snapshot"
    with zipfile.ZipFile(write(tmp_path / "model.zip", good())) as archive:
        archive.extractall(folder)
    check_unpacked_model(folder)
    (folder / CONFIG).write_bytes(change(CONFIG, encoder="whisper")[CONFIG])
    with pytest.raises(EnsembleError, match="encoder: expected one of"):
        check_unpacked_model(folder)
    (folder / CONFIG).write_bytes(good()[CONFIG])
    torch.save({"a": Canary(tmp_path / "canary")}, folder / WEIGHTS)
    with pytest.raises(EnsembleError, match="expected weights alone"):
        check_unpacked_model(folder)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("tag", ["no/such.zip", "nobody/nothing", "nothing"])
def test_a_model_that_is_nowhere(tag, tmp_path):
    with pytest.raises(EnsembleError, match=f"{tag}: expected an archive, or a model"):
        fetch_model(tag, tmp_path)


# What a mutation puts in, besides random bytes.
PIECES = (
    b"../",
    b"/etc/passwd",
    b"!!python/object/apply:os.mkdir [canary]\n",
    b"&a [*a]\n",
    b"cos\nmkdir\n(S'canary'\ntR.",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x00" * 8,
    b"\xff" * 4,
    b"whisper",
    b"{[" * 50,
)


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, removed, repeated or put in."""
    content = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(content) + 1), rng.randint(1, 40)
        piece = rng.choice(PIECES)
        kind = rng.randrange(4)
        if kind == 0:
            content[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del content[at : at + length]
        elif kind == 2:
            content[at:at] = content[at : at + length]
        else:
            content[at : at + rng.choice([0, len(piece)])] = piece
    return bytes(content)


def mutated(path: Path, rng: random.Random) -> Path:
    """A good archive, of which the bytes, a file, or a name have been changed."""
    files, kind = good(), rng.randrange(3)
    if kind == 1:
        name = rng.choice([*files])
        files[name] = mutate(files[name], rng)
    elif kind == 2:
        name = rng.choice([*files])
        other = mutate(name.encode(), rng).decode("utf-8", "replace")
        files[other.replace("\0", "0") or "0"] = files.pop(name)
    write(path, files)
    if kind == 0:
        path.write_bytes(mutate(path.read_bytes(), rng))
    return path


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")
def test_a_thousand_mutations_execute_nothing_and_stay_inside(tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    rng = random.Random(0)
    outcomes = {"unpacked": 0, "refused": 0}
    longest = 0.0
    for number in range(1000):
        path = mutated(tmp_path / "model.zip", rng)
        began = time.monotonic()
        try:
            folder = unpack_model(path, tmp_path / "models" / str(number))
            assert (folder / ".unpacked").is_file()
            outcomes["unpacked"] += 1
        except EnsembleError:
            outcomes["refused"] += 1
        if number % 5 == 0:  # ESPnet's takes longer
            with contextlib.suppress(Exception):  # it has its own of what is not ours
                unpack(path, tmp_path / "models" / f"{number}_by_espnet")
        longest = max(longest, time.monotonic() - began)
    assert sorted(os.listdir(tmp_path)) == ["cwd", "model.zip", "models"]
    assert not os.listdir(tmp_path / "cwd")
    assert not any(path.is_symlink() for path in (tmp_path / "models").rglob("*"))
    assert longest < 10
    assert outcomes["refused"] > 500 and outcomes["unpacked"] > 20
