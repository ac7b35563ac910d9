"""Pretraining without labels: what it sees and leaves, and runs that start from it."""

import re
import signal
import subprocess
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from fake_cohort import cohort_of
from forks import call_in_two
from one_line import failure_of
from safetensors.torch import load_file
from tiny_runs import (
    ENVIRONMENT,
    command,
    line_of,
    make_tiny_cohort,
    run_as_user,
    run_folder_of,
    run_here,
    tiny,
    train_here,
)

from cohorts.synthetic import make_cohort
from dataset.labels_table import files_of_folder, read_files
from dataset.splits import split_for_pretraining, with_patients_as_targets
from run_folder.run import Run

TINY = ("--epochs", 2, "--batch-size", 8, "--n-samples", 512, "--validation-fraction", 0.2, "--workers", 1)
FILES = {
    *("hyperparameters.yml", "environment.json", "splits.csv", "rejected.csv", "quality.csv"),
    *("log.csv", "checkpoint.pt", "model.safetensors", "model.json"),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder with 24 ECGs, a table without labels, and one with a split column."""
    places = tmp_path_factory.mktemp("places")
    table = pd.read_csv(make_tiny_cohort(places / "ecgs") / "labels.csv")
    patients = table["patient_id"].drop_duplicates()
    part_of = dict(zip(patients, np.resize(["train", "train", "validation", "test"], 22), strict=True))
    table["split"] = table["patient_id"].map(part_of)
    table.to_csv(places / "split.csv", index=False)
    table[["file", "patient_id"]].to_csv(places / "all.csv", index=False)
    return places


@pytest.fixture(scope="module")
def whole(places):
    """What a pretraining on all patients printed, and its folder."""
    outcome = run_as_user("pretrain.py", *flags_of(places, "all.csv"), cwd=places)
    return outcome, places / run_folder_of(outcome)


@pytest.fixture(scope="module")
def of_training_patients(places):
    outcome = run_here("pretrain.py", *flags_of(places, "split.csv"), "--output-dir", places / "runs")
    return outcome, run_folder_of(outcome)


def flags_of(places, table, *more):
    where = ("--data-dir", places / "ecgs", "--cache-dir", places / "cache")
    return [*where, *(("--labels", places / table) if table else ()), *TINY, *more]


def start_from(places, run, table, *more):
    where = ("--output-dir", places / "runs", "--cache-dir", places / "cache", "--init-from", run)
    return train_here("train_atten.py", *tiny(places / "ecgs", "--labels", places / table, *where, *more))


# What a pretraining prints and leaves


def test_the_script_leaves_a_whole_run_where_it_was_started(whole):
    outcome, run = whole
    assert {file.name for file in run.iterdir()} == FILES and "Traceback" not in outcome.stderr
    patterns = (
        r"table +\S+all.csv: 24 files; no label is read, no other file of the folder",
        r"1D ResNet-18 \+ projection, on .+ in (float32|bfloat16), seed 42",
        r"run +runs/pretrain-\d{8}-\d{6}",
        r"cohort +24 files \(24 new\): 24 read, 0 rejected; 22 patients",
        r"quality +nothing found",
        r"split +by patient: train \d+, validation \d+",
        r"signals +3 MB as int16, held on the device",
        r"chance +loss \d\.\d\d in training batches, \d\.\d\d in validation, .+; retrieval 0\.\d{4}",
        r"model +4\.2 M parameters",
        r" epoch +train loss +val loss +val retrieval +lr +ECG/s +time",
        r" +1( +[\d.e,-]+){5} +0:\d\d",
    )
    for line, pattern in zip(outcome.stdout.splitlines(), patterns, strict=False):
        assert re.fullmatch(pattern, line), line
    assert f"--init-from runs/{run.name}" in outcome.stdout
    assert list(pd.read_csv(run / "log.csv")["epoch"]) == [1, 2]
    splits = pd.read_csv(run / "splits.csv")
    assert set(splits["split"]) == {"train", "validation"} and len(splits) == 24
    assert splits.groupby("patient_id")["split"].nunique().max() == 1


def test_of_a_split_column_the_training_patients_alone_are_seen(places, of_training_patients):
    outcome, run = of_training_patients
    found = pd.read_csv(run / "splits.csv").set_index("file")["split"]
    given = pd.read_csv(places / "split.csv").set_index("file")["split"]
    assert set(found[found != "test"].index) == set(given[given == "train"].index)
    assert (found == "validation").any() and f", test {(found == 'test').sum()}\n" in outcome.stdout


def test_without_a_table_all_files_of_the_folder_are_taken(places, tmp_path):
    folder = tmp_path / "ecgs"
    folder.mkdir()
    for file in sorted((places / "ecgs").glob("*.xml"))[:8]:
        (folder / file.name).write_bytes(file.read_bytes())
    where = ("--data-dir", folder, "--cache-dir", tmp_path / "cache", "--output-dir", tmp_path / "runs")
    outcome = run_here("pretrain.py", *where, *TINY, "--epochs", 1, "--validation-fraction", 0.3)
    run = run_folder_of(outcome)
    assert f"table       no {folder / 'labels.csv'}: all 8 ECG files of the folder, each a" in outcome.stdout
    assert pd.read_csv(run / "splits.csv")["patient_id"].nunique() == 8


# Runs that start from it


def test_a_run_on_the_same_table_starts_from_the_trunk(places, of_training_patients):
    _, run = of_training_patients
    more = ("--freeze-epochs", 1, "--weight-average", 0)
    outcome = start_from(places, run, "split.csv", *more)
    before, after = (load_file(one / "model.safetensors") for one in (run, run_folder_of(outcome)))
    assert f"tensors of trunk from {run}; new: attention, head" in outcome.stdout
    shared = [name for name in after if name.startswith("trunk.")]
    assert len(shared) > 100 and shared == [name for name in before if name.startswith("trunk.")]
    assert all(torch.equal(before[name], after[name]) for name in shared)  # the only epoch was frozen


def test_ecgs_that_were_pretrained_on_cannot_be_tested(places, whole):
    line = line_of(start_from(places, whole[1], "split.csv"))
    assert "of this run's test ECGs, or their patients, among those that trained or validated it" in line


def test_a_trunk_of_other_sizes_or_signals_is_refused(places, of_training_patients):
    line = line_of(start_from(places, of_training_patients[1], "split.csv", "--kernel-size", 5))
    assert "conv1.weight of shape (64, 64, 1, 3), expected (64, 64, 1, 5)" in line
    line = line_of(start_from(places, of_training_patients[1], "split.csv", "--normalisation", "lead"))
    assert "found signals normalised by recording, expected lead" in line


@pytest.mark.parametrize("script", ["predict.py", "evaluate.py", "export.py"])
def test_what_cannot_score_says_so(places, of_training_patients, tmp_path, script):
    run = of_training_patients[1]
    more = {"predict.py": [places / "ecgs"], "evaluate.py": [], "export.py": [tmp_path / "model.onnx"]}
    line = line_of(run_here(script, run, *more[script]))
    assert f"{run}: found a pretrained trunk, expected a finished run that scores; train one" in line


# Interrupted, and in two processes


def test_a_killed_run_ends_as_an_uninterrupted_one(places, whole, tmp_path):
    words = command("pretrain.py", *flags_of(places, "all.csv"))
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(words, cwd=tmp_path, env=ENVIRONMENT, **streams)
    deadline = time.monotonic() + 240
    while not (logs := list(tmp_path.glob("runs/*/log.csv"))) and process.poll() is None:
        assert time.monotonic() < deadline, "no log.csv"
        time.sleep(0.01)
    process.kill()
    _, stderr = process.communicate()
    assert process.returncode == -signal.SIGKILL, stderr
    (run,) = (log.parent for log in logs)
    resumed = run_as_user("pretrain.py", "--resume", run, cwd=tmp_path)
    assert run_folder_of(resumed) == run
    assert (run / "model.safetensors").read_bytes() == (whole[1] / "model.safetensors").read_bytes()
    columns = ["train_loss", "val_loss", "val_retrieval"]
    logs = [pd.read_csv(folder / "log.csv")[columns] for folder in (run, whole[1])]
    pd.testing.assert_frame_equal(*logs)


def test_two_processes_pretrain_together(places, tmp_path):
    flags = flags_of(places, "all.csv", "--epochs", 1, "--output-dir", tmp_path)
    first, second = call_in_two(lambda: run_here("pretrain.py", *flags))
    run = run_folder_of(first)
    assert (second.returncode, second.stdout) == (0, "")
    log = pd.read_csv(run / "log.csv")
    assert len(log) == 1 and np.isfinite(log).all(axis=None) and (run / "model.json").exists()


# What is refused


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--folds", "2"], 2, "--folds"),
        (["--label-columns", "PE"], 1, "label_columns: found some, expected --objective statements"),
        (["--leave-out", "PE"], 1, "leave_out: found some, expected --objective statements"),
        (["--temperature", "0"], 2, "temperature"),
        (["--labels", "no_table.csv"], 1, "no_table.csv: the labels table cannot be read"),
        (["--data-dir", "no/folder"], 1, "no/folder: found no such folder"),
    ],
)
def test_wrong_flags_are_one_line(places, flags, status, message):
    assert message in line_of(run_here("pretrain.py", *flags_of(places, "all.csv"), *flags), status)


def test_a_table_needs_files_alone(tmp_path):
    path = tmp_path / "ecgs.csv"
    path.write_text("file\na.xml\nb.xml\n")
    table = read_files(path)
    assert list(table["file"]) == list(table["patient_id"]) == ["a.xml", "b.xml"]
    path.write_text("file,patient_id,PE\na.xml,1,perhaps\nb.xml,,\n")
    assert failure_of(read_files, path) == (
        f"{path} line 3: found nothing in column patient_id, expected a patient's id"
    )


def test_a_folder_without_ecgs_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "found no ECG file in the folder" in failure_of(files_of_folder, tmp_path)


# Patients


def unlabelled(patient_ids, **columns):
    cohort = cohort_of([0] * len(patient_ids), patient_ids, **columns)
    return replace(cohort, targets=np.empty((len(patient_ids), 0), np.float32), label_names=())


def test_the_split_is_by_patient_and_every_ecg_is_seen():
    cohort = unlabelled([f"p{number // 3}" for number in range(300)])
    parts = split_for_pretraining(cohort, validation_fraction=0.2, seed=3).parts
    of = {part: set(cohort.table["patient_id"].iloc[rows]) for part, rows in parts.items()}
    assert len(of["train"]) == 80 and len(of["validation"]) == 20 and not of["test"]
    assert not of["train"] & of["validation"]


def test_one_patient_has_nobody_to_be_told_from():
    line = failure_of(split_for_pretraining, unlabelled(["p0", "p0", "p1"]), validation_fraction=0.4, seed=0)
    assert re.fullmatch(r"\w+ part: found [01] patients, expected 2 or more to tell from one another", line)


def test_an_ecg_in_two_parts_is_refused():
    cohort = unlabelled([f"p{number}" for number in range(6)], split=["train"] * 5 + ["test"])
    cohort.table.loc[5, "same_ecg"] = cohort.table.loc[0, "same_ecg"]
    line = failure_of(split_for_pretraining, cohort, validation_fraction=0.4, seed=0)
    assert "found the same ECG as 0.xml and 5.xml in train and test" in line


def test_targets_are_patients_and_equal_ecgs_are_of_one():
    cohort = unlabelled(["a", "b", "a", "c"])
    cohort.table.loc[3, "same_ecg"] = cohort.table.loc[1, "same_ecg"]
    targets = with_patients_as_targets(cohort).targets
    assert targets.dtype == np.float32 and targets.shape == (4, 1)
    assert targets[0] == targets[2] != targets[1] and targets[1] == targets[3]


# Statements


@pytest.fixture(scope="module")
def of_statements(places):
    """A table with three labels and parts, and a supervised pretraining on two of them."""
    table = pd.read_csv(places / "split.csv")
    table["RBBB"] = np.resize([0, 1, 0], len(table))
    table["age"], table["sex"] = np.arange(len(table)) + 30, "F"
    table.to_csv(places / "statements.csv", index=False)
    more = ("--objective", "statements", "--leave-out", "RBBB", "--output-dir", places / "runs")
    outcome = run_here("pretrain.py", *flags_of(places, "statements.csv", *more))
    return outcome, run_folder_of(outcome)


def test_statements_and_measured_values_are_learnt(places, of_statements):
    outcome, run = of_statements
    assert {file.name for file in run.iterdir()} == FILES | {"test_scores.csv"}
    (n_values,) = re.findall(
        r"asked for   2 labels and (\d+) measured values; left out: RBBB", outcome.stdout
    )
    assert re.search(r"val AUROC   val expl\.", outcome.stdout)
    log, scores = pd.read_csv(run / "log.csv"), pd.read_csv(run / "test_scores.csv")
    assert {"val_loss", "val_auroc", "val_explained"} <= set(log) and log[
        "train_loss"
    ].is_monotonic_decreasing
    aurocs = scores["score"][:2].dropna()
    mean = rf"macro-AUROC  {aurocs.mean():.4f}   mean of {len(aurocs)} labels"
    assert len(aurocs) and mean in outcome.stdout
    assert scores["name"].tolist()[:3] == ["PE", "MI", "heart_rate_bpm"] and len(scores) == 2 + int(n_values)
    parts = pd.read_csv(run / "splits.csv")
    given = pd.read_csv(places / "statements.csv")
    assert dict(zip(parts["file"], parts["split"], strict=True)) == dict(
        zip(given["file"], given["split"], strict=True)
    )
    description = Run(run).load_any_description()
    assert description.left_out == ["RBBB"] and description.label_names == ["PE", "MI"]
    assert description.value_names[-1] == "age" and "sex" not in description.value_names  # all are F
    assert description.model == "resnet18_with_atten"


def test_what_was_measured_is_kept(places, of_statements, monkeypatch):
    (kept,) = (places / "cache").glob("*/values-*.npy")
    assert np.load(kept).shape == (24, 69)
    monkeypatch.setattr("dataset.measured_values.measure_values", None)  # nothing is measured again
    more = (
        "--objective",
        "statements",
        "--epochs",
        1,
        "--architecture",
        "baseline",
        "--output-dir",
        places / "r",
    )
    outcome = run_here("pretrain.py", *flags_of(places, "statements.csv", *more))
    run = run_folder_of(outcome)
    assert "asked for   3 labels and" in outcome.stdout
    assert Run(run).load_any_description().model == "res_net_model"


def test_a_run_on_other_patients_starts_from_statements(places, of_statements, tmp_path):
    _, run = of_statements
    table = pd.read_csv(places / "statements.csv")
    table["split"] = table["split"].replace({"validation": "test", "test": "validation"})
    table.to_csv(places / "tested_anew.csv", index=False)
    line = line_of(start_from(places, run, "tested_anew.csv"))
    assert "of this run's test ECGs, or their patients, among those that trained or validated it" in line
    others = make_cohort(tmp_path / "others", n_ecgs=24, n_patients=24, prevalence=0.4, seed=99)
    where = ("--output-dir", tmp_path / "runs", "--cache-dir", tmp_path / "cache", "--init-from", run)
    outcome = train_here("train_atten.py", *tiny(others.parent, *where))
    assert f"tensors of trunk, attention from {run}; new: head" in outcome.stdout


def test_labels_alone_can_be_asked_for(places, of_statements):
    more = ("--objective", "statements", "--measured-weight", 0, "--epochs", 1, "--output-dir", places / "r")
    outcome = run_here("pretrain.py", *flags_of(places, "statements.csv", *more, "--label-columns", "MI"))
    assert "asked for   1 labels and 0 measured values" in outcome.stdout
    assert Run(run_folder_of(outcome)).load_any_description().pretrained_by == "statements"
