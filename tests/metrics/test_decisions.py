"""Thresholds, points of the ROC curve and net benefit against hand-worked values and scikit-learn."""

import math

import numpy as np
import pytest
from scipy.stats.contingency import relative_risk
from sklearn import metrics as sklearn_metrics
from sklearn.exceptions import UndefinedMetricWarning

import metrics_and_performance as mp
from metrics import bootstrap, decisions


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def make_scores(rng, n_ecgs, prevalence=0.2, shift=1.0):
    y_true = (rng.random(n_ecgs) < prevalence).astype(int)
    return y_true, 1 / (1 + np.exp(-(rng.normal(size=n_ecgs) + shift * y_true)))


# Threshold


def test_youden_threshold_is_a_midpoint_and_prefers_sensitivity():
    assert mp.youden_threshold([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.8]) == pytest.approx(0.4)
    # flagging from 0.3 or from 0.7 on gives J = 1/2 both: the lower threshold wins
    assert mp.youden_threshold([0, 1, 0, 1], [0.1, 0.3, 0.5, 0.7]) == pytest.approx(0.2)


def test_youden_threshold_reaches_the_best_point_of_the_roc_curve(rng):
    for digits in (1, 2, 8):
        y_true, y_score = make_scores(rng, 200)
        y_score = y_score.round(digits)
        false_positive_rate, sensitivity, _ = sklearn_metrics.roc_curve(y_true, y_score)
        confusion = mp.confusion_metrics(y_true, y_score, mp.youden_threshold(y_true, y_score))
        found = confusion["sensitivity"]["value"] + confusion["specificity"]["value"] - 1
        assert found == pytest.approx((sensitivity - false_positive_rate).max())


def test_youden_threshold_of_neighbouring_floats_and_of_scores_that_say_nothing():
    low = 0.5
    assert mp.youden_threshold([0, 1], [low, np.nextafter(low, 1)]) == np.nextafter(low, 1)
    assert mp.youden_threshold([0, 1], [0.3, 0.3]) == 0.3
    assert mp.youden_threshold([1, 0], [0.2, 0.6]) == 0.2  # reversed scores: every ECG is flagged
    with pytest.warns(UndefinedMetricWarning, match=r"0\.5"):
        assert mp.youden_threshold([0, 0], [0.1, 0.2]) == 0.5


@pytest.mark.parametrize("policy, threshold", [("sensitivity>=0.6", 0.45), ("specificity>=0.8", 0.65)])
def test_choose_threshold_by_hand(policy, threshold):
    # ascending: - - + - + - + ; two of three positives are above 0.45, all negatives below 0.65
    y_true, y_score = [0, 0, 1, 0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert mp.choose_threshold(y_true, y_score, policy) == pytest.approx(threshold)
    assert mp.choose_threshold(y_true, y_score) == mp.youden_threshold(y_true, y_score)


@pytest.mark.parametrize("digits", [1, 2, 8])
@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.9, 0.95])
def test_chosen_threshold_is_the_best_point_of_the_roc_curve(rng, wanted, digits):
    y_true, y_score = make_scores(rng, 300)
    y_score = y_score.round(digits)
    curve = sklearn_metrics.roc_curve(y_true, y_score, drop_intermediate=False)
    specificities, sensitivities = 1 - curve[0], curve[1]
    for metric, other, met, best in (
        ("sensitivity", "specificity", sensitivities, specificities),
        ("specificity", "sensitivity", specificities, sensitivities),
    ):
        chosen = mp.choose_threshold(y_true, y_score, f"{metric}>={wanted}")
        found = mp.confusion_metrics(y_true, y_score, chosen)
        assert found[metric]["value"] >= wanted and chosen not in y_score
        assert found[other]["value"] == pytest.approx(best[met >= wanted - 1e-12].max())


def test_choose_threshold_meets_a_share_exactly():
    y_true, y_score = np.repeat([0, 1], [1, 20]), np.arange(21) / 21
    chosen = mp.choose_threshold(y_true, y_score, "sensitivity>=0.95")
    assert mp.confusion_metrics(y_true, y_score, chosen)["sensitivity"]["successes"] == 19


def test_choose_threshold_that_flags_everything_or_nothing_warns():
    with pytest.warns(UndefinedMetricWarning, match="flags every"):
        assert mp.choose_threshold([1, 0, 1], [0.1, 0.5, 0.9], "sensitivity>=0.9") == 0.1
    with pytest.warns(UndefinedMetricWarning, match="flags no"):
        chosen = mp.choose_threshold([1, 0, 0], [0.1, 0.5, 1.0], "specificity>=0.9")
    assert 1 < chosen < 1.0001
    with pytest.warns(UndefinedMetricWarning, match=r"no positive ECG; 0\.5"):
        assert mp.choose_threshold([0, 0], [0.1, 0.2], "specificity>=0.9") == 0.5


UNKNOWN_POLICIES = ["", "Youden", "sensitivity", "sensitivity>=", "sensitivity>=1.2", "sensitivity>=0.9.5"]
UNKNOWN_POLICIES += ["sensitivity>=-0.1", "sensitivity>=nan", "specificity=0.9", "npv>=0.9"]


@pytest.mark.parametrize("policy", UNKNOWN_POLICIES)
def test_unknown_policy_is_named(policy):
    with pytest.raises(ValueError, match=f"threshold policy '{policy}'"):
        mp.choose_threshold([0, 1], [0.1, 0.9], policy)


# Points of the ROC curve


def test_points_of_the_roc_curve_by_hand():
    # ascending: 4 negatives, +, 4 negatives, +, 2 negatives, ++
    y_true = np.array([0] * 4 + [1] + [0] * 4 + [1] + [0] * 2 + [1] * 2)
    y_score = np.arange(14) / 14
    assert decisions.sensitivity_at_specificity(y_true, y_score, 0.9) == 0.5
    assert decisions.sensitivity_at_specificity(y_true, y_score, 0.8) == 0.75
    rule_out = decisions.specificity_at_sensitivity(y_true, y_score, 0.75)
    assert rule_out == pytest.approx((0.8, 8 / 9, 100 * 9 / 14, 100 * 1 / 14))
    assert decisions.ct_avoided_per_100(y_true, y_score, 0.75) == pytest.approx((900 / 14, 100 / 14))
    assert decisions.ct_avoided_per_100(y_true, y_score) == pytest.approx((400 / 14, 0))
    assert decisions.specificity_at_sensitivity(y_true, y_score).npv == 1


@pytest.mark.parametrize("digits", [1, 2, 8])
@pytest.mark.parametrize("wanted", [0.5, 0.9, 0.95, 1.0])
def test_points_of_the_roc_curve_of_scikit_learn(rng, wanted, digits):
    y_true, y_score = make_scores(rng, 200)
    y_score = y_score.round(digits)
    rate, sensitivity, _ = sklearn_metrics.roc_curve(y_true, y_score, drop_intermediate=False)
    found = decisions.sensitivity_at_specificity(y_true, y_score, wanted)
    assert found == pytest.approx(sensitivity[1 - rate >= wanted - 1e-12].max())
    rule_out = decisions.specificity_at_sensitivity(y_true, y_score, wanted)
    assert rule_out.specificity == pytest.approx(1 - rate[sensitivity >= wanted - 1e-12].min())
    # the same decisions, counted
    threshold = y_score[y_true == 1][np.argsort(-y_score[y_true == 1])][math.ceil(wanted * y_true.sum()) - 1]
    below = y_score < threshold
    assert rule_out.npv == pytest.approx(1 - y_true[below].mean(), nan_ok=True)
    assert rule_out[2:] == pytest.approx((100 * below.mean(), 100 * (below & (y_true == 1)).mean()))


@pytest.mark.parametrize("digits", [1, 2, 8])
@pytest.mark.parametrize("min_specificity", [0.0, 0.5, 0.9, 0.95])
def test_partial_auroc_of_scikit_learn(rng, min_specificity, digits):
    y_true, y_score = make_scores(rng, 200)
    y_score = y_score.round(digits)
    # McClish's standardisation too
    expected = sklearn_metrics.roc_auc_score(y_true, y_score, max_fpr=1 - min_specificity)
    found = decisions.partial_auroc(y_true, y_score, min_specificity)
    # without a restriction scikit-learn gives the plain area, which the standardisation leaves as it is
    assert found == pytest.approx(expected)
    assert decisions.partial_auroc([0, 0, 1], [0.1, 0.2, 0.3], min_specificity) == pytest.approx(1)


def test_each_resampled_point_is_that_of_the_repeated_ecgs(rng):
    y_true, y_score = make_scores(rng, 80)
    y_score = y_score.round(2)
    counts = next(bootstrap.resampled_counts(y_true, y_score, np.arange(80), 20, seed=1))
    weights = next(bootstrap.resampled_weights(np.arange(80), 20, seed=1))
    sensitivity = decisions.sensitivity_at_specificity_of_counts(counts, 0.9)
    partial = decisions.partial_auroc_of_counts(counts, 0.9)
    rule_out = np.stack(decisions.rule_out_of_counts(counts, 0.9), axis=1)
    for row, weight in enumerate(weights):
        repeated = np.repeat(y_true, weight), np.repeat(y_score, weight)
        assert sensitivity[row] == pytest.approx(decisions.sensitivity_at_specificity(*repeated, 0.9))
        assert partial[row] == pytest.approx(decisions.partial_auroc(*repeated, 0.9))
        expected = decisions.specificity_at_sensitivity(*repeated, 0.9)
        assert rule_out[row] == pytest.approx(np.array(expected), nan_ok=True)


def test_points_of_the_roc_curve_of_one_class_and_of_equal_scores():
    for name in ("sensitivity_at_specificity", "partial_auroc", "ct_avoided_per_100"):
        with pytest.warns(UndefinedMetricWarning, match="no negative ECG"):
            assert np.isnan(getattr(decisions, name)([1, 1], [0.2, 0.3])).all()
    equal = [0, 1, 0], [0.3, 0.3, 0.3]
    assert decisions.sensitivity_at_specificity(*equal) == 0
    assert decisions.partial_auroc(*equal) == pytest.approx(0.5)
    rule_out = decisions.specificity_at_sensitivity(*equal)
    assert rule_out.specificity == rule_out.avoided_per_100 == 0 and math.isnan(rule_out.npv)
    with pytest.raises(ValueError, match="min_specificity"):
        decisions.partial_auroc(*equal, 1.0)
    with pytest.raises(ValueError, match="specificity: expected"):
        decisions.sensitivity_at_specificity(*equal, 90)


# One threshold


def test_likelihood_ratios_are_risk_ratios_of_scipy():
    counts = {"tp": 14, "fn": 7, "fp": 48, "tn": 133}
    found = decisions.likelihood_ratios(counts, confidence=0.9)
    for name, diseased, healthy in (("positive", 14, 48), ("negative", 7, 133)):
        expected = relative_risk(diseased, 21, healthy, 181)  # Katz' logarithmic interval
        interval = expected.confidence_interval(0.9)
        assert found[name]["value"] == pytest.approx(expected.relative_risk)
        assert (found[name]["low"], found[name]["high"]) == pytest.approx((interval.low, interval.high))
    assert found["positive"]["value"] == pytest.approx((14 / 21) / (48 / 181))


def test_likelihood_ratios_of_empty_cells():
    with pytest.warns(UndefinedMetricWarning, match="positive likelihood ratio is undefined: no ECG without"):
        found = decisions.likelihood_ratios({"tp": 3, "fn": 0, "fp": 0, "tn": 5})
    assert math.isnan(found["positive"]["value"])
    assert found["negative"]["value"] == 0 and math.isnan(found["negative"]["low"])
    with pytest.warns(UndefinedMetricWarning, match="one class is missing"):
        decisions.likelihood_ratios({"tp": 0, "fn": 0, "fp": 2, "tn": 5})


def test_predictive_values_by_bayes():
    # of 1,000: 100 with disease, 90 found; 900 without, 180 flagged
    ppv, npv = decisions.predictive_values_at(0.9, 0.8, 0.1)
    assert (ppv, npv) == pytest.approx((90 / 270, 720 / 730))
    assert math.isnan(decisions.predictive_values_at(0.0, 1.0, 0.1)[0])
    with pytest.raises(ValueError, match="prevalence"):
        decisions.predictive_values_at(0.9, 0.8, 10)


def test_decision_curve_by_hand():
    # 10 ECGs, 2 positive. From 0.2 on 4 flagged, 2 of them positive; from 0.5 on 1, positive
    y_true = [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    y_score = [0.8, 0.2, 0.3, 0.2, 0.1, 0.1, 0.1, 0.0, 0.0, 0.0]
    found = decisions.decision_curve(y_true, y_score, [0.0, 0.2, 0.5])
    np.testing.assert_allclose(found["model"], [0.2, 2 / 10 - 2 / 10 * 0.25, 1 / 10])
    np.testing.assert_allclose(found["treat_all"], [0.2, 2 / 10 - 8 / 10 * 0.25, 2 / 10 - 8 / 10])
    np.testing.assert_array_equal(found["treat_none"], 0)
    for wrong in ([1.0], [-0.1], [[0.5]]):
        with pytest.raises(ValueError, match="thresholds"):
            decisions.decision_curve(y_true, y_score, wrong)
