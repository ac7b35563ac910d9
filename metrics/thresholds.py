"""The decision threshold: the prevalence, Youden's, or one of a wanted sensitivity or specificity.

`y_true` and `y_score` are of shape (n_ecgs,).
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from metrics.checks import checked, missing_class, patient_index, warn_undefined
from metrics.decisions import share_with_interval
from metrics.threshold_policy import parse_policy

FEWEST_TO_CHOOSE = 50  # positives; with fewer, what is chosen on them is chosen largely by chance
CONFIDENCE, CONFIDENCE_OF_A_MAXIMUM = 0.95, 0.99  # of `expected_of_choice`


def youden_threshold(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Return the threshold that maximises sensitivity + specificity - 1 (Youden 1950), from validation.

    The threshold lies halfway between the lowest score that it flags and the next lower one, so that rounding
    a score changes no decision. Where several thresholds are equally good, the lowest is taken: the one of
    the highest sensitivity, since a missed embolism costs more than a CT angiography. Where no threshold does
    better than flagging every ECG, the lowest score is returned, which does that.

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


def choose_threshold(y_true: ArrayLike, y_score: ArrayLike, policy: str = "prevalence") -> float:
    """Choose the decision threshold on ECGs that the model was not trained on, never on test ECGs.

    Where probabilities are right, Youden's index is largest at the threshold that equals the prevalence,
    which is known better than the highest point of a curve through ten positives. The other policies look for
    a point of the curve: halfway between the lowest score that is flagged and the next lower one.

    Parameters
    ----------
    policy : "prevalence", the share of positives among these ECGs; "youden"; "sensitivity>=0.95", the highest
        threshold of at least that sensitivity (to rule out); "specificity>=0.9", the lowest of at least that
        specificity (to rule in); any number from 0 to 1

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
    if metric == "prevalence":
        return float(y_true.mean())
    scores, true_positives, true_negatives = _roc_counts(y_true, y_score)
    if metric == "sensitivity":
        lowest_flagged = int(np.flatnonzero(true_positives / y_true.sum() >= wanted)[-1])
    else:
        lowest_flagged = int(np.flatnonzero(true_negatives / (1 - y_true).sum() >= wanted)[0])
    if lowest_flagged in (0, len(scores)):
        flagged = "every" if lowest_flagged == 0 else "no"
        warn_undefined(f"a useful threshold of {policy}", f"it flags {flagged} validation ECG")
    return _threshold_that_flags(scores, lowest_flagged)


def expected_of_choice(
    y_true: ArrayLike,
    y_score: ArrayLike,
    threshold: float,
    policy: str,
    patient_ids: ArrayLike | None = None,
) -> dict[str, list[float]]:
    """Return what a threshold will give on new patients, as intervals, from the ECGs that it was chosen on.

    Where n positives choose the threshold, it lies at one of their n scores, and the share of all positives
    above it follows a beta distribution (that of an order statistic): 0.69 to 1.00 for a sensitivity of 95 %
    from ten. That is Clopper & Pearson's interval (Biometrika 1934;26:404) of the share that was found.
    Youden's index is the highest of many points and so flatters itself; 99 % in place of 95 % makes up for
    it. Simulated with 4 to 82 positives, these intervals hold the truth in 0.94 to 1.00 of studies
    (docs/metrics.md). Where patients have several ECGs, they count for fewer, by the design effect.

    Parameters
    ----------
    threshold, policy : what `choose_threshold` chose on these ECGs, and how.
    patient_ids : sequence of length n_ecgs, optional

    Returns
    -------
    dict
        `sensitivity` and `specificity`: low and high. Empty where one class is missing.
    """
    y_true, y_score = checked(y_true, y_score)
    if missing_class(y_true):
        return {}
    patients = np.arange(len(y_true)) if patient_ids is None else patient_index(patient_ids, len(y_true))
    confidence = CONFIDENCE_OF_A_MAXIMUM if policy == "youden" else CONFIDENCE
    expected = {}
    for name, part in (("sensitivity", y_true == 1), ("specificity", y_true == 0)):
        right = (y_score >= threshold)[part] == (name == "sensitivity")
        share = share_with_interval(right, patients[part], confidence)
        expected[name] = [share.low, share.high]
    return expected


def _roc_counts(y_true: np.ndarray, y_score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct scores, ascending, and how many ECGs each decides rightly as the lowest flagged.

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
