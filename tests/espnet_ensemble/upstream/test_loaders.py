"""The same checkpoint by S3PRL and by transformers: equal features, apart on disk."""

import pytest
import torch

from espnet_ensemble.feature_cache.identity import FeatureIdentity
from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.upstream.checkpoints import CUSTOM_LOADERS
from espnet_ensemble.upstream.registry import UpstreamConf, load_upstream

FAMILIES = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert"}


@pytest.fixture(params=[(f, s) for f in FAMILIES for s in ("base", "large")], ids=str)
def entries(request, models):
    """What transformers and S3PRL load a tiny checkpoint by, as ``table`` has it."""
    family, style = request.param
    folder = models(FAMILIES[family], style, do_normalize=style == "large")
    return [folder, {"name": CUSTOM_LOADERS[family], "path_or_url": folder}]


@torch.no_grad()
def test_features_are_equal(entries):
    """S3PRL may count one frame more, a copy of the last."""
    theirs, ours = (load_upstream(UpstreamConf.parse(entry)) for entry in entries)
    lengths = torch.tensor([6000, 4321])
    wavs = torch.randn(2, 6000) * (torch.arange(6000) < lengths.unsqueeze(1))
    (expected,), frames = theirs(wavs, lengths)
    (found,), more = ours(wavs, lengths)
    for item, number in enumerate(frames.tolist()):
        assert more[item] - number in (0, 1)
        error = (found[item, :number] - expected[item, :number]).norm()
        assert error <= 1e-4 * expected[item, :number].norm()


def test_fingerprints_and_caches_are_apart(entries):
    confs = [FrontendConf.parse({"upstreams": [entry]}) for entry in entries]
    theirs, ours = (FeatureIdentity.load(conf)[0] for conf in confs)
    assert theirs.tag != ours.tag
    assert theirs.difference(ours) is not None
    assert confs[0].tag != confs[1].tag
