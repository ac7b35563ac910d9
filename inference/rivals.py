"""What the networks of a comparison must beat: columns of the table, the ECG signs, random kernels."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from dataset.clinical import value_of
from dataset.cohort import Cohort
from dataset.label_copies import is_copy, separating_columns
from dataset.sign_columns import PREFIX, measured_signs
from inference.comparison import Comparison, Scores, lines_of
from inference.random_kernels import at_low_rate, kernel_scores
from inference.sign_baseline import out_of_fold_scores, probe_sets
from inference.strata import text_of
from runtime.errors import UserError

KERNELS = "random kernels"  # its name among the models of a comparison
CHUNK = 64  # ECGs that are read at once

Folds = Sequence[Mapping[str, np.ndarray]]


def numbers_of(cohort: Cohort, column: str) -> np.ndarray:
    """Return a column of the labels table as numbers, as the head would see it; nan where it is not known."""
    text = text_of(cohort, column)
    numbers = [value_of(column, one) for one in text]
    wrong = [one for one, number in zip(text, numbers, strict=True) if number is None]
    if wrong:
        raise UserError(f"column {column}: found {wrong[0]!r}, expected numbers")
    return np.array(numbers, float)


def rival_scores(
    cohort: Cohort, columns: Sequence[str], lines: np.ndarray, label_names: Sequence[str]
) -> list[Scores]:
    """Return columns of the labels table as scores of these lines of it; print which separate a label alone.

    Raises
    ------
    UserError : a column is missing, not of numbers, a copy of a label, or not known of any ECG with a label.
    """
    numbers = pd.DataFrame(
        {name: numbers_of(cohort, name)[lines] for name in columns}, index=range(len(lines))
    )
    targets = cohort.targets[lines][:, [cohort.label_names.index(name) for name in label_names]]
    for name, column in numbers.items():
        for label, y_true in zip(label_names, targets.T, strict=True):
            if name == label or is_copy(column.to_numpy(), y_true):
                raise UserError(
                    f"column {name}: found the label {label} itself, expected a score to compare with"
                )
            if not (np.isfinite(column) & np.isfinite(y_true)).any():
                raise UserError(
                    f"column {name}: found no value of a tested ECG whose {label} is known, expected a score "
                    "to compare with"
                )
    for line in separating_columns(numbers, targets, label_names):
        print(f"note        {line}")
    return [Scores(name, column.to_numpy(), None) for name, column in numbers.items()]


def sign_features(cohort: Cohort, lines: np.ndarray) -> pd.DataFrame:
    """Return the ECG signs of these lines of the table, with age and sex, as numbers, where it has them."""
    signs = measured_signs(cohort.signals, workers=0).iloc[lines].reset_index(drop=True)
    features = signs.rename(columns=lambda name: name.removeprefix(PREFIX)).astype(float)
    for column in ("age", "sex"):
        if column in cohort.table:
            values = [value_of(column, text) for text in cohort.table[column].fillna("").astype(str)]
            features[column] = np.array(values, float)[lines]  # None becomes nan
    return features


def sign_models(features: pd.DataFrame, comparison: Comparison, label: str) -> list[Scores]:
    """Return the logistic regressions, fitted in each fold on the ECGs that trained the networks."""
    if not comparison.folds:
        return []
    splits, models = comparison.splits, []
    for name, columns in probe_sets(features).items():
        score = partial(
            out_of_fold_scores, features[columns], splits[label], patient_ids=splits["patient_id"]
        )
        models.append(Scores(name, _tested_scores(comparison, score), None))
    return models


def kernel_models(cohort: Cohort, comparison: Comparison, *, seed: int) -> dict[str, list[Scores]]:
    """Return for each label the random kernels, fitted in each fold on the ECGs that trained the networks."""
    splits, names = comparison.splits, comparison.label_names
    lines = lines_of(splits, cohort)
    chunks = np.split(lines, range(CHUNK, len(lines), CHUNK))
    signals = np.concatenate([at_low_rate(cohort.signals.read(chunk)) for chunk in chunks])
    targets = splits[names].to_numpy(float)
    score = partial(kernel_scores, signals, targets, patient_ids=splits["patient_id"], seed=seed)
    y_score = _tested_scores(comparison, score)  # (n_scores, n_labels)
    return {name: [Scores(KERNELS, column, None)] for name, column in zip(names, y_score.T, strict=True)}


def _tested_scores(comparison: Comparison, score: Callable[[Folds], np.ndarray]) -> np.ndarray:
    """Return the scores of the lines of `comparison.table`; ``score`` gives those of `comparison.splits`."""
    tested, files = comparison.table, pd.Index(comparison.splits["file"])
    scores, rows = [], []
    for repeat, folds in comparison.folds.items():
        rows.append(np.flatnonzero(tested["repeat"] == repeat))
        scores.append(score(folds)[files.get_indexer(tested["file"].iloc[rows[-1]])])
    return np.concatenate(scores)[np.argsort(np.concatenate(rows))]
