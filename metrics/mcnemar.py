"""McNemar's test of two models' decisions on the same ECGs, which counts patients."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from metrics.checks import checked, normal_quantile, patient_index, warn_undefined
from metrics.proportions import design_effect


def mcnemar_test(
    y_true: ArrayLike,
    decision_a: ArrayLike,
    decision_b: ArrayLike,
    patient_ids: Sequence | None = None,
    confidence: float = 0.95,
) -> dict[str, dict]:
    """Compare the decisions of two models on the same ECGs: sensitivity, specificity and accuracy.

    McNemar's exact test, with patients in the place of ECGs: each patient has a surplus, the ECGs that A
    alone decides rightly minus those that B alone does. Were the models equally good, either sign of each
    patient's surplus would be as likely; p is the share of all signs whose sum is as far from 0 as the one
    found. With one ECG per patient that is McNemar's binomial p; with many patients it is that of
    Obuchowski's chi-square (Stat Med 1998;17:1495). The interval of the difference is Bonett & Price's (J
    Educ Behav Stat 2012;37:479), its counts divided by the design effect.

    Parameters
    ----------
    y_true, decision_a, decision_b : array of shape (n_ecgs,), of 0 and 1
    patient_ids : sequence of length n_ecgs, optional; without it each ECG counts as a patient.

    Returns
    -------
    dict
        `sensitivity` (of the positives), `specificity` (of the negatives) and `accuracy` (of all), each with
        `difference` (A minus B), `low`, `high`, `p`, `only_a`, `only_b` (ECGs that only one decides rightly)
        and `n`; nan, with a warning, for a class that is missing.
    """
    (y_true, right_a), (_, right_b) = (
        (truth, decision == truth)
        for truth, decision in (checked(y_true, decision_a), checked(y_true, decision_b))
    )
    for name, decision in (("decision_a", decision_a), ("decision_b", decision_b)):
        if not np.isin(decision, (0, 1)).all():
            raise ValueError(f"{name}: expected 0 and 1 only")
    patients = np.arange(len(y_true)) if patient_ids is None else patient_index(patient_ids, len(y_true))
    parts = {"sensitivity": y_true == 1, "specificity": y_true == 0, "accuracy": np.ones(len(y_true), bool)}
    gained = right_a.astype(int) - right_b  # 1: A alone is right, -1: B alone
    return {name: _compare(name, gained[part], patients[part], confidence) for name, part in parts.items()}


def _compare(name: str, gained: np.ndarray, patients: np.ndarray, confidence: float) -> dict:
    n, only_a, only_b = len(gained), int((gained == 1).sum()), int((gained == -1).sum())
    counts = {"only_a": only_a, "only_b": only_b, "n": n}
    z = normal_quantile(confidence)
    if n == 0:
        warn_undefined(f"McNemar's test of {name}", "no ECG of this class")
        return {**dict.fromkeys(("difference", "low", "high", "p"), math.nan), **counts}
    p = _p_of_signs(np.bincount(patients, gained).astype(int))
    effect = design_effect(gained, patients)
    size = n / effect + 2
    share_a, share_b = (only_a / effect + 1) / size, (only_b / effect + 1) / size
    centre = share_a - share_b
    margin = z * math.sqrt((share_a + share_b - centre**2) / size)
    low, high = max(-1.0, centre - margin), min(1.0, centre + margin)
    return {"difference": (only_a - only_b) / n, "low": low, "high": high, "p": p, **counts}


def _p_of_signs(surplus: np.ndarray) -> float:
    """Return the share of all signs of these whole numbers whose sum is at least as far from 0 as theirs."""
    from scipy.stats import binom

    sizes, numbers = np.unique(np.abs(surplus[surplus != 0]), return_counts=True)
    chances = np.ones(1)  # of each sum of the numbers that keep a plus, from 0 on
    for size, n in zip(sizes, numbers, strict=True):
        of_size = np.zeros(size * n + 1)
        of_size[::size] = binom.pmf(np.arange(n + 1), n, 0.5)
        chances = np.convolve(chances, of_size)
    sums = 2 * np.arange(len(chances)) - (len(chances) - 1)
    return min(1.0, float(chances[np.abs(sums) >= abs(surplus.sum())].sum()))
