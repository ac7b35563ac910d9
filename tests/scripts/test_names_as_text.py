"""Files and sites may be called NA, patients 0017 or 1e5: every reader of a run takes them as text."""

import pandas as pd
import pytest
from tiny_runs import make_tiny_cohort, run_folder_of, run_here, tiny

from inference.comparison import read_comparison
from run_folder.files import RunFiles
from run_folder.run_record import read_run

NAMES = ["NA", "null", "nan", "0017", "1e5", "None", "-inf", "01", "TRUE"]
PATIENTS = ["0017", "1e5", "-inf", "01", "TRUE", "void"]  # the others stand for an id that is not known


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A cross-validation on files, patients and sites of such names, and one file that is not an ECG."""
    places = tmp_path_factory.mktemp("names")
    cohort = make_tiny_cohort(places / "ecgs")
    table = pd.read_csv(cohort / "labels.csv", dtype=str)
    for line, name in enumerate(NAMES):
        (cohort / table.loc[line, "file"]).rename(cohort / name)
    table.loc[: len(NAMES) - 1, "file"] = NAMES
    patients = table["patient_id"].drop_duplicates()[: len(PATIENTS)]
    table["patient_id"] = table["patient_id"].replace(dict(zip(patients, PATIENTS, strict=True)))
    table["site"] = ["01", "TRUE", "0017"] * (len(table) // 3)
    (cohort / "N_A").write_text("not an ECG", encoding="utf-8")
    (cohort / "N_A").rename(cohort / "NaN")
    table.loc[len(table)] = table.loc[0].to_dict() | {"file": "NaN"}
    table.to_csv(cohort / "labels.csv", index=False)
    flags = tiny(cohort, "--output-dir", places / "runs", "--cache-dir", places / "cache", "--folds", 3)
    outcome = run_here("train_atten.py", *flags)
    run_folder_of(outcome).rename(places / "run")
    return places


def labels_of(places):
    table = pd.read_csv(places / "ecgs" / "labels.csv", dtype=str, keep_default_na=False)
    return table[table["file"] != "NaN"]


def test_the_tables_of_a_run_have_them_as_they_are(places):
    run, labels = RunFiles(places / "run"), labels_of(places)
    splits = run.splits()
    assert sorted(splits["file"]) == sorted(labels["file"]) and set(NAMES) <= set(splits["file"])
    assert splits["patient_id"].nunique() == labels["patient_id"].nunique()
    assert sorted(run.predictions("test")["file"]) == sorted(labels["file"])
    assert run.table("rejected.csv")["file"].tolist() == ["NaN"]


def test_the_report_reads_them_as_they_are(places):
    record, labels = read_run(places / "run"), labels_of(places)
    table = record.scored_ecgs("PE")
    assert sorted(table["file"]) == sorted(labels["file"])
    assert table["patient_id"].nunique() == labels["patient_id"].nunique()
    assert record.rejected["file"].tolist() == ["NaN"]
    assert (places / "run" / "report.html").exists()


def test_a_comparison_reads_and_writes_them_as_they_are(places):
    labels = labels_of(places)
    comparison = read_comparison([places / "run"], ["run"])
    assert sorted(comparison.table["file"]) == sorted(labels["file"])
    words = [places / "run", "--strata", "site", "--explain", 1, "--output-dir", places / "compared"]
    outcome = run_here("evaluate.py", *words)
    assert outcome.returncode == 0, outcome.stderr
    (folder,) = (places / "compared").iterdir()
    strata = RunFiles(folder).table("strata.csv")
    assert strata["value"].tolist() == ["01", "0017", "TRUE"]  # in the order of people
    assert strata["sensitivity"].notna().all() and strata["auroc"].isna().all()  # of too few: an empty field
