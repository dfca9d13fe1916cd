import pytest
import torch
from torch.nn.functional import layer_norm

from espnet_ensemble import FrontendConf
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.normalization import NORMALIZATIONS, normalize_utterance

FAMILIES = ["WavLM", "Hubert", "Wav2Vec2"]


def speechbrain(feats):
    """What SpeechBrain's ``HuggingFaceWav2Vec2`` did (March 2022): of one utterance."""
    return layer_norm(feats, feats.shape)


def s3prl(feats):
    """What ``s3prl.nn.Featurizer`` does with ``normalize=True``."""
    return layer_norm(feats, feats.shape[-1:])


def build(upstreams, **conf):
    return FrontendConf.parse({"upstreams": upstreams, **conf}).build()


@pytest.fixture(params=["transformers", "s3prl"])
def upstreams(request, models, s3prl_checkpoints):
    """Three families, by either library; the second normalizes its waveform, too."""
    if request.param == "transformers":
        return [models(family, style, style == "large") for family, style in styles()]
    return [
        {"name": f"{name}_local", "path_or_url": s3prl_checkpoints(name, style)}
        for name, style in zip(
            ["wavlm", "hubert", "wav2vec2"], ["base", "large", "base"], strict=True
        )
    ]


def styles():
    return zip(FAMILIES, ["base", "large", "base"], strict=True)


@torch.no_grad()
@pytest.mark.parametrize(
    ("normalize", "reference"), [("utterance", speechbrain), ("layer_norm", s3prl)]
)
def test_in_any_batch_it_is_the_formula_for_one_utterance(
    normalize, reference, upstreams, speech
):
    wavs, lengths = speech
    feats, feats_lens = build(upstreams, normalize=normalize)(wavs, lengths)
    for item, (length, num_frames) in enumerate(
        zip(lengths.tolist(), feats_lens.tolist(), strict=True)
    ):
        alone = [
            reference(
                build([upstream])(wavs[item : item + 1, :length], lengths[item:][:1])[
                    0
                ][0]
            )
            for upstream in upstreams
        ]
        torch.testing.assert_close(
            feats[item, :num_frames], torch.cat(alone, dim=-1), rtol=1e-3, atol=1e-4
        )
        assert not feats[item, num_frames:].any()


@torch.no_grad()
def test_every_hidden_state_is_normalized_before_their_average(tiny_wavlm, speech):
    upstreams = [{"name": tiny_wavlm, "layer": [1, 3]}]
    ensemble = build(upstreams, normalize="layer_norm")
    states, feats_lens = ensemble.extract(*speech)
    expected = (s3prl(states[0][0]) + s3prl(states[0][1])) / 2
    feats = ensemble.fuse(states, feats_lens)
    torch.testing.assert_close(feats[0], expected[0])


@torch.no_grad()
@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_what_is_at_the_padding_does_not_matter(normalize):
    feats, feats_lens = torch.randn(2, 7, 3), torch.tensor([7, 4])
    damaged = feats.clone()
    damaged[1, 4:] = float("nan")
    function = NORMALIZATIONS[normalize]
    assert torch.equal(
        function(damaged, feats_lens)[1, :4], function(feats, feats_lens)[1, :4]
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_half_precision_counts_in_full_and_double_in_double(dtype):
    # The squares of float16 overflow, and bfloat16 counts no further than 256.
    feats = 300 + 200 * torch.randn(1, 1000, 32, dtype=torch.float64)
    exact = speechbrain(feats.to(dtype).double()[0])
    ours = normalize_utterance(feats.to(dtype), torch.tensor([1000]))[0]
    assert ours.dtype == dtype
    tolerance = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(ours.double(), exact, rtol=tolerance, atol=tolerance)


def test_silence_stays_finite():
    feats = torch.zeros(1, 4, 2, requires_grad=True)
    for function in NORMALIZATIONS.values():
        out = function(feats, torch.tensor([4]))
        out.sum().backward()
        assert out.isfinite().all()
    assert feats.grad.isfinite().all()


def test_unknown(tiny_wavlm):
    with pytest.raises(
        EnsembleError, match="normalize: expected one of none, utt.*'l2'"
    ):
        build([tiny_wavlm], normalize="l2")
