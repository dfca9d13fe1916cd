"""Encoders of ESPnet's SSL task, through ESPnet's own code."""

import shutil
import sys
from argparse import Namespace
from unittest.mock import patch

import pytest
import torch
import yaml

from espnet_ensemble import EnsembleModel, FrontendConf
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.integrations.espnet2.contents import Contents
from espnet_ensemble.integrations.huggingface.configuration import EnsembleConfig
from espnet_ensemble.testing.upstreams import randomize
from espnet_ensemble.upstream import UpstreamConf, UpstreamError, load_upstream

SHAPES = [[16, 10, 5], *([[16, 3, 2]] * 4), *([[16, 2, 2]] * 2)]
BLOCKS = {
    # As XEUS is: convolutions tell positions, attention without them.
    "e_branchformer": dict(
        attention_layer_type="selfattn",
        pos_enc_layer_type="conv",
        cgmlp_linear_units=48,
        use_ffn=True,
        macaron_ffn=True,
    ),
    "conformer": dict(macaron_style=True, use_cnn_module=True),
    "transformer": {},
}


@pytest.fixture(scope="module", params=BLOCKS)
def trained(request, tmp_path_factory):
    """What training leaves: config.yaml and a checkpoint; and ESPnet's model of it."""
    from espnet2.tasks.ssl import SSLTask

    folder = tmp_path_factory.mktemp(request.param)
    with patch.object(sys, "argv", sys.argv[:1]):  # ESPnet would read pytest's options
        defaults = SSLTask.get_default_config()
    loss = dict(num_classes=5, final_dim=8, loss_type="cross_entropy")
    config = {
        **defaults,
        "token_list": ["a", "b", "c"],
        "frontend": "wav2vec_cnn",
        "frontend_conf": dict(
            norm_mode="group_norm", conv_mode="standard", bias=False, shapes=SHAPES
        ),
        "normalize": "utterance_mvn",
        "preencoder": "linear",
        "preencoder_conf": dict(output_size=32),
        "encoder": request.param,
        "encoder_conf": dict(
            output_size=32,
            attention_heads=4,
            linear_units=48,
            num_blocks=3,
            input_layer=None if request.param == "e_branchformer" else "linear",
            **BLOCKS[request.param],
        ),
        "loss": [{"name": "hubert", "conf": loss}],
        "util": [{"name": "mask", "conf": dict(encoder_embed_dim=32)}],
    }
    torch.manual_seed(0)
    try:
        model = randomize(SSLTask.build_model(Namespace(**config)), seed=1)
    except TypeError:
        config["loss"], config["util"] = defaults["loss"], defaults["util"]
        model = randomize(SSLTask.build_model(Namespace(**config)), seed=1)
    torch.save(model.state_dict(), folder / "valid.loss.best.pth")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder, model


def load(path, layer="last", **options):
    return load_upstream(
        UpstreamConf("espnet_ssl", layer, path_or_url=str(path), **options)
    )


@torch.no_grad()
def test_a_batch_is_what_espnet_gives_each_utterance_alone(trained, speech):
    folder, model = trained
    wavs, lengths = speech
    upstream = load(folder, "weighted_sum")
    assert (upstream.hop_length, upstream.feature_size, upstream.layers) == (
        320,
        32,
        (0, 1, 2, 3),
    )
    states, frames = upstream(wavs, lengths)
    for item, length in enumerate(lengths):
        alone = wavs[item : item + 1, :length]
        last, inner, _ = model.inference_encode(alone, length[None])
        expected = [state[0] for state in (*inner[:-1], last)]
        assert frames[item] == len(expected[-1])
        for state, reference in zip(states[1:], expected, strict=True):
            ours = state[item, : len(reference)]
            assert (ours - reference).norm() <= 1e-4 * reference.norm()
    (first,), _ = load(folder, 0)(wavs, lengths)
    torch.testing.assert_close(first, states[0])


@torch.no_grad()
def test_layers_above_the_highest_one_are_not_computed(trained, speech):
    folder, _ = trained
    every, frames = load(folder, "weighted_sum")(*speech)
    whole = sum(p.numel() for p in load(folder).parameters())
    upstream = load(folder / "valid.loss.best.pth", [2, 1])
    assert sum(p.numel() for p in upstream.parameters()) < whole
    states, _ = upstream(*speech)
    for index, state in zip((2, 1), states, strict=True):
        for item, number in enumerate(frames.tolist()):
            torch.testing.assert_close(
                state[item, :number], every[index][item, :number]
            )


def test_it_is_a_member_that_is_handed_on(trained, speech, tiny_wavlm, tmp_path):
    folder, _ = trained
    copy = tmp_path / "ssl"
    shutil.copytree(folder, copy)
    upstreams = [{"name": "espnet_ssl", "path_or_url": str(copy)}, tiny_wavlm]
    model = EnsembleModel(EnsembleConfig(frontend_conf={"upstreams": upstreams}))
    expected = model(speech[0]).last_hidden_state
    model.save_pretrained(tmp_path / "saved")
    shutil.rmtree(copy)
    loaded = EnsembleModel.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(loaded(speech[0]).last_hidden_state, expected)


def test_weights_without_their_configuration_are_not_handed_on(trained, tmp_path):
    weights = next(trained[0].glob("*.pth"))
    upstreams = [{"name": "espnet_ssl", "path_or_url": str(weights)}]
    model = EnsembleModel(EnsembleConfig(frontend_conf={"upstreams": upstreams}))
    with pytest.raises(EnsembleError, match="give a folder that has both"):
        model.save_pretrained(tmp_path / "saved")


def test_what_cannot_be_is_refused(trained, tmp_path):
    folder, _ = trained
    with pytest.raises(
        UpstreamError, match="needs path_or_url.*hf download espnet/xeus"
    ):
        load_upstream(UpstreamConf("espnet_ssl"))
    with pytest.raises(EnsembleError, match="path_or_url not found"):
        load(tmp_path / "x.pth")
    with pytest.raises(UpstreamError, match="one .pth file, found none"):
        load(tmp_path)
    torch.save({"encoder.x": torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(UpstreamError, match="expected .*config.yaml, as ESPnet"):
        load(tmp_path)
    shutil.copy(folder / "config.yaml", tmp_path)
    with pytest.raises(UpstreamError, match="not the weights of .*config.yaml: no "):
        load(tmp_path)
    (tmp_path / "config.yaml").write_text("encoder: rnn\ntoken_list: [a]\n")
    with pytest.raises(UpstreamError, match="the configuration of ESPnet's SSL task"):
        load(tmp_path)
    contents = Contents()
    torch.save({}, tmp_path / "b.pth")
    contents.add_upstream(str(tmp_path))
    with pytest.raises(EnsembleError, match="found a.pth, b.pth; name the file"):
        contents.check()


@torch.no_grad()
def test_it_trains_where_it_is_not_frozen(trained, speech):
    conf = {"name": "espnet_ssl", "path_or_url": str(trained[0])}
    ensemble = FrontendConf.parse({"upstreams": [conf], "frozen": False}).build()
    with torch.enable_grad():
        # A batch norm wants more than one frame.
        wavs, lengths = (x[:3] for x in speech)
        ensemble.train()(wavs, lengths)[0].square().sum().backward()
    lacking = [k for k, p in ensemble.named_parameters() if p.grad is None]
    assert lacking == []
