"""Points fixed on some ECGs and judged on others, counted by hand."""

import math

import numpy as np
import pytest

import metrics_and_performance as mp
from metrics.operating_points import POINTS, fixed_points, judged_point
from metrics.proportions import clopper_pearson_interval


def test_a_point_is_fixed_where_enough_patients_fix_it():
    # negatives at 0 to 99, positives among them
    y_true, y_score = np.repeat([0, 1], [100, 80]), np.concatenate([np.arange(100), np.arange(80) + 20.5])
    found = fixed_points(y_true, y_score, range(180))
    assert found.keys() == POINTS.keys()
    # 10 negatives from 90 on; the lowest 4 of 80 positives lie below, at 20.5 to 23.5
    assert 89 < found["at_specificity_90"] <= 90 and 23.5 < found["at_sensitivity_95"] <= 24.5
    assert np.mean(y_score[:100] < found["at_specificity_90"]) == 0.9
    assert np.mean(y_score[100:] >= found["at_sensitivity_95"]) == 0.95
    few = fixed_points(y_true[:-6], y_score[:-6], range(174))
    assert math.isnan(few["at_sensitivity_95"]) and few["at_specificity_90"] == found["at_specificity_90"]
    assert math.isnan(fixed_points(y_true[51:], y_score[51:], range(129))["at_specificity_90"])
    assert math.isnan(fixed_points(y_true, y_score, np.arange(180) // 2)["at_sensitivity_95"])


def test_a_point_is_judged_by_hand():
    y_true = np.repeat([1, 1, 0, 0], [9, 1, 30, 60])  # found, missed, flagged, spared
    y_score = np.repeat([0.8, 0.1, 0.8, 0.1], [9, 1, 30, 60])
    point = judged_point(y_true, y_score, np.full(100, 0.4), np.arange(100), 0.95)
    assert point["threshold"] == 0.4
    assert (point["sensitivity"].value, point["specificity"].value) == (0.9, pytest.approx(60 / 90))
    assert point["npv"].value == pytest.approx(60 / 61)
    assert (point["below_per_100"].value, point["missed_per_100"].value) == (61, 1)
    ends = [100 * end for end in clopper_pearson_interval(1, 100)]
    assert list(point["missed_per_100"][1:3]) == pytest.approx(ends)


def test_nothing_missed_has_an_upper_bound():
    point = judged_point(np.repeat([1, 0], [9, 81]), np.arange(90), np.full(90, -1), np.arange(90), 0.95)
    missed = point["missed_per_100"]
    assert (missed.value, missed.low) == (0, 0)
    assert missed.high == pytest.approx(100 * (1 - 0.025 ** (1 / 90)))


def test_evaluate_judges_the_points_that_it_is_given():
    rng = np.random.default_rng(0)
    y_true = (rng.random((120, 2)) < 0.3).astype(float)
    y_true[:20, 1] = np.nan
    y_score = rng.random((120, 2))
    points = {"at_specificity_90": [0.9, 0.8], "at_sensitivity_95": [math.nan, 0.1]}
    arguments = {"thresholds": [0.5, 0.5], "label_names": ["PE", "MI"], "patient_ids": range(120)}
    labels = mp.evaluate(y_true, y_score, points=points, n_resamples=50, **arguments)["labels"]
    assert "at_sensitivity_95" not in labels["PE"]
    decided = mp.confusion_metrics(y_true[20:, 1], y_score[20:, 1], 0.1)
    for name in ("sensitivity", "specificity", "npv"):
        assert labels["MI"]["at_sensitivity_95"][name] == decided[name]
    assert labels["PE"]["at_specificity_90"]["threshold"] == 0.9
