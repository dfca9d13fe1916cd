import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from espnet_ensemble.analysis.moments import Moments
from espnet_ensemble.analysis.ridge import (
    PENALTIES,
    Fold,
    cross_validated_r2,
    fit_ridge,
)

RNG = np.random.default_rng(1)
X = RNG.standard_normal((300, 5)) * [1, 2, 3, 0.1, 1] + 2
Y = X @ RNG.standard_normal((5, 3)) + 2 * RNG.standard_normal((300, 3)) - 1
PARTS = np.split(np.arange(300), [90, 200])


def fold(x, y):
    data = Fold(Moments.zeros(5, 5), Moments.zeros(5, 3), np.square(y).sum(axis=0))
    data.xx.add(x, x)
    data.xy.add(x, y)
    return data


@pytest.mark.parametrize("penalty", [1e-6, 0.3])
def test_as_scikit_learn_fits(penalty):
    ridge = fit_ridge(fold(X, Y), penalty)
    alpha = penalty * X.var(axis=0).mean() * len(X)
    expected = Ridge(alpha=alpha).fit(X, Y)
    assert np.allclose(ridge.weight, expected.coef_.T, atol=1e-8)
    assert np.allclose(ridge.bias, expected.intercept_, atol=1e-8)


def test_as_scikit_learn_cross_validates():
    found, penalty = cross_validated_r2([fold(X[i], Y[i]) for i in PARTS])
    scores = []
    for share in PENALTIES:
        errors, total = 0.0, 0.0
        for i in PARTS:
            seen = np.setdiff1d(np.arange(len(X)), i)
            alpha = share * X[seen].var(axis=0).mean() * len(seen)
            model = Ridge(alpha=alpha).fit(X[seen], Y[seen])
            variance = Y[i].var(axis=0).sum() * len(i)
            r2 = r2_score(Y[i], model.predict(X[i]), multioutput="variance_weighted")
            errors, total = errors + (1 - r2) * variance, total + variance
        scores.append(1 - errors / total)
    assert found == pytest.approx(max(scores), abs=1e-9)
    assert penalty == PENALTIES[int(np.argmax(scores))]


def test_what_is_a_linear_map_is_predicted_and_noise_is_not():
    folds = [fold(X[i], X[i][:, :3] * 2 + 1) for i in PARTS]
    assert cross_validated_r2(folds)[0] > 0.9999
    noise = RNG.standard_normal((300, 3))
    assert cross_validated_r2([fold(X[i], noise[i]) for i in PARTS])[0] < 0.05
