"""WavLM's attention in one kernel, against transformers' and S3PRL's own."""

import copy

import pytest
import torch

from espnet_ensemble.testing.upstreams import tiny_huggingface
from espnet_ensemble.upstream.attention import fuse_attention, takes_booleans

LENGTHS = [19, 12, 1]


@pytest.fixture
def hidden():
    return torch.randn(3, 19, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def padding():
    return torch.arange(19) >= torch.tensor(LENGTHS)[:, None]


def transformers_pair(style="base"):
    theirs = tiny_huggingface("WavLM", style)
    ours = copy.deepcopy(theirs)
    fuse_attention(ours)
    return ours, theirs


def assert_equal_frames(ours, theirs, tolerance=1e-5):
    for x, y, n in zip(ours, theirs, LENGTHS, strict=True):
        error = (x[:n] - y[:n]).norm() / y[:n].norm()
        assert error <= tolerance


@torch.no_grad()
@pytest.mark.parametrize("masked", [True, False])
def test_equals_transformers_in_every_layer(masked, hidden, padding):
    ours, theirs = transformers_pair()
    our_bias = their_bias = None
    for own, other in zip(ours.encoder.layers, theirs.encoder.layers, strict=True):
        found, _, our_bias = own.attention(
            hidden,
            attention_mask=~padding[:, None, None] if masked else None,
            position_bias=our_bias,
        )
        expected, _, their_bias = other.attention(
            hidden,
            attention_mask=(~padding).long() if masked else None,
            position_bias=their_bias,
        )
        assert_equal_frames(found, expected)
    # Of the batch, there is one for all utterances; and it has not been computed again.
    assert our_bias.shape == (4, 19, 19)
    assert torch.equal(our_bias, their_bias[:4])


@torch.no_grad()
def test_equals_s3prl(s3prl_checkpoints, hidden, padding):
    from s3prl.upstream.wavlm.hubconf import wavlm_local

    theirs = wavlm_local(s3prl_checkpoints("wavlm")).model.eval()
    ours = copy.deepcopy(theirs.encoder)
    fuse_attention(ours)
    expected, _ = theirs.encoder(hidden.clone(), padding_mask=padding)
    found, _ = ours(hidden.clone(), padding_mask=padding)
    assert_equal_frames(found, expected)


def test_gradients_equal_those_of_transformers(hidden):
    ours, theirs = transformers_pair()
    for model in (ours, theirs):
        model.encoder(hidden.clone())[0].square().sum().backward()
    for name, parameter in theirs.encoder.named_parameters():
        own = ours.encoder.get_parameter(name).grad
        if parameter.grad is None:
            assert own is None
        else:
            torch.testing.assert_close(own, parameter.grad, rtol=1e-3, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast(dtype, hidden):
    ours, theirs = transformers_pair("large")
    expected = theirs.encoder(hidden.clone())[0]
    with torch.autocast("cpu", dtype):
        found = ours.encoder(hidden.clone())[0]
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05)
    found = ours.to(dtype).encoder(hidden.to(dtype))[0]
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05)


def test_weights_keep_their_names_and_copies_work(hidden):
    ours, theirs = transformers_pair()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    clone = copy.deepcopy(ours).eval()
    assert torch.equal(
        clone.encoder(hidden.clone())[0], ours.encoder(hidden.clone())[0]
    )


def test_other_models_are_left_as_they_are():
    model = tiny_huggingface("Hubert")
    before = [type(module) for module in model.modules()]
    fuse_attention(model)
    assert [type(module) for module in model.modules()] == before


@pytest.mark.parametrize(
    "family, expected", [("WavLM", False), ("Hubert", True), ("Wav2Vec2", True)]
)
def test_which_masks_models_take(family, expected):
    model = tiny_huggingface(family)
    assert takes_booleans(model) == expected
    fuse_attention(model)
    assert takes_booleans(model)


@pytest.mark.parametrize("family", ["WavLM", "Hubert", "Wav2Vec2", "Data2VecAudio"])
def test_all_of_them_run_in_one_kernel(family, models, speech, monkeypatch):
    from espnet_ensemble.upstream import UpstreamConf, load_upstream

    upstream = load_upstream(UpstreamConf(models(family)))
    kernel, calls = torch.nn.functional.scaled_dot_product_attention, []

    def count(*args, **kwargs):
        calls.append(kwargs["attn_mask"].shape)
        return kernel(*args, **kwargs)

    for place in (
        "torch.nn.functional.scaled_dot_product_attention",
        "espnet_ensemble.upstream.attention.scaled_dot_product_attention",
    ):
        monkeypatch.setattr(place, count)
    with torch.no_grad():
        upstream(*speech)
    assert len(calls) == 3
    # Nothing is as large as all pairs of frames but WavLM's bias.
    assert calls[0] == ((5, 4, 24, 24) if family == "WavLM" else (5, 1, 1, 24))
