"""What decisions are worth, against hand-worked values."""

import math

import numpy as np
import pytest
from sklearn.exceptions import UndefinedMetricWarning

from metrics import decisions
from metrics.metric import Metric
from metrics.proportions import clopper_pearson_interval


def share(successes, n):
    return Metric(successes / n, *clopper_pearson_interval(successes, n))


def test_likelihood_ratios_are_ratios_of_the_shares():
    sensitivity, specificity = share(14, 21), share(133, 181)
    found = decisions.likelihood_ratios(sensitivity, specificity)
    assert found["positive"].value == pytest.approx((14 / 21) / (48 / 181))
    assert found["negative"].value == pytest.approx((7 / 21) / (133 / 181))
    spared = 48 / 181, *clopper_pearson_interval(48, 181)
    missed = 7 / 21, *clopper_pearson_interval(7, 21)
    cases = (("positive", sensitivity[:3], spared), ("negative", missed, specificity[:3]))
    for name, (diseased, *of_diseased), (healthy, *of_healthy) in cases:
        # at its ends the difference "diseased - ratio * healthy" is as far from 0 as its error
        for ratio, error_1, error_2 in (
            (found[name].low, of_diseased[0] - diseased, of_healthy[1] - healthy),
            (found[name].high, of_diseased[1] - diseased, of_healthy[0] - healthy),
        ):
            assert abs(diseased - ratio * healthy) == pytest.approx(math.hypot(error_1, ratio * error_2))
        assert found[name].low < found[name].value < found[name].high


def test_likelihood_ratios_of_empty_cells():
    with pytest.warns(UndefinedMetricWarning, match="positive likelihood ratio is undefined: no ECG without"):
        found = decisions.likelihood_ratios(share(3, 3), share(5, 5))
    # infinite: of three found, at least 29 %; of five spared, up to 52 % may be flagged
    assert math.isnan(found["positive"].value) and math.isnan(found["positive"].high)
    low, high = 0.025 ** (1 / 3), 1 - 0.025 ** (1 / 5)
    assert found["positive"].low == pytest.approx(math.sqrt(low * (2 - low)) / high)
    assert found["negative"].value == found["negative"].low == 0 and found["negative"].high > 0.7
    with pytest.warns(UndefinedMetricWarning, match="one class is missing"):
        decisions.likelihood_ratios(Metric(math.nan), share(5, 7))


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
