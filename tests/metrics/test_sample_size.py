"""How wide an AUROC's interval will be: the paper's numbers, and scores from which its formula is derived."""

import math

import numpy as np
import pytest

from metrics.sample_size import expected_width, patients_of_classes, standard_error


@pytest.mark.parametrize(
    ("auroc", "n_positive", "n_negative", "expected"),
    [
        (0.85, 40, 40, 0.0437),  # the paper's example of two sample sizes
        (0.85, 60, 60, 0.0356),
        (0.5, 10, 20, np.sqrt(31 / (12 * 10 * 20))),  # of Wilcoxon's statistic by chance
    ],
)
def test_standard_errors_of_hanley_and_mcneil(auroc, n_positive, n_negative, expected):
    assert standard_error(auroc, n_positive, n_negative) == pytest.approx(expected, abs=5e-5)


def test_the_standard_error_is_that_of_exponential_scores():
    """From these the formula is derived; classes of unequal size tell which term is whose."""
    generator = np.random.default_rng(0)
    negative = np.sort(generator.exponential(size=(4000, 200)))
    positive = generator.exponential(0.9 / 0.1, size=(4000, 10))  # larger with a probability of 0.9
    pairs = zip(negative, positive, strict=True)
    aurocs = [np.searchsorted(below, above).mean() / 200 for below, above in pairs]
    assert np.mean(aurocs) == pytest.approx(0.9, abs=0.005)
    assert np.std(aurocs) == pytest.approx(standard_error(0.9, 10, 200), rel=0.04)
    assert np.std(aurocs) != pytest.approx(standard_error(0.9, 200, 10), rel=0.1)


def test_the_expected_width_is_that_of_the_standard_error():
    # By hand: Q1 - A² = 0.8/1.2 - 0.64 = 0.02667, Q2 - A² = 1.28/1.8 - 0.64 = 0.07111
    # (0.16 + 7 * 0.02667 + 45 * 0.07111) / (8 * 46) = 0.009637; its root is 0.09817
    assert expected_width(8, 46) == pytest.approx(2 * 1.96 * 0.09817, abs=1e-4)
    assert expected_width(1, 1, true_auroc=0.5) == 1  # it cannot be wider
    assert math.isnan(expected_width(0, 46)) and math.isnan(expected_width(8, 0))


def test_a_patient_counts_once_and_with_the_disease_where_one_ecg_has_it():
    y_true, patients = [1, 0, 0, 0, np.nan, 1, 1], ["a", "a", "b", "b", "c", "d", "d"]
    assert patients_of_classes(y_true, patients) == (2, 1)
