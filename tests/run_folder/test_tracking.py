"""Trackers get numbers and nothing else, and a run goes on without one that fails."""

import json
import math
from types import SimpleNamespace

import pandas as pd
import pytest
from tiny_runs import make_tiny_cohort, tiny, train_here

from metrics.metric import metrics_from_json
from run_folder import tracking
from run_folder.tracking import NoTracker, Tracker, start_tracker


class Listener:
    """Keeps what it is told; fails from a call on."""

    def __init__(self, fails_at=math.inf):
        self.told, self.fails_at = [], fails_at

    def send(self, numbers, epoch):
        if len(self.told) >= self.fails_at:
            raise ConnectionError("no\nroute")
        self.told.append((epoch, dict(numbers)))


METRICS = metrics_from_json(
    {
        "split": "test",
        "labels": {
            "PE": {
                "n_positive": 9,
                "auroc": {"value": 0.9, "low": 0.8, "high": 1.0, "n_resamples": 2000},
                "brier_score": {"value": 0.1, "low": None, "high": None},
                "npv": {"value": None, "low": None, "high": None},
            }
        },
    }
)


def test_an_epoch_and_the_metrics_as_numbers():
    listener = Listener()
    tracker = Tracker("it", lambda: listener)
    tracker.epoch({"epoch": 3, "train_loss": 0.5, "kept": 1})
    tracker.epoch({"epoch": 1, "val_auroc": 0.7, "kept": 0}, "fold-2")
    tracker.metrics(METRICS)
    assert listener.told == [
        (3, {"train_loss": 0.5}),
        (1, {"fold-2/val_auroc": 0.7}),
        (
            None,
            {
                "test/PE/n_positive": 9,
                "test/PE/auroc": 0.9,
                "test/PE/auroc low": 0.8,
                "test/PE/auroc high": 1.0,
                "test/PE/brier_score": 0.1,
            },
        ),
    ]


def test_a_tracker_that_fails_is_left_behind_with_one_line(capsys):
    listener = Listener(fails_at=1)
    tracker = Tracker("it", lambda: listener)
    for epoch in (1, 2, 3):
        tracker.epoch({"epoch": epoch, "train_loss": 0.5})
    assert capsys.readouterr().out == "tracking    it cannot go on (no route): going on without it\n"
    assert len(listener.told) == 1


def test_a_missing_package_is_one_line_that_names_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    start_tracker("wandb", tmp_path, {}).epoch({"epoch": 1, "train_loss": 0.5})
    out = capsys.readouterr().out
    assert out.startswith("tracking    wandb cannot start (") and "wandb" in out and out.count("\n") == 1


def test_none_imports_and_tells_nothing(tmp_path):
    assert type(start_tracker("none", tmp_path, {})) is NoTracker


def test_no_path_is_told(monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setitem(tracking.TRACKERS, "wandb", lambda folder, values: seen.update(values))
    values = {"data_dir": "/home/miller", "labels": "x.csv", "patient_key": "k", "resume": "r", "seed": 1}
    start_tracker("wandb", tmp_path, {**values, "init_from": "a", "output_dir": "b", "cache_dir": "c"})
    assert seen == {"seed": 1}


def test_weights_and_biases_is_told_of_no_host_user_program_or_code(monkeypatch, tmp_path):
    wandb = pytest.importorskip("wandb")
    calls = []
    run = SimpleNamespace(log=calls.append, summary={})
    monkeypatch.setattr(wandb, "init", lambda **options: calls.append(options) or run)
    tracker = start_tracker("wandb", tmp_path / "run-1", {"seed": 1, "data_dir": "/home/miller"})
    tracker.epoch({"epoch": 2, "train_loss": 0.5})
    tracker.metrics(METRICS)
    options = calls[0]
    assert options["config"] == {"seed": 1} and options["id"] == "run-1" and options["resume"] == "allow"
    settings = options["settings"]
    assert settings.x_disable_meta and settings.x_disable_machine_info and settings.x_disable_stats
    assert settings.disable_git and settings.disable_code and settings.console == "off"
    assert not settings.host and not settings.username and not settings.program
    assert calls[1] == {"train_loss": 0.5, "epoch": 2} and run.summary["test/PE/auroc"] == 0.9


def test_a_run_writes_what_tensorboard_reads(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    cohort = make_tiny_cohort(tmp_path / "ecgs")
    flags = ["--tracking", "tensorboard", "--folds", 2, "--output-dir", tmp_path / "runs", "--epochs", 2]
    outcome = train_here("train_spectrogram.py", *tiny(cohort, *flags))
    assert outcome.returncode == 0, outcome.stderr
    (run,) = (tmp_path / "runs").iterdir()
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    log = pd.read_csv(run / "fold-2" / "log.csv")
    scalars = events.Scalars("fold-2/val_loss")
    assert [event.step for event in scalars] == [1, 2]
    assert [event.value for event in scalars] == pytest.approx(log["val_loss"].tolist(), rel=1e-6)
    metrics = json.loads((run / "metrics.json").read_text())
    (auroc,) = events.Scalars("test/PE/auroc")
    assert auroc.value == pytest.approx(metrics["labels"]["PE"]["auroc"]["value"], rel=1e-6)
    assert {"fold-1/test/PE/auroc", "fold-2/test/PE/auroc"} <= set(events.Tags()["scalars"])
    assert str(tmp_path) not in (next((run / "tensorboard").iterdir())).read_bytes().decode("latin-1")
