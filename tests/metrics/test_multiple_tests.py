"""Holm's adjusted p-values against an example by hand and statsmodels."""

import numpy as np
import pytest

from metrics.multiple_tests import holm


def test_holm_by_hand():
    # 0.01 x 4, 0.02 x 3, 0.03 x 2 = 0.06 as the one before, 0.5 x 1; in the order in which they came
    assert holm([0.03, 0.01, 0.5, 0.02]).tolist() == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.6, 0.9]).tolist() == [1, 1]


def test_an_undefined_p_is_no_test():
    found = holm([np.nan, 0.02, 0.04])
    assert np.isnan(found[0]) and found[1:].tolist() == pytest.approx([0.04, 0.04])
    assert np.isnan(holm([np.nan])).all() and len(holm([])) == 0


def test_of_equal_models_one_p_below_5_percent_is_rare():
    rng = np.random.default_rng(2)
    p_values = rng.random((2000, 8))
    assert np.mean([(holm(row) < 0.05).any() for row in p_values]) == pytest.approx(0.05, abs=0.015)
    assert np.mean((p_values < 0.05).any(axis=1)) > 0.3
