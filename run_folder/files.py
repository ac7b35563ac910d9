"""What a run folder holds, read as it was written: tables, JSON and YAML.

Neither a model nor torch is needed, so a report is made without them. Files, patients, contents and groups
stay the text that they are: a file may be called ``NA``, a patient ``0017`` or ``1e5``.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pandas as pd

from ecg.recording import LEADS, SAMPLING_RATE
from hyperparameters.reading import read_yaml
from metrics.metric import metrics_from_json
from run_folder.descriptions import ModelDescription, PretrainedDescription
from runtime.errors import UserError, reason

TEXT = {  # columns that are text; in the others an empty field is nan
    "splits.csv": ("file", "patient_id", "digest", "waveform", "sex", "device", "site"),
    "predictions.csv": ("file", "patient_id"),
    "rejected.csv": ("file", "reason", "sex"),
    "quality.csv": ("file", "check", "verdict", "finding"),
    "strata.csv": ("label", "stratum", "value"),
}

KEY_FINGERPRINT = "patient_key_fingerprint"  # in environment.json

Content = TypeVar("Content")


class RunFiles:
    """The files of one run folder, or of a fold's, to be read.

    Where a file is missing or damaged, its reader raises a UserError: one line that names the file.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    @property
    def is_tested(self) -> bool:
        return self.has("metrics.json")

    def checkpoints(self) -> list[Path]:
        """Return the last checkpoints, of each fold that has begun."""
        return list(self.folder.rglob("checkpoint.pt"))

    def folds(self) -> dict[int, "RunFiles"]:
        """Return the folds of a cross-validation by number; of a single split the run itself, as 0."""
        numbers = sorted(int(fold.name.removeprefix("fold-")) for fold in self.folder.glob("fold-*/"))
        return {number: RunFiles(self.folder / f"fold-{number}") for number in numbers} or {0: self}

    def read(
        self, name: str, parse: Callable[[Path], Content], expected: str = "the file of a run"
    ) -> Content:
        """Return what ``parse`` makes of a file; ``expected`` ends the line of the error."""
        path = self.folder / name
        try:
            return parse(path)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{path}: found no usable {path.stem} ({reason(error)}), expected {expected}"
            ) from None

    def table(self, name: str) -> pd.DataFrame:
        """Return a CSV file; nothing but an empty field is missing."""
        as_text = dict.fromkeys(TEXT.get(name, ()), str)
        return self.read(
            name, lambda path: pd.read_csv(path, dtype=as_text, keep_default_na=False, na_values=[""])
        )

    def json(self, name: str) -> dict[str, Any]:
        return self.read(name, lambda path: json.loads(path.read_text(encoding="utf-8")))

    def splits(self) -> pd.DataFrame:
        """Return each ECG's file, patient_id, labels, and its part, in a column for each fold.

        ``digest`` is that of the file's content, ``waveform`` that of the signal at rest; runs of earlier
        versions lack the latter.
        """
        return self.table("splits.csv")

    def predictions(self, part: str) -> pd.DataFrame:
        """Return file, patient_id, fold, repeat, y_true_<label> and y_score_<label> of the ECGs of a part."""
        table = self.table("predictions.csv")
        return table[table["split"] == part].reset_index(drop=True)

    def log(self) -> pd.DataFrame:
        """Return one row per epoch; ``kept`` is 1 where its weights took the place of those kept before."""
        return self.table("log.csv").rename(columns={"best": "kept"})  # its name in the first versions

    def metrics(self) -> dict[str, Any]:
        """Return the metrics of the test, or of a comparison; see ``metrics_and_performance.evaluate``."""
        return metrics_from_json(self.json("metrics.json"))

    def hyperparameters(self) -> dict[str, Any]:
        """Return the values that the run was trained with; a run of another version may have other names."""
        return read_yaml(self.folder / "hyperparameters.yml")[0]

    def load_description(self) -> ModelDescription:
        """Return what is needed to score. A UserError where the run is not finished, or only pretrained."""
        description = self.load_any_description()
        if isinstance(description, PretrainedDescription):
            raise UserError(
                f"{self.folder}: found a pretrained trunk, expected a finished run that scores; train one "
                f"that starts from it: --init-from {self.folder}"
            )
        return description

    def load_any_description(self) -> ModelDescription | PretrainedDescription:
        """Return what is needed to start from the weights."""
        if not self.has("model.json"):
            refuse_unfinished(self.folder)
        description = self.read("model.json", _read_description, "a finished run")
        if description.leads != list(LEADS) or description.sampling_rate != SAMPLING_RATE:
            raise UserError(
                f"{self.folder / 'model.json'}: found leads {', '.join(description.leads)} at "
                f"{description.sampling_rate} Hz, expected {', '.join(LEADS)} at {SAMPLING_RATE} Hz"
            )
        return description


def found_again(folder: Path, hyperparameters: Mapping[str, Any], name: str) -> Path:
    """Return a path of a run's hyperparameters, also where the run was trained in another folder than this.

    A relative path is looked for here, then where the training was started, above its folder of runs.

    Parameters
    ----------
    folder, hyperparameters : the run's.
    name : the path, a file's or a folder's, as the hyperparameters have it.
    """
    path, parts = Path(name), Path(hyperparameters.get("output_dir") or "").parts
    above = folder.resolve().parent.parts
    if path.exists() or above[len(above) - len(parts) :] != parts:
        return path
    there = Path(*above[: len(above) - len(parts)], path)
    return there if there.exists() else path


def part_columns(splits: pd.DataFrame) -> list[str]:
    """Return the columns of ``splits.csv`` with each ECG's part: "split", or "fold-1", "fold-2", …"""
    return [name for name in splits if name == "split" or name.startswith("fold-")]


def _read_description(path: Path) -> ModelDescription | PretrainedDescription:
    values = json.loads(path.read_text(encoding="utf-8"))
    return (PretrainedDescription if "pretrained_by" in values else ModelDescription)(**values)


def refuse_unfinished(folder: Path) -> NoReturn:
    """Raise a UserError that says what a folder without ``model.json`` is."""
    fold = folder / "fold-1"
    if fold.is_dir() and (folder / "ensemble.json").exists():
        found = f"a cross-validation, expected one model; name a fold, such as {fold}"
    elif fold.is_dir():
        found = "a cross-validation that is not finished, expected a finished run; "
        found += f"--resume it, or name a finished fold, such as {fold}"
    elif (folder / "splits.csv").exists():
        found = f"a run that is not finished, expected a finished one: --resume {folder}"
    elif (folder / "checkpoint.pt").exists():
        found = f"a fold that is not finished, expected a finished one: --resume {folder.parent}"
    else:
        missing = "file" if folder.is_dir() else "folder"
        path = folder / "model.json"
        raise UserError(f"{path}: found no usable model (no such {missing}), expected a finished run")
    raise UserError(f"{folder}: found {found}")
