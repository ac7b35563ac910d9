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


def test_ruling_out_is_said_of_enough_positives_only():
    def rows(**label):
        ruled_out = {"ct_avoided_per_100": Metric(42.0, 12.6, 46.6, missed_per_100=0.01)}
        metrics = {"n_ecgs": 900, "labels": {"PE": ruled_out | label}}
        ((_, (row,)),) = metric_groups("PE", metrics)
        return row

    enough = rows(n_positive=90, n_positive_patients=75)
    assert (enough.value, enough.interval) == ("42.0", "12.6–46.6")
    assert enough.meaning.endswith("the next test, and fewer than 0.1 with PE would be missed.")
    few = rows(n_positive=90, n_positive_patients=74)
    assert (few.value, few.interval) == ("too few to say", "")
    assert few.meaning == ("Too few PE (74) to say: up to 5 % of PE may lie below the lowest score of these.")


def test_an_infinite_ratio_has_a_bound_and_a_missing_interval_its_reason():
    ratio = Metric(math.nan, 3.2, reason="no ECG without disease is flagged")
    precision = Metric(1.0, reason="the same value in all resamples")
    label = {"n_positive": 9, "prevalence": 0.1, "average_precision": precision}
    metrics = {"n_ecgs": 90, "labels": {"PE": label | {"positive_likelihood_ratio": ratio}}}
    (_, (first,)), (_, (second,)) = metric_groups("PE", metrics)
    assert (first.value, first.interval) == ("1.000", "none: the same value in all resamples")
    assert (second.value, second.interval) == ("undefined", "above 3.20")
    assert "so the ratio is infinite" in second.meaning
