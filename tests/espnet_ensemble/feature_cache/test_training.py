"""ESPnet trains from the cache as from audio."""

import pytest
import torch
import yaml
from espnet2.bin import asr_train
from espnet2.tasks.asr import ASRTask

import espnet_ensemble  # noqa: F401
from espnet_ensemble.data.tables import write_table
from espnet_ensemble.feature_cache.extract import extract


def train_conf(upstreams):
    return {
        "frontend": "ensemble",
        "frontend_conf": {"upstreams": upstreams},
        "normalize": "utterance_mvn",
        "encoder": "transformer",
        "encoder_conf": {
            "input_layer": "linear",
            "output_size": 32,
            "attention_heads": 4,
            "linear_units": 64,
            "num_blocks": 1,
        },
        "decoder": None,
        "model_conf": {"ctc_weight": 1.0},
        "optim_conf": {"lr": 0.003},
        "batch_type": "unsorted",
        "batch_size": 3,
        "max_epoch": 2,
        "seed": 1,
    }


def losses(texts, conf, source, exp, num_workers=0):
    """Train, and return the loss of each epoch, in training and validation."""
    exp.mkdir()
    (exp / "train.yaml").write_text(yaml.safe_dump(conf))
    args = ["--config", exp / "train.yaml", "--output_dir", exp, "--ngpu", "0"]
    args += ["--token_type", "char", "--token_list", texts / "tokens.txt"]
    args += ["--num_workers", num_workers]
    for split in ("train", "valid"):
        option = f"--{split}_data_path_and_name_and_type"
        args += [option, source, option, f"{texts}/text,text,text"]
        args += [f"--{split}_shape_file", texts / "speech_shape"]
    asr_train.main([str(arg) for arg in args])
    reporter = torch.load(exp / "checkpoint.pth", weights_only=False)["reporter"]
    stats = reporter["stats"].values()
    return [stat[split]["loss"] for stat in stats for split in ("train", "valid")]


@pytest.fixture
def texts(tmp_path):
    """What training needs besides speech: texts, tokens, and the lengths of the speech."""
    num_samples = {"a": 3217, "b": 8000, "d": 7999, "f": 16000}
    folder = tmp_path / "texts"
    folder.mkdir()
    write_table(folder / "text", {key: "hi" for key in num_samples})
    write_table(folder / "speech_shape", {k: str(n) for k, n in num_samples.items()})
    (folder / "tokens.txt").write_text("<blank>\n<unk>\nh\ni\n<sos/eos>\n")
    return folder


def test_losses_equal_those_from_audio(data, texts, tmp_path, tiny_wavlm, slow_hubert):
    conf = train_conf([{"name": tiny_wavlm, "layer": "weighted_sum"}, slow_hubert])
    audio = f"{data}/wav.scp,speech,sound"
    expected = losses(texts, conf, audio, tmp_path / "from_audio")
    path = extract(data, conf["frontend_conf"], tmp_path / "feats")
    cache = f"{path},speech,feature_cache"
    found = losses(texts, conf, cache, tmp_path / "from_cache", num_workers=2)
    assert len(expected) == 4 and expected[3] < expected[1]
    assert found == pytest.approx(expected, rel=1e-4)


def test_checkpoint_of_cached_training_takes_audio(data, texts, tmp_path, tiny_wavlm):
    """The same configuration and checkpoint, with the fingerprint of the weights."""
    conf, exp = train_conf([tiny_wavlm]), tmp_path / "exp"
    path = extract(data, conf["frontend_conf"], tmp_path / "feats")
    losses(texts, conf, f"{path},speech,feature_cache", exp)
    model, _ = ASRTask.build_model_from_file(exp / "config.yaml", exp / "2epoch.pth")
    with torch.no_grad():
        encoded, lengths = model.encode(torch.rand(1, 8000), torch.tensor([8000]))
    assert encoded.shape == (1, 24, 32) and lengths.tolist() == [24]
