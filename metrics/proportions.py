"""Intervals of proportions, such as a sensitivity."""

import math

import numpy as np

from metrics.checks import check_confidence, check_share, normal_quantile


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


def clopper_pearson_interval(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a proportion (Clopper & Pearson, Biometrika 1934;26:404).

    It holds the truth at least as often as it says, whatever the proportion and however few the ECGs, where
    Wilson's misses too often near 0 and 1. With ECGs that are not independent, divide both numbers by the
    `design_effect`: the interval is then that of Korn & Graubard (Survey Methodology 1998;24:193) for an
    effective sample size, without their correction of the degrees of freedom.

    Parameters
    ----------
    successes, n : float
        Need not be whole.

    Returns
    -------
    low, high : float
        (nan, nan) for n = 0.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes: expected 0 to n = {n}, found {successes}")
    check_confidence(confidence)
    if n == 0:
        return math.nan, math.nan
    from scipy.special import betaincinv

    tail, failures = (1 - confidence) / 2, n - successes
    low = float(betaincinv(successes, failures + 1, tail)) if successes > 0 else 0.0
    high = float(betaincinv(successes + 1, failures, 1 - tail)) if failures > 0 else 1.0
    return low, high


def quantile_ranks(n: int, share: float, confidence: float = 0.95) -> tuple[int, int]:
    """Return the ranks of the two values, of n sorted ones, between which a quantile lies.

    However the values are distributed, the number of those below the quantile is binomial (David & Nagaraja,
    Order Statistics, 2003, section 7.1): no interval of a quantile rests on less.

    Parameters
    ----------
    share : of the values in the long run, that lie below the quantile

    Returns
    -------
    low, high : int
        From 1, the lowest value, to n. 0 where the quantile may lie below all values, n + 1 where above all.
    """
    check_share("share", share)
    check_confidence(confidence)
    from scipy.special import bdtr

    below = bdtr(np.arange(n + 1), n, share)  # the chance that at most this many values lie below
    tail = (1 - confidence) / 2
    return int((below <= tail).sum()), int((below < 1 - tail).sum()) + 1


def design_effect(values: np.ndarray, patients: np.ndarray) -> float:
    """Return by how much the variance of a share, or of another mean, grows where patients have several ECGs.

    That is Rao & Scott's for clustered binary data (Biometrics 1992;48:577).

    Parameters
    ----------
    values : array of shape (n_ecgs,), of booleans or numbers
    patients : array of shape (n_ecgs,), of whole numbers from 0

    Returns
    -------
    float
        From 1, where each patient has one ECG, to the mean number of ECGs per patient, where a patient's ECGs
        always agree; the latter too where all ECGs agree, which leaves no variance to compare.
    """
    n, sizes = len(values), np.bincount(patients)
    n_patients = int((sizes > 0).sum())
    if n_patients == n:
        return 1.0
    if n_patients == 1 or np.all(values == values[0]):
        return n / n_patients
    deviation = np.bincount(patients, values) - np.mean(values) * sizes
    variance = n_patients / (n_patients - 1) * (deviation**2).sum() / n**2
    return max(1.0, float(variance / (np.var(values) / n)))
