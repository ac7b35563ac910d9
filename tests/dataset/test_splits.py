"""No patient is in two parts, each label is about as frequent in all; folds test every ECG once."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from fake_cohort import cohort_of
from one_line import failure_of

from cohorts.columns import PARTS
from dataset.splits import make_folds, split_by_patient
from runtime.errors import UserError


def test_files_of_the_same_content_are_in_one_part():
    """p0 and p1 share an ECG, p1 and p2 another: all three stay together, whatever the seed."""
    targets = [0, 1] * 60
    cohort = cohort_of(targets, [f"p{index}" for index in range(120)])
    cohort.table["same_ecg"] = [0, 0, *range(1, 119)]
    cohort.table.loc[2, "patient_id"] = "p1"
    cohort.table.loc[2, "same_ecg"] = cohort.table.loc[3, "same_ecg"] = 119
    for seed in range(20):
        part_of = {index: part for part, rows in split(cohort, seed=seed).items() for index in rows}
        assert len({part_of[index] for index in (0, 1, 2, 3)}) == 1


def test_split_column_that_puts_the_same_content_in_two_parts():
    cohort = cohort_of([0, 1] * 3, split=["train", "train", "validation", "validation", "test", "test"])
    cohort.table.loc[4, "same_ecg"] = cohort.table.loc[1, "same_ecg"]
    with pytest.raises(UserError, match=r"found the same ECG as 1.xml and 4.xml in train and test, expected"):
        split(cohort, seed=0)


@pytest.mark.parametrize("absent, there", [("test", "train"), ("train", "test")])
def test_split_column_without_train_or_test(absent, there):
    with pytest.raises(UserError, match=f"column split: found no readable ECG in {absent}, expected some"):
        split(cohort_of([0, 1] * 3, split=[there] * 6), seed=0)


def random_cohort(n_labels=1, n_patients=600, seed=0, one_ecg_each=False):
    """One to four ECGs a patient, in random order; labels with prevalences 0.1, 0.3 and 0.05."""
    generator = np.random.default_rng(seed)
    counts = np.ones(n_patients, int) if one_ecg_each else generator.integers(1, 5, n_patients)
    patients = generator.permutation(np.repeat(np.arange(n_patients), counts))
    labels = generator.random((n_patients, n_labels)) < np.array([0.1, 0.3, 0.05])[:n_labels]
    return cohort_of(labels[patients], [f"p{patient}" for patient in patients])


split = partial(split_by_patient, validation_fraction=0.1, test_fraction=0.2)


@pytest.mark.parametrize("n_labels", [1, 3])
@pytest.mark.parametrize("seed", range(10))
def test_no_patient_in_two_parts_and_every_ecg_in_one(n_labels, seed):
    cohort = random_cohort(n_labels, seed=seed)
    parts = split(cohort, seed=seed)
    assert list(parts) == list(PARTS)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(cohort.table)))
    assert all((np.diff(indices) > 0).all() for indices in parts.values())
    patients = [set(cohort.table["patient_id"].iloc[indices]) for indices in parts.values()]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 600


@pytest.mark.parametrize("seed", range(5))
def test_sizes_and_positives_are_right_to_within_a_patient(seed):
    cohort = random_cohort(n_patients=1000, seed=seed, one_ecg_each=True)
    n_positive = cohort.targets.sum()
    parts = split(cohort, seed=seed)
    for part, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        assert abs(len(parts[part]) - 1000 * share) <= 1.2
        assert abs(cohort.targets[parts[part]].sum() - n_positive * share) <= 1.2


@pytest.mark.parametrize("seed", range(5))
def test_each_of_three_labels_is_about_as_frequent_in_each_part(seed):
    cohort = random_cohort(3, n_patients=1000, seed=seed, one_ecg_each=True)
    for part, share in zip(PARTS, (0.7, 0.1, 0.2), strict=True):
        counts = cohort.targets[split(cohort, seed=seed)[part]].sum(axis=0)
        # Each of the eight patterns is within one patient of its share, and each label is in four of them.
        assert (np.abs(counts - share * cohort.targets.sum(axis=0)) <= 5).all()


def test_patients_with_several_ecgs_are_stratified():
    cohort = random_cohort(n_patients=2000)
    for indices in split(cohort, seed=1).values():
        assert abs(cohort.targets[indices].mean() - cohort.targets.mean()) < 0.03


def test_patient_with_one_positive_ecg_counts_as_positive():
    # 40 patients, two ECGs each, of which only the first is positive in ten of them
    targets = np.zeros(80)
    targets[:20:2] = 1
    cohort = cohort_of(targets, np.repeat(np.arange(40), 2).astype(str))
    parts = split_by_patient(cohort, validation_fraction=0.2, test_fraction=0.2, seed=0)
    assert [targets[parts[part]].sum() for part in PARTS] == [6, 2, 2]


def test_the_seed_decides():
    cohort = random_cohort()
    first, again, other = split(cohort, seed=3), split(cohort, seed=3), split(cohort, seed=4)
    for part in PARTS:
        np.testing.assert_array_equal(first[part], again[part])
        assert set(first[part]) != set(other[part])


def test_split_column_wins():
    column = np.array(["test", "train", "train", "validation"] * 5)
    cohort = cohort_of(([1] * 4 + [0] * 4) * 2 + [1] * 4, split=column)
    for seed in range(3):
        parts = split(cohort, seed=seed)
        for part in PARTS:
            np.testing.assert_array_equal(parts[part], np.flatnonzero(column == part))


def test_validation_comes_from_training_where_the_column_has_none():
    cohort = random_cohort(n_patients=1000, one_ecg_each=True)
    column = np.where(np.arange(1000) < 250, "test", "train")
    parts = split(cohort_of(cohort.targets, split=column), seed=0)
    np.testing.assert_array_equal(parts["test"], np.arange(250))
    assert abs(len(parts["validation"]) - 75) <= 1  # 0.1 of 750
    expected = 0.1 * cohort.targets[250:].sum()
    assert abs(cohort.targets[parts["validation"]].sum() - expected) <= 1
    assert set(parts["validation"]) != set(
        split(cohort_of(cohort.targets, split=column), seed=1)["validation"]
    )


@pytest.mark.parametrize(
    ("targets", "column", "message"),
    [
        ([1] * 20, None, "found 14 positive and 0 negative ECGs in the train part"),
        (
            [0, 0, 1, 0, 1],
            ["test", "test", "train", "train", "validation"],
            "found 1 positive and 0 negative ECGs in the validation part",
        ),
        (
            [0, 0, 1, 0, 1, 0],
            ["test"] * 2 + ["train"] * 2 + ["validation"] * 2,
            "found 0 positive and 2 negative ECGs in the test part",
        ),
    ],
)
def test_part_without_a_class(targets, column, message):
    assert failure_of(split, cohort_of(targets, split=column), seed=0) == (
        f"label PE: {message}, expected both; {len(targets)} patients were to be split"
    )


def test_second_label_without_a_class():
    targets = np.stack([np.arange(40) % 2, np.zeros(40)], axis=1)
    message = failure_of(split, cohort_of(targets), seed=0)
    found = "label MI: found 0 positive and 28 negative ECGs in the train part, expected both"
    assert message == f"{found}; 40 patients were to be split"


# Cross-validation

five_folds = partial(make_folds, validation_fraction=0.1, test_fraction=0.2, folds=5, repeats=1)


@pytest.mark.parametrize("repeats", [1, 3])
def test_every_ecg_is_tested_once_a_repeat_and_no_patient_is_in_two_parts(repeats):
    cohort = random_cohort(2)
    folds = five_folds(cohort, repeats=repeats, seed=1)
    assert [fold.name for fold in folds] == [f"fold-{number}" for number in range(1, 5 * repeats + 1)]
    for repeat in range(1, repeats + 1):
        tested = [fold.parts["test"] for fold in folds if fold.repeat == repeat]
        assert sorted(np.concatenate(tested)) == list(range(len(cohort.table)))
    for fold in folds:
        assert sorted(np.concatenate(list(fold.parts.values()))) == list(range(len(cohort.table)))
        patients = [set(cohort.table["patient_id"].iloc[indices]) for indices in fold.parts.values()]
        assert sum(map(len, patients)) == len(set.union(*patients)) == 600
    assert len({fold.seed for fold in folds}) == len(folds)


def test_folds_are_stratified_to_within_a_patient():
    cohort = random_cohort(n_patients=1000, one_ecg_each=True)
    n_positive = cohort.targets.sum()
    for fold in five_folds(cohort, seed=3):
        assert abs(len(fold.parts["test"]) - 200) <= 1 and abs(len(fold.parts["validation"]) - 100) <= 1
        for part, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
            assert abs(cohort.targets[fold.parts[part]].sum() - n_positive * share) <= 1.2


def test_repeats_deal_anew_and_the_seed_decides():
    cohort = random_cohort()
    first, second = (five_folds(cohort, repeats=2, seed=1)[number].parts["test"] for number in (0, 5))
    assert set(first) != set(second)
    np.testing.assert_array_equal(first, five_folds(cohort, seed=1)[0].parts["test"])
    assert set(first) != set(five_folds(cohort, seed=7)[0].parts["test"])


def test_the_same_ecg_is_never_in_two_parts_of_a_fold():
    cohort = random_cohort(one_ecg_each=True)
    cohort.table["same_ecg"] = np.arange(600) % 300  # each ECG belongs to two patients
    for fold in five_folds(cohort, seed=0):
        contents = [set(cohort.table["same_ecg"].iloc[indices]) for indices in fold.parts.values()]
        assert sum(map(len, contents)) == len(set.union(*contents))


def test_a_single_split_is_the_fold_without_a_name():
    cohort = random_cohort()
    (fold,) = five_folds(cohort, folds=0, seed=5)
    expected = split(cohort, seed=5)
    assert fold.name == "" and fold.seed == 5
    for part in PARTS:
        np.testing.assert_array_equal(fold.parts[part], expected[part])


def test_folds_that_cannot_be_made():
    cohort = cohort_of([0, 1] * 3, split=["train", "train", "validation", "validation", "test", "test"])
    assert "column split: found one, which --folds would contradict" in failure_of(five_folds, cohort, seed=0)
    message = failure_of(five_folds, cohort_of([1] + [0] * 99), seed=0)
    assert message.startswith("label PE: found 0 positive and ")
    failure = failure_of(five_folds, cohort_of([0, 1, 0]), seed=0)
    assert "found 3 patients, expected at least one per fold" in failure


def test_a_clinical_column_that_training_knows_nothing_of_is_one_line():
    cohort = cohort_of([0, 1] * 6, split=["train"] * 6 + ["validation"] * 2 + ["test"] * 4)
    clinical = pd.DataFrame(np.full((12, 2), 60, np.float32), columns=["age", "d_dimer"])
    clinical.loc[:5, "d_dimer"] = np.nan
    cohort = replace(cohort, clinical=clinical)
    options = {"validation_fraction": 0.1, "test_fraction": 0.2, "folds": 0, "repeats": 1, "seed": 0}
    assert failure_of(make_folds, cohort, **options) == (
        "clinical column d_dimer: found no value among the 6 training ECGs, expected some"
    )
    clinical.loc[3, "d_dimer"] = 500
    assert len(make_folds(cohort, **options)) == 1
