"""What stands beside the networks: age and sex are the numbers that the models see."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from dataset.sign_columns import SIGN_COLUMNS
from ecg.signs import Signs
from inference.rivals import kernel_models, numbers_of, rival_scores, sign_features, sign_models
from runtime.errors import UserError


def test_sex_and_age_are_read_as_tables_write_them(monkeypatch):
    ages, sexes = ["61", "104", "", None, "x"], ["F", " m", "Male", "female", "?"]
    measured = pd.DataFrame({name: np.arange(5.0) for name in SIGN_COLUMNS})
    monkeypatch.setattr("inference.rivals.measured_signs", lambda signals, workers: measured)
    cohort = SimpleNamespace(table=pd.DataFrame({"age": ages, "sex": sexes}), signals=None)
    features = sign_features(cohort, np.arange(5))[["age", "sex"]]
    np.testing.assert_array_equal(features, [[61, 1], [90, 0], [np.nan, 0], [np.nan, 1], [np.nan, np.nan]])
    cohort.table = pd.DataFrame({"sex": ["0", "1"]})
    features = sign_features(cohort, np.array([1, 0]))
    assert "age" not in features and features["sex"].tolist() == [1, 0]
    assert list(features) == [*Signs._fields, "sex"] and features["heart_rate_bpm"].tolist() == [1, 0]


def test_a_column_to_compare_with_holds_numbers():
    cohort = SimpleNamespace(table=pd.DataFrame({"wells": ["1.5", "", "3"], "site": ["a", "b", "c"]}))
    np.testing.assert_array_equal(numbers_of(cohort, "wells"), [1.5, np.nan, 3])
    with pytest.raises(UserError, match="column site: found 'a', expected numbers"):
        numbers_of(cohort, "site")


def test_a_label_is_no_rival_of_its_own(capsys):
    truth = np.array([0.0, 1.0] * 8)
    columns = {"PE": truth, "ct": 2 - truth, "wells": truth * 3 + np.arange(16) / 16, "age": np.arange(16.0)}
    cohort = SimpleNamespace(
        table=pd.DataFrame({name: [f"{one:g}" for one in values] for name, values in columns.items()}),
        targets=truth[:, None],
        label_names=("PE",),
    )
    lines = np.arange(15)
    scores = rival_scores(cohort, ["wells", "age"], lines, ["PE"])
    assert [one.name for one in scores] == ["wells", "age"]
    np.testing.assert_array_equal(scores[1].y_score, np.arange(15.0))
    assert capsys.readouterr().out.startswith("note        wells alone separates PE (AUROC 1.000)")
    for name in ("PE", "ct"):
        with pytest.raises(UserError, match=f"column {name}: found the label PE itself"):
            rival_scores(cohort, [name], lines, ["PE"])
    assert rival_scores(cohort, [], lines, ["PE"]) == []


def test_a_column_that_no_tested_ecg_with_a_label_has_is_no_rival():
    targets = np.array([0.0, 1.0, np.nan, 1.0])
    table = pd.DataFrame({"wells": ["", "", "3", "4"]})
    cohort = SimpleNamespace(table=table, targets=targets[:, None], label_names=("PE",))
    assert rival_scores(cohort, ["wells"], np.arange(4), ["PE"])[0].y_score[3] == 4
    with pytest.raises(UserError, match="column wells: found no value of a tested ECG whose PE is known"):
        rival_scores(cohort, ["wells"], np.arange(3), ["PE"])


def test_rivals_score_the_lines_that_were_tested(monkeypatch):
    files, nothing = [f"{number}.xml" for number in range(12)], np.zeros(0, int)
    folds = {}
    for repeat, tests in {1: [range(6), range(6, 12)], 2: [range(0, 12, 2), range(1, 12, 2)]}.items():
        parts = [(np.setdiff1d(np.arange(12), list(test)), np.array(test)) for test in tests]
        folds[repeat] = [{"train": one, "validation": nothing, "test": two} for one, two in parts]
    lines = [
        (files[ecg], repeat) for repeat in (2, 1) for fold in folds[repeat] for ecg in fold["test"][::-1]
    ]
    truth = np.tile([0.0, 1.0, 1.0, 0.0], 3)
    comparison = SimpleNamespace(
        splits=pd.DataFrame({"file": files, "digest": files, "patient_id": files, "PE": truth}),
        table=pd.DataFrame(lines, columns=["file", "repeat"]),
        folds=folds,
        label_names=["PE"],
    )
    expected = (
        comparison.table["file"].str.removesuffix(".xml").astype(int) + 100 * comparison.table["repeat"]
    )
    by_repeat = iter([np.arange(12) + 100.0, np.arange(12) + 200.0] * 2)
    monkeypatch.setattr("inference.rivals.out_of_fold_scores", lambda *_, **__: next(by_repeat))
    (model,) = sign_models(pd.DataFrame({"heart_rate_bpm": np.arange(12)}), comparison, "PE")[:1]
    np.testing.assert_array_equal(model.y_score, expected)

    beats = 500 * np.sin(np.arange(5000) / 20) * truth[:, None, None]
    signals = (np.random.default_rng(0).normal(0, 50, (12, 12, 5000)) + beats).astype(np.int16)
    cohort = SimpleNamespace(
        table=pd.DataFrame({"file": files, "digest": files}),
        signals=SimpleNamespace(read=lambda chosen: signals[chosen]),
    )
    (model,) = kernel_models(cohort, comparison, seed=1)["PE"]
    positive = truth[expected % 100] == 1
    assert model.name == "random kernels" and model.thresholds is None
    assert model.y_score[positive].min() > model.y_score[~positive].max()
