"""DeLong's interval and test against brute force and the bootstrap."""

import math

import numpy as np
import pytest
import scipy.stats
from sklearn import metrics as sklearn_metrics
from sklearn.exceptions import UndefinedMetricWarning

from metrics import bootstrap, delong


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def make_scores(rng, n_ecgs, prevalence=0.2, shift=1.0):
    y_true = (rng.random(n_ecgs) < prevalence).astype(int)
    return y_true, 1 / (1 + np.exp(-(rng.normal(size=n_ecgs) + shift * y_true)))


def covariance_by_brute_force(y_true, scores):
    """The covariance matrix of AUROCs from all pairs, formulas 5 to 8 of DeLong 1988: O(n m)."""
    placements = []
    for label in (1, 0):
        of_label = []
        for score in scores:
            pairs = score[y_true == 1][:, None] - score[y_true == 0]
            won = (pairs > 0) + 0.5 * (pairs == 0)
            of_label.append(won.mean(axis=1 if label else 0))
        placements.append(np.cov(of_label) / len(of_label[0]))
    return sum(placements)


@pytest.mark.parametrize("digits", [1, 8])  # many ties, none
def test_delong_by_brute_force(rng, digits):
    y_true, score_a = make_scores(rng, 200)
    score_b = score_a + rng.normal(scale=0.2, size=200)
    scores = score_a.round(digits), score_b.round(digits)
    covariance = covariance_by_brute_force(y_true, scores)
    areas = [sklearn_metrics.roc_auc_score(y_true, score) for score in scores]
    of_positives = scipy.stats.t(y_true.sum() - 1)
    quantile = of_positives.ppf(0.975)
    for score, area, variance in zip(scores, areas, covariance.diagonal(), strict=True):
        logit, margin = np.log(area / (1 - area)), quantile * np.sqrt(variance) / (area * (1 - area))
        expected = 1 / (1 + np.exp([margin - logit, -margin - logit]))
        assert delong.delong_interval(y_true, score) == pytest.approx(tuple(expected), rel=1e-6)
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    found = delong.delong_test(y_true, *scores)
    assert found.difference == pytest.approx(areas[0] - areas[1])
    assert found.t == pytest.approx((areas[0] - areas[1]) / error)
    assert (found.high - found.low) / 2 == pytest.approx(quantile * error, rel=1e-6)
    assert found.p == pytest.approx(2 * of_positives.sf(abs(found.t)))


def test_delong_agrees_with_the_bootstrap(rng):
    y_true, score_a = make_scores(rng, 1000, prevalence=0.1)
    score_b = score_a + rng.normal(scale=0.2, size=1000)
    for patients in (np.arange(1000), np.arange(1000) // 3):
        aurocs = [
            np.concatenate([bootstrap.auroc_of_counts(counts) for counts in resampled])
            for resampled in (
                bootstrap.resampled_counts(y_true, score, patients, 2000, seed=42)
                for score in (score_a, score_b)
            )
        ]
        low, high = np.quantile(aurocs[0], [0.025, 0.975])
        # two percentiles of 2,000 resamples: each is known to about a tenth of the standard error
        of_delong = delong.delong_interval(y_true, score_a, patients)
        assert of_delong == pytest.approx((low, high), abs=0.1 * (high - low))
        low, high = np.quantile(aurocs[0] - aurocs[1], [0.025, 0.975])
        tested = delong.delong_test(y_true, score_a, score_b, patients)
        auroc = sklearn_metrics.roc_auc_score
        assert tested.difference == pytest.approx(auroc(y_true, score_a) - auroc(y_true, score_b))
        assert tested[1:3] == pytest.approx((low, high), abs=0.1 * (high - low))


def test_delong_of_repeated_ecgs(rng):
    y_true, score_a = make_scores(rng, 150)
    score_b = rng.random(150)
    repeated = [np.repeat(column, 4) for column in (y_true, score_a, score_b)]
    patients = np.repeat(np.arange(150), 4)
    once = delong.delong_interval(y_true, score_a)
    assert delong.delong_interval(*repeated[:2], patients) == pytest.approx(once)
    assert delong.delong_test(*repeated, patients) == pytest.approx(
        delong.delong_test(y_true, score_a, score_b)
    )
    assert delong.delong_test(y_true, score_a, score_b, np.arange(150)) == pytest.approx(
        delong.delong_test(y_true, score_a, score_b)
    )
    low, high = delong.delong_interval(*repeated[:2])
    assert high - low < 0.6 * (once[1] - once[0])


def test_perfect_separation_has_the_bound_of_the_rarer_class():
    y_true, y_score = np.repeat([0, 1], [30, 9]), np.arange(39)
    low, high = delong.delong_interval(y_true, y_score)
    assert (low, high) == (pytest.approx(0.6637, abs=1e-4), 1)
    assert low**9 == pytest.approx(0.025)  # the chance that nine pairs are all ranked rightly
    assert delong.delong_interval(y_true, -y_score) == (0, pytest.approx(1 - low))
    # of three patients' nine ECGs, three pairs
    patients = np.concatenate([np.arange(30), 30 + np.arange(9) // 3])
    assert delong.delong_interval(y_true, y_score, patients)[0] == pytest.approx(0.025 ** (1 / 3))


def test_the_bound_of_perfect_separation_holds(rng):
    """Where the true AUROC is that bound, nine positives are separated in at most 25 of 1,000 studies."""
    shift = math.sqrt(2) * scipy.stats.norm.ppf(0.025 ** (1 / 9))
    lowest_positive = (rng.normal(size=(20_000, 9)) + shift).min(axis=1)
    assert np.mean(lowest_positive > rng.normal(size=(20_000, 20)).max(axis=1)) < 0.025


def test_a_difference_of_aurocs_ends_at_1():
    """Two positives: a wide interval of Student's t, which would reach beyond what a difference can be."""
    test = delong.delong_test([1, 1, 0, 0, 0], [0.9, 0.4, 0.5, 0.2, 0.1], [0.1, 0.8, 0.5, 0.6, 0.7])
    assert test.low == -1 and test.high == 1 and test.difference == pytest.approx(5 / 6 - 0.5)
    assert (
        test.difference + 12.706 * abs(test.difference / test.t) > 1
    )  # Student's t of one degree of freedom


@pytest.mark.parametrize(
    "y_true, y_score, reason",
    [
        ([0, 0], [0.1, 0.2], "no positive ECG"),
        ([0, 0, 1], [0.1, 0.3, 0.2], "variance nan"),
        ([0, 1, 0, 1], [0.5] * 4, "variance 0"),
    ],
)
def test_delong_is_nan_where_undefined(y_true, y_score, reason):
    with pytest.warns(UndefinedMetricWarning, match=reason):
        assert np.isnan(delong.delong_interval(y_true, y_score)).all()
    with pytest.warns(UndefinedMetricWarning, match="DeLong's test"):
        assert math.isnan(delong.delong_test(y_true, y_score, y_score).p)
