"""Deal the patients of a learning curve to pretraining, fine-tuning and test, with a table for each.

The tables have a ``split`` column, which the training scripts follow.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from dataset.cohort import Cohort
from dataset.splits import number_patients, split_by_patient
from inference.unseen import seen_in_training
from run_folder.files import RunFiles
from run_folder.shipped import start_folder
from runtime.atomic_files import write_atomically
from runtime.errors import UserError

PRETRAINING = "pretraining"
# Of the pretraining patients: validation picks the epoch; the test is not needed, but the scripts test.
PRETRAINING_SPLIT = {"validation_fraction": 0.15, "test_fraction": 0.1}
MAX_DEALS = 200  # of the pretraining patients, until each part has both classes of each label


@dataclass(frozen=True)
class Deal:
    """Who is in which group: numbers of patients.

    Attributes
    ----------
    pretraining, test : those who are in no other group, and those who are tested.
    fine_tuning : for each size, those who train and those who validate.
    """

    pretraining: np.ndarray
    test: np.ndarray
    fine_tuning: dict[int, dict[str, np.ndarray]]


def deal_patients(
    labels: np.ndarray, *, sizes: Sequence[int], test_share: float, validation_share: float, seed: int
) -> Deal:
    """Deal patients to three groups, stratified by the label; smaller sizes are subsets of larger ones.

    Parameters
    ----------
    labels : array of shape (n_patients,), 1, 0, or nan: unknown, which is only for pretraining.
    sizes : numbers of fine-tuning patients, those who validate included.
    test_share, validation_share : of the patients with a known label, and of each size.

    Raises
    ------
    UserError : too few patients, or a part without one of the classes.
    """
    generator = np.random.default_rng(seed)
    classes = [generator.permutation(np.flatnonzero(labels == value)) for value in (1, 0)]
    n_known = sum(map(len, classes))
    prevalence = len(classes[0]) / max(1, n_known)
    tested = _class_counts(round(test_share * n_known), prevalence)
    test = np.concatenate([patients[:n] for patients, n in zip(classes, tested, strict=True)])
    classes = [patients[n:] for patients, n in zip(classes, tested, strict=True)]
    largest = _class_counts(max(sizes), prevalence)
    if any(n > len(patients) for patients, n in zip(classes, largest, strict=True)):
        raise UserError(
            f"--sizes {max(sizes)}: found {n_known} patients with a known label, of whom {len(test)} are "
            f"tested, expected {max(sizes)} others; take a smaller size or --test-share"
        )
    if min(tested) < 1:
        raise UserError(f"--test-share: found {tested[0]} positive and {tested[1]} negative patients to test")
    fine_tuning = {}
    for size in sizes:
        counts = _class_counts(size, prevalence)
        chosen = [patients[:n] for patients, n in zip(classes, counts, strict=True)]
        fine_tuning[size] = _train_and_validation(chosen, validation_share, size)
    used = np.concatenate([test, *fine_tuning[max(sizes)].values()])
    return Deal(np.setdiff1d(np.arange(len(labels)), used), np.sort(test), fine_tuning)


def _class_counts(n: int, prevalence: float) -> tuple[int, int]:
    """Return the numbers of positives and negatives among n patients."""
    n_positive = math.floor(n * prevalence + 0.5)
    return n_positive, n - n_positive


def _train_and_validation(
    classes: Sequence[np.ndarray], validation_share: float, size: int
) -> dict[str, np.ndarray]:
    """Let patients at even distances in each class validate: most keep their part in a larger size."""
    parts = {"train": [], "validation": []}
    for patients in classes:
        passed = np.floor(0.5 + validation_share * np.arange(len(patients) + 1))
        validates = np.diff(passed) > 0
        if validates.all() or not validates.any():
            raise UserError(
                f"--sizes {size}: found a class with {len(patients)} of them, expected enough of both "
                f"classes to train and, by a share of {validation_share:g}, to validate"
            )
        parts["train"].append(patients[~validates])
        parts["validation"].append(patients[validates])
    return {part: np.sort(np.concatenate(patients)) for part, patients in parts.items()}


# ----------------------------------------------------------------------------------------------------
# The ECGs of each group, as tables with a split column
# ----------------------------------------------------------------------------------------------------


def patients_of(cohort: Cohort, label: str, init_from: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return each ECG's patient, and each patient's label: 1, 0, or nan where it is not known.

    A patient is positive if one of the ECGs is. Who trained one of the runs `init_from` has no label.
    """
    n_patients, patient_of = number_patients(cohort.table)
    ecg_labels = cohort.table[label].to_numpy(float)
    labels = np.full(n_patients, np.nan)
    for value in (0, 1):
        labels[patient_of[ecg_labels == value]] = value
    for source in init_from:
        folder = start_folder(source)
        RunFiles(folder).load_any_description()
        again = seen_in_training(folder, cohort, np.arange(len(cohort.table)))
        labels[patient_of[again]] = np.nan
        print(f"init        {again.sum():,} ECGs trained {source}: they and their patients are left out")
    return patient_of, labels


def group_tables(
    cohort: Cohort, patient_of: np.ndarray, deal: Deal, options: argparse.Namespace, seed: int
) -> dict[int | str, pd.DataFrame]:
    """Return the table of each size and, as `PRETRAINING`, that of the pretraining, if there is one."""
    tables = {}
    for size, parts in deal.fine_tuning.items():
        part_of = np.full(patient_of.max() + 1, "", dtype="<U10")
        for part, patients in {**parts, "test": deal.test}.items():
            part_of[patients] = part
        tables[size] = _table(cohort, part_of[patient_of], [options.label])
    if not options.init_from:
        in_group = np.isin(patient_of, deal.pretraining)
        tables[PRETRAINING] = _pretraining_table(cohort, in_group, options.pretrain_labels, seed)
    return tables


def _pretraining_table(cohort: Cohort, in_group: np.ndarray, labels: list[str], seed: int) -> pd.DataFrame:
    """Split the group for the training script; deal again until each label has both classes in each part."""
    ecgs = np.flatnonzero(in_group & cohort.table[labels].notna().any(axis=1).to_numpy())
    if not len(ecgs):
        raise UserError("--pretrain-labels: found no patient left for pretraining, expected some")
    table = cohort.table.iloc[ecgs].drop(columns="split", errors="ignore").reset_index(drop=True)
    targets = table[labels].to_numpy(np.float32)
    group = replace(cohort, table=table, targets=targets, label_names=tuple(labels))
    for attempt in range(MAX_DEALS):
        try:
            parts = split_by_patient(group, seed=seed + 1000 * attempt, **PRETRAINING_SPLIT)
            break
        except UserError as error:
            if attempt == MAX_DEALS - 1:
                raise UserError(f"--pretrain-labels: {error}, after {MAX_DEALS} deals") from None
    part_of = np.full(len(cohort.table), "", dtype="<U10")
    for part, rows in parts.items():
        part_of[ecgs[rows]] = part
    return _table(cohort, part_of, labels)


def _table(cohort: Cohort, part_of_ecg: np.ndarray, labels: list[str]) -> pd.DataFrame:
    """Return the ECGs that have a part and a known label."""
    described = [column for column in ("age", "sex") if column in cohort.table]
    table = cohort.table[["file", "patient_id", *described, *labels]].assign(split=part_of_ecg)
    return table[(part_of_ecg != "") & table[labels].notna().any(axis=1)]


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table; a UserError where another one is there, which trainings may have used."""
    text = table.to_csv(index=False)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda aside: aside.write_text(text, encoding="utf-8"))
    elif path.read_text(encoding="utf-8") != text:
        raise UserError(f"{path}: found other ECGs or labels than now; name another --output-dir")
