"""Points and parts of each resample's ROC curve: arrays of shape (n_resamples,).

The points "at 90 % specificity" and their like are read off the ROC curve of the ECGs at hand: they describe
that curve. As the result of a decision they would be optimistic, since the threshold is fitted to the same
ECGs; decisions need a threshold from others (`thresholds.choose_threshold`).
"""

import numpy as np

from metrics.bootstrap import RankCounts
from metrics.checks import check_share


def sensitivity_at_specificity_of_counts(counts: RankCounts, specificity: float = 0.9) -> np.ndarray:
    """Largest sensitivity of any threshold with at least this specificity, on these same ECGs.

    ECGs of one score are flagged together; between two points of the curve nothing is interpolated. Each
    score of a positive is tried, no other threshold is better.
    """
    check_share("specificity", specificity)
    allowed = counts.negatives_below >= specificity * counts.n_negatives[:, None] - 1e-9
    return (counts.positives * allowed).sum(axis=1) / counts.positives.sum(axis=1)


def partial_auroc_of_counts(counts: RankCounts, min_specificity: float = 0.9) -> np.ndarray:
    """Area under the part of the ROC curve from `min_specificity` to 1, standardised.

    McClish (Med Decis Making 1989;9:190) scales it such that 0.5 is chance and 1 is perfect. Each positive
    adds the width right of its false positive rate; ties rise evenly. The least is `least_partial_auroc`.
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


def least_partial_auroc(min_specificity: float = 0.9) -> float:
    """Return the standardised area of a curve that finds nothing down to `min_specificity`."""
    width = 1 - min_specificity
    return (1 - width / (2 - width)) / 2
