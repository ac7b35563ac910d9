"""Follow a run in TensorBoard, Weights & Biases or MLflow, for those who use them (``--tracking``).

A tracker gets hyperparameters (those that are paths excepted), one row of numbers per epoch, and the metrics
of the test. No ECG, file, patient, path, user or host is given to it. A tracker that fails is left behind
with one line; the run goes on, and has everything in its own folder anyway.
"""

import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from metrics.metric import Metric
from runtime.errors import one_line

PATHS = ("data_dir", "labels", "cache_dir", "patient_key", "init_from", "output_dir", "resume", "searched_in")
PROJECT = "ecg"  # the variables WANDB_PROJECT and MLFLOW_EXPERIMENT_NAME of the environment name another
MLFLOW_STORE = "mlflow.db"  # in the folder of the run folders, unless MLFLOW_TRACKING_URI names a place
NOT_IN_MLFLOW = re.compile(r"[^\w/.\- :]")  # characters that the names of its metrics must not have


class NoTracker:
    """Keeps nothing."""

    def epoch(self, row: Mapping[str, Any], fold: str = "") -> None:
        """Send the numbers of one epoch: a row of ``log.csv``. ``fold`` is its name in a cross-validation."""

    def metrics(self, metrics: Mapping[str, Any], fold: str = "") -> None:
        """Send the content of ``metrics.json``."""


class Tracker(NoTracker):
    """Passes everything to one of the trackers below, until that fails."""

    def __init__(self, name: str, start: Callable[[], "_TensorBoard | _WeightsAndBiases | _MLflow"]):
        self._name, self._backend = name, None
        self._try("start", lambda: setattr(self, "_backend", start()))

    def epoch(self, row: Mapping[str, Any], fold: str = "") -> None:
        numbers = {key: value for key, value in row.items() if key not in ("epoch", "kept")}
        self._send(_in_fold(numbers, fold), int(row["epoch"]))

    def metrics(self, metrics: Mapping[str, Any], fold: str = "") -> None:
        self._send(_in_fold(dict(_flat(metrics)), fold), None)

    def _send(self, numbers: Mapping[str, float], epoch: int | None) -> None:
        if self._backend is not None:
            self._try("go on", lambda: self._backend.send(numbers, epoch))

    def _try(self, what: str, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # of any kind: the training is worth more
            self._backend = None
            print(f"tracking    {self._name} cannot {what} ({one_line(error)}): going on without it")


class _TensorBoard:
    """Writes event files into the run folder: ``tensorboard --logdir runs``."""

    def __init__(self, folder: Path, hyperparameters: Mapping[str, Any]):
        from torch.utils.tensorboard import SummaryWriter  # needs the package tensorboard

        self._writer = SummaryWriter(str(folder / "tensorboard"))
        lines = (f"    {name}: {value}" for name, value in hyperparameters.items())
        self._writer.add_text("hyperparameters", "\n".join(lines))

    def send(self, numbers: Mapping[str, float], epoch: int | None) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()


class _WeightsAndBiases:
    """Sends to Weights & Biases; ``WANDB_MODE=offline`` keeps it in the run folder, for ``wandb sync``."""

    def __init__(self, folder: Path, hyperparameters: Mapping[str, Any]):
        import wandb

        settings = wandb.Settings(
            console="off",  # the terminal's lines name files
            save_code=False,
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            host="",
            username="",
            email="",
            program="",
            silent=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_disable_stats=True,
            init_timeout=30,
        )
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=folder.name,
            id=folder.name,
            resume="allow",  # as --resume does
            config=dict(hyperparameters),
            dir=str(folder),
            settings=settings,
        )

    def send(self, numbers: Mapping[str, float], epoch: int | None) -> None:
        if epoch is None:
            self._run.summary.update(dict(numbers))
        else:
            self._run.log({**numbers, "epoch": epoch})


class _MLflow:
    """Writes to MLflow, by default into a database beside the run folders.

    Its client is used, which adds neither user nor source to a run, as ``mlflow.start_run`` would.
    """

    def __init__(self, folder: Path, hyperparameters: Mapping[str, Any]):
        from mlflow import MlflowClient

        place = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.parent.resolve() / MLFLOW_STORE}"
        self._client = MlflowClient(tracking_uri=place)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self._client.create_experiment(name)
        before = self._client.search_runs([number], f"attributes.run_name = '{folder.name}'")  # --resume
        run = before[0] if before else self._client.create_run(number, run_name=folder.name)
        self._run_id = run.info.run_id
        for key, value in {} if before else hyperparameters.items():
            self._client.log_param(self._run_id, key, value)

    def send(self, numbers: Mapping[str, float], epoch: int | None) -> None:
        now = int(1000 * time.time())
        for name, value in numbers.items():
            allowed = NOT_IN_MLFLOW.sub("_", name)
            self._client.log_metric(self._run_id, allowed, float(value), timestamp=now, step=epoch or 0)
        if epoch is None:
            self._client.set_terminated(self._run_id)


TRACKERS = {"tensorboard": _TensorBoard, "wandb": _WeightsAndBiases, "mlflow": _MLflow}


def start_tracker(name: str, folder: Path, hyperparameters: Mapping[str, Any]) -> NoTracker:
    """Return a tracker of the run in a folder.

    Parameters
    ----------
    name : "none", "tensorboard", "wandb" or "mlflow"; the last three are packages of these names.
    hyperparameters : all by name; those that are paths stay here.
    """
    if name == "none":
        return NoTracker()
    shared = {key: value for key, value in hyperparameters.items() if key not in PATHS}
    return Tracker(name, lambda: TRACKERS[name](folder, shared))


def _in_fold(numbers: Mapping[str, float], fold: str) -> dict[str, float]:
    return {f"{fold}/{name}" if fold else name: value for name, value in numbers.items()}


def _flat(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the numbers of ``metrics.json`` as "test/PE/auroc", with "… low" and "… high" of intervals."""
    for label, values in metrics["labels"].items():
        for name, value in values.items():
            parts = {"": value}
            if isinstance(value, Metric):
                parts = {"": value.value, " low": value.low, " high": value.high}
            for suffix, number in parts.items():
                if isinstance(number, int | float) and math.isfinite(number):
                    yield f"test/{label}/{name}{suffix}", float(number)
