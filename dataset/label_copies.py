"""Columns that give a label away: a copy of it under another name, or values that alone separate the ECGs.

Such a column was filled in because of the diagnosis. A network that sees it, or is compared with it, is
measured against the answer.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from metrics.bootstrap import auroc_of_counts, rank_counts

SEPARATES = 0.95  # AUROC of one column, in either direction; no sign of an ECG and no clinical score has it
FEWEST = 5  # ECGs with and without the label; fewer are easily separated by chance


def is_copy(values: np.ndarray, y_true: np.ndarray) -> bool:
    """Return whether a column is the label in other words, or is known just where the label is positive.

    Parameters
    ----------
    values, y_true : float arrays of shape (n_ecgs,), nan where not known
    """
    for column, truth in _columns(values, y_true):
        with_label, without = np.unique(column[truth == 1]), np.unique(column[truth == 0])
        if len(with_label) == len(without) == 1 and with_label[0] != without[0]:
            return True
    return False


def separation(values: np.ndarray, y_true: np.ndarray) -> float:
    """Return the AUROC of a column, or of whether it is known, the larger, 0.5 or more; nan if undefined."""
    aurocs = [
        auroc_of_counts(rank_counts(truth, column)).item() for column, truth in _columns(values, y_true)
    ]
    return max((max(auroc, 1 - auroc) for auroc in aurocs), default=np.nan)


def separating_columns(columns: pd.DataFrame, targets: np.ndarray, label_names: Sequence[str]) -> list[str]:
    """Return a line for each column and label that it separates, for a reader.

    Parameters
    ----------
    columns : numbers, nan where not known, (n_ecgs, n_columns)
    targets : float array of shape (n_ecgs, n_labels), nan where not known
    """
    lines = []
    for column, values in columns.items():
        for label, y_true in zip(label_names, targets.T, strict=True):
            auroc = separation(values.to_numpy(float), y_true)
            if auroc > SEPARATES:
                lines.append(
                    f"{column} alone separates {label} (AUROC {auroc:.3f}): is it known when the ECG is "
                    "taken, and not because of the diagnosis?"
                )
    return lines


def _columns(values: np.ndarray, y_true: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the values, and whether there are any, each with the labels; nothing of too few ECGs."""
    labelled = ~np.isnan(y_true)
    values, y_true = values[labelled], y_true[labelled]
    known = ~np.isnan(values)
    pairs = [(values[known], y_true[known]), (known.astype(float), y_true)]
    return [
        (column, truth) for column, truth in pairs if min((truth == 1).sum(), (truth == 0).sum()) >= FEWEST
    ]
