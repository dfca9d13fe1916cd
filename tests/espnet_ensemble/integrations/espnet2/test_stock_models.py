"""Trained models with ESPnet's own frontends, made into models with `ensemble`."""

from pathlib import Path

import pytest
import torch
import yaml

from espnet_ensemble import EnsembleError, EnsembleFrontend
from espnet_ensemble.bin.convert import main
from espnet_ensemble.integrations.espnet2.stock_models import (
    convert_model,
    load_stock_frontend,
    relative_error,
)

MODEL = "valid.acc.ave.pth"


@pytest.fixture
def entries(s3prl_checkpoints, tiny_hubert):
    """Upstreams as ESPnet's configurations name them."""

    def entry(upstream, path, **options):
        conf = {"upstream": upstream, "path_or_url": path}
        return {"frontend_conf": conf, "multilayer_feature": False, **options}

    return {
        "wavlm": entry("wavlm_local", s3prl_checkpoints("wavlm", "base")),
        "hubert": entry(
            "hubert_local",
            s3prl_checkpoints("hubert", "large"),
            multilayer_feature=True,
        ),
        "transformers": entry("hf_hubert_custom", tiny_hubert),
        # 160 samples from one frame to the next, as against 320; no weights.
        "fbank": {"frontend_conf": {"upstream": "fbank"}, "multilayer_feature": False},
    }


@pytest.fixture
def trained(tmp_path):
    """Write a model as stock training leaves it: its configuration and its weights."""

    def train(config, upstreams_too=False, prefix="frontend"):
        config = {"freeze_param": [], "output_dir": "exp/asr_stock", **config}
        torch.manual_seed(0)
        frontend = load_stock_frontend(config, None)
        with torch.no_grad():
            for name, parameter in frontend.named_parameters():
                of_upstream = "upstream.upstream" in name or name.startswith("encoder")
                if upstreams_too or not of_upstream:
                    parameter += 0.05 * torch.randn(parameter.shape)
        weights = {f"{prefix}.{k}": v for k, v in frontend.state_dict().items()}
        weights["ctc.ctc_lo.weight"] = torch.rand(4, 4)
        exp = tmp_path / "exp" / "asr_stock"
        exp.mkdir(parents=True)
        torch.save(weights, exp / MODEL)
        (exp / "config.yaml").write_text(yaml.safe_dump(config))
        return exp, frontend

    return train


def convert(exp):
    """Convert it: how features compare, our frontend, and the weights of the model."""
    output_dir = exp.parent / "asr_converted"
    _, found = convert_model(exp / "config.yaml", exp / MODEL, output_dir)
    config = yaml.safe_load((output_dir / "config.yaml").read_text())
    frontend = EnsembleFrontend(**config["frontend_conf"]).eval()
    weights = torch.load(output_dir / MODEL, weights_only=True)
    (prefix,) = {k.rpartition("frontend.")[0] for k in weights if "frontend." in k}
    start = f"{prefix}frontend."
    frontend.load_state_dict(
        {k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)}
    )
    return found, frontend, weights


@torch.no_grad()
def same_alone(stock, ours, speech, tolerance=1e-5):
    """Whether each utterance of a batch gets the same features, by itself."""
    for wav, length in zip(*speech, strict=True):
        wav, length = wav[None, :length], length[None]
        (expected, _), (found, found_lens) = stock(wav, length), ours(wav, length)
        assert found_lens.tolist() == [expected.size(1)]
        assert relative_error(found, expected) < tolerance


@pytest.mark.parametrize(
    "names", [["wavlm", "hubert"], ["fbank", "wavlm", "fbank"], ["transformers"]]
)
def test_fused(names, entries, trained, speech):
    parts = [{"frontend_type": "s3prl", **entries[name]} for name in names]
    for part in parts:
        part["download_dir"] = None
    conf = {"frontends": parts, "proj_dim": 5}
    exp, stock = trained({"frontend": "fused", "frontend_conf": conf})
    found, ours, weights = convert(exp)
    assert ours.hop_length == (160 if "fbank" in names else 320)
    same_alone(stock, ours, speech)
    assert found.alone < 1e-5 and found.ours_in_batch < 1e-5
    if names == ["wavlm", "hubert"]:
        assert found.stock_in_batch > 0.01
        assert weights.keys() == {
            "ctc.ctc_lo.weight",
            "frontend.fingerprints",
            "frontend.probes",
            "frontend.layers.1.weights",
            *(
                f"frontend.fusion.projections.{i}.{name}"
                for i in range(2)
                for name in ("weight", "bias")
            ),
        }


@pytest.mark.parametrize("name", ["wavlm", "hubert", "transformers"])
@pytest.mark.parametrize("options", [{}, {"layer": 1, "multilayer_feature": False}])
@pytest.mark.parametrize("is_frozen", [True, False])
def test_s3prl(name, options, is_frozen, entries, trained, speech):
    conf = {**entries[name], **options}
    freeze = ["s2t_model.frontend.upstream"] if is_frozen else []
    config = {"frontend": "s3prl", "frontend_conf": conf, "freeze_param": freeze}
    exp, stock = trained(config, not is_frozen, prefix="s2t_model.frontend")
    _, ours, weights = convert(exp)
    same_alone(stock, ours, speech)
    assert any(".upstreams.0." in key for key in weights) is not is_frozen


@pytest.mark.parametrize("is_frozen", [True, False])
@pytest.mark.parametrize("family", ["Wav2Vec2Bert", "WavLM"])
def test_huggingface(family, is_frozen, models, trained, speech):
    config = {"frontend": "huggingface", "frontend_conf": {"model": models(family)}}
    config["freeze_param"] = ["frontend.encoder"] if is_frozen else []
    exp, stock = trained(config, upstreams_too=not is_frozen)
    _, ours, weights = convert(exp)
    # Shorter ones than this, transformers cannot take; and its filterbanks are numpy's.
    wavs, lengths = speech
    tolerance = 1e-4 if family == "Wav2Vec2Bert" else 1e-5
    same_alone(stock, ours, (wavs[:4], lengths[:4]), tolerance)
    assert any(".upstreams.0." in key for key in weights) is not is_frozen


class TestRefused:
    @pytest.fixture
    def exp(self, entries, trained):
        config = {"frontend": "s3prl", "frontend_conf": entries["wavlm"]}
        return trained({**config, "freeze_param": ["frontend.upstream"]})[0]

    def refuse(self, exp, message):
        with pytest.raises(EnsembleError) as error:
            convert(exp)
        assert message in str(error.value)
        assert not (exp.parent / "asr_converted").exists()

    def change(self, exp, **weights):
        found = torch.load(exp / MODEL, weights_only=True)
        torch.save({**found, **weights}, exp / MODEL)

    def test_other_weights_of_frozen_upstreams(self, exp):
        key = "frontend.upstream.upstream.model.encoder.layer_norm.weight"
        self.change(exp, **{key: torch.ones(32)})
        self.refuse(exp, "expected the weights of the upstream 'wavlm_local' that")

    def test_weights_that_the_stock_frontend_does_not_have(self, exp):
        self.change(exp, **{"frontend.logmel.melmat": torch.ones(32)})
        self.refuse(exp, "frontend.logmel.melmat: expected a weight of ESPnet's")

    def test_the_state_of_a_training(self, exp):
        torch.save({"model": {}, "optimizers": []}, exp / MODEL)
        self.refuse(exp, "found none called frontend.* among 'model' and 1 more")

    def test_what_is_computed_otherwise(self, exp):
        """As S3PRL's last hidden state of large models is with transformers 5."""
        config = yaml.safe_load((exp / "config.yaml").read_text())
        config["frontend_conf"]["layer"] = 3
        (exp / "config.yaml").write_text(yaml.safe_dump(config))
        stock = load_stock_frontend(config, None)
        stock.layer = 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "espnet_ensemble.integrations.espnet2.stock_models.load_stock_frontend",
                lambda config, weights: stock,
            )
            self.refuse(exp, "expected the same features of an utterance alone, found")

    def test_another_experiment_in_the_folder(self, exp):
        convert(exp)
        convert(exp)  # the same again
        config = yaml.safe_load((exp / "config.yaml").read_text())
        (exp / "config.yaml").write_text(yaml.safe_dump({**config, "seed": 1}))
        with pytest.raises(EnsembleError, match="there already, not made of this"):
            convert(exp)


def test_command(entries, trained, capsys):
    config = {"frontend": "s3prl", "frontend_conf": entries["wavlm"]}
    exp, _ = trained({**config, "freeze_param": ["frontend.upstream"]})
    output_dir = exp.parent / "asr_converted"
    options = ["--model_file", str(exp / MODEL), "--output_dir", str(output_dir)]
    capsys.readouterr()
    main([str(exp / "config.yaml"), *options])
    printed = capsys.readouterr()
    assert printed.out == f"{output_dir / MODEL}\n"
    assert "- features of 1 s of noise alone: those of s3prl, but for " in printed.err
    assert "- beside 2 s of noise, they differ from those alone by " in printed.err
    config = yaml.safe_load((output_dir / "config.yaml").read_text())
    assert config["output_dir"] == str(output_dir)
    found = yaml.safe_load((output_dir / "converted.yaml").read_text())
    assert found["asr_model_file"] == str(exp / MODEL)
    assert found["differences"]["alone"] < 1e-5 < found["differences"]["stock_in_batch"]


def test_command_without_a_model(tmp_path, capsys):
    path = Path(tmp_path, "train.yaml")
    text = "# ours\nfrontend: s3prl  # the best\nfrontend_conf:\n    frontend_conf:\n"
    path.write_text(
        f"{text}        upstream: wavlm_base\n\nencoder: conformer  # big\n"
    )
    main([str(path)])
    printed = capsys.readouterr()
    assert printed.out == (
        "# ours\nfrontend: ensemble  # the best\nfrontend_conf:\n    upstreams:\n"
        "    - wavlm_base\n    frozen: false\n\nencoder: conformer  # big\n"
    )
    assert printed.err.startswith("- frozen: false: freeze_param does not have")
    with pytest.raises(SystemExit, match="1"):
        main([str(path), "--model_file", "exp/x.pth"])
    assert "expected --model_file and --output_dir, or" in capsys.readouterr().err
