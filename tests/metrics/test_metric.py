"""A metric with its interval is written to JSON and read back, undefined ones too."""

import json
import math

from metrics.metric import Metric, metrics_from_json, metrics_to_json


def test_metrics_json_keeps_its_layout():
    label = {
        "n_positive": 21,
        "f1": math.nan,
        "auroc": Metric(0.742, 0.641, 0.836, n_resamples=2000),
        "ct_avoided_per_100": Metric(20.5, 10, 30, n_resamples=1990, missed_per_100=math.nan),
        "sensitivity": Metric(0.75, 0.3, 0.95, successes=3, n=4),
        "calibration_slope": Metric(math.nan),
        "at_prevalence": {"prevalence": 0.05, "ppv": Metric(0.2, 0.1, 0.3)},
    }
    metrics = {"split": "test", "auroc_of_folds": [{"PE": math.nan}, {"PE": 0.5}], "labels": {"PE": label}}
    content = metrics_to_json(metrics)
    assert json.dumps(content, allow_nan=False) == (
        '{"split": "test", "auroc_of_folds": [{"PE": null}, {"PE": 0.5}], "labels": {"PE": {'
        '"n_positive": 21, "f1": null, '
        '"auroc": {"value": 0.742, "low": 0.641, "high": 0.836, "n_resamples": 2000}, '
        '"ct_avoided_per_100": {"value": 20.5, "low": 10, "high": 30, "n_resamples": 1990, '
        '"missed_per_100": null}, '
        '"sensitivity": {"value": 0.75, "low": 0.3, "high": 0.95, "successes": 3, "n": 4}, '
        '"calibration_slope": {"value": null, "low": null, "high": null}, '
        '"at_prevalence": {"prevalence": 0.05, "ppv": {"value": 0.2, "low": 0.1, "high": 0.3}}}}}'
    )
    read = metrics_from_json(content)
    assert metrics_to_json(read) == content
    assert read["labels"]["PE"]["sensitivity"] == label["sensitivity"]
    assert math.isnan(read["labels"]["PE"]["f1"]) and math.isnan(read["auroc_of_folds"][0]["PE"])


def test_a_label_may_be_called_value():
    content = {"labels": {"value": {"auroc": {"value": 0.5, "low": None, "high": None}}}}
    auroc = metrics_from_json(content)["labels"]["value"]["auroc"]
    assert auroc.is_defined and not auroc.has_interval
    assert metrics_to_json(metrics_from_json(content)) == content


def test_what_a_later_version_adds_is_left_out():
    assert metrics_from_json({"value": 1, "low": 0, "high": 2, "new": 3}) == Metric(1, 0, 2)
