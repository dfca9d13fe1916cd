"""Losses on each upstream, beside those of ESPnet's model."""

from pathlib import Path

import pytest
import torch
import yaml
from espnet2.tasks.asr import ASRTask

from espnet_ensemble.decorrelation import refinement_loss
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.integrations.espnet2.model import load_ctc_model

TEXT = torch.tensor([[2, 3, 4, 2], [2, 3, -1, -1], [4, -1, -1, -1]])
TEXT_LENGTHS = torch.tensor([4, 2, 1])
WEIGHTS = {"member_ctc_weight": 0.3, "refinement_weight": 2.0}


@pytest.fixture
def pair(tiny_wavlm, tiny_hubert):
    return [tiny_wavlm, tiny_hubert]


@pytest.fixture
def batch(speech):
    wavs, lengths = speech
    return wavs[:3], lengths[:3]


def load(folder):
    return ASRTask.build_model_from_file(
        folder / "config.yaml", folder / "valid.ave_2best.pth"
    )[0].eval()


def cached(model, batch):
    """The same batch, as the feature cache gives it."""
    states, feats_lens = model.frontend.extract(*batch)
    return torch.cat([s for own in states for s in own], dim=-1), feats_lens


def member_ctc(ctc, feats, feats_lens):
    """The CTC loss, utterance by utterance, by torch."""
    losses = []
    for x, n, text, length in zip(feats, feats_lens, TEXT, TEXT_LENGTHS, strict=True):
        log_probs = ctc.ctc_lo(x[:n]).log_softmax(dim=-1)[:, None]
        losses.append(
            torch.nn.functional.ctc_loss(
                log_probs, text[None, :length], n[None], length[None], reduction="sum"
            )
        )
    return sum(losses) / len(losses)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["audio", "cached"])
@pytest.mark.parametrize("fusion", ["projection", "weighted_sum", "layer_conv"])
def test_terms_are_added_and_reported(kind, fusion, build_model, pair, batch, tmp_path):
    upstreams = [{"name": name, "layer": [1, 2]} for name in pair]
    build_model(tmp_path, upstreams, model_conf=WEIGHTS, fusion=fusion)
    model = load(tmp_path)
    inputs = batch if kind == "audio" else cached(model, batch)
    loss, stats, weight = model(*inputs, TEXT.clone(), TEXT_LENGTHS)

    model.member_ctc_weight = model.refinement_weight = 0.0
    ctcs, model.member_ctcs = model.member_ctcs, torch.nn.ModuleList()
    plain, plain_stats, plain_weight = model(*inputs, TEXT.clone(), TEXT_LENGTHS)
    assert weight == plain_weight == 3

    frontend = model.frontend
    states, feats_lens = frontend.extract(*batch)
    feats = frontend.fusion.project(
        [layer(own) for layer, own in zip(frontend.layers, states, strict=True)]
    )
    names = [Path(name).name + "-layer1-2" for name in pair]
    terms = {
        f"loss_member_ctc_{name}": member_ctc(ctc, x, feats_lens)
        for name, ctc, x in zip(names, ctcs, feats, strict=True)
    }
    refinement = refinement_loss(feats, feats_lens)
    expected = plain + 2 * refinement + 0.3 * sum(terms.values()) / 2
    torch.testing.assert_close(loss, expected)
    terms["loss_refinement"] = refinement
    for name, value in terms.items():
        torch.testing.assert_close(stats[name].squeeze(), value.squeeze())
    torch.testing.assert_close(stats["loss"].squeeze(), expected.squeeze())
    assert stats.keys() - plain_stats.keys() == terms.keys()
    assert stats["cer_ctc"] == plain_stats["cer_ctc"]


def test_they_train_what_the_fusion_makes_of_each_upstream(
    build_model, pair, batch, tmp_path
):
    build_model(tmp_path, pair, model_conf=WEIGHTS, fusion="projection")
    model = load(tmp_path).train()
    inputs = cached(model, batch)
    gradients = []
    for weights in ({"member_ctc_weight": 0, "refinement_weight": 0}, WEIGHTS):
        vars(model).update(weights)
        torch.manual_seed(0)
        model.zero_grad()
        model(*inputs, TEXT.clone(), TEXT_LENGTHS)[0].backward()
        gradients.append([p.weight.grad for p in model.frontend.fusion.projections])
    for one, other in zip(*gradients, strict=True):
        assert not torch.allclose(one, other)
    assert all(ctc.ctc_lo.weight.grad.any() for ctc in model.member_ctcs)


@torch.no_grad()
def test_they_see_members_that_training_hides(build_model, pair, batch, tmp_path):
    build_model(
        tmp_path, pair, model_conf=WEIGHTS, fusion="projection", member_dropout=0.9
    )
    model = load(tmp_path)
    inputs = cached(model, batch)
    _, expected, _ = model(*inputs, TEXT.clone(), TEXT_LENGTHS)
    _, stats, _ = model.train()(*inputs, TEXT.clone(), TEXT_LENGTHS)
    for name in expected:
        if name.startswith("loss_member") or name == "loss_refinement":
            torch.testing.assert_close(stats[name], expected[name])


@torch.no_grad()
def test_decoding_is_that_of_the_model_without_them(build_model, pair, batch, tmp_path):
    for name, conf in (("with", WEIGHTS), ("without", {})):
        build_model(tmp_path / name, pair, model_conf=conf, fusion="projection")
    weights = torch.load(tmp_path / "with/valid.ave_2best.pth", weights_only=True)
    shared = {k: v for k, v in weights.items() if not k.startswith("member_ctcs.")}
    assert len(weights) - len(shared) == 4
    torch.save(shared, tmp_path / "without/valid.ave_2best.pth")
    found = [
        load_ctc_model(None, tmp_path / name / "valid.ave_2best.pth").log_probs(*batch)
        for name in ("with", "without")
    ]
    assert torch.equal(found[0][0], found[1][0])


def test_one_upstream_alone(build_model, tiny_wavlm, batch, tmp_path):
    build_model(tmp_path, [tiny_wavlm], model_conf=WEIGHTS, fusion="concat")
    _, stats, _ = load(tmp_path)(*batch, TEXT.clone(), TEXT_LENGTHS)
    assert stats["loss_refinement"] == 0
    assert stats[f"loss_member_ctc_{Path(tiny_wavlm).name}"] > 0


def test_wrong_options(build_model, pair, tmp_path):
    for name in WEIGHTS:
        with pytest.raises(EnsembleError, match=f"{name}: expected at least 0"):
            build_model(tmp_path, pair, model_conf={name: -1}, fusion="concat")
    build_model(tmp_path, pair, model_conf={}, fusion="concat")
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    config |= {"frontend": "default", "frontend_conf": {}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(EnsembleError, match="model: ensemble: expected the frontend"):
        load(tmp_path)
