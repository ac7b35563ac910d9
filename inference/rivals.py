"""What the networks of a comparison must beat: columns of the labels table, and the ECG signs."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dataset.clinical import value_of
from dataset.cohort import Cohort
from dataset.label_copies import is_copy, separating_columns
from ecg.signs import measure_signals
from inference.comparison import Comparison, Scores
from inference.sign_baseline import out_of_fold_scores, probe_sets
from inference.strata import text_of
from runtime.errors import UserError


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
    UserError : a column is missing, not of numbers, or a copy of a label.
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
    for line in separating_columns(numbers, targets, label_names):
        print(f"note        {line}")
    return [Scores(name, column.to_numpy(), None) for name, column in numbers.items()]


def sign_features(cohort: Cohort, lines: np.ndarray) -> pd.DataFrame:
    """Return the ECG signs of these lines of the table, with age and sex, as numbers, where it has them."""
    features = measure_signals(cohort.signals.read([line])[0] for line in lines)
    for column in ("age", "sex"):
        if column in cohort.table:
            values = [value_of(column, text) for text in cohort.table[column].fillna("").astype(str)]
            features[column] = np.array(values, float)[lines]  # None becomes nan
    return features


def sign_models(features: pd.DataFrame, comparison: Comparison, label: str) -> list[Scores]:
    """Return the logistic regressions, fitted in each fold on the ECGs that trained the networks."""
    if not comparison.folds:
        return []
    splits, tested = comparison.splits, comparison.table
    models = []
    for name, columns in probe_sets(features).items():
        y_score = np.empty(len(tested))
        for repeat, folds in comparison.folds.items():
            scores = out_of_fold_scores(features[columns], splits[label], folds, splits["patient_id"])
            lines = (tested["repeat"] == repeat).to_numpy()
            y_score[lines] = scores[pd.Index(splits["file"]).get_indexer(tested.loc[lines, "file"])]
        models.append(Scores(name, y_score, None))
    return models
