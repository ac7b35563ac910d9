"""Probability and log-odds against scipy.special, to the last digits and at the ends."""

import numpy as np
import pytest
from scipy import special

from metrics.log_odds import expit, logit


def test_expit_is_that_of_scipy():
    values = np.concatenate([np.linspace(-50, 50, 1001), [-700, -1e6, 700, 1e6, -np.inf, np.inf]])
    np.testing.assert_allclose(expit(values), special.expit(values), rtol=1e-13, atol=0)
    assert expit(0) == 0.5 and expit(np.float32(0)).dtype == np.float64


@pytest.mark.filterwarnings("error")
def test_logit_is_that_of_scipy():
    values = np.concatenate([np.linspace(0, 1, 1001), [1e-300, 1e-15, 1 - 1e-15]])
    np.testing.assert_allclose(logit(values), special.logit(values), rtol=1e-12, atol=1e-15)
    assert logit(0) == -np.inf and logit(1) == np.inf
    np.testing.assert_allclose(expit(logit(values)), values, rtol=1e-12)
