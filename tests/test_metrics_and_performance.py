"""Metrics against hand-worked and published values, and against scikit-learn and SciPy."""

import json
import math
import time
import warnings

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as sklearn_metrics
from sklearn.exceptions import UndefinedMetricWarning

import metrics_and_performance as mp

RESAMPLED_METRICS = [
    (mp.auroc_of_counts, sklearn_metrics.roc_auc_score),
    (mp.average_precision_of_counts, sklearn_metrics.average_precision_score),
]


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


# Wilson


@pytest.mark.parametrize(
    "successes, n, low, high",  # Newcombe, Stat Med 1998;17:857, Table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_of_newcombe(successes, n, low, high):
    assert mp.wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_of_scipy():
    for successes, n, confidence in [(0, 7, 0.95), (7, 7, 0.9), (14, 21, 0.95), (133, 181, 0.99)]:
        expected = binomtest(successes, n).proportion_ci(confidence, method="wilson")
        found = mp.wilson_interval(successes, n, confidence)
        assert found == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert 0 <= found[0] <= successes / n <= found[1] <= 1
    assert np.isnan(mp.wilson_interval(0, 0)).all()
    with pytest.raises(ValueError, match="successes"):
        mp.wilson_interval(5, 4)


# Bootstrap


@pytest.mark.parametrize("of_counts, of_sklearn", RESAMPLED_METRICS)
@pytest.mark.parametrize("digits", [1, 2, 8])  # many ties, some, none
def test_each_resample_agrees_with_sklearn(rng, of_counts, of_sklearn, digits):
    y_true, y_score = make_scores(rng, 120)
    y_score, patient_ids = y_score.round(digits), rng.integers(60, size=120)
    patients = np.unique(patient_ids, return_inverse=True)[1]
    found = [of_counts(counts) for counts in mp._resampled_counts(y_true, y_score, patients, 40, seed=3)]
    weights = np.concatenate(list(mp._resampled_weights(patients, 40, seed=3)))
    expected = [of_sklearn(y_true, y_score, sample_weight=row) for row in weights]
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-10)


def test_patients_are_drawn_with_all_their_ecgs(rng):
    patients = rng.integers(30, size=100)
    patients = np.unique(patients, return_inverse=True)[1]
    weights = np.concatenate(list(mp._resampled_weights(patients, 500, seed=1)))
    _, first = np.unique(patients, return_index=True)
    np.testing.assert_array_equal(weights, weights[:, first][:, patients])  # one weight a patient
    assert (weights[:, first].sum(axis=1) == len(first)).all()  # as many patients as there are
    assert weights[:, first].mean(axis=0) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("of_counts, _", RESAMPLED_METRICS)
def test_repeated_ecgs_of_a_patient_add_no_certainty(rng, of_counts, _):
    y_true, y_score = make_scores(rng, 150)
    patient_ids = np.arange(150)
    once = mp.bootstrap_interval(of_counts, y_true, y_score, patient_ids)
    repeated = [np.repeat(column, 4) for column in (y_true, y_score, patient_ids)]
    by_patient = mp.bootstrap_interval(of_counts, *repeated)
    by_ecg = mp.bootstrap_interval(of_counts, *repeated[:2], np.arange(600))
    assert by_patient[:2] == pytest.approx(once[:2], abs=1e-12)
    assert by_ecg.high - by_ecg.low < 0.65 * (once.high - once.low)  # about 1 / sqrt(4)


def test_bootstrap_is_determined_by_its_seed_and_not_by_the_chunks(rng, monkeypatch):
    y_true, y_score = make_scores(rng, 90)
    interval = mp.bootstrap_interval(mp.auroc_of_counts, y_true, y_score, range(90), 300, seed=5)
    assert mp.bootstrap_interval(mp.auroc_of_counts, y_true, y_score, range(90), 300, seed=5) == interval
    assert mp.bootstrap_interval(mp.auroc_of_counts, y_true, y_score, range(90), 300, seed=6) != interval
    monkeypatch.setattr(mp, "WEIGHTS_PER_CHUNK", 7 * 90)
    assert mp.bootstrap_interval(mp.auroc_of_counts, y_true, y_score, range(90), 300, seed=5) == interval


def test_bootstrap_covers_the_true_auroc(rng):
    truth = 0.7602  # Phi(1 / sqrt(2)), two normal distributions one standard deviation apart
    covered = 0
    for _ in range(200):
        y_true, y_score = make_scores(rng, 200)
        low, high, _ = mp.bootstrap_interval(mp.auroc_of_counts, y_true, y_score, range(200), 400)
        covered += low <= truth <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_too_few_patients_give_no_interval():
    with pytest.warns(UndefinedMetricWarning, match="resamples with both classes"):
        interval = mp.bootstrap_interval(mp.auroc_of_counts, [1, 0, 0, 0], [0.9, 0.1, 0.2, 0.3], range(4))
    assert math.isnan(interval.low) and 0 < interval.n_resamples < 1800
    with pytest.warns(UndefinedMetricWarning, match="patients: 1"):
        assert math.isnan(mp.bootstrap_interval(mp.auroc_of_counts, [1, 0], [0.9, 0.1], ["a", "a"]).low)
    with pytest.warns(UndefinedMetricWarning, match="0 of 2000"):
        assert math.isnan(mp.bootstrap_interval(mp.auroc_of_counts, [0, 0], [0.9, 0.1], [1, 2]).low)
    with pytest.raises(ValueError, match="1 of 2 are missing"):
        mp.bootstrap_interval(mp.auroc_of_counts, [1, 0], [0.9, 0.1], ["a", None])


def test_two_thousand_resamples_of_a_thousand_ecgs_are_quick(rng):
    y_true, y_score = make_scores(rng, 1000, prevalence=0.1)
    start = time.perf_counter()
    for of_counts, _ in RESAMPLED_METRICS:
        mp.bootstrap_interval(of_counts, y_true, y_score, range(1000))
    assert time.perf_counter() - start < 2  # seconds; 0.06 on one idle core


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


def test_brier_score(rng):
    assert mp.brier_score([1, 0], [0.8, 0.4]) == pytest.approx((0.04 + 0.16) / 2)
    y_true, y_score = make_scores(rng, 50)
    assert mp.brier_score(y_true, y_score) == pytest.approx(sklearn_metrics.brier_score_loss(y_true, y_score))
    with pytest.raises(ValueError, match="probabilities"):
        mp.brier_score([1, 0], [2.0, -1.0])


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
