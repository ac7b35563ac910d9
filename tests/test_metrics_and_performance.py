"""Metrics against hand-worked values and scikit-learn."""

import json
import math
import warnings

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics
from sklearn.exceptions import UndefinedMetricWarning

import metrics_and_performance as mp
from metrics import calibration, decisions
from metrics.bootstrap import rank_counts
from metrics.delong import delong_interval
from metrics.metric import Metric, metrics_from_json, metrics_to_json
from metrics.proportions import clopper_pearson_interval
from metrics.roc_points import partial_auroc_of_counts, sensitivity_at_specificity_of_counts
from metrics.rule_out import KEYS, rule_out


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
    assert (found["sensitivity"].successes, found["sensitivity"].n) == (14, 21)
    assert found["sensitivity"].value == pytest.approx(0.667, abs=5e-4)
    assert found["specificity"].value == pytest.approx(0.735, abs=5e-4)
    assert found["ppv"].value == pytest.approx(14 / 62)
    assert found["npv"].value == pytest.approx(133 / 140)
    assert found["accuracy"].value == pytest.approx(147 / 202)
    flagged = y_score >= 0.31
    assert found["f1"] == pytest.approx(sklearn_metrics.f1_score(y_true, flagged))
    expected = sklearn_metrics.balanced_accuracy_score(y_true, flagged)
    assert found["balanced_accuracy"] == pytest.approx(expected)
    assert (found["sensitivity"].low, found["sensitivity"].high) == clopper_pearson_interval(14, 21)


def test_confusion_metrics_without_positives_or_flags_are_nan_and_warn():
    with pytest.warns(UndefinedMetricWarning) as caught:
        found = mp.confusion_metrics([0, 0], [0.1, 0.2], threshold=0.5)
    names = {str(warning.message).split(" is undefined")[0] for warning in caught}
    assert names == {"sensitivity", "F1", "balanced accuracy", "PPV"} and len(caught) == 4
    assert math.isnan(found["sensitivity"].value) and math.isnan(found["f1"])
    assert found["specificity"].value == found["npv"].value == 1


def test_evaluate_of_one_label(rng):
    y_true, y_score = make_scores(rng, 300)
    patient_ids = [f"p{index // 2}" for index in range(300)]
    arguments = {"thresholds": [0.6], "label_names": ["PE"], "patient_ids": patient_ids, "n_resamples": 500}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = mp.evaluate(y_true, y_score.astype(np.float32), **arguments)
    content = metrics_to_json(found)
    assert metrics_from_json(json.loads(json.dumps(content, allow_nan=False))) == found
    assert (found["n_ecgs"], found["n_patients"], found["n_resamples"]) == (300, 150, 500)
    assert "macro" not in found
    label = found["labels"]["PE"]
    assert label["n_positive"] == y_true.sum() and label["prevalence"] == pytest.approx(y_true.mean())
    for metric in ("auroc", "average_precision"):
        assert label[metric].low < label[metric].value < label[metric].high
    assert label["auroc"].value == pytest.approx(sklearn_metrics.roc_auc_score(y_true, y_score))
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
    content = json.loads(json.dumps(metrics_to_json(found), allow_nan=False))["labels"]["AF"]
    assert content["auroc"] == {"value": None, "low": None, "high": None}
    assert content["average_precision"] == content["auroc"] | {"n_resamples": 0}
    assert content["sensitivity"]["value"] is None and content["f1"] is None
    assert not found["labels"]["AF"]["auroc"].is_defined
    defined = [found["labels"][name]["auroc"].value for name in ("PE", "MI")]
    assert found["macro"]["auroc"] == pytest.approx(np.mean(defined)) and found["macro"]["n_labels"] == 2
    assert found["macro"]["auroc"] == pytest.approx(mp.ranking_metrics(y_true, y_score)[0])


@pytest.mark.parametrize(
    "changed", [{"thresholds": [0.5, 0.5]}, {"label_names": ["PE", "PE"]}, {"patient_ids": [1, 2, 3]}]
)
def test_evaluate_names_the_argument_of_the_wrong_length(changed):
    arguments = {"thresholds": [0.5], "label_names": ["PE"], "patient_ids": [1, 2]} | changed
    with pytest.raises(ValueError, match=next(iter(changed))):
        mp.evaluate([0, 1], [0.1, 0.9], **arguments)


def test_evaluate_restates_each_metric(rng):
    y_true, y_score = make_scores(rng, 500)
    arguments = {"label_names": ["PE"], "patient_ids": range(500), "n_resamples": 200}
    label = mp.evaluate(y_true, y_score, thresholds=[0.6], prevalence=0.05, **arguments)["labels"]["PE"]
    data = y_true, y_score
    counts = rank_counts(*data)
    ruled_out = rule_out(*data, range(500))
    ratios = decisions.likelihood_ratios(label["sensitivity"], label["specificity"])
    expected = {
        "partial_auroc": partial_auroc_of_counts(counts, 0.9).item(),
        "sensitivity_at_specificity_90": sensitivity_at_specificity_of_counts(counts, 0.9).item(),
        "sensitivity_at_specificity_95": sensitivity_at_specificity_of_counts(counts, 0.95).item(),
        **{key: metric.value for key, metric in ruled_out.items()},
        "auroc": mp.auroc(*data),
        "positive_likelihood_ratio": ratios["positive"].value,
        "negative_likelihood_ratio": ratios["negative"].value,
        "calibration_slope": calibration.calibration_slope_and_intercept(*data)["slope"].value,
        "calibration_intercept": calibration.calibration_slope_and_intercept(*data)["intercept"].value,
    }
    for name, value in expected.items():
        assert label[name].value == pytest.approx(value)
        assert label[name].low <= value <= label[name].high
    assert {key: label[key] for key in KEYS} == ruled_out
    assert label["auroc"][1:3] == delong_interval(*data, range(500))
    assert label["expected_calibration_error"] == calibration.expected_calibration_error(*data)
    assert label["n_positive_patients"] == y_true.sum()
    assert label["threshold"] == label["threshold_low"] == label["threshold_high"] == 0.6
    rates = label["sensitivity"].value, label["specificity"].value
    ppv, npv = decisions.predictive_values_at(*rates, 0.05)
    restated = label["at_prevalence"]
    assert (restated["prevalence"], restated["ppv"].value, restated["npv"].value) == (0.05, ppv, npv)
    assert restated["ppv"].low < ppv < restated["ppv"].high
    assert restated["npv"].low < npv < restated["npv"].high
    # odds 1 : 19 times the likelihood ratio
    high = ratios["positive"].high / 19
    assert restated["ppv"].high == pytest.approx(high / (1 + high))


def test_evaluate_of_a_threshold_for_each_ecg(rng):
    y_true, y_score = make_scores(rng, 200)
    thresholds = np.where(np.arange(200) < 120, 0.5, 0.7)[:, None]
    arguments = {"label_names": ["PE"], "patient_ids": range(200), "n_resamples": 100}
    label = mp.evaluate(y_true, y_score, thresholds=thresholds, **arguments)["labels"]["PE"]
    assert (label["threshold"], label["threshold_low"], label["threshold_high"]) == (0.5, 0.5, 0.7)
    parts = [
        mp.confusion_metrics(y_true[part], y_score[part], threshold)["confusion_matrix"]
        for part, threshold in ((slice(120), 0.5), (slice(120, 200), 0.7))
    ]
    assert label["confusion_matrix"] == {cell: parts[0][cell] + parts[1][cell] for cell in parts[0]}
    same = mp.evaluate(y_true, y_score, thresholds=np.full((200, 1), 0.6), **arguments)
    assert same == mp.evaluate(y_true, y_score, thresholds=[0.6], **arguments)


def test_evaluate_of_repeated_ecgs_is_no_more_certain(rng):
    y_true, y_score = make_scores(rng, 250)
    arguments = {"thresholds": [0.6], "label_names": ["PE"], "n_resamples": 100}
    once = mp.evaluate(y_true, y_score, patient_ids=range(250), prevalence=0.05, **arguments)["labels"]["PE"]
    repeated = [np.repeat(column, 5) for column in (y_true, y_score, np.arange(250))]
    arguments |= {"patient_ids": repeated[2], "ecg_ids": repeated[2]}
    often = mp.evaluate(*repeated[:2], prevalence=0.05, **arguments)["labels"]["PE"]
    perfect = "calibration_error_of_perfect_scores"
    assert often[perfect] == pytest.approx(once[perfect])
    assert often["sensitivity"].n == 5 * once["sensitivity"].n
    compared = [name for name, metric in once.items() if isinstance(metric, Metric)]
    assert len(compared) == 17
    for name in compared:
        # a sample's variance has n - 1 in its denominator
        expected = pytest.approx(once[name][:3], rel=0.02, abs=0.003, nan_ok=True)
        assert often[name][:3] == expected, name
    assert all(often[key].reason == f"too few positives ({once['n_positive']})" for key in KEYS)
    by_ecg = mp.confusion_metrics(*repeated[:2], 0.6)["sensitivity"]
    assert by_ecg.high - by_ecg.low < 0.5 * (once["sensitivity"].high - once["sensitivity"].low)


def test_one_negative_patient_with_many_ecgs_leaves_a_ratio_without_an_upper_end():
    """One of ten is flagged: nine of ten right count as 0.9 of one, and the specificity may be 1."""
    y_true, y_score = np.r_[[1] * 20, [0] * 10], np.r_[[0.9] * 16, [0.1] * 4, 0.9, [0.1] * 9]
    patients = np.r_[np.arange(20), [99] * 10]
    arguments = {"thresholds": [0.5], "label_names": ["PE"], "patient_ids": patients, "n_resamples": 50}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        label = mp.evaluate(y_true, y_score, prevalence=0.5, **arguments)["labels"]["PE"]
    assert label["specificity"].high == 1
    ratio, ppv = label["positive_likelihood_ratio"], label["at_prevalence"]["ppv"]
    assert ratio.value == pytest.approx(8) and 0 < ratio.low < 1 and math.isnan(ratio.high)
    assert ratio.reason.startswith("no upper end")
    assert ppv.value == pytest.approx(8 / 9) and ppv.high == 1
    assert ppv.low == pytest.approx(ratio.low / (1 + ratio.low))  # where the odds before are even


def test_evaluate_names_a_wrong_prevalence_and_threshold():
    arguments = {"label_names": ["PE"], "patient_ids": range(4), "n_resamples": 10}
    data = [0, 1, 0, 1], [0.1, 0.9, 0.5, 0.4]
    with pytest.raises(ValueError, match="prevalence: expected"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mp.evaluate(*data, thresholds=[0.5], prevalence=5, **arguments)
    with pytest.raises(ValueError, match=r"shape \(4, 1\), found the shape \(4,\)"):
        mp.evaluate(*data, thresholds=[0.5] * 4, **arguments)
    with pytest.raises(ValueError, match="threshold: expected a finite"):
        mp.evaluate(*data, thresholds=[math.nan], **arguments)


def test_evaluate_strata(rng):
    y_true, y_score = make_scores(rng, 300)
    sex = np.where(np.arange(300) % 3 == 0, "female", "male")
    device = np.array(["A"] * 290 + ["B"] * 8 + [None, math.nan], dtype=object)
    arguments = {"thresholds": [0.6], "label_names": ["PE"], "patient_ids": range(300)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = mp.evaluate_strata(y_true, y_score, strata={"sex": sex, "device": device}, **arguments)
    assert [(row["stratum"], row["value"], row["n"]) for row in rows] == [
        ("sex", "female", 100),
        ("sex", "male", 200),
        ("device", "A", 290),
        ("device", "B", 8),
        ("device", "missing", 2),
    ]
    part = sex == "female"
    arguments_alone = arguments | {"patient_ids": range(100), "n_resamples": 100}
    alone = mp.evaluate(y_true[part], y_score[part], **arguments_alone)["labels"]["PE"]
    assert rows[0]["label"] == "PE" and rows[0]["n_patients"] == 100
    assert rows[0]["n_positive"] == alone["n_positive"]
    for metric in ("auroc", "sensitivity", "specificity"):
        assert rows[0][metric] == pytest.approx(alone[metric].value)
        assert (rows[0][f"{metric}_low"], rows[0][f"{metric}_high"]) == pytest.approx(alone[metric][1:3])
    assert rows[0]["auroc_low"] < rows[0]["auroc"] < rows[0]["auroc_high"]
    assert math.isnan(rows[3]["auroc"]) and math.isnan(rows[3]["auroc_low"])
    assert math.isfinite(rows[3]["specificity"])
    with pytest.raises(ValueError, match="300 values of 'age', found 2"):
        mp.evaluate_strata(y_true, y_score, strata={"age": ["old", "young"]}, **arguments)


def test_unknown_labels_are_left_out_of_that_labels_metrics():
    generator = np.random.default_rng(0)
    y_true = (generator.random((60, 2)) < 0.4).astype(float)
    y_score, patients = generator.random((60, 2)), np.arange(60) // 2
    y_true[:15, 1] = np.nan
    options = {"thresholds": [0.5, 0.5], "label_names": ["PE", "MI"], "n_resamples": 200}
    found = mp.evaluate(y_true, y_score, patient_ids=patients, **options)
    assert found["n_ecgs"] == 60 and found["labels"]["MI"].pop("n_unknown") == 15
    assert "n_unknown" not in found["labels"]["PE"]
    options.update(thresholds=[0.5], label_names=["MI"])
    alone = mp.evaluate(y_true[15:, 1], y_score[15:, 1], patient_ids=patients[15:], **options)
    for name in ("auroc", "sensitivity", "brier_score", "prevalence", "calibration_slope"):
        assert found["labels"]["MI"][name] == alone["labels"]["MI"][name]
    assert found["labels"]["MI"]["auroc"].value == alone["labels"]["MI"]["auroc"].value
    known = [y_true[:, 0], y_true[15:, 1]]
    scores = [y_score[:, 0], y_score[15:, 1]]
    aurocs = [sklearn_metrics.roc_auc_score(true, score) for true, score in zip(known, scores, strict=True)]
    assert mp.ranking_metrics(y_true, y_score)[0] == pytest.approx(np.mean(aurocs))


def test_strata_count_the_ecgs_of_which_the_label_is_known():
    generator = np.random.default_rng(0)
    y_true = (generator.random((60, 2)) < 0.4).astype(float)
    y_true[:15, 1] = np.nan
    rows = mp.evaluate_strata(
        y_true,
        generator.random((60, 2)),
        thresholds=[0.5, 0.5],
        label_names=["PE", "MI"],
        patient_ids=np.arange(60),
        strata={"part": ["first"] * 15 + ["second"] * 45},
    )
    counts = [(row["label"], row["value"], row["n"]) for row in rows]
    assert counts == [("PE", "first", 15), ("PE", "second", 45), ("MI", "second", 45)]
