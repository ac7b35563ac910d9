"""Who trains, who validates, who is tested: splits and cross-validations by patient.

No patient is in two parts of a split, nor is an ECG that lies in two files, even if the table gives it two
patients. Each label is about as frequent in every part.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from cohorts.columns import PARTS
from dataset.cohort import Cohort
from runtime.errors import UserError


@dataclass(frozen=True)
class Fold:
    """One split of the patients.

    Attributes
    ----------
    number : from 1 on, through all repeats; 0 for a single split.
    repeat : from 1 on.
    seed : of the initial weights, order, crops and augmentation of the model that is trained on it.
    parts : for train, validation and test, the sorted indices of its ECGs.
    """

    number: int
    repeat: int
    seed: int
    parts: dict[str, np.ndarray]

    @property
    def name(self) -> str:
        """The fold's folder within that of its run; "" for a single split, which is the run."""
        return f"fold-{self.number}" if self.number else ""


def make_folds(
    cohort: Cohort, *, validation_fraction: float, test_fraction: float, folds: int, repeats: int, seed: int
) -> list[Fold]:
    """Return the splits that a training goes through: one, or the folds of a repeated cross-validation.

    In a cross-validation every ECG is tested once per repeat; a share of the other folds' patients validates.
    That part is watched in training, and ``keep="best"`` picks the epoch by it. In a single split it is what
    the calibration, and a threshold other than the prevalence, are fitted on; in a cross-validation the
    out-of-fold scores are, see ``training/pooling.py``.

    Parameters
    ----------
    validation_fraction, test_fraction : shares of all patients; the second is only for a single split.
    folds : 2 or more; 0 for a single split.
    repeats : how many times the patients are dealt to folds.

    Raises
    ------
    UserError : a part has no example of a class, the training ECGs of a fold no known value of a clinical
        column, or the table has a ``split`` column beside ``folds``. Files that had been rejected before, of
        which that may come, are named too.
    """
    fractions = {"validation_fraction": validation_fraction, "test_fraction": test_fraction}
    try:
        made = _made_folds(cohort, fractions, folds=folds, repeats=repeats, seed=seed)
        for fold in made:
            _check_clinical(cohort, fold)
    except UserError as error:
        raise UserError(f"{error}{cohort.rejections}") from None
    return made


def _made_folds(
    cohort: Cohort, fractions: dict[str, float], *, folds: int, repeats: int, seed: int
) -> list[Fold]:
    if not folds:
        return [Fold(0, 1, seed, split_by_patient(cohort, **fractions, seed=seed))]
    if "split" in cohort.table:
        raise UserError("column split: found one, which --folds would contradict; remove it, or --folds")
    made = []
    for repeat in range(1, repeats + 1):
        for parts in _cross_validation(cohort, folds, fractions["validation_fraction"], seed + repeat - 1):
            made.append(Fold(len(made) + 1, repeat, seed + len(made), parts))
    return made


def _check_clinical(cohort: Cohort, fold: Fold) -> None:
    """Refuse a clinical column without a known value in training: it has no mean to standardise by."""
    known = cohort.clinical.iloc[fold.parts["train"]].notna()
    for name, any_known in known.any().items():
        if not any_known:
            where = f" of {fold.name}" if fold.name else ""
            raise UserError(
                f"clinical column {name}: found no value among the {len(known):,} training ECGs{where}, "
                "expected some"
            )


def split_by_patient(
    cohort: Cohort, *, validation_fraction: float, test_fraction: float, seed: int
) -> dict[str, np.ndarray]:
    """Return the ECGs of each part: no patient in two parts, each label about as frequent in all.

    Files of the same ECG count as one patient's, even if the table disagrees, so that no ECG is in two parts.
    A ``split`` column wins; where it has no validation part, that share is taken from its training patients.

    Returns
    -------
    parts : for train, validation and test, the sorted indices of its ECGs.

    Raises
    ------
    UserError : a part has no example of a class, or the ``split`` column has one ECG in two parts.
    """
    table = cohort.table
    n_patients, patient_of = number_patients(table)
    part_of = np.full(n_patients, "train", dtype="<U10")
    if "split" in table:
        part_of[patient_of] = table["split"]
        _check_split(table, ("train", "test"))
    labels = _patients_labels(cohort, n_patients, patient_of)
    generator = np.random.default_rng(seed)
    if "split" not in table:
        _assign(part_of, labels, "test", test_fraction, generator)
    if not (part_of == "validation").any():
        share = validation_fraction if "split" in table else validation_fraction / (1 - test_fraction)
        _assign(part_of, labels, "validation", share, generator)
    return _parts(cohort, part_of[patient_of])


def split_for_statements(
    cohort: Cohort, *, validation_fraction: float, test_fraction: float, seed: int
) -> Fold:
    """Return the split of a supervised pretraining: as of a training, but labels may be too rare for a part.

    A ``split`` column wins: its training patients train, and its test patients are scored once.

    Raises
    ------
    UserError : the ``split`` column has no training ECG, or one ECG in two parts.
    """
    table = cohort.table
    n_patients, patient_of = number_patients(table)
    part_of = np.full(n_patients, "train", dtype="<U10")
    generator, labels = np.random.default_rng(seed), _patients_labels(cohort, n_patients, patient_of)
    if "split" in table:
        _check_split(table, ("train",))
        part_of[patient_of] = table["split"]
    else:
        _assign(part_of, labels, "test", test_fraction, generator)
    if not (part_of == "validation").any():
        share = validation_fraction if "split" in table else validation_fraction / (1 - test_fraction)
        _assign(part_of, labels, "validation", share, generator)
    return Fold(0, 1, seed, {part: np.flatnonzero(part_of[patient_of] == part) for part in PARTS})


def split_for_pretraining(cohort: Cohort, *, validation_fraction: float, seed: int) -> Fold:
    """Return a split whose training and validation part are all that a pretraining sees.

    Where the table has a ``split`` column, both are taken from its training patients: those who validate or
    test a model later are in the test part, and stay unseen. Without, that part is empty.

    Raises
    ------
    UserError : fewer than two patients in training or validation, or the ``split`` column has no training
        ECG, or one ECG in two parts.
    """
    table = cohort.table
    n_patients, patient_of = number_patients(table)
    part_of = np.full(n_patients, "train", dtype="<U10")
    if "split" in table:
        _check_split(table, ("train",))
        part_of[patient_of] = np.where(table["split"] == "train", "train", "test")
    no_labels, generator = np.empty((n_patients, 0)), np.random.default_rng(seed)
    _assign(part_of, no_labels, "validation", validation_fraction, generator)
    for part in ("train", "validation"):
        n_found = int((part_of == part).sum())
        if n_found < 2:
            raise UserError(
                f"{part} part: found {n_found} patients, expected 2 or more to tell from one another"
            )
    return Fold(0, 1, seed, {part: np.flatnonzero(part_of[patient_of] == part) for part in PARTS})


def _cross_validation(
    cohort: Cohort, n_folds: int, validation_fraction: float, seed: int
) -> list[dict[str, np.ndarray]]:
    n_patients, patient_of = number_patients(cohort.table)
    if n_patients < n_folds:
        raise UserError(f"--folds {n_folds}: found {n_patients} patients, expected at least one per fold")
    labels = _patients_labels(cohort, n_patients, patient_of)
    generator = np.random.default_rng(seed)
    by_labels = _shuffled_by_labels(np.arange(n_patients), labels, generator)
    fold_of = np.empty(n_patients, int)
    fold_of[by_labels] = (np.arange(n_patients) + generator.integers(n_folds)) % n_folds
    splits = []
    for fold in range(n_folds):
        part_of = np.where(fold_of == fold, "test", "train").astype("<U10")
        share = min(validation_fraction * n_folds / (n_folds - 1), 0.5)
        _assign(part_of, labels, "validation", share, generator)
        splits.append(_parts(cohort, part_of[patient_of]))
    return splits


def number_patients(table: pd.DataFrame) -> tuple[int, np.ndarray]:
    """Return the number of patients, and each ECG's patient; equal ECGs belong to one patient."""
    from scipy.sparse import coo_array  # a fifth of a second, which predict.py has no use for
    from scipy.sparse.csgraph import connected_components

    ids, contents = (pd.factorize(table[column])[0] for column in ("patient_id", "same_ecg"))
    n_ids = ids.max() + 1
    n_nodes = n_ids + contents.max() + 1
    links = coo_array((np.ones(len(table)), (ids, n_ids + contents)), shape=(n_nodes, n_nodes))
    _, component_of = connected_components(links, directed=False)
    numbers, patient_of = np.unique(component_of[ids], return_inverse=True)
    return len(numbers), patient_of


def with_patients_as_targets(cohort: Cohort) -> Cohort:
    """Return a cohort whose targets are the patients' numbers, (n_ecgs, 1); equal ECGs have one patient."""
    _, patient_of = number_patients(cohort.table)
    return replace(cohort, targets=patient_of[:, None].astype(np.float32))  # exact up to 16,777,216 patients


def _assign(
    part_of: np.ndarray, labels: np.ndarray, part: str, fraction: float, generator: np.random.Generator
) -> None:
    """Move a share of the training patients to another part, spread evenly over all patterns of labels."""
    by_labels = _shuffled_by_labels(np.flatnonzero(part_of == "train"), labels, generator)
    # Every patient adds the fraction, and each time the sum passes a whole number one is taken: the count
    # in any run of equal patients is within one of its share, however rare the pattern.
    taken = np.diff(np.floor(generator.random() + fraction * np.arange(len(by_labels) + 1)))
    part_of[by_labels[taken > 0]] = part


def _shuffled_by_labels(
    patients: np.ndarray, labels: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Return patients in random order, those with equal labels side by side."""
    shuffled = generator.permutation(patients)
    return shuffled[np.lexsort(labels[shuffled].T)] if labels.shape[1] else shuffled


def _patients_labels(cohort: Cohort, n_patients: int, patient_of: np.ndarray) -> np.ndarray:
    """Return each patient's labels, (n_patients, n_labels): 1 where any of the ECGs is known to have it."""
    labels = np.zeros((n_patients, len(cohort.label_names)))
    np.maximum.at(labels, patient_of, np.nan_to_num(cohort.targets))
    return labels


def _parts(cohort: Cohort, part_of_ecg: np.ndarray) -> dict[str, np.ndarray]:
    parts = {part: np.flatnonzero(part_of_ecg == part) for part in PARTS}
    n_patients = cohort.table["patient_id"].nunique()
    for part, indices in parts.items():
        _check_classes(part, cohort.targets[indices], cohort.label_names, n_patients)
    return parts


def _check_split(table: pd.DataFrame, needed: Sequence[str]) -> None:
    """Check the ``split`` column of the files that could be read."""
    for part in needed:
        if not (table["split"] == part).any():
            raise UserError(f"column split: found no readable ECG in {part}, expected some")
    n_parts = table.groupby("same_ecg")["split"].nunique()
    if (n_parts > 1).any():
        same = table[table["same_ecg"] == n_parts.index[n_parts > 1][0]]
        raise UserError(
            f"column split: found the same ECG as {' and '.join(same['file'])} in "
            f"{' and '.join(same['split'].unique())}, expected it in one part"
        )


def _check_classes(part: str, targets: np.ndarray, label_names: Sequence[str], n_patients: int) -> None:
    for name, column in zip(label_names, targets.T, strict=True):
        n_positive, n_negative = int((column == 1).sum()), int((column == 0).sum())
        if not (n_positive and n_negative):
            raise UserError(
                f"label {name}: found {n_positive} positive and {n_negative} negative ECGs "
                f"in the {part} part, expected both; {n_patients:,} patients were to be split"
            )
