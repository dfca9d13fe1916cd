"""ESPnet3 trains from no features but those that are meant."""

import pytest
import soundfile
from cache_runs import noise
from espnet3_recipe import write_recipe

from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.extract import ExtractConf, extract

pytest.importorskip("espnet3", reason="ESPnet3 comes with ESPnet 202611")
pytest.importorskip("lightning", reason="ESPnet3 trains with Lightning")

OmegaConf = pytest.importorskip("omegaconf").OmegaConf


@pytest.fixture
def folder(tmp_path, tiny_wavlm):
    return write_recipe(tmp_path, [tiny_wavlm])


def check(folder, upstream, preprocessor=None, **frontend_conf):
    """Extract over one upstream, and ask whether a model over another may train."""
    import torch

    from espnet_ensemble import EnsembleFrontend
    from espnet_ensemble.integrations.espnet3.checks import check_training
    from espnet_ensemble.integrations.espnet3.datasets import FeatureCacheDataset

    path = folder / "members.txt"
    dataset = FeatureCacheDataset(path.read_text())
    frontend = torch.nn.Linear(1, 1)
    if upstream is not None:
        frontend = EnsembleFrontend(upstreams=[upstream], **frontend_conf)
    model = torch.nn.Module()
    model.frontend = frontend
    config = OmegaConf.create({"dataset": {"preprocessor": preprocessor}})
    check_training(model, config, [dataset])


@pytest.fixture
def cached(folder, tiny_wavlm):
    """The recipe with the features of its upstream."""
    conf = ExtractConf(storage="float32")
    path = extract(
        folder / "train", {"upstreams": [tiny_wavlm]}, folder / "feats", conf
    )
    (folder / "members.txt").write_text(str(path))
    return folder


def test_those_of_the_model(cached, tiny_wavlm):
    check(cached, tiny_wavlm)


def test_another_frontend(cached):
    with pytest.raises(CacheError, match="for the frontend ensemble, found Linear"):
        check(cached, None)


def test_another_upstream(cached, tiny_hubert):
    with pytest.raises(CacheError, match="fingerprint: expected"):
        check(cached, tiny_hubert)


def test_upstreams_that_train(cached, tiny_wavlm):
    with pytest.raises(CacheError, match="frozen: expected true"):
        check(cached, tiny_wavlm, frozen=False)


def test_features_asked_for_in_the_way_of_espnet2(cached, tiny_wavlm):
    with pytest.raises(CacheError, match="feature_cache is for ESPnet2's training"):
        check(cached, tiny_wavlm, feature_cache="feats")


@pytest.mark.parametrize(
    "preprocessor",
    [
        {"data_aug_effects": [[0.1, "contrast", {}]]},
        {"train": {"data_aug_effects": [[0.1, "contrast", {}]]}},
    ],
)
def test_augmentation(cached, tiny_wavlm, preprocessor):
    with pytest.raises(CacheError, match="data_aug_effects needs the waveform"):
        check(cached, tiny_wavlm, preprocessor)


def test_other_audio(cached, tiny_wavlm):
    soundfile.write(cached / "wav" / "b.wav", noise(8000, 99), 16000)
    with pytest.raises(CacheError, match="'?b'?"):
        check(cached, tiny_wavlm)


def test_an_utterance_without_features(cached, tiny_wavlm):
    with open(cached / "train" / "text", "a") as f:
        f.write("z hi\n")
    with pytest.raises(CacheError, match="text, found no 'z'"):
        check(cached, tiny_wavlm)
