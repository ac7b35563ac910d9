"""Trackers get numbers and nothing else, and a run goes on without one that fails."""

import json
import math
import sys
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


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_one_line_that_names_it(monkeypatch, tmp_path, capsys, name):
    monkeypatch.setitem(sys.modules, name, None)
    start_tracker(name, tmp_path, {}).epoch({"epoch": 1, "train_loss": 0.5})
    out = capsys.readouterr().out
    assert out.startswith(f"tracking    {name} cannot start (") and out.count("\n") == 1
    assert name in out.partition("(")[2]


def test_none_imports_and_tells_nothing(tmp_path):
    assert type(start_tracker("none", tmp_path, {})) is NoTracker


def test_no_path_is_told(monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setitem(tracking.TRACKERS, "wandb", lambda folder, values: seen.update(values))
    values = {"data_dir": "/home/miller", "labels": "x.csv", "patient_key": "k", "resume": "r", "seed": 1}
    values |= {"init_from": "a", "output_dir": "b", "cache_dir": "c", "searched_in": "s"}
    start_tracker("wandb", tmp_path, values)
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


class MLflowStandIn:
    """The part of MlflowClient that is used; a second client of a place finds what the first has kept."""

    stores = {}  # noqa: RUF012 - by place

    def __init__(self, tracking_uri):
        self.experiments, self.runs = self.stores.setdefault(tracking_uri, ({}, {}))

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id=self.experiments[name]) if name in self.experiments else None

    def create_experiment(self, name):
        return self.experiments.setdefault(name, str(len(self.experiments)))

    def search_runs(self, experiment_ids, filter_string):
        name = filter_string.removeprefix("attributes.run_name = '").removesuffix("'")
        return [
            one.run for one in self.runs.values() if (one.name, [one.experiment]) == (name, experiment_ids)
        ]

    def create_run(self, experiment_id, run_name):
        number = str(len(self.runs))
        run = SimpleNamespace(info=SimpleNamespace(run_id=number))
        of_run = {"run": run, "name": run_name, "experiment": experiment_id}
        self.runs[number] = SimpleNamespace(**of_run, params={}, metrics=[], is_finished=False)
        return run

    def log_param(self, run_id, key, value):
        assert key not in self.runs[run_id].params, "MLflow refuses another value of a parameter"
        self.runs[run_id].params[key] = value

    def log_metric(self, run_id, key, value, timestamp, step):
        assert timestamp > 1.6e12, "milliseconds"
        self.runs[run_id].metrics.append((key, value, step))

    def set_terminated(self, run_id):
        self.runs[run_id].is_finished = True


@pytest.fixture
def mlflow_client(monkeypatch):
    """The class of the client of MLflow, or of a stand-in where it is not installed."""
    try:
        from mlflow import MlflowClient
    except ImportError:
        MLflowStandIn.stores.clear()
        monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=MLflowStandIn))
        return MLflowStandIn
    return MlflowClient


def told(client, place):
    """Return the parameters, metrics and tags of the only run of an MLflow, and whether it is finished."""
    if client is MLflowStandIn:
        (run,) = client.stores[place][1].values()
        return run.params, run.metrics, {}, run.is_finished
    here = client(tracking_uri=place)
    (run,) = here.search_runs([here.get_experiment_by_name(tracking.PROJECT).experiment_id])
    history = [one for key in run.data.metrics for one in here.get_metric_history(run.info.run_id, key)]
    metrics = [(one.key, one.value, one.step) for one in history]
    return run.data.params, metrics, run.data.tags, run.info.status == "FINISHED"


def test_mlflow_keeps_numbers_beside_the_runs_and_a_resumed_run_goes_on(mlflow_client, monkeypatch, tmp_path):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    for epoch in (1, 2):  # the second as by --resume
        tracker = start_tracker("mlflow", tmp_path / "run-1", {"seed": 1, "data_dir": "/home/miller"})
        tracker.epoch({"epoch": epoch, "train_loss": 0.5 / epoch}, "fold-1")
    tracker.metrics(METRICS | {"labels": {"P(E)": METRICS["labels"]["PE"]}})
    params, metrics, tags, is_finished = told(mlflow_client, f"sqlite:///{tmp_path.resolve()}/mlflow.db")
    assert {key: str(value) for key, value in params.items()} == {"seed": "1"} and is_finished
    assert {("fold-1/train_loss", 0.5, 1), ("fold-1/train_loss", 0.25, 2)} <= set(metrics)
    assert ("test/P_E_/auroc low", 0.8, 0) in metrics
    assert not {"mlflow.user", "mlflow.source.name", "mlflow.source.git.commit"} & set(tags)


def test_a_run_writes_what_tensorboard_reads(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    cohort = make_tiny_cohort(tmp_path / "ecgs")
    flags = ["--tracking", "tensorboard", "--folds", 2, "--output-dir", tmp_path / "runs", "--epochs", 2]
    outcome = train_here("train_atten.py", *tiny(cohort, *flags))
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
