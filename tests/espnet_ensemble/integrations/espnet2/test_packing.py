"""What is in an archive, and that it works where nothing else is."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from espnet2.main_funcs.pack_funcs import unpack

import espnet_ensemble
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.integrations.espnet2.frontend import EnsembleFrontend
from espnet_ensemble.integrations.espnet2.manifest import Manifest, PackedUpstream
from espnet_ensemble.integrations.espnet2.packing import PackConf, pack
from espnet_ensemble.upstream import UpstreamConf, UpstreamError, load_upstream
from espnet_ensemble.upstream.checkpoint_files import checkpoint_files
from espnet_ensemble.upstream.fingerprint import FINGERPRINT_SIZE, to_tensor

CONFIG = Path("exp/asr/config.yaml")
MODEL = Path("exp/asr/valid.ave.pth")
ARCHIVE = Path("exp/asr/asr.zip")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
WAVLM_BASE_URL = (
    "https://huggingface.co/s3prl/converted_ckpts/resolve/main/wavlm_base.pt"
)


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """The working directory: a recipe with a trained model, a link as ESPnet makes it."""
    folder = tmp_path / "recipe"
    (folder / MODEL.parent / "images").mkdir(parents=True)
    monkeypatch.chdir(folder)
    write_weights([])
    MODEL.symlink_to("valid.ave_2best.pth")
    Path("exp/asr/RESULTS.md").write_text("# RESULTS\n")
    Path("exp/asr/images/loss.png").write_bytes(b"image")
    return folder


@pytest.fixture
def upstream(recipe, tiny_wavlm):
    """A local upstream with all that pre-training leaves in its folder."""
    folder = recipe / "exp" / "wavlm"
    shutil.copytree(tiny_wavlm, folder)
    for name in ("README.md", "loss.csv", "pytorch_model.bin", "checkpoint.pth"):
        (folder / name).write_text(name)
    return "exp/wavlm"


def write_config(upstreams, **others) -> None:
    frontend_conf = {"upstreams": upstreams, "fusion": "concat"}
    config = {"frontend": "ensemble", "frontend_conf": frontend_conf, **others}
    CONFIG.write_text(yaml.safe_dump(config))
    write_weights(upstreams)


def write_weights(upstreams) -> None:
    """Those of a model that was trained over these upstreams, as far as they are here."""
    fingerprints = torch.zeros(len(upstreams), FINGERPRINT_SIZE)
    for row, upstream in zip(fingerprints, upstreams, strict=True):
        with suppress(UpstreamError, OSError):
            row[:] = to_tensor(load_upstream(UpstreamConf.parse(upstream)).fingerprint)
    Path("exp/asr/valid.ave_2best.pth").unlink(missing_ok=True)
    torch.save({"frontend.fingerprints": fingerprints}, "exp/asr/valid.ave_2best.pth")


def pack_asr(*option, outpath=ARCHIVE, conf=None) -> list:
    configs, files = {"asr_train_config": CONFIG}, {"asr_model_file": MODEL}
    return pack(configs, files, option, outpath, conf)


def packed_config(archive=ARCHIVE) -> dict:
    with zipfile.ZipFile(archive) as file:
        return yaml.safe_load(file.read(str(CONFIG)))


def packed_upstreams() -> list:
    return packed_config()["frontend_conf"]["upstreams"]


def unpacked_frontend(folder: Path) -> EnsembleFrontend:
    config = unpack(ARCHIVE, folder)["asr_train_config"]
    return EnsembleFrontend(**yaml.safe_load(Path(config).read_text())["frontend_conf"])


def test_only_what_loading_reads_is_packed(upstream):
    write_config([upstream])
    members = pack_asr("exp/asr/RESULTS.md", "exp/asr/images")
    assert members[:3] == ["meta.yaml", str(CONFIG), str(MODEL)]
    assert sorted(members[3:]) == [
        "ensemble.yaml",
        "exp/asr/RESULTS.md",
        "exp/asr/images/loss.png",
        "upstreams/wavlm/",
        "upstreams/wavlm/README.md",
        "upstreams/wavlm/config.json",
        "upstreams/wavlm/model.safetensors",
        "upstreams/wavlm/preprocessor_config.json",
    ]
    with zipfile.ZipFile(ARCHIVE) as file:
        assert file.namelist() == members and file.testzip() is None
        assert file.read(str(MODEL)) == MODEL.read_bytes()
    assert sorted(os.listdir("exp/asr")) == [
        "RESULTS.md",
        "asr.zip",
        "config.yaml",
        "images",
        "valid.ave.pth",
        "valid.ave_2best.pth",
    ]


def test_published_upstreams_are_not_packed(recipe):
    upstreams = [
        "wavlm_base",
        {"name": "microsoft/wavlm-large", "layer": 3},
        {"name": "hubert_custom", "path_or_url": "https://example.org/hubert.pt"},
    ]
    Path("wavlm_base").mkdir()  # S3PRL's name goes first, as when loading
    write_config(upstreams)
    assert pack_asr() == ["meta.yaml", str(CONFIG), str(MODEL), "ensemble.yaml"]
    assert packed_upstreams() == upstreams


def test_configurations_of_other_frontends_are_kept(recipe):
    conf = {"frontend": "default", "frontend_conf": {"n_fft": 512}, "lm": None}
    CONFIG.write_text(yaml.safe_dump(conf))
    pack_asr()
    assert packed_config() == conf


def test_paths_outside_links_and_doubles(upstream, tmp_path, tiny_hubert):
    """However one folder is named, it is packed once; same names are told apart."""
    outside = tmp_path / "elsewhere" / "wavlm"
    shutil.copytree(tiny_hubert, outside)
    Path("exp/link").symlink_to(outside)
    shutil.copytree(tiny_hubert, tmp_path / "cache" / "blobs")
    for file in (tmp_path / "cache" / "blobs").iterdir():  # as in the hub's cache
        (tmp_path / "cache" / "snapshot").mkdir(exist_ok=True)
        (tmp_path / "cache" / "snapshot" / file.name).symlink_to(file)
    write_config(
        [
            {"name": upstream, "layer": 1},
            {"name": f"./{upstream}/", "layer": 2},
            str(outside),
            "exp/link",
            {"name": "hf_hubert_custom", "path_or_url": "../elsewhere/wavlm"},
            str(tmp_path / "cache" / "snapshot"),
        ]
    )
    members = pack_asr()
    assert packed_upstreams() == [
        {"name": "upstreams/wavlm", "layer": 1},
        {"name": "upstreams/wavlm", "layer": 2},
        "upstreams/wavlm_2",
        "upstreams/wavlm_2",
        {"name": "hf_hubert_custom", "path_or_url": "upstreams/wavlm_2"},
        "upstreams/snapshot",
    ]
    assert len(members) == len(set(members))
    assert not any(os.path.isabs(m) or ".." in Path(m).parts for m in members)
    with zipfile.ZipFile(ARCHIVE) as file:
        weights = file.read("upstreams/snapshot/model.safetensors")
    assert weights == (outside / "model.safetensors").read_bytes()


def test_s3prl_checkpoint_file(recipe, s3prl_checkpoints, tmp_path, speech):
    upstream = {"name": "wavlm_local", "path_or_url": s3prl_checkpoints("wavlm")}
    write_config([upstream])
    assert pack_asr()[-1] == "upstreams/wavlm_base.pt"
    unpacked = unpacked_frontend(tmp_path / "unpacked")
    feats, _ = unpacked(*speech)
    assert torch.equal(feats, EnsembleFrontend([upstream])(*speech)[0])


def test_no_safetensors_but_shards_or_pickle(recipe, tmp_path, tiny_wavlm):
    from transformers import AutoModel

    for name in ("shards", "pickle"):
        shutil.copytree(tiny_wavlm, name)
        Path(name, "model.safetensors").unlink()
    model = AutoModel.from_pretrained(tiny_wavlm)
    model.save_pretrained("shards", max_shard_size="20KB")
    torch.save(model.state_dict(), "pickle/pytorch_model.bin")
    shards = sorted(p.name for p in Path("shards").glob("*.safetensors"))
    assert len(shards) > 1
    assert set(shards) < set(checkpoint_files("shards"))

    write_config(["./shards", "./pickle"])
    members = pack_asr()
    assert "upstreams/shards/model.safetensors.index.json" in members
    assert "upstreams/pickle/pytorch_model.bin" in members
    original = EnsembleFrontend([tiny_wavlm, tiny_wavlm])
    unpacked = unpacked_frontend(tmp_path / "unpacked")
    assert torch.equal(unpacked.fingerprints, original.fingerprints)


def test_names_of_files_follow_into_the_configuration(upstream, tmp_path):
    """A relative and an absolute one; a token that is called as a file stays."""
    outside = tmp_path / "stats" / "feats_stats.npz"
    outside.parent.mkdir()
    outside.write_bytes(b"stats")
    Path("bpe.model").write_bytes(b"bpe")
    Path("exp/asr/nlsyms.txt").write_text("<noise>\n")
    write_config(
        [upstream],
        normalize_conf={"stats_file": str(outside)},
        bpemodel="bpe.model",
        non_linguistic_symbols="exp/../exp/asr/nlsyms.txt",
        token_list=["<blank>", "bpe.model", "exp/asr", "<sos/eos>"],
    )
    pack_asr(outside, "bpe.model", "exp/asr/nlsyms.txt")
    config = packed_config()
    assert config["normalize_conf"]["stats_file"] == "files/feats_stats.npz"
    assert config["bpemodel"] == "files/bpe.model"
    assert config["non_linguistic_symbols"] == "exp/asr/nlsyms.txt"

    unpacked = unpack(ARCHIVE, tmp_path / "unpacked")["asr_train_config"]
    config = yaml.safe_load(Path(unpacked).read_text())
    assert config["token_list"] == ["<blank>", "bpe.model", "exp/asr", "<sos/eos>"]
    assert Path(config["normalize_conf"]["stats_file"]).read_bytes() == b"stats"
    assert Path(config["bpemodel"]).read_bytes() == b"bpe"


def test_two_configurations_of_one_name_from_outside(recipe, tmp_path, monkeypatch):
    write_config(["wavlm_base"])
    Path("exp/lm").mkdir()
    Path("exp/lm/config.yaml").write_text("lm: seq_rnn\n")
    configs = {
        "asr_train_config": recipe / CONFIG,
        "lm_train_config": recipe / "exp/lm/config.yaml",
    }
    Path("cwd").mkdir()
    monkeypatch.chdir("cwd")
    members = pack(configs, {"asr_model_file": recipe / MODEL}, [], "asr.zip")
    assert members == [
        "meta.yaml",
        "files/config.yaml",
        "files/config_2.yaml",
        "files/valid.ave.pth",
        "ensemble.yaml",
    ]
    unpacked = unpack("asr.zip", tmp_path / "unpacked")
    lm_config = Path(unpacked["lm_train_config"]).read_text()
    assert yaml.safe_load(lm_config) == {"lm": "seq_rnn"}


def test_folders_of_this_machine_are_left_out(recipe):
    write_config(["wavlm_base"])
    config = yaml.safe_load(CONFIG.read_text())
    config["frontend_conf"]["download_dir"] = "/data/me/hub"
    config["frontend_conf"]["feature_cache"] = "/data/me/feats"
    CONFIG.write_text(yaml.safe_dump(config))
    pack_asr()
    assert packed_config()["frontend_conf"] == {
        "upstreams": ["wavlm_base"],
        "fusion": "concat",
    }


def test_everything_that_is_missing_is_named_and_nothing_left(upstream):
    write_config([upstream])
    MODEL.unlink()
    with pytest.raises(EnsembleError) as error:
        pack_asr("exp/asr/RESULTS.md", "data/bpe.model", "data/readme.txt")
    assert str(error.value).splitlines() == [
        "--asr_model_file exp/asr/valid.ave.pth: there is no such file or folder; "
        "stage 11, training, makes it",
        "--option data/bpe.model: there is no such file or folder; "
        "stage 5, token list, makes it",
        "--option data/readme.txt: there is no such file or folder",
    ]
    assert not list(Path("exp/asr").glob("*asr.zip*"))


def test_every_upstream_that_lacks_something_is_named(upstream):
    Path(upstream, "preprocessor_config.json").unlink()
    Path(upstream, "model.safetensors").unlink()
    Path(upstream, "pytorch_model.bin").unlink()
    gone = {"name": "hf_hubert_custom", "path_or_url": "exp/hubert"}
    write_config([upstream, "./gone", gone, "tiny_wavlm"])
    with pytest.raises(EnsembleError) as error:
        pack_asr()
    assert str(error.value).splitlines() == [
        "upstream exp/wavlm: found no preprocessor_config.json, model.safetensors",
        "upstream gone: there is no such file or folder",
        "upstream exp/hubert: there is no such file or folder",
        "upstream tiny_wavlm: there is no such file or folder",
    ]
    assert not list(Path("exp/asr").glob("*asr.zip*"))


def test_missing_shard_is_named(upstream):
    Path(upstream, "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    Path(upstream, "model.safetensors.index.json").write_text(json.dumps(index))
    Path(upstream, "model-1.safetensors").touch()
    with pytest.raises(EnsembleError, match="exp/wavlm: found no model-2.safetensors$"):
        checkpoint_files(upstream)


def test_shard_elsewhere_is_refused(upstream):
    Path(upstream, "model.safetensors").unlink()
    index = Path(upstream, "model.safetensors.index.json")
    for name in ("/etc/hostname", "../../secret", "a/model.safetensors"):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(EnsembleError, match=f"files beside it, found '{name}'"):
            checkpoint_files(upstream)


@pytest.mark.parametrize(
    "text,message",
    [
        ("- a\n", "exp/asr/config.yaml: expected keys and values, found ['a']"),
        ("a: [", "exp/asr/config.yaml: expected YAML, found "),
        ("frontend: ensemble", "expected upstreams in frontend_conf, found none"),
        (
            "{frontend: ensemble, frontend_conf: {upstreams: [{layer: 1}]}}",
            "exp/asr/config.yaml: upstreams: expected a name, or a mapping with name",
        ),
    ],
)
def test_bad_configuration(text, message, recipe):
    CONFIG.write_text(text)
    with pytest.raises(EnsembleError) as error:
        pack_asr()
    assert message in str(error.value)


def test_archive_that_is_not_zip_is_refused(recipe):
    write_config(["wavlm_base"])
    with pytest.raises(EnsembleError, match="ends in .zip, found exp/asr/asr.tar.gz"):
        pack_asr(outpath="exp/asr/asr.tar.gz")


def test_failure_keeps_the_archive_of_before(upstream):
    write_config([upstream])
    pack_asr()
    before, files = ARCHIVE.read_bytes(), sorted(os.listdir("exp/asr"))
    os.mkfifo("pipe")
    with pytest.raises(OSError, match="named pipe"):
        pack_asr("exp/asr/images", "pipe")
    assert ARCHIVE.read_bytes() == before
    assert sorted(os.listdir("exp/asr")) == files


def test_works_in_the_directory_it_was_called_in(upstream, recipe):
    write_config([upstream])
    os.utime("exp/asr/RESULTS.md", (0, 0))  # a zip has no time stamps before 1980
    pack_asr("exp/asr/RESULTS.md", outpath="packed/asr.zip")
    assert Path.cwd() == recipe
    assert zipfile.is_zipfile("packed/asr.zip")


def packed_manifest(archive=ARCHIVE) -> Manifest:
    with zipfile.ZipFile(archive) as file:
        content = yaml.safe_load(file.read("ensemble.yaml"))
    return Manifest.parse(content, "ensemble.yaml")


def test_the_manifest_tells_where_upstreams_come_from(upstream):
    Path(upstream, "README.md").write_text("---\nlicense: cc-by-4.0\n---\nA model.\n")
    write_config([upstream, "wavlm_base"])
    pack_asr()
    manifest = packed_manifest()
    ours, published = manifest.upstreams
    expected = load_upstream(UpstreamConf(upstream)).fingerprint.hex()
    assert ours == PackedUpstream(
        "upstreams/wavlm", True, fingerprint=expected, licence="cc-by-4.0"
    )
    assert published == PackedUpstream(
        "wavlm_base", False, source="wavlm_base", fingerprint=64 * "0"
    )
    assert manifest.fs == 16000 and manifest.format == 1
    assert manifest.versions["espnet-ensemble"] == espnet_ensemble.__version__
    assert manifest.decoding is None


@pytest.fixture
def hub_cache(recipe, tiny_wavlm):
    """Downloads of a hub id, in a folder of their own, as huggingface_hub lays them out."""
    model = recipe.parent / "hub" / "models--someone--tiny-wavlm"
    shutil.copytree(tiny_wavlm, model / "snapshots" / COMMIT)
    card = "---\nlicense: mit\n---\nA model.\n"
    (model / "snapshots" / COMMIT / "README.md").write_text(card)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    return str(model.parent)


def write_hub_config(hub_cache, tiny_wavlm) -> None:
    """A model over a published upstream that this machine has downloaded."""
    upstream = {"name": "someone/tiny-wavlm", "layer": 1}
    frontend_conf = {"upstreams": [upstream], "download_dir": hub_cache}
    write_config([tiny_wavlm], frontend_conf=frontend_conf)


def test_a_published_upstream_is_named_by_its_commit(hub_cache, tiny_wavlm):
    write_hub_config(hub_cache, tiny_wavlm)
    assert pack_asr() == ["meta.yaml", str(CONFIG), str(MODEL), "ensemble.yaml"]
    assert packed_upstreams() == [
        {"name": "someone/tiny-wavlm", "layer": 1, "revision": COMMIT}
    ]
    fingerprint = load_upstream(UpstreamConf(tiny_wavlm)).fingerprint.hex()
    assert packed_manifest().upstreams == (
        PackedUpstream(
            "someone/tiny-wavlm",
            False,
            source="someone/tiny-wavlm",
            revision=COMMIT,
            fingerprint=fingerprint,
            licence="mit",
        ),
    )


def test_a_published_upstream_is_carried_where_that_is_asked_for(
    hub_cache, tiny_wavlm, tmp_path, speech
):
    write_hub_config(hub_cache, tiny_wavlm)
    names = pack_asr(conf=PackConf(bundle_upstreams=True))
    assert "upstreams/tiny-wavlm/model.safetensors" in names
    assert packed_upstreams() == [{"name": "upstreams/tiny-wavlm", "layer": 1}]
    (packed,) = packed_manifest().upstreams
    assert packed.bundled and packed.name == "upstreams/tiny-wavlm"
    assert (packed.source, packed.revision) == ("someone/tiny-wavlm", COMMIT)
    shutil.rmtree(hub_cache)
    unpacked = unpacked_frontend(tmp_path / "unpacked")
    expected = EnsembleFrontend([{"name": tiny_wavlm, "layer": 1}])
    assert torch.equal(unpacked(*speech)[0], expected(*speech)[0])


def test_a_name_of_s3prl_is_carried_as_the_file_that_was_downloaded(
    recipe, s3prl_checkpoints, tmp_path, speech
):
    from s3prl.util import download

    before = download.get_dir()
    download.set_dir(tmp_path / "s3prl")
    path = Path(download.urls_to_filepaths(WAVLM_BASE_URL, download=False))
    path.parent.mkdir(exist_ok=True)
    shutil.copy(s3prl_checkpoints("wavlm"), path)
    frontend_conf = {"upstreams": ["wavlm_base"], "download_dir": str(path.parent)}
    local = {"name": "wavlm_local", "path_or_url": s3prl_checkpoints("wavlm")}
    write_config([local], frontend_conf=frontend_conf)
    try:
        pack_asr(conf=PackConf(bundle_upstreams=True))
    finally:
        download.set_dir(before)
    carried = f"upstreams/{path.name}"
    assert packed_upstreams() == [{"name": "wavlm_local", "path_or_url": carried}]
    (packed,) = packed_manifest().upstreams
    assert (packed.name, packed.source) == (carried, "wavlm_base")
    unpacked = unpacked_frontend(tmp_path / "unpacked")
    assert torch.equal(unpacked(*speech)[0], EnsembleFrontend([local])(*speech)[0])


def test_an_upstream_that_has_changed_since_is_refused(upstream, tiny_hubert):
    write_config([upstream])
    shutil.copytree(tiny_hubert, upstream, dirs_exist_ok=True)
    with pytest.raises(
        EnsembleError, match="other weights .* than the one that the mo"
    ):
        pack_asr()
    assert not ARCHIVE.exists()


def test_an_upstream_more_than_the_model_was_trained_over_is_refused(recipe):
    write_config(["wavlm_base"])
    write_weights([])
    with pytest.raises(EnsembleError, match="over 0 upstreams, frontend_conf has 1"):
        pack_asr()


def test_weights_that_are_none_are_refused(recipe):
    write_config(["wavlm_base"])
    MODEL.write_bytes(b"weights")
    with pytest.raises(EnsembleError, match="expected weights alone"):
        pack_asr()


def test_names_of_this_machine_are_left_out(upstream):
    write_config(
        [upstream],
        output_dir="/home/me/exp/asr",
        train_shape_file=["/home/me/exp/speech_shape"],
        train_data_path_and_name_and_type=[["/home/me/text", "text", "text"]],
        noise_scp="/home/me/noise.scp",
    )
    pack_asr()
    with zipfile.ZipFile(ARCHIVE) as file:
        texts = [file.read(n) for n in file.namelist() if n.endswith(".yaml")]
    assert not any(b"/home/me" in text for text in texts)


def test_files_that_decoding_reads_need_not_be_named(upstream):
    Path("data").mkdir()
    Path("data/bpe.model").write_bytes(b"bpe")
    write_config([upstream], bpemodel="data/bpe.model")
    assert "data/bpe.model" in pack_asr()
    Path("data/bpe.model").unlink()
    with pytest.raises(EnsembleError, match="--bpemodel data/bpe.model: there is no"):
        pack_asr()


def test_the_decoding_configuration_and_its_files(upstream, tmp_path):
    (tmp_path / "3gram.arpa").write_text("an n-gram")
    decoding = {"beam_size": 5, "ngram_file": str(tmp_path / "3gram.arpa")}
    write_config([upstream])
    pack_asr(conf=PackConf(decoding=decoding))
    assert packed_manifest().decoding == "conf/decode.yaml"
    with zipfile.ZipFile(ARCHIVE) as file:
        packed = yaml.safe_load(file.read("conf/decode.yaml"))
        assert packed == {"beam_size": 5, "ngram_file": "files/3gram.arpa"}
        assert file.read("files/3gram.arpa") == b"an n-gram"


def test_a_class_that_no_archive_may_name_is_refused(upstream):
    write_config([upstream], encoder="whisper")
    with pytest.raises(EnsembleError, match="encoder: expected one of .*'whisper'"):
        pack_asr()


def test_it_is_hardly_larger_than_what_it_carries(
    build_model, upstream, hub_cache, tiny_hubert
):
    """With an encoder of a usual size."""
    build_model(Path("exp/asr"), [upstream, tiny_hubert])
    weights = torch.load(MODEL)
    weights["encoder.more"] = torch.zeros(1_000_000)
    torch.save(weights, "exp/asr/valid.ave_2best.pth")
    names = pack_asr("exp/asr/RESULTS.md", conf=PackConf(write_card=lambda m: "card"))
    with zipfile.ZipFile(ARCHIVE) as file:
        sizes = {name: file.getinfo(name).file_size for name in names}
    carried = [str(MODEL), "README.md", *(n for n in names if "upstreams/" in n)]
    assert ARCHIVE.stat().st_size <= 1.01 * sum(sizes[name] for name in carried)


def test_espnets_own_pack_makes_the_same_archive(upstream, monkeypatch):
    from espnet2.bin.pack import main

    write_config([upstream])
    args = ["--asr_train_config", str(CONFIG), "--asr_model_file", str(MODEL)]
    args += ["--option", "exp/asr/RESULTS.md"]
    args += ["--option", "exp/asr/images"]  # which training has not made
    main(["asr", *args, "--outpath", str(ARCHIVE)])
    with zipfile.ZipFile(ARCHIVE) as file:
        assert {"ensemble.yaml", "README.md", "upstreams/wavlm/config.json"} < {
            *file.namelist()
        }
    assert packed_upstreams() == ["upstreams/wavlm"]


def test_espnets_own_pack_packs_other_models_as_ever(recipe, capsys):
    from espnet2.bin.pack import main

    CONFIG.write_text("frontend: default\n")
    args = ["--asr_train_config", str(CONFIG), "--asr_model_file", str(MODEL)]
    main(["asr", *args, "--outpath", "model.tar.gz"])
    assert "Generate: model.tar.gz" in capsys.readouterr().out


TRANSCRIBE = """
import json, sys
import espnet_ensemble
import numpy, torch
from espnet_model_zoo.downloader import ModelDownloader
from espnet2.bin.asr_inference import Speech2Text

archive, cachedir, speech, output = sys.argv[1:]
unpacked = ModelDownloader(cachedir).download_and_unpack(archive)
assert unpacked == ModelDownloader(cachedir).download_and_unpack(archive)
speech2text = Speech2Text(**unpacked, beam_size=4, ctc_weight=1.0)
speech = torch.from_numpy(numpy.load(speech))
encoded, _ = speech2text.asr_model.encode(speech[None], torch.tensor([len(speech)]))
log_probs = speech2text.asr_model.ctc.log_softmax(encoded)
numpy.savez(output, text=speech2text(speech)[0][0], log_probs=log_probs.detach())
"""


def transcribe(exp: Path, speech: np.ndarray):
    from espnet2.bin.asr_inference import Speech2Text

    speech2text = Speech2Text(
        exp / "config.yaml", exp / "valid.ave.pth", beam_size=4, ctc_weight=1.0
    )
    speech = torch.from_numpy(speech)
    lengths = torch.tensor([len(speech)])
    encoded, _ = speech2text.asr_model.encode(speech[None], lengths)
    log_probs = speech2text.asr_model.ctc.log_softmax(encoded).detach()
    return speech2text(speech)[0][0], log_probs.numpy()


@pytest.mark.slow
def test_packed_model_works_where_nothing_else_is(
    build_model, upstream, tmp_path, tiny_hubert, monkeypatch
):
    hubert = tmp_path / "outside" / "hubert"
    shutil.copytree(tiny_hubert, hubert)
    Path("upstreams").symlink_to("exp")  # upstreams/wavlm is exp/wavlm
    upstreams = [
        "upstreams/wavlm",
        {"name": "hf_hubert_custom", "path_or_url": str(hubert)},
    ]
    build_model(Path("exp/asr"), upstreams)
    generator = np.random.default_rng(1)
    speech = 0.1 * generator.standard_normal(12000).astype(np.float32)
    text, log_probs = transcribe(Path("exp/asr"), speech)
    pack_asr("exp/asr/feats_stats.npz", "exp/asr/RESULTS.md", "exp/asr/images")

    there = tmp_path / "other machine"
    (there / "cwd").mkdir(parents=True)
    ARCHIVE.rename(there / "model.zip")
    np.save(there / "speech.npy", speech)
    monkeypatch.chdir(there / "cwd")
    shutil.rmtree(tmp_path / "recipe")
    shutil.rmtree(tmp_path / "outside")
    args = ["../model.zip", "../cache", "../speech.npy", "../output.npz"]
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRANSCRIBE, *args],
        env=dict(os.environ, OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    output = np.load(there / "output.npz")
    assert str(output["text"]) == text != ""
    np.testing.assert_allclose(output["log_probs"], log_probs, rtol=1e-5, atol=1e-5)
