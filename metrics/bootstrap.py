"""How far a metric can be believed: intervals, and comparisons of two models on the same ECGs.

ECGs of one patient resemble each other. What takes them as independent says so; the bootstrap draws patients,
and DeLong's variance is summed over patients where `patient_ids` are given.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from metrics.checks import (
    check_confidence,
    checked,
    missing_class,
    normal_quantile,
    patient_index,
    warn_undefined,
)
from metrics.log_odds import expit, logit

# Of each bootstrap, at least this share of the resamples must hold both classes. It asks for three positive
# patients or more: with k of them, a share of about exp(-k) of the resamples draws none.
MIN_SHARE_OF_RESAMPLES = 0.9
WEIGHTS_PER_CHUNK = 100_000  # ECGs times resamples at a time: 0.8 MB, which stays in a processor's cache


# ----------------------------------------------------------------------------------------------------
# A proportion
# ----------------------------------------------------------------------------------------------------


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
        1 where each patient has one ECG, up to the number of ECGs a patient where these always agree; never
        less than 1. The latter too where all ECGs agree, which leaves no variance to compare.
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


# ----------------------------------------------------------------------------------------------------
# Bootstrap over patients
# ----------------------------------------------------------------------------------------------------


class RankCounts(NamedTuple):
    """Resampled ECGs at each distinct score of a positive ECG, ascending: the ROC curve follows from it.

    All but the last are arrays of shape (n_resamples, n_scores); each resample holds both classes.
    """

    positives: np.ndarray
    negatives_below: np.ndarray
    negatives_tied: np.ndarray
    n_negatives: np.ndarray  # (n_resamples,)


MetricOfCounts = Callable[[RankCounts], np.ndarray]  # to an array of shape (n_resamples,)


class BootstrapInterval(NamedTuple):
    """A percentile interval and the number of resamples behind it."""

    low: float
    high: float
    n_resamples: int


class BootstrapDifference(NamedTuple):
    """A metric of model A minus that of model B, with its percentile interval."""

    difference: float
    low: float
    high: float
    n_resamples: int


def bootstrap_intervals(
    metrics_of_counts: Mapping[str, MetricOfCounts],
    y_true: ArrayLike,
    y_score: ArrayLike,
    patient_ids: Sequence,
    n_resamples: int = 2000,
    seed: int = 42,
    confidence: float = 0.95,
) -> dict[str, BootstrapInterval]:
    """Return the percentile intervals of several ranking metrics over the same resampled patients.

    Patients are drawn with replacement, each with all of their ECGs, since ECGs of one patient resemble each
    other (the cluster bootstrap, Field & Welsh, J R Stat Soc B 2007;69:369). A resample is a whole-number
    weight for each ECG, so the scores are sorted once. Scores that separate the classes perfectly do so
    in every resample: the interval then has no width, which is not certainty.

    Parameters
    ----------
    metrics_of_counts : dictionary of functions from `RankCounts` to an array of shape (n_resamples,)
        Such as `auroc_of_counts`; nan where a resample leaves the metric undefined.
    y_true, y_score : array of shape (n_ecgs,)
    patient_ids : sequence of length n_ecgs
    n_resamples : int
    seed : int
        The same seed draws the same patients, whatever the scores.
    confidence : float
        Of the intervals, between 0 and 1.

    Returns
    -------
    dict of BootstrapInterval
        `n_resamples` counts the resamples with both classes; the others are dropped. Where they leave less
        than nine in ten, or where there is one patient only, the interval is nan, with a warning.
    """
    y_true, y_score = checked(y_true, y_score)
    patients = patient_index(patient_ids, len(y_true))
    values = _resampled_values(metrics_of_counts, y_true, y_score, patients, n_resamples, seed)
    n_kept = len(next(iter(values.values())))
    if n_kept < MIN_SHARE_OF_RESAMPLES * n_resamples or patients.max() == 0:
        reason = f"patients: {patients.max() + 1}; resamples with both classes: {n_kept} of {n_resamples}"
        warn_undefined("bootstrap interval", reason)
        return dict.fromkeys(values, BootstrapInterval(math.nan, math.nan, n_kept))
    return {name: _percentiles(of_one, n_resamples, confidence) for name, of_one in values.items()}


def bootstrap_difference(
    y_true: ArrayLike,
    y_score_a: ArrayLike,
    y_score_b: ArrayLike,
    patient_ids: Sequence,
    metric_of_counts: MetricOfCounts | None = None,
    n_resamples: int = 2000,
    seed: int = 42,
    confidence: float = 0.95,
) -> BootstrapDifference:
    """Return how much better model A is than model B, with an interval over resampled patients.

    Each resample draws the same patients for both models. Two models differ by more than chance where the
    interval leaves out 0; that their own intervals overlap does not tell.

    Parameters
    ----------
    y_true, y_score_a, y_score_b : array of shape (n_ecgs,)
    metric_of_counts : function from `RankCounts` to an array of shape (n_resamples,)
        `auroc_of_counts` where it is None.
    patient_ids, n_resamples, seed, confidence
        As in `bootstrap_intervals`.

    Returns
    -------
    BootstrapDifference
        nan, with a warning, where undefined.
    """
    metric = {"metric": metric_of_counts or auroc_of_counts}
    (y_true, y_score_a), (_, y_score_b) = checked(y_true, y_score_a), checked(y_true, y_score_b)
    patients = patient_index(patient_ids, len(y_true))
    if reason := missing_class(y_true):
        warn_undefined("difference of two models", reason)
        return BootstrapDifference(math.nan, math.nan, math.nan, 0)
    values, points = [], []
    for y_score in (y_score_a, y_score_b):
        values.append(_resampled_values(metric, y_true, y_score, patients, n_resamples, seed)["metric"])
        points.append(float(metric["metric"](rank_counts(y_true, y_score))[0]))
    interval = BootstrapInterval(math.nan, math.nan, len(values[0]))
    if patients.max() > 0:
        interval = _percentiles(values[0] - values[1], n_resamples, confidence)
    if math.isnan(interval.low):
        warn_undefined("interval of the difference", f"it is defined in {interval.n_resamples} resamples")
    return BootstrapDifference(points[0] - points[1], *interval)


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
        for name, of_counts in metrics_of_counts.items():
            values[name].append(of_counts(counts))
    return {name: np.concatenate(chunks) for name, chunks in values.items()}


def _percentiles(values: np.ndarray, n_resamples: int, confidence: float) -> BootstrapInterval:
    check_confidence(confidence)
    values = values[~np.isnan(values)]
    if len(values) < MIN_SHARE_OF_RESAMPLES * n_resamples:
        return BootstrapInterval(math.nan, math.nan, len(values))
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return BootstrapInterval(float(low), float(high), len(values))


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


# ----------------------------------------------------------------------------------------------------
# Without resampling: DeLong for the AUROC, McNemar for decisions
# ----------------------------------------------------------------------------------------------------


class DeLongTest(NamedTuple):
    """AUROC of model A minus that of model B: interval, z and two-sided p."""

    difference: float
    low: float
    high: float
    z: float
    p: float


def delong_interval(
    y_true: ArrayLike, y_score: ArrayLike, patient_ids: Sequence | None = None, confidence: float = 0.95
) -> tuple[float, float]:
    """Return DeLong's interval of the AUROC (Biometrics 1988;44:837), symmetric on the logit scale.

    By midranks, in O(n log n) (Sun & Xu, IEEE Signal Process Lett 2014;21:1389). The logit keeps the interval
    within 0 and 1 and covers better where the AUROC is high or the positives are few (Pepe 2003, 5.2.5).
    DeLong takes the ECGs as independent. With `patient_ids` the variance is summed over patients instead
    (Obuchowski, Biometrics 1997;53:567), which is the same where each patient has one ECG.

    Parameters
    ----------
    y_true, y_score : array of shape (n_ecgs,)
    patient_ids : sequence of length n_ecgs, optional

    Returns
    -------
    low, high : float
        nan, with a warning, where the AUROC is undefined, 0 or 1, or a class has fewer than two ECGs or
        patients.
    """
    y_true, y_score = checked(y_true, y_score)
    z = normal_quantile(confidence)
    patients = np.arange(len(y_true)) if patient_ids is None else patient_index(patient_ids, len(y_true))
    value, variance = _auroc_and_variance(y_true, [y_score], patients)
    if not (variance > 0 and 0 < value < 1):
        warn_undefined(
            "DeLong's interval", missing_class(y_true) or f"AUROC {value:g}, variance {variance:g}"
        )
        return math.nan, math.nan
    margin = z * math.sqrt(variance) / (value * (1 - value))
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
        Of A minus B, with a symmetric interval; nan, with a warning, where the variance is 0 or undefined
        (the same ranks twice, say).
    """
    (y_true, y_score_a), (_, y_score_b) = checked(y_true, y_score_a), checked(y_true, y_score_b)
    quantile = normal_quantile(confidence)
    patients = np.arange(len(y_true)) if patient_ids is None else patient_index(patient_ids, len(y_true))
    difference, variance = _auroc_and_variance(y_true, [y_score_a, y_score_b], patients)
    if not variance > 0:
        warn_undefined("DeLong's test", missing_class(y_true) or f"variance of the difference {variance:g}")
        return DeLongTest(difference, *[math.nan] * 4)
    error = math.sqrt(variance)
    margin, z = quantile * error, difference / error
    p_value = math.erfc(abs(z) / math.sqrt(2))  # 2 Phi(-|z|)
    return DeLongTest(difference, difference - margin, difference + margin, z, p_value)


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
    """Return of each ECG the share of the other class's ECGs that it is ordered rightly with, ties half."""
    from scipy.stats import rankdata  # half a second to import

    rank, share = rankdata(y_score), np.empty(len(y_score))
    share[positive] = (rank[positive] - rankdata(y_score[positive])) / (~positive).sum()
    share[~positive] = 1 - (rank[~positive] - rankdata(y_score[~positive])) / positive.sum()
    return share


def mcnemar_test(
    y_true: ArrayLike, decision_a: ArrayLike, decision_b: ArrayLike, confidence: float = 0.95
) -> dict[str, dict]:
    """Compare the decisions of two models on the same ECGs: sensitivity, specificity and accuracy.

    McNemar's test counts the ECGs that one model alone decides rightly; the p-value is exact, from the
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
        `difference` (A minus B), `low`, `high`, `p`, `only_a`, `only_b` (ECGs that one alone decides rightly)
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
