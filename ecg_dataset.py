"""A labels table and the folder that it names -> cached signals -> splits by patient -> batches on the
device.

Nothing is dropped silently: a file that cannot be read, or whose ECG is unusable, is counted and listed with
its reason. Patients have pseudonyms from here on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from cohort_table import KEY_FILE, check_present, pseudonyms, read_labels
from data_augmentation import Augmentation
from ecg_quality import judge, near_duplicates
from signal_cache import NO_ROW, CachedSignals, CohortError, cached_signals
from xml_loader import N_SAMPLES, centre_start

MILLIVOLTS = 1e-3  # mV per microvolt
FLAT = 1e-3  # mV; no lead or ECG is divided by a deviation below this


@dataclass(frozen=True)
class Cohort:
    """ECGs with their labels and patients, one row each.

    Attributes
    ----------
    signals : memory map of int16, shape (n_rows, 12, 5000), in microvolts at 500 Hz.
    rows : int array of shape (n_ecgs,), each ECG's row in ``signals``.
    measurements : array of ``ecg_quality.MEASUREMENTS``, shape (n_ecgs,).
    targets : float32 array of shape (n_ecgs, n_labels), 0 or 1.
    label_names : the names of the labels.
    table : DataFrame of n_ecgs lines: the labels table with a pseudonym as ``patient_id``, and ``digest`` of
        the content, ``form`` of the file, and ``same_ecg``, a number that equal ECGs share.
    rejected : DataFrame with a line a file that could not be read, or whose ECG is unusable: file, reason.
    quality : DataFrame of what was found in the ECGs, rejected or not: file, check, verdict ("reject", "warn"
        or "note"), finding.
    patients_assumed : whether the labels table names no patients, so that each file counts as one.
    n_parsed : files that were read just now; the others were in the cache.
    """

    signals: np.ndarray
    rows: np.ndarray
    measurements: np.ndarray
    targets: np.ndarray
    label_names: tuple[str, ...]
    table: pd.DataFrame
    rejected: pd.DataFrame
    quality: pd.DataFrame
    patients_assumed: bool
    n_parsed: int


def read_cohort(
    *,
    data_dir: str,
    labels: str | None,
    label_columns: Sequence[str] | None,
    cache_dir: str,
    workers: int,
    window_start: float,
    patient_key: str | None,
    quality: Mapping[str, Any],
) -> Cohort:
    """Read a labels table and the signals of its files, and leave out what is unusable.

    Parameters
    ----------
    data_dir : folder of the ECG files.
    labels : the table; None means ``labels.csv`` in the folder.
    label_columns : columns to learn; None means PE.
    cache_dir, workers, window_start : see ``signal_cache.cached_signals``.
    patient_key : file of the key of the patients' pseudonyms; None means one beside the table.
    quality : ``quality_checks``, whether ECGs are judged at all, and the limits of ``ecg_quality.judge``.

    Raises
    ------
    CohortError : whatever is wrong with table or folder, in one line.
    """
    folder = Path(data_dir)
    if not folder.is_dir():
        raise CohortError(f"{data_dir}: found no such folder, expected the folder of the ECG files")
    path = Path(labels) if labels else folder / "labels.csv"
    table, label_names = read_labels(path, label_columns)
    check_present(path, table, folder)
    patients_assumed = bool((table["patient_id"] == table["file"]).all())
    key_file = Path(patient_key) if patient_key else path.with_name(KEY_FILE)
    table["patient_id"] = pseudonyms(table["patient_id"], key_file)
    reading = {"cache_dir": cache_dir, "workers": workers, "window_start": window_start}
    cached = cached_signals(folder, list(table["file"]), **reading)
    n_files = len(table)
    table, rows, rejected = _readable(table, cached)
    _check_any_left(data_dir, n_files, rejected)
    measurements = cached.measurements[rows]
    table["same_ecg"] = near_duplicates(cached.signals, rows, measurements)
    findings = _findings(table, label_names, measurements, **quality)
    refused = findings[findings["verdict"] == "reject"]
    rejected += list(refused.groupby("file", sort=False)["finding"].agg("; ".join).items())
    _check_any_left(data_dir, n_files, rejected)
    kept = ~table["file"].isin(refused["file"]).to_numpy()
    table = table[kept].reset_index(drop=True)
    return Cohort(
        signals=cached.signals,
        rows=rows[kept],
        measurements=measurements[kept],
        targets=table[list(label_names)].to_numpy(np.float32),
        label_names=label_names,
        table=table,
        rejected=pd.DataFrame(rejected, columns=["file", "reason"]),
        quality=findings,
        patients_assumed=patients_assumed,
        n_parsed=cached.n_parsed,
    )


def _readable(
    table: pd.DataFrame, cached: CachedSignals
) -> tuple[pd.DataFrame, np.ndarray, list[tuple[str, str]]]:
    """Return the lines whose files could be read, their rows of signals, and the others with the reason."""
    entries = cached.entries
    table = table.assign(digest=[entry.digest for entry in entries], form=[entry.form for entry in entries])
    rows = np.array([entry.row for entry in entries])
    rejected = [(entry.file, entry.rejected) for entry in entries if entry.row == NO_ROW]
    return table[rows != NO_ROW].reset_index(drop=True), rows[rows != NO_ROW], rejected


def _check_any_left(data_dir: str, n_files: int, rejected: list[tuple[str, str]]) -> None:
    if len(rejected) == n_files:
        raise CohortError(f"{data_dir}: none of the {n_files} files can be used; {rejected[0][1]}")


def _findings(
    table: pd.DataFrame,
    label_names: Sequence[str],
    measurements: np.ndarray,
    *,
    quality_checks: bool,
    **limits: float,
) -> pd.DataFrame:
    """Return what the checks find in each ECG, and which are there twice: file, check, verdict, finding."""
    if not quality_checks:
        return pd.DataFrame(columns=["file", "check", "verdict", "finding"])
    findings = pd.concat([judge(measurements, **limits), _duplicates(table, label_names)])
    findings = findings.sort_values("ecg", kind="stable")
    files = table["file"].to_numpy()[findings["ecg"].to_numpy(int)]
    return findings.drop(columns="ecg").assign(file=files)[["file", "check", "verdict", "finding"]]


def _duplicates(table: pd.DataFrame, label_names: Sequence[str]) -> pd.DataFrame:
    """Return a line for each ECG that another file has too; a warning where their rows disagree."""
    lines = []
    for _, same in table[table["same_ecg"].duplicated(keep=False)].groupby("same_ecg", sort=False):
        contradictions = [
            text
            for column, text in [
                ("patient_id", "of another patient"),
                *((n, f"another {n}") for n in label_names),
            ]
            if same[column].nunique() > 1
        ]
        first = same["file"].iloc[0]
        for ecg, file in same["file"].items():
            other = same["file"].iloc[1] if file == first else first
            finding = ", ".join([f"the same ECG as {other}", *contradictions])
            lines.append((ecg, "duplicate", "warn" if contradictions else "note", finding))
    return pd.DataFrame(lines, columns=["ecg", "check", "verdict", "finding"])


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
