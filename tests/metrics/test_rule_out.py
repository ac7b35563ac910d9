"""Ruling out: the numbers at 95 % sensitivity, by hand, and whether their intervals hold."""

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest, norm

from metrics import rule_out


def study(n_positive, n_negative):
    """Positives at 0.5, 1.5, …, negatives evenly over the same range; one ECG a patient."""
    y_true = np.repeat([1, 0], [n_positive, n_negative])
    y_score = np.concatenate([np.arange(n_positive) + 0.5, np.arange(n_negative) * n_positive / n_negative])
    return y_true, y_score, np.arange(len(y_true))


def test_too_few_positives_say_nothing():
    found = rule_out.rule_out(*study(74, 200))
    assert tuple(found) == rule_out.KEYS
    for metric in found.values():
        assert math.isnan(metric.value) and not metric.has_interval
        assert metric.reason == "too few positives (74)"
    # ECGs are not patients
    y_true, y_score, _ = study(100, 200)
    assert not rule_out.rule_out(y_true, y_score, np.arange(300) // 2)[rule_out.KEYS[0]].is_defined


def test_what_may_lie_below_the_lowest_of_n():
    assert rule_out.share_that_may_lie_below(9) == pytest.approx(0.336, abs=5e-4)
    assert rule_out.share_that_may_lie_below(20) == pytest.approx(0.168, abs=5e-4)
    assert rule_out.share_that_may_lie_below(72) == pytest.approx(0.05, abs=1e-3)
    assert binom(9, rule_out.share_that_may_lie_below(9)).pmf(0) == pytest.approx(0.025)
    assert rule_out.share_that_may_lie_below(0) == 1


def test_numbers_by_hand():
    # 5 of 100 positives lie below 5.5, and 55 of 1,000 negatives, which stand at 0, 0.1, 0.2, …
    found = rule_out.rule_out(*study(100, 1000))
    specificity, npv, avoided = found.values()
    prevalence = 100 / 1100
    assert specificity.value == pytest.approx(0.055)
    assert npv.value == pytest.approx(55 / 60) and avoided.value == pytest.approx(100 * 60 / 1100)
    assert avoided.missed_per_100 == pytest.approx(5 * prevalence)  # 5 % of those who have it
    # the quantile lies between the 1st and the 10th positive, at 0.5 and 9.5
    assert binom(100, 0.05).cdf(0) < 0.025 < binom(100, 0.05).cdf(1)
    assert binom(100, 0.05).sf(9) > 0.025 > binom(100, 0.05).sf(10)
    exact = binomtest(55, 1000).proportion_ci(method="exact")
    assert specificity.low == pytest.approx(0.055 - math.hypot(0.055 - 0.005, 0.055 - exact.low))
    assert specificity.high == pytest.approx(0.055 + math.hypot(0.105 - 0.055, exact.high - 0.055))


def test_intervals_hold_the_truth_and_their_misses_are_not_all_flattering():
    rng, shift, n_studies = np.random.default_rng(0), 1.2, 200
    specificity = norm.cdf(shift + norm.ppf(0.05))
    truth = specificity, specificity * 0.9 / (specificity * 0.9 + 0.005), 100 * (specificity * 0.9 + 0.005)
    covered = np.zeros(3)
    for _ in range(n_studies):
        y_true = (rng.random(1000) < 0.1).astype(int)
        found = rule_out.rule_out(y_true, rng.normal(size=1000) + shift * y_true, range(1000))
        covered += [one.low <= value <= one.high for one, value in zip(found.values(), truth, strict=True)]
    assert (covered / n_studies >= 0.94).all()


def test_repeated_ecgs_of_a_patient_add_no_certainty():
    y_true, y_score, patients = study(100, 300)
    once = rule_out.rule_out(y_true, y_score, patients)
    often = rule_out.rule_out(*(np.repeat(column, 3) for column in (y_true, y_score, patients)))
    for key, metric in once.items():
        assert often[key][:3] == pytest.approx(metric[:3], rel=0.02, abs=0.004)


def test_equal_scores_rule_nothing_out():
    y_true, _, patients = study(80, 100)
    specificity, npv, avoided = rule_out.rule_out(y_true, np.full(180, 0.3), patients).values()
    assert specificity.value == specificity.low == 0 and 0 < specificity.high < 0.05
    assert np.isfinite([npv[:3], avoided[:3]]).all()
