"""What the networks of a comparison must beat: columns of the labels table, and the ECG signs."""

import numpy as np
import pandas as pd

from dataset.clinical import value_of
from dataset.cohort import Cohort
from ecg.signs import measure_signals
from inference.comparison import Comparison, Scores
from inference.sign_baseline import out_of_fold_scores, probe_sets
from inference.strata import text_of
from runtime.errors import UserError


def numbers_of(cohort: Cohort, column: str) -> np.ndarray:
    """Return a column of the labels table as numbers; nan where it is empty."""
    text = text_of(cohort, column)
    numbers = pd.to_numeric(text.replace("", np.nan), errors="coerce")
    wrong = text[numbers.isna() & (text != "")]
    if len(wrong):
        raise UserError(f"column {column}: found {wrong.iloc[0]!r}, expected numbers")
    return numbers.to_numpy(float)


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
