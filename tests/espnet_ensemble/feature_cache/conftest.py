"""A small data directory of noises and helpers for the tests of the feature cache."""

import numpy as np
import pytest
import soundfile

from espnet_ensemble.data.datadir import write

#: Of barely a frame, and not in the order of the names.
NUM_SAMPLES = {"a": 3217, "b": 8000, "c": 410, "d": 7999, "e": 1100, "f": 16000, "g": 9}


def noise(num_samples, seed):
    return np.random.default_rng(seed).normal(0, 0.1, num_samples)


@pytest.fixture
def data(tmp_path):
    """Noises at 16 kHz in wav files: <tmp_path>/wav/<utterance>.wav."""
    (tmp_path / "wav").mkdir()
    paths = {key: tmp_path / "wav" / f"{key}.wav" for key in NUM_SAMPLES}
    for seed, (key, path) in enumerate(paths.items()):
        soundfile.write(path, noise(NUM_SAMPLES[key], seed), 16000)
    tables = {
        "utt2spk": {key: "alice" for key in paths},
        "utt2num_samples": {key: str(n) for key, n in NUM_SAMPLES.items()},
        "wav.scp": {key: str(path) for key, path in paths.items()},
    }
    write(tmp_path / "train", tables)
    return tmp_path / "train"


@pytest.fixture(scope="session")
def slow_hubert(tmp_path_factory):
    """A model of half the frame rate: 640 samples from one frame to the next."""
    from espnet_ensemble.testing.upstreams import save_huggingface, tiny_huggingface

    model = tiny_huggingface("Hubert", conv_stride=(5, 2, 2, 2, 2, 2, 4))
    return save_huggingface(tmp_path_factory.mktemp("models") / "slow", model)
