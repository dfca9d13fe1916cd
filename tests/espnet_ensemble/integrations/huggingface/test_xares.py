"""Encoders as the audio encoder challenges take them."""

import inspect

import pytest
import torch

from espnet_ensemble import EnsembleConfig, EnsembleModel
from espnet_ensemble.integrations.huggingface.xares import XaresEncoder, XaresLLMEncoder


@pytest.fixture
def folder(tiny_wavlm, tiny_hubert, tmp_path):
    conf = {"upstreams": [tiny_wavlm, tiny_hubert]}
    EnsembleModel(EnsembleConfig(frontend_conf=conf)).save_pretrained(tmp_path)
    return tmp_path


def test_what_x_ares_asks_of_an_encoder(folder):
    encoder = XaresEncoder(folder).train()
    assert type(encoder).__name__.endswith("Encoder") and not encoder.training
    assert (encoder.output_dim, encoder.sampling_rate) == (64, 16000)
    features = encoder(torch.randn(2, 50000))
    assert isinstance(features, torch.Tensor) and not features.requires_grad
    assert features.shape == (2, 156, encoder.output_dim)
    assert 50000 / 16 / encoder.hop_size_in_ms == pytest.approx(156, abs=1)
    assert torch.equal(encoder(torch.ones(8000)), encoder(torch.ones(1, 8000)))


def test_what_xares_llm_asks_of_an_encoder(folder):
    encoder = XaresLLMEncoder(folder)
    assert list(inspect.signature(encoder.forward).parameters) == [
        "audio",
        "audio_attention_mask",
    ]
    result = encoder(torch.randn(3, 50000), None)
    assert isinstance(result, tuple)
    features, mask = result
    assert features.shape == (3, 156, 64) and mask.shape == (3, 156) and mask.all()


def test_an_utterance_is_the_same_alone_and_behind_a_mask(folder):
    encoder = XaresLLMEncoder(folder)
    wavs = 0.1 * torch.randn(2, 16000)
    mask = torch.ones(2, 16000)
    mask[1, 9000:] = 0  # what is there is noise: it must not be heard
    features, feature_mask = encoder(wavs, mask)
    alone, _ = encoder(wavs[1, :9000], torch.ones(9000))
    assert feature_mask.sum(dim=1).tolist() == [49, 27]
    torch.testing.assert_close(features[1, :27], alone[0])
    assert (features[1, 27:] == 0).all()


def test_the_benchmark_agrees(folder):
    checker = pytest.importorskip("xares.audio_encoder_checker")
    assert checker.check_audio_encoder(XaresEncoder(folder))
