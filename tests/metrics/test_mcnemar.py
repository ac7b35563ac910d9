"""McNemar's test against values by hand, statsmodels, all signs one by one, and simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest, chi2
from sklearn.exceptions import UndefinedMetricWarning

from metrics.mcnemar import mcnemar_test

pytestmark = pytest.mark.filterwarnings("ignore:McNemar's test of specificity")

# 29 psychiatrists, 135 patients: who was called depressed in one way only (Durkalski, Stat Med 2003;22:2417)
ONE_WAY = [0, 1, 1, 1, 0, 3, 3, 3, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 1, 1, 2, 0, 0, 0, 0, 0, 0, 0]
THE_OTHER = [4, 2, 3, 2, 1, 3, 0, 2, 2, 4, 2, 4, 3, 2, 1, 3, 1, 2, 0, 0, 0, 2, 1, 2, 2, 0, 0, 1, 1]


def of_patients(only_a, only_b):
    """Return decisions of positives, and patients, of whom A alone and B alone find these numbers."""
    patients = np.repeat(np.arange(len(only_a)), np.add(only_a, only_b))
    found_by_a = np.concatenate([[1] * a + [0] * b for a, b in zip(only_a, only_b, strict=True)]).astype(int)
    return np.ones(len(patients), int), found_by_a, 1 - found_by_a, patients


def test_mcnemar_by_hand():
    # 20 positives: A alone finds 4, B alone 12; 10 negatives: both right on 7, A alone on 3
    y_true = np.repeat([1, 1, 1, 0, 0], [4, 12, 4, 7, 3])
    decision_a = np.repeat([1, 0, 1, 0, 0], [4, 12, 4, 7, 3])
    decision_b = np.repeat([0, 1, 1, 0, 1], [4, 12, 4, 7, 3])
    found = mcnemar_test(y_true, decision_a, decision_b)
    sensitivity = found["sensitivity"]
    assert (sensitivity["only_a"], sensitivity["only_b"], sensitivity["n"]) == (4, 12, 20)
    assert sensitivity["difference"] == pytest.approx(-8 / 20)
    # statsmodels 0.15.0, mcnemar([[0, 4], [12, 0]], exact=True)
    assert sensitivity["p"] == pytest.approx(0.076812744140625)
    # Bonett & Price: p12 = 5 / 22, p21 = 13 / 22
    margin = 1.959964 * math.sqrt((18 / 22 - (8 / 22) ** 2) / 22)
    assert (sensitivity["low"], sensitivity["high"]) == pytest.approx(
        (-8 / 22 - margin, -8 / 22 + margin), abs=1e-6
    )
    assert (found["specificity"]["only_a"], found["specificity"]["p"]) == (3, pytest.approx(2 / 2**3))
    assert (found["accuracy"]["only_a"], found["accuracy"]["only_b"], found["accuracy"]["n"]) == (7, 12, 30)


def test_mcnemar_of_equal_decisions_and_of_one_class():
    with pytest.warns(UndefinedMetricWarning, match="specificity"):
        found = mcnemar_test([1, 1], [1, 0], [1, 0])
    assert found["sensitivity"]["p"] == 1 and found["sensitivity"]["difference"] == 0
    assert math.isnan(found["specificity"]["p"]) and found["specificity"]["n"] == 0
    with pytest.raises(ValueError, match="decision_b"):
        mcnemar_test([1, 0], [1, 0], [0.2, 0.7])


def test_p_counts_the_signs_of_patients():
    """By hand: surpluses 3, -1, 1 and 1 sum to 4; of 16 signs, 6, 4 (three times), and their mirrors: 8."""
    found = mcnemar_test(*of_patients([3, 0, 1, 2], [0, 1, 0, 1]))["sensitivity"]
    assert found["p"] == pytest.approx(8 / 16) and found["difference"] == pytest.approx(4 / 8)


def test_p_is_the_share_of_all_signs():
    rng = np.random.default_rng(1)
    for _ in range(10):
        only_a, only_b = rng.integers(0, 4, (2, 9))
        surplus = only_a - only_b
        sums = np.array([np.dot(signs, surplus) for signs in itertools.product((1, -1), repeat=9)])
        found = mcnemar_test(*of_patients(only_a, only_b))["sensitivity"]
        assert found["p"] == pytest.approx(np.mean(np.abs(sums) >= abs(surplus.sum())))


def test_one_ecg_of_each_patient_is_the_binomial_test():
    y_true, a, b, _ = of_patients([30], [48])
    for patients in (None, [f"patient {number}" for number in range(78)]):
        found = mcnemar_test(y_true, a, b, patients)["sensitivity"]
        assert found["p"] == pytest.approx(binomtest(30, 78).pvalue, rel=1e-9)


def test_p_of_many_patients_is_that_of_obuchowski():
    # Obuchowski's chi-square as Yang writes it (Biom J 2010;52:638)
    surplus = np.subtract(ONE_WAY, THE_OTHER)
    chi_square = 28 / 29 * surplus.sum() ** 2 / (surplus**2).sum()
    found = mcnemar_test(*of_patients(ONE_WAY, THE_OTHER))["sensitivity"]
    assert found["p"] == pytest.approx(chi2.sf(chi_square, 1), rel=0.25)
    many = mcnemar_test(*of_patients([1, 0, 2, 1] * 500, [0, 2, 0, 1] * 500))["sensitivity"]
    surplus = np.array([1, -2, 2, 0] * 500)
    assert many["p"] == pytest.approx(chi2.sf(surplus.sum() ** 2 / (surplus**2).sum(), 1), rel=0.02)


def test_an_ecg_that_is_decided_on_again_counts_once():
    rng = np.random.default_rng(4)
    y_true, a, b = rng.integers(0, 2, (3, 60))
    once = mcnemar_test(y_true, a, b)
    thrice = mcnemar_test(*(np.tile(part, 3) for part in (y_true, a, b)), np.tile(np.arange(60), 3))
    for name in ("sensitivity", "specificity", "accuracy"):
        assert thrice[name]["p"] == pytest.approx(once[name]["p"])
        assert thrice[name]["difference"] == pytest.approx(once[name]["difference"])
        assert thrice[name]["low"] == pytest.approx(once[name]["low"], abs=0.01)


def test_equally_good_models_differ_in_one_of_twenty_studies_at_most():
    rng, n_studies = np.random.default_rng(0), 600
    rejected, covered = {"patients": 0, "ECGs": 0}, {"patients": 0, "ECGs": 0}
    patients = np.repeat(np.arange(60), 4)
    for _ in range(n_studies):
        of_patient = rng.normal(size=(2, 60))[:, patients]  # each model is good at some patients
        decisions = (of_patient + 0.5 * rng.normal(size=(2, 240)) > -0.5).astype(int)
        for name, ids in (("patients", patients), ("ECGs", None)):
            found = mcnemar_test(np.ones(240, int), *decisions, ids)["accuracy"]
            rejected[name] += found["p"] < 0.05
            covered[name] += found["low"] <= 0 <= found["high"]
    assert 0.025 < rejected["patients"] / n_studies < 0.065
    assert rejected["ECGs"] / n_studies > 0.2
    assert covered["patients"] / n_studies == pytest.approx(0.95, abs=0.025)
    assert covered["ECGs"] / n_studies < 0.85
