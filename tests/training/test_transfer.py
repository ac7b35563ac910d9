"""Weights of another run: what is loaded, what is new, and what must not be loaded."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import line_of, make_tiny_cohort, run_folder_of, tiny, train_here

from cohorts.synthetic import make_cohort


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A run that found MI in other patients, with the attention model, and a cohort of its own."""
    places = tmp_path_factory.mktemp("places")
    others = make_tiny_cohort(places / "others")
    table = pd.read_csv(others / "labels.csv")
    table["patient_id"] = "other-" + table["patient_id"]
    table.to_csv(others / "labels.csv", index=False)
    make_cohort(places / "ecgs", n_ecgs=24, n_patients=22, prevalence=0.4, seed=8)
    flags = ["--label-columns", "MI", "--output-dir", places / "pretrained", "--cache-dir", places / "cache"]
    run = run_folder_of(train_here("train_atten.py", *tiny(others, *flags)))
    run.rename(places / "run")
    return places


def start_from(places, folder, *flags, script="train_atten.py", cohort="ecgs"):
    where = ("--output-dir", places / "runs", "--cache-dir", places / "cache", "--init-from", folder)
    return train_here(script, *tiny(places / cohort, *where, *flags))


def test_everything_but_the_head_is_loaded(places):
    outcome = start_from(places, places / "run", "--freeze-epochs", 1, "--weight-average", 0)
    run = run_folder_of(outcome)
    assert "of trunk, attention from" in outcome.stdout and "; new: head" in outcome.stdout
    before, after = (load_file(folder / "model.safetensors") for folder in (places / "run", run))
    for name in before:
        same = torch.equal(before[name], after[name])
        assert same == (not name.startswith("head.")), name  # the only epoch was one of the frozen


def test_patients_of_another_key_are_said_not_to_be_compared(places):
    said = "its patients' pseudonyms are of another key: only the ECGs were compared"
    assert said in start_from(places, places / "run").stdout
    flags = ["--patient-key", places / "others" / "patient_key.txt"]
    assert said not in start_from(places, places / "run", *flags).stdout


def test_another_model_gets_the_trunk_alone(places):
    flags = ["--model", "rnn", "--freeze-epochs", 1, "--weight-average", 0]
    outcome = start_from(places, places / "run", *flags, script="train_main_ecg.py")
    run = run_folder_of(outcome)
    assert "tensors of trunk from" in outcome.stdout and "new: rnn" in outcome.stdout
    before, after = (load_file(folder / "model.safetensors") for folder in (places / "run", run))
    shared = [name for name in after if name.startswith("trunk.")]
    assert len(shared) > 100 and all(torch.equal(before[name], after[name]) for name in shared)


def test_resuming_loads_the_checkpoint_not_the_start(places):
    folder = run_folder_of(start_from(places, places / "run", "--epochs", 2))
    expected = pd.read_csv(folder / "predictions.csv")
    for name in ("metrics.json", "predictions.csv"):
        (folder / name).unlink()
    assert train_here("train_atten.py", "--resume", folder).returncode == 0
    np.testing.assert_array_equal(
        pd.read_csv(folder / "predictions.csv")["y_score_PE"], expected["y_score_PE"]
    )


def changed(places, tmp_path, **values):
    """Return a copy of the run with other values in model.json."""
    shutil.copytree(places / "run", tmp_path / "changed")
    path = tmp_path / "changed" / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return tmp_path / "changed"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"normalisation": "lead"}, "found signals normalised by lead, expected recording"),
        ({"sampling_rate": 250}, "at 250 Hz, expected I, II, III, aVR"),
        ({"leads": ["II", "I"]}, "found leads II, I at 500 Hz, expected I, II, III, aVR"),
    ],
)
def test_signals_that_were_prepared_in_another_way_are_refused(places, tmp_path, values, message):
    assert message in line_of(start_from(places, changed(places, tmp_path, **values)))


def test_ecgs_that_trained_the_other_run_cannot_be_tested(places):
    line = line_of(start_from(places, places / "run", cohort="others"))
    assert "of this run's test ECGs, or their patients, among those that trained or validated it" in line


def test_one_such_ecg_in_any_fold_ends_the_run_before_it_begins(places, tmp_path):
    shutil.copytree(places / "ecgs", tmp_path / "ecgs")
    own, others = (pd.read_csv(folder / "labels.csv") for folder in (tmp_path / "ecgs", places / "others"))
    parts = pd.read_csv(places / "run" / "splits.csv").set_index("file")["split"]
    seen = others[others["file"].map(parts) == "train"].head(1)
    shutil.copy(places / "others" / seen["file"].item(), tmp_path / "ecgs" / "again.xml")
    table = pd.concat([own, seen.assign(file="again.xml", patient_id="new")[own.columns]])
    table.to_csv(tmp_path / "ecgs" / "labels.csv", index=False)
    where = ("--output-dir", tmp_path / "runs", "--cache-dir", places / "cache")
    flags = ("--init-from", places / "run", "--folds", 3)
    line = line_of(train_here("train_atten.py", *tiny(tmp_path / "ecgs", *where, *flags)))
    assert "found 1 of this run's" in line and "such as again.xml" in line
    assert not (tmp_path / "runs").exists()


def test_a_patient_who_trained_the_other_run_cannot_be_tested(places, tmp_path):
    """Another ECG of theirs, in another folder, with the same key of pseudonyms."""
    shutil.copytree(places / "ecgs", tmp_path / "ecgs")
    table = pd.read_csv(tmp_path / "ecgs" / "labels.csv")
    table["patient_id"] = "other-" + table["patient_id"]  # ids of the patients of the pretrained run
    table.to_csv(tmp_path / "ecgs" / "labels.csv", index=False)
    flags = ["--patient-key", places / "others" / "patient_key.txt"]
    line = line_of(start_from(places, places / "run", *flags, cohort=tmp_path / "ecgs"))
    assert "or their patients, among those that trained or validated it" in line


def test_ecgs_that_trained_the_run_before_the_other_cannot_be_tested(places):
    second = run_folder_of(start_from(places, places / "run"))
    run_folder_of(start_from(places, second))  # the same parts: what is tested now was not seen then
    line = line_of(start_from(places, second, "--seed", 5))
    assert f"{second}: found" in line and "of this run's test ECGs" in line
    line = line_of(start_from(places, second, cohort="others"))
    assert f"{places / 'run'}: found" in line and "among those that trained or validated it" in line


def test_a_trunk_of_another_kind_is_refused(places):
    line = line_of(start_from(places, places / "run", script="train_spectrogram.py"))
    assert "found weights of resnet18_with_atten, expected those of a run of train_spectrogram.py" in line
    line = line_of(start_from(places, places / "run", script="train_baseline.py"))
    assert "found weights of resnet18_with_atten, expected those of a run of train_baseline.py" in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--init-from", "nowhere"],
            "--init-from: found no folder nowhere, expected that of a run, or ptbxl",
        ),
        (["--freeze-epochs", 2], "freeze_epochs: found some, expected --init-from"),
        (["--pretrained-rate", 0], "pretrained_rate"),
    ],
)
def test_wrong_flags_are_one_line(places, flags, message):
    where = ("--output-dir", places / "runs", "--cache-dir", places / "cache")
    outcome = train_here("train_atten.py", *tiny(places / "ecgs", *where, *flags))
    assert outcome.returncode != 0 and message in outcome.stderr and "Traceback" not in outcome.stderr
