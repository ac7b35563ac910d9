"""A labels table and the folder of its files -> a cohort: cached signals, labels, patients.

Nothing is dropped silently: a file that cannot be read, or whose ECG is unusable, is counted and listed with
its reason. Patients have pseudonyms from here on.
"""

import contextlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cohorts.synthetic import demo_cohort
from dataset.clinical import check_clinical, clinical_values
from dataset.labels_table import files_of_folder, locate, read_files, read_labels
from dataset.pseudonyms import KEY_FILE, key_fingerprint, pseudonymise
from dataset.sign_columns import measured_signs
from dataset.signal_store.cache_index import NO_ROW
from dataset.signal_store.signal_cache import StoredSignals, cached_signals
from ecg.duplicates import near_duplicates
from ecg.quality import judge
from ecg.recording import LEADS, MIN_SECONDS
from runtime.atomic_files import csv_text, write_text_atomically
from runtime.errors import UserError

NO_LABEL = "no label is known"  # why an ECG is not used


@dataclass(frozen=True)
class Reading:
    """How files were read and judged, and what was found.

    Attributes
    ----------
    window_start, min_seconds, min_leads, quality_limits : as ``read_cohort`` takes them.
    patient_key : fingerprint of the key of the pseudonyms; those of another key cannot be compared.
    patients_assumed : whether the labels table names no patients, so that each file counts as one.
    rejected : DataFrame with one row per file that could not be read, or whose ECG is unusable: file, reason,
        sex where the table has it, and the labels.
    findings : DataFrame of what is notable in the ECGs, rejected or not: file, check, verdict ("reject",
        "warn" or "note"), finding.
    n_parsed : files that were read just now; the others were in the cache.
    rejected_list : where ``rejected`` was written before anything else can fail, in the cache.
    """

    window_start: float
    quality_limits: Mapping[str, Any]
    patient_key: str
    patients_assumed: bool
    rejected: pd.DataFrame
    findings: pd.DataFrame
    n_parsed: int
    rejected_list: Path | None = None
    min_seconds: float = MIN_SECONDS
    min_leads: int = len(LEADS)


@dataclass(frozen=True)
class Cohort:
    """ECGs with their labels and patients, one row each.

    Attributes
    ----------
    table : DataFrame of n_ecgs rows: the labels table with a pseudonym as ``patient_id``, and ``digest`` of
        the content, ``file_format``, and ``same_ecg``, a number that equal ECGs share.
    targets : float32 array of shape (n_ecgs, n_labels), 0 or 1, or nan where it is not known.
    label_names : the names of the labels.
    clinical : float32 DataFrame of n_ecgs rows, the columns that the head sees beside the ECG, in the table's
        units, then the ECG signs, if it sees them; nan where a value is not known.
    signals : those of the n_ecgs ECGs, on the disk.
    measurements : array of ``ecg.quality.MEASUREMENTS``, shape (n_ecgs,).
    reading : how the files were read, and which were left out.
    """

    table: pd.DataFrame
    targets: np.ndarray
    label_names: tuple[str, ...]
    clinical: pd.DataFrame
    signals: StoredSignals
    measurements: np.ndarray
    reading: Reading

    @property
    def waveforms(self) -> list[str]:
        """A digest of each signal at rest: files that were exported twice differ, their signals do not."""
        return [f"{number:016x}" for number in self.measurements["waveform"].tolist()]

    @property
    def rejections(self) -> str:
        """How many files were rejected, and why the first was, to go on an error that came of it; or ""."""
        rejected = self.reading.rejected
        if rejected.empty:
            return ""
        n_files = len(rejected) + len(self.table)
        where = f" ({self.reading.rejected_list})" if self.reading.rejected_list else ""
        pairs = list(zip(rejected["file"], rejected["reason"], strict=True))
        file, reason = next((pair for pair in pairs if pair[1] != NO_LABEL), pairs[0])
        first = reason if file in reason else f"{file}: {reason}"
        return f"; {len(rejected):,} of {n_files:,} files had been rejected before{where}, the first: {first}"

    @property
    def model_arguments(self) -> dict[str, int]:
        """What every model's constructor needs to know about the cohort."""
        return {"n_labels": len(self.label_names), "n_clinical": self.clinical.shape[1]}


def read_cohort(
    *,
    data_dir: str | None,
    labels: str | None,
    label_columns: Sequence[str] | None,
    clinical_columns: Sequence[str] | None = None,
    ecg_signs: bool = False,
    cache_dir: str,
    workers: int,
    window_start: float,
    min_seconds: float = MIN_SECONDS,
    min_leads: int = len(LEADS),
    patient_key: str | None,
    quality: Mapping[str, Any],
) -> Cohort:
    """Read a labels table and the signals of its files, and leave out what is unusable.

    Where several processes train together, the first fills the cache before the others look into it.

    Parameters
    ----------
    data_dir : folder of the ECG files; None means the synthetic demo cohort, which is made if need be.
    labels : the table; None means ``labels.csv`` in the folder.
    label_columns : columns to learn; None means PE.
    clinical_columns : columns that the head sees beside the ECG; None means none.
    ecg_signs : whether it sees the signs that are measured in each ECG, ``dataset.sign_columns``.
    cache_dir, workers, window_start, min_seconds, min_leads : see ``signal_cache.cached_signals``.
    patient_key : file of the key of the patients' pseudonyms; None means one beside the table.
    quality : ``quality_checks``, whether ECGs are judged at all, and the limits of ``ecg.quality.judge``.

    Raises
    ------
    UserError : anything that is wrong with table or folder, in one line.
    """
    with _first_before_others():
        return _read(
            _listed(data_dir, labels, label_columns, clinical_columns or ()),
            ecg_signs=ecg_signs,
            cache_dir=cache_dir,
            workers=workers,
            window_start=window_start,
            min_seconds=min_seconds,
            min_leads=min_leads,
            patient_key=patient_key,
            quality=quality,
        )


def read_unlabelled(*, data_dir: str | None, labels: str | None, **reading: Any) -> Cohort:
    """Read ECGs without their labels, and print where the list of them comes from.

    Parameters
    ----------
    labels : a table with the column ``file``, and optionally ``patient_id`` and ``split``; None means
        ``labels.csv`` in the folder or, where there is none, all ECG files of the folder, each a patient of
        its own.
    data_dir, reading : as ``read_cohort`` takes them.

    Returns
    -------
    cohort : without labels; its targets have the shape (n_ecgs, 0).

    Raises
    ------
    UserError : anything that is wrong with table or folder, in one line.
    """
    with _first_before_others():
        return _read(_listed_without_labels(data_dir, labels), **reading)


def _first_before_others() -> AbstractContextManager[None]:
    from runtime.processes import first_before_others  # PyTorch takes seconds; nothing else here needs it

    return first_before_others()


class _Listed(NamedTuple):
    """A checked table of files to be read; ``unlabelled`` are its rows of which no label is known."""

    folder: Path
    path: Path
    table: pd.DataFrame
    unlabelled: pd.DataFrame
    label_names: tuple[str, ...] = ()
    clinical_columns: tuple[str, ...] = ()


def _listed(
    data_dir: str | None,
    labels: str | None,
    label_columns: Sequence[str] | None,
    clinical_columns: Sequence[str],
) -> _Listed:
    folder, path = places(data_dir, labels)
    table, label_names = read_labels(path, label_columns)
    check_clinical(path, table, clinical_columns, label_names=label_names)
    unlabelled = table[list(label_names)].isna().all(axis=1)
    _check_any_left(folder, len(table), [(file, NO_LABEL) for file in table.loc[unlabelled, "file"]])
    located = locate(path, table[~unlabelled], folder)
    return _Listed(folder, path, located, table[unlabelled], label_names, tuple(clinical_columns))


def _listed_without_labels(data_dir: str | None, labels: str | None) -> _Listed:
    folder, path = places(data_dir, labels)
    if labels or path.exists():
        table = locate(path, read_files(path), folder)
        print(f"table       {path}: {len(table):,} files; no label is read, no other file of the folder")
    else:
        table = files_of_folder(folder)
        print(f"table       no {path}: all {len(table):,} ECG files of the folder, each a patient of its own")
    return _Listed(folder, path, table, table[:0])


def places(data_dir: str | None, labels: str | None) -> tuple[Path, Path]:
    """Return the folder of the ECG files, the demo cohort's where none is named, and the path of the table.

    Raises
    ------
    UserError : there is no such folder.
    """
    folder = Path(demo_cohort() if data_dir is None else data_dir)
    if not folder.is_dir():
        raise UserError(f"{folder}: found no such folder, expected the folder of the ECG files")
    return folder, Path(labels) if labels else folder / "labels.csv"


def _read(
    listed: _Listed,
    *,
    ecg_signs: bool = False,
    cache_dir: str,
    workers: int,
    window_start: float,
    min_seconds: float = MIN_SECONDS,
    min_leads: int = len(LEADS),
    patient_key: str | None,
    quality: Mapping[str, Any],
) -> Cohort:
    """Read the files that are listed, and leave out those that are unusable."""
    folder, path, table, unlabelled, label_names, clinical_columns = listed
    n_files = len(table) + len(unlabelled)
    key_file = Path(patient_key) if patient_key else path.with_name(KEY_FILE)
    patients_assumed = bool((table["patient_id"] == table["file"]).all())
    table = table.assign(patient_id=pseudonymise(table["patient_id"], key_file))
    files = list(table["file"])
    window = {"window_start": window_start, "min_seconds": min_seconds, "min_leads": min_leads}
    cached = cached_signals(folder, files, cache_dir=cache_dir, workers=workers, **window)
    has_row = (cached.entries["row"] != NO_ROW).to_numpy()
    unreadable = cached.entries.loc[~has_row, ["file", "rejected"]].itertuples(index=False, name=None)
    rejected = [*((file, NO_LABEL) for file in unlabelled["file"]), *unreadable]
    _check_any_left(folder, n_files, rejected, cached.folder)
    entries = cached.entries[has_row].reset_index(drop=True)
    table = table[has_row].reset_index(drop=True).assign(**entries[["digest", "file_format"]])
    measurements = cached.measurements[entries["row"]]
    table["same_ecg"] = near_duplicates(cached.signals, entries["row"].to_numpy(), measurements)
    findings = _findings(table, label_names, measurements, **quality)
    refused = findings[findings["verdict"] == "reject"]
    rejected += refused.groupby("file", sort=False)["finding"].agg("; ".join).items()
    _check_any_left(folder, n_files, rejected, cached.folder)
    kept = ~table["file"].isin(refused["file"]).to_numpy()
    table = table[kept].reset_index(drop=True)
    signals = StoredSignals.from_entries(cached.signals, entries[kept])
    clinical = pd.DataFrame(clinical_values(table, clinical_columns), columns=list(clinical_columns))
    if ecg_signs:
        clinical = clinical.join(measured_signs(signals, workers=workers))
    return Cohort(
        table=table,
        targets=table[list(label_names)].to_numpy(np.float32),
        label_names=label_names,
        clinical=clinical,
        signals=signals,
        measurements=measurements[kept],
        reading=Reading(
            **window,
            quality_limits=dict(quality),
            patient_key=key_fingerprint(key_file),
            patients_assumed=patients_assumed,
            rejected=_described(rejected, pd.concat([listed.table, unlabelled]), label_names),
            findings=findings,
            n_parsed=cached.n_parsed,
            rejected_list=_list_rejected(rejected, cached.folder),
        ),
    )


def _check_any_left(
    folder: str | Path, n_files: int, rejected: list[tuple[str, str]], cache: Path | None = None
) -> None:
    if len(rejected) == n_files:
        listed = _list_rejected(rejected, cache) if cache else None
        where = f" (all reasons: {listed})" if listed else ""
        raise UserError(f"{folder}: none of the {n_files} files can be used; {rejected[0][1]}{where}")


def _list_rejected(rejected: list[tuple[str, str]], cache: Path) -> Path | None:
    """Write the files that are not used, with their reasons, and return where; None where none is rejected.

    The run's own ``rejected.csv`` comes later, and not at all where something stops before.

    Parameters
    ----------
    cache : folder of the data folder's own cache.
    """
    path = cache / "rejected.csv"
    with contextlib.suppress(OSError):  # a cache that is only read; the run's own list follows
        if not rejected:
            path.unlink(missing_ok=True)  # of an earlier reading
            return None
        write_text_atomically(path, csv_text(pd.DataFrame(rejected, columns=["file", "reason"])))
        return path
    return None


def _described(
    rejected: list[tuple[str, str]], table: pd.DataFrame, label_names: Sequence[str]
) -> pd.DataFrame:
    """Return files and reasons with sex and labels: who is left out, with and without the outcome."""
    known = [name for name in ("sex", *label_names) if name in table]
    described = table[["file", *known]].astype(dict.fromkeys(label_names, "Int64"))
    return pd.DataFrame(rejected, columns=["file", "reason"], dtype=str).merge(
        described, on="file", how="left"
    )


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
    """Return one row per ECG that another file has too; a warning where their rows disagree."""
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
