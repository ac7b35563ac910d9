"""What there is to say about ECG files, and the table of their labels, before any training."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from cohorts.columns import UNKNOWN_WORDS
from dataset.cohort import NO_LABEL
from dataset.labels_table import EVERY_LABEL, locate, read_files, read_labels
from ecg.quality import judge
from reporting.words.cohort_flow import share
from run_folder.run_record import RunRecord
from runtime.errors import UserError
from runtime.messages import counted

N_DRAWN, N_NOTABLE_DRAWN = 10, 5  # ECGs on paper; those of them that the checks find something in
MAX_GROUPS = 15  # of files alike in format, device, rate, leads and resolution
MAX_LISTED = 40  # files that are refused, and groups of equal ECGs
REFUSED, REJECTED = "refused", "reject"
ALIKE = ["format", "device", "Hz", "leads", "µV/count"]
GRAVITY = ("reject", "warn", "note", "ok")
ABSENT = "the table names it, but it is not in the folder"


@dataclass(frozen=True)
class Inspection:
    """Files that were read and judged.

    Attributes
    ----------
    files : the paths.
    names : of the files, relative to the folder of the ECGs, as a labels table has them.
    rows : DataFrame, one row per file: format, device, Hz, seconds, leads, µV/count, verdict, findings; a
        verdict of "refused" is one that could not be read.
    measurements : of the files that could be read, dtype ``ecg.quality.MEASUREMENTS``.
    same_ecg : int array, a number for each of these that equal ECGs share.
    limits : those of ``ecg.quality.judge``.
    """

    files: Sequence[Path]
    names: Sequence[str]
    rows: pd.DataFrame
    measurements: np.ndarray
    same_ecg: np.ndarray
    limits: Mapping[str, float]

    @property
    def readable(self) -> np.ndarray:
        return np.flatnonzero((self.rows["verdict"] != REFUSED).to_numpy())


@dataclass(frozen=True)
class Labels:
    """A labels table, or what is wrong with it.

    Attributes
    ----------
    name : of its file.
    table : as ``labels_table.read_labels`` gives it; empty where there is none, or one that cannot be read.
    label_names : of its labels.
    problem : what would stop a training, or "".
    """

    name: str
    table: pd.DataFrame
    label_names: tuple[str, ...] = ()
    problem: str = ""


def labels_of(path: Path | None, label_columns: Sequence[str] | None, folder: Path | None) -> Labels:
    """Return a table with the labels named, or all that are 0 or 1; what is wrong in it is a sentence.

    Parameters
    ----------
    path : of the table; None: there is none.
    folder : of the ECGs, in which the table's files must be; None: there is not one, and nothing is sought.
    """
    nothing = pd.DataFrame({"file": []}, dtype=str)
    if path is None:
        missing = "--label-columns: found no table, expected labels.csv in the folder of ECGs, or --labels"
        return Labels("", nothing, problem=missing if label_columns else "")
    table, names, problem = nothing, (), ""
    try:
        table, names = read_labels(path, label_columns or [EVERY_LABEL])
        table = locate(path, table, folder) if folder else table
    except UserError as error:
        problem = str(error)
        if not len(table):  # its labels are wrong: what else does it say?
            with contextlib.suppress(UserError), contextlib.redirect_stdout(None):  # its notes are printed
                table = read_files(path)
    return Labels(path.name, table, names, problem)


def as_record(inspection: Inspection, labels: Labels) -> RunRecord:
    """Return the ECGs that a training could use and those that it would not, as a run's report has them."""
    findings = _findings(inspection)
    reasons = _reasons(inspection, findings)
    table = labels.table
    if not len(table):
        table = pd.DataFrame({"file": inspection.names, "patient_id": inspection.names}, dtype=str)
    table = table.assign(file=_plain(table["file"]))
    named = set(inspection.names)
    reason = table["file"].map(lambda file: reasons.get(file, "") if file in named else ABSENT)
    if labels.label_names:
        unlabelled = table[list(labels.label_names)].isna().all(axis=1)
        reason = reason.mask((reason == "") & unlabelled, NO_LABEL)
    described = [name for name in ("age", "sex", *labels.label_names) if name in table]
    kept = table[["file", "patient_id", *described]].replace("", np.nan).assign(reason=reason)
    splits = kept[kept["reason"] == ""].drop(columns="reason").reset_index(drop=True)
    rejected = kept[kept["reason"] != ""].drop(columns="patient_id").reset_index(drop=True)
    return RunRecord(Path(), {}, pd.DataFrame(), splits, rejected, findings)


def not_named(inspection: Inspection, labels: Labels) -> int:
    """Return how many files the table does not name; 0 without a table."""
    if not len(labels.table):
        return 0
    return len(set(inspection.names) - set(_plain(labels.table["file"])))


def equipment_rows(inspection: Inspection) -> list[list[str]]:
    """Return a row for each kind of readable file, the most frequent first, with how many there are."""
    rows = inspection.rows.iloc[inspection.readable]
    if not len(rows):
        return []
    groups = rows.groupby(ALIKE, dropna=False, sort=False)["seconds"].agg(["size", "min", "max"])
    groups = groups.sort_values("size", ascending=False, kind="stable")
    lines = []
    for key, (n, shortest, longest) in list(zip(groups.index, groups.to_numpy(), strict=True))[:MAX_GROUPS]:
        file_format, device, rate, leads, resolution = key
        seconds = f"{shortest:.4g}" if shortest == longest else f"{shortest:.4g}–{longest:.4g}"
        resolution = "not one" if pd.isna(resolution) else f"{resolution:.4g}"
        cells = [file_format, device or "not named", f"{rate:g}", seconds, f"{leads:g}", resolution]
        lines.append([*cells, f"{int(n):,}"])
    if len(groups) > MAX_GROUPS:
        rest = int(groups["size"].iloc[MAX_GROUPS:].sum())
        lines.append([f"{len(groups) - MAX_GROUPS} other kinds", "", "", "", "", "", f"{rest:,}"])
    return lines


def column_rows(labels: Labels) -> list[list[str]]:
    """Return of each column of the table: name, missing values, and what the known ones are; never a word."""
    rows = []
    for name, column in labels.table.items() if len(labels.table) else ():
        text = column.astype(object).where(column.notna(), "").astype(str)
        known = column[~text.str.strip().str.lower().isin(UNKNOWN_WORDS)]
        n_missing = len(column) - len(known)
        missing = f"{n_missing:,} ({share(n_missing, len(column))})" if n_missing else "0"
        rows.append([str(name), missing, _values_in_words(str(name), known, labels.label_names)])
    return rows


def _values_in_words(name: str, known: pd.Series, label_names: Sequence[str]) -> str:
    if name in label_names:
        n_positive, n = int(known.sum()), len(known)
        return f"a label: {n_positive:,} present ({share(n_positive, n)}), {n - n_positive:,} absent"
    numbers = pd.to_numeric(known, errors="coerce")
    if name not in ("file", "patient_id") and len(known) and numbers.notna().all():
        median, lowest, highest = (
            f"{value:.4g}" for value in (numbers.median(), numbers.min(), numbers.max())
        )
        return f"numbers: median {median}, {lowest} to {highest}"
    n_different = known.nunique()
    return f"{n_different:,} different" if len(known) else "none is known"


def refused_rows(inspection: Inspection) -> list[list[str]]:
    """Return name, verdict and reason of the files that a training leaves out, the first of them."""
    rows = inspection.rows
    left_out = np.flatnonzero(rows["verdict"].isin([REFUSED, REJECTED]).to_numpy())
    words = {REFUSED: "cannot be read", REJECTED: "rejected by a check"}
    return [
        [inspection.names[n], words[rows["verdict"].iloc[n]], rows["findings"].iloc[n]]
        for n in left_out[:MAX_LISTED]
    ]


def n_left_out(inspection: Inspection) -> int:
    """Return how many files cannot be read or are rejected."""
    return int(inspection.rows["verdict"].isin([REFUSED, REJECTED]).sum())


def same_ecgs(inspection: Inspection) -> list[list[str]]:
    """Return the names of the files that hold one ECG, for each ECG that several hold."""
    names = pd.Series([inspection.names[n] for n in inspection.readable], dtype=str)
    groups = names.groupby(inspection.same_ecg).agg(list)
    return [group for group in groups if len(group) > 1]


def drawn_ecgs(inspection: Inspection) -> list[int]:
    """Return positions in ``files`` of ten ECGs: those with the gravest verdicts, then some of the others.

    Half of them are of the first kind, where there are so many; the others are evenly spaced in the order of
    the files.
    """
    verdicts = inspection.rows["verdict"].to_numpy()
    notable = [n for verdict in GRAVITY[:2] for n in inspection.readable if verdicts[n] == verdict]
    chosen = notable[:N_NOTABLE_DRAWN]
    others = [int(n) for n in inspection.readable if n not in set(notable)]
    n_others = min(N_DRAWN - len(chosen), len(others))
    chosen += [others[place] for place in np.linspace(0, len(others) - 1, n_others).round().astype(int)]
    return [int(n) for n in chosen]


def first_sentence(record: RunRecord, labels: Labels) -> str:
    """Return how many ECGs a training could use, and how many have each label."""
    n_used, n_left = len(record.splits), len(record.rejected)
    words = f"{counted(n_used, 'ECG')} can be used, {counted(n_left, 'file')} cannot."
    for name in labels.label_names[:3]:
        known = record.splits[name].dropna()
        n_positive = int(known.sum())
        words += f" {name}: {n_positive:,} of {counted(len(known), 'ECG')} ({share(n_positive, len(known))})."
    return words


def _findings(inspection: Inspection) -> pd.DataFrame:
    """Return what the checks find in the files that could be read: file, check, verdict, finding."""
    names = np.array([inspection.names[n] for n in inspection.readable], object)
    found = judge(inspection.measurements, **inspection.limits)
    return found.assign(file=names[found["ecg"].to_numpy(int)]).drop(columns="ecg")


def _reasons(inspection: Inspection, findings: pd.DataFrame) -> dict[str, str]:
    """Return why a training leaves out a file, by its name."""
    rejected = findings[findings["verdict"] == REJECTED]
    reasons = rejected.groupby("file", sort=False)["finding"].agg("; ".join).to_dict()
    unread = inspection.rows["verdict"] == REFUSED
    for n in np.flatnonzero(unread.to_numpy()):
        reasons[inspection.names[n]] = inspection.rows["findings"].iloc[n]
    return reasons


def _plain(files: pd.Series) -> pd.Series:
    """Return a table's names as the folder has them: ``./a.xml`` is ``a.xml``."""
    return files.map(lambda file: PurePosixPath(file).as_posix()).astype(str)
