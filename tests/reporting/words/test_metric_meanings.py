"""What is said of a metric is no more than its interval allows."""

import math

from metrics.metric import Metric
from reporting.words.metric_meanings import metric_groups, missing_class


def test_calibration_claims_no_more_than_its_interval():
    def meaning(key, low, value, high):
        metrics = {"n_ecgs": 90, "labels": {"PE": {key: Metric(value, low, high)}}}
        ((_, (row,)),) = metric_groups("PE", metrics)
        return row.meaning

    slope, intercept = "calibration_slope", "calibration_intercept"
    undecided = "the interval includes 1, so whether they are too extreme or too moderate here cannot"
    assert undecided in meaning(slope, -0.47, 0.73, 1.94)
    assert meaning(slope, 0.3, 0.73, 0.9).endswith("should; here they are too extreme.")
    assert meaning(slope, 1.1, 1.73, 2.9).endswith("should; here they are too moderate.")
    assert "the interval includes 0, so whether" in meaning(intercept, -1.2, -0.3, 0.6)
    assert meaning(intercept, -1.2, -0.9, -0.1).endswith("right; here it is too high.")
    assert meaning(intercept, 0.1, 0.9, 1.2).endswith("right; here it is too low.")
    assert "without an interval, whether" in meaning(slope, math.nan, 0.73, math.nan)


def test_the_missing_class_is_that_of_the_known_ecgs():
    assert missing_class({"n_positive": 15, "n_unknown": 5}, {"n_ecgs": 20}) == "no negative ECG"
    assert missing_class({"n_positive": 14, "n_unknown": 5}, {"n_ecgs": 20}) == ""
    assert missing_class({"n_positive": 20}, {"n_ecgs": 20}) == "no negative ECG"
    assert missing_class({"n_positive": 0, "n_unknown": 5}, {"n_ecgs": 20}) == "no positive ECG"
