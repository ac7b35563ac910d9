"""From true labels and scores to the numbers of a diagnostic study, each with its confidence interval.

Names and shapes, used in the whole repository:

- `y_true`: 0 or 1 for each ECG, of shape (n_ecgs,), or (n_ecgs, n_labels) where several labels are scored.
- `y_score`: the probability that the model gives, in the same shape; a higher score means disease.
- `threshold`: an ECG is flagged, that is, called positive, where ``y_score >= threshold``.

A metric that the ECGs at hand leave undefined (an AUROC without a positive ECG, say) is nan, and an
`UndefinedMetricWarning` says which metric and why; nothing is replaced by 0 or by 0.5.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import average_precision_score, roc_auc_score

# Of each bootstrap, at least this share of the resamples must hold both classes. It asks for three positive
# patients or more: with k of them, a share of about exp(-k) of the resamples draws none.
MIN_SHARE_OF_RESAMPLES = 0.9
WEIGHTS_PER_CHUNK = 100_000  # ECGs times resamples at a time: 0.8 MB, which stays in a processor's cache


# ----------------------------------------------------------------------------------------------------
# Ranking: how well the scores order the ECGs, whatever the threshold
# ----------------------------------------------------------------------------------------------------


def auroc(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counted half.

    Parameters
    ----------
    y_true, y_score : array of shape (n_ecgs,)

    Returns
    -------
    float
        From 0 to 1, 0.5 for scores that say nothing; nan, with a warning, where one class is missing.
    """
    y_true, y_score = _checked(y_true, y_score)
    if reason := _missing_class(y_true):
        _warn_undefined("AUROC", reason)
        return math.nan
    return float(roc_auc_score(y_true, y_score))


def average_precision(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Area under the precision-recall curve as a step function, not interpolated (as in scikit-learn).

    Parameters
    ----------
    y_true, y_score : array of shape (n_ecgs,)

    Returns
    -------
    float
        From 0 to 1; scores that say nothing reach the prevalence. nan, with a warning, where one class is
        missing.
    """
    y_true, y_score = _checked(y_true, y_score)
    if reason := _missing_class(y_true):
        _warn_undefined("average precision", reason)
        return math.nan
    return float(average_precision_score(y_true, y_score))


def ranking_metrics(y_true: ArrayLike, y_score: ArrayLike) -> tuple[float, float]:
    """Return AUROC and average precision, each the mean over the labels that have both classes.

    Meant for every epoch's validation: no intervals, no thresholds.

    Parameters
    ----------
    y_true, y_score : array of shape (n_ecgs, n_labels) or (n_ecgs,)

    Returns
    -------
    auroc, average_precision : float
        nan, with a warning, where no label has both classes.
    """
    y_true, y_score = _checked_columns(y_true, y_score)
    defined = [column for column in range(y_true.shape[1]) if not _missing_class(y_true[:, column])]
    if not defined:
        _warn_undefined("AUROC and average precision", "no label has positive and negative ECGs")
        return math.nan, math.nan
    columns = [(y_true[:, column], y_score[:, column]) for column in defined]
    return (
        float(np.mean([roc_auc_score(*column) for column in columns])),
        float(np.mean([average_precision_score(*column) for column in columns])),
    )


# ----------------------------------------------------------------------------------------------------
# Decisions: what a threshold makes of the scores
# ----------------------------------------------------------------------------------------------------


def youden_threshold(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Return the threshold that maximises sensitivity + specificity - 1 (Youden 1950), from validation.

    The threshold lies halfway between the lowest score that it flags and the next lower one, so that rounding
    a score changes no decision. Where several thresholds are equally good, the lowest is taken: the one of
    the highest sensitivity, since a missed embolism costs more than a CT angiography. Where no threshold does
    better than flagging every ECG, the lowest score is returned, which does that.

    Parameters
    ----------
    y_true, y_score : array of shape (n_ecgs,)

    Returns
    -------
    float
        0.5, with a warning, where one class is missing.
    """
    y_true, y_score = _checked(y_true, y_score)
    if reason := _missing_class(y_true):
        _warn_undefined("Youden's threshold", f"{reason}; 0.5 is used")
        return 0.5
    scores, group = np.unique(y_score, return_inverse=True)  # ascending, (n_scores,)
    positives = np.bincount(group[y_true == 1], minlength=len(scores))
    negatives = np.bincount(group[y_true == 0], minlength=len(scores))
    true_positives = positives[::-1].cumsum()[::-1]  # flagged at threshold scores[i]
    false_positives = negatives[::-1].cumsum()[::-1]
    # Youden's index times n_positive * n_negative: whole numbers, so that ties are ties
    index = true_positives * negatives.sum() - false_positives * positives.sum()
    lowest_flagged = int(index.argmax())  # the first of equals: the lowest threshold
    if lowest_flagged == 0:
        return float(scores[0])
    below, above = scores[lowest_flagged - 1], scores[lowest_flagged]
    midpoint = (below + above) / 2
    return float(midpoint if midpoint > below else above)  # neighbouring floats have no midpoint


def confusion_metrics(
    y_true: ArrayLike, y_score: ArrayLike, threshold: float, confidence: float = 0.95
) -> dict:
    """Count the decisions of one threshold and derive the metrics of a diagnostic test.

    Wilson's intervals take the ECGs as independent: with many ECGs of the same patients they are too narrow.

    Parameters
    ----------
    y_true, y_score : array of shape (n_ecgs,)
    threshold : float
        An ECG is flagged where ``y_score >= threshold``.
    confidence : float
        Of the intervals, between 0 and 1.

    Returns
    -------
    dict
        `confusion_matrix` (`tp`, `fp`, `tn`, `fn`); `sensitivity`, `specificity`, `ppv`, `npv` and
        `accuracy`, each with `value`, `low`, `high` (Wilson), `successes` and `n`; `f1` and
        `balanced_accuracy`, floats. nan, with a warning each, where undefined.
    """
    y_true, y_score = _checked(y_true, y_score)
    if not math.isfinite(threshold):
        raise ValueError(f"threshold: expected a finite number, found {threshold}")
    flagged, positive = y_score >= threshold, y_true == 1
    tp, fp = int((flagged & positive).sum()), int((flagged & ~positive).sum())
    fn, tn = int((~flagged & positive).sum()), int((~flagged & ~positive).sum())
    sensitivity = _proportion("sensitivity", tp, tp + fn, confidence, "no positive ECG")
    specificity = _proportion("specificity", tn, tn + fp, confidence, "no negative ECG")
    # Without a positive ECG, F1 would be 0 for every model
    f1 = 2 * tp / (2 * tp + fp + fn) if tp + fn else math.nan
    balanced_accuracy = (sensitivity["value"] + specificity["value"]) / 2
    for metric, value in (("F1", f1), ("balanced accuracy", balanced_accuracy)):
        if math.isnan(value):
            _warn_undefined(metric, _missing_class(y_true))
    return {
        "confusion_matrix": {"tp": tp, "fp": fp, "tn": tn, "fn": fn},
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ppv": _proportion("PPV", tp, tp + fp, confidence, "no ECG is flagged"),
        "npv": _proportion("NPV", tn, tn + fn, confidence, "every ECG is flagged"),
        "accuracy": _proportion("accuracy", tp + tn, len(y_true), confidence, "no ECG"),
        "f1": f1,
        "balanced_accuracy": balanced_accuracy,
    }


def brier_score(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Mean squared difference between score and label (Brier 1950), for scores that are probabilities.

    Returns
    -------
    float
        0 is perfect; always answering the prevalence p gives p * (1 - p).
    """
    y_true, y_score = _checked(y_true, y_score)
    if y_score.min() < 0 or y_score.max() > 1:
        raise ValueError(
            f"y_score: the Brier score takes probabilities, found {y_score.min():.3g} to {y_score.max():.3g}"
        )
    return float(np.mean((y_score - y_true) ** 2))


# ----------------------------------------------------------------------------------------------------
# Intervals
# ----------------------------------------------------------------------------------------------------


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a proportion (Wilson 1927; method 3 of Newcombe, Stat Med 1998;17:857).

    Returns
    -------
    low, high : float
        (nan, nan) for n = 0.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes: expected 0 to n = {n}, found {successes}")
    _check_confidence(confidence)
    if n == 0:
        return math.nan, math.nan
    z = float(norm.ppf((1 + confidence) / 2))
    centre = successes + z**2 / 2
    margin = z * math.sqrt(successes * (n - successes) / n + z**2 / 4)
    low = (centre - margin) / (n + z**2) if successes > 0 else 0.0  # exact at the ends, where rounding is not
    high = (centre + margin) / (n + z**2) if successes < n else 1.0
    return low, high


class RankCounts(NamedTuple):
    """Resampled ECGs at each distinct score of a positive ECG, ascending: AUROC and AP follow from it.

    All but the last are arrays of shape (n_resamples, n_scores); each resample holds both classes.
    """

    positives: np.ndarray
    negatives_below: np.ndarray
    negatives_tied: np.ndarray
    n_negatives: np.ndarray  # (n_resamples,)


class BootstrapInterval(NamedTuple):
    """A percentile interval and the number of resamples behind it."""

    low: float
    high: float
    n_resamples: int


def bootstrap_interval(
    metric_of_counts: Callable[["RankCounts"], np.ndarray],
    y_true: ArrayLike,
    y_score: ArrayLike,
    patient_ids: Sequence,
    n_resamples: int = 2000,
    seed: int = 42,
    confidence: float = 0.95,
) -> BootstrapInterval:
    """Return the percentile interval of a ranking metric over resampled patients.

    Patients are drawn with replacement, each with all of their ECGs, since ECGs of one patient resemble each
    other (the cluster bootstrap, Field & Welsh, J R Stat Soc B 2007;69:369). A resample is a whole-number
    weight for each ECG, so the scores are sorted once. Scores that separate the classes perfectly do so
    in every resample: the interval then has no width, which is not certainty.

    Parameters
    ----------
    metric_of_counts : callable
        `auroc_of_counts` or `average_precision_of_counts`.
    y_true, y_score : array of shape (n_ecgs,)
    patient_ids : sequence of length n_ecgs
    n_resamples : int
    seed : int
        The same seed draws the same patients, for every metric.
    confidence : float
        Of the interval, between 0 and 1.

    Returns
    -------
    BootstrapInterval
        Its `n_resamples` counts the resamples with both classes; the others are dropped. Where they leave
        less than nine in ten, or where there is one patient only, the interval is nan, with a warning.
    """
    y_true, y_score = _checked(y_true, y_score)
    patients = _patient_index(patient_ids, len(y_true))
    _check_confidence(confidence)
    if n_resamples < 1:
        raise ValueError(f"n_resamples: expected 1 or more, found {n_resamples}")
    values = []
    for counts in _resampled_counts(y_true, y_score, patients, n_resamples, seed):
        values.append(metric_of_counts(counts))
    values = np.concatenate(values)
    if len(values) < MIN_SHARE_OF_RESAMPLES * n_resamples or patients.max() == 0:
        n_patients = patients.max() + 1
        reason = f"patients: {n_patients}; resamples with both classes: {len(values)} of {n_resamples}"
        _warn_undefined("bootstrap interval", reason)
        return BootstrapInterval(math.nan, math.nan, len(values))
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return BootstrapInterval(float(low), float(high), len(values))


def auroc_of_counts(counts: RankCounts) -> np.ndarray:
    """AUROC of each resample: array of shape (n_resamples,)."""
    pairs_won = counts.positives * (counts.negatives_below + counts.negatives_tied / 2)
    return pairs_won.sum(axis=1) / (counts.positives.sum(axis=1) * counts.n_negatives)


def average_precision_of_counts(counts: RankCounts) -> np.ndarray:
    """Average precision of each resample: array of shape (n_resamples,)."""
    true_positives = counts.positives[:, ::-1].cumsum(axis=1)[:, ::-1]  # with each score as the threshold
    false_positives = counts.n_negatives[:, None] - counts.negatives_below
    # Above the highest score that a resample draws, nothing is flagged and no positive counted
    precision = true_positives / np.maximum(true_positives + false_positives, 1)
    return (counts.positives * precision).sum(axis=1) / counts.positives.sum(axis=1)


# ----------------------------------------------------------------------------------------------------
# All of it
# ----------------------------------------------------------------------------------------------------


def evaluate(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    thresholds: Sequence[float],
    label_names: Sequence[str],
    patient_ids: Sequence,
    n_resamples: int = 2000,
    seed: int = 42,
    confidence: float = 0.95,
) -> dict:
    """Return every metric of every label with its interval, ready for `metrics.json`.

    Parameters
    ----------
    y_true, y_score : array of shape (n_ecgs, n_labels), or (n_ecgs,) for one label
        `y_score` holds probabilities.
    thresholds : sequence of n_labels floats
        Fitted on other ECGs than these.
    label_names : sequence of n_labels strings
    patient_ids : sequence of length n_ecgs
    n_resamples, seed, confidence
        As in `bootstrap_interval`.

    Returns
    -------
    dict
        `n_ecgs`, `n_patients`, `confidence`, `n_resamples`, `labels` and, where there are several, `macro`:
        the means of `auroc` and `average_precision` over the `n_labels` labels that have them. A label holds
        `n_positive`, `prevalence`, `threshold`, `auroc` and `average_precision` (each `value`, `low`, `high`
        and `n_resamples`, the resamples with both classes), the items of `confusion_metrics`, and
        `brier_score`. Undefined numbers are None, since JSON has no nan; a warning names each.
    """
    y_true, y_score = _checked_columns(y_true, y_score)
    _check_names(label_names, thresholds, y_true.shape[1])
    patients = _patient_index(patient_ids, len(y_true))
    bootstrap = {"n_resamples": n_resamples, "seed": seed, "confidence": confidence}
    labels = {}
    for name, threshold, true, score in zip(label_names, thresholds, y_true.T, y_score.T, strict=True):
        with _warnings_about(name):
            labels[name] = _evaluate_label(true, score, float(threshold), patients, bootstrap)
    result = {
        "n_ecgs": len(y_true),
        "n_patients": int(patients.max()) + 1,
        "confidence": float(confidence),
        "n_resamples": int(n_resamples),
        "labels": labels,
    }
    if len(labels) > 1:
        result["macro"] = _macro(labels)
    return _without_nan(result)


def _evaluate_label(
    y_true: np.ndarray, y_score: np.ndarray, threshold: float, patients: np.ndarray, bootstrap: dict
) -> dict:
    ranking = {
        "auroc": (auroc(y_true, y_score), auroc_of_counts),
        "average_precision": (average_precision(y_true, y_score), average_precision_of_counts),
    }
    for name, (value, of_counts) in ranking.items():
        interval = BootstrapInterval(math.nan, math.nan, 0)
        if not math.isnan(value):
            interval = bootstrap_interval(of_counts, y_true, y_score, patients, **bootstrap)
        ranking[name] = {"value": value, **interval._asdict()}
    return {
        "n_positive": int(y_true.sum()),
        "prevalence": float(y_true.mean()),
        "threshold": threshold,
        **ranking,
        **confusion_metrics(y_true, y_score, threshold, bootstrap["confidence"]),
        "brier_score": brier_score(y_true, y_score),
    }


def _macro(labels: dict) -> dict:
    defined = [label for label in labels.values() if not math.isnan(label["auroc"]["value"])]
    means = {
        metric: float(np.mean([label[metric]["value"] for label in defined])) if defined else math.nan
        for metric in ("auroc", "average_precision")
    }
    return {**means, "n_labels": len(defined)}


def _without_nan(value):
    """Replace nan by None in nested dictionaries."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


# ----------------------------------------------------------------------------------------------------
# Checks, warnings and resampled weights
# ----------------------------------------------------------------------------------------------------


def _checked(y_true: ArrayLike, y_score: ArrayLike, n_dimensions: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return `y_true` as int64 and `y_score` as float64, or raise a ValueError that says what was found."""
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


def _checked_columns(y_true: ArrayLike, y_score: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """As `_checked`, as columns of shape (n_ecgs, n_labels)."""
    columns = [array[:, None] if array.ndim == 1 else array for array in map(np.asarray, (y_true, y_score))]
    return _checked(*columns, n_dimensions=2)


def _check_names(label_names: Sequence[str], thresholds: Sequence[float], n_labels: int) -> None:
    if len(label_names) != n_labels or len(set(label_names)) != n_labels:
        raise ValueError(f"label_names: expected {n_labels} different names, found {list(label_names)}")
    if len(thresholds) != n_labels:
        raise ValueError(f"thresholds: expected {n_labels}, one for each label, found {len(thresholds)}")


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number between 0 and 1, found {confidence}")


def _patient_index(patient_ids: Sequence, n_ecgs: int) -> np.ndarray:
    """Number the patients from 0: array of shape (n_ecgs,)."""
    if len(patient_ids) != n_ecgs:
        raise ValueError(f"patient_ids: expected {n_ecgs}, one for each ECG, found {len(patient_ids)}")
    n_missing = sum(identifier is None or identifier != identifier for identifier in patient_ids)
    if n_missing:
        raise ValueError(f"patient_ids: {n_missing} of {n_ecgs} are missing")
    # As text, since NumPy does not sort numbers among strings
    return np.unique(np.asarray(patient_ids).astype(str), return_inverse=True)[1]


def _resampled_counts(
    y_true: np.ndarray, y_score: np.ndarray, patients: np.ndarray, n_resamples: int, seed: int
) -> Iterator[RankCounts]:
    """Yield the counts of all resamples that hold both classes, in chunks."""
    order = np.argsort(y_score)
    y_score = y_score[order]
    is_positive = np.flatnonzero(y_true[order])
    scores, first_positive = np.unique(y_score[is_positive], return_index=True)
    first = np.searchsorted(y_score, scores, side="left")  # of the ECGs at each score
    last = np.searchsorted(y_score, scores, side="right") - 1
    for weights in _resampled_weights(patients[order], n_resamples, seed):  # (n_rows, n_ecgs)
        positives = np.add.reduceat(weights[:, is_positive], first_positive, axis=1)  # (n_rows, n_scores)
        drawn = weights.cumsum(axis=1)
        drawn_below = drawn[:, first] - weights[:, first]
        n_positives = positives.sum(axis=1)
        counts = RankCounts(
            positives=positives,
            negatives_below=drawn_below - (positives.cumsum(axis=1) - positives),
            negatives_tied=drawn[:, last] - drawn_below - positives,
            n_negatives=drawn[:, -1] - n_positives,
        )
        both_classes = (n_positives > 0) & (counts.n_negatives > 0)
        yield RankCounts(*(count[both_classes] for count in counts))


def _resampled_weights(patients: np.ndarray, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each resample draws each ECG, in chunks of shape (n_rows, n_ecgs)."""
    n_patients = patients.max() + 1
    rng = np.random.default_rng(seed)
    rows_per_chunk = max(1, WEIGHTS_PER_CHUNK // len(patients))
    for first in range(0, n_resamples, rows_per_chunk):
        n_rows = min(rows_per_chunk, n_resamples - first)
        drawn = rng.integers(n_patients, size=(n_rows, n_patients))
        cells = drawn + n_patients * np.arange(n_rows)[:, None]  # one bincount for all rows
        counts = np.bincount(cells.ravel(), minlength=n_rows * n_patients).reshape(n_rows, n_patients)
        yield counts[:, patients]


def _proportion(metric: str, successes: int, n: int, confidence: float, reason_if_none: str) -> dict:
    if n == 0:
        _warn_undefined(metric, reason_if_none)
    low, high = wilson_interval(successes, n, confidence)
    value = successes / n if n else math.nan
    return {"value": value, "low": low, "high": high, "successes": successes, "n": n}


def _missing_class(y_true: np.ndarray) -> str:
    """Say which class is missing; empty where both are there."""
    n_positive = y_true.sum()
    return "no positive ECG" if n_positive == 0 else "no negative ECG" if n_positive == len(y_true) else ""


def _warn_undefined(metric: str, reason: str) -> None:
    warnings.warn(f"{metric} is undefined: {reason}", UndefinedMetricWarning, stacklevel=3)


@contextmanager
def _warnings_about(label: str) -> Iterator[None]:
    """Put the label's name before each warning, since several labels are evaluated in a row."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        warnings.warn(f"{label}: {warning.message}", warning.category, stacklevel=4)
