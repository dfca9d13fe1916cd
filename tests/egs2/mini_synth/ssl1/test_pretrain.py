"""Pre-training of the quick-start recipe's upstreams."""

import doctest

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModel

from espnet_ensemble.upstream.huggingface import load_huggingface

FAMILIES = ("hubert", "wav2vec2", "wavlm")
TINY = "--num_steps 3 --batch_size 2 --window_seconds 1 --num_units 8".split()
TINY += "--warmup_steps 1 --log_interval 1 --save_interval 1".split()


@pytest.fixture(scope="module")
def pretrain(local, noises):
    """Run the command: pretrain(folder, family, option, ...)."""

    def call(folder, family, *options):
        required = f"--family {family} --data_dir {noises} --output_dir {folder}"
        local("pretrain").main([*required.split(), *TINY, *options])

    return call


@pytest.fixture(scope="module")
def models(pretrain, tmp_path_factory):
    """Three steps of a family's pre-training: models(family) -> folder."""
    folder = tmp_path_factory.mktemp("models")

    def get(family):
        if not (folder / family).exists():
            pretrain(folder / family, family)
        return folder / family

    return get


@pytest.mark.parametrize("family", FAMILIES)
def test_model_reloads(models, family):
    folder = models(family)
    model, loading = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert model.config.model_type == family
    assert not loading["missing_keys"]
    assert 1e6 < sum(p.numel() for p in model.parameters()) < 3e6
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    inputs = extractor([0.1] * 800 + [0.2] * 15200, sampling_rate=16000)
    wav = torch.as_tensor(np.array(inputs["input_values"]))
    assert model.eval()(wav).last_hidden_state.shape == (1, 49, 192)
    assert load_huggingface(str(folder)).feature_size == 192
    assert sorted(path.name for path in folder.parent.glob(f"{family}*")) == [family]


@pytest.mark.parametrize("family", FAMILIES)
def test_interrupted_training_ends_as_undisturbed(
    pretrain, models, interrupt, assert_same_run, tmp_path, family
):
    interrupt(2, lambda: pretrain(tmp_path / family, family))
    assert not (tmp_path / family).exists()
    pretrain(tmp_path / family, family)
    assert_same_run(tmp_path / family, models(family))


def test_unfinished_run_of_other_options_is_refused(
    pretrain, interrupt, tmp_path, capsys
):
    interrupt(1, lambda: pretrain(tmp_path / "m", "hubert"))
    with pytest.raises(SystemExit):
        pretrain(tmp_path / "m", "hubert", "--num_units", "9")
    error = capsys.readouterr().err
    assert "m.work/options.json: an unfinished run had {'num_units': 8}" in error


def test_units_from_a_model(pretrain, models, tmp_path):
    folder = tmp_path / "second"
    options = ("--units_from", str(models("hubert")), "--units_layer", "2")
    pretrain(folder, "hubert", *options, "--num_steps", "1")
    card = (folder / "README.md").read_text()
    assert f"- Units: 8, k-means on layer 2 of {models('hubert')}\n" in card


@pytest.mark.parametrize("family", ["wav2vec2", "wavlm"])
def test_finished_model_is_trained_on(pretrain, models, tmp_path, family):
    """A step so small that the weights stay near those that it starts with."""
    options = ("--init_from", str(models(family)), "--lr", "1e-9", "--num_steps", "1")
    pretrain(tmp_path / "m", family, *options)
    start, end = states(models(family), tmp_path / "m")
    for key in start:
        torch.testing.assert_close(start[key], end[key], rtol=0, atol=1e-7)
    card = (tmp_path / "m" / "README.md").read_text()
    assert f"- Start: the weights of `{models(family)}`\n" in card
    assert f"--init_from {models(family)} " in card


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_convolutions_stay_as_they_are(pretrain, models, tmp_path, family):
    options = ("--init_from", str(models(family)), "--freeze_feature_encoder")
    pretrain(tmp_path / "m", family, *options)
    start, end = states(models(family), tmp_path / "m")
    kept = {key for key in start if torch.equal(start[key], end[key])}
    convolutions = {key for key in start if key.startswith("feature_extractor.")}
    assert convolutions and convolutions <= kept
    assert "encoder.layers.0.attention.q_proj.weight" not in kept
    card = (tmp_path / "m" / "README.md").read_text()
    assert f"- Start: the weights of `{models(family)}`, its convolutions fro" in card


def test_random_convolutions_are_not_frozen(pretrain, tmp_path, capsys):
    with pytest.raises(SystemExit):
        pretrain(tmp_path / "m", "hubert", "--freeze_feature_encoder")
    assert "freeze_feature_encoder: expected --init_from" in capsys.readouterr().err


def states(*folders):
    """The weights of finished models."""
    return [AutoModel.from_pretrained(folder).state_dict() for folder in folders]


def test_model_card(models):
    card = (models("wavlm") / "README.md").read_text()
    assert "A wavlm of 2." in card
    assert "`python local/pretrain.py --family wavlm --data_dir" in card
    assert "- Units: 8, k-means on MFCCs" in card
    assert "- Start:" not in card
    assert "| 3 |" in card


def test_loss_goes_down(pretrain, tmp_path):
    options = "--num_steps 30 --warmup_steps 5 --log_interval 10".split()
    pretrain(tmp_path / "hubert", "hubert", *options, "--save_interval", "100")
    curve = np.loadtxt(tmp_path / "hubert" / "train_log.csv", delimiter=",", skiprows=1)
    assert curve[-1, 1] < 0.9 * curve[0, 1]


def test_examples_in_docstrings(local):
    results = doctest.testmod(local("pretrain"))
    assert results.attempted and not results.failed
