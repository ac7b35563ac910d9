"""Points of the ROC curve at which tests are compared, fixed on other ECGs than those that they judge.

A point that is read off the tested ECGs' own curve fits their accidents too. Where validation ECGs, or the
out-of-fold scores of other folds, fix its threshold, the tested ECGs say what it does.
"""

import math
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from metrics.checks import checked, patient_index
from metrics.decisions import confusion_metrics, share_with_interval
from metrics.metric import Metric
from metrics.rule_out import MIN_PATIENTS
from metrics.thresholds import choose_threshold

POINTS = {"at_specificity_90": "specificity>=0.9", "at_sensitivity_95": "sensitivity>=0.95"}
FEWEST_PATIENTS = {"at_specificity_90": (0, 50), "at_sensitivity_95": (1, MIN_PATIENTS)}  # of which class


def fixed_points(y_true: ArrayLike, y_score: ArrayLike, patient_ids: Sequence) -> dict[str, float]:
    """Return the thresholds of 90 % specificity and of 95 % sensitivity, from ECGs that are not tested.

    Parameters
    ----------
    y_true, y_score : array of shape (n_ecgs,)
    patient_ids : sequence of length n_ecgs

    Returns
    -------
    dict
        The keys of `POINTS`; nan where fewer than 50 patients without, or 75 with the disease fix it.
    """
    y_true, y_score = checked(y_true, y_score)
    patients = patient_index(patient_ids, len(y_true))
    thresholds = {}
    for name, policy in POINTS.items():
        label, fewest = FEWEST_PATIENTS[name]
        thresholds[name] = math.nan
        if len(np.unique(patients[y_true == label])) >= fewest and y_true.min() < y_true.max():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it flags no ECG, or all: its numbers will say so
                thresholds[name] = choose_threshold(y_true, y_score, policy)
    return thresholds


def judged_point(
    y_true: np.ndarray, y_score: np.ndarray, threshold: np.ndarray, patients: np.ndarray, confidence: float
) -> dict[str, float | Metric]:
    """Return what a fixed point does on the tested ECGs.

    Parameters
    ----------
    y_true, y_score, threshold, patients : array of shape (n_ecgs,)

    Returns
    -------
    dict
        `threshold` (the median), `sensitivity`, `specificity`, `npv`; and of 100 ECGs those below,
        `below_per_100`, and the diseased among them, `missed_per_100`. All but the first are a `Metric`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same as those of the threshold
        decided = confusion_metrics(y_true, y_score, threshold, confidence, patients)
    below = y_score < threshold
    return {
        "threshold": float(np.median(threshold)),
        **{name: decided[name] for name in ("sensitivity", "specificity", "npv")},
        "below_per_100": _per_100(below, patients, confidence),
        "missed_per_100": _per_100(below & (y_true == 1), patients, confidence),
    }


def _per_100(found: np.ndarray, patients: np.ndarray, confidence: float) -> Metric:
    share = share_with_interval(found, patients, confidence)
    return Metric(100 * share.value, 100 * share.low, 100 * share.high, successes=share.successes, n=share.n)
