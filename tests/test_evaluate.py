"""Runs on the same ECGs are compared with each other, their ensemble, the ECG signs and a clinical score."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from tiny_runs import line_of, make_tiny_cohort, run_folder_of, run_here, tiny

from uncertainty import delong_test


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Two cross-validations on the same folds, and one on others; the table has a clinical score."""
    places = tmp_path_factory.mktemp("places")
    cohort = make_tiny_cohort(places / "ecgs")
    table = pd.read_csv(cohort / "labels.csv")
    table["wells"] = np.arange(len(table)) % 7 + 2 * table["PE"]
    table.loc[3, "wells"] = np.nan
    table["ward"] = "<b>" + table["sex"]
    table.to_csv(cohort / "labels.csv", index=False)
    flags = tiny(cohort, "--output-dir", places / "runs", "--cache-dir", places / "cache", "--folds", 3)
    for name, changed in {"one": [], "two": ["--learning-rate", 1e-3], "other": ["--seed", 7]}.items():
        run_folder_of(run_here("train_spectrogram.py", *flags, *changed)).rename(places / name)
    return places


@pytest.fixture(scope="module")
def compared(places):
    """The outcome and the folder of a comparison with everything."""
    outcome = run_here(
        "evaluate.py",
        *(places / "one", places / "two", "--names", "first", "second", "--output-dir", places / "compared"),
        *("--strata", "sex", "age", "ward", "--rivals", "wells", "--prevalence", 0.05),
    )
    assert outcome.returncode == 0, outcome.stderr
    (folder,) = (places / "compared").iterdir()
    return outcome, folder


def predictions(places, name):
    return pd.read_csv(places / name / "predictions.csv").sort_values("file").reset_index(drop=True)


def test_every_model_stands_in_the_table(compared):
    outcome, folder = compared
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["PE"]
    models = ["first", "second", "ensemble", "wells"]
    models += ["ECG signs, age and sex", "heart rate alone", "age and sex alone"]
    assert list(metrics) == models
    for model in models:
        assert any(line.startswith(model) for line in outcome.stdout.splitlines())
    assert metrics["first"]["n_ecgs"] == 24 and metrics["wells"]["n_ecgs"] == 23
    assert "sensitivity" in metrics["ensemble"] and "sensitivity" not in metrics["wells"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/svg+xml;base64,") == 2 and "http://" not in page.replace(
        "http://www.w3.org", ""
    )
    assert all(f'<th scope="row">{model}</th>' in page for model in models)
    assert "&lt;b&gt;F" in page and "<b>F" not in page  # a ward's name is text, whatever it holds
    assert "where 5 % have PE: PPV " in outcome.stdout


def test_the_ensemble_is_the_mean_and_differences_are_delongs(places, compared):
    _, folder = compared
    one, two = predictions(places, "one"), predictions(places, "two")
    y_true, mean = one["y_true_PE"], (one["y_score_PE"] + two["y_score_PE"]) / 2
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["PE"]
    assert metrics["ensemble"]["auroc"]["value"] == pytest.approx(roc_auc_score(y_true, mean))
    assert metrics["first"]["auroc"]["value"] == pytest.approx(roc_auc_score(y_true, one["y_score_PE"]))
    row = pd.read_csv(folder / "differences.csv").set_index("model").loc["ensemble"]
    expected = delong_test(y_true, mean, one["y_score_PE"], one["patient_id"])
    assert row["auroc_difference"] == pytest.approx(expected.difference)
    assert row["auroc_difference_p"] == pytest.approx(expected.p)


def test_the_pooled_run_reports_the_same_as_the_comparison(places, compared):
    _, folder = compared
    pooled = json.loads((places / "one" / "metrics.json").read_text(encoding="utf-8"))["labels"]["PE"]
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["PE"]["first"]
    for name in ("auroc", "sensitivity", "specificity", "threshold"):
        found, expected = metrics[name], pooled[name]
        assert found == expected or found["value"] == expected["value"]


def test_strata_hold_every_ecg_once(compared):
    _, folder = compared
    rows = pd.read_csv(folder / "strata.csv")
    assert set(rows["stratum"]) == {"sex", "age", "ward"}
    assert (rows.groupby("stratum")["n"].sum() == 24).all()
    assert set(rows.loc[rows["stratum"] == "sex", "value"]) == {"F", "M"}
    thirds = pd.read_csv(folder / "heart_rate.csv")
    assert thirds["n_ecgs"].sum() == 24 and len(thirds) == 3


def test_one_run_without_signs(places):
    outcome = run_here("evaluate.py", places / "one", "--no-signs", "--output-dir", places / "single")
    assert outcome.returncode == 0 and "ECG signs" not in outcome.stdout and "ensemble" not in outcome.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["other"], "found other test ECGs, labels or folds than in"),
        (["none"], "found no finished run"),
        (["one", "--strata", "site"], "column site: not in the labels table, expected one of"),
        (["one", "--rivals", "ward"], "column ward: found '<b>"),
    ],
)
def test_what_cannot_be_compared_is_one_line(places, words, message):
    words = [places / word if word in ("one", "other", "none") else word for word in words]
    outcome = run_here("evaluate.py", places / "one", *words, "--output-dir", places / "failed")
    assert message in line_of(outcome)


@pytest.mark.parametrize(
    "words", [["--names", "a", "b"], ["--prevalence", "1.5"], ["--unknown"], ["--prevalence", "x"]]
)
def test_wrong_flags(places, words):
    outcome = run_here("evaluate.py", places / "one", *words)
    assert outcome.returncode == 2 and words[0] in outcome.stderr
