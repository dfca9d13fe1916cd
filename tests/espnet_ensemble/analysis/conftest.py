"""Layers of features that are made up, and speech that spells."""

import numpy as np
import pytest
import soundfile
import torch

from espnet_ensemble.analysis.features import LayerFeatures
from espnet_ensemble.analysis.sample import Sample
from espnet_ensemble.data.datadir import write
from espnet_ensemble.feature_cache.identity import FeatureIdentity

#: Hz
TONES = {"a": 300, "b": 900, "c": 2000}


@pytest.fixture
def make_layer():
    """Features in memory: make_layer(name, {utterance: frames}, layer)."""

    def make(name, feats, layer=0, upstream=0, normalize="none"):
        size = next(iter(feats.values())).shape[1]
        identity = FeatureIdentity(
            name, layer, [layer], None, name, size, 16000, 320, 16000, "float32"
        )
        counts = {key: len(x) for key, x in feats.items()}
        return LayerFeatures(
            upstream, name, layer, identity, 1000, feats, 1, counts, normalize
        )

    return make


@pytest.fixture
def spelled(tmp_path):
    """Texts, and frames that say them: (sample, {utterance: frames}, noise)."""
    rng = np.random.default_rng(0)
    texts, feats, noise = {}, {}, {}
    for number in range(60):
        key = f"{number:02}"
        letters = rng.integers(0, 3, 6)
        texts[key] = "".join("abc"[i] for i in letters)
        # A letter is two frames, and what is between them one.
        spoken = np.repeat(np.c_[letters + 1, np.zeros_like(letters)].ravel(), 2)
        feats[key] = np.eye(4, dtype=np.float32)[spoken] + 0.3 * rng.standard_normal(
            (len(spoken), 4), dtype=np.float32
        )
        noise[key] = rng.standard_normal((len(spoken), 4), dtype=np.float32)
    keys = sorted(texts)
    return Sample(tmp_path, texts, keys[:45], keys[45:], 16000), feats, noise


@pytest.fixture
def spoken(tmp_path):
    """A data directory: tones that spell, of 16 speakers."""
    rng = np.random.default_rng(0)
    tables = {"wav.scp": {}, "text": {}, "utt2spk": {}, "utt2num_samples": {}}
    (tmp_path / "wav").mkdir()
    for number in range(16):
        key = f"s{number:02}-u"
        text = "".join(rng.choice(list(TONES), 3))
        times = np.arange(3200) / 16000
        parts = [np.sin(2 * np.pi * TONES[letter] * times) for letter in text]
        samples = 0.1 * np.concatenate(parts) + 0.01 * rng.standard_normal(9600)
        soundfile.write(tmp_path / "wav" / f"{key}.wav", samples, 16000)
        tables["wav.scp"][key] = str(tmp_path / "wav" / f"{key}.wav")
        tables["text"][key] = text
        tables["utt2spk"][key] = f"s{number:02}"
        tables["utt2num_samples"][key] = "9600"
    write(tmp_path / "train", tables)
    torch.manual_seed(0)
    return tmp_path / "train"
