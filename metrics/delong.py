"""DeLong's interval of an AUROC, and his test of two models on the same ECGs, without resampling.

They take the ECGs as independent, unless `patient_ids` are given: the variance is then summed over patients.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from metrics.checks import (
    check_confidence,
    checked,
    missing_class,
    patient_index,
    patients_of_rarer_class,
    t_quantile,
    warn_undefined,
)
from metrics.log_odds import expit, logit


class DeLongTest(NamedTuple):
    """AUROC of model A minus that of model B: interval, t (the difference over its standard error), p."""

    difference: float
    low: float
    high: float
    t: float
    p: float


def delong_interval(
    y_true: ArrayLike, y_score: ArrayLike, patient_ids: Sequence | None = None, confidence: float = 0.95
) -> tuple[float, float]:
    """Return DeLong's interval of the AUROC (Biometrics 1988;44:837), symmetric on the logit scale.

    By midranks, in O(n log n) (Sun & Xu, IEEE Signal Process Lett 2014;21:1389). The logit keeps the interval
    within 0 and 1 and covers better where the AUROC is high or the positives are few (Pepe 2003, 5.2.5).
    DeLong takes the ECGs as independent. With `patient_ids` the variance is summed over patients instead
    (Obuchowski, Biometrics 1997;53:567), which is the same where each patient has one ECG. Student's t takes
    the place of z (`checks.t_quantile`): with nine positives z covers in 83 to 94 of 100 studies, t in 95.

    An AUROC of 1 leaves no variance. With k patients in the rarer class, k pairs of different patients are
    then all ranked rightly, which has a chance of at most AUROC**k: the lower end is the AUROC for which
    that is (1 - confidence) / 2, as in Clopper and Pearson's interval, the upper end 1. With 20 positives
    it is 0.832. An AUROC of 0 mirrors it.

    Parameters
    ----------
    y_true, y_score : array of shape (n_ecgs,)
    patient_ids : sequence of length n_ecgs, optional

    Returns
    -------
    low, high : float
        nan, with a warning, where the AUROC is undefined, all scores are equal, or a class has fewer than two
        ECGs or patients.
    """
    y_true, y_score = checked(y_true, y_score)
    check_confidence(confidence)
    patients = np.arange(len(y_true)) if patient_ids is None else patient_index(patient_ids, len(y_true))
    value, variance = _auroc_and_variance(y_true, [y_score], patients)
    n_clusters = patients_of_rarer_class(y_true, patients)
    if value in (0, 1) and n_clusters > 1:
        bound = ((1 - confidence) / 2) ** (1 / n_clusters)
        return (bound, 1.0) if value == 1 else (0.0, 1 - bound)
    if not variance > 0:
        reason = missing_class(y_true) or f"AUROC {value:g}, variance {variance:g}"
        warn_undefined("DeLong's interval", reason)
        return math.nan, math.nan
    margin = t_quantile(confidence, n_clusters) * math.sqrt(variance) / (value * (1 - value))
    return float(expit(logit(value) - margin)), float(expit(logit(value) + margin))


def delong_test(
    y_true: ArrayLike,
    y_score_a: ArrayLike,
    y_score_b: ArrayLike,
    patient_ids: Sequence | None = None,
    confidence: float = 0.95,
) -> DeLongTest:
    """Compare the AUROCs of two models on the same ECGs (DeLong 1988); arguments as in `delong_interval`.

    Returns
    -------
    DeLongTest
        Of A minus B, with a symmetric interval, which ends at -1 and 1 at the latest; interval and p from
        Student's t, as in `delong_interval`.
        nan, with a warning, where the variance is 0 or undefined (the same ranks twice, say).
    """
    (y_true, y_score_a), (_, y_score_b) = checked(y_true, y_score_a), checked(y_true, y_score_b)
    check_confidence(confidence)
    patients = np.arange(len(y_true)) if patient_ids is None else patient_index(patient_ids, len(y_true))
    difference, variance = _auroc_and_variance(y_true, [y_score_a, y_score_b], patients)
    if not variance > 0:
        warn_undefined("DeLong's test", missing_class(y_true) or f"variance of the difference {variance:g}")
        return DeLongTest(difference, *[math.nan] * 4)
    from scipy.special import stdtr

    n_clusters, error = patients_of_rarer_class(y_true, patients), math.sqrt(variance)
    margin, t = t_quantile(confidence, n_clusters) * error, difference / error
    p_value = 2 * float(stdtr(n_clusters - 1, -abs(t)))
    low, high = max(difference - margin, -1.0), min(difference + margin, 1.0)
    return DeLongTest(difference, low, high, t, p_value)


def _auroc_and_variance(
    y_true: np.ndarray, y_scores: list[np.ndarray], patients: np.ndarray
) -> tuple[float, float]:
    """Return an AUROC, or the difference of two, and its variance; nan where undefined."""
    positive = y_true == 1
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not (n_positive and n_negative):
        return math.nan, math.nan
    shares = [_pairs_won(positive, y_score) for y_score in y_scores]
    share = shares[0] if len(shares) == 1 else shares[0] - shares[1]
    value = float(share[positive].mean())
    n_of_class = np.where(positive, n_positive, n_negative)
    deviation = (share - value) / n_of_class
    sums = [np.bincount(patients, deviation * part, patients.max() + 1) for part in (positive, ~positive)]
    n_clusters = [len(np.unique(patients[part])) for part in (positive, ~positive)]
    if min(n_clusters) < 2:
        return value, math.nan
    n_patients = patients.max() + 1
    within = sum(n / (n - 1) * (total**2).sum() for total, n in zip(sums, n_clusters, strict=True))
    return value, float(within + 2 * n_patients / (n_patients - 1) * (sums[0] * sums[1]).sum())


def _pairs_won(positive: np.ndarray, y_score: np.ndarray) -> np.ndarray:
    """Return each ECG's share of the other class's ECGs that it is ranked rightly against, ties half."""
    from scipy.stats import rankdata  # half a second to import

    rank, share = rankdata(y_score), np.empty(len(y_score))
    share[positive] = (rank[positive] - rankdata(y_score[positive])) / (~positive).sum()
    share[~positive] = 1 - (rank[~positive] - rankdata(y_score[~positive])) / positive.sum()
    return share
