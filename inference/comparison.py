"""Several runs on the same ECGs, side by side: their scores, aligned, and those of their ensemble.

A run's scores are those of its test ECGs; of a cross-validation, the out-of-fold scores of all. On another
hospital's cohort every ECG is scored by all models of a run together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from cohorts.columns import PARTS
from dataset.cohort import Cohort
from ecg.recording import MIN_SECONDS
from inference.scoring import Scorer
from inference.unseen import check_unseen
from metrics.log_odds import mean_score
from metrics_and_performance import choose_threshold
from run_folder.ensemble import ENSEMBLE, label_names_of
from run_folder.files import RunFiles
from run_folder.hub import is_published
from run_folder.repeats import first_repeat
from runtime.errors import UserError
from runtime.messages import counted

KEYS = ["file", "repeat"]
CHUNK = 64  # ECGs scored at once


@dataclass(frozen=True)
class Scores:
    """One model's scores of the ECGs that all models of a comparison have scored.

    Attributes
    ----------
    name : the model's, for a reader.
    y_score : float array of shape (n_ecgs, n_labels).
    thresholds : float array of that shape, those of the fold that scored the ECG; None: it decides nothing.
    """

    name: str
    y_score: np.ndarray
    thresholds: np.ndarray | None

    def select(self, ecgs: np.ndarray) -> "Scores":
        """Return the scores of some ECGs."""
        thresholds = None if self.thresholds is None else self.thresholds[ecgs]
        return Scores(self.name, self.y_score[ecgs], thresholds)

    def select_labels(self, numbers: Sequence[int]) -> "Scores":
        """Return the scores of some labels, by the numbers of their columns."""
        return Scores(self.name, self.y_score[:, numbers], self.thresholds[:, numbers])

    def for_label(self, number: int) -> "Scores":
        """Return the scores of one label, of shape (n_ecgs,)."""
        return Scores(self.name, self.y_score[:, number], self.thresholds[:, number])


@dataclass(frozen=True)
class Comparison:
    """Several runs' scores of the same ECGs.

    Attributes
    ----------
    table : DataFrame with one line per ECG and repeat: file, digest of its content, patient_id, repeat, fold,
        y_true_<label>.
    splits : DataFrame with one line per ECG: the runs' splits.csv; of another hospital's cohort, ``table``.
    folds : for each repeat, one dictionary per fold: the lines of ``splits`` in train, validation and test;
        empty where nothing was trained on these ECGs.
    label_names : the labels that all runs have, and that are known of some of these ECGs.
    models : the scores of each run, in the order given, then those of their ensemble.
    members : the folders of all single models.
    ensemble_thresholds : float array of shape (n_folds, n_labels), those of the ensemble; None for one run.
    unseen : how another hospital's ECGs were compared with those that the runs have seen, in sentences.
    min_seconds : the shortest length of a recording that was used.
    """

    table: pd.DataFrame
    splits: pd.DataFrame
    folds: dict[int, list[dict[str, np.ndarray]]]
    label_names: list[str]
    models: list[Scores]
    members: list[Path]
    ensemble_thresholds: np.ndarray | None
    unseen: Sequence[str] = ()
    min_seconds: float = MIN_SECONDS

    def first_repeat(self) -> "Comparison":
        """Return the scores of the first repeat of a cross-validation, each ECG once."""
        first = first_repeat(self.table)
        return replace(self, table=self.table[first], models=[model.select(first) for model in self.models])


def read_comparison(folders: Sequence[Path], names: Sequence[str]) -> Comparison:
    """Read finished runs on the same ECGs, labels and splits.

    Raises
    ------
    UserError : a run is not finished, or it tested other ECGs, other labels or in other folds than the first.
    """
    runs = [_FinishedRun(folder) for folder in folders]
    first = runs[0]
    for run in runs[1:]:
        _check_same(first, run)
    tested = [run.predictions("test", first.files) for run in runs]
    models = [
        Scores(name, table[run.columns("y_score")].to_numpy(), run.thresholds_of(table))
        for name, run, table in zip(names, runs, tested, strict=True)
    ]
    fold_thresholds = _ensemble_thresholds(runs) if len(runs) > 1 else None
    if fold_thresholds is not None:
        thresholds = np.array([fold_thresholds[fold] for fold in tested[0]["fold"]])
        models.append(Scores(ENSEMBLE, mean_score(np.stack([m.y_score for m in models])), thresholds))
    table = tested[0].drop(columns=first.columns("y_score"))
    return Comparison(
        table=table,
        splits=first.splits,
        folds=_folds(first.splits, table),
        label_names=first.label_names,
        models=models,
        members=[fold.folder for run in runs for fold in run.folds.values()],
        ensemble_thresholds=None if fold_thresholds is None else np.array(list(fold_thresholds.values())),
        min_seconds=first.min_seconds,
    )


def score_cohort(
    folders: Sequence[Path], names: Sequence[str], cohort: Cohort, device: torch.device
) -> Comparison:
    """Let runs score the ECGs of a cohort that none of them has seen, for the labels that are known there.

    Raises
    ------
    UserError : a run cannot score, has other labels than the first, or has seen an ECG or a patient of the
        cohort.
    """
    unseen = check_unseen(folders, cohort)
    for sentence in unseen:
        print(f"unseen      {sentence}")
    truth = {
        name: targets
        for name, targets in zip(cohort.label_names, cohort.targets.T, strict=True)
        if np.isfinite(targets).any()
    }
    run_labels = label_names_of(folders[0])
    columns = [run_labels.index(name) for name in truth]
    models = [
        _scores_of_cohort(folder, name, cohort, run_labels, device).select_labels(columns)
        for folder, name in zip(folders, names, strict=True)
    ]
    if len(models) > 1:
        y_score = mean_score(np.stack([model.y_score for model in models]))
        thresholds = mean_score(np.stack([model.thresholds for model in models]))
        models.append(Scores(ENSEMBLE, y_score, thresholds))
    table = cohort.table[["file", "digest", "patient_id"]].assign(repeat=1, fold=0)
    for name, targets in truth.items():
        table[f"y_true_{name}"] = pd.array(targets, "Int64")  # empty: unknown
    min_seconds = cohort.reading.min_seconds
    return Comparison(table, table, {}, list(truth), models, [], None, unseen, min_seconds)


def _scores_of_cohort(
    folder: Path, name: str, cohort: Cohort, run_labels: list[str], device: torch.device
) -> Scores:
    scorer = Scorer.load(folder, device)
    if scorer.label_names != run_labels:
        raise UserError(
            f"{folder}: found the labels {', '.join(scorer.label_names)}, expected those of the first "
            f"run: {', '.join(run_labels)}"
        )
    if scorer.window_start != cohort.reading.window_start:
        raise UserError(
            f"{folder}: found --window-start {scorer.window_start:g}, expected that of the first run: "
            f"{cohort.reading.window_start:g}"
        )
    scorer.accept_leads(cohort.reading.min_leads)
    _check_min_seconds(folder, scorer.min_seconds, cohort.reading.min_seconds)
    clinical = cohort.clinical[scorer.clinical_columns].to_numpy(np.float32)
    chunks = _chunks(len(cohort.table), name)
    scores = [scorer.score(cohort.signals.read(ecgs), clinical[ecgs]) for ecgs in chunks]
    return Scores(name, np.concatenate(scores), np.tile(scorer.thresholds, (len(cohort.table), 1)))


def _check_min_seconds(folder: Path, found: float, expected: float) -> None:
    if found != expected:
        raise UserError(
            f"{folder}: found --min-seconds {found:g}, expected that of the first run: {expected:g}"
        )


def _chunks(n_ecgs: int, name: str) -> Iterator[np.ndarray]:
    with tqdm(total=n_ecgs, desc=name, unit="ECG", disable=None, leave=False) as bar:
        for first in range(0, n_ecgs, CHUNK):
            ecgs = np.arange(first, min(first + CHUNK, n_ecgs))
            yield ecgs
            bar.update(len(ecgs))


def lines_of(table: pd.DataFrame, cohort: Cohort) -> np.ndarray:
    """Return the line of the cohort's table that each line of another table belongs to.

    It has the same file with the same content or, where a file has another name now, the same content.

    Parameters
    ----------
    table : DataFrame with the columns file and digest.

    Raises
    ------
    UserError : a file is gone, or has another content.
    """
    own, others = (pd.MultiIndex.from_frame(one[["file", "digest"]]) for one in (cohort.table, table))
    lines = own.get_indexer(others)
    elsewhere = np.flatnonzero(lines < 0)
    once = np.flatnonzero(~cohort.table["digest"].duplicated(keep=False))
    renamed = pd.Index(cohort.table["digest"].iloc[once]).get_indexer(table["digest"].iloc[elsewhere])
    if (renamed < 0).any():
        _refuse_lost(table["file"].iloc[elsewhere[renamed < 0]], cohort)
    lines[elsewhere] = once[renamed]
    return lines


def _refuse_lost(files: pd.Series, cohort: Cohort) -> NoReturn:
    """Raise the error of files whose content is not in the cohort, those first that have another one now."""
    changed = files[files.isin(cohort.table["file"])]
    found = "found no longer in the cohort"
    if len(changed):
        files, found = changed, "found another content than in splits.csv of the runs"
    others = f" and {files.nunique() - 1:,} others" if files.nunique() > 1 else ""
    expected = "expected the ECGs that the runs were tested on (--data-dir names their folder)"
    raise UserError(f"{files.iloc[0]}{others}: {found}, {expected}")


def note_changed_labels(labels: pd.DataFrame, cohort: Cohort, lines: np.ndarray) -> None:
    """Print how many ECGs have another label in the cohort's table than with the runs, whose are used.

    Parameters
    ----------
    labels : DataFrame with the runs' labels, of their names, and the column file.
    lines : as `lines_of` returns them for the same table.
    """
    for name, targets in zip(cohort.label_names, cohort.targets[lines].T, strict=True):
        if name not in labels:
            continue
        changed = ~np.isclose(labels[name].to_numpy(float), targets, equal_nan=True)
        files = labels.loc[changed, "file"].drop_duplicates()
        if len(files):
            print(
                f"note        labels of {counted(len(files), 'ECG')} differ from those of the runs ({name}, "
                f"such as {files.iloc[0]}): the runs' are used; train again to use the others"
            )


def _folds(splits: pd.DataFrame, table: pd.DataFrame) -> dict[int, list[dict[str, np.ndarray]]]:
    folds: dict[int, list[dict[str, np.ndarray]]] = {}
    pairs = table[["repeat", "fold"]].drop_duplicates().sort_values("fold")
    for repeat, fold in pairs.itertuples(index=False):
        part_of = splits[f"fold-{fold}" if fold else "split"].to_numpy()
        folds.setdefault(repeat, []).append({part: np.flatnonzero(part_of == part) for part in PARTS})
    return folds


class _FinishedRun:
    """What a comparison needs of one run."""

    def __init__(self, folder: Path):
        self.folder, run = folder, RunFiles(folder)
        if is_published(folder):
            raise UserError(
                f"{folder}: found a folder of export.py --hub, without the scores of its test ECGs; expected "
                "a run, or --cohort with ECGs that it can score"
            )
        if not (run.is_tested and run.has("splits.csv")):
            run.load_description()  # raises the error: it is not finished, or only pretrained
        self.label_names = list(run.metrics()["labels"])
        self.folds = run.folds()
        self.splits = run.splits()
        self.files = pd.Index(self.splits["file"])
        descriptions = [fold.load_description() for fold in self.folds.values()]
        self.threshold_policy = descriptions[0].threshold_policy
        self.min_seconds = descriptions[0].min_seconds
        self.fold_thresholds = np.array([one.thresholds for one in descriptions])  # (n_folds, n_labels)

    def columns(self, kind: str) -> list[str]:
        return [f"{kind}_{name}" for name in self.label_names]

    def predictions(self, part: str, files: pd.Index) -> pd.DataFrame:
        """Return the predictions of one part with each file's digest, by fold and then in the order of files.

        With the run's own files that is the order in which it was evaluated, so that the same patients are
        resampled for its intervals.
        """
        table = pd.concat([fold.predictions(part) for fold in self.folds.values()], ignore_index=True)
        table["digest"] = self.splits["digest"].reindex(self.files.get_indexer(table["file"])).to_numpy()
        order = np.lexsort([files.get_indexer(table["file"]), table["fold"]])
        return table.iloc[order].reset_index(drop=True)

    def thresholds_of(self, table: pd.DataFrame) -> np.ndarray:
        """Return the thresholds of each line's fold, (n_lines, n_labels)."""
        return self.fold_thresholds[pd.Index(self.folds).get_indexer(table["fold"])]


def _check_same(first: _FinishedRun, other: _FinishedRun) -> None:
    if other.label_names != first.label_names:
        raise UserError(
            f"{other.folder}: found the labels {', '.join(other.label_names)}, "
            f"expected those of {first.folder}: {', '.join(first.label_names)}"
        )
    _check_min_seconds(other.folder, other.min_seconds, first.min_seconds)
    columns = [*KEYS, "digest", "fold", *first.columns("y_true")]
    one, two = (run.predictions("test", first.files)[columns] for run in (first, other))
    if not one.equals(two):
        raise UserError(
            f"{other.folder}: found other test ECGs, labels or folds than in {first.folder}, "
            "expected the same: train both with one --seed, --folds and cohort"
        )


def _ensemble_thresholds(runs: list[_FinishedRun]) -> dict[int, list[float]]:
    """Return the ensemble's thresholds in each fold, chosen as the runs' are, on validation.

    Runs that were validated on other ECGs have no validation ECG in common that trained none of them, and
    runs of different policies have none to choose by: there the ensemble decides at the mean of their
    thresholds, on the scale of logits.
    """
    policies = list(dict.fromkeys(run.threshold_policy for run in runs))
    if policies == ["prevalence"]:
        means = np.mean([run.fold_thresholds for run in runs], axis=0)
        return dict(zip(runs[0].folds, means.tolist(), strict=True))
    if len(policies) > 1:
        print(
            f"note        the thresholds follow different policies ({', '.join(policies)}): the ensemble "
            "decides at their mean, which follows none of these"
        )
        return _mean_thresholds(runs)
    validated = [run.predictions("validation", runs[0].files) for run in runs]
    keys = [table[[*KEYS, "fold"]] for table in validated]
    if not all(keys[0].equals(other) for other in keys[1:]):
        print(
            "note        the runs were validated on different ECGs: the ensemble takes their mean threshold"
        )
        return _mean_thresholds(runs)
    means = mean_score(np.stack([table[runs[0].columns("y_score")].to_numpy() for table in validated]))
    fold_thresholds = {}
    for fold in runs[0].folds:
        rows = (validated[0]["fold"] == fold).to_numpy()
        y_true = validated[0].loc[rows, runs[0].columns("y_true")].to_numpy(float)
        fold_thresholds[fold] = [
            choose_threshold(true[~np.isnan(true)], score[~np.isnan(true)], runs[0].threshold_policy)
            for true, score in zip(y_true.T, means[rows].T, strict=True)
        ]
    return fold_thresholds


def _mean_thresholds(runs: list[_FinishedRun]) -> dict[int, list[float]]:
    """Return the runs' mean thresholds in each fold, on the scale of logits."""
    means = mean_score(np.stack([run.fold_thresholds for run in runs]))  # (n_folds, n_labels)
    return dict(zip(runs[0].folds, means.tolist(), strict=True))
