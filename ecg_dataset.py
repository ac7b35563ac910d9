"""A labels table and the folder that it names -> cached signals -> splits by patient -> batches on the
device.

A cohort's labels table has the columns ``file``, one or more 0/1 labels, and optionally ``patient_id``,
``split`` (train, validation, test), ``age``, ``sex`` and whatever else. The published form, ``file;label``
without a header, is read too. Nothing is dropped silently: what is wrong in a table is an error that names
the line, and a file that cannot be read is counted and listed with its reason.
"""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from data_augmentation import Augmentation
from signal_cache import NO_ROW, CohortError, cached_signals
from xml_loader import N_SAMPLES, centre_start

PARTS = ("train", "validation", "test")
DEFAULT_LABEL = "PE"
RESERVED = ("file", "patient_id", "split", "age", "sex")  # columns that are never labels
MILLIVOLTS = 1e-3  # mV per microvolt
FLAT = 1e-3  # mV; no lead or ECG is divided by a deviation below this


@dataclass(frozen=True)
class Cohort:
    """ECGs with their labels and patients, one row each.

    Attributes
    ----------
    signals : memory map of int16, shape (n_rows, 12, 5000), in microvolts at 500 Hz.
    rows : int array of shape (n_ecgs,), each ECG's row in ``signals``.
    targets : float32 array of shape (n_ecgs, n_labels), 0 or 1.
    label_names : the names of the labels.
    table : DataFrame of n_ecgs lines: the labels table with ``patient_id`` as text, and ``digest`` of the
        content.
    rejected : DataFrame with a line a file that could not be read: file, reason.
    patients_assumed : whether the labels table names no patients, so that each file counts as one.
    n_parsed : files that were read just now; the others were in the cache.
    """

    signals: np.ndarray
    rows: np.ndarray
    targets: np.ndarray
    label_names: tuple[str, ...]
    table: pd.DataFrame
    rejected: pd.DataFrame
    patients_assumed: bool
    n_parsed: int


def read_cohort(
    *, data_dir: str, labels: str | None, label_columns: Sequence[str] | None, cache_dir: str, workers: int
) -> Cohort:
    """Read a labels table and the signals of its files.

    Parameters
    ----------
    data_dir : folder of the ECG files.
    labels : the table; None means ``labels.csv`` in the folder.
    label_columns : columns to learn; None means PE.
    cache_dir, workers : see ``signal_cache.cached_signals``.

    Raises
    ------
    CohortError : whatever is wrong with table or folder, in one line.
    """
    folder = Path(data_dir)
    if not folder.is_dir():
        raise CohortError(f"{data_dir}: found no such folder, expected the folder of the ECG files")
    path = Path(labels) if labels else folder / "labels.csv"
    table, label_names = read_labels(path, label_columns)
    _check_present(path, table, folder)
    cached = cached_signals(folder, list(table["file"]), cache_dir=cache_dir, workers=workers)
    rows = np.array([entry.row for entry in cached.entries])
    table["digest"] = [entry.digest for entry in cached.entries]
    rejected = pd.DataFrame(
        [(entry.file, entry.rejected) for entry in cached.entries if entry.row == NO_ROW],
        columns=["file", "reason"],
    )
    if len(rejected) == len(table):
        raise CohortError(
            f"{data_dir}: none of the {len(table)} files can be read; {rejected['reason'].iloc[0]}"
        )
    table = table[rows != NO_ROW].reset_index(drop=True)
    targets = table[list(label_names)].to_numpy(np.float32)
    return Cohort(
        signals=cached.signals,
        rows=rows[rows != NO_ROW],
        targets=targets,
        label_names=label_names,
        table=table,
        rejected=rejected,
        patients_assumed=bool((table["patient_id"] == table["file"]).all()),
        n_parsed=cached.n_parsed,
    )


def read_labels(
    path: str | Path, label_columns: Sequence[str] | None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read and check a labels table.

    Returns
    -------
    table : DataFrame whose index is each row's line in the file; labels are int, everything else is text.
        ``patient_id`` is added where the table has none: each file is then a patient of its own.
    label_names : the columns to learn.

    Raises
    ------
    CohortError : table not readable or empty, a column unknown or missing, a row of another length, a label
        missing or not 0 or 1, a file twice, a file or patient without a name, an unknown split, a patient
        in two parts.
    """
    table = _read_table(Path(path), label_columns)
    if len(table) == 0:
        raise CohortError(f"{path}: found no rows, expected one for each ECG")
    label_names = _choose_labels(path, table, label_columns)
    for name in label_names:
        _check_each(path, table, name, table[name].isin(["0", "1", "0.0", "1.0"]), "0 or 1")
        table[name] = table[name].str[0].astype(int)
    _check_each(path, table, "file", table["file"] != "", "a file's name")
    _check_once(path, table)
    if "patient_id" not in table:
        table["patient_id"] = table["file"]
    _check_each(path, table, "patient_id", table["patient_id"] != "", "a patient's id")
    if "split" in table:
        _check_each(path, table, "split", table["split"].isin(PARTS), "train, validation or test")
        _check_patients_in_one_part(path, table)
    return table, label_names


def split_by_patient(
    cohort: Cohort, *, validation_fraction: float, test_fraction: float, seed: int
) -> dict[str, np.ndarray]:
    """Return the ECGs of each part: no patient in two parts, each label about as frequent in all.

    Files of the same content count as one patient's, whatever the table says, so that no ECG is in two parts.
    A ``split`` column wins; where it has no validation part, that share is taken from its training patients.

    Returns
    -------
    parts : for train, validation and test, the sorted indices of its ECGs.

    Raises
    ------
    CohortError : a part has no example of a class, or the ``split`` column has one ECG in two parts.
    """
    table = cohort.table
    n_patients, patient_of = _patients(table)
    part_of = np.full(n_patients, "train", dtype="<U10")
    if "split" in table:
        part_of[patient_of] = table["split"]
        _check_split(table)
    labels = np.zeros((n_patients, len(cohort.label_names)))
    np.maximum.at(labels, patient_of, cohort.targets)
    generator = np.random.default_rng(seed)
    if "split" not in table:
        _assign(part_of, labels, "test", test_fraction, generator)
    if not (part_of == "validation").any():
        share = validation_fraction if "split" in table else validation_fraction / (1 - test_fraction)
        _assign(part_of, labels, "validation", share, generator)
    parts = {part: np.flatnonzero(part_of[patient_of] == part) for part in PARTS}
    for part, indices in parts.items():
        _check_classes(part, cohort.targets[indices], cohort.label_names)
    return parts


def _patients(table: pd.DataFrame) -> tuple[int, np.ndarray]:
    """Return the number of patients, and which one each ECG is of; equal contents are of one patient."""
    ids, contents = (pd.factorize(table[column])[0] for column in ("patient_id", "digest"))
    n_ids = ids.max() + 1
    n_nodes = n_ids + contents.max() + 1
    links = coo_array((np.ones(len(table)), (ids, n_ids + contents)), shape=(n_nodes, n_nodes))
    _, component_of = connected_components(links, directed=False)
    numbers, patient_of = np.unique(component_of[ids], return_inverse=True)
    return len(numbers), patient_of


def _assign(
    part_of: np.ndarray, labels: np.ndarray, part: str, fraction: float, generator: np.random.Generator
) -> None:
    """Move a share of the training patients to another part, spread evenly over all patterns of labels."""
    training = np.flatnonzero(part_of == "train")
    shuffled = generator.permutation(training)
    by_labels = shuffled[np.lexsort(labels[shuffled].T)]  # patients with equal labels lie side by side
    # Every patient adds the fraction, and each time the sum passes a whole number one is taken: the count
    # in any run of equal patients is within one of its share, however rare the pattern.
    taken = np.diff(np.floor(generator.random() + fraction * np.arange(len(by_labels) + 1)))
    part_of[by_labels[taken > 0]] = part


def normalise(signal: torch.Tensor, method: str) -> torch.Tensor:
    """Normalise a batch, shape (N, 12, T).

    "recording" takes one mean and one standard deviation over the whole (12, T) of each ECG, which keeps the
    amplitudes between leads; "lead" takes them of each lead, which erases those; "none" leaves millivolts.
    """
    if method == "none":
        return signal
    axes = {"recording": (1, 2), "lead": (2,)}[method]
    deviation, mean = torch.std_mean(signal, dim=axes, keepdim=True, correction=0)
    return (signal - mean) / deviation.clamp_min(FLAT)


def crop(
    signals: np.ndarray, rows: np.ndarray, starts: np.ndarray, n_samples: int, device: torch.device
) -> torch.Tensor:
    """Return float32 (N, 12, n_samples) in mV on the device: of each row, the samples from its start.

    ``signals`` is int16, (n_rows, 12, 5000), in microvolts; ``rows`` and ``starts`` are int, (N,).
    """
    cropped = [signals[row, :, start : start + n_samples] for row, start in zip(rows, starts, strict=True)]
    return torch.from_numpy(np.stack(cropped)).to(device).float() * MILLIVOLTS


def evaluation_input(
    signals: np.ndarray, rows: np.ndarray, *, n_samples: int, normalisation: str, device: torch.device
) -> torch.Tensor:
    """Return what a model sees of ECGs that are evaluated: the centre, never augmented, normalised."""
    starts = np.full(len(rows), centre_start(n_samples))
    return normalise(crop(signals, rows, starts, n_samples, device), normalisation)


class _Batches:
    """What training and evaluation share: the ECGs, and how they are cropped and normalised."""

    def __init__(
        self,
        cohort: Cohort,
        indices: np.ndarray,
        *,
        batch_size: int,
        n_samples: int,
        normalisation: str,
        device: torch.device,
    ):
        self.indices = np.asarray(indices)
        self.n_batches = -(-len(self.indices) // batch_size)
        self.n_samples = n_samples
        self.normalisation = normalisation
        self.device = device
        self.files = cohort.table["file"].to_numpy()
        self.targets = torch.tensor(cohort.targets)
        self._signals = cohort.signals
        self._rows = cohort.rows

    def __len__(self) -> int:
        return self.n_batches

    @property
    def n_ecgs(self) -> int:
        return len(self.indices)

    def _targets_of(self, indices: np.ndarray) -> torch.Tensor:
        return self.targets[torch.from_numpy(indices)].to(self.device)


class TrainingBatches(_Batches):
    """Batches in random order, each ECG cropped at random and augmented; another draw in each epoch.

    All that is random follows from the seed and the number of the epoch, so that a resumed run draws what an
    uninterrupted one would have drawn. The batches of an epoch have equal sizes, to within one ECG.
    """

    def __init__(
        self, cohort: Cohort, indices: np.ndarray, *, augmentation: Augmentation, seed: int, **shared
    ):
        super().__init__(cohort, indices, **shared)
        self.augmentation = augmentation
        self.seed = seed

    def epoch(self, number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, np.ndarray]]:
        """Yield signal (N, 12, n_samples), normalised, targets (N, n_labels) and the ECGs' indices."""
        generator = np.random.default_rng([self.seed, number])
        augmentation_seed = int(generator.integers(2**63))
        on_device = torch.Generator(self.device).manual_seed(augmentation_seed)
        order = generator.permutation(self.indices)
        starts = generator.integers(0, N_SAMPLES - self.n_samples + 1, len(order))
        for positions in np.array_split(np.arange(len(order)), self.n_batches):
            indices = order[positions]
            signal = crop(self._signals, self._rows[indices], starts[positions], self.n_samples, self.device)
            signal = self.augmentation(signal, on_device)
            yield normalise(signal, self.normalisation), self._targets_of(indices), indices


class EvaluationBatches(_Batches):
    """Batches in the order of the indices, each ECG cropped at its centre, never augmented."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield signal (N, 12, n_samples), normalised, and targets (N, n_labels)."""
        for indices in np.array_split(self.indices, self.n_batches):
            signal = evaluation_input(
                self._signals,
                self._rows[indices],
                n_samples=self.n_samples,
                normalisation=self.normalisation,
                device=self.device,
            )
            yield signal, self._targets_of(indices)


def _read_table(path: Path, label_columns: Sequence[str] | None) -> pd.DataFrame:
    """Return a table as text, stripped; its index is the line of each row in the file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CohortError(f"{path}: the labels table cannot be read ({error.strerror})") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("iso-8859-1")  # as Excel in western Europe saves it
    separator = max(",;\t", key=text.lstrip().partition("\n")[0].count)
    # Without strict, a quotation mark that is never closed would swallow all lines after it.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        lines = {}
        for row in reader:
            fields = [" ".join(field.splitlines()).strip() for field in row]
            if any(fields):
                lines[reader.line_num] = fields
    except csv.Error as error:
        raise CohortError(
            f"{path} line {reader.line_num}: {error}, expected each quotation mark to be closed"
        ) from None
    first_line, first = next(iter(lines.items()), (1, []))
    header = _header(f"{path} line {first_line}", first, label_columns)
    if first == header:
        del lines[first_line]
    for line, row in lines.items():
        if len(row) != len(header):
            raise CohortError(
                f"{path} line {line}: found {len(row)} fields, expected {len(header)}: {', '.join(header)}"
            )
    return pd.DataFrame(list(lines.values()), index=list(lines), columns=header, dtype=str)


def _header(where: str, first: list[str], label_columns: Sequence[str] | None) -> list[str]:
    """Return the names of the columns: the first row, or those of the published form, which has no header."""
    if "file" in first:
        if len(set(first)) < len(first):
            raise CohortError(f"{where}: found a column name twice in {', '.join(first)}, expected each once")
        return first
    if len(first) == 2 and first[1] in ("0", "1"):
        return ["file", label_columns[0] if label_columns and len(label_columns) == 1 else DEFAULT_LABEL]
    raise CohortError(
        f"{where}: found {', '.join(first)[:80]!r}, expected a header with a column file, or file;label"
    )


def _choose_labels(
    path: str | Path, table: pd.DataFrame, label_columns: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the columns to learn."""
    candidates = [name for name in table if name not in RESERVED]
    for name in label_columns or [DEFAULT_LABEL]:
        if name not in candidates:
            raise CohortError(
                f"{path}: found no label column {name}, expected one of {', '.join(candidates) or 'none'} "
                "(--label-columns chooses)"
            )
    return tuple(dict.fromkeys(label_columns or [DEFAULT_LABEL]))


def _check_each(path: str | Path, table: pd.DataFrame, column: str, right: pd.Series, expected: str) -> None:
    wrong = table.index[~right.to_numpy()]
    if len(wrong):
        found = table.loc[wrong[0], column] or "nothing"
        more = f" (and {len(wrong) - 1} more lines)" if len(wrong) > 1 else ""
        raise CohortError(
            f"{path} line {wrong[0]}: found {found} in column {column}, expected {expected}{more}"
        )


def _check_once(path: str | Path, table: pd.DataFrame) -> None:
    again = table.index[table["file"].duplicated()]
    if len(again):
        file = table.loc[again[0], "file"]
        first = table.index[table["file"] == file][0]
        raise CohortError(
            f"{path} line {again[0]}: found {file} again (line {first}), expected each file once"
        )


def _check_present(path: str | Path, table: pd.DataFrame, folder: Path) -> None:
    absent = [line for line, file in table["file"].items() if not os.path.exists(folder / file)]
    if absent:
        more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
        raise CohortError(
            f"{path} line {absent[0]}: file {table.loc[absent[0], 'file']} is not in {folder}{more}"
        )


def _check_patients_in_one_part(path: str | Path, table: pd.DataFrame) -> None:
    n_parts = table.groupby("patient_id")["split"].nunique()
    if (n_parts > 1).any():
        patient = n_parts.index[n_parts > 1][0]
        lines = table.index[table["patient_id"] == patient]
        raise CohortError(
            f"{path} lines {', '.join(map(str, lines))}: found patient {patient} in "
            f"{' and '.join(table.loc[lines, 'split'].unique())}, expected each patient in one part"
        )


def _check_split(table: pd.DataFrame) -> None:
    """Check what the ``split`` column makes of the files that could be read."""
    for part in ("train", "test"):
        if not (table["split"] == part).any():
            raise CohortError(f"column split: found no readable ECG in {part}, expected some")
    n_parts = table.groupby("digest")["split"].nunique()
    if (n_parts > 1).any():
        same = table[table["digest"] == n_parts.index[n_parts > 1][0]]
        raise CohortError(
            f"column split: found the same ECG as {' and '.join(same['file'])} in "
            f"{' and '.join(same['split'].unique())}, expected it in one part"
        )


def _check_classes(part: str, targets: np.ndarray, label_names: Sequence[str]) -> None:
    for name, column in zip(label_names, targets.T, strict=True):
        n_positive = int(column.sum())
        if not 0 < n_positive < len(column):
            raise CohortError(
                f"label {name}: found {n_positive} positive and {len(column) - n_positive} negative ECGs "
                f"in the {part} part, expected both"
            )
