"""Sets of labels with a guarantee: a diagnosis, its absence, or "not sure" (split-conformal, for each class).

Vovk, Gammerman & Shafer 2005, Algorithmic Learning in a Random World, chapter 4 (label-conditional, Mondrian
predictors); Angelopoulos & Bates 2021, arXiv:2107.07511.
"""

import math
from typing import NamedTuple

import numpy as np

NOT_SURE = -1  # among decisions 1 and 0


class ConformalSets(NamedTuple):
    """What the sets are fitted to.

    Attributes
    ----------
    positive, negative : the scores of calibration ECGs with and without the diagnosis, one per patient, of
        ECGs that no weight was fitted on; sorted.
    """

    positive: np.ndarray
    negative: np.ndarray

    @classmethod
    def fit(cls, y_true: np.ndarray, y_score: np.ndarray) -> "ConformalSets":
        """Return sets from labels, 0 or 1, and scores, both (n_ecgs,)."""
        return cls(np.sort(y_score[y_true == 1]), np.sort(y_score[y_true == 0]))

    def decide(self, y_score: np.ndarray, alpha: float) -> np.ndarray:
        """Return 1, 0 or ``NOT_SURE`` for each ECG, (n_ecgs,).

        An ECG's set has each class of which it is not among the strangest share of ``alpha``: too low a
        score for a positive, too high a one for a negative. If the new ECG and the calibration ECGs of its
        class are exchangeable, the set has its true class with a probability of 1 - ``alpha`` or more, in
        each class.
        A set of both classes, or of none, is ``NOT_SURE``.
        """
        as_low = np.searchsorted(self.positive, y_score, side="right") + 1
        as_high = len(self.negative) - np.searchsorted(self.negative, y_score, side="left") + 1
        may_be_positive = as_low > alpha * (len(self.positive) + 1)
        may_be_negative = as_high > alpha * (len(self.negative) + 1)
        return np.where(may_be_positive == may_be_negative, NOT_SURE, may_be_positive.astype(int))


def fewest_for(alpha: float) -> int:
    """Return the fewest calibration ECGs of a class with which a set can ever be without it."""
    return math.ceil(round(1 / alpha, 9)) - 1
