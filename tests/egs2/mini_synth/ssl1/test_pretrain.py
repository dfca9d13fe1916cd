"""Pre-training of the quick-start recipe's upstreams."""

import doctest

import numpy as np
import pytest
import soundfile
import torch
from transformers import AutoFeatureExtractor, AutoModel

from espnet_ensemble.upstream.huggingface import load_huggingface

FAMILIES = ("hubert", "wav2vec2", "wavlm")
TINY = "--num_steps 3 --batch_size 2 --window_seconds 1 --num_units 8".split()
TINY += "--warmup_steps 1 --log_interval 1 --save_interval 1".split()


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """A data directory of three noises, whose colour changes four times a second."""
    folder, rng = tmp_path_factory.mktemp("speech"), np.random.default_rng(0)
    lines = []
    for name in ("a", "b", "c"):
        noise = rng.standard_normal((16, 4000))
        for i, piece in enumerate(noise):
            piece[:] = np.convolve(piece, np.ones(1 + i % 8) / (1 + i % 8), "same")
        soundfile.write(folder / f"{name}.wav", 0.1 * noise.ravel(), 16000)
        lines.append(f"{name} {folder / name}.wav\n")
    (folder / "wav.scp").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def models(local, speech, tmp_path_factory):
    """Three steps of a family's pre-training: models(family) -> folder."""
    folder = tmp_path_factory.mktemp("models")

    def get(family):
        if not (folder / family).exists():
            pretrain(local, speech, folder / family, family)
        return folder / family

    return get


def pretrain(local, speech, folder, family, *options):
    local("pretrain").main(
        ["--family", family, "--data_dir", str(speech), "--output_dir", str(folder)]
        + [*TINY, *options]
    )


def weights(folder):
    return AutoModel.from_pretrained(folder).state_dict()


def assert_same_weights(folder, other):
    ours, theirs = weights(folder), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


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
    local, speech, models, tmp_path, monkeypatch, family
):
    module = local("pretrain")
    save = module.save_checkpoint

    def stop_after_two(path, objective, optimizer, step, rows):
        save(path, objective, optimizer, step, rows)
        if step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "save_checkpoint", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        pretrain(local, speech, tmp_path / family, family)
    assert not (tmp_path / family).exists()
    monkeypatch.setattr(module, "save_checkpoint", save)
    pretrain(local, speech, tmp_path / family, family)
    assert_same_weights(tmp_path / family, models(family))
    curves = [
        np.loadtxt(folder / "train_log.csv", delimiter=",", skiprows=1)
        for folder in (tmp_path / family, models(family))
    ]
    np.testing.assert_array_equal(curves[0][:, :-1], curves[1][:, :-1])


def test_finished_model_is_left_alone(local, speech, models, capsys):
    pretrain(local, speech, models("hubert"), "hubert", "--num_steps", "100")
    assert "nothing to do" in capsys.readouterr().out


def test_unfinished_run_of_other_options_is_refused(
    local, speech, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(local("pretrain"), "train", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pretrain(local, speech, tmp_path / "m", "hubert")
    with pytest.raises(ValueError, match=r"m.work/options.json: .*{'num_units': 8}"):
        pretrain(local, speech, tmp_path / "m", "hubert", "--num_units", "9")
    np.save(tmp_path / "m.work" / "units.npy", np.zeros(7, np.int64))
    with pytest.raises(ValueError, match="units.npy: expected 599 units.*found 7"):
        pretrain(local, speech, tmp_path / "m", "hubert")


def test_units_from_a_model(local, speech, models, tmp_path):
    folder = tmp_path / "second"
    options = ("--units_from", str(models("hubert")), "--units_layer", "2")
    pretrain(local, speech, folder, "hubert", *options)
    assert f"layer 2 of {models('hubert')}" in (folder / "README.md").read_text()


def test_model_card(models):
    card = (models("wavlm") / "README.md").read_text()
    assert "A wavlm of 2." in card
    assert "`python local/pretrain.py --family wavlm --data_dir" in card
    assert "- Units: 8, k-means on MFCCs" in card
    assert "| 3 |" in card


def test_loss_goes_down(local, speech, tmp_path):
    options = "--num_steps 30 --warmup_steps 5 --log_interval 10".split()
    pretrain(local, speech, tmp_path / "hubert", "hubert", *options)
    curve = np.loadtxt(tmp_path / "hubert" / "train_log.csv", delimiter=",", skiprows=1)
    assert curve[-1, 1] < 0.9 * curve[0, 1]


def test_units_are_aligned_with_the_frames(local):
    data = local("pretrain_data")
    speech = np.zeros(330_000, np.int16)
    speech[160_000:] = 5000 * np.sin(np.arange(170_000) / 3)
    units = data.make_units(speech, data.mfcc, num_units=2, seed=0)
    assert len(units) == data.num_frames(len(speech)) == 1031
    changes = np.flatnonzero(np.diff(units))
    assert len(changes) and np.abs(changes - 500).max() <= 10


def test_mixing_disturbs_half_of_a_window_at_most(local):
    wavs = torch.randn(8, 16000, generator=torch.Generator().manual_seed(0))
    mixed = local("pretrain_objectives").mix(wavs, np.random.default_rng(0), 1.0)
    changed = (mixed != wavs).sum(dim=1)
    assert 0 < changed.min() and changed.max() <= 8000
    assert torch.equal(
        wavs, local("pretrain_objectives").mix(wavs, np.random.default_rng(0), 0.0)
    )


def test_data_errors_name_the_file(local, tmp_path):
    data = local("pretrain_data")
    (tmp_path / "wav.scp").write_text("")
    with pytest.raises(ValueError, match="wav.scp: expected recordings"):
        data.read_speech(tmp_path)
    soundfile.write(tmp_path / "a.wav", np.zeros(80), 8000)
    (tmp_path / "wav.scp").write_text(f"a {tmp_path}/a.wav\n")
    with pytest.raises(
        ValueError, match="a.wav: expected mono, 16000 Hz; found 8000 Hz"
    ):
        data.read_speech(tmp_path)
    with pytest.raises(ValueError, match="at least 2.0 s of speech, found 1.0 s"):
        data.draw_windows(np.zeros(16000), 1, 2.0, np.random.default_rng(0))


def test_examples_in_docstrings(local):
    results = doctest.testmod(local("pretrain"))
    assert results.attempted and not results.failed
