"""Points and parts of each resample's ROC curve: arrays of shape (n_resamples,).

The points "at 95 % sensitivity" and their like are read off the ROC curve of the ECGs at hand: they describe
that curve. As the result of a decision they would be optimistic, since the threshold is fitted to the same
ECGs; decisions need a threshold from others (`thresholds.choose_threshold`).
"""

import math
from typing import NamedTuple

import numpy as np

from metrics.bootstrap import RankCounts
from metrics.checks import check_share


class RuleOut(NamedTuple):
    """What the highest threshold of a wanted sensitivity rules out: arrays of shape (n_resamples,)."""

    specificity: np.ndarray
    npv: np.ndarray
    avoided_per_100: np.ndarray  # ECGs below the threshold, per 100 ECGs
    missed_per_100: np.ndarray  # positive ECGs among them


def sensitivity_at_specificity_of_counts(counts: RankCounts, specificity: float = 0.9) -> np.ndarray:
    """Largest sensitivity of any threshold with at least this specificity, on these same ECGs.

    ECGs of one score are flagged together; between two points of the curve nothing is interpolated. Each
    score of a positive is tried, no other threshold is better.
    """
    check_share("specificity", specificity)
    allowed = counts.negatives_below >= specificity * counts.n_negatives[:, None] - 1e-9
    return (counts.positives * allowed).sum(axis=1) / counts.positives.sum(axis=1)


def rule_out_of_counts(counts: RankCounts, sensitivity: float = 0.95) -> RuleOut:
    """Specificity, NPV and CTs avoided at the highest threshold with at least this sensitivity.

    Everybody below that threshold goes without CT angiography. What that avoids and misses of 100 patients,
    one ECG each, holds for the prevalence of these ECGs.

    Returns
    -------
    RuleOut of arrays; the NPV is nan where no ECG lies below.
    """
    check_share("sensitivity", sensitivity)
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
    """Area under the part of the ROC curve from `min_specificity` to 1, standardised.

    McClish (Med Decis Making 1989;9:190) scales it such that 0.5 is chance and 1 is perfect. Each positive
    adds the width right of its false positive rate; ties rise evenly.
    """
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


def _last(found: np.ndarray) -> np.ndarray:
    """Return the index of the last true column of each row."""
    return found.shape[1] - 1 - found[:, ::-1].argmax(axis=1)
