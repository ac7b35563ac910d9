"""Points and parts of the ROC curve against hand-worked values and scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from metrics import bootstrap, roc_points


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def make_scores(rng, n_ecgs, prevalence=0.2, shift=1.0):
    y_true = (rng.random(n_ecgs) < prevalence).astype(int)
    return y_true, 1 / (1 + np.exp(-(rng.normal(size=n_ecgs) + shift * y_true)))


def sensitivity_at_specificity(y_true, y_score, *specificity):
    counts = bootstrap.rank_counts(np.asarray(y_true), np.asarray(y_score))
    return roc_points.sensitivity_at_specificity_of_counts(counts, *specificity).item()


def partial_auroc(y_true, y_score, *min_specificity):
    counts = bootstrap.rank_counts(np.asarray(y_true), np.asarray(y_score))
    return roc_points.partial_auroc_of_counts(counts, *min_specificity).item()


def test_points_of_the_roc_curve_by_hand():
    # ascending: 4 negatives, +, 4 negatives, +, 2 negatives, ++
    y_true = np.array([0] * 4 + [1] + [0] * 4 + [1] + [0] * 2 + [1] * 2)
    y_score = np.arange(14) / 14
    assert sensitivity_at_specificity(y_true, y_score, 0.9) == 0.5
    assert sensitivity_at_specificity(y_true, y_score, 0.8) == 0.75


@pytest.mark.parametrize("digits", [1, 2, 8])
@pytest.mark.parametrize("wanted", [0.5, 0.9, 0.95, 1.0])
def test_points_of_the_roc_curve_of_scikit_learn(rng, wanted, digits):
    y_true, y_score = make_scores(rng, 200)
    y_score = y_score.round(digits)
    rate, sensitivity, _ = sklearn_metrics.roc_curve(y_true, y_score, drop_intermediate=False)
    found = sensitivity_at_specificity(y_true, y_score, wanted)
    assert found == pytest.approx(sensitivity[1 - rate >= wanted - 1e-12].max())


@pytest.mark.parametrize("digits", [1, 2, 8])
@pytest.mark.parametrize("min_specificity", [0.0, 0.5, 0.9, 0.95])
def test_partial_auroc_of_scikit_learn(rng, min_specificity, digits):
    y_true, y_score = make_scores(rng, 200)
    y_score = y_score.round(digits)
    # McClish's standardisation too
    expected = sklearn_metrics.roc_auc_score(y_true, y_score, max_fpr=1 - min_specificity)
    found = partial_auroc(y_true, y_score, min_specificity)
    # without a restriction scikit-learn gives the plain area, which the standardisation leaves as it is
    assert found == pytest.approx(expected)
    assert partial_auroc([0, 0, 1], [0.1, 0.2, 0.3], min_specificity) == pytest.approx(1)
    least = roc_points.least_partial_auroc(min_specificity)
    assert partial_auroc([1, 0, 0], [0.1, 0.2, 0.3], min_specificity) == pytest.approx(least)


def test_each_resampled_point_is_that_of_the_repeated_ecgs(rng):
    y_true, y_score = make_scores(rng, 80)
    y_score = y_score.round(2)
    counts = next(bootstrap.resampled_counts(y_true, y_score, np.arange(80), 20, seed=1))
    weights = next(bootstrap.resampled_weights(np.arange(80), 20, seed=1))
    sensitivity = roc_points.sensitivity_at_specificity_of_counts(counts, 0.9)
    partial = roc_points.partial_auroc_of_counts(counts, 0.9)
    for row, weight in enumerate(weights):
        repeated = np.repeat(y_true, weight), np.repeat(y_score, weight)
        assert sensitivity[row] == pytest.approx(sensitivity_at_specificity(*repeated, 0.9))
        assert partial[row] == pytest.approx(partial_auroc(*repeated, 0.9))


def test_points_of_the_roc_curve_of_equal_scores():
    equal = [0, 1, 0], [0.3, 0.3, 0.3]
    assert sensitivity_at_specificity(*equal) == 0
    assert partial_auroc(*equal) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="min_specificity"):
        partial_auroc(*equal, 1.0)
    with pytest.raises(ValueError, match="specificity: expected"):
        sensitivity_at_specificity(*equal, 90)
