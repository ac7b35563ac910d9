"""Several runs on the same ECGs, side by side: their scores, aligned, and those of their ensemble.

A run's scores are those of its test ECGs; of a cross-validation, the out-of-fold scores of all.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cohort_table import PARTS
from metrics_and_performance import choose_threshold
from run_folder import RunError

KEYS = ["file", "repeat"]


@dataclass(frozen=True)
class Scores:
    """One model's scores of the ECGs that all models of a comparison have scored.

    Attributes
    ----------
    name : of the model, for people.
    y_score : float array of shape (n_ecgs, n_labels).
    thresholds : float array of that shape; those of the fold that scored the ECG.
    """

    name: str
    y_score: np.ndarray
    thresholds: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """What several runs say of the same ECGs.

    Attributes
    ----------
    table : DataFrame with a line an ECG and repeat: file, repeat, fold, patient_id, y_true_<label>.
    splits : DataFrame with a line an ECG: the runs' splits.csv.
    folds : of each repeat, the parts of its folds: for train, validation and test, lines of ``splits``.
    label_names : the labels that all runs have.
    models : the scores of each run, in the order in which they were named, then of their ensemble.
    """

    table: pd.DataFrame
    splits: pd.DataFrame
    folds: dict[int, list[dict[str, np.ndarray]]]
    label_names: list[str]
    models: list[Scores]


def read_comparison(folders: Sequence[Path], names: Sequence[str]) -> Comparison:
    """Read finished runs on the same ECGs, labels and splits.

    Raises
    ------
    RunError : a run is not finished, or it tested other ECGs, other labels or in other folds than the first.
    """
    runs = [_FinishedRun(folder) for folder in folders]
    first = runs[0]
    for run in runs[1:]:
        _check_same(first, run)
    tested = [run.predictions("test") for run in runs]
    models = [
        Scores(name, table[run.columns("y_score")].to_numpy(), run.thresholds_of(table))
        for name, run, table in zip(names, runs, tested, strict=True)
    ]
    if len(runs) > 1:
        models.append(_ensemble(runs, models, tested[0]))
    splits = pd.read_csv(first.folder / "splits.csv", dtype={"file": str, "patient_id": str})
    table = tested[0].drop(columns=first.columns("y_score"))
    return Comparison(table, splits, _folds(splits, table), first.label_names, models)


def _folds(splits: pd.DataFrame, table: pd.DataFrame) -> dict[int, list[dict[str, np.ndarray]]]:
    folds: dict[int, list[dict[str, np.ndarray]]] = {}
    for repeat, fold in (
        table[["repeat", "fold"]].drop_duplicates().sort_values("fold").itertuples(index=False)
    ):
        part_of = splits[f"fold-{fold}" if fold else "split"].to_numpy()
        folds.setdefault(repeat, []).append({part: np.flatnonzero(part_of == part) for part in PARTS})
    return folds


class _FinishedRun:
    """The files of one run that a comparison needs."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.label_names = list(_read_json(folder / "metrics.json")["labels"])
        folds = sorted(folder.glob("fold-*"), key=lambda path: int(path.name.removeprefix("fold-")))
        self.folders = {int(path.name.removeprefix("fold-")): path for path in folds} or {0: folder}

    def columns(self, kind: str) -> list[str]:
        return [f"{kind}_{name}" for name in self.label_names]

    def predictions(self, part: str) -> pd.DataFrame:
        """Return the predictions of one part, of all folds, sorted by file and repeat."""
        tables = [
            pd.read_csv(folder / "predictions.csv", dtype={"file": str, "patient_id": str})
            for folder in self.folders.values()
        ]
        table = pd.concat(tables, ignore_index=True)
        table = table[table["split"] == part]
        return table.sort_values([*KEYS, "fold"], kind="stable").reset_index(drop=True)

    def thresholds_of(self, table: pd.DataFrame) -> np.ndarray:
        """Return the thresholds of each line's fold, (n_lines, n_labels)."""
        of_fold = {
            fold: _read_json(folder / "model.json")["thresholds"] for fold, folder in self.folders.items()
        }
        return np.array([of_fold[fold] for fold in table["fold"]])

    @property
    def threshold_policy(self) -> str:
        return _read_json(next(iter(self.folders.values())) / "model.json")["threshold_policy"]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: found no finished run ({error}), expected one") from None


def _check_same(first: _FinishedRun, other: _FinishedRun) -> None:
    if other.label_names != first.label_names:
        raise RunError(
            f"{other.folder}: found the labels {', '.join(other.label_names)}, "
            f"expected those of {first.folder}: {', '.join(first.label_names)}"
        )
    one, two = (run.predictions("test")[[*KEYS, "fold", *run.columns("y_true")]] for run in (first, other))
    if not one.equals(two):
        raise RunError(
            f"{other.folder}: found other test ECGs, labels or folds than in {first.folder}, "
            "expected the same: train both with one --seed, --folds and cohort"
        )


def _ensemble(runs: list[_FinishedRun], models: list[Scores], tested: pd.DataFrame) -> Scores:
    """Return the mean of all scores; its thresholds are chosen as theirs, in each fold on validation."""
    validated = [run.predictions("validation") for run in runs]
    means = np.mean([table[runs[0].columns("y_score")].to_numpy() for table in validated], axis=0)
    of_fold = {}
    for fold in runs[0].folders:
        rows = (validated[0]["fold"] == fold).to_numpy()
        y_true = validated[0].loc[rows, runs[0].columns("y_true")].to_numpy()
        of_fold[fold] = [
            choose_threshold(true, score, runs[0].threshold_policy)
            for true, score in zip(y_true.T, means[rows].T, strict=True)
        ]
    y_score = np.mean([model.y_score for model in models], axis=0)
    return Scores("ensemble", y_score, np.array([of_fold[fold] for fold in tested["fold"]]))
