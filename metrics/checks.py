"""What every metric expects of its input: labels of 0 and 1, finite scores, patients; and how it refuses.

An input that makes no sense is a ValueError that names what was found. A metric that the ECGs leave undefined
is nan, with an `UndefinedMetricWarning`.
"""

import warnings
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


def checked(y_true: ArrayLike, y_score: ArrayLike, n_dimensions: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return `y_true` as int64 and `y_score` as float64, or raise a ValueError that names what was found."""
    y_true, y_score = np.asarray(y_true), np.asarray(y_score, dtype=np.float64)
    if y_true.shape != y_score.shape or y_true.ndim != n_dimensions or y_true.size == 0:
        raise ValueError(
            f"y_true and y_score: expected {n_dimensions}-D arrays of one shape and at least one ECG, "
            f"found the shapes {y_true.shape} and {y_score.shape}"
        )
    if not (is_label := np.isin(y_true, (0, 1))).all():
        raise ValueError(f"y_true: expected 0 and 1 only, found {y_true[~is_label].flat[0]}")
    if not (is_finite := np.isfinite(y_score)).all():
        raise ValueError(f"y_score: {(~is_finite).sum()} of {y_score.size} scores are nan or infinite")
    return y_true.astype(np.int64), y_score


def checked_probabilities(
    y_true: ArrayLike, y_score: ArrayLike, metric: str
) -> tuple[np.ndarray, np.ndarray]:
    """As `checked`, for a metric that needs scores from 0 to 1."""
    y_true, y_score = checked(y_true, y_score)
    if y_score.min() < 0 or y_score.max() > 1:
        found = f"found {y_score.min():.3g} to {y_score.max():.3g}"
        raise ValueError(f"y_score: {metric} takes probabilities, {found}")
    return y_true, y_score


def check_confidence(confidence: float) -> None:
    """Raise a ValueError where the confidence level is not between 0 and 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number between 0 and 1, found {confidence}")


def check_share(name: str, share: float) -> None:
    """Raise a ValueError, with the name, where a share is not from 0 to 1."""
    if not 0 <= share <= 1:
        raise ValueError(f"{name}: expected a number from 0 to 1, found {share}")


def normal_quantile(confidence: float) -> float:
    """Return z of a two-sided interval, 1.96 for 0.95."""
    check_confidence(confidence)
    return NormalDist().inv_cdf((1 + confidence) / 2)


def t_quantile(confidence: float, n_clusters: int) -> float:
    """Return Student's t of a two-sided interval, with one degree of freedom less than there are clusters.

    A variance that is estimated from few clusters is itself uncertain, and mostly too small; t in the place
    of z makes up for it. The clusters to be counted are the patients of the rarer class, whose ECGs
    contribute nearly all of the variance.

    Parameters
    ----------
    n_clusters : 2 or more
    """
    check_confidence(confidence)
    from scipy.special import stdtrit

    return float(stdtrit(n_clusters - 1, (1 + confidence) / 2))


def patients_of_rarer_class(y_true: np.ndarray, patients: np.ndarray) -> int:
    """Return how many patients the class of fewer patients has; both arrays are of shape (n_ecgs,)."""
    return min(len(np.unique(patients[y_true == label])) for label in (0, 1))


def patient_index(patient_ids: Sequence, n_ecgs: int) -> np.ndarray:
    """Number the patients from 0 in order of appearance: int array of shape (n_ecgs,).

    What is drawn at random then depends on the seed only, not on the patients' names: pseudonyms follow from
    a random key.
    """
    return _numbered("patient_ids", patient_ids, n_ecgs)


def ecg_index(ecg_ids: Sequence | None, n_scores: int) -> np.ndarray:
    """Number the ECGs as `patient_index` does patients: int array of shape (n_scores,).

    Parameters
    ----------
    ecg_ids : the same for all scores of an ECG, which a repeated cross-validation gives it; None: each score
        is of another ECG.
    """
    return np.arange(n_scores) if ecg_ids is None else _numbered("ecg_ids", ecg_ids, n_scores)


def _numbered(name: str, identifiers: Sequence, n_ecgs: int) -> np.ndarray:
    if len(identifiers) != n_ecgs:
        raise ValueError(f"{name}: expected {n_ecgs}, one for each ECG, found {len(identifiers)}")
    n_missing = sum(identifier is None or identifier != identifier for identifier in identifiers)
    if n_missing:
        raise ValueError(f"{name}: {n_missing} of {n_ecgs} are missing")
    return pd.factorize(np.asarray(identifiers).astype(str))[0]  # as text: 7 and "7" are one patient


def missing_class(y_true: np.ndarray) -> str:
    """Return which class is missing; empty where both are there."""
    n_positive = y_true.sum()
    return "no positive ECG" if n_positive == 0 else "no negative ECG" if n_positive == len(y_true) else ""


def warn_undefined(metric: str, reason: str) -> None:
    """Warn that a metric is nan, and why."""
    from sklearn.exceptions import UndefinedMetricWarning  # half a second to import

    warnings.warn(f"{metric} is undefined: {reason}", UndefinedMetricWarning, stacklevel=3)
