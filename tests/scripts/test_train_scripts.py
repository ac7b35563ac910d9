"""The training scripts as a user runs them: what they print and leave, their errors, killed and resumed."""

import contextlib
import importlib
import json
import os
import re
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
from unittest import mock

import pandas as pd
import pytest
from tiny_runs import (
    ENVIRONMENT,
    ROOT,
    TINY,
    command,
    line_of,
    make_tiny_cohort,
    run_as_user,
    run_folder_of,
    run_here,
    tiny,
    train_here,
)

from hyperparameters import reading
from hyperparameters.declaration import Hyperparameters
from hyperparameters.reading import read_yaml
from run_folder.run import Run
from runtime.errors import UserError
from training import test_set

SCRIPTS = ("train_baseline.py", "train_atten.py", "train_spectrogram.py", "train_main_ecg.py")
RUN_FILES = set(re.findall(r"``([a-z_]+\.[a-z]+)``", Run.__doc__))
FIGURES = {"loss.png", "roc.png", "precision_recall.png"}
RESULTS = ("model.safetensors", "model.json", "predictions.csv", "metrics.json")
EPOCHS = ("--epochs", "3")  # of the runs that are killed, and of the one that is not


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return make_tiny_cohort(tmp_path_factory.mktemp("tiny") / "ecgs")


@pytest.fixture(scope="module")
def finished(cohort, tmp_path_factory):
    """Where, and with what output, a run of three epochs went through without a break."""
    cwd = tmp_path_factory.mktemp("finished")
    return cwd, run_as_user("train_atten.py", *tiny(cohort, *EPOCHS), cwd=cwd)


@pytest.fixture
def flags(cohort, tmp_path, finished):
    """The flags of a run in this process: its own folder, signals that are in the cache already."""
    return tiny(cohort, "--output-dir", tmp_path / "runs", "--cache-dir", finished[0] / "cache")


# What a run prints and leaves


def check_whole_run(folder, outcome, script):
    """Check files and printed output of a run."""
    assert {file.name for file in folder.iterdir()} == RUN_FILES | FIGURES
    assert folder.name.startswith(script.removesuffix(".py") + "-")
    assert all((folder / name).read_bytes()[:4] == b"\x89PNG" for name in FIGURES)
    notes = outcome.stderr.splitlines()  # a metric that is undefined
    assert all(re.fullmatch(r"note        .+ is undefined: .+", note) for note in notes), outcome.stderr
    lines = outcome.stdout.splitlines()
    patterns = (
        r".+, on .+ in (float32|bfloat16), seed 42",
        r"run +runs/train_[a-z_]+-\d{8}-\d{6}",
        r"cohort +24 files \(24 new\): 24 read, 0 rejected; 22 patients; PE \d+ \(\d+\.\d %\)",
        r"quality +nothing found",
        r"split +by patient: train \d+ \(\d+ PE\), validation \d+ \(\d+ PE\), test \d+ \(\d+ PE\)",
        r"interval +at an AUROC of 0\.8, that of PE will be about 0\.\d+ wide: \d with and \d .+ tested",
        r" +only \d with(out)? PE to validate on: calibration rests on them",
        r"signals +3 MB as int16, held on the device",
        r"model +\d+\.\d M parameters",
        r" epoch +train loss +val loss +val AUROC +val AP +lr +ECG/s +time",
        r" +1( +[\d.e,-]+){6} +0:\d\d(   kept)?",
    )
    for line, pattern in zip(lines, patterns, strict=False):
        assert re.fullmatch(pattern, line), line
    n_test = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["n_ecgs"]
    block = next(line for line in lines if line.startswith("test "))
    assert re.match(rf"test +{n_test} ECGs of \d+ patients, scored once; threshold ", block)
    assert re.match(r" +AUROC +[01]\.\d{3} +\(95 % CI ", lines[lines.index(block) + 1])


@pytest.mark.parametrize(
    ("script", "more"),
    [
        ("train_baseline.py", []),
        ("train_spectrogram.py", []),
        ("train_main_ecg.py", ["--model", "rnn", "--rnn-hidden-size", "16"]),
        ("train_main_ecg.py", ["--model", "encoder", "--encoder-width", "32"]),
    ],
)
def test_each_script_leaves_a_whole_run_where_it_was_started(cohort, tmp_path, monkeypatch, script, more):
    monkeypatch.chdir(tmp_path)
    outcome = run_here(script, *tiny(cohort, *more))
    folder = run_folder_of(outcome)
    assert folder.parts[0] == "runs"
    check_whole_run(tmp_path / folder, outcome, script)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cache", "runs"]
    model = json.loads((tmp_path / folder / "model.json").read_text(encoding="utf-8"))["model"]
    expected = importlib.import_module(script.removesuffix(".py")).MODEL
    assert model == (expected[more[1]] if more else expected)


def test_attention_script_leaves_a_whole_run(finished):
    cwd, outcome = finished
    folder = cwd / run_folder_of(outcome)
    check_whole_run(folder, outcome, "train_atten.py")
    assert pd.read_csv(folder / "log.csv")["epoch"].tolist() == [1, 2, 3]


def test_every_file_of_a_run_and_of_the_cache_has_the_permissions_of_a_new_file(finished, tmp_path):
    (tmp_path / "new").touch()
    files = [path for path in finished[0].rglob("*") if path.is_file()]
    assert {"checkpoint.pt", "model.safetensors", "report.html", "roc.png", "lock"} < {f.name for f in files}
    others = {file.name for file in files if file.stat().st_mode != (tmp_path / "new").stat().st_mode}
    assert others == set()


def test_several_labels_are_learnt_together(flags):
    outcome = run_here("train_atten.py", *flags, "--label-columns", "PE", "MI")
    folder = run_folder_of(outcome)
    table = pd.read_csv(folder / "predictions.csv")
    assert {"y_true_PE", "y_score_PE", "y_true_MI", "y_score_MI"} < set(table.columns)
    assert not table["y_score_PE"].equals(table["y_score_MI"])
    assert len(json.loads((folder / "model.json").read_text(encoding="utf-8"))["thresholds"]) == 2
    assert "mean of 2 labels" in outcome.stdout and "MI: threshold" in outcome.stdout


def test_cross_validation_tests_every_ecg_once_and_can_be_resumed(cohort, flags):
    outcome = train_here("train_atten.py", *flags, "--folds", 3)
    folder = run_folder_of(outcome)
    for number in (1, 2, 3):
        assert f"fold {number}      of 3: train " in outcome.stdout
        assert {"model.json", "model.safetensors", "log.csv"} <= {
            path.name for path in (folder / f"fold-{number}").iterdir()
        }
    table = pd.read_csv(folder / "predictions.csv")
    assert sorted(table["file"]) == sorted(pd.read_csv(cohort / "labels.csv")["file"])
    splits = pd.read_csv(folder / "splits.csv").set_index("file")
    for _, row in table.iterrows():
        parts = splits.loc[row["file"], ["fold-1", "fold-2", "fold-3"]].tolist()
        assert parts.count("test") == 1 and parts[row["fold"] - 1] == "test"
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["n_folds"] == 3 and metrics["n_ecgs"] == 24 and len(metrics["auroc_of_folds"]) == 3
    # As if it had been stopped in the third fold.
    for path in [folder / "metrics.json", folder / "predictions.csv", *(folder / "fold-3").iterdir()]:
        path.unlink()
    again = train_here("train_atten.py", "--resume", folder)
    assert again.returncode == 0 and again.stdout.count("   tested before") == 2
    pd.testing.assert_frame_equal(pd.read_csv(folder / "predictions.csv"), table)


def test_nothing_of_the_patients_is_in_run_cache_or_output(cohort, tmp_path):
    """Files hold a name, the table identifiers: none of them comes out, and a patient stays in one part."""
    folder = tmp_path / "ecgs"
    shutil.copytree(cohort, folder)
    (folder / "patient_key.txt").unlink(missing_ok=True)
    table = pd.read_csv(folder / "labels.csv")
    table["patient_id"] = "MRN-" + table["patient_id"].str[-4:]
    table["age"] = 93
    table.to_csv(folder / "labels.csv", index=False)
    for path in folder.glob("*.xml"):
        text = path.read_text(encoding="iso-8859-1")
        path.write_text(
            text.replace("<rhythm", '<patient name="Doe" birth="1931-02-03"/><rhythm', 1), "iso-8859-1"
        )
    places = ("--output-dir", tmp_path / "runs", "--cache-dir", tmp_path / "cache")
    outcome = train_here("train_atten.py", *tiny(folder, *places))
    written = [path for path in tmp_path.rglob("*") if path.is_file() and folder not in path.parents]
    assert {"predictions.csv", "splits.csv", "000000.csv", "quality.csv"} <= {path.name for path in written}
    texts = [path.read_text("utf-8") for path in written if path.suffix in (".csv", ".json", ".yml")]
    for text in (outcome.stdout, outcome.stderr, *texts):  # whole words: a score may hold any four digits
        assert not re.search("MRN-|Doe|1931-02-03|,93,", text)
    splits = pd.read_csv(run_folder_of(outcome) / "splits.csv", dtype=str)
    assert splits["patient_id"].nunique() == table["patient_id"].nunique() < len(table)
    assert splits["patient_id"].str.fullmatch("[0-9a-f]{16}").all()
    assert splits.groupby("patient_id")["split"].nunique().eq(1).all()


def test_published_recipe_sets_what_no_flag_sets(flags):
    outcome = train_here("train_atten.py", *flags, "--recipe", "published")
    found, *_ = read_yaml(run_folder_of(outcome) / "hyperparameters.yml")
    published = importlib.import_module("train_atten").PUBLISHED
    by_flag = {flag.removeprefix("--").replace("-", "_") for flag in TINY}
    recipe = {name: value for name, value in published.items() if name not in by_flag}
    assert recipe and {name: found[name] for name in recipe} == recipe
    assert found["epochs"] == 1 != published["epochs"]


def test_without_a_folder_the_demo_cohort_is_made_and_called_synthetic(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = train_here("train_atten.py", "--epochs", 1, "--n-samples", 512)
    assert re.match(r"demo .*demo_cohort, 300 ECGs.*[Ss]ynthetic", outcome.stdout)
    assert re.search(r"^cohort +300 files", outcome.stdout, re.MULTILINE)
    assert len(list((tmp_path / "demo_cohort").glob("*.xml"))) == 300
    assert (tmp_path / run_folder_of(outcome) / "metrics.json").exists()


def test_a_corrupt_file_is_counted_and_listed_and_not_read_again(cohort, tmp_path):
    ecgs = shutil.copytree(cohort, tmp_path / "ecgs")
    training_file = "demo-0002.xml"
    (ecgs / training_file).write_bytes((ecgs / training_file).read_bytes()[:5000])
    flags = tiny(ecgs, "--output-dir", tmp_path / "runs", "--cache-dir", tmp_path / "cache")
    first = train_here("train_atten.py", *flags)
    rejected = pd.read_csv(run_folder_of(first) / "rejected.csv")
    assert rejected["file"].tolist() == [training_file]
    assert training_file in rejected["reason"][0] and "found " in rejected["reason"][0]
    assert re.search(r"cohort +24 files \(24 new\): 23 read, 1 rejected \(.*rejected\.csv\)", first.stdout)
    assert training_file not in (run_folder_of(first) / "predictions.csv").read_text(encoding="utf-8")
    second = train_here("train_atten.py", *flags)
    assert re.search(r"cohort +24 files \(0 new\): 23 read, 1 rejected", second.stdout)
    assert run_folder_of(second) != run_folder_of(first)


def test_a_repeated_cross_validation_tests_every_ecg_once_a_repeat(cohort, tmp_path):
    places = ("--output-dir", tmp_path / "runs", "--cache-dir", tmp_path / "cache")
    outcome = run_here("train_atten.py", *tiny(cohort, *places, "--folds", 2, "--repeats", 2))
    run = run_folder_of(outcome)
    assert "split       by patient, into 2 folds, 2 times: each is tested once" in outcome.stdout
    assert sorted(path.name for path in run.glob("fold-*")) == ["fold-1", "fold-2", "fold-3", "fold-4"]
    predictions = pd.read_csv(run / "predictions.csv")
    assert len(predictions) == 48 and predictions.groupby("repeat")["file"].nunique().tolist() == [24, 24]
    parts = [frozenset(group["file"]) for _, group in predictions.groupby("fold")]
    assert len(set(parts)) == 4  # the second repeat deals anew
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert (metrics["n_folds"], metrics["n_repeats"], metrics["n_patients"]) == (2, 2, 22)
    assert "test        24 ECGs of 22 patients" in outcome.stdout
    compared = run_here("evaluate.py", run, run, "--names", "a", "b", "--output-dir", tmp_path / "compared")
    assert compared.returncode == 0, compared.stderr
    (folder,) = (tmp_path / "compared").iterdir()
    assert set(pd.read_csv(folder / "differences.csv")["n_ecgs"]) == {24}
    assert pd.read_csv(folder / "heart_rate.csv")["n_ecgs"].sum() == 24
    model = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["PE"]["a"]
    assert (model["n_ecgs"], model["n_repeats"], model["n_patients"]) == (48, 2, 22)


# Labels that are not known, and disks that are full


def test_a_disk_that_fills_up_while_training_is_one_line_and_the_run_goes_on(cohort, tmp_path):
    flags = tiny(cohort, "--output-dir", tmp_path / "runs", "--cache-dir", tmp_path / "cache")
    whole = train_here("train_atten.py", *flags)
    (run_folder_of(whole)).rename(tmp_path / "whole")
    largest, unlimited = 10_000_000, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, unlimited[1]))  # the cache fits, the weights do not
    try:
        full = train_here("train_atten.py", *flags)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    line = line_of(full)
    assert "model.safetensors: cannot be written (" in line and "--resume" in line
    (run,) = (tmp_path / "runs").iterdir()
    resumed = train_here("train_atten.py", "--resume", run)
    assert resumed.returncode == 0, resumed.stderr
    for name in ("model.safetensors", "predictions.csv"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_unknown_labels_are_trained_tested_and_reported(tmp_path):
    folder = make_tiny_cohort(tmp_path / "ecgs")
    table = pd.read_csv(folder / "labels.csv", dtype=object)
    table.loc[::5, "MI"] = ""
    table.to_csv(folder / "labels.csv", index=False)
    places = ("--output-dir", tmp_path / "runs", "--cache-dir", tmp_path / "cache")
    outcome = run_here("train_atten.py", *tiny(folder, *places), "--label-columns", "PE", "MI", "--folds", 2)
    run = run_folder_of(outcome)
    predictions = pd.read_csv(run / "predictions.csv").set_index("file").sort_index()
    expected = table.set_index("file").sort_index()["MI"]
    assert predictions["y_true_MI"].isna().tolist() == (expected == "").tolist()
    assert predictions["y_score_MI"].notna().all()
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["labels"]
    assert metrics["MI"]["n_unknown"] == 5 and "n_unknown" not in metrics["PE"]
    assert "MI is not known of 5 ECGs" in outcome.stdout
    assert "MI not known" in (run / "report.html").read_text(encoding="utf-8")
    compared = run_here("evaluate.py", run, "--output-dir", tmp_path / "compared")
    assert compared.returncode == 0, compared.stderr
    assert re.search(r"^19 ECGs, \d+ with MI \(\d+\.\d %\); in brackets", compared.stdout, re.MULTILINE)


# Before a run


@pytest.mark.parametrize("script", SCRIPTS)
def test_importing_a_script_does_nothing(tmp_path, monkeypatch, capfd, script):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["notebook", "--flag-of-another-program"])
    runpy.run_path(str(ROOT / script), run_name=script.removesuffix(".py"))
    assert tuple(capfd.readouterr()) == ("", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_lists_every_flag_with_hyphens(script):
    outcome = run_here(script, "--help")
    assert outcome.returncode == 0 and outcome.stderr == ""
    flags = set(re.findall(r"^  (--[\w-]+)", outcome.stdout, re.MULTILINE))
    declared = {"--" + declaration.name.replace("_", "-") for declaration in fields(Hyperparameters)}
    assert flags <= declared and not any("_" in flag for flag in flags)
    of_models = ("--rnn", "--encoder", "--attention", "--kernel", "--sampling-rate", "--model")
    of_pretraining = (
        "--projection",
        "--temperature",
        "--objective",
        "--architecture",
        "--measured-weight",
        "--leave-out",
    )
    assert all(flag.startswith((*of_models, *of_pretraining)) for flag in declared - flags)
    assert ("--rnn-cell" in flags) == (script == "train_main_ecg.py")


def test_scripts_differ_in_model_and_hyperparameters_alone():
    texts = [(ROOT / script).read_text(encoding="utf-8") for script in SCRIPTS[:3]]
    assert len({text[text.index("\nfrom ") : text.index("MODEL =")] for text in texts}) == 1
    assert len({text[text.index("def main") :] for text in texts}) == 1
    assert len({re.search(r'^MODEL = "(\w+)"', text, re.MULTILINE).group(1) for text in texts}) == 3


@pytest.mark.parametrize(
    ("more", "status", "names"),
    [
        (["--data-dir", "no/such/folder"], 1, "no/such/folder"),
        (["--label-columns", "stroke"], 1, "stroke"),
        (["--labels", "no_table.csv"], 1, "no_table.csv"),
        (["--epoch", "3"], 2, "--epoch"),
        (["--n-samples", "400"], 2, "n_samples"),
        (["--output-dir", __file__], 1, "--output-dir"),
    ],
)
def test_what_the_user_can_mend_is_one_line(flags, more, status, names):
    line = line_of(run_here("train_atten.py", *flags, *more), status)
    assert line.startswith("train_atten.py: ") and names in line


def test_a_demo_folder_that_holds_something_else_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo_cohort").mkdir()
    (tmp_path / "demo_cohort" / "notes.txt").write_text("mine")
    assert "demo_cohort: found 0 synthetic ECGs" in line_of(run_here("train_atten.py"))


def test_resuming_what_is_no_run_is_one_line(tmp_path):
    assert str(tmp_path) in line_of(run_here("train_atten.py", "--resume", tmp_path), status=2)


def test_a_key_that_is_missing_in_the_file_is_one_line(monkeypatch):
    values, *sections = read_yaml(ROOT / "hyperparameters.yml")
    del values["model"]
    monkeypatch.setattr(reading, "read_yaml", lambda _: (values, *sections))
    line = line_of(run_here("train_main_ecg.py"), status=2)
    assert "hyperparameters.yml: model: found none, expected rnn or encoder" in line


def test_a_run_is_resumed_from_another_folder_when_its_ecgs_are_named(
    cohort, tmp_path, monkeypatch, finished
):
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    flags = tiny(os.path.relpath(cohort), "--cache-dir", finished[0] / "cache")
    run = run_folder_of(train_here("train_atten.py", *flags))
    for name in ("metrics.json", "predictions.csv", "model.json"):  # as if stopped before the test
        (run / name).unlink()
    monkeypatch.chdir(finished[0])
    line = line_of(run_here("train_atten.py", "--resume", tmp_path / "home" / run), status=2)
    assert "data_dir: found no ../" in line and "or give --data-dir" in line
    resumed = train_here("train_atten.py", "--resume", tmp_path / "home" / run, "--data-dir", cohort)
    assert resumed.returncode == 0, resumed.stderr
    assert (tmp_path / "home" / run / "metrics.json").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["predict.py", "run", "ecg.xml", "--prev", "0.1"],  # an abbreviation
        ["evaluate.py", "run", "--stratum", "sex"],
        ["export.py"],
        ["inspect_ecgs.py"],
        ["search.py", "train_baseline.py", "--trial", "3"],
        ["cohorts.from_table", "ecgs"],
    ],
)
def test_wrong_usage_is_one_line(words):
    line = line_of(run_here(*words), status=2)
    assert line.startswith(f"{words[0].removeprefix('cohorts.').removesuffix('.py')}.py: ")
    assert line.endswith(" (--help lists the flags)")


def test_a_tracker_is_told_what_the_run_keeps(cohort, tmp_path, finished):
    flags = ["--data-dir", cohort, "--output-dir", tmp_path, "--cache-dir", finished[0] / "cache"]
    with (
        mock.patch("training.experiment.start_tracker") as started,
        mock.patch("training.experiment._announce", side_effect=UserError("enough")),
    ):
        assert line_of(run_here("pretrain.py", *flags, "--workers", 1)) == "pretrain.py: enough"
    (run,) = tmp_path.iterdir()
    assert started.call_args.args[2] == read_yaml(run / "hyperparameters.yml")[0]


# Killed and resumed


def start(cohort, cwd):
    """Start a run of three epochs."""
    return subprocess.Popen(
        command("train_atten.py", *tiny(cohort, *EPOCHS)),
        **{
            "cwd": cwd,
            "env": ENVIRONMENT,
            "text": True,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        },
    )


def wait_for(name, cwd, process):
    """Wait until the run's folder has a file, and return the folder."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if found := list(cwd.glob(f"runs/*/{name}")):
            return found[0].parent
        time.sleep(0.005)
    raise AssertionError(f"no {name}: {process.communicate()}")


def test_ctrl_c_ends_with_one_line_that_tells_how_to_go_on(cohort, tmp_path):
    process = start(cohort, tmp_path)
    folder = wait_for("log.csv", tmp_path, process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode not in (0, None) and " epoch " in stdout
    assert "Traceback" not in stderr and len(stderr.strip().splitlines()) == 1
    assert re.search(rf"SIGINT .* saved; python train_atten.py --resume \S*{folder.name} goes on", stderr)
    assert (folder / "checkpoint.pt").exists() and not (folder / "metrics.json").exists()


NOTHING_SAVED = "train_atten.py: interrupted; nothing was saved yet by this command; start it again"
NO_STEP_SAVED = (
    "train_atten.py: interrupted; python train_atten.py --resume {} begins it anew: no step was saved yet"
)


@pytest.fixture
def signal_in(flags, tmp_path):
    """Return a function that trains, lets a signal come where a function is called, and gives the line."""

    def run_until(place, number, *more, times=1, at_call=1):
        calls = iter(range(at_call, 0, -1))
        function = mock.DEFAULT if at_call == 1 else importlib.import_module(place[0]).__dict__[place[1]]

        def interrupt(*arguments, **keywords):
            if next(calls) > 1:
                return function(*arguments, **keywords)
            for _ in range(times):
                signal.raise_signal(number)

        with mock.patch(".".join(place), side_effect=interrupt):
            line = line_of(run_here("train_atten.py", *flags, *more))
        return line, next((tmp_path / "runs").glob("*"), None)

    return run_until


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_first_epoch_says_how_to_start_again(signal_in, number):
    assert signal_in(("dataset.cohort", "read_cohort"), number) == (NOTHING_SAVED, None)
    line, run = signal_in(("dataset.batches", "make_batches"), number)
    assert line == NO_STEP_SAVED.format(run) and run is not None
    assert run_here("train_atten.py", "--resume", run).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_last_epoch_names_the_command_that_goes_on(signal_in, number):
    line, run = signal_in(("training.test_set", "score_test_set"), number)
    command = f"python train_atten.py --resume {run} goes on from what is saved"
    assert line == f"train_atten.py: interrupted; {command}"


def test_a_second_signal_ends_at_once_with_the_same_line(signal_in):
    line, run = signal_in(("training.loop", "_validate"), signal.SIGINT, times=2)
    assert line == NO_STEP_SAVED.format(run)


def test_a_second_signal_in_a_later_epoch_names_the_command(signal_in, monkeypatch):
    monkeypatch.setattr("training.loop.SAVE_EVERY", 0)
    line, run = signal_in(("training.loop", "_validate"), signal.SIGINT, *EPOCHS, times=2, at_call=2)
    assert line.endswith(f"interrupted; python train_atten.py --resume {run} goes on from what is saved")


def test_an_interrupt_that_a_library_made_another_error_of_is_still_one(flags, tmp_path):
    def convert(*_, **__):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        raise UserError("model.safetensors: the weights cannot be used (could not determine the shape)")

    with mock.patch("dataset.batches.make_batches", convert):
        line = line_of(run_here("train_atten.py", *flags))
    (run,) = (tmp_path / "runs").glob("*")
    assert line == NO_STEP_SAVED.format(run)


def test_resuming_a_finished_run_scores_nothing_again(finished, monkeypatch):
    cwd, before = finished
    folder = run_folder_of(before)
    written = {name: os.stat(cwd / folder / name).st_mtime_ns for name in RESULTS}
    monkeypatch.chdir(cwd)
    monkeypatch.setattr(test_set, "predict_logits", lambda *_: pytest.fail("scored again"))
    again = run_here("train_atten.py", "--resume", folder)
    assert run_folder_of(again) == folder
    assert "nothing is trained or scored again" in again.stdout and " epoch " not in again.stdout
    assert again.stdout[again.stdout.index("\ntest ") :] == before.stdout[before.stdout.index("\ntest ") :]
    assert re.search(r"cohort +24 files \(0 new\): 24 read", again.stdout)
    assert {name: os.stat(cwd / folder / name).st_mtime_ns for name in RESULTS} == written
