"""Runs on the same ECGs are compared with each other, their ensemble, the ECG signs and a clinical score."""

import json
import re
import shutil
import sys
import warnings
from dataclasses import replace
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from headless_chromium import check_page
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score
from tiny_runs import line_of, make_tiny_cohort, run_as_user, run_folder_of, run_here, tiny, train_here

from cohorts.synthetic import make_cohort
from dataset.cohort import read_cohort
from ecg.recording import LEADS
from explanations import groups
from explanations.groups import explain_ecg, explain_run
from hyperparameters.declaration import Hyperparameters
from hyperparameters.reading import read_yaml
from inference.comparison import Scores, read_comparison
from inference.scoring import Scorer
from inference.strata import AGES
from metrics.delong import delong_test
from metrics.multiple_tests import holm
from reporting.figures.group_attribution import draw_group_attribution
from reporting.pages.comparison_page import ComparedLabel, _verdict
from reporting.pages.explanation_section import explanation_section
from runtime.errors import UserError
from xml_loader import centre_start


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Two cross-validations on the same folds, and one as if on others; the table has a clinical score."""
    places = tmp_path_factory.mktemp("places")
    cohort = make_tiny_cohort(places / "ecgs")
    table = pd.read_csv(cohort / "labels.csv")
    table["wells"] = np.arange(len(table)) % 7 + 2 * table["PE"]
    table.loc[3, "wells"] = np.nan
    table["ward"] = "<b>" + table["sex"]
    table.to_csv(cohort / "labels.csv", index=False)
    flags = tiny(cohort, "--output-dir", places / "runs", "--cache-dir", places / "cache", "--folds", 3)
    for name, changed in {"one": [], "two": ["--learning-rate", 1e-3]}.items():
        run_folder_of(train_here("train_atten.py", *flags, *changed)).rename(places / name)
    shutil.copytree(places / "one", places / "other")
    first, second = (places / "other" / f"fold-{number}" / "predictions.csv" for number in (1, 2))
    tables = [pd.read_csv(path) for path in (first, second)]
    tests = [table.index[table["split"] == "test"][0] for table in tables]
    files = [table.loc[row, "file"] for table, row in zip(tables, tests, strict=True)]
    for path, table, row, file in zip((first, second), tables, tests, reversed(files), strict=True):
        table.loc[row, "file"] = file
        table.to_csv(path, index=False)
    return places


@pytest.fixture(scope="module")
def compared(places):
    """The outcome and the folder of a comparison with everything."""
    outcome = run_here(
        "evaluate.py",
        *(places / "one", places / "two", "--names", "first", "second", "--output-dir", places / "compared"),
        *("--strata", "sex", "age", "ward", "wells", "--rivals", "wells", "--prevalence", 0.05),
        *("--explain", 2, "--random-kernels"),
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
    models += ["ECG signs, age and sex", "heart rate alone", "age and sex alone", "random kernels"]
    assert list(metrics) == models
    for model in models:
        assert any(line.startswith(model) for line in outcome.stdout.splitlines())
    assert metrics["first"]["n_ecgs"] == 24 and metrics["wells"]["n_ecgs"] == 23
    assert "sensitivity" in metrics["ensemble"] and "sensitivity" not in metrics["wells"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/svg+xml;base64,") == 4 and "http://" not in page.replace(
        "http://www.w3.org", ""
    )
    assert all(f'<th scope="row">{model}</th>' in page for model in models)
    assert "&lt;b&gt;F" in page and "<b>F" not in page  # a ward's name is text, whatever it holds
    assert "where 5 % have PE: PPV " in outcome.stdout
    # Seven models against the first by AUROC; two of them by sensitivity and specificity
    counted = (
        "11 tests against first: 7 of AUROC, 4 of sensitivity and specificity (differences.csv). Holm's p"
    )
    assert f"note        {counted}" in outcome.stdout and counted.replace("'", "&#39;") in page
    assert "at the thresholds that the models brought" in outcome.stdout
    assert "patients of the cohort that trained them" in page


@pytest.mark.parametrize("width", [1280, 390])
def test_browser_shows_the_whole_comparison(browser, compared, width):
    _, folder = compared
    check_page(browser, folder / "report.html", width, n_pictures=4)


def test_browser_prints_tables_with_long_names_within_a4(browser, compared, tmp_path):
    _, folder = compared
    text, long_name = (
        (folder / "report.html").read_text(encoding="utf-8"),
        "train_baseline-20261123-020512_b" * 3,
    )
    named = text.replace('<th scope="row">first<', f'<th scope="row">{long_name}<')
    named = re.sub('<td class="name">&lt;b&gt;F<', f'<td class="name">{long_name}<', named)
    named = re.sub(r'<th scope="row" class="number">demo-\d+', rf"\g<0>{long_name}", named)
    assert named.count(long_name) >= 3
    (tmp_path / "report.html").write_text(named, encoding="utf-8")
    browser.call("Emulation.setEmulatedMedia", media="print")
    browser.open(tmp_path / "report.html", 680)  # 180 mm between the margins
    width = browser.evaluate("document.documentElement.scrollWidth")
    browser.call("Emulation.setEmulatedMedia", media="")
    assert width <= 680


def test_the_ensemble_is_the_mean_logit_and_differences_are_delongs(places, compared):
    _, folder = compared
    one, two = predictions(places, "one"), predictions(places, "two")
    y_true, mean = one["y_true_PE"], expit((logit(one["y_score_PE"]) + logit(two["y_score_PE"])) / 2)
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["PE"]
    assert metrics["ensemble"]["auroc"]["value"] == pytest.approx(roc_auc_score(y_true, mean))
    assert metrics["first"]["auroc"]["value"] == pytest.approx(roc_auc_score(y_true, one["y_score_PE"]))
    row = pd.read_csv(folder / "differences.csv").set_index("model").loc["ensemble"]
    expected = delong_test(y_true, mean, one["y_score_PE"], one["patient_id"])
    assert row["auroc_difference"] == pytest.approx(expected.difference)
    assert row["auroc_difference_p"] == pytest.approx(expected.p)
    rows = pd.read_csv(folder / "differences.csv")
    p_values = rows[["auroc_difference_p", "sensitivity_p", "specificity_p"]].to_numpy().T.ravel()
    adjusted = rows[[f"{name}_p_holm" for name in ("auroc_difference", "sensitivity", "specificity")]]
    np.testing.assert_allclose(adjusted.to_numpy().T.ravel(), holm(p_values))


def test_the_pooled_run_reports_the_same_as_the_comparison(places, compared):
    """Intervals and all: the same patients are resampled."""
    _, folder = compared
    pooled = json.loads((places / "one" / "metrics.json").read_text(encoding="utf-8"))["labels"]["PE"]
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["PE"]["first"]
    for name in ("auroc", "average_precision", "specificity_at_sensitivity_95", "sensitivity", "threshold"):
        assert metrics[name] == pooled[name], name


def test_the_folder_of_a_comparison_predicts_as_the_ensemble(places, compared, tmp_path):
    _, folder = compared
    folds = sorted(places.glob("one/fold-*")) + sorted(places.glob("two/fold-*"))
    files = [places / "ecgs" / f"demo-{number:04}.xml" for number in (3, 8, 11)]
    member_scores = []
    for number, fold in enumerate([*folds, folder]):
        outcome = run_here("predict.py", fold, *files, "--output", tmp_path / f"{number}.csv")
        assert outcome.returncode == 0, outcome.stderr
        member_scores.append(pd.read_csv(tmp_path / f"{number}.csv"))
    ensemble = member_scores.pop()
    scores = np.array([table["score_PE"] for table in member_scores])  # (6, 3)
    description = json.loads((folder / "ensemble.json").read_text(encoding="utf-8"))
    (slope,), (intercept,) = (description[f"calibration_{name}"] for name in ("slopes", "intercepts"))
    assert slope > 1
    stretched = slope * logit(scores) + intercept
    np.testing.assert_allclose(ensemble["score_PE"], expit(stretched.mean(axis=0)), rtol=1e-6)
    np.testing.assert_allclose(ensemble["lowest_PE"], expit(stretched.min(axis=0)), rtol=1e-6)
    np.testing.assert_allclose(ensemble["highest_PE"], expit(stretched.max(axis=0)), rtol=1e-6)
    assert "ensemble of 6 models (6 x " in outcome.stdout


def test_a_cross_validation_predicts_with_all_its_folds(places, tmp_path):
    outcome = run_here("predict.py", places / "one", places / "ecgs", "--output", tmp_path / "scores.csv")
    assert outcome.returncode == 0 and "ensemble of 3 models" in outcome.stdout
    assert "(the prevalence of the development ECGs)" in outcome.stdout
    assert "3 models together, as here, were not tested" in outcome.stdout
    table = pd.read_csv(tmp_path / "scores.csv")
    thresholds = [
        json.loads((places / "one" / f"fold-{fold}" / "model.json").read_text())["thresholds"]
        for fold in (1, 2, 3)
    ]
    threshold = expit(logit(thresholds).mean())
    assert table["decision_PE"].tolist() == (table["score_PE"] >= threshold).astype(int).tolist()


# What the runs look at


def test_every_group_of_each_run_is_explained(compared):
    outcome, folder = compared
    means = pd.read_csv(folder / "explanations.csv")
    first_columns = ["label", "model", "group", "lead", "segment", "mean", "low", "high"]
    assert list(means)[:8] == first_columns and list(means)[-1] == "n"
    assert set(means["model"]) == {"first", "second"} and set(means["lead"]) == set(LEADS)
    assert len(means) == 2 * 4 * 12 * 6 and means["n"].max() == 2
    explained = means[(means["segment"] == "all") & (means["n"] > 0)]
    assert np.isfinite(explained["mean"]).all() and (explained["mean"] != 0).any()
    for name in ("first", "second"):
        assert (folder / f"explanations-PE-{name}.png").exists()
        assert re.search(rf"explain     {name}: \d+ ECGs at about [\d.]+ s each on the CPU", outcome.stdout)
    errors = pd.read_csv(folder / "explained_errors.csv", dtype={"patient_id": str})
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert len(errors) and all(file in page for file in errors["file"])
    assert all(patient in page for patient in errors["patient_id"])
    wrong = (errors["y_score"] >= errors["threshold"]) != (errors["y_true"] == 1)
    assert wrong.all() and errors[list(LEADS)].notna().all(axis=None)


def test_no_ecg_is_explained_by_a_model_that_was_trained_on_its_patient(places, monkeypatch):
    explained = []

    def watch(scorer, cohort, ecg, label):
        explained.append((scorer.folder, cohort.table["file"].iloc[ecg]))
        return explain_ecg(scorer, cohort, ecg, label)

    def load(folder, device):
        scorer = Scorer.load(folder, device)
        scorer.folder = folder
        return scorer

    monkeypatch.setattr(groups, "explain_ecg", watch)
    monkeypatch.setattr(groups, "Scorer", mock.Mock(load=load))
    comparison, cohort = read_comparison([places / "one"], ["one"]), cohort_of_run(places / "one")
    options = {"n_ecgs": 3, "device": torch.device("cpu"), "seed": 1}
    (of_label,) = explain_run(places / "one", comparison.models[0], comparison, cohort, **options)
    assert not of_label.left_out and sum(of_label.sizes.values()) == 24
    splits = pd.read_csv(places / "one" / "splits.csv").set_index("file")
    assert len({folder for folder, _ in explained}) == 3
    for folder, file in explained:
        part = splits[folder.name]
        same_patient = splits["patient_id"] == splits.loc[file, "patient_id"]
        assert (part[same_patient] == "test").all()


def test_groups_without_ecgs_are_empty(places):
    comparison, cohort = read_comparison([places / "one"], ["one"]), cohort_of_run(places / "one")
    scores = replace(comparison.models[0], thresholds=np.zeros_like(comparison.models[0].thresholds))
    options = {"n_ecgs": 1, "device": torch.device("cpu"), "seed": 1}
    (of_label,) = explain_run(places / "one", scores, comparison, cohort, **options)
    assert of_label.sizes["false negative"] == of_label.sizes["true negative"] == 0
    means = of_label.means.query("segment == 'all' and lead == 'V1'").set_index("group")
    assert means["n"].to_dict() == {
        "true positive": 1, "false negative": 0, "false positive": 1, "true negative": 0,
    }  # fmt: skip
    for label in (of_label, replace(of_label, errors=of_label.errors[:0])):
        assert (
            explanation_section(label, draw_group_attribution(label), cohort).title == "PE: what one looks at"
        )


def test_attributions_add_up_to_the_calibrated_score(places):
    comparison, cohort = read_comparison([places / "one"], ["one"]), cohort_of_run(places / "one")
    table, scores = comparison.table, comparison.models[0].y_score[:, 0]
    for line in (0, 7, 15):
        scorer = Scorer.load(places / "one" / f"fold-{table['fold'][line]}", torch.device("cpu"))
        ecg = cohort.table["file"].tolist().index(table["file"][line])
        explained, score = explain_ecg(scorer, cohort, ecg, 0)
        assert score == pytest.approx(scores[line], rel=1e-3)
        start = centre_start(512)
        seen = cohort.signals.read([ecg])[0][:, start : start + 512] * 1e-3
        flat = np.repeat(np.median(seen, axis=1, keepdims=True), 512, axis=1)
        x = torch.tensor(normalised_as(seen, flat)[None], dtype=torch.float32)
        (calibration,) = scorer.descriptions[0].calibrations
        baseline = calibration.slope * float(scorer.models[0](x)[0, 0].detach()) + calibration.intercept
        assert explained.leads.sum() == pytest.approx(logit(score) - baseline, rel=0.06, abs=0.02)


def normalised_as(seen, signal):
    """Return a signal on the scale to which its ECG is normalised."""
    return (signal - seen.mean()) / seen.std()


def test_scores_of_another_model_are_not_explained(places):
    comparison, cohort = read_comparison([places / "one"], ["one"]), cohort_of_run(places / "one")
    model = comparison.models[0]
    other = Scores("one", 1 - np.round(model.y_score), model.thresholds)
    with pytest.raises(UserError, match=r"found the score .* as in its predictions\.csv"):
        options = {"n_ecgs": 1, "device": torch.device("cpu"), "seed": 1}
        explain_run(places / "one", other, comparison, cohort, **options)


def cohort_of_run(folder):
    values, *_ = read_yaml(folder / "hyperparameters.yml")
    values = Hyperparameters(**values)
    quality = values.group("quality")
    return read_cohort(quality=quality, **values.group("cohort"))


def test_without_captum_nothing_is_begun(places, tmp_path):
    with mock.patch.dict(sys.modules, {"captum": None}):
        words = ["--explain", 1, "--output-dir", tmp_path / "none"]
        line = line_of(run_here("evaluate.py", places / "one", *words))
    assert line.endswith("expected it for integrated gradients: pip install captum")
    assert not (tmp_path / "none").exists()


def test_a_run_whose_ecgs_are_gone_cannot_be_explained(places, tmp_path):
    shutil.copytree(places / "one", tmp_path / "one")
    text = (tmp_path / "one" / "hyperparameters.yml").read_text(encoding="utf-8")
    gone = text.replace(f"data_dir: {places / 'ecgs'}", f"data_dir: {tmp_path / 'gone'}")
    (tmp_path / "one" / "hyperparameters.yml").write_text(gone, encoding="utf-8")
    outcome = run_as_user("evaluate.py", tmp_path / "one", "--explain", 1, cwd=tmp_path)
    assert f"{tmp_path / 'gone'}: found no such folder" in (line := line_of(outcome))
    assert line.endswith("--data-dir names their folder")


# Another hospital's cohort


@pytest.fixture(scope="module")
def other_cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("other") / "ecgs"
    make_cohort(folder, n_ecgs=14, n_patients=12, prevalence=0.4, seed=11)
    return folder


def test_another_cohort_is_scored_with_everything_as_it_was(places, other_cohort, tmp_path):
    words = [
        "--cohort",
        other_cohort,
        "--names",
        "first",
        "second",
        "--output-dir",
        tmp_path,
        "--strata",
        "sex",
        "--explain",
        1,
    ]
    outcome = run_here("evaluate.py", places / "one", places / "two", *words)
    assert outcome.returncode == 0, outcome.stderr
    assert "cohort      14 files: 14 read, 0 rejected" in outcome.stdout
    (folder,) = tmp_path.iterdir()
    table = pd.read_csv(folder / "predictions.csv")
    predicted = run_here("predict.py", places / "two", other_cohort, "--output", tmp_path / "scores.csv")
    assert predicted.returncode == 0
    scores = pd.read_csv(tmp_path / "scores.csv")["score_PE"]
    np.testing.assert_allclose(table["y_score_PE_second"], scores, rtol=1e-5)
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["PE"]
    assert list(metrics) == ["first", "second", "ensemble"] and metrics["first"]["n_ecgs"] == 14
    expected = roc_auc_score(table["y_true_PE"], table["y_score_PE_first"])
    assert metrics["first"]["auroc"]["value"] == pytest.approx(expected)
    assert not (folder / "ensemble.json").exists()  # nothing was chosen here
    means = pd.read_csv(folder / "explanations.csv")  # of three models together
    assert means["n"].max() == 1 and means.loc[means["n"] > 0, "mean"].notna().any()


def test_ecgs_that_a_run_has_seen_are_no_other_cohort(places, other_cohort, tmp_path):
    """Though they were exported again: the file is another, the signal is the same."""
    shutil.copytree(other_cohort, tmp_path / "mixed")
    text = (places / "ecgs" / "demo-0005.xml").read_text(encoding="utf-8")
    (tmp_path / "mixed" / "demo-0002.xml").write_text(f"{text}<!-- exported again -->", encoding="utf-8")
    words = ["--cohort", tmp_path / "mixed", "--output-dir", tmp_path / "failed"]
    outcome = run_here("evaluate.py", places / "one", *words)
    line = line_of(outcome)
    assert (
        "found 1 ECG of the cohort, or their patients, in what it was trained and tested on, such as" in line
    )
    assert "seen        demo-0002.xml\n" in outcome.stdout and not (tmp_path / "failed").exists()


def test_patients_that_a_run_has_seen_are_no_other_cohort(places, other_cohort, tmp_path):
    """Other ECGs of the run's patients; only with the run's key can they be recognised."""
    table = pd.read_csv(other_cohort / "labels.csv")
    table["patient_id"] = pd.read_csv(places / "ecgs" / "labels.csv")["patient_id"][: len(table)]
    table.to_csv(tmp_path / "same.csv", index=False)
    words = ["--cohort", other_cohort, "--labels", tmp_path / "same.csv", "--output-dir", tmp_path / "out"]
    key = places / "ecgs" / "patient_key.txt"
    line = line_of(run_here("evaluate.py", places / "one", *words, "--patient-key", key))
    assert "found 14 ECGs of the cohort, or their patients" in line
    outcome = run_here("evaluate.py", places / "one", *words, "--no-signs")
    assert "patients not compared (their pseudonyms are of another key: --patient-key)" in outcome.stdout


def test_another_cohort_shows_who_was_studied_and_what_the_threshold_does(places, other_cohort, tmp_path):
    table = pd.read_csv(other_cohort / "labels.csv")
    table.loc[2, "PE"] = np.nan
    table.to_csv(tmp_path / "labels.csv", index=False)
    words = ["--cohort", other_cohort, "--labels", tmp_path / "labels.csv", "--output-dir", tmp_path / "out"]
    outcome = run_here("evaluate.py", places / "one", *words, "--prevalence", 0.1)
    (folder,) = (tmp_path / "out").iterdir()
    page = (folder / "report.html").read_text(encoding="utf-8")
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["PE"]["one"]
    for name in ("sensitivity", "specificity", "calibration_slope", "calibration_intercept"):
        value, low = f"{metrics[name]['value']:.3f}", f"({metrics[name]['low']:.3f}"
        on_page = f'{value} <span class="number">{low}'.replace("-", "−")
        assert f"{value} {low}" in outcome.stdout and on_page in page
    lines = outcome.stdout.splitlines()
    assert "            1 x no label is known" in lines and "1 × no label is known" in page
    assert any(
        line.split() == ["ECGs", "24", "13", "5", "8"] for line in lines
    )  # development, all, with, without
    assert "unseen      13 ECGs, none in one: compared with 24 ECGs by file and signal" in outcome.stdout
    assert "compared with 24 ECGs by file and signal, sample by sample with 24" in page
    assert "Who was left out" in page and '<th scope="row">PE not known</th><td class="number">1<' in page
    assert "calibration slope" in page and "Table 1" in page and "those of a third hospital" in page
    assert "<h1>PE: one model on other patients</h1>" in page and str(places) not in page
    restated = metrics["at_prevalence"]["npv"]
    assert f"NPV {restated['value']:.3f} ({restated['low']:.3f}-{restated['high']:.3f})" in outcome.stdout


def test_a_cohort_of_one_class_has_no_curves_and_no_warning_of_the_code(places, other_cohort, tmp_path):
    table = pd.read_csv(other_cohort / "labels.csv")
    table[table["PE"] == 0].to_csv(tmp_path / "labels.csv", index=False)
    words = ["--cohort", other_cohort, "--labels", tmp_path / "labels.csv", "--output-dir", tmp_path / "out"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outcome = run_here("evaluate.py", places / "one", *words, "--no-signs")
    assert outcome.returncode == 0 and "8 ECGs, 0 with PE (0.0 %)" in outcome.stdout
    assert {warning.category.__name__ for warning in caught} == {"UndefinedMetricWarning"}
    (folder,) = (tmp_path / "out").iterdir()
    assert "data:image" not in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("column", ["empty", "absent"])
def test_what_another_hospital_does_not_know_is_not_evaluated(two_labels, other_cohort, tmp_path, column):
    table = pd.read_csv(other_cohort / "labels.csv")
    if column == "empty":
        table["MI"] = np.nan
    table.to_csv(tmp_path / "labels.csv", index=False)
    words = ["--cohort", other_cohort, "--labels", tmp_path / "labels.csv", "--output-dir", tmp_path / "out"]
    words += ["--explain", 1] if column == "absent" else ["--no-signs"]
    outcome = run_here("evaluate.py", two_labels, *words)
    assert outcome.returncode == 0, outcome.stderr
    assert "labels      MI is known of no ECG: it is not evaluated" in outcome.stdout
    (folder,) = (tmp_path / "out").iterdir()
    assert list(json.loads((folder / "metrics.json").read_text(encoding="utf-8"))) == ["PE"]
    predicted = run_here("predict.py", two_labels, other_cohort, "--output", tmp_path / "scores.csv")
    assert predicted.returncode == 0
    scores = pd.read_csv(tmp_path / "scores.csv")["score_PE"]  # PE is the second of the run's labels
    found = pd.read_csv(folder / "predictions.csv")
    np.testing.assert_allclose(found[f"y_score_PE_{two_labels.name}"], scores, rtol=1e-5)
    assert not [name for name in found if "MI" in name]


def test_a_cohort_without_any_label_of_the_runs_is_one_line(two_labels, other_cohort, tmp_path):
    pd.read_csv(other_cohort / "labels.csv").drop(columns="PE").to_csv(tmp_path / "labels.csv", index=False)
    words = ["--cohort", other_cohort, "--labels", tmp_path / "labels.csv", "--output-dir", tmp_path / "out"]
    line = line_of(run_here("evaluate.py", two_labels, *words))
    assert "labels.csv: found no column MI or PE, expected the labels of the runs" in line


@pytest.fixture(scope="module")
def two_labels(tmp_path_factory):
    """A run of a single split with the labels MI and PE."""
    folder = tmp_path_factory.mktemp("two_labels")
    cohort = make_tiny_cohort(folder / "ecgs")
    flags = tiny(cohort, "--output-dir", folder / "runs", "--cache-dir", folder / "cache")
    return run_folder_of(train_here("train_atten.py", *flags, "--label-columns", "MI", "PE"))


# The run's own cohort, changed since


@pytest.fixture
def moved(places, tmp_path):
    """A run whose cohort is a copy, which may be changed."""
    shutil.copytree(places / "ecgs", tmp_path / "ecgs")
    shutil.copytree(places / "one", tmp_path / "one")
    path = tmp_path / "one" / "hyperparameters.yml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(f"{places / 'ecgs'}", f"{tmp_path / 'ecgs'}"), encoding="utf-8")
    return tmp_path


def test_another_cohort_of_the_same_file_names_is_noticed(moved, other_cohort):
    table = pd.read_csv(moved / "ecgs" / "labels.csv")
    for file in table["file"][:3]:
        shutil.copy(other_cohort / file, moved / "ecgs" / file)
    line = line_of(run_here("evaluate.py", moved / "one", "--output-dir", moved / "out"))
    assert "demo-0001.xml and 2 others: found another content than in splits.csv of the runs" in line


def test_labels_that_were_corrected_after_training_are_noticed(moved):
    table = pd.read_csv(moved / "ecgs" / "labels.csv")
    table.loc[[3, 7], "PE"] = 1 - table.loc[[3, 7], "PE"]
    table.to_csv(moved / "ecgs" / "labels.csv", index=False)
    outcome = run_here("evaluate.py", moved / "one", "--no-signs", "--output-dir", moved / "out")
    assert "note        labels of 2 ECGs differ from those of the runs (PE, such as demo-00" in outcome.stdout


def test_renumbered_files_are_joined_by_their_content(places, moved):
    table = pd.read_csv(moved / "ecgs" / "labels.csv")
    for old, new in zip(table["file"], [f"new-{number}.xml" for number in range(len(table))], strict=True):
        (moved / "ecgs" / old).rename(moved / "ecgs" / new)
    table["file"] = [f"new-{number}.xml" for number in range(len(table))]
    table.sample(frac=1, random_state=0).to_csv(moved / "ecgs" / "labels.csv", index=False)
    tables = []
    for root in (places, moved):
        destination = ["--output-dir", moved / f"of {root.name}"]
        words = ["--no-signs", "--strata", "sex", "--rivals", "age", *destination]
        outcome = run_here("evaluate.py", root / "one", *words)
        assert outcome.returncode == 0 and "labels of" not in outcome.stdout
        (folder,) = (moved / f"of {root.name}").iterdir()
        tables.append(pd.concat([pd.read_csv(folder / name) for name in ("strata.csv", "differences.csv")]))
    pd.testing.assert_frame_equal(*tables)


def read_otherwise(run, copy, **changes):
    """Copy a cross-validation whose models were trained on signals that were read in another way."""
    shutil.copytree(run, copy)
    for path in copy.glob("fold-*/model.json"):
        description = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(description | changes), encoding="utf-8")
    return copy


@pytest.mark.parametrize(
    ("changes", "on_others", "said"),
    [
        ({"window_start": 10.0}, True, "--window-start 10, expected that of the first run: 0"),
        ({"min_seconds": 5.0}, True, "--min-seconds 5, expected that of the first run: 8"),
        ({"min_seconds": 5.0}, False, "--min-seconds 5, expected that of the first run: 8"),
    ],
)
def test_runs_that_read_otherwise_are_no_comparison(places, other_cohort, tmp_path, changes, on_others, said):
    other = read_otherwise(places / "two", tmp_path / "other", **changes)
    cohort = ["--cohort", other_cohort] if on_others else []
    words = [*cohort, "--output-dir", tmp_path / "failed"]
    line = line_of(run_here("evaluate.py", places / "one", other, *words))
    assert line.endswith(f"other: found {said}")


def test_the_page_says_that_short_recordings_were_accepted(places, tmp_path):
    run = read_otherwise(places / "one", tmp_path / "one", min_seconds=5.0)
    outcome = run_here("evaluate.py", run, "--no-signs", "--output-dir", tmp_path / "out")
    assert outcome.returncode == 0, outcome.stderr
    (page,) = (tmp_path / "out").glob("*/report.html")
    said = "Recordings of 5 s or more were accepted (--min-seconds) in place of 8 s."
    assert said in page.read_text(encoding="utf-8")


def test_runs_validated_on_other_ecgs_decide_at_the_mean_of_their_thresholds(places, tmp_path, capsys):
    """Each of their validation ECGs trained another of them, so that no threshold can be chosen for both."""
    runs = [tmp_path / "one", tmp_path / "two"]
    for run in runs:
        shutil.copytree(places / run.name, run)
        for number, path in enumerate(sorted(run.glob("fold-*/model.json"))):
            description = json.loads(path.read_text(encoding="utf-8"))
            chosen = {"threshold_policy": "youden", "thresholds": [0.1 + 0.1 * number]}
            path.write_text(json.dumps(description | chosen), encoding="utf-8")
    path = tmp_path / "two" / "fold-2" / "predictions.csv"
    table = pd.read_csv(path)
    table.drop(table.index[table["split"] == "validation"][0]).to_csv(path, index=False)
    comparison = read_comparison(runs, ["one", "two"])
    assert "the runs were validated on different ECGs" in capsys.readouterr().out
    for fold, threshold in enumerate(comparison.ensemble_thresholds[:, 0], 1):
        paths = [run / f"fold-{fold}" / "model.json" for run in runs]
        chosen = [json.loads(path.read_text(encoding="utf-8"))["thresholds"][0] for path in paths]
        assert threshold == pytest.approx(expit(np.mean([logit(one) for one in chosen])))
    read_comparison([places / "one", places / "two"], ["one", "two"])
    assert capsys.readouterr().out == ""


def test_runs_of_different_policies_decide_at_the_mean_of_their_thresholds(places, tmp_path, capsys):
    runs = [tmp_path / "one", tmp_path / "two"]
    for run, policy, threshold in zip(runs, ("prevalence", "sensitivity>=0.95"), (0.1, 0.01), strict=True):
        shutil.copytree(places / run.name, run)
        for path in run.glob("fold-*/model.json"):
            description = json.loads(path.read_text(encoding="utf-8"))
            chosen = {"threshold_policy": policy, "thresholds": [threshold]}
            path.write_text(json.dumps(description | chosen), encoding="utf-8")
    comparison = read_comparison(runs, ["one", "two"])
    assert "follow different policies (prevalence, sensitivity>=0.95)" in capsys.readouterr().out
    mean = 1 / (1 + (9 * 99) ** 0.5)  # odds of 1 to 9 and of 1 to 99
    assert comparison.ensemble_thresholds.ravel() == pytest.approx(mean)


def test_an_undefined_auroc_is_not_the_highest():
    def label(rows):
        return ComparedLabel("PE", "", "", [], [(name, [auroc]) for name, auroc in rows], [], [], [])

    found = _verdict([label([("a", "0.705 (0.600-0.800)"), ("b", "undefined"), ("c", "0.698")])])
    assert found == ["PE: the highest AUROC is that of a, 0.705 (0.600-0.800)."]
    assert _verdict([label([("a", "0.705")])]) == ["PE: the AUROC of a is 0.705."]
    assert _verdict([label([("a", "undefined")])]) == []


def test_strata_hold_every_ecg_once(compared):
    _, folder = compared
    rows = pd.read_csv(folder / "strata.csv")
    assert rows["stratum"].unique().tolist() == ["sex", "age", "ward", "wells"]
    assert (rows.groupby("stratum")["n"].sum() == 24).all()
    assert set(rows.loc[rows["stratum"] == "sex", "value"]) == {"F", "M"}
    thirds = pd.read_csv(folder / "heart_rate.csv")
    assert thirds["n_ecgs"].sum() == 24 and len(thirds) == 3
    assert thirds["label"].eq("PE").all() and thirds["tertile"].tolist() == ["lowest", "middle", "highest"]


def test_strata_stand_in_the_order_of_reading(compared):
    _, folder = compared
    rows = pd.read_csv(folder / "strata.csv")
    groups = {stratum: of_stratum["value"].tolist() for stratum, of_stratum in rows.groupby("stratum")}
    assert groups["age"] == [name for name in AGES if name in groups["age"]] and len(groups["age"]) > 1
    assert groups["wells"][-1] == "missing"
    assert groups["wells"][:-1] == sorted(groups["wells"][:-1], key=float)
    page = (folder / "report.html").read_text(encoding="utf-8")
    places = [page.index(f'<td class="name">{group}</td>') for group in groups["age"]]
    assert places == sorted(places)


def test_one_run_without_signs(places):
    outcome = run_here("evaluate.py", places / "one", "--no-signs", "--output-dir", places / "single")
    assert outcome.returncode == 0 and "ECG signs" not in outcome.stdout and "ensemble" not in outcome.stdout
    (folder,) = (places / "single").iterdir()
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<title>Comparison of 1 run</title>" in page and "<h1>PE: one model</h1>" in page
    assert "minus the first" not in page + outcome.stdout and "DeLong" not in page and "Choosing" not in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["other"], "found other test ECGs, labels or folds than in"),
        (["none"], "found no usable model (no such folder), expected a finished run"),
        (["--strata", "site"], "column site: not in the labels table, expected one of"),
        (["--rivals", "ward"], "column ward: found '<b>"),
        (["one"], "one: found as the name of two models, expected two names (--names)"),
        (["--names", "ensemble"], "ensemble: found as the name of two models"),
    ],
)
def test_what_cannot_be_compared_is_one_line(places, words, message):
    words = [places / word if word in ("one", "other", "none") else word for word in words]
    outcome = run_here("evaluate.py", places / "one", *words, "--output-dir", places / "failed")
    assert message in line_of(outcome)


@pytest.mark.parametrize(
    "words",
    [["--names", "a", "b"], ["--prevalence", "1.5"], ["--unknown"], ["--prevalence", "x"], ["--explain", 0]],
)
def test_wrong_flags(places, words):
    outcome = run_here("evaluate.py", places / "one", *words)
    assert outcome.returncode == 2 and words[0] in outcome.stderr
