"""Folds of a cross-validation side by side, stopped and resumed: the bits of one after another."""

import signal
import subprocess
import time

import pandas as pd
import pytest
from one_line import failure_of
from tiny_runs import (
    ENVIRONMENT,
    Outcome,
    command,
    line_of,
    make_tiny_cohort,
    run_folder_of,
    run_here,
    tiny,
    train_here,
)

from hyperparameters.declaration import Hyperparameters
from runtime import processes
from training.experiment import start_run

SCRIPT = "train_atten.py"
RESULTS = ("model.safetensors", "model.json", "predictions.csv", "metrics.json")
TIMES = ["ecgs_per_second", "seconds"]  # columns of log.csv
ONE_THREAD = "at once     2 of 2 folds, each in a process of its own with 1 thread"


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    """The flags of a tiny cross-validation of two folds; its ECGs are in the cache after the first."""
    place = tmp_path_factory.mktemp("ecgs")
    cohort = make_tiny_cohort(place / "ecgs")
    return tiny(cohort, "--folds", 2, "--epochs", 3, "--cache-dir", place / "cache")


def interrupted(cwd, *flags):
    """Start a cross-validation, send Ctrl-C after the first epoch of a fold, and return how it ends."""
    streams = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen(command(SCRIPT, *flags), cwd=cwd, env=ENVIRONMENT, text=True, **streams)
    deadline = time.monotonic() + 300
    while not list(cwd.glob("runs/*/fold-*/log.csv")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=300)
    return Outcome(process.returncode, stdout, stderr)


def test_folds_at_once_stopped_and_resumed_end_in_the_bits_of_one_after_another(flags, tmp_path, monkeypatch):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    monkeypatch.chdir(one)
    expected = one / run_folder_of(train_here(SCRIPT, *flags))
    stopped = interrupted(other, *flags, "--folds-at-once", 2)
    (found,) = other.glob("runs/*")
    words = f"python {SCRIPT} --resume {found.relative_to(other)} goes on from what is saved"
    assert line_of(stopped) == f"{SCRIPT}: interrupted; {words}"
    assert ONE_THREAD in stopped.stdout.splitlines() and not (found / "metrics.json").exists()
    monkeypatch.chdir(other)
    resumed = run_here(SCRIPT, "--resume", found.relative_to(other))
    assert other / run_folder_of(resumed) == found
    lines = resumed.stdout.splitlines()
    assert ONE_THREAD in lines and sum(line.startswith("cohort ") for line in lines) == 1
    assert all(
        f"fold-{number}  trained     3 epochs; kept: the averaged weights of the last" in lines
        for number in (1, 2)
    )
    for name in ("", "fold-1", "fold-2"):
        for file in RESULTS if name else RESULTS[2:]:
            assert (found / name / file).read_bytes() == (expected / name / file).read_bytes(), (name, file)
    for number in (1, 2):
        logs = [
            pd.read_csv(run / f"fold-{number}" / "log.csv").drop(columns=TIMES) for run in (expected, found)
        ]
        pd.testing.assert_frame_equal(*logs)
    assert (found / "report.html").exists() and not list(found.rglob(".lock"))


def test_what_cannot_be_at_once_is_one_line(flags, monkeypatch):
    line = line_of(run_here(SCRIPT, *flags[:-2], "--folds", 0, "--folds-at-once", 2), status=2)
    assert "folds_at_once: found 2, expected --folds: a single split has one" in line
    monkeypatch.setattr(processes, "count", lambda: 2)
    nothing = dict.fromkeys(("title", "device", "cohort", "folds"))  # it is refused before they are read
    line = failure_of(start_run, SCRIPT, values=Hyperparameters(folds_at_once=2), **nothing)
    assert line.startswith("--folds-at-once: found 2 under torchrun, expected 1: ")
