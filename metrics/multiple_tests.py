"""Many tests at once: p-values that keep the chance of any false alarm."""

import numpy as np
from numpy.typing import ArrayLike


def holm(p_values: ArrayLike) -> np.ndarray:
    """Return Holm's adjusted p-values (Scand J Statist 1979;6:65): (n_tests,); nan stays nan, not counted.

    Where no difference exists, the chance that any of these p is below 0.05 is 5 % at most, however the tests
    depend on each other.
    """
    p_values = np.asarray(p_values, float)
    adjusted = np.full(len(p_values), np.nan)
    order = np.argsort(p_values)[: int(np.isfinite(p_values).sum())]  # nan is sorted to the end
    times = np.arange(len(order), 0, -1)  # the smallest p stands against all tests, the next against the rest
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p_values[order] * times))
    return adjusted
