"""Intervals of proportions, such as a sensitivity."""

import math

import numpy as np

from metrics.checks import normal_quantile


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
