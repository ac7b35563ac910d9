"""What decisions are worth: confusion matrix, likelihood ratios, predictive values, net benefit.

`y_true` and `y_score` are of shape (n_ecgs,).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from metrics.checks import (
    check_share,
    checked,
    checked_probabilities,
    missing_class,
    patient_index,
    warn_undefined,
)
from metrics.metric import Metric
from metrics.proportions import clopper_pearson_interval, design_effect


def confusion_metrics(
    y_true: ArrayLike,
    y_score: ArrayLike,
    threshold: float | ArrayLike,
    confidence: float = 0.95,
    patient_ids: Sequence | None = None,
) -> dict:
    """Count the decisions of one threshold and derive the metrics of a diagnostic test.

    Clopper and Pearson's intervals take the ECGs as independent: with many ECGs of the same patients they
    are too narrow. With `patient_ids` both counts of each share are divided by its `design_effect` first.

    Parameters
    ----------
    threshold : float, or array of shape (n_ecgs,) where the ECGs' models differ, as in a cross-validation
        An ECG is flagged where ``y_score >= threshold``.
    confidence : float
        Confidence level of the intervals, between 0 and 1.
    patient_ids : sequence of length n_ecgs, optional

    Returns
    -------
    dict
        `confusion_matrix` (`tp`, `fp`, `tn`, `fn`); `sensitivity`, `specificity`, `ppv`, `npv` and
        `accuracy`, each a `Metric` with Clopper and Pearson's interval, `successes` and `n`; `f1` and
        `balanced_accuracy`, floats. nan, with a warning each, where undefined.
    """
    y_true, y_score = checked(y_true, y_score)
    if not np.isfinite(threshold).all() or np.shape(threshold) not in ((), y_score.shape):
        raise ValueError(f"threshold: expected a finite number, or one for each ECG, found {threshold}")
    flagged, positive = y_score >= threshold, y_true == 1
    tp, fp = int((flagged & positive).sum()), int((flagged & ~positive).sum())
    fn, tn = int((~flagged & positive).sum()), int((~flagged & ~positive).sum())
    patients = np.arange(len(y_true)) if patient_ids is None else patient_index(patient_ids, len(y_true))
    right = flagged == positive

    def share(metric: str, part: np.ndarray, reason_if_none: str) -> Metric:
        if not part.any():
            warn_undefined(metric, reason_if_none)
        return share_with_interval(right[part], patients[part], confidence)

    sensitivity = share("sensitivity", positive, "no positive ECG")
    specificity = share("specificity", ~positive, "no negative ECG")
    # Without a positive ECG, F1 would be 0 for every model
    f1 = 2 * tp / (2 * tp + fp + fn) if tp + fn else math.nan
    balanced_accuracy = (sensitivity.value + specificity.value) / 2
    for metric, value in (("F1", f1), ("balanced accuracy", balanced_accuracy)):
        if math.isnan(value):
            warn_undefined(metric, missing_class(y_true))
    return {
        "confusion_matrix": {"tp": tp, "fp": fp, "tn": tn, "fn": fn},
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ppv": share("PPV", flagged, "no ECG is flagged"),
        "npv": share("NPV", ~flagged, "every ECG is flagged"),
        "accuracy": share("accuracy", np.ones(len(y_true), bool), "no ECG"),
        "f1": f1,
        "balanced_accuracy": balanced_accuracy,
    }


def share_with_interval(right: np.ndarray, patients: np.ndarray, confidence: float = 0.95) -> Metric:
    """Return the share of right decisions, with Clopper and Pearson's interval."""
    successes, n, effect = int(right.sum()), len(right), design_effect(right, patients)
    low, high = clopper_pearson_interval(successes / effect, n / effect, confidence)
    return Metric(successes / n if n else math.nan, low, high, successes=successes, n=n)


def likelihood_ratios(sensitivity: Metric, specificity: Metric) -> dict[str, Metric]:
    """Return by how much a flagged, and an unflagged, ECG changes the odds of disease.

    Odds after the ECG are the odds before it times the ratio, at any prevalence. The intervals follow from
    those of sensitivity and specificity, which may be of clustered ECGs (MOVER-R: Newcombe, Stat Methods Med
    Res 2016;25:1774).

    Parameters
    ----------
    sensitivity, specificity : Metric, with their intervals

    Returns
    -------
    dict
        `positive`, sensitivity / (1 - specificity), and `negative`, (1 - sensitivity) / specificity. nan,
        with a warning, where a class is missing or the ratio is infinite; an infinite one has a lower end. So
        has a ratio whose denominator may be 0, as one patient with many ECGs leaves it; its high end is nan.
    """
    spared = _complement(specificity)
    missed = _complement(sensitivity)
    return {
        "positive": _ratio("positive", sensitivity, spared),
        "negative": _ratio("negative", missed, specificity),
    }


def _complement(share: Metric) -> Metric:
    return Metric(1 - share.value, 1 - share.high, 1 - share.low)


def _ratio(name: str, diseased: Metric, healthy: Metric) -> Metric:
    if not (diseased.is_defined and healthy.is_defined):
        warn_undefined(f"{name} likelihood ratio", "one class is missing")
        return Metric(math.nan)
    product = diseased.value * healthy.value

    def end(of_diseased: float, of_healthy: float, sign: int) -> float:
        """Return the ratio at one end; the errors of both shares add as squares do."""
        squared = of_healthy * (2 * healthy.value - of_healthy)
        root = math.sqrt(max(0.0, product**2 - of_diseased * (2 * diseased.value - of_diseased) * squared))
        return (product + sign * root) / squared

    low = end(diseased.low, healthy.high, -1)
    if healthy.value == 0:
        state = "flagged" if name == "positive" else "unflagged"
        reason = f"no ECG without disease is {state}"
        warn_undefined(f"{name} likelihood ratio", reason)
        return Metric(math.nan, low if diseased.value else math.nan, reason=reason)
    value = diseased.value / healthy.value
    if healthy.low == 0:
        return Metric(value, low, reason="no upper end: too few patients without disease")
    return Metric(value, low, end(diseased.high, healthy.low, 1))


def predictive_values_at(sensitivity: float, specificity: float, prevalence: float) -> tuple[float, float]:
    """Restate PPV and NPV for patients of another prevalence, by Bayes' theorem.

    Sensitivity and specificity are taken to be the same there, which needs the same spectrum of disease.

    Returns
    -------
    ppv, npv : float
        nan where no ECG would be flagged, or none unflagged.
    """
    check_share("sensitivity", sensitivity)
    check_share("specificity", specificity)
    check_share("prevalence", prevalence)
    true_positive, false_positive = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    true_negative, false_negative = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
    flagged, unflagged = true_positive + false_positive, true_negative + false_negative
    return (
        true_positive / flagged if flagged else math.nan,
        true_negative / unflagged if unflagged else math.nan,
    )


def decision_curve(
    y_true: ArrayLike, y_score: ArrayLike, thresholds: Sequence[float]
) -> dict[str, np.ndarray]:
    """Net benefit of acting by the score, always or never (Vickers & Elkin, Med Decis Making 2006;26:565).

    A threshold t is the probability of disease at which patient and doctor find CT angiography just worth it:
    one embolism found is then worth (1 - t) / t vain CTs. The net benefit, in true positives per ECG,
    is ``tp / n - fp / n * t / (1 - t)``. The scores have to be calibrated probabilities.

    Parameters
    ----------
    thresholds : sequence of numbers, at least 0 and below 1

    Returns
    -------
    dict of arrays of shape (n_thresholds,)
        `threshold`, `model`, `treat_all` and `treat_none` (0).
    """
    y_true, y_score = checked_probabilities(y_true, y_score, "the decision curve")
    thresholds = np.asarray(thresholds, dtype=np.float64)
    if thresholds.ndim != 1 or not ((thresholds >= 0) & (thresholds < 1)).all():
        raise ValueError(f"thresholds: expected numbers of at least 0 and below 1, found {thresholds}")
    weight = thresholds / (1 - thresholds)
    flagged = y_score >= thresholds[:, None]  # (n_thresholds, n_ecgs)
    prevalence = y_true.mean()
    return {
        "threshold": thresholds,
        "model": (flagged * y_true).mean(axis=1) - weight * (flagged * (1 - y_true)).mean(axis=1),
        "treat_all": prevalence - weight * (1 - prevalence),
        "treat_none": np.zeros(len(thresholds)),
    }
