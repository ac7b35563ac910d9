"""Wilson's interval and the design effect against published values, SciPy and simulation."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from metrics import proportions


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    "successes, n, low, high",  # Newcombe, Stat Med 1998;17:857, Table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_of_newcombe(successes, n, low, high):
    assert proportions.wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_of_scipy():
    for successes, n, confidence in [(0, 7, 0.95), (7, 7, 0.9), (14, 21, 0.95), (133, 181, 0.99)]:
        expected = binomtest(successes, n).proportion_ci(confidence, method="wilson")
        found = proportions.wilson_interval(successes, n, confidence)
        assert found == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert 0 <= found[0] <= successes / n <= found[1] <= 1
    assert np.isnan(proportions.wilson_interval(0, 0)).all()
    with pytest.raises(ValueError, match="successes"):
        proportions.wilson_interval(5, 4)


def test_clopper_pearson_interval_of_scipy():
    for successes, n, confidence in [(0, 7, 0.95), (7, 7, 0.9), (14, 21, 0.95), (133, 181, 0.99)]:
        expected = binomtest(successes, n).proportion_ci(confidence, method="exact")
        found = proportions.clopper_pearson_interval(successes, n, confidence)
        assert found == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert proportions.clopper_pearson_interval(9, 9)[0] == pytest.approx(0.025 ** (1 / 9))
    assert np.isnan(proportions.clopper_pearson_interval(0, 0)).all()
    with pytest.raises(ValueError, match="successes"):
        proportions.clopper_pearson_interval(5, 4)


def test_quantile_ranks_are_those_of_the_binomial():
    assert proportions.quantile_ranks(71, 0.05)[0] == 0  # 0.95**71 is above 0.025, 0.95**72 below
    assert proportions.quantile_ranks(72, 0.05)[0] == 1
    assert proportions.quantile_ranks(9, 0.5) == (2, 8)  # the sign test of nine, 0.961
    for n, share in ((100, 0.05), (350, 0.2)):
        low, high = proportions.quantile_ranks(n, share)
        below = binom(n, share)
        assert below.cdf(low - 1) <= 0.025 < below.cdf(low)
        assert below.sf(high - 1) <= 0.025 < below.sf(high - 2)
    # of five values 0 to 3 lie below the 95 % quantile in 2.3 of 100 samples, all in most: no upper end
    assert proportions.quantile_ranks(5, 0.95) == (4, 6)


def test_design_effect_by_hand():
    # patients of 2, 2 and 1 ECGs with 2, 0 and 1 right: share 3/5, deviations 0.8, -1.2 and 0.4
    right, patients = np.array([1, 1, 0, 0, 1], bool), np.array([0, 0, 1, 1, 2])
    variance = 3 / 2 * (0.64 + 1.44 + 0.16) / 25
    assert proportions.design_effect(right, patients) == pytest.approx(variance / (0.6 * 0.4 / 5))
    assert proportions.design_effect(right, np.arange(5)) == 1
    assert proportions.design_effect(np.ones(6, bool), np.repeat([0, 1], 3)) == 3
    assert proportions.design_effect(np.array([], bool), np.array([], int)) == 1
    opposite = np.array([0, 1] * 10, bool), np.repeat(range(10), 2)
    assert proportions.design_effect(*opposite) == 1  # never narrower than independent ECGs


def test_wilson_interval_of_patients_covers(rng):
    covered = {"patients": 0, "ECGs": 0}
    for _ in range(400):
        patients = np.repeat(np.arange(60), 4)
        chance = rng.beta(1.4, 0.6, size=60)[patients]  # 0.7 in the mean, alike within a patient
        right = rng.random(240) < chance
        for name, effect in (("patients", proportions.design_effect(right, patients)), ("ECGs", 1)):
            low, high = proportions.wilson_interval(right.sum() / effect, 240 / effect)
            covered[name] += low <= 0.7 <= high
    assert covered["patients"] / 400 == pytest.approx(0.95, abs=0.025)
    assert covered["ECGs"] / 400 < 0.85
