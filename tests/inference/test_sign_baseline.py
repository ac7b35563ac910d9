"""The baseline learns from the training and validation part alone, and the probes are what they say."""

import hashlib
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from ecg.signs import Signs
from inference import sign_baseline
from inference.sign_baseline import (
    auroc_within_tertiles,
    fit_and_score,
    out_of_fold_scores,
    probe_sets,
)


def made_up(n_ecgs=400, seed=0):
    """Return features, y_true and patient_ids of ECGs in which the heart rate says something about PE."""
    generator = np.random.default_rng(seed)
    y_true = (generator.random(n_ecgs) < 0.3).astype(int)
    features = pd.DataFrame(
        generator.standard_normal((n_ecgs, len(Signs._fields))), columns=list(Signs._fields)
    )
    features["heart_rate_bpm"] = 80 + 15 * (features["heart_rate_bpm"] + 1.2 * y_true)
    features["age"] = generator.integers(20, 95, n_ecgs)
    features["sex"] = generator.choice([1.0, 0.0], n_ecgs)  # F and M
    return features, y_true, np.arange(n_ecgs) // 2


def by_patient(patient_ids, n_folds=4):
    """Return folds in which each patient is tested once."""
    fold_of = patient_ids % n_folds
    return [
        {
            "train": np.flatnonzero((fold_of != k) & (fold_of != (k + 1) % n_folds)),
            "validation": np.flatnonzero(fold_of == (k + 1) % n_folds),
            "test": np.flatnonzero(fold_of == k),
        }
        for k in range(n_folds)
    ]


def test_it_learns_what_is_there_and_scores_every_ecg():
    features, y_true, patients = made_up()
    y_score = out_of_fold_scores(features, y_true, by_patient(patients, 3), patients)
    assert y_score.shape == (400,)
    assert ((y_score > 0) & (y_score < 1)).all()
    assert 0.72 < roc_auc_score(y_true, y_score) < 0.88  # two normals 1.2 deviations apart: 0.80


def test_it_does_not_matter_what_the_patients_are_called():
    features, y_true, patients = made_up(120, seed=2)
    folds = by_patient(patients, 3)
    renamed = np.array([hashlib.sha256(b"%d" % number).hexdigest() for number in patients])
    np.testing.assert_array_equal(
        out_of_fold_scores(features, y_true, folds, renamed),
        out_of_fold_scores(features, y_true, folds, patients),
    )


def test_labels_planted_in_the_test_rows_help_nothing():
    # Were medians, scales, the penalty or the model fitted on test rows, the planted column would be used.
    features, y_true, patients = made_up()
    train, _, test = by_patient(patients)[0].values()
    features["planted"] = 0.0
    shuffled = np.random.default_rng(1).permutation(y_true[train])
    features.loc[train, "planted"] = shuffled
    features.loc[test, "planted"] = 50.0 * y_true[test]
    plain = features[["qrs_ms", "t_in_v1_mv", "planted"]]
    parts = {"train": train, "test": test}
    y_score = fit_and_score(plain, y_true, parts, patient_ids=patients)
    blind = fit_and_score(plain.drop(columns="planted"), y_true, parts, patient_ids=patients)
    # The planted column has no relation to the labels in training, so its coefficient is as good as none.
    model = sign_baseline._fit(plain.to_numpy()[train], y_true[train], patients[train])
    assert abs(model[-1].coef_[0, 2]) < 0.3
    assert roc_auc_score(y_true[test], blind) < 0.65
    np.testing.assert_array_equal(y_score, model.predict_proba(plain.to_numpy()[test])[:, 1])


def test_a_score_depends_on_training_rows_and_its_own_row_alone():
    features, y_true, patients = made_up()
    parts = by_patient(patients)[0]
    expected = fit_and_score(features, y_true, parts, patient_ids=patients)
    test = parts["test"]
    fitted = np.concatenate([parts["train"], parts["validation"]])
    changed, others = features.copy(), np.setdiff1d(np.arange(400), np.append(fitted, test[0]))
    numbers = [name for name in features if name not in ("sex", "age")]
    changed.loc[others, numbers] = np.tile(1e6 * y_true[others, None], len(numbers))
    changed.loc[others, "sex"] = None
    labels = y_true.copy()
    labels[others] = 1 - labels[others]
    labels[test[0]] = 1 - labels[test[0]]
    assert fit_and_score(changed, labels, parts, patient_ids=patients)[0] == expected[0]


def test_validation_ecgs_are_learned_from():
    features, y_true, patients = made_up()
    parts = by_patient(patients)[0]
    whole = {"train": np.sort(np.concatenate([parts["train"], parts["validation"]])), "test": parts["test"]}
    expected = fit_and_score(features, y_true, whole, patient_ids=patients)
    np.testing.assert_array_equal(fit_and_score(features, y_true, parts, patient_ids=patients), expected)
    less = {"train": parts["train"], "test": parts["test"]}
    assert not np.array_equal(fit_and_score(features, y_true, less, patient_ids=patients), expected)


def test_the_penalty_is_chosen_on_other_patients():
    # Five equal ECGs a patient: were one patient on both sides, the weakest penalty would look best.
    generator = np.random.default_rng(4)
    patients = np.repeat(np.arange(30), 5)
    numbers = generator.standard_normal((30, 12))[patients]
    model = sign_baseline._fit(numbers, (np.arange(30) % 2)[patients], patients)
    assert model[-1].C <= 0.01


def test_permuted_labels_leave_chance():
    features, y_true, patients = made_up(n_ecgs=1200)
    of_patient = np.random.default_rng(3).permutation(y_true[::2])
    permuted = np.repeat(of_patient, 2)
    y_score = out_of_fold_scores(features.iloc[:, ::3], permuted, by_patient(patients, 3), patients)
    assert roc_auc_score(permuted, y_score) == pytest.approx(0.5, abs=0.06)


def test_missing_values_are_filled_and_told():
    features, y_true, patients = made_up()
    features["qrs_ms"] = np.where(y_true == 1, math.nan, 90.0)  # that it is missing is all there is to learn
    features["t_in_v4_mv"] = math.nan
    parts = by_patient(patients)[0]
    y_score = fit_and_score(features[["qrs_ms", "t_in_v4_mv"]], y_true, parts, patient_ids=patients)
    assert roc_auc_score(y_true[parts["test"]], y_score) == 1.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train": np.arange(0, 301)}, "1 patients in training and test"),
        ({"train": np.array([], int)}, "one class in the training part"),
    ],
)
def test_parts_that_cannot_be_used_are_refused(change, words):
    features, y_true, patients = made_up()
    parts = {"train": np.arange(300), "test": np.arange(301, 400)} | change
    with pytest.raises(ValueError, match=words):
        fit_and_score(features, y_true, parts, patient_ids=patients)


def test_an_ecg_tested_twice_is_refused_and_one_never_tested_has_no_score():
    features, y_true, patients = made_up()
    folds = by_patient(patients)
    with pytest.raises(ValueError, match="fold 2: found 100 ECGs that an earlier fold tests"):
        out_of_fold_scores(features[["qrs_ms"]], y_true, [folds[0], folds[0]], patients)
    y_score = out_of_fold_scores(features[["qrs_ms"]], y_true, folds[:1], patients)
    assert np.isnan(y_score).sum() == 300


def test_few_patients_are_enough():
    features, y_true = pd.DataFrame({"heart_rate_bpm": [60.0, 70, 110, 75]}), [0, 0, 1, 0]
    parts = {"train": np.arange(3), "test": np.array([3])}
    assert fit_and_score(features, y_true, parts).shape == (1,)


# ----------------------------------------------------------------------------------------------------
# Probes
# ----------------------------------------------------------------------------------------------------


def test_probes_of_a_whole_cohort(capsys):
    features, *_ = made_up()
    sets = probe_sets(features)
    assert list(sets) == ["ECG signs, age and sex", "heart rate alone", "age and sex alone"]
    assert sets["ECG signs, age and sex"] == [*Signs._fields, "age", "sex"]
    assert sets["heart rate alone"] == ["heart_rate_bpm"]
    assert sets["age and sex alone"] == ["age", "sex"]
    assert capsys.readouterr().out == ""


def test_what_a_cohort_lacks_is_left_out_and_said(capsys):
    features, *_ = made_up()
    sets = probe_sets(features.drop(columns="sex").assign(age=math.nan))
    assert list(sets) == ["ECG signs, age and sex", "heart rate alone"]
    assert sets["ECG signs, age and sex"] == list(Signs._fields)
    assert capsys.readouterr().out == "baseline    the cohort has no age, sex; left out: age and sex alone\n"
    assert probe_sets(features.drop(columns="sex"))["age and sex alone"] == ["age"]
    assert "left out" not in capsys.readouterr().out


def test_tertiles_by_hand():
    values = np.array([50, 51, 52, 70, 71, 72, 110, 111, 112, math.nan])
    y_true = np.array([0, 0, 1, 1, 0, 0, 1, 1, 1, 1])
    y_score = np.array([0.1, 0.2, 0.3, 0.1, 0.2, 0.05, 0.9, 0.8, 0.7, 0.5])
    table = auroc_within_tertiles(y_true, y_score, values)
    assert table["tertile"].tolist() == ["lowest", "middle", "highest", "unknown"]
    assert table["low"].tolist()[:3] == [50, 70, 110]
    assert table["high"].tolist()[:3] == [52, 72, 112]
    assert table["n_ecgs"].tolist() == [3, 3, 3, 1]
    assert table["n_positive"].tolist() == [1, 1, 3, 1]
    np.testing.assert_array_equal(table["auroc"], [1.0, 0.5, math.nan, math.nan])


def test_within_tertiles_a_score_that_is_the_heart_rate_is_worth_little():
    features, y_true, _ = made_up(n_ecgs=3000)
    rate = features["heart_rate_bpm"].to_numpy()
    whole = roc_auc_score(y_true, rate)
    within = auroc_within_tertiles(y_true, rate, rate)["auroc"]
    assert within.max() < whole - 0.08
    assert len(within) == 3


@pytest.mark.parametrize("values", [np.full(5, math.nan), np.ones(5)])
def test_tertiles_of_values_that_say_nothing(values):
    table = auroc_within_tertiles([0, 1, 0, 1, 1], [0.1, 0.9, 0.2, 0.8, 0.7], values)
    assert table["n_ecgs"].sum() == 5


def test_it_needs_no_torch():
    command = "import sys, inference.sign_baseline; sys.exit('torch' in sys.modules)"
    folder = Path(sign_baseline.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", command], cwd=folder, check=False).returncode == 0
