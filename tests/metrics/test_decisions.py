"""What decisions are worth, against hand-worked values and SciPy."""

import math

import numpy as np
import pytest
from scipy.stats.contingency import relative_risk
from sklearn.exceptions import UndefinedMetricWarning

from metrics import decisions


def test_likelihood_ratios_are_risk_ratios_of_scipy():
    counts = {"tp": 14, "fn": 7, "fp": 48, "tn": 133}
    found = decisions.likelihood_ratios(counts, confidence=0.9)
    for name, diseased, healthy in (("positive", 14, 48), ("negative", 7, 133)):
        expected = relative_risk(diseased, 21, healthy, 181)  # Katz' logarithmic interval
        interval = expected.confidence_interval(0.9)
        assert found[name].value == pytest.approx(expected.relative_risk)
        assert (found[name].low, found[name].high) == pytest.approx((interval.low, interval.high))
    assert found["positive"].value == pytest.approx((14 / 21) / (48 / 181))


def test_likelihood_ratios_of_empty_cells():
    with pytest.warns(UndefinedMetricWarning, match="positive likelihood ratio is undefined: no ECG without"):
        found = decisions.likelihood_ratios({"tp": 3, "fn": 0, "fp": 0, "tn": 5})
    assert math.isnan(found["positive"].value)
    assert found["negative"].value == 0 and math.isnan(found["negative"].low)
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
