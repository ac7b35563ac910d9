"""How wide the interval of an AUROC will be, before anything is trained (Hanley & McNeil 1982)."""

import math

import numpy as np
from numpy.typing import ArrayLike

from metrics.checks import normal_quantile

ASSUMED_AUROC = 0.8  # between what an ECG alone says of embolism (0.7 to 0.75) and what is hoped for


def variances_of_pairs(true_auroc: float) -> tuple[float, float]:
    """Return Q1 - A² and Q2 - A²: how pairs with a common negative, or a common positive, vary together."""
    square = true_auroc**2
    return true_auroc / (2 - true_auroc) - square, 2 * square / (1 + true_auroc) - square


def standard_error(true_auroc: float, n_positive: float, n_negative: float) -> float:
    """Return the standard error of an AUROC (Hanley & McNeil, Radiology 1982;143:29)."""
    q1, q2 = variances_of_pairs(true_auroc)
    total = true_auroc * (1 - true_auroc) + (n_positive - 1) * q1 + (n_negative - 1) * q2
    return math.sqrt(total / (n_positive * n_negative))


def expected_width(
    n_positive: int, n_negative: int, *, true_auroc: float = ASSUMED_AUROC, confidence: float = 0.95
) -> float:
    """Return how wide an AUROC's interval will be: twice the normal quantile times the `standard_error`.

    Parameters
    ----------
    n_positive, n_negative : patients, who count as one ECG each.

    Returns
    -------
    float, at most 1; nan where one of the classes has nobody.
    """
    if not n_positive or not n_negative:
        return math.nan
    return min(1.0, 2 * normal_quantile(confidence) * standard_error(true_auroc, n_positive, n_negative))


def patients_of_classes(y_true: ArrayLike, patient_ids: ArrayLike) -> tuple[int, int]:
    """Return how many patients have a positive ECG, and how many none.

    Parameters
    ----------
    y_true : (n_ecgs,), 0 or 1; nan where it is not known, which does not count.
    patient_ids : (n_ecgs,)
    """
    y_true, patient_ids = np.asarray(y_true, float), np.asarray(patient_ids)
    known, positive = (len(set(patient_ids[rows])) for rows in (~np.isnan(y_true), y_true == 1))
    return positive, known - positive
