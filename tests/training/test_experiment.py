"""What is said before a training: how wide the interval of the AUROC will be."""

import numpy as np
from fake_cohort import cohort_of

from dataset.splits import Fold
from training.experiment import expected_interval


def fold_of(test, n, number=0):
    train = np.setdiff1d(np.arange(n), test)
    parts = {"train": train, "validation": train[:0], "test": np.asarray(test)}
    return Fold(number=number, repeat=1, seed=1, parts=parts)


def test_the_interval_is_that_of_the_patients_who_are_tested():
    targets = np.zeros((100, 1))
    targets[:10] = 1
    patients = [f"{number // 2}" for number in range(100)]  # two ECGs each: 8 tested ECGs are 4 patients
    cohort = cohort_of(targets, patients)
    test = [*range(8), *range(20, 60)]
    # (0.16 + 3 * 0.02667 + 19 * 0.07111) / 80 = 0.01989; twice 1.96 roots
    words = expected_interval(cohort, [fold_of(test, 100)])
    assert words.endswith("of PE will be about 0.55 wide: 4 with and 20 without are tested")
    # of all folds' test patients: (0.16 + 4 * 0.02667 + 44 * 0.07111) / 225, twice 1.96 roots
    folds = [fold_of(range(0, 100, 4), 100, 1), fold_of([n for n in range(100) if n % 4], 100, 2)]
    assert "about 0.48 wide: 5 with and 45 without" in expected_interval(cohort, folds)


def test_the_widest_of_several_labels_and_none_without_both_classes():
    targets = np.zeros((60, 3))
    targets[:30, 0], targets[:5, 1] = 1, 1
    assert "that of MI will be" in expected_interval(cohort_of(targets), [fold_of(range(60), 60)])
    assert expected_interval(cohort_of(np.zeros((60, 1))), [fold_of(range(60), 60)]) == ""
