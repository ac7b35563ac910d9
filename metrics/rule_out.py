"""Ruling a disease out: what a threshold that still finds 95 % of the diseased would spare, and its price.

Everybody below that threshold goes without CT angiography. It lies at the 5 % quantile of the diseased's
scores, of which few positives say little: with fewer than 72, whatever their scores, no lower bound of that
quantile exists at a confidence of 95 % (0.95**72 = 0.025). So nothing is said below `MIN_PATIENTS`, and the
price is that of the wanted sensitivity, 5 % of the diseased, not the share that these ECGs happen to show.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from metrics.checks import checked, patient_index
from metrics.log_odds import expit, logit
from metrics.metric import Metric
from metrics.proportions import clopper_pearson_interval, design_effect, quantile_ranks

MIN_PATIENTS = 75  # with the disease
KEYS = ("specificity_at_sensitivity_95", "npv_at_sensitivity_95", "ct_avoided_per_100")


def rule_out(
    y_true: ArrayLike, y_score: ArrayLike, patient_ids: Sequence, confidence: float = 0.95
) -> dict[str, Metric]:
    """Return specificity, NPV and avoided CTs at the threshold of 95 % sensitivity.

    Specificity: a quantile lies between two order statistics of the positives' scores, whatever their
    distribution (`proportions.quantile_ranks`); the specificities at these two, and Clopper and Pearson's
    interval at the threshold itself, are combined as independent errors (MOVER: Zou & Donner, Stat Med
    2008;27:1693). NPV and the avoided CTs follow from it, the sensitivity of 95 % and the prevalence of these
    ECGs, whose error is combined in the same way. ECGs of one patient are divided by their design effect.

    Parameters
    ----------
    y_true, y_score : array of shape (n_ecgs,), both classes
    patient_ids : sequence of length n_ecgs

    Returns
    -------
    dict of Metric
        `KEYS`; `ct_avoided_per_100`, of 100 patients, has `missed_per_100`, the diseased among them. nan,
        with the reason, where fewer than `MIN_PATIENTS` patients have the disease.
    """
    y_true, y_score = checked(y_true, y_score)
    patients, positive = patient_index(patient_ids, len(y_true)), y_true == 1
    n_patients = len(np.unique(patients[positive]))
    if n_patients < MIN_PATIENTS:
        return dict.fromkeys(KEYS, Metric(math.nan, reason=f"too few positives ({n_patients})"))
    specificity, low, high = _specificity(positive, y_score, patients, confidence)
    prevalence = float(positive.mean())
    effect = design_effect(positive, patients)
    ends = clopper_pearson_interval(positive.sum() / effect, len(positive) / effect, confidence)
    odds = logit(np.array([_npv(specificity, prevalence), _npv(low, prevalence), _npv(high, prevalence)]))
    of_prevalence = logit(np.array([_npv(specificity, end) for end in ends]))
    npv = expit(np.array(_combined(odds, of_prevalence)))
    avoided = _combined(
        [_avoided(share, prevalence) for share in (specificity, low, high)],
        [_avoided(specificity, end) for end in ends],
    )
    missed = 100 * _missed(prevalence)
    return {
        KEYS[0]: Metric(specificity, low, high),
        KEYS[1]: Metric(_npv(specificity, prevalence), *npv.tolist()),
        KEYS[2]: Metric(_avoided(specificity, prevalence), *avoided, missed_per_100=missed),
    }


def share_that_may_lie_below(n: int, confidence: float = 0.95) -> float:
    """Return how many of the diseased may lie below the lowest score of n of them: 0.34 for 9, 0.17 for 20.

    Had a share p of them lower scores, all n would lie above with a chance of (1 - p)**n: the largest p for
    which that is (1 - confidence) / 2.
    """
    return 1 - ((1 - confidence) / 2) ** (1 / n) if n else 1.0


def _specificity(
    positive: np.ndarray, y_score: np.ndarray, patients: np.ndarray, confidence: float
) -> tuple[float, float, float]:
    """Return the specificity at the highest threshold of at least 95 % sensitivity, and its interval."""
    found, others = np.sort(y_score[positive]), y_score[~positive]
    n, threshold = len(found), found[int(0.05 * len(found) + 1e-9)]
    right = others < threshold
    specificity, effect = float(right.mean()), design_effect(right, patients[~positive])
    low, high = clopper_pearson_interval(right.sum() / effect, len(right) / effect, confidence)
    n_effective = int(n / design_effect(y_score[positive] < threshold, patients[positive]))
    ranks = quantile_ranks(n_effective, 0.05, confidence)
    first, last = math.floor(ranks[0] / n_effective * n), min(n, math.ceil(ranks[1] / n_effective * n))
    at_first = float((others < found[first - 1]).mean()) if first else 0.0
    at_last = float((others < found[last - 1]).mean())
    low, high = _combined((specificity, at_first, at_last), (low, high))
    return specificity, max(0.0, low), min(1.0, high)


def _combined(first: tuple[float, float, float], second_ends: tuple[float, float]) -> tuple[float, float]:
    """Return the ends around a value of two independent errors: its distances from both add as squares do.

    Parameters
    ----------
    first : the value, and its low and high end by the first error
    second_ends : its ends by the second error, in any order
    """
    value, low, high = first
    below = math.hypot(value - low, value - min(second_ends))
    return value - below, value + math.hypot(high - value, max(second_ends) - value)


def _npv(specificity: float, prevalence: float) -> float:
    """Return the share without the disease among those below, just off 0 and 1, whose logit is infinite."""
    well, missed = specificity * (1 - prevalence), _missed(prevalence)
    return min(max(well / (well + missed), 1e-12), 1 - 1e-12)


def _avoided(specificity: float, prevalence: float) -> float:
    """Return how many of 100 lie below."""
    return 100 * (specificity * (1 - prevalence) + _missed(prevalence))


def _missed(prevalence: float) -> float:
    return 0.05 * prevalence
