"""From scores to decisions, and what they are worth: thresholds, points of the ROC curve, net benefit.

`y_true` and `y_score` are of shape (n_ecgs,). The points "at 95 % sensitivity" and their like are read off
the ROC curve of the ECGs at hand: they describe that curve. As the result of a decision they would be
optimistic, since the threshold is fitted to the same ECGs; decisions need a threshold from others
(`choose_threshold`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from metrics.bootstrap import RankCounts, design_effect, rank_counts, wilson_interval
from metrics.checks import (
    checked,
    checked_probabilities,
    missing_class,
    normal_quantile,
    patient_index,
    warn_undefined,
)
from metrics.threshold_policy import parse_policy

# ----------------------------------------------------------------------------------------------------
# Thresholds, chosen on validation ECGs
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
    y_true, y_score = checked(y_true, y_score)
    if reason := missing_class(y_true):
        warn_undefined("Youden's threshold", f"{reason}; 0.5 is used")
        return 0.5
    scores, true_positives, true_negatives = _roc_counts(y_true, y_score)
    n_positive = y_true.sum()
    # Youden's index times n_positive * n_negative, and a constant: whole numbers, so that ties are ties
    index = true_positives * (len(y_true) - n_positive) + true_negatives * n_positive
    return _threshold_that_flags(scores, int(index[:-1].argmax()))  # the first of equals: the lowest


def choose_threshold(y_true: ArrayLike, y_score: ArrayLike, policy: str = "youden") -> float:
    """Choose the decision threshold on validation ECGs.

    As in `youden_threshold` it lies halfway between the lowest score that it flags and the next lower one.

    Parameters
    ----------
    y_true, y_score : array of shape (n_ecgs,)
    policy : "youden"; "sensitivity>=0.95", the highest threshold of at least that sensitivity (to rule out);
        "specificity>=0.9", the lowest of at least that specificity (to rule in); any number from 0 to 1

    Returns
    -------
    float
        0.5, with a warning, where one class is missing. A warning too where the policy can be met only by
        flagging every ECG, or none (by a threshold just above the highest score).

    Raises
    ------
    ValueError
        The policy is none of these.
    """
    metric, wanted = parse_policy(policy)
    if metric == "youden":
        return youden_threshold(y_true, y_score)
    y_true, y_score = checked(y_true, y_score)
    if reason := missing_class(y_true):
        warn_undefined(f"the threshold of {policy}", f"{reason}; 0.5 is used")
        return 0.5
    scores, true_positives, true_negatives = _roc_counts(y_true, y_score)
    if metric == "sensitivity":
        lowest_flagged = int(np.flatnonzero(true_positives / y_true.sum() >= wanted)[-1])
    else:
        lowest_flagged = int(np.flatnonzero(true_negatives / (1 - y_true).sum() >= wanted)[0])
    if lowest_flagged in (0, len(scores)):
        flagged = "every" if lowest_flagged == 0 else "no"
        warn_undefined(f"a useful threshold of {policy}", f"it flags {flagged} validation ECG")
    return _threshold_that_flags(scores, lowest_flagged)


def _roc_counts(y_true: np.ndarray, y_score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct scores, ascending, and what flagging from each one on decides rightly.

    Returns
    -------
    scores : array of shape (n_scores,)
    true_positives, true_negatives : array of shape (n_scores + 1,); the last flags nothing
    """
    scores, group = np.unique(y_score, return_inverse=True)
    below = [np.bincount(group[y_true == label], minlength=len(scores)).cumsum() for label in (0, 1)]
    true_negatives, positives_below = (np.concatenate([[0], counts]) for counts in below)
    return scores, y_true.sum() - positives_below, true_negatives


def _threshold_that_flags(scores: np.ndarray, lowest_flagged: int) -> float:
    """Return a threshold between the score of this index and the next lower one."""
    if lowest_flagged == 0:
        return float(scores[0])
    if lowest_flagged == len(scores):
        return float(np.nextafter(scores[-1], math.inf))
    below, above = scores[lowest_flagged - 1], scores[lowest_flagged]
    midpoint = (below + above) / 2
    return float(midpoint if midpoint > below else above)  # neighbouring floats have no midpoint


# ----------------------------------------------------------------------------------------------------
# Points of the ROC curve. The functions `..._of_counts` give each of many resamples: (n_resamples,)
# ----------------------------------------------------------------------------------------------------


class RuleOut(NamedTuple):
    """What the highest threshold of a wanted sensitivity rules out; arrays or floats alike."""

    specificity: float
    npv: float
    avoided_per_100: float  # ECGs below the threshold, of 100 ECGs
    missed_per_100: float  # positive ECGs among them


def sensitivity_at_specificity(y_true: ArrayLike, y_score: ArrayLike, specificity: float = 0.9) -> float:
    """Largest sensitivity of any threshold with at least this specificity, on these same ECGs.

    ECGs of one score are flagged together; between two points of the curve nothing is interpolated.

    Returns
    -------
    float
        From 0 to 1; nan, with a warning, where one class is missing.
    """
    counts = _counts_of("sensitivity at a specificity", y_true, y_score)
    return float(sensitivity_at_specificity_of_counts(counts, specificity)[0]) if counts else math.nan


def specificity_at_sensitivity(y_true: ArrayLike, y_score: ArrayLike, sensitivity: float = 0.95) -> RuleOut:
    """Specificity, NPV and CTs avoided at the highest threshold with at least this sensitivity.

    Returns
    -------
    RuleOut
        nan, with a warning, where one class is missing; its `npv` also where no ECG lies below.
    """
    counts = _counts_of("specificity at a sensitivity", y_true, y_score)
    if counts is None:
        return RuleOut(*[math.nan] * 4)
    return RuleOut(*(float(values[0]) for values in rule_out_of_counts(counts, sensitivity)))


def ct_avoided_per_100(
    y_true: ArrayLike, y_score: ArrayLike, sensitivity: float = 0.95
) -> tuple[float, float]:
    """CT angiographies that ruling out by the ECG would avoid, and the embolisms it would miss.

    Everybody below the highest threshold of that sensitivity goes without CT. Both numbers hold for the
    prevalence of these ECGs.

    Returns
    -------
    avoided, missed : float
        Of 100 patients, one ECG each; nan, with a warning, where one class is missing.
    """
    rule_out = specificity_at_sensitivity(y_true, y_score, sensitivity)
    return rule_out.avoided_per_100, rule_out.missed_per_100


def partial_auroc(y_true: ArrayLike, y_score: ArrayLike, min_specificity: float = 0.9) -> float:
    """Area under the part of the ROC curve from `min_specificity` to 1, standardised.

    McClish (Med Decis Making 1989;9:190) scales it such that 0.5 is chance and 1 is perfect.

    Returns
    -------
    float
        nan, with a warning, where one class is missing.
    """
    counts = _counts_of("partial AUROC", y_true, y_score)
    return float(partial_auroc_of_counts(counts, min_specificity)[0]) if counts else math.nan


def sensitivity_at_specificity_of_counts(counts: RankCounts, specificity: float = 0.9) -> np.ndarray:
    """As `sensitivity_at_specificity`: each score of a positive is tried, no other threshold is better."""
    _check_share("specificity", specificity)
    allowed = counts.negatives_below >= specificity * counts.n_negatives[:, None] - 1e-9
    return (counts.positives * allowed).sum(axis=1) / counts.positives.sum(axis=1)


def rule_out_of_counts(counts: RankCounts, sensitivity: float = 0.95) -> RuleOut:
    """As `specificity_at_sensitivity`; its items are arrays."""
    _check_share("sensitivity", sensitivity)
    positives_below = counts.positives.cumsum(axis=1) - counts.positives
    n_positives = counts.positives.sum(axis=1)
    enough = n_positives[:, None] - positives_below >= sensitivity * n_positives[:, None] - 1e-9
    rows, threshold = np.arange(len(enough)), _last(enough & (counts.positives > 0))  # a score that is drawn
    missed, ruled_out = positives_below[rows, threshold], counts.negatives_below[rows, threshold]
    below = missed + ruled_out
    return RuleOut(
        specificity=ruled_out / counts.n_negatives,
        npv=np.divide(ruled_out, below, out=np.full(len(below), math.nan), where=below > 0),
        avoided_per_100=100 * below / (n_positives + counts.n_negatives),
        missed_per_100=100 * missed / (n_positives + counts.n_negatives),
    )


def partial_auroc_of_counts(counts: RankCounts, min_specificity: float = 0.9) -> np.ndarray:
    """As `partial_auroc`: each positive adds the width right of its false positive rate; ties rise evenly."""
    if not 0 <= min_specificity < 1:
        raise ValueError(f"min_specificity: expected at least 0 and below 1, found {min_specificity}")
    width = 1 - min_specificity
    n_negatives = counts.n_negatives[:, None]
    tied = counts.negatives_tied / n_negatives
    start = 1 - (counts.negatives_below + counts.negatives_tied) / n_negatives  # false positive rate above
    right = width - start - tied  # of the whole tied group
    within = np.clip(width - start, 0, tied)
    slope_area = np.divide(within**2, 2 * tied, out=np.zeros_like(tied), where=tied > 0)
    area = (counts.positives * (slope_area + np.maximum(right, 0))).sum(axis=1) / counts.positives.sum(axis=1)
    chance = width**2 / 2
    return (1 + (area - chance) / (width - chance)) / 2


def _counts_of(metric: str, y_true: ArrayLike, y_score: ArrayLike) -> RankCounts | None:
    y_true, y_score = checked(y_true, y_score)
    if reason := missing_class(y_true):
        warn_undefined(metric, reason)
        return None
    return rank_counts(y_true, y_score)


def _last(found: np.ndarray) -> np.ndarray:
    """Return the index of the last true column of each row."""
    return found.shape[1] - 1 - found[:, ::-1].argmax(axis=1)


def _check_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"{name}: expected a number from 0 to 1, found {share}")


# ----------------------------------------------------------------------------------------------------
# Of one threshold
# ----------------------------------------------------------------------------------------------------


def confusion_metrics(
    y_true: ArrayLike,
    y_score: ArrayLike,
    threshold: float | ArrayLike,
    confidence: float = 0.95,
    patient_ids: Sequence | None = None,
) -> dict:
    """Count the decisions of one threshold and derive the metrics of a diagnostic test.

    Wilson's intervals take the ECGs as independent: with many ECGs of the same patients they are too narrow.
    With `patient_ids` they are those of as many independent ECGs as tell the same (`design_effect`).

    Parameters
    ----------
    y_true, y_score : array of shape (n_ecgs,)
    threshold : float, or array of shape (n_ecgs,) where the ECGs' models differ, as in a cross-validation
        An ECG is flagged where ``y_score >= threshold``.
    confidence : float
        Of the intervals, between 0 and 1.
    patient_ids : sequence of length n_ecgs, optional

    Returns
    -------
    dict
        `confusion_matrix` (`tp`, `fp`, `tn`, `fn`); `sensitivity`, `specificity`, `ppv`, `npv` and
        `accuracy`, each with `value`, `low`, `high` (Wilson), `successes` and `n`; `f1` and
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

    def share(metric: str, part: np.ndarray, reason_if_none: str) -> dict:
        if not part.any():
            warn_undefined(metric, reason_if_none)
        return share_with_interval(right[part], patients[part], confidence)

    sensitivity = share("sensitivity", positive, "no positive ECG")
    specificity = share("specificity", ~positive, "no negative ECG")
    # Without a positive ECG, F1 would be 0 for every model
    f1 = 2 * tp / (2 * tp + fp + fn) if tp + fn else math.nan
    balanced_accuracy = (sensitivity["value"] + specificity["value"]) / 2
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


def share_with_interval(right: np.ndarray, patients: np.ndarray, confidence: float = 0.95) -> dict:
    """Return the share of right decisions: `value`, `low`, `high` (Wilson), `successes` and `n`."""
    successes, n, effect = int(right.sum()), len(right), design_effect(right, patients)
    low, high = wilson_interval(successes / effect, n / effect, confidence)
    return {
        "value": successes / n if n else math.nan,
        "low": low,
        "high": high,
        "successes": successes,
        "n": n,
    }


def likelihood_ratios(counts: Mapping[str, float], confidence: float = 0.95) -> dict[str, dict[str, float]]:
    """Return by how much a flagged, and an unflagged, ECG changes the odds of disease.

    Odds after the ECG are the odds before it times the ratio, whatever the prevalence. The intervals are
    symmetric on the logarithmic scale (Simel, Samsa & Matchar, J Clin Epidemiol 1991;44:763).

    Parameters
    ----------
    counts : dictionary of `tp`, `fp`, `tn` and `fn`
        Where ECGs are not independent, those of each class divided by its `bootstrap.design_effect`.

    Returns
    -------
    dict
        `positive`, sensitivity / (1 - specificity), and `negative`, (1 - sensitivity) / specificity, each
        with `value`, `low` and `high`. nan, with a warning, where the ratio is infinite or a class
        missing; the interval alone is nan where the ratio is 0.
    """
    n_positive, n_negative = counts["tp"] + counts["fn"], counts["tn"] + counts["fp"]
    return {
        "positive": _ratio("positive", counts["tp"], n_positive, counts["fp"], n_negative, confidence),
        "negative": _ratio("negative", counts["fn"], n_positive, counts["tn"], n_negative, confidence),
    }


def _ratio(
    name: str, diseased: float, n_diseased: float, healthy: float, n_healthy: float, confidence: float
) -> dict[str, float]:
    z = normal_quantile(confidence)
    if not (n_diseased and n_healthy and healthy):
        reason = f"no ECG without disease is {'flagged' if name == 'positive' else 'unflagged'}"
        warn_undefined(
            f"{name} likelihood ratio", reason if n_diseased and n_healthy else "one class is missing"
        )
        return dict.fromkeys(("value", "low", "high"), math.nan)
    value = diseased / n_diseased / (healthy / n_healthy)
    if diseased == 0:
        return {"value": value, "low": math.nan, "high": math.nan}
    margin = z * math.sqrt(1 / diseased - 1 / n_diseased + 1 / healthy - 1 / n_healthy)
    return {"value": value, "low": value * math.exp(-margin), "high": value * math.exp(margin)}


def predictive_values_at(sensitivity: float, specificity: float, prevalence: float) -> tuple[float, float]:
    """Restate PPV and NPV for patients of another prevalence, by Bayes' theorem.

    Sensitivity and specificity are taken to be the same there, which asks for the same spectrum of disease.

    Returns
    -------
    ppv, npv : float
        nan where no ECG would be flagged, or none unflagged.
    """
    for name, share in (
        ("sensitivity", sensitivity),
        ("specificity", specificity),
        ("prevalence", prevalence),
    ):
        _check_share(name, share)
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
    one embolism found is then worth (1 - t) / t vain CTs. The net benefit, in true positives for each ECG,
    is ``tp / n - fp / n * t / (1 - t)``. The scores have to be calibrated probabilities.

    Parameters
    ----------
    y_true, y_score : array of shape (n_ecgs,)
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
