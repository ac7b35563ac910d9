"""A labels table and the folder that it names -> a cohort: cached signals, labels, patients.

Nothing is dropped silently: a file that cannot be read, or whose ECG is unusable, is counted and listed with
its reason. Patients have pseudonyms from here on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dataset.clinical import check_clinical, clinical_values
from dataset.labels_table import check_present, files_of_folder, read_files, read_labels
from dataset.pseudonyms import KEY_FILE, key_fingerprint, pseudonymise
from dataset.signal_store.cache_index import NO_ROW
from dataset.signal_store.signal_cache import CachedSignals, cached_signals, check_rows, read_rows
from ecg.duplicates import near_duplicates
from ecg.quality import judge
from runtime.errors import UserError


@dataclass(frozen=True)
class Cohort:
    """ECGs with their labels and patients, one row each.

    Attributes
    ----------
    signals : memory map of int16, shape (n_rows, 12, 5000), in microvolts at 500 Hz.
    rows : int array of shape (n_ecgs,), each ECG's row in ``signals``.
    measurements : array of ``ecg.quality.MEASUREMENTS``, shape (n_ecgs,).
    targets : float32 array of shape (n_ecgs, n_labels), 0 or 1, or nan where it is not known.
    label_names : the names of the labels.
    clinical_columns, clinical : what the head sees beside the ECG: names, and float32 array of shape (n_ecgs,
        n_clinical) in the table's units, nan where it is not known.
    table : DataFrame of n_ecgs lines: the labels table with a pseudonym as ``patient_id``, and ``digest`` of
        the content, ``file_format``, and ``same_ecg``, a number that equal ECGs share.
    rejected : DataFrame with a line a file that could not be read, or whose ECG is unusable: file, reason.
    quality : DataFrame of what was found in the ECGs, rejected or not: file, check, verdict ("reject", "warn"
        or "note"), finding.
    patients_assumed : whether the labels table names no patients, so that each file counts as one.
    patient_key : fingerprint of the key of the pseudonyms; those of another key say nothing of these.
    n_parsed : files that were read just now; the others were in the cache.
    checksums : uint32 array of shape (n_ecgs,), the CRC-32 of each ECG's row of ``signals``, which
        ``read_signals`` checks; None for signals that come from no cache.
    window_start, quality_limits : how the files were read and judged, as ``read_cohort`` was told.
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
    checksums: np.ndarray | None = None
    patient_key: str = ""
    window_start: float = 0.0
    clinical_columns: tuple[str, ...] = ()
    clinical: np.ndarray | None = None
    quality_limits: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model_arguments(self) -> dict[str, int]:
        """What the constructor of every model must know of the cohort."""
        return {"n_labels": len(self.label_names), "n_clinical": len(self.clinical_columns)}

    def clinical_of(self, columns: Sequence[str]) -> np.ndarray:
        """Return some of the clinical columns, float32 (n_ecgs, n_columns)."""
        chosen = [self.clinical_columns.index(name) for name in columns]
        return np.empty((len(self.rows), 0), np.float32) if not chosen else self.clinical[:, chosen]

    def read_signals(self, ecgs: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return the signals of some ECGs, int16 (n, 12, 5000), and write them to ``out`` where it is given.

        Raises
        ------
        UserError : a row of the cache is not as it was written.
        """
        if out is None:
            out = np.empty((len(ecgs), *self.signals.shape[1:]), np.int16)
        read_rows(self.signals, self.rows[ecgs], out)
        if self.checksums is not None:
            check_rows(out, self.checksums[ecgs], self.table["file"].to_numpy()[ecgs], self.signals)
        return out


def read_cohort(
    *,
    data_dir: str,
    labels: str | None,
    label_columns: Sequence[str] | None,
    clinical_columns: Sequence[str] | None = None,
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
    clinical_columns : columns that the head sees beside the ECG; None means none.
    cache_dir, workers, window_start : see ``signal_cache.cached_signals``.
    patient_key : file of the key of the patients' pseudonyms; None means one beside the table.
    quality : ``quality_checks``, whether ECGs are judged at all, and the limits of ``ecg.quality.judge``.

    Raises
    ------
    UserError : whatever is wrong with table or folder, in one line.
    """
    folder = _folder(data_dir)
    path = Path(labels) if labels else folder / "labels.csv"
    table, label_names = read_labels(path, label_columns)
    check_clinical(path, table, clinical_columns or (), label_names=label_names)
    unlabelled = table[list(label_names)].isna().all(axis=1)
    rejected = [(file, "no label is known") for file in table.loc[unlabelled, "file"]]
    _check_any_left(data_dir, len(table), rejected)
    table = table[~unlabelled]
    check_present(path, table, folder)
    return _cohort(
        folder,
        table,
        rejected,
        label_names=label_names,
        clinical_columns=tuple(clinical_columns or ()),
        key_file=Path(patient_key) if patient_key else path.with_name(KEY_FILE),
        window_start=window_start,
        quality=quality,
        cache_dir=cache_dir,
        workers=workers,
    )


def read_unlabelled(
    *,
    data_dir: str,
    labels: str | None,
    cache_dir: str,
    workers: int,
    window_start: float,
    patient_key: str | None,
    quality: Mapping[str, Any],
) -> Cohort:
    """Read ECGs of which no label is needed, and print where the list of them comes from.

    Parameters
    ----------
    labels : a table with the column ``file``, and optionally ``patient_id`` and ``split``; None means
        ``labels.csv`` in the folder or, where there is none, all ECG files of the folder, each a patient of
        its own.
    data_dir, cache_dir, workers, window_start, patient_key, quality : as ``read_cohort`` takes them.

    Returns
    -------
    cohort : without labels; its targets have the shape (n_ecgs, 0).

    Raises
    ------
    UserError : whatever is wrong with table or folder, in one line.
    """
    folder = _folder(data_dir)
    path = Path(labels) if labels else folder / "labels.csv"
    if labels or path.exists():
        table = read_files(path)
        check_present(path, table, folder)
        print(f"table       {path}: {len(table):,} files; no label is read, no other file of the folder")
    else:
        table = files_of_folder(folder)
        print(f"table       no {path}: all {len(table):,} ECG files of the folder, each a patient of its own")
    return _cohort(
        folder,
        table,
        [],
        label_names=(),
        clinical_columns=(),
        key_file=Path(patient_key) if patient_key else path.with_name(KEY_FILE),
        window_start=window_start,
        quality=quality,
        cache_dir=cache_dir,
        workers=workers,
    )


def _folder(data_dir: str) -> Path:
    folder = Path(data_dir)
    if not folder.is_dir():
        raise UserError(f"{data_dir}: found no such folder, expected the folder of the ECG files")
    return folder


def _cohort(
    folder: Path,
    table: pd.DataFrame,
    rejected: list[tuple[str, str]],
    *,
    label_names: tuple[str, ...],
    clinical_columns: tuple[str, ...],
    key_file: Path,
    window_start: float,
    quality: Mapping[str, Any],
    **reading: Any,
) -> Cohort:
    """Return the ECGs of a checked table, without those that are unusable.

    Parameters
    ----------
    rejected : file and reason of those that are left out already.
    reading : ``cache_dir`` and ``workers``.
    """
    n_files = len(table) + len(rejected)
    patients_assumed = bool((table["patient_id"] == table["file"]).all())
    table = table.assign(patient_id=pseudonymise(table["patient_id"], key_file))
    cached = cached_signals(folder, list(table["file"]), window_start=window_start, **reading)
    table, rows, checksums, unreadable = _readable(table, cached)
    rejected += unreadable
    _check_any_left(folder, n_files, rejected)
    measurements = cached.measurements[rows]
    table["same_ecg"] = near_duplicates(cached.signals, rows, measurements)
    findings = _findings(table, label_names, measurements, **quality)
    refused = findings[findings["verdict"] == "reject"]
    rejected += list(refused.groupby("file", sort=False)["finding"].agg("; ".join).items())
    _check_any_left(folder, n_files, rejected)
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
        patient_key=key_fingerprint(key_file),
        n_parsed=cached.n_parsed,
        checksums=checksums[kept],
        window_start=window_start,
        clinical_columns=clinical_columns,
        clinical=clinical_values(table, clinical_columns),
        quality_limits=dict(quality),
    )


def _readable(
    table: pd.DataFrame, cached: CachedSignals
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, list[tuple[str, str]]]:
    """Return the lines whose files could be read, their rows and checksums, and the others' reasons."""
    entries = cached.entries
    table = table.assign(digest=entries["digest"].to_numpy(), file_format=entries["file_format"].to_numpy())
    has_row = (entries["row"] != NO_ROW).to_numpy()
    rejected = entries.loc[~has_row, ["file", "rejected"]].itertuples(index=False, name=None)
    rows, checksums = (entries[column].to_numpy()[has_row] for column in ("row", "checksum"))
    return table[has_row].reset_index(drop=True), rows, checksums, list(rejected)


def _check_any_left(folder: str | Path, n_files: int, rejected: list[tuple[str, str]]) -> None:
    if len(rejected) == n_files:
        raise UserError(f"{folder}: none of the {n_files} files can be used; {rejected[0][1]}")


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
    same = table[table["same_ecg"].duplicated(keep=False)]
    groups = same.groupby("same_ecg", sort=False)
    first = groups["file"].transform("first")
    second = same["same_ecg"].map(groups["file"].agg(lambda files: files.iloc[1]))
    finding = "the same ECG as " + first.mask(same["file"] == first, second)
    contradicted = pd.Series(False, same.index)
    texts = {"patient_id": "of another patient"} | {name: f"another {name}" for name in label_names}
    for column, text in texts.items():
        differs = groups[column].transform("nunique") > 1
        finding += np.where(differs, f", {text}", "")
        contradicted |= differs
    verdict = np.where(contradicted, "warn", "note")
    return pd.DataFrame({"ecg": same.index, "check": "duplicate", "verdict": verdict, "finding": finding})
