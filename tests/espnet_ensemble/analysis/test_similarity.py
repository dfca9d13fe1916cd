import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA

from espnet_ensemble.analysis.moments import Moments
from espnet_ensemble.analysis.similarity import Whitening, linear_cka, svcca

RNG = np.random.default_rng(0)


def frames(count, features, shared=None, noise=1.0):
    x = (
        noise
        * RNG.standard_normal((count, features))
        @ np.diag(np.linspace(0.5, 2, features))
    )
    if shared is not None:
        x += shared @ RNG.standard_normal((shared.shape[1], features))
    return x + RNG.standard_normal(features)


def streamed(x, y):
    """Moments of utterances of several lengths."""
    moments = Moments.zeros(x.shape[1], y.shape[1])
    for part in np.split(np.arange(len(x)), [3, 50, 51, 200]):
        moments.add(x[part].astype(np.float32), y[part].astype(np.float32))
    return moments.covariance


@pytest.fixture(scope="module")
def pair():
    shared = RNG.standard_normal((400, 4))
    return frames(400, 6, shared), frames(400, 9, shared)


def gram_cka(x, y):
    """By its definition: the centred kernels of all pairs of frames."""
    centre = np.eye(len(x)) - 1 / len(x)
    k, m = (centre @ a @ a.T @ centre for a in (x, y))
    return (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())


def similarities(x, y):
    xx, xy, yy = streamed(x, x), streamed(x, y), streamed(y, y)
    return linear_cka(xx, xy, yy), svcca(Whitening.of(xx), xy, Whitening.of(yy))


def test_cka_is_that_of_all_pairs_of_frames(pair):
    assert similarities(*pair)[0] == pytest.approx(gram_cka(*pair), rel=1e-5)


def test_svcca_is_that_of_scikit_learn(pair):
    reduced = [PCA(0.99).fit_transform(x) for x in pair]
    number = min(x.shape[1] for x in reduced)
    cca = CCA(number, max_iter=5000, tol=1e-10).fit(*reduced)
    scores = cca.transform(*reduced)
    expected = [
        np.corrcoef(a, b)[0, 1] for a, b in zip(*(s.T for s in scores), strict=True)
    ]
    assert similarities(*pair)[1] == pytest.approx(np.mean(expected), abs=1e-4)


def test_with_itself_it_is_one_and_it_is_symmetric(pair):
    x, y = pair
    assert similarities(x, x) == pytest.approx((1, 1), abs=1e-6)
    assert similarities(x, y) == pytest.approx(similarities(y, x), abs=1e-9)


def test_rotation_scale_and_shift_change_nothing(pair):
    x, y = pair
    rotation, _ = orthogonal_procrustes(frames(20, 9), frames(20, 9))
    changed = 7.0 * y @ rotation + 3
    assert similarities(x, changed) == pytest.approx(similarities(x, y), abs=1e-5)


def test_unrelated_features_are_less_alike(pair):
    x, y = pair
    cka, cca = similarities(x, frames(400, 9))
    assert cka < 0.1 < similarities(x, y)[0] and cca < 0.3 < similarities(x, y)[1]


def test_what_does_not_vary_is_like_nothing():
    x, constant = frames(100, 3), np.ones((100, 2))
    assert similarities(x, constant) == (0, 0)
