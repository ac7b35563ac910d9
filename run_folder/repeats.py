"""Each ECG once: a repeated cross-validation has a score of it in every repeat, as a row of its own."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd


def first_repeat(scores: pd.DataFrame) -> np.ndarray:
    """Return which rows hold each ECG once, those of the first repeat: booleans of shape (n_rows,).

    Parameters
    ----------
    scores : with the column repeat, from 1; without it, as in the first versions, nothing was repeated.
    """
    return (scores["repeat"] == 1).to_numpy() if "repeat" in scores else np.ones(len(scores), bool)


def ecgs_of(n_scores: int, metrics: Mapping[str, Any]) -> int:
    """Return how many ECGs so many scores are of.

    Parameters
    ----------
    metrics : of a run, which count every score; `n_repeats` says how many an ECG has, 1 where it is absent.
    """
    return n_scores // metrics.get("n_repeats", 1)
