"""Calibration against scikit-learn, published formulas and hand-worked values."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import norm, t
from sklearn import metrics as sklearn_metrics
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import LogisticRegression

from metrics import calibration


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def make_scores(rng, n_ecgs, prevalence=0.2, shift=1.0):
    y_true = (rng.random(n_ecgs) < prevalence).astype(int)
    return y_true, 1 / (1 + np.exp(-(rng.normal(size=n_ecgs) + shift * y_true)))


def test_brier_score(rng):
    assert calibration.brier_score([1, 0], [0.8, 0.4]) == pytest.approx((0.04 + 0.16) / 2)
    y_true, y_score = make_scores(rng, 50)
    assert calibration.brier_score(y_true, y_score) == pytest.approx(
        sklearn_metrics.brier_score_loss(y_true, y_score)
    )
    with pytest.raises(ValueError, match="probabilities"):
        calibration.brier_score([1, 0], [2.0, -1.0])


def logit(score):
    return np.log(score) - np.log1p(-score)


# Fitting


def test_platt_is_the_logistic_regression_of_smoothed_targets(rng):
    y_true, y_score = make_scores(rng, 150)
    found = calibration.fit_calibration(y_true, 3 * logit(y_score) - 5, "platt")
    n_positive, n_negative = y_true.sum(), (1 - y_true).sum()
    target = np.where(y_true, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))  # Platt 1999
    # Each ECG once as positive and once as negative, weighted by its target
    twice = np.tile(3 * logit(y_score) - 5, 2)[:, None]
    regression = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000)
    regression.fit(twice, np.repeat([1, 0], 150), np.concatenate([target, 1 - target]))
    assert found.slope == pytest.approx(regression.coef_.item(), rel=1e-4)
    assert found.intercept == pytest.approx(regression.intercept_.item(), rel=1e-4)


def posterior_mode(y_true, logits):
    """Maximise the posterior on a grid of log slopes, each with its best intercept, from the formula."""
    n_positive, n_negative = y_true.sum(), (1 - y_true).sum()
    target = np.where(y_true, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))

    def best_intercept(slope):
        return brentq(lambda b: (1 / (1 + np.exp(-slope * logits - b)) - target).sum(), -100, 100, xtol=1e-13)

    def negative_log_posterior(log_slope):
        slope = np.exp(log_slope)
        score = 1 / (1 + np.exp(-slope * logits - best_intercept(slope)))
        likelihood = target @ np.log(score) + (1 - target) @ np.log1p(-score)
        return -likelihood - norm.logpdf(log_slope, 0, 0.5)

    grid = np.linspace(-3, 3, 601)
    start = grid[np.argmin([negative_log_posterior(one) for one in grid])]
    found = minimize_scalar(
        negative_log_posterior, bounds=(start - 0.01, start + 0.01), options={"xatol": 1e-9}
    )
    return np.exp(found.x), best_intercept(np.exp(found.x))


@pytest.mark.parametrize(("n_positive", "n_ecgs", "scale"), [(4, 30, 0.3), (4, 30, 3.0), (10, 102, 1.0)])
def test_shrunken_is_the_mode_of_the_posterior(rng, n_positive, n_ecgs, scale):
    y_true = (np.arange(n_ecgs) < n_positive).astype(int)
    logits = scale * (rng.normal(size=n_ecgs) + y_true - 2)
    found = calibration.fit_calibration(y_true, logits, "shrunken")
    slope, intercept = posterior_mode(y_true, logits)
    assert found.slope == pytest.approx(slope, rel=1e-4)
    assert found.intercept == pytest.approx(intercept, rel=1e-3, abs=1e-3)


def test_shrunken_stays_near_slope_1_with_few_positives_and_is_platts_with_many(rng):
    few = np.repeat([0, 1], [18, 2])
    turned = calibration.fit_calibration(few, np.repeat([3.0, -3.0], [18, 2]), "shrunken")
    assert 0.1 < turned.slope < 1  # Platt's is 0.01, the lowest: all ECGs get one probability
    slopes = {"platt": [], "shrunken": []}
    for _ in range(40):
        y_true = np.repeat([0, 1], [92, 10])
        logits = rng.normal(size=102) * 0.95 + 0.9 * y_true - 2.7
        for method, found in slopes.items():
            found.append(calibration.fit_calibration(y_true, logits, method).slope)
    assert np.std(slopes["shrunken"]) < 0.6 * np.std(slopes["platt"])
    y_true, y_score = make_scores(rng, 20_000)
    both = [calibration.fit_calibration(y_true, 2 * logit(y_score), method) for method in slopes]
    assert both[0] == pytest.approx(both[1], rel=0.01)


def test_equal_logits_leave_the_slope_at_1_and_get_the_prevalence():
    found = calibration.fit_calibration([0, 0, 0, 1], [0.7] * 4, "shrunken")
    assert found.slope == pytest.approx(1)
    # the mean of Platt's targets, (2 / 3 + 3 / 5) / 4
    assert calibration.calibrated_score([0.7], found) == pytest.approx([19 / 60])


def test_calibrations_one_after_the_other_and_for_another_prevalence():
    first, second = calibration.Calibration(2.0, 1.0), calibration.Calibration(0.5, -3.0)
    np.testing.assert_allclose(first.then(second).of([0.0, 4.0]), second.of(first.of([0.0, 4.0])))
    moved = first.moved(0.2, 0.5)
    expected = calibration.shift_prevalence(calibration.calibrated_score([-1.0, 0.3], first), 0.2, 0.5)
    np.testing.assert_allclose(calibration.calibrated_score([-1.0, 0.3], moved), expected)


def test_temperature_minimises_the_log_loss(rng):
    y_true, y_score = make_scores(rng, 2000, prevalence=0.5)
    scores = logit(y_score) - 0.5
    found = calibration.fit_calibration(y_true, 4 * scores, "temperature")
    assert found.intercept == 0
    slopes = found.slope * np.array([0.98, 1, 1.02])
    low, best, high = (
        sklearn_metrics.log_loss(y_true, 1 / (1 + np.exp(-slope * 4 * scores))) for slope in slopes
    )
    assert best < min(low, high)  # of the labels themselves; the smoothed targets differ by 1 in 1,000


def test_calibration_none_and_a_known_sigmoid():
    assert calibration.fit_calibration([0, 1], [-1.0, 1.0], "none") == (1.0, 0.0)
    scores = calibration.calibrated_score([[0.0, 2.0]], calibration.Calibration(0.5, -1.0))
    np.testing.assert_allclose(scores, [[1 / (1 + np.exp(1)), 0.5]])
    assert (
        scores.dtype == np.float64 and calibration.calibrated_score([1e4], calibration.Calibration())[0] == 1
    )
    with pytest.raises(ValueError, match="isotonic"):
        calibration.fit_calibration([0, 1], [0.0, 1.0], "isotonic")


@pytest.mark.parametrize("method", ["temperature", "platt", "shrunken"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(
    "y_true, logits",
    [
        ([0, 1], [-1.0, 1.0]),
        ([0, 0, 0, 0, 0, 1], [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0]),  # separated perfectly
        ([1, 1, 0, 0], [-2.0, -1.0, 1.0, 2.0]),  # the wrong way round
        ([0, 1, 0], [0.7, 0.7, 0.7]),  # all equal
        ([0, 1] * 50, np.linspace(-1, 1, 100)),
    ],
)
@pytest.mark.filterwarnings("ignore:calibration slope")
def test_calibration_is_finite_and_keeps_the_order(y_true, logits, scale, method):
    logits = scale * np.array(logits)
    found = calibration.fit_calibration(y_true, logits, method)
    assert np.isfinite(found).all() and 0.01 <= found.slope <= 100
    scores = calibration.calibrated_score(logits, found)
    assert (np.diff(scores[np.argsort(logits)]) >= 0).all() and ((scores >= 0) & (scores <= 1)).all()


def test_platt_of_a_perfect_separation_stays_moderate():
    y_true = np.repeat([0, 1], [18, 2])
    logits = np.repeat([-3.0, 3.0], [18, 2])
    scores = calibration.calibrated_score(logits, calibration.fit_calibration(y_true, logits, "platt"))
    assert scores[[0, -1]] == pytest.approx([1 / 20, 3 / 4], abs=1e-5)  # the smoothed targets themselves


def test_calibration_without_positives_and_of_reversed_scores_warns():
    with pytest.warns(UndefinedMetricWarning, match="no positive ECG; the scores stay"):
        assert calibration.fit_calibration([0, 0], [1.0, 2.0]) == (1.0, 0.0)
    with pytest.warns(UndefinedMetricWarning, match="do not tell the validation ECGs apart"):
        found = calibration.fit_calibration([1, 1, 0, 0], [-2.0, -1.0, 1.0, 2.0], "platt")
    assert found.slope == 0.01
    with pytest.raises(ValueError, match="nan or infinite"):
        calibration.fit_calibration([0, 1], [np.nan, 1.0])


# Another prevalence


def test_shift_prevalence_by_bayes():
    # odds 1 at prevalence 1/2; at 1/10 the prior odds are 1/9
    assert calibration.shift_prevalence([0.5], 0.5, 0.1) == pytest.approx([0.1])
    # likelihood ratio (0.3 / 0.7) / (0.1 / 0.9) = 27 / 7; times the odds 1 / 4 of 0.2
    assert calibration.shift_prevalence([0.3], 0.1, 0.2) == pytest.approx([27 / 28 / (1 + 27 / 28)])
    scores = np.array([[0.0, 0.25, 1.0]])
    np.testing.assert_allclose(calibration.shift_prevalence(scores, 0.3, 0.3), scores)
    there_and_back = calibration.shift_prevalence(calibration.shift_prevalence(scores, 0.1, 0.4), 0.4, 0.1)
    np.testing.assert_allclose(there_and_back, scores)
    with pytest.raises(ValueError, match="to_prevalence"):
        calibration.shift_prevalence([0.5], 0.5, 1.0)
    with pytest.raises(ValueError, match="probabilities"):
        calibration.shift_prevalence([1.5], 0.5, 0.1)


# Judging


def test_calibration_curve_by_hand():
    y_true = [0, 0, 0, 1, 0, 1, 1, 1]
    y_score = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 0.9]
    curve = calibration.calibration_curve(y_true, y_score, n_bins=2)
    np.testing.assert_allclose(curve["mean_score"], [0.25, 0.7])
    np.testing.assert_allclose(curve["observed"], [0.25, 0.75])
    assert curve["n"].tolist() == [4, 4] and curve["n_positive"].tolist() == [1, 3]
    low, high = calibration.wilson_interval(1, 4)
    assert (curve["low"][0], curve["high"][0]) == (low, high)
    assert calibration.expected_calibration_error(y_true, y_score, 2) == pytest.approx(0.05 / 2)


def test_calibration_curve_of_scikit_learn(rng):
    from sklearn.calibration import calibration_curve

    y_true, y_score = make_scores(rng, 1000)
    observed, mean_score = calibration_curve(y_true, y_score, n_bins=10, strategy="quantile")
    found = calibration.calibration_curve(y_true, y_score)
    np.testing.assert_allclose(found["mean_score"], mean_score)
    np.testing.assert_allclose(found["observed"], observed)
    expected = np.abs(observed - mean_score).mean()  # ten bins of 100 ECGs
    assert calibration.expected_calibration_error(y_true, y_score) == pytest.approx(expected)


def test_intervals_of_the_calibration_curve_count_patients(rng):
    y_true, y_score = make_scores(rng, 200)
    once = calibration.calibration_curve(y_true, y_score)
    thrice = [np.tile(column, 3) for column in (y_true, y_score)]
    by_patient = calibration.calibration_curve(*thrice, patient_ids=np.tile(range(200), 3))
    for end in ("low", "high"):
        np.testing.assert_allclose(by_patient[end], once[end], atol=0.01)  # n - 1 of a variance
    by_ecg = calibration.calibration_curve(*thrice)
    assert ((by_ecg["high"] - by_ecg["low"]) < 0.8 * (once["high"] - once["low"])).all()


def test_tied_scores_stay_in_one_bin_whatever_their_order(rng):
    y_true, y_score = make_scores(rng, 300)
    y_score = y_score.round(1)
    order = rng.permutation(300)
    found = calibration.calibration_curve(y_true, y_score)
    for name, values in calibration.calibration_curve(y_true[order], y_score[order]).items():
        np.testing.assert_allclose(values, found[name])
    assert found["n"].sum() == 300 and len(found["n"]) <= 10
    assert len(calibration.calibration_curve([0, 1, 0], [0.3, 0.3, 0.3])["n"]) == 1
    assert calibration.expected_calibration_error([0, 1, 0], [0.3, 0.3, 0.3]) == pytest.approx(1 / 3 - 0.3)


def test_bias_of_the_expected_calibration_error_is_as_the_docstring_says(rng):
    for n_ecgs, expected in ((1000, 0.024), (200, 0.054)):
        errors = []
        for _ in range(100):
            y_score = np.clip(0.1 + 0.01 * rng.normal(size=n_ecgs), 0.01, 1)
            y_true = rng.random(n_ecgs) < y_score  # calibrated perfectly
            errors.append(calibration.expected_calibration_error(y_true.astype(int), y_score))
        assert np.mean(errors) == pytest.approx(expected, abs=0.002)


def test_the_calibration_error_of_perfect_scores(rng):
    # two ECGs of 0.5 in one bin: off by a half where both labels are equal, which they are half the time
    assert calibration.calibration_error_of_perfect_scores([0.5, 0.5]) == pytest.approx(0.25, abs=0.025)
    score = rng.random(200).round(2)  # with ties
    drawn = rng.random((2000, 200)) < score
    errors = [calibration.expected_calibration_error(labels.astype(int), score) for labels in drawn]
    expected = pytest.approx(np.mean(errors), abs=0.002)
    assert calibration.calibration_error_of_perfect_scores(score) == expected


def test_ecgs_that_are_scored_again_tell_no_more_of_perfect_scores(rng):
    score = np.clip(0.1 + 0.01 * rng.normal(size=200), 0.01, 1)
    once = calibration.calibration_error_of_perfect_scores(score)
    again = calibration.calibration_error_of_perfect_scores(np.tile(score, 5), ecg_ids=np.tile(range(200), 5))
    assert again == pytest.approx(once) and once == pytest.approx(0.054, abs=0.002)  # 0.024 as 1,000 ECGs
    # one ECG with the scores 0 and 1, in a bin each: its label, 0 or 1, is 1/2 off their mean
    assert calibration.calibration_error_of_perfect_scores([0.0, 1.0], 2, ecg_ids=["a", "a"]) == 0.5
    with pytest.raises(ValueError, match="ecg_ids: expected 2, one for each ECG, found 1"):
        calibration.calibration_error_of_perfect_scores([0.0, 1.0], ecg_ids=["a"])


def example_of_60():
    index = np.arange(60)
    y_score = ((index * 37) % 60 + 0.5) / 60
    return ((index * 53 + 7) % 60 / 60 < 0.15 + 0.6 * y_score).astype(int), y_score, index // 2


def test_slope_and_intercept_of_statsmodels():
    # statsmodels 0.15.0: GLM(y, add_constant(x), family=Binomial()) and GLM(y, ones, offset=x), x the logit;
    # by patient: cov_type="cluster", use_correction=False
    # whose intervals are those of z
    y_true, y_score, patients = example_of_60()
    n_patients = [
        min(y_true.sum(), (1 - y_true).sum()),
        min(len(np.unique(patients[y_true == k])) for k in (0, 1)),
    ]
    by_ecg = ([0.3552461659, 0.02540903, 0.6850833], [-0.20023924, -0.82123344, 0.42075495])
    by_patient = ([0.3552461659, -0.01813649, 0.72862882], [-0.20023924, -0.97023633, 0.56975784])
    for ids, n, expected in zip((None, patients), n_patients, (by_ecg, by_patient), strict=True):
        found = calibration.calibration_slope_and_intercept(y_true, y_score, ids)
        for key, (value, *ends) in zip(("slope", "intercept"), expected, strict=True):
            margins = (np.array(ends) - value) * t.ppf(0.975, n - 1) / norm.ppf(0.975)
            assert list(found[key][:3]) == pytest.approx([value, *(value + margins)], abs=1e-6)


def test_one_positive_patient_gives_no_interval():
    y_true, y_score = np.array([0, 1, 0, 1, 0, 0]), np.array([0.2, 0.4, 0.5, 0.3, 0.1, 0.35])
    found = calibration.calibration_slope_and_intercept(y_true, y_score, [0, 1, 2, 1, 3, 4])
    for metric in found.values():
        assert metric.is_defined and not metric.has_interval and metric.reason == "one patient in a class"


def test_slope_and_intercept_of_scikit_learn_and_of_a_known_model(rng):
    scores = rng.normal(size=20_000) - 2
    y_true = (rng.random(20_000) < 1 / (1 + np.exp(-scores))).astype(int)
    found = calibration.calibration_slope_and_intercept(y_true, 1 / (1 + np.exp(-2 * scores)))
    regression = LogisticRegression(C=np.inf, tol=1e-10).fit(2 * scores[:, None], y_true)
    assert found["slope"].value == pytest.approx(regression.coef_.item(), rel=1e-4)
    assert found["slope"].low < 0.5 < found["slope"].high  # scores twice too extreme
    good = calibration.calibration_slope_and_intercept(y_true, 1 / (1 + np.exp(-scores)))
    assert good["slope"].low < 1 < good["slope"].high
    assert good["intercept"].low < 0 < good["intercept"].high
    high = calibration.calibration_slope_and_intercept(y_true, 1 / (1 + np.exp(-scores - 0.7)))
    assert high["intercept"].value == pytest.approx(good["intercept"].value - 0.7)
    assert norm.ppf(0.975) * 2 / 100 < good["slope"].high - good["slope"].low < 0.2


@pytest.mark.parametrize(
    "y_true, y_score, reason",
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], "separate the classes"),
        ([1, 0, 0, 1], [0.1, 0.2, 0.3, 0.1], "separate the classes"),
        ([0, 1, 0], [0.3, 0.3, 0.3], "all scores are equal"),
        ([0, 0], [0.1, 0.2], "no positive ECG"),
    ],
)
def test_slope_is_nan_where_undefined(y_true, y_score, reason):
    with pytest.warns(UndefinedMetricWarning, match=reason):
        found = calibration.calibration_slope_and_intercept(y_true, y_score)
    assert math.isnan(found["slope"].value)
    assert math.isnan(found["intercept"].value) == ("positive" in reason)


def test_slope_of_scores_of_0_and_1_is_finite():
    found = calibration.calibration_slope_and_intercept([0, 1, 0, 1, 1], [0.0, 1.0, 1.0, 0.0, 0.7])
    assert np.isfinite([part[:3] for part in found.values()]).all()
