"""Metrics against hand-worked values and scikit-learn."""

import json
import math
import warnings

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics
from sklearn.exceptions import UndefinedMetricWarning

import metrics_and_performance as mp


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def make_scores(rng, n_ecgs, prevalence=0.2, shift=1.0):
    y_true = (rng.random(n_ecgs) < prevalence).astype(int)
    return y_true, 1 / (1 + np.exp(-(rng.normal(size=n_ecgs) + shift * y_true)))


# Ranking


def test_auroc_by_hand():
    # pairs won: 0.9 beats both, 0.4 beats 0.1 and ties with 0.4
    assert mp.auroc([1, 1, 0, 0], [0.9, 0.4, 0.4, 0.1]) == pytest.approx(3.5 / 4)


def test_average_precision_by_hand():
    # descending: 1, 0, 1, 0: half the recall at precision 1, half at 2/3
    assert mp.average_precision([1, 0, 1, 0], [0.9, 0.8, 0.3, 0.1]) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


@pytest.mark.parametrize("metric", [mp.auroc, mp.average_precision])
@pytest.mark.parametrize("label, reason", [(0, "no positive ECG"), (1, "no negative ECG")])
def test_one_class_is_nan_with_a_warning(metric, label, reason):
    with pytest.warns(UndefinedMetricWarning, match=reason):
        assert math.isnan(metric([label, label], [0.1, 0.2]))


@pytest.mark.parametrize(
    "y_true, y_score, message",
    [
        ([0, 1], [0.1, np.nan], "1 of 2 scores"),
        ([0, 2], [0.1, 0.2], "0 and 1 only, found 2"),
        ([0, np.nan], [0.1, 0.2], "0 and 1 only, found nan"),
        ([0, 1, 1], [0.1, 0.2], r"\(3,\) and \(2,\)"),
        ([[0], [1]], [[0.1], [0.2]], "1-D"),
        ([], [], "at least one ECG"),
    ],
)
def test_wrong_input_is_named(y_true, y_score, message):
    with pytest.raises(ValueError, match=message):
        mp.auroc(y_true, y_score)


def test_ranking_metrics_is_the_mean_over_labels_with_both_classes():
    y_true = np.array([[1, 0, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]])
    y_score = np.array([[0.9, 0.1, 0.9], [0.8, 0.2, 0.8], [0.3, 0.3, 0.3], [0.1, 0.4, 0.1]])
    auroc, average_precision = mp.ranking_metrics(y_true, y_score)
    assert auroc == pytest.approx((3 / 4 + 2 / 4) / 2)
    assert average_precision == pytest.approx(((0.5 + 0.5 * 2 / 3) + (0.5 + 0.5 * 2 / 4)) / 2)
    assert mp.ranking_metrics(y_true[:, 0], y_score[:, 0])[0] == pytest.approx(3 / 4)
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(mp.ranking_metrics(y_true[:, 1:2], y_score[:, 1:2])).all()


# Decisions and the whole


def test_confusion_metrics_by_hand():
    # the example of design and README: 14 of 21 found, 48 of 181 flagged in vain
    y_true = np.repeat([1, 1, 0, 0], [14, 7, 48, 133])
    y_score = np.repeat([0.8, 0.2, 0.31, 0.1], [14, 7, 48, 133])
    found = mp.confusion_metrics(y_true, y_score, threshold=0.31)  # a score on the threshold is flagged
    assert found["confusion_matrix"] == {"tp": 14, "fp": 48, "tn": 133, "fn": 7}
    assert (found["sensitivity"]["successes"], found["sensitivity"]["n"]) == (14, 21)
    assert found["sensitivity"]["value"] == pytest.approx(0.667, abs=5e-4)
    assert found["specificity"]["value"] == pytest.approx(0.735, abs=5e-4)
    assert found["ppv"]["value"] == pytest.approx(14 / 62)
    assert found["npv"]["value"] == pytest.approx(133 / 140)
    assert found["accuracy"]["value"] == pytest.approx(147 / 202)
    flagged = y_score >= 0.31
    assert found["f1"] == pytest.approx(sklearn_metrics.f1_score(y_true, flagged))
    expected = sklearn_metrics.balanced_accuracy_score(y_true, flagged)
    assert found["balanced_accuracy"] == pytest.approx(expected)
    assert (found["sensitivity"]["low"], found["sensitivity"]["high"]) == mp.wilson_interval(14, 21)


def test_confusion_metrics_without_positives_or_flags_are_nan_and_warn():
    with pytest.warns(UndefinedMetricWarning) as caught:
        found = mp.confusion_metrics([0, 0], [0.1, 0.2], threshold=0.5)
    names = {str(warning.message).split(" is undefined")[0] for warning in caught}
    assert names == {"sensitivity", "F1", "balanced accuracy", "PPV"} and len(caught) == 4
    assert math.isnan(found["sensitivity"]["value"]) and math.isnan(found["f1"])
    assert found["specificity"]["value"] == found["npv"]["value"] == 1


def test_evaluate_of_one_label(rng):
    y_true, y_score = make_scores(rng, 300)
    patient_ids = [f"p{index // 2}" for index in range(300)]
    arguments = {"thresholds": [0.6], "label_names": ["PE"], "patient_ids": patient_ids, "n_resamples": 500}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = mp.evaluate(y_true, y_score.astype(np.float32), **arguments)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["n_ecgs"], found["n_patients"], found["n_resamples"]) == (300, 150, 500)
    assert "macro" not in found
    label = found["labels"]["PE"]
    assert label["n_positive"] == y_true.sum() and label["prevalence"] == pytest.approx(y_true.mean())
    for metric in ("auroc", "average_precision"):
        assert label[metric]["low"] < label[metric]["value"] < label[metric]["high"]
    assert label["auroc"]["value"] == pytest.approx(sklearn_metrics.roc_auc_score(y_true, y_score))
    assert mp.evaluate(y_true[:, None], y_score[:, None].astype(np.float32), **arguments) == found


def test_evaluate_of_several_labels_with_an_undefined_one(rng):
    y_true, y_score = (
        np.stack(columns, axis=1) for columns in zip(*(make_scores(rng, 80) for _ in range(3)), strict=True)
    )
    y_true[:, 2] = 0
    arguments = {"thresholds": [0.6] * 3, "label_names": ["PE", "MI", "AF"], "patient_ids": range(80)}
    with pytest.warns(UndefinedMetricWarning) as caught:
        found = mp.evaluate(y_true, y_score, n_resamples=100, **arguments)
    messages = [str(warning.message) for warning in caught]
    assert sum(message.startswith("AF: AUROC is undefined") for message in messages) == 1
    assert all(message.startswith("AF: ") for message in messages)
    json.dumps(found, allow_nan=False)
    assert found["labels"]["AF"]["auroc"] == {"value": None, "low": None, "high": None, "n_resamples": 0}
    assert found["labels"]["AF"]["sensitivity"]["value"] is None
    defined = [found["labels"][name]["auroc"]["value"] for name in ("PE", "MI")]
    assert found["macro"]["auroc"] == pytest.approx(np.mean(defined)) and found["macro"]["n_labels"] == 2
    assert found["macro"]["auroc"] == pytest.approx(mp.ranking_metrics(y_true, y_score)[0])


@pytest.mark.parametrize(
    "changed", [{"thresholds": [0.5, 0.5]}, {"label_names": ["PE", "PE"]}, {"patient_ids": [1, 2, 3]}]
)
def test_evaluate_names_the_argument_of_the_wrong_length(changed):
    arguments = {"thresholds": [0.5], "label_names": ["PE"], "patient_ids": [1, 2]} | changed
    with pytest.raises(ValueError, match=next(iter(changed))):
        mp.evaluate([0, 1], [0.1, 0.9], **arguments)
