"""Fixtures: tiny models of the real architectures, and a batch of speech-like noise."""

import os
import signal

import pytest
import torch

from espnet_ensemble.testing.upstreams import (
    save_huggingface,
    save_s3prl,
    tiny_huggingface,
)

# No test may depend on a network; without this, transformers asks the hub for anything
# that it does not find in a folder.
os.environ["HF_HUB_OFFLINE"] = "1"

# A background job of a shell without job control ignores Ctrl-C, and so would what tests
# start and then interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Run slow tests first: no worker is left alone with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a GPU")


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Build and save a tiny transformers model once: models(family, style) -> folder."""
    saved = {}

    def get(family: str, style: str = "base", do_normalize: bool = False) -> str:
        key = (family, style, do_normalize)
        if key not in saved:
            folder = tmp_path_factory.mktemp("-".join(map(str, key)))
            model = tiny_huggingface(family, style)
            if family == "Wav2Vec2Bert":
                from transformers import SeamlessM4TFeatureExtractor

                model.save_pretrained(folder)
                SeamlessM4TFeatureExtractor().save_pretrained(folder)
                saved[key] = str(folder)
            else:
                saved[key] = save_huggingface(folder, model, do_normalize)
        return saved[key]

    return get


@pytest.fixture(scope="session")
def tiny_wavlm(models):
    return models("WavLM")


@pytest.fixture(scope="session")
def tiny_hubert(models):
    return models("Hubert")


@pytest.fixture(scope="session")
def tiny_wav2vec2(models):
    return models("Wav2Vec2", "large", True)


@pytest.fixture(scope="session")
def slow_hubert(tmp_path_factory):
    """A model of half the frame rate: 640 samples from one frame to the next."""
    model = tiny_huggingface("Hubert", conv_stride=(5, 2, 2, 2, 2, 2, 4))
    return save_huggingface(tmp_path_factory.mktemp("models") / "slow", model)


@pytest.fixture(scope="session")
def s3prl_checkpoints(tmp_path_factory):
    """Build and save a tiny S3PRL checkpoint once: (family, style) -> path."""
    folder, saved = tmp_path_factory.mktemp("s3prl"), {}

    def get(family: str, style: str = "base") -> str:
        if (family, style) not in saved:
            saved[family, style] = save_s3prl(folder, family, style)
        return saved[family, style]

    return get


@pytest.fixture
def speech():
    """A zero-padded batch of five noises, from barely a frame to half a second."""
    lengths = torch.tensor([8000, 7999, 3217, 1100, 410])
    generator = torch.Generator().manual_seed(0)
    wavs = torch.zeros(5, 8000)
    for wav, length in zip(wavs, lengths, strict=True):
        wav[:length] = 0.1 * torch.randn(int(length), generator=generator) + 0.01
    return wavs, lengths


@pytest.fixture
def build_model():
    """Write a config.yaml and a checkpoint: build_model(folder, upstreams)."""
    from trained_model import build_model

    return build_model
