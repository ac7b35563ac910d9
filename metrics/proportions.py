"""Intervals of proportions, such as a sensitivity, and McNemar's test of two models' decisions."""

import math

import numpy as np
from numpy.typing import ArrayLike

from metrics.checks import checked, normal_quantile, warn_undefined


def wilson_interval(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a proportion (Wilson 1927; method 3 of Newcombe, Stat Med 1998;17:857).

    It takes the ECGs as independent; where they are not, divide both numbers by the `design_effect`.

    Returns
    -------
    low, high : float
        (nan, nan) for n = 0.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes: expected 0 to n = {n}, found {successes}")
    z = normal_quantile(confidence)
    if n == 0:
        return math.nan, math.nan
    centre = successes + z**2 / 2
    margin = z * math.sqrt(successes * (n - successes) / n + z**2 / 4)
    low = (centre - margin) / (n + z**2) if successes > 0 else 0.0  # exact at the ends, where rounding is not
    high = (centre + margin) / (n + z**2) if successes < n else 1.0
    return low, high


def design_effect(right: np.ndarray, patients: np.ndarray) -> float:
    """Return by how much the variance of a share grows where patients have several ECGs.

    That is Rao & Scott's for clustered binary data (Biometrics 1992;48:577).

    Parameters
    ----------
    right : array of shape (n_ecgs,), of booleans
    patients : array of shape (n_ecgs,), of whole numbers from 0

    Returns
    -------
    float
        From 1, where each patient has one ECG, to the mean number of ECGs per patient, where a patient's ECGs
        always agree; the latter too where all ECGs agree, which leaves no variance to compare.
    """
    n, sizes, share = len(right), np.bincount(patients), np.mean(right) if len(right) else 0.0
    n_patients = int((sizes > 0).sum())
    if n_patients == n:
        return 1.0
    if share in (0, 1) or n_patients == 1:
        return n / n_patients
    deviation = np.bincount(patients, right) - share * sizes
    variance = n_patients / (n_patients - 1) * (deviation**2).sum() / n**2
    return max(1.0, float(variance / (share * (1 - share) / n)))


def mcnemar_test(
    y_true: ArrayLike, decision_a: ArrayLike, decision_b: ArrayLike, confidence: float = 0.95
) -> dict[str, dict]:
    """Compare the decisions of two models on the same ECGs: sensitivity, specificity and accuracy.

    McNemar's test counts the ECGs that only one model decides rightly; the p-value is exact, from the
    binomial distribution, however few they are. The interval of the difference is Bonett & Price's (J Educ
    Behav Stat 2012;37:479). Both take the ECGs as independent: with many ECGs of the same patients they claim
    too much.

    Parameters
    ----------
    y_true, decision_a, decision_b : array of shape (n_ecgs,), of 0 and 1

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
    parts = {"sensitivity": y_true == 1, "specificity": y_true == 0, "accuracy": np.ones(len(y_true), bool)}
    return {
        name: _mcnemar(name, right_a[part], right_b[part], normal_quantile(confidence))
        for name, part in parts.items()
    }


def _mcnemar(name: str, right_a: np.ndarray, right_b: np.ndarray, z: float) -> dict:
    n, only_a, only_b = len(right_a), int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    counts = {"only_a": only_a, "only_b": only_b, "n": n}
    if n == 0:
        warn_undefined(f"McNemar's test of {name}", "no ECG of this class")
        return {**dict.fromkeys(("difference", "low", "high", "p"), math.nan), **counts}
    share_a, share_b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    centre = share_a - share_b
    margin = z * math.sqrt((share_a + share_b - centre**2) / (n + 2))
    from scipy.stats import binomtest

    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    low, high = max(-1.0, centre - margin), min(1.0, centre + margin)
    return {"difference": (only_a - only_b) / n, "low": low, "high": high, "p": p, **counts}
