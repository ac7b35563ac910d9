"""Folds that are calibrated together: nothing of a fold's own test labels, one threshold, the same again."""

import json

import numpy as np
import pandas as pd
import pytest
from described_models import describe

from dataset.splits import Fold
from inference.members import calibrate
from metrics.calibration import fit_calibration
from metrics.log_odds import expit, logit
from run_folder.ensemble import read_ensemble
from run_folder.run import Run
from training.pooling import pool_folds

N_ECGS, N_FOLDS = 300, 3
SCALES = ((1.0, 0.0), (2.0, -3.0), (0.5, 1.0))  # each model has a spread and a level of its own


def make_run(folder, *, changes=lambda y_true: y_true, with_logits=True, policy="prevalence", **described):
    """Write a cross-validation as it lies before its folds are pooled; a fifth of the others validates."""
    rng = np.random.default_rng(4)
    y_true = changes((np.arange(N_ECGS) % 10 == 0).astype(int))
    signal = rng.normal(size=N_ECGS) + 1.2 * (np.arange(N_ECGS) % 10 == 0)
    fold_of = np.arange(N_ECGS) // 10 % N_FOLDS
    run = Run(folder)
    for number, (slope, intercept) in enumerate(SCALES):
        logits = slope * (signal + 0.7 * rng.normal(size=N_ECGS) - 2) + intercept
        others = np.flatnonzero(fold_of != number)
        parts = {"validation": others[::5], "test": np.flatnonzero(fold_of == number)}
        tables = []
        for part, rows in parts.items():
            table = {"file": [f"{row}.xml" for row in rows], "patient_id": [f"p{row}" for row in rows]}
            table |= {"fold": number + 1, "repeat": 1, "split": part, "y_true_PE": y_true[rows]}
            score = expit(1.5 * logits[rows] + 0.5)
            tables.append(pd.DataFrame(table | {"logit_PE": logits[rows], "y_score_PE": score}))
        fold_run = run.fold(f"fold-{number + 1}")
        fold_run.write_table(
            "predictions.csv", pd.concat(tables).drop(columns=[] if with_logits else "logit_PE")
        )
        values = {"label_names": ["PE"], "thresholds": [0.3], "prevalences": [0.1], "calibration": "shrunken"}
        values |= {"calibration_slopes": [1.5], "calibration_intercepts": [0.5], "threshold_policy": policy}
        fold_run.save_description(describe(**values | described))
    return run


def pool(run):
    pool_folds(run, [Fold(number + 1, 1, 1, {}) for number in range(N_FOLDS)], seed=1)
    return run


def descriptions_of(run):
    return [fold.load_description() for fold in run.folds().values()]


@pytest.fixture(scope="module")
def pooled(tmp_path_factory):
    return pool(make_run(tmp_path_factory.mktemp("pooled")))


def test_one_threshold_for_all_the_prevalence(pooled):
    for description in [*descriptions_of(pooled), read_ensemble(pooled.folder)]:
        assert description.thresholds == description.prevalences == [0.1]
    assert descriptions_of(pooled)[0].threshold_source == "the prevalence of the development ECGs"
    assert descriptions_of(pooled)[0].n_positive == [20]
    metrics = pooled.metrics()
    assert metrics["threshold_source"] == "the prevalence of the development ECGs"
    assert metrics["labels"]["PE"]["threshold_low"] == metrics["labels"]["PE"]["threshold_high"] == 0.1


def test_the_scores_are_those_of_the_descriptions(pooled):
    whole = pooled.predictions("test")
    for (number, fold), description in zip(pooled.folds().items(), descriptions_of(pooled), strict=True):
        table = fold.table("predictions.csv")
        expected = calibrate(table[["logit_PE"]].to_numpy(), description.calibrations)[:, 0]
        np.testing.assert_allclose(table["y_score_PE"], expected, rtol=1e-12)
        tested = fold.predictions("test")["y_score_PE"]
        np.testing.assert_array_equal(whole.loc[whole["fold"] == number, "y_score_PE"], tested)
        assert fold.metrics()["labels"]["PE"]["threshold"] == 0.1


def test_a_folds_calibration_is_fitted_on_the_other_folds(pooled):
    """Written anew: the scales by hand, and the shrunken fit of the other two folds' logits."""
    tables = [fold.table("predictions.csv") for fold in pooled.folds().values()]
    validation = [table.loc[table["split"] == "validation", "logit_PE"] for table in tables]
    spreads, means = [one.std(ddof=0) for one in validation], [one.mean() for one in validation]
    wanted = np.prod(spreads) ** (1 / 3)
    scaled = [
        ((table["logit_PE"] - mean) * wanted / spread + np.mean(means))[table["split"] == "test"]
        for table, mean, spread in zip(tables, means, spreads, strict=True)
    ]
    y_true = [table.loc[table["split"] == "test", "y_true_PE"] for table in tables]
    slope, intercept = fit_calibration(np.concatenate(y_true[1:]), np.concatenate(scaled[1:]), "shrunken")
    score = pooled.folds()[1].predictions("test")["y_score_PE"]
    np.testing.assert_allclose(logit(score), slope * scaled[0] + intercept, rtol=1e-6)


def test_a_fold_has_no_say_in_its_own_calibration(pooled, tmp_path):
    """Two labels of the first fold's test part change places: its own calibration stays, others move."""

    def exchange(y_true):
        y_true[[0, 1]] = y_true[[1, 0]]  # both in the test part of fold 1
        return y_true

    before, after = descriptions_of(pooled), descriptions_of(pool(make_run(tmp_path, changes=exchange)))
    same = [one.calibrations == other.calibrations for one, other in zip(before, after, strict=True)]
    assert same == [True, False, False]


@pytest.mark.parametrize("policy", ["youden", "sensitivity>=0.9"])
def test_nor_in_its_own_threshold(tmp_path, policy):
    def exchange(y_true):
        y_true[[0, 1]] = y_true[[1, 0]]
        return y_true

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    before = pool(make_run(tmp_path / "a", policy=policy))
    after = pool(make_run(tmp_path / "b", policy=policy, changes=exchange))
    assert descriptions_of(before)[0].thresholds == descriptions_of(after)[0].thresholds
    assert descriptions_of(before)[0].threshold_source.endswith(", from out-of-fold scores")
    decisions = before.metrics()["decisions"]["PE"]  # of all folds together
    assert decisions["n_positive"] == 30 and decisions["sensitivity"][0] < decisions["sensitivity"][1] <= 1


def test_points_of_the_curve_are_fixed_on_the_other_folds(pooled):
    whole, label = pooled.predictions("test"), pooled.metrics()["labels"]["PE"]
    right = spared = 0
    for number in pooled.folds():
        own = whole["fold"] == number
        others = whole.loc[~own & (whole["y_true_PE"] == 0), "y_score_PE"]
        allowed = np.sort(others)[-int(0.1 * len(others)) :]  # of these a tenth is flagged
        flagged = whole.loc[own, "y_score_PE"] >= allowed[0] - 1e-9
        right += (flagged & (whole.loc[own, "y_true_PE"] == 1)).sum()
        spared += (~flagged & (whole.loc[own, "y_true_PE"] == 0)).sum()
    point = label["at_specificity_90"]
    # a score between the two that the threshold lies between may fall to either side
    assert point["sensitivity"].successes == pytest.approx(right, abs=1)
    assert point["specificity"].successes == pytest.approx(spared, abs=2)
    assert point["sensitivity"].n == 30 and "at_sensitivity_95" not in label  # 20 positives fix no such point


def test_the_pooled_scores_rank_as_one_models(pooled):
    """On one scale hardly any of the AUROC within the folds is lost by pooling; without, much is."""
    metrics = pooled.metrics()
    within = np.mean([fold["PE"] for fold in metrics["auroc_of_folds"]])
    raw = pd.concat([fold.predictions("test") for fold in pooled.folds().values()])
    from sklearn.metrics import roc_auc_score

    assert metrics["labels"]["PE"]["auroc"].value > within - 0.03
    assert roc_auc_score(raw["y_true_PE"], raw["logit_PE"]) < within - 0.06  # without one scale


def test_the_mean_is_stretched_and_the_members_are_not(pooled):
    ensemble = read_ensemble(pooled.folder)
    # Models share 1 / 1.49 of the variance of the ECGs without PE
    assert ensemble.calibration_slopes[0] == pytest.approx(1 / (0.67 + 0.33 / 3), abs=0.2)
    slope, intercept = ensemble.calibration_slopes[0], ensemble.calibration_intercepts[0]
    assert slope * logit(0.1) + intercept == pytest.approx(logit(0.1))


def test_pooling_again_writes_the_same(pooled):
    names = ["ensemble.json", "predictions.csv", "metrics.json"]
    names += [f"fold-{number}/{name}" for number in (1, 2, 3) for name in ("model.json", *names[1:])]
    before = [(pooled.folder / name).read_bytes() for name in names]
    assert [(pool(pooled).folder / name).read_bytes() for name in names] == before


def test_scores_of_the_first_versions_give_the_logits_back(pooled, tmp_path):
    run = pool(make_run(tmp_path, with_logits=False))
    for one, other in zip(descriptions_of(run), descriptions_of(pooled), strict=True):
        assert one.calibration_slopes == pytest.approx(other.calibration_slopes)
        assert one.calibration_intercepts == pytest.approx(other.calibration_intercepts)


def test_uncalibrated_folds_stay_as_they_are(tmp_path):
    run = pool(make_run(tmp_path, calibration="none"))
    for description in descriptions_of(run):
        assert description.calibrations == [(1.0, 0.0)]
    ensemble = json.loads((tmp_path / "ensemble.json").read_text(encoding="utf-8"))
    assert (ensemble["calibration_slopes"], ensemble["calibration_intercepts"]) == ([1.0], [0.0])
