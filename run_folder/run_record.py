"""A finished run, read from its folder: what a report about it can say, and nothing else.

Only text is read (CSV, JSON, YAML), so that a report needs neither the model nor torch.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cohorts.columns import CLINICAL, GROUP_COLUMNS, RESERVED
from cohorts.synthetic import DEMO_FOLDER
from ecg.recording import MIN_SECONDS
from run_folder.files import RunFiles, found_again, part_columns
from run_folder.hub import is_published
from run_folder.lineage import foreign_starts
from runtime.errors import UserError

NOT_LABELS = (*RESERVED, *GROUP_COLUMNS, "digest", "waveform")  # columns of splits.csv
EXTERNAL = "external.json"  # of evaluate.py --cohort: which runs it has validated, by the names of its tables
N_ERRORS = 5  # for each label
N_MISSED = 3  # of them, those with the disease that scored lowest: a missed embolism costs more


class ExternalValidation(NamedTuple):
    """How a run did on ECGs of a cohort that it had not seen: from a folder of ``evaluate.py --cohort``.

    Attributes
    ----------
    folder : name of that folder.
    labels : the run's metrics there, by label.
    """

    folder: str
    labels: dict[str, dict]


@dataclass(frozen=True)
class RunRecord:
    """What one run folder holds; a file that is not there is an empty table or an empty dictionary.

    Attributes
    ----------
    folder : Path
    metrics : `metrics.json`; empty where no set was scored.
    predictions : the rows of `predictions.csv` that `metrics` is about.
    splits, rejected, quality : the tables of these names.
    logs : `log.csv` of a single split, under "", or of each fold, under "fold 1", "fold 2", …
    descriptions : `model.json` of a single split, under 0, or of each fold, under its number.
    hyperparameters, environment : `hyperparameters.yml` and `environment.json`.
    external : its external validations whose folders lie beside that of the run, the oldest first.
    foreign : the files of other models' weights that it began from; see `lineage.foreign_starts`.
    """

    folder: Path
    metrics: dict
    predictions: pd.DataFrame
    splits: pd.DataFrame
    rejected: pd.DataFrame
    quality: pd.DataFrame
    logs: dict[str, pd.DataFrame] = field(default_factory=dict)
    descriptions: dict[int, dict] = field(default_factory=dict)
    hyperparameters: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)
    external: list[ExternalValidation] = field(default_factory=list)
    foreign: list[dict[str, str]] = field(default_factory=list)

    @property
    def label_names(self) -> list[str]:
        if self.metrics:
            return list(self.metrics["labels"])
        others = ("fold-", CLINICAL)
        return [name for name in self.splits if name not in NOT_LABELS and not name.startswith(others)]

    @cached_property
    def fold_columns(self) -> list[str]:
        """The columns of `splits` with each ECG's part: "split", or "fold-1", "fold-2", …"""
        return part_columns(self.splits)

    @property
    def is_cross_validation(self) -> bool:
        return self.fold_columns != ["split"] and len(self.fold_columns) > 0

    @property
    def n_folds(self) -> int:
        """Folds of one repeat of a cross-validation; 0 for a single split."""
        return int(self.metrics.get("n_folds", len(self.fold_columns))) if self.is_cross_validation else 0

    @property
    def is_demo(self) -> bool:
        """Whether the ECGs are the synthetic ones."""
        has_no_folder = bool(self.hyperparameters) and not self.hyperparameters.get("data_dir")
        return has_no_folder and not is_published(self.folder)

    @property
    def data_dir(self) -> Path:
        values = self.hyperparameters
        return found_again(self.folder, values, values.get("data_dir") or DEMO_FOLDER)

    @property
    def min_seconds(self) -> float:
        """The shortest length, s, of a recording that was used; the first versions did not write it."""
        return float(self.hyperparameters.get("min_seconds") or MIN_SECONDS)

    def scored_ecgs(self, name: str) -> pd.DataFrame:
        """Return file, patient_id, y_true, y_score and threshold of the ECGs whose label is known."""
        scored = self.predictions
        table = scored[["file"]].assign(
            patient_id=scored["patient_id"].fillna(""),
            y_true=scored[f"y_true_{name}"].astype(float),
            y_score=scored[f"y_score_{name}"].astype(float),
            threshold=self.thresholds(name),
        )
        return table[table["y_true"].notna()].astype({"y_true": int})

    def repeated_scores(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return each tested ECG's score and decision in each repeat of a cross-validation.

        Returns
        -------
        two arrays of shape (n_ecgs, n_repeats): scores, nan where a repeat has none, and whether they reach
        the threshold of their fold. One column where nothing was repeated.
        """
        scored = self.predictions
        table = pd.DataFrame(
            {
                "file": scored["file"],
                "repeat": scored.get("repeat", 1),
                "score": scored[f"y_score_{name}"].astype(float),
                "flagged": scored[f"y_score_{name}"].astype(float) >= self.thresholds(name),
            }
        ).drop_duplicates(["file", "repeat"])
        by_repeat = table.pivot(index="file", columns="repeat")
        return by_repeat["score"].to_numpy(float), by_repeat["flagged"].eq(True).to_numpy()

    def thresholds(self, name: str) -> np.ndarray:
        """Return the threshold that decided on each row, of shape (n_rows,): each fold has its own."""
        column = self.label_names.index(name)
        fold_thresholds = {
            number: float(description["thresholds"][column])
            for number, description in self.descriptions.items()
        }
        folds = self.predictions.get("fold", pd.Series(0, self.predictions.index))
        stated = self.metrics["labels"][name].get("threshold")
        default = float(stated) if isinstance(stated, (int, float)) else np.nan
        if self.is_cross_validation:
            return folds.map(fold_thresholds).fillna(default).to_numpy(dtype=np.float64)
        threshold = fold_thresholds.get(0, default) if np.isnan(default) else default
        return np.full(len(self.predictions), threshold)


def read_run(folder: str | Path) -> RunRecord:
    """Read a run folder; only `splits.csv` or `metrics.json` must be there for a report to say something.

    Raises
    ------
    UserError : a file is damaged.
    """
    run = RunFiles(folder)
    metrics = run.metrics() if run.is_tested else {}
    part, has_scores = metrics.get("split", "test"), run.has("predictions.csv")
    folds = {f"fold {number}" if number else "": fold for number, fold in run.folds().items()}
    return RunRecord(
        folder=run.folder,
        metrics=metrics,
        predictions=run.predictions(part) if has_scores else pd.DataFrame(),
        splits=_table(run, "splits.csv", "file", "patient_id"),
        rejected=_table(run, "rejected.csv", "file", "reason"),
        quality=_table(run, "quality.csv", "file", "check", "verdict", "finding"),
        logs={name: fold.log() for name, fold in folds.items() if fold.has("log.csv")},
        descriptions={
            number: fold.json("model.json") for number, fold in run.folds().items() if fold.has("model.json")
        },
        hyperparameters=run.hyperparameters() if run.has("hyperparameters.yml") else {},
        environment=run.json("environment.json") if run.has("environment.json") else {},
        external=_external_validations(run.folder),
        foreign=_foreign(run),
    )


def _external_validations(run: Path) -> list[ExternalValidation]:
    """Return the validations beside a run that name it; one that cannot be read is none."""
    found = []
    for path in sorted(run.resolve().parent.glob(f"*/{EXTERNAL}")):
        files = RunFiles(path.parent)
        try:
            names = files.json(EXTERNAL)["runs"]
            mine = [
                name for name, folder in names.items() if (path.parent / folder).resolve() == run.resolve()
            ]
            metrics = files.metrics() if mine else {}
        except (UserError, KeyError, TypeError, AttributeError):
            continue
        for name in mine:
            labels = {label: models[name] for label, models in metrics.items() if name in models}
            found += [ExternalValidation(path.parent.name, labels)] if labels else []
    return found


def _foreign(run: RunFiles) -> list[dict[str, str]]:
    """Return the files of other models' weights that a run began from, none if that cannot be read."""
    try:
        return foreign_starts(run.folder) if run.has("splits.csv") else []
    except UserError:
        return []


def _table(run: RunFiles, name: str, *columns: str) -> pd.DataFrame:
    """Return a table; empty where there is none."""
    return run.table(name) if run.has(name) else pd.DataFrame(columns=columns)


def most_confident_errors(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the missed ECGs with the lowest scores, then the false alarms with the highest.

    Parameters
    ----------
    table : DataFrame with the columns file, y_true (0 or 1), y_score and threshold

    Returns
    -------
    DataFrame
        At most five of its rows, each of another file among those of its kind.
    """
    wrong = table[(table["y_score"] >= table["threshold"]) != (table["y_true"] == 1)].dropna()
    missed = wrong[wrong["y_true"] == 1].sort_values("y_score", kind="stable").drop_duplicates("file")
    alarms = wrong[wrong["y_true"] == 0].sort_values("y_score", ascending=False, kind="stable")
    alarms = alarms.drop_duplicates("file")
    n_missed = min(len(missed), max(N_MISSED, N_ERRORS - len(alarms)))
    return pd.concat([missed.head(n_missed), alarms.head(N_ERRORS - n_missed)])
