"""From true labels and scores to the numbers of a diagnostic study, each with its confidence interval.

Names and shapes, used in the whole repository:

- `y_true`: 0 or 1 for each ECG, of shape (n_ecgs,), or (n_ecgs, n_labels) where several labels are scored;
  `evaluate`, `evaluate_strata` and `ranking_metrics` leave out the ECGs whose label is unknown (nan).
- `y_score`: the probability that the model gives, in the same shape; a higher score means disease.
- `threshold`: an ECG is flagged, that is, called positive, where ``y_score >= threshold``.

A metric that the ECGs at hand leave undefined (an AUROC without a positive ECG, say) is nan, and an
`UndefinedMetricWarning` names the metric and the reason; nothing is replaced by 0 or by 0.5.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, roc_auc_score

from metrics.bootstrap import (
    TOO_FEW_PATIENTS,
    RankingMetric,
    average_precision_of_counts,
    bootstrap_intervals,
    rank_counts,
    share_of_positives,
)
from metrics.calibration import (
    brier_score,
    calibration_error_of_perfect_scores,
    calibration_slope_and_intercept,
    expected_calibration_error,
)
from metrics.checks import checked, ecg_index, missing_class, patient_index, warn_undefined
from metrics.decisions import confusion_metrics, likelihood_ratios, predictive_values_at, share_with_interval
from metrics.delong import delong_interval
from metrics.metric import Metric
from metrics.operating_points import judged_point
from metrics.proportions import wilson_interval
from metrics.roc_points import (
    least_partial_auroc,
    partial_auroc_of_counts,
    sensitivity_at_specificity_of_counts,
)
from metrics.rule_out import KEYS as RULE_OUT
from metrics.rule_out import rule_out
from metrics.thresholds import choose_threshold, youden_threshold

__all__ = [
    "auroc",
    "average_precision",
    "brier_score",
    "choose_threshold",
    "confusion_metrics",
    "evaluate",
    "evaluate_strata",
    "ranking_metrics",
    "wilson_interval",
    "youden_threshold",
]

# What follows from the order of the scores, beside the AUROC; its intervals are of resampled patients
RANKING_METRICS: dict[str, RankingMetric] = {
    "average_precision": RankingMetric(average_precision_of_counts),
    "partial_auroc": RankingMetric(  # specificity 0.9 to 1
        partial_auroc_of_counts, partial(share_of_positives, lowest=least_partial_auroc())
    ),
    "sensitivity_at_specificity_90": RankingMetric(
        partial(sensitivity_at_specificity_of_counts, specificity=0.90), share_of_positives
    ),
    "sensitivity_at_specificity_95": RankingMetric(
        partial(sensitivity_at_specificity_of_counts, specificity=0.95), share_of_positives
    ),
}
MIN_OF_EACH_CLASS = 5  # ECGs of a stratum, for an AUROC


# ----------------------------------------------------------------------------------------------------
# Ranking: how well the scores order the ECGs, without a threshold
# ----------------------------------------------------------------------------------------------------


def auroc(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counted half.

    Parameters
    ----------
    y_true, y_score : array of shape (n_ecgs,)

    Returns
    -------
    float
        From 0 to 1, 0.5 for uninformative scores; nan, with a warning, where one class is missing.
    """
    y_true, y_score = checked(y_true, y_score)
    if reason := missing_class(y_true):
        warn_undefined("AUROC", reason)
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
        From 0 to 1, the prevalence for uninformative scores; nan, with a warning, where one class is missing.
    """
    y_true, y_score = checked(y_true, y_score)
    if reason := missing_class(y_true):
        warn_undefined("average precision", reason)
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
    columns = [_known(true, score) for true, score in zip(y_true.T, y_score.T, strict=True)]
    columns = [(true, score) for true, score in columns if not missing_class(true)]
    if not columns:
        warn_undefined("AUROC and average precision", "no label has positive and negative ECGs")
        return math.nan, math.nan
    return (
        float(np.mean([roc_auc_score(*column) for column in columns])),
        float(np.mean([average_precision_score(*column) for column in columns])),
    )


# ----------------------------------------------------------------------------------------------------
# All of it
# ----------------------------------------------------------------------------------------------------


def evaluate(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    thresholds: ArrayLike,
    label_names: Sequence[str],
    patient_ids: Sequence,
    n_resamples: int = 2000,
    seed: int = 42,
    confidence: float = 0.95,
    prevalence: float | None = None,
    points: Mapping[str, ArrayLike] | None = None,
    ecg_ids: Sequence | None = None,
) -> dict:
    """Return every metric of every label with its interval.

    Parameters
    ----------
    y_true, y_score : array of shape (n_ecgs, n_labels), or (n_ecgs,) for one label; scores are probabilities
    thresholds : array of shape (n_labels,), or (n_ecgs, n_labels) where each fold has its own; of other ECGs
    label_names : sequence of n_labels strings
    patient_ids : sequence of length n_ecgs
    n_resamples, seed, confidence : as in `bootstrap.bootstrap_intervals`
    prevalence : float, optional, of the patients that the model is meant for: adds `at_prevalence`
    points : dictionary, optional, of the keys of `operating_points.POINTS` to thresholds in the shape of
        `thresholds`, fixed on other ECGs than these; a label whose threshold is nan has no such point
    ecg_ids : sequence of length n_ecgs, optional: where ECGs were scored several times, which one each is of

    Returns
    -------
    dict
        `n_ecgs`, `n_patients`, `confidence`, `n_resamples`, `labels` and, where there are several, `macro`:
        the means of `auroc` and `average_precision` over the `n_labels` labels that have them. A label holds
        `n_positive`, `n_positive_patients`, `prevalence`, `threshold` (the median, with `threshold_low` and
        `threshold_high`), `auroc`, the metrics of `RANKING_METRICS` and of `rule_out` (`ct_avoided_per_100`
        also has `missed_per_100`), the items of `confusion_metrics`, `n_unknown` where some labels are
        unknown, `positive_likelihood_ratio`, `negative_likelihood_ratio`, `brier_score`,
        `expected_calibration_error`, `calibration_error_of_perfect_scores`, `calibration_slope`,
        `calibration_intercept`, where given the `points`, each as `operating_points.judged_point` returns it,
        and, where asked for, `at_prevalence`: `prevalence`, `ppv` and `npv`. What has an interval is a
        `Metric`; intervals count patients, and `docs/metrics.md` says how often they hold the truth. All
        other counts are of scores, those of an ECG that was scored again included. Undefined numbers are nan;
        a warning names each, or its `reason` says that the ECGs are too few.
        `metrics_to_json` makes it what `metrics.json` holds.
    """
    y_true, y_score = _checked_columns(y_true, y_score)
    _check_names(label_names, y_true.shape[1])
    patients, ecgs = patient_index(patient_ids, len(y_true)), ecg_index(ecg_ids, len(y_true))
    options = {"confidence": float(confidence), "n_resamples": int(n_resamples)}
    at = {"threshold": thresholds, **(points or {})}
    at = {key: _threshold_columns(columns, y_true.shape) for key, columns in at.items()}
    bootstrap, labels = {"seed": seed, **options}, {}
    for number, name in enumerate(label_names):
        columns = y_true[:, number], y_score[:, number], {key: of[:, number] for key, of in at.items()}
        with _warnings_about(name):
            labels[name] = _evaluate_label(*columns, patients, ecgs, bootstrap, prevalence)
    result = {"n_ecgs": len(y_true), "n_patients": int(patients.max()) + 1, **options, "labels": labels}
    return result | ({"macro": _macro(labels)} if len(labels) > 1 else {})


def evaluate_strata(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    thresholds: ArrayLike,
    label_names: Sequence[str],
    patient_ids: Sequence,
    strata: Mapping[str, Sequence],
    confidence: float = 0.95,
) -> list[dict]:
    """Return AUROC, sensitivity and specificity in each group of patients, as the rows of a table.

    Groups that are compared after the fact differ by chance too: look at the intervals, which are not
    corrected for the number of groups.

    Parameters
    ----------
    strata : dictionary of sequences of length n_ecgs
        The stratum's name, such as "sex", and each ECG's value, such as "female"; None and nan are "missing".
    y_true, y_score, thresholds, label_names, patient_ids, confidence
        As in `evaluate`.

    Returns
    -------
    list of dict
        `label`, `stratum`, `value`, `n`, `n_patients`, `n_positive`, and `auroc`, `sensitivity` and
        `specificity`, each with `..._low` and `..._high`. nan where undefined: an AUROC needs five ECGs of
        each class.
    """
    y_true, y_score = _checked_columns(y_true, y_score)
    _check_names(label_names, y_true.shape[1])
    thresholds = _threshold_columns(thresholds, y_true.shape)
    patients = patient_index(patient_ids, len(y_true))
    rows = []
    for column, label in enumerate(label_names):
        for stratum, value, chosen in _groups(strata, len(y_true)):
            chosen = chosen & ~np.isnan(y_true[:, column])
            if not chosen.any():
                continue
            arrays = [array[chosen, column] for array in (y_true, y_score, thresholds)]
            with _warnings_about(f"{label}, {stratum} {value}"):
                metrics = _stratum_metrics(*_known(*arrays, patients[chosen]), confidence)
            rows.append({"label": label, "stratum": stratum, "value": value, **metrics})
    return rows


def _groups(strata: Mapping[str, Sequence], n_ecgs: int) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield each stratum, each of its values, and which ECGs have it: array of shape (n_ecgs,)."""
    for stratum, values in strata.items():
        if len(values) != n_ecgs:
            raise ValueError(f"strata: expected {n_ecgs} values of {stratum!r}, found {len(values)}")
        values = np.array(["missing" if value is None or value != value else str(value) for value in values])
        for value in np.unique(values):
            yield stratum, str(value), values == value


def _stratum_metrics(
    y_true: np.ndarray, y_score: np.ndarray, threshold: np.ndarray, patients: np.ndarray, confidence: float
) -> dict:
    metrics = {"n": len(y_true), "n_patients": len(np.unique(patients)), "n_positive": int(y_true.sum())}
    values = {"auroc": Metric(math.nan)}
    if MIN_OF_EACH_CLASS <= metrics["n_positive"] <= len(y_true) - MIN_OF_EACH_CLASS:
        values["auroc"] = auroc_with_interval(y_true, y_score, patients, confidence)
    for name, positive in (("sensitivity", 1), ("specificity", 0)):
        part = y_true == positive
        right = (y_score >= threshold)[part] == positive
        values[name] = share_with_interval(right, patients[part], confidence)
    for name, metric in values.items():
        metrics |= {name: metric.value, f"{name}_low": metric.low, f"{name}_high": metric.high}
    return metrics


def _evaluate_label(
    y_true: np.ndarray,
    y_score: np.ndarray,
    thresholds: Mapping[str, np.ndarray],
    patients: np.ndarray,
    ecgs: np.ndarray,
    bootstrap: dict,
    prevalence: float | None,
) -> dict:
    """Return one label's metrics, of the ECGs whose label is known.

    Parameters
    ----------
    y_true, y_score, patients, ecgs : array of shape (n_ecgs,)
    thresholds : "threshold" and the points, each an array of that shape
    bootstrap : `n_resamples`, `seed` and `confidence`
    """
    scored = _known(y_true, y_score, thresholds["threshold"], patients, ecgs)
    label = _metrics_of(*scored, bootstrap)
    for point, threshold in thresholds.items():
        if point != "threshold" and not np.isnan(threshold).any():
            known = _known(y_true, y_score, threshold, patients)
            label[point] = judged_point(*known, bootstrap["confidence"])
    if n_unknown := len(y_true) - len(scored[0]):
        label["n_unknown"] = n_unknown
    if prevalence is not None:
        label["at_prevalence"] = _at_prevalence(label, prevalence)
    return label


def _metrics_of(
    y_true: np.ndarray,
    y_score: np.ndarray,
    threshold: np.ndarray,
    patients: np.ndarray,
    ecgs: np.ndarray,
    bootstrap: dict,
) -> dict:
    confusion = confusion_metrics(y_true, y_score, threshold, bootstrap["confidence"], patients)
    ratios = likelihood_ratios(confusion["sensitivity"], confusion["specificity"])
    calibration = calibration_slope_and_intercept(y_true, y_score, patients, bootstrap["confidence"])
    return {
        "n_positive": int(y_true.sum()),
        "n_positive_patients": len(np.unique(patients[y_true == 1])),
        "prevalence": float(y_true.mean()),
        "threshold": float(np.median(threshold)),
        "threshold_low": float(threshold.min()),
        "threshold_high": float(threshold.max()),
        **_ranking(y_true, y_score, patients, bootstrap),
        **confusion,
        "positive_likelihood_ratio": ratios["positive"],
        "negative_likelihood_ratio": ratios["negative"],
        "brier_score": brier_score(y_true, y_score),
        "expected_calibration_error": expected_calibration_error(y_true, y_score),
        "calibration_error_of_perfect_scores": calibration_error_of_perfect_scores(y_score, ecg_ids=ecgs),
        "calibration_slope": calibration["slope"],
        "calibration_intercept": calibration["intercept"],
    }


def _ranking(y_true: np.ndarray, y_score: np.ndarray, patients: np.ndarray, bootstrap: dict) -> dict:
    """Return what follows from the ROC curve."""
    if reason := missing_class(y_true):
        for what in ("AUROC", "average precision", "each point of the ROC curve"):
            warn_undefined(what, reason)
        of_resamples = dict.fromkeys(RANKING_METRICS, Metric(math.nan, n_resamples=0))
        return {"auroc": Metric(math.nan), **of_resamples, **dict.fromkeys(RULE_OUT, Metric(math.nan))}
    confidence, counts = bootstrap["confidence"], rank_counts(y_true, y_score)
    result = {"auroc": auroc_with_interval(y_true, y_score, patients, confidence)}
    intervals = bootstrap_intervals(RANKING_METRICS, y_true, y_score, patients, **bootstrap)
    for name, metric in RANKING_METRICS.items():
        value = float(metric.of_counts(counts)[0])
        result[name] = Metric(value, **intervals[name]._asdict())
    return result | rule_out(y_true, y_score, patients, confidence)


def auroc_with_interval(
    y_true: np.ndarray, y_score: np.ndarray, patients: np.ndarray, confidence: float
) -> Metric:
    """Return the AUROC with DeLong's interval, patients as clusters; both classes must be there."""
    low, high = delong_interval(y_true, y_score, patients, confidence)
    reason = None
    if math.isnan(low):
        reason = "all scores are equal" if np.ptp(y_score) == 0 else TOO_FEW_PATIENTS
    return Metric(auroc(y_true, y_score), low, high, reason=reason)


def _at_prevalence(label: dict, prevalence: float) -> dict:
    """Return PPV and NPV at another prevalence, with the intervals that the likelihood ratios give them."""
    if not 0 < prevalence < 1:
        raise ValueError(f"prevalence: expected a number between 0 and 1, found {prevalence}")
    odds = prevalence / (1 - prevalence)
    positive, negative = label["positive_likelihood_ratio"], label["negative_likelihood_ratio"]
    ppv, npv = math.nan, math.nan
    if not math.isnan(label["balanced_accuracy"]):
        rates = label["sensitivity"].value, label["specificity"].value
        ppv, npv = predictive_values_at(*rates, prevalence)

    def ends(ratio: Metric) -> tuple[float, float]:
        """Return the odds at both ends of a ratio's interval, of which the high one may be infinite."""
        high = math.inf if ratio.has_interval and math.isnan(ratio.high) else ratio.high
        return odds * ratio.low, odds * high

    return {
        "prevalence": float(prevalence),
        "ppv": Metric(ppv, *(1 - 1 / (1 + end) for end in ends(positive))),
        "npv": Metric(npv, *(1 / (1 + end) for end in reversed(ends(negative)))),
    }


def _macro(labels: dict) -> dict:
    defined = [label for label in labels.values() if label["auroc"].is_defined]
    means = {
        metric: float(np.mean([label[metric].value for label in defined])) if defined else math.nan
        for metric in ("auroc", "average_precision")
    }
    return {**means, "n_labels": len(defined)}


# ----------------------------------------------------------------------------------------------------
# Checks and warnings
# ----------------------------------------------------------------------------------------------------


def _checked_columns(y_true: ArrayLike, y_score: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """As `checked`, in columns, (n_ecgs, n_labels); `y_true` is float, nan where unknown."""
    columns = [array[:, None] if array.ndim == 1 else array for array in map(np.asarray, (y_true, y_score))]
    y_true = columns[0].astype(np.float64)
    checked(np.nan_to_num(y_true), columns[1], n_dimensions=2)
    return y_true, columns[1].astype(np.float64)


def _known(y_true: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return one label's truth as int, and the other arrays, for the ECGs whose label is known."""
    known = ~np.isnan(y_true)
    return y_true[known].astype(np.int64), *(other[known] for other in others)


def _check_names(label_names: Sequence[str], n_labels: int) -> None:
    if len(label_names) != n_labels or len(set(label_names)) != n_labels:
        raise ValueError(f"label_names: expected {n_labels} different names, found {list(label_names)}")


def _threshold_columns(thresholds: ArrayLike, shape: tuple[int, int]) -> np.ndarray:
    """Return one threshold for each ECG and label: array of shape (n_ecgs, n_labels)."""
    thresholds = np.asarray(thresholds, dtype=np.float64)
    if thresholds.shape not in (shape, shape[1:]):
        raise ValueError(
            f"thresholds: expected {shape[1]}, one for each label, or an array of shape {shape}, "
            f"found the shape {thresholds.shape}"
        )
    return np.broadcast_to(thresholds, shape)


@contextmanager
def _warnings_about(label: str) -> Iterator[None]:
    """Put the label's name before each warning, since several labels are evaluated in a row."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        warnings.warn(f"{label}: {warning.message}", warning.category, stacklevel=4)
