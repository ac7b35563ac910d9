"""How far a ranking metric can be believed: its interval from resampled patients.

ECGs of one patient resemble each other, so patients are drawn, each with all of their ECGs.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from metrics.checks import check_confidence, checked, patient_index, t_quantile, warn_undefined
from metrics.proportions import clopper_pearson_interval

# At least this share of the resamples must hold both classes, which takes three positive patients or more:
# with k of them, a share of about exp(-k) of the resamples draws none.
MIN_SHARE_OF_RESAMPLES = 0.9
TOO_FEW_PATIENTS = "too few patients"
WEIGHTS_PER_CHUNK = 100_000  # ECGs times resamples at a time: 0.8 MB, which stays in a processor's cache


class RankCounts(NamedTuple):
    """Resampled ECGs at each distinct score of a positive ECG, ascending: the ROC curve follows from it.

    All but the last are arrays of shape (n_resamples, n_scores); each resample holds both classes.
    """

    positives: np.ndarray
    negatives_below: np.ndarray
    negatives_tied: np.ndarray
    n_negatives: np.ndarray  # (n_resamples,)


MetricOfCounts = Callable[[RankCounts], np.ndarray]  # to an array of shape (n_resamples,)


class Positives(NamedTuple):
    """How many positive ECGs an interval rests on, and of how many patients."""

    n_ecgs: int
    n_patients: int


# Of the metric's value, its resampled values (n_resamples,), the positives and the confidence level
IntervalOfSample = Callable[[float, np.ndarray, Positives, float], tuple[float, float]]


class BootstrapInterval(NamedTuple):
    """An interval, the number of resamples behind it and, where its ends are nan, why."""

    low: float
    high: float
    n_resamples: int
    reason: str | None = None


def expanded_percentiles(
    value: float, sample: np.ndarray, positives: Positives, confidence: float
) -> tuple[float, float]:
    """Return the percentiles of the resampled values that are corrected for bias, and for few patients.

    The bias correction (Efron, J Am Stat Assoc 1987;82:171, without acceleration) moves both ends by what the
    resamples lie beside the value: average precision is too high in small samples, and in resamples again.
    Student's t in the place of z widens them (the expanded percentile interval of Hesterberg, Am Stat
    2015;69:371): plain percentiles of nine positives cover in 86 to 95 of 100 studies.
    """
    from scipy.special import ndtr, ndtri

    share_below = (sample < value).mean() + (sample == value).mean() / 2
    edge = 0.5 / len(sample)
    moved = 2 * ndtri(min(max(share_below, edge), 1 - edge))
    margin = t_quantile(confidence, positives.n_patients)
    low, high = np.quantile(sample, ndtr([moved - margin, moved + margin]))
    return float(low), float(high)


def share_of_positives(
    value: float, sample: np.ndarray, positives: Positives, confidence: float, lowest: float = 0.0
) -> tuple[float, float]:
    """Return Clopper and Pearson's interval of a mean over the positives that lies between two bounds.

    The resampled variance says how many independent positives the mean is worth (an effective sample size,
    Korn & Graubard, Survey Methodology 1998;24:193), at most those that there are. At its bounds a mean has
    no resampled variance: there the patients count.

    Parameters
    ----------
    lowest : of the mean, where the best is 1
    """
    share, variance = (value - lowest) / (1 - lowest), sample.var(ddof=1) / (1 - lowest) ** 2
    share = min(max(share, 0.0), 1.0)  # rounding may leave it just beside
    n = float(positives.n_patients)
    if 0 < share < 1 and variance > 0:
        n = min(positives.n_ecgs, share * (1 - share) / variance)
    low, high = clopper_pearson_interval(share * n, n, confidence)
    return lowest + low * (1 - lowest), lowest + high * (1 - lowest)


class RankingMetric(NamedTuple):
    """A metric that follows from the order of the scores, and how its interval follows from resamples."""

    of_counts: MetricOfCounts
    interval: IntervalOfSample = expanded_percentiles


def bootstrap_intervals(
    metrics: Mapping[str, RankingMetric],
    y_true: ArrayLike,
    y_score: ArrayLike,
    patient_ids: Sequence,
    n_resamples: int = 2000,
    seed: int = 42,
    confidence: float = 0.95,
) -> dict[str, BootstrapInterval]:
    """Return the intervals of several ranking metrics over the same resampled patients.

    Patients are drawn with replacement, each with all of their ECGs, since ECGs of one patient resemble each
    other (the cluster bootstrap, Field & Welsh, J R Stat Soc B 2007;69:369). A resample is a whole-number
    weight for each ECG, so the scores are sorted once.

    Parameters
    ----------
    metrics : dictionary of RankingMetric
        `of_counts` may be nan where a resample leaves the metric undefined.
    y_true, y_score : array of shape (n_ecgs,)
    patient_ids : sequence of length n_ecgs
    n_resamples : int
    seed : int
        The same seed draws the same patients for any scores.
    confidence : float
        Confidence level of the intervals, between 0 and 1.

    Returns
    -------
    dict of BootstrapInterval
        `n_resamples` counts the resamples with both classes; the others are dropped. Where they leave less
        than nine in ten, or where there is one patient only, the interval is nan, with a warning. It is nan
        too where it would have no width, as scores that separate the classes perfectly do so in every
        resample.
    """
    y_true, y_score = checked(y_true, y_score)
    check_confidence(confidence)
    patients = patient_index(patient_ids, len(y_true))
    of_counts = {name: metric.of_counts for name, metric in metrics.items()}
    samples = _resampled_values(of_counts, y_true, y_score, patients, n_resamples, seed)
    n_kept = len(next(iter(samples.values())))
    if n_kept < MIN_SHARE_OF_RESAMPLES * n_resamples or patients.max() == 0:
        reason = f"patients: {patients.max() + 1}; resamples with both classes: {n_kept} of {n_resamples}"
        warn_undefined("the interval of what is resampled, such as average precision,", reason)
        return dict.fromkeys(samples, BootstrapInterval(math.nan, math.nan, n_kept, TOO_FEW_PATIENTS))
    positives = Positives(int(y_true.sum()), len(np.unique(patients[y_true == 1])))
    counts, intervals = rank_counts(y_true, y_score), {}
    for name, metric in metrics.items():
        sample = samples[name][~np.isnan(samples[name])]
        low, high, reason = math.nan, math.nan, TOO_FEW_PATIENTS
        if len(sample) >= MIN_SHARE_OF_RESAMPLES * n_resamples:
            low, high = metric.interval(float(metric.of_counts(counts)[0]), sample, positives, confidence)
            reason = None
        if low == high:
            low, high, reason = math.nan, math.nan, "the same value in all resamples"
        intervals[name] = BootstrapInterval(low, high, len(sample), reason)
    return intervals


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


def rank_counts(y_true: np.ndarray, y_score: np.ndarray) -> RankCounts:
    """Count the ECGs as they are, not resampled: one row; both classes must be there."""
    order = np.argsort(y_score)
    return _counts(np.ones((1, len(order)), dtype=np.int64), y_true[order], y_score[order])


def _resampled_values(
    metrics_of_counts: Mapping[str, MetricOfCounts],
    y_true: np.ndarray,
    y_score: np.ndarray,
    patients: np.ndarray,
    n_resamples: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Return each metric in all resamples that hold both classes."""
    if n_resamples < 1:
        raise ValueError(f"n_resamples: expected 1 or more, found {n_resamples}")
    values = {name: [] for name in metrics_of_counts}
    for counts in resampled_counts(y_true, y_score, patients, n_resamples, seed):
        for name, metric in metrics_of_counts.items():
            values[name].append(metric(counts))
    return {name: np.concatenate(chunks) for name, chunks in values.items()}


def resampled_counts(
    y_true: np.ndarray, y_score: np.ndarray, patients: np.ndarray, n_resamples: int, seed: int
) -> Iterator[RankCounts]:
    """Yield the counts of all resamples that hold both classes, in chunks."""
    order = np.argsort(y_score)
    y_true, y_score = y_true[order], y_score[order]
    for weights in resampled_weights(patients[order], n_resamples, seed):
        counts = _counts(weights, y_true, y_score)
        both_classes = (counts.positives.sum(axis=1) > 0) & (counts.n_negatives > 0)
        yield RankCounts(*(count[both_classes] for count in counts))


def _counts(weights: np.ndarray, y_true: np.ndarray, y_score: np.ndarray) -> RankCounts:
    """Count ECGs of ascending scores, weighted by ``weights`` of shape (n_rows, n_ecgs)."""
    is_positive = np.flatnonzero(y_true)
    scores, first_positive = np.unique(y_score[is_positive], return_index=True)
    first = np.searchsorted(y_score, scores, side="left")  # of the ECGs at each score
    last = np.searchsorted(y_score, scores, side="right") - 1
    positives = np.add.reduceat(weights[:, is_positive], first_positive, axis=1)  # (n_rows, n_scores)
    drawn = weights.cumsum(axis=1)
    drawn_below = drawn[:, first] - weights[:, first]
    return RankCounts(
        positives=positives,
        negatives_below=drawn_below - (positives.cumsum(axis=1) - positives),
        negatives_tied=drawn[:, last] - drawn_below - positives,
        n_negatives=drawn[:, -1] - positives.sum(axis=1),
    )


def resampled_weights(patients: np.ndarray, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
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
