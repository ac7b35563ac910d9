"""How far the risks of the same patients differ between models, by hand."""

import math

import numpy as np
import pytest

from metrics.instability import instability


def test_by_hand():
    risks = np.array([[0.1, 0.3], [0.5, 0.5], [0.2, 0.8], [0.4, np.nan]])  # the last has only one
    found = instability(risks, risks >= 0.5)
    # errors 0.1, 0 and 0.3; spans 0.2, 0 and 0.6, whose 95 % percentile is 0.2 + 0.9 * 0.4
    assert found["mape"] == pytest.approx(0.4 / 3) and found["largest_mape"] == pytest.approx(0.3)
    assert found["span"] == pytest.approx(0.2) and found["span_of_most"] == pytest.approx(0.56)
    assert found["changed"] == pytest.approx(1 / 3)  # the third alone is flagged by one of two


def test_of_three_models_and_of_one():
    found = instability(np.array([[0.2, 0.4, 0.9]]), np.array([[False, False, True]]))
    assert found["mape"] == pytest.approx((0.3 + 0.1 + 0.4) / 3) and found["changed"] == 1
    assert all(math.isnan(value) for value in instability(np.array([[0.2]]), np.array([[True]])).values())
