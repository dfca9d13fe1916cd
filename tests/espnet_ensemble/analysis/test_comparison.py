import numpy as np
import pytest

from espnet_ensemble.analysis.comparison import compare_layers, predict_layers
from espnet_ensemble.analysis.features import extract_layers
from espnet_ensemble.analysis.similarity import Whitening, linear_cka, svcca
from espnet_ensemble.feature_cache.extract import ExtractConf
from espnet_ensemble.frontend_conf import FrontendConf


def last(items):
    *shares, result = items
    assert sum(shares) == pytest.approx(1)
    return result


def test_streamed_in_parts_is_as_direct_on_real_features(
    spoken, tmp_path, tiny_wavlm, slow_hubert
):
    """Also of frame rates that differ: frames of the slower are repeated."""
    frontend = FrontendConf.parse(
        {"upstreams": [tiny_wavlm, slow_hubert], "normalize": "utterance"}
    )
    nested = extract_layers(
        spoken, frontend, tmp_path / "feats", ExtractConf("float32", layers="all")
    )
    layers = [layer for of_upstream in nested for layer in of_upstream]
    assert [layer.layer for layer in layers] == [0, 1, 2, 3] * 2
    keys = [f"s{number:02}-u" for number in range(16)]
    frames = [np.concatenate([x.read(key) for key in keys]) for x in layers]
    assert len({len(x) for x in frames}) == 1
    assert np.allclose(frames[4][0], frames[4][1]), "repeated"
    found = last(compare_layers(layers, keys, 10**6, 10**9))
    # Memory for the covariances of two layers with two.
    parts = last(compare_layers(layers, keys, 10**6, 8 * 64**2))
    assert found.frames == len(frames[0]) and found.labels == [x.label for x in layers]
    assert np.allclose(found.cka, parts.cka) and np.allclose(found.svcca, parts.svcca)
    for i, x in enumerate(frames):
        for j, y in enumerate(frames):
            both = np.cov(x.T, y.T, bias=True)
            n = x.shape[1]
            xx, xy, yy = both[:n, :n], both[:n, n:], both[n:, n:]
            assert found.cka[i][j] == pytest.approx(linear_cka(xx, xy, yy), abs=1e-5)
            direct = svcca(Whitening.of(xx), xy, Whitening.of(yy))
            assert found.svcca[i][j] == pytest.approx(direct, abs=1e-4)


def test_so_many_frames_at_most(make_layer, spelled):
    _, feats, _ = spelled
    layer = make_layer("x", feats)
    found = last(compare_layers([layer], sorted(feats), 300, 10**9))
    assert 200 < found.frames <= 300


def test_who_predicts_whom(make_layer, spelled):
    _, feats, noise = spelled
    part = {key: x[:, :2] for key, x in feats.items()}
    layers = [
        make_layer(n, x) for n, x in zip("xyz", (feats, part, noise), strict=True)
    ]
    r2 = last(predict_layers(layers, sorted(feats))).r2
    assert r2[0][1] > 0.999 and r2[1][0] < 0.9 and abs(r2[0][2]) < 0.1
    assert [r2[i][i] for i in range(3)] == [1, 1, 1]
