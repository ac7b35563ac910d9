"""Calibrations of a cross-validation against simulated models whose right answer is known."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from metrics.calibration import Calibration
from metrics.out_of_fold import common_scale, ensemble_calibration


def test_models_are_brought_to_their_mean_level_and_spread_by_hand():
    one, two = np.array([0.0, 2.0]), np.array([10.0, 18.0])  # mean 1 and 14, deviation 1 and 4
    found = [scale.of(logits) for scale, logits in zip(common_scale([one, two]), (one, two), strict=True)]
    np.testing.assert_allclose(found, [[5.5, 9.5], [5.5, 9.5]])  # mean 7.5, deviation 2


def test_a_model_that_says_nothing_leaves_the_spreads():
    flat, other = common_scale([np.array([3.0, 3.0]), np.array([0.0, 2.0])])
    assert flat == Calibration(1.0, -1.0) and other == Calibration(1.0, 1.0)


def simulate(rng, n_models, n_ecgs, shared):
    """Logits of models that agree by `shared` within a class, each calibrated, and the labels."""
    y_true = (rng.random(n_ecgs) < 0.1).astype(int)
    distance = np.sqrt(2) * norm.ppf(0.75)
    common, own = rng.normal(size=n_ecgs), rng.normal(size=(n_models, n_ecgs))
    value = np.sqrt(shared) * common + np.sqrt(1 - shared) * own + distance * y_true
    return y_true, distance * (value - distance / 2) + np.log(1 / 9)


@pytest.mark.parametrize("shared", [0.3, 0.8])
def test_the_mean_is_as_steep_as_logistic_regression_finds_it(shared):
    rng = np.random.default_rng(1)
    y_true, logits = simulate(rng, 5, 200_000, shared)
    regression = LogisticRegression(C=np.inf, tol=1e-10).fit(logits.mean(axis=0)[:, None], y_true)
    # Seen are two models' logits of each of 600 ECGs
    pairs = logits[:2, :600].ravel()
    options = {"prevalence": 0.1, "n_models": 5}
    found = ensemble_calibration(np.tile(y_true[:600], 2), pairs, np.tile(np.arange(600), 2), **options)
    assert found.slope == pytest.approx(1 / (shared + (1 - shared) / 5), rel=0.1)
    assert found.slope == pytest.approx(regression.coef_.item(), rel=0.12)
    assert found.intercept == pytest.approx(regression.intercept_.item(), abs=0.15)
    assert found.of([np.log(1 / 9)]) == pytest.approx([np.log(1 / 9)])  # turned around the prevalence


def test_models_that_agree_wholly_need_no_other_slope():
    y_true, logits = simulate(np.random.default_rng(2), 1, 100, 1.0)
    found = ensemble_calibration(
        np.tile(y_true, 2), np.tile(logits[0], 2), np.tile(np.arange(100), 2), prevalence=0.1, n_models=5
    )
    assert found == pytest.approx((1.0, 0.0))


@pytest.mark.parametrize(("n_ecgs", "n_models"), [(29, 5), (30, 1)])
def test_too_few_comparisons_leave_the_mean_as_it_is(n_ecgs, n_models):
    rng = np.random.default_rng(3)
    y_true, logits = simulate(rng, 2, n_ecgs, 0.5)
    found = ensemble_calibration(
        np.tile(y_true, 2), logits.ravel(), np.tile(np.arange(n_ecgs), 2), prevalence=0.1, n_models=n_models
    )
    assert found == (1.0, 0.0)
