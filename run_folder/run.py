"""The folder that one training leaves behind: what is in it, and how it gets there and back.

Every file appears whole or not at all: it is written aside, brought to the disk, then renamed. Nothing is
unpickled on loading: weights come from safetensors, the checkpoint through ``torch.load(weights_only=True)``,
and everything else is text.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from cohorts.columns import CLINICAL, GROUP_COLUMNS
from hyperparameters.declaration import Hyperparameters
from hyperparameters.reading import to_yaml
from metrics.metric import metrics_to_json
from models import MODELS
from run_folder.descriptions import ModelDescription, PretrainedDescription
from run_folder.environment import compute_used, environment_of
from run_folder.files import KEY_FINGERPRINT, RunFiles, part_columns
from run_folder.foreign_weights import FOREIGN_WEIGHTS, record_of
from run_folder.tracking import NoTracker
from runtime import processes
from runtime.atomic_files import csv_text, write_atomically
from runtime.code_pages import as_utf8
from runtime.errors import UserError, one_line, reason
from runtime.folder_lock import hold

BEFORE = "checkpoint-before.pt"


class Run(RunFiles):
    """One run folder, to be written and read. Its files, in the order in which they appear:

    ``hyperparameters.yml``, ``environment.json``, ``splits.csv``, ``rejected.csv`` and ``quality.csv`` before
    training; ``log.csv`` after each epoch, ``checkpoint.pt`` every half minute, ``model.safetensors`` (the
    weights that are kept) at the latest at the end; ``training_distribution.json``,
    ``training_distribution.safetensors``, ``model.json``, ``predictions.csv`` and ``metrics.json`` after the
    test; then ``report.html``, ``model_card.xml`` and the figures. A cross-validation has these in one folder
    per fold, and the last, of all folds, beside them.
    """

    def __init__(self, folder: str | Path, root: Path | None = None, tracker: NoTracker | None = None):
        super().__init__(folder)
        self.root = root or self.folder  # for a fold, the run that contains it
        self.tracker = tracker or NoTracker()  # gets epochs and metrics
        self.resumed = False  # whether another process has begun it

    @classmethod
    def create(
        cls,
        *,
        script: str,
        values: Hyperparameters,
        device: torch.device,
        splits: pd.DataFrame,
        rejected: pd.DataFrame,
        quality: pd.DataFrame,
        patient_key: str,
    ) -> "Run":
        """Make the folder ``<output_dir>/<script>-<time>`` with all that is known before training.

        ``patient_key`` is the fingerprint of the key of the patients' pseudonyms.
        """
        environment = environment_of(device, patient_key, values.init_from)
        folder = new_folder(Path(values.output_dir), script) if processes.is_first() else None
        run = cls(processes.from_first(folder))
        run.write_text("hyperparameters.yml", to_yaml(values))
        run.write_text("environment.json", json.dumps(environment, indent=2) + "\n")
        run.write_table("splits.csv", splits)
        run.write_table("rejected.csv", rejected)
        run.write_table("quality.csv", quality)
        return run

    @classmethod
    def resume(cls, folder: str | Path, splits: pd.DataFrame, *, patient_key: str | None = None) -> "Run":
        """Open a folder to continue, provided that the cohort and its parts are those of the run.

        Runs of earlier versions have no ``waveform`` in their splits.csv; the digests of the files say as
        much. Nor have they ``device`` and ``site``, by which a run reports, and clinical columns.

        Parameters
        ----------
        patient_key : fingerprint of the key of the pseudonyms in ``splits``.

        Raises
        ------
        UserError : it is not a run, or what it would go on with differs; the line says in what.
        """
        run = cls(folder)
        run.resumed = True
        try:
            before = (run.folder / "splits.csv").read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"{folder}: found no usable splits.csv ({reason(error)}), expected the folder of a run"
            ) from None
        added = {"waveform", *GROUP_COLUMNS, *(name for name in splits if name.startswith(CLINICAL))}
        absent = added - {"age", "sex"} - set(before.partition("\n")[0].split(","))
        splits = splits.drop(columns=absent, errors="ignore")
        if before != (now := as_utf8(csv_text(splits))):
            run._refuse_other_key(patient_key)
            raise UserError(
                f"{folder}: {difference(before, now)} not those that this run began with (splits.csv); "
                "start a new run"
            )
        run._refuse_other_weights()
        return run

    def hold(self) -> None:
        """Keep other processes from training this run; a UserError that names the one that does."""
        if processes.is_first():
            hold(self.folder, "training this run")

    def _refuse_other_key(self, patient_key: str | None) -> None:
        """Raise the error of pseudonyms that were made with another key than the run's."""
        own = self.json("environment.json").get(KEY_FINGERPRINT) if self.has("environment.json") else None
        if own and patient_key and own != patient_key:
            raise UserError(
                f"{self.folder}: the key of the patients' pseudonyms is another than this run began with; "
                "put its own patient_key.txt back beside the labels table, or name it with --patient-key"
            )

    def _refuse_other_weights(self) -> None:
        """Raise an error where the file of foreign weights that the run began from has changed since."""
        began = self.json("environment.json").get(FOREIGN_WEIGHTS) if self.has("environment.json") else None
        if began and record_of(file := self.hyperparameters()["init_from"]) != began:
            raise UserError(
                f"{file}: found another SHA-256 than when {self.folder} began from it, expected "
                f"{began['sha256']}; start a new run"
            )

    def fold(self, name: str) -> "Run":
        """Return the run of one fold, in a folder of that name within this one; without a name, this one."""
        folder = self.folder / name
        if processes.is_first():
            folder.mkdir(exist_ok=True)
        return Run(folder, self.root, self.tracker)

    @property
    def fold_name(self) -> str:
        """The name of the fold, or nothing where this is a whole run."""
        return "" if self.folder == self.root else self.folder.name

    def write_log(self, log: Sequence[Mapping[str, Any]]) -> None:
        """Write ``log.csv``, one row per epoch, and give the last to the tracker."""
        self.write_table("log.csv", pd.DataFrame(log))
        self.tracker.epoch(log[-1], self.fold_name)

    def write_text(self, name: str, text: str) -> None:
        self.write_file(name, lambda aside: aside.write_bytes(as_utf8(text).encode("utf-8")))

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        self.write_text(name, csv_text(table))

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Save what ``load_checkpoint`` is to return; the one before is kept, in case this one is damaged."""
        if not processes.is_first():
            return
        path = self.folder / "checkpoint.pt"
        if path.exists():
            os.replace(path, self.folder / BEFORE)
        self.write_file(path.name, lambda aside: torch.save(dict(state), aside))

    def load_checkpoint(self, device: torch.device) -> dict[str, Any] | None:
        """Return what ``save_checkpoint`` saved last, or None if nothing was saved.

        Where the last cannot be read, the one before is taken, and a line says so.
        """
        paths = [path for path in (self.folder / "checkpoint.pt", self.folder / BEFORE) if path.exists()]
        for path in paths:
            try:
                _check_archive(path)
                return torch.load(path, map_location=device, weights_only=True)
            except Exception as error:  # torch raises what its parsers raise: RuntimeError, KeyError, …
                problem = f"{path}: the checkpoint cannot be read ({one_line(error)})"
                if path == paths[-1]:
                    raise UserError(f"{problem}; start a new run") from None
                print(f"checkpoint  {problem}: going on from the one before")
        return None

    def record_compute(self, training_seconds: float) -> None:
        """Add to ``environment.json``, once, what the run has cost; a run without that file has no record."""
        environment = self.json("environment.json") if self.has("environment.json") else {}
        if environment and "compute" not in environment:
            used = compute_used(training_seconds, n_processes=processes.count(), resumed=self.resumed)
            self.write_text("environment.json", json.dumps({**environment, "compute": used}, indent=2) + "\n")

    def forget_checkpoint_before(self) -> None:
        """Remove the last but one checkpoint, when training is done."""
        if processes.is_first():
            (self.folder / BEFORE).unlink(missing_ok=True)

    def save_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Save a model's ``state_dict``."""
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        digest = {"sha256": weights_digest(state)}
        self.write_file("model.safetensors", lambda aside: save_file(state, aside, metadata=digest))

    def read_weights(self) -> dict[str, torch.Tensor]:
        """Return the kept weights by name, on the CPU."""
        path = self.folder / "model.safetensors"
        try:
            with safe_open(path, "pt") as weights:
                state = {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118
                digest = (weights.metadata() or {}).get("sha256")
            if digest and digest != weights_digest(state):  # runs of the first version have none
                raise ValueError("found another checksum than when they were written")
        except (OSError, SafetensorError, ValueError) as error:
            raise UserError(f"{path}: the weights cannot be used ({one_line(error)})") from None
        return state

    def load_weights(self, model: nn.Module) -> None:
        weights = self.read_weights()
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            path = self.folder / "model.safetensors"
            raise UserError(f"{path}: the weights cannot be used ({one_line(error)})") from None

    def save_description(self, description: ModelDescription | PretrainedDescription) -> None:
        self.write_text("model.json", json.dumps(asdict(description), indent=2) + "\n")

    def load_model(self, device: torch.device) -> tuple[nn.Module, ModelDescription]:
        """Return the model with the kept weights, in evaluation mode, and its description."""
        description, path = self.load_description(), self.folder / "model.json"
        try:
            model = MODELS[description.model](**description.arguments)
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{path}: found no usable model ({one_line(error)}), expected a finished run"
            ) from None
        self.load_weights(model)
        return model.to(device).eval(), description

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        content = metrics_to_json(metrics)
        self.write_text("metrics.json", json.dumps(content, indent=2, allow_nan=False) + "\n")
        self.tracker.metrics(metrics, self.fold_name)

    def write_file(self, name: str, write: Callable[[Path], Any]) -> None:
        """Write a file whole, in the first process only. A UserError where the disk refuses."""
        if not processes.is_first():
            return
        try:
            write_atomically(self.folder / name, write)
        except (OSError, RuntimeError, SafetensorError) as error:  # torch.save has errors of its own
            raise UserError(
                f"{self.folder / name}: cannot be written ({reason(error)}); what was there before is kept, "
                f"and --resume {self.root} goes on from it"
            ) from None


def difference(before: str, now: str) -> str:
    """Return in what two texts of a splits.csv differ, such as "patients (such as that of a.xml) are"."""
    one, other = (pd.read_csv(StringIO(text), dtype=str, keep_default_na=False) for text in (before, now))
    if list(one) != list(other):
        return "columns (labels, age, sex or folds) are"
    if list(one["file"]) != list(other["file"]):
        changed = [file for file in one["file"] if file not in set(other["file"])] or list(other["file"])
        return f"files (such as {changed[0]}) are"
    words = {"patient_id": "patients", "digest": "contents of files", "waveform": "signals"}
    for column in one:
        differs = (one[column] != other[column]).to_numpy()
        if differs.any():
            parts = "parts" if column in part_columns(one) else f"labels or values in column {column}"
            return f"{words.get(column, parts)} (such as that of {one['file'][differs].iloc[0]}) are"
    return "labels, files or patients are"


def _check_archive(path: Path) -> None:
    """Raise a ValueError where a checkpoint, a zip archive, is not as written; torch does not check that."""
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise ValueError(f"{damaged}: found another checksum than when it was written")


def weights_digest(weights: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of a model's ``state_dict``: names, shapes and values."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name} {tuple(state[name].shape)}".encode())
        digest.update(state[name].reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def new_folder(output_dir: Path, script: str) -> Path:
    """Make a folder named after script and time; a second run of the same second gets a number."""
    stem = f"{script}-{datetime.now():%Y%m%d-%H%M%S}"
    for number in range(1, 1000):
        folder = output_dir / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            if not output_dir.is_dir():
                break
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be made ({error.strerror}); name another place with --output-dir"
            ) from None
    raise UserError(f"{output_dir}: found something else there, expected a folder for runs (--output-dir)")
