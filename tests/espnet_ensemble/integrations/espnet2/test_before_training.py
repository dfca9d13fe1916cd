"""Training from features by one option, with either of ESPnet's trainers."""

import sys
from argparse import Namespace

import pytest
import torch
import yaml
from cache_runs import NUM_SAMPLES, write_noises
from espnet2.bin import asr_train

import espnet_ensemble  # noqa: F401
from espnet_ensemble.data.tables import write_table
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.extract import extract
from espnet_ensemble.integrations.espnet2.resuming import check_resumed

CONF = {
    "frontend": "ensemble",
    "normalize": "utterance_mvn",
    "encoder": "identity",
    "decoder": None,
    "model_conf": {"ctc_weight": 1.0, "extract_feats_in_collect_stats": False},
    "optim_conf": {"lr": 0.003},
    "scheduler": "warmuplr",  # Lightning needs one
    "batch_type": "unsorted",
    "batch_size": 3,
    "max_epoch": 1,
    "seed": 1,
    "num_workers": 0,
    "use_matplotlib": False,
    "use_tensorboard": False,
}
# Of those that are long enough for two letters.
LENGTHS = {key: n for key, n in NUM_SAMPLES.items() if n > 3000}


@pytest.fixture
def data(tmp_path):
    """A data directory of noises, with texts, tokens and lengths."""
    folder = write_noises(tmp_path)
    write_table(folder / "text", {key: "hi" for key in NUM_SAMPLES})
    write_table(folder / "speech_shape", {k: str(n) for k, n in LENGTHS.items()})
    (folder / "tokens.txt").write_text("<blank>\n<unk>\nh\ni\n<sos/eos>\n")
    return folder


@pytest.fixture
def options(data, tmp_path):
    """Options of ESPnet's training: options(frontend_conf, source, folder, option, ...)."""

    def make(frontend_conf, source, exp, *more):
        exp.mkdir(exist_ok=True)
        conf = tmp_path / "train.yaml"
        conf.write_text(yaml.safe_dump({**CONF, "frontend_conf": frontend_conf}))
        args = ["--config", conf, "--output_dir", exp, "--ngpu", "0", *more]
        args += ["--token_type", "char", "--token_list", data / "tokens.txt"]
        for split in ("train", "valid"):
            option = f"--{split}_data_path_and_name_and_type"
            args += [option, source, option, f"{data}/text,text,text"]
            args += [f"--{split}_shape_file", data / "speech_shape"]
        return [str(arg) for arg in args]

    return make


def losses(exp):
    stats = torch.load(exp / "checkpoint.pth", weights_only=False)["reporter"]["stats"]
    return [stats[n][split]["loss"] for n in stats for split in ("train", "valid")]


@pytest.mark.slow
def test_one_option_extracts_and_trains(data, options, tmp_path, tiny_wavlm):
    cache, audio = tmp_path / "feats", f"{data}/wav.scp,speech,sound"
    conf = {"upstreams": [tiny_wavlm], "feature_cache": str(cache)}
    asr_train.main(options(conf, audio, tmp_path / "exp"))
    (path,) = cache.glob("combinations/*/train/members.yaml")
    assert str(path) in (tmp_path / "exp" / "config.yaml").read_text()
    extracted = {file: file.stat().st_mtime_ns for file in cache.rglob("*.safetensors")}
    explicit = options(
        {"upstreams": [tiny_wavlm]}, f"{path},speech,feature_cache", tmp_path / "exp2"
    )
    asr_train.main(explicit)
    assert len(losses(tmp_path / "exp")) == 2
    assert losses(tmp_path / "exp") == losses(tmp_path / "exp2")

    # The same experiment may go on, with the option or without.
    goes_on = options(conf, audio, tmp_path / "exp2", "--max_epoch", "2")
    asr_train.main([*goes_on, "--resume", "true"])
    assert len(losses(tmp_path / "exp2")) == 4
    assert extracted == {
        file: file.stat().st_mtime_ns for file in cache.rglob("*.safetensors")
    }


@pytest.mark.parametrize(
    ("change", "source", "more", "message"),
    [
        (
            {},
            "wav.scp,speech,sound",
            ["--rir_scp", "rir.scp"],
            "rir_scp needs the wave",
        ),
        ({"frozen": False}, "wav.scp,speech,sound", [], "frozen: expected true"),
        ({}, "wav.scp,speech,kaldi_ark", [], "DIR/wav.scp,speech,sound; found "),
        ({}, "splits2/wav.scp,speech,sound", [], "expected one set"),
    ],
)
def test_what_cannot_be_from_features_is_refused_before_any_is_extracted(
    change, source, more, message, data, options, tmp_path, tiny_wavlm
):
    cache = tmp_path / "feats"
    if "splits" in source:
        more = ["--multiple_iterator", "true"]
    conf = {"upstreams": [tiny_wavlm], "feature_cache": str(cache), **change}
    with pytest.raises(CacheError, match=message):
        asr_train.main(options(conf, f"{data}/{source}", tmp_path / "exp", *more))
    assert not cache.exists()


@pytest.fixture
def train_with_lightning(monkeypatch, tmp_path):
    """Run espnet2.bin.lightning_train on the CPU: train_with_lightning(options)."""
    pytest.importorskip("lightning", reason="an extra of ESPnet from 202611 on")
    from espnet2.bin import lightning_train

    def train(options):
        conf = "{devices: 1, accelerator: cpu, max_epochs: 2, log_every_n_steps: 1}"
        command = ["lightning_train", "--task", "asr", *options]
        command += ["--lightning_conf", conf, "--use_tensorboard", "true"]
        monkeypatch.setattr(sys, "argv", command)
        # It finds a port and an address for its one process, if nothing tells it.
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        lightning_train.main()

    yield train
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def test_an_experiment_of_lightning_goes_on_with_its_own_settings_only(tmp_path):
    given = {"frontend": "ensemble", "resume": False, "output_dir": str(tmp_path)}
    args = {**given, "seed": 1, "lightning_conf": {"max_epochs": 2}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(args))
    changed = Namespace(**{**args, "seed": 2, "lightning_conf": {"max_epochs": 3}})
    check_resumed(changed)  # nothing is trained yet
    (tmp_path / "last.ckpt").touch()
    with pytest.raises(EnsembleError, match="settings:\n  seed: 1 then, 2 now\n"):
        check_resumed(changed)


LIGHTNING_WARNS = [
    # That ESPnet's way is to look for a checkpoint that may not be there, in a folder that is.
    "ignore:.fit.ckpt_path=.last..",
    "ignore:Checkpoint directory .* exists and is not empty",
    "ignore:Found 1 module.s. in eval mode",  # the layers of frozen upstreams
    # Of itself, with the newest PyTorch.
    "ignore:`isinstance.treespec, LeafSpec.`",
]


@pytest.mark.slow
@pytest.mark.filterwarnings(*LIGHTNING_WARNS)
def test_lightning_trains_from_features(
    train_with_lightning, data, options, tmp_path, tiny_wavlm
):
    cache, exp = tmp_path / "feats", tmp_path / "exp"
    conf = {"upstreams": [tiny_wavlm], "feature_cache": str(cache)}
    train_with_lightning(options(conf, f"{data}/wav.scp,speech,sound", exp))
    assert list(cache.glob("combinations/*/train/members.yaml"))
    weights = torch.load(exp / "last.ckpt", weights_only=False)["state_dict"]
    assert "model.frontend.fingerprints" in weights
    assert not any("upstream" in key for key in weights)


@pytest.mark.slow
def test_lightning_refuses_features_of_others(
    train_with_lightning, data, options, tmp_path, tiny_wavlm, tiny_hubert
):
    path = extract(data, {"upstreams": [tiny_wavlm]}, tmp_path / "feats")
    source = f"{path},speech,feature_cache"
    with pytest.raises(CacheError, match="fingerprint: expected"):
        train_with_lightning(
            options({"upstreams": [tiny_hubert]}, source, tmp_path / "exp")
        )
