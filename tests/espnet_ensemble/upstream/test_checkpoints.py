import pytest
import torch
from transformers import HubertModel, Wav2Vec2Model, WavLMModel

from espnet_ensemble.upstream.checkpoints import CHECKPOINTS
from espnet_ensemble.upstream.registry import UpstreamConf
from espnet_ensemble.upstream.s3prl_hub import hub_entries

FAMILIES = {"wav2vec2": Wav2Vec2Model, "hubert": HubertModel, "wavlm": WavLMModel}
# The published architectures, but for what CHECKPOINTS says of each.
HEADS = {768: 12, 1024: 16, 1280: 16}


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda c: c.huggingface)
def test_size_of_the_published_architecture(checkpoint):
    family = checkpoint.huggingface.split("/")[1].split("-")[0]
    size = checkpoint.feature_size
    large = dict(feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)
    model_class = FAMILIES[family]
    config = model_class.config_class(
        hidden_size=size,
        num_hidden_layers=checkpoint.num_layers,
        num_attention_heads=HEADS[size],
        intermediate_size=4 * size,
        mask_time_prob=0.0,
        **(large if size > 768 else {}),
    )
    with torch.device("meta"):
        model = model_class(config)
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    assert parameters == pytest.approx(checkpoint.parameters, abs=0.06)


def test_names_exist_in_s3prl():
    for checkpoint in CHECKPOINTS:
        assert checkpoint.s3prl in hub_entries()


def test_checkpoints_that_s3prl_has_no_name_for_go_through_transformers():
    custom = [c for c in CHECKPOINTS if c.s3prl.startswith("hf_")]
    assert {c.huggingface for c in custom} == {
        "facebook/hubert-xlarge-ll60k",
        "facebook/wav2vec2-large-960h-lv60-self",
        "facebook/hubert-xlarge-ls960-ft",
    }
    for checkpoint in custom:
        conf = UpstreamConf.parse(checkpoint.s3prl_entry)
        assert conf.uses_s3prl and conf.local_option is None
        assert conf.absolute() == conf


def test_both_huberts_of_the_paper_are_there():
    hubert = {c.huggingface: c for c in CHECKPOINTS if "hubert" in c.huggingface}
    assert hubert["facebook/hubert-large-ll60k"].feature_size == 1024
    assert hubert["facebook/hubert-xlarge-ll60k"].feature_size == 1280
    assert "316.6 M" in hubert["facebook/hubert-xlarge-ll60k"].note
