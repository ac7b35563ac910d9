"""Whether models have seen ECGs, or their patients, even if the files were exported again.

A cohort that is to say how good a run is on other patients must share neither with it. Files are compared by
the digest of their content, signals by theirs, and sample by sample where the run's own files are still at
hand; patients by their pseudonyms, where both tables were read with one key. A trunk that ships has
fingerprints of its ECGs instead, which recognise a recording at another rate or resolution too.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cohorts.synthetic import DEMO_FOLDER
from dataset.cohort import Cohort
from dataset.signal_store.cache_index import NO_ROW
from dataset.signal_store.file_identity import digest_of
from dataset.signal_store.signal_cache import StoredSignals, cached_signals, fingerprints_of
from ecg.duplicates import near_duplicates
from ecg.fingerprint import fingerprints, is_among
from run_folder.files import RunFiles, found_again
from run_folder.hub import is_published
from run_folder.lineage import SEEN, ancestors, foreign_starts, patient_key_of, root_of, roots_of, seen_by
from run_folder.shipped import is_shipped, read_seen
from runtime.errors import UserError
from runtime.messages import counted


class _Comparison(NamedTuple):
    """Which of a cohort's ECGs a run has seen, (n_ecgs,) of booleans, and in words how they were compared."""

    seen: np.ndarray
    words: str


def check_unseen(folders: Sequence[Path], cohort: Cohort) -> list[str]:
    """Refuse a cohort that shares ECGs or patients with runs, or with those whose weights they began from.

    Prints each file that was seen, before the error.

    Returns
    -------
    sentences about how many ECGs were compared with those of each run, by name, and how.

    Raises
    ------
    UserError : a run has seen an ECG or a patient of the cohort, in any of its parts.
    """
    unseen: dict[str, list[str]] = {}
    for folder, root in _roots_to_compare(folders):
        seen, words = _compare(root, cohort)
        if not seen.any():
            unseen.setdefault(words, []).append(root.resolve().name)
            continue
        files = cohort.table.loc[seen, "file"]
        for file in files:
            print(f"seen        {file}")
        by = "" if root in {folder, *roots_of(folder)} else f" by way of {root}"
        raise UserError(
            f"{folder}: found {counted(len(files), 'ECG')} of the cohort, or their patients, in what it was "
            f"trained and tested on{by}, such as {files.iloc[0]}; expected other patients' ECGs"
        )
    n_ecgs = counted(len(cohort.table), "ECG")
    return [f"{n_ecgs}, none in {', '.join(roots)}: {words}" for words, roots in unseen.items()]


def seen_in_training(
    folder: Path, cohort: Cohort, ecgs: np.ndarray, parts: Sequence[str] = SEEN
) -> np.ndarray:
    """Return which of some ECGs of a cohort, or their patients, were in some parts of a run or fold.

    Patients are only recognised where both tables were read with one key. All ECGs of a shipped trunk count.

    Parameters
    ----------
    ecgs : int ndarray of shape (n,)
    parts : by default those that trained it, or chose its epoch.

    Returns
    -------
    ndarray of booleans, (n,)
    """
    seen = seen_by(folder)
    seen = seen[seen["part"].isin(parts)]
    own = cohort.table[["digest", "patient_id"]].assign(waveform=cohort.waveforms).iloc[ecgs]
    again = np.any([own[column].isin(seen[column].dropna()) for column in own], axis=0)
    if is_shipped(folder):
        again |= is_among(fingerprints_of(cohort.signals, ecgs), read_seen(folder).fingerprints)
    return again


def _roots_to_compare(folders: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield each run that the weights in the folders come from, once, with the folder that leads to it."""
    met = set()
    for folder in folders:
        for weights in foreign_starts(folder):
            print(f"note        {folder} began from {weights['file']}: nobody here knows what that has seen")
        for run in ancestors(folder):
            if is_published(root_of(run) if run.is_dir() else run):
                print(f"note        {run} does not tell which ECGs it has seen: they are not compared")
                continue
            if not run.is_dir():
                print(f"note        {folder} began from {run}, which is not there: its ECGs are not compared")
                continue
            if (root := root_of(run)) not in met:
                met.add(root)
                yield folder, root


def _compare(root: Path, cohort: Cohort) -> _Comparison:
    compared = _shipped_ecgs_in(cohort, root) if is_shipped(root) else _ecgs_in(cohort, root)
    patients = _patients_in(cohort, root)
    return _Comparison(compared.seen | patients.seen, f"{compared.words}; {patients.words}")


def _shipped_ecgs_in(cohort: Cohort, root: Path) -> _Comparison:
    theirs = read_seen(root).fingerprints
    own = fingerprints_of(cohort.signals, np.arange(len(cohort.table)))
    return _Comparison(is_among(own, theirs), f"compared with {len(theirs):,} ECGs by fingerprint")


def _ecgs_in(cohort: Cohort, root: Path) -> _Comparison:
    splits, table = RunFiles(root).splits(), cohort.table
    seen, ways = table["digest"].isin(splits["digest"]).to_numpy(), ["file"]
    if "waveform" in splits:  # runs of earlier versions lack it
        seen = seen | np.isin(cohort.waveforms, splits["waveform"].dropna())
        ways.append("signal")
    words = f"compared with {counted(len(splits), 'ECG')} by {' and '.join(ways)}"
    if recordings := _recordings_of(root, splits):
        signals, measurements = recordings
        seen = seen | _recorded_in(cohort, signals, measurements)
        words += f", sample by sample with {len(signals):,}"
    else:
        words += ", not sample by sample (its files are not at hand)"
    return _Comparison(seen, words)


def _patients_in(cohort: Cohort, root: Path) -> _Comparison:
    own = cohort.table["patient_id"]
    if cohort.reading.patients_assumed:
        words = "patients not compared (the table has no patient_id)"
    elif patient_key_of(root) != cohort.reading.patient_key:
        words = "patients not compared (their pseudonyms are of another key: --patient-key)"
    else:
        theirs = seen_by(root)["patient_id"]
        words = f"{own.nunique():,} patients compared with {theirs.nunique():,}"
        return _Comparison(own.isin(theirs).to_numpy(), words)
    return _Comparison(np.zeros(len(own), bool), words)


def _recordings_of(root: Path, splits: pd.DataFrame) -> tuple[StoredSignals, np.ndarray] | None:
    """Return signals and measurements of a run's ECGs, those whose files are where and as they were."""
    values = RunFiles(root).hyperparameters()
    folder = found_again(root, values, values.get("data_dir") or DEMO_FOLDER)
    if not folder.is_dir() or "cache_dir" not in values:
        return None
    known = ("cache_dir", "workers", "window_start", "min_seconds", "min_leads")
    reading = {name: values[name] for name in known if name in values}
    try:
        cached = cached_signals(folder, list(splits["file"]), **reading)
    except UserError:  # the cache can neither be read nor be made
        return None
    there = (cached.entries["row"] != NO_ROW) & (cached.entries["digest"] == splits["digest"])
    entries = cached.entries[there]
    if entries.empty:
        return None
    return StoredSignals.from_entries(cached.signals, entries), cached.measurements[entries["row"]]


class _SideBySide:
    """The signals of two cohorts, one after the other, as `near_duplicates` indexes them."""

    def __init__(self, one: StoredSignals, other: StoredSignals):
        self.one, self.other = one, other

    def __getitem__(self, ecg: int) -> np.ndarray:
        n = len(self.one)
        return self.one.read([ecg])[0] if ecg < n else self.other.read([ecg - n])[0]


def _recorded_in(cohort: Cohort, signals: StoredSignals, measurements: np.ndarray) -> np.ndarray:
    """Return which of a cohort's ECGs are recordings that are among these signals, (n_ecgs,) of booleans."""
    n = len(signals)
    groups = near_duplicates(
        _SideBySide(signals, cohort.signals),
        np.arange(n + len(cohort.signals)),
        np.concatenate([measurements, cohort.measurements]),
    )
    return np.isin(groups[n:], groups[:n])


class TrainedOn(NamedTuple):
    """Digests of the ECGs that trained a model or chose its epoch: of the files, and of the signals.

    Of shipped trunks that it began from: the fingerprints, arrays of shape (n_ecgs, 16).
    """

    digests: frozenset[str] = frozenset()
    waveforms: frozenset[int] = frozenset()
    fingerprints: tuple[np.ndarray, ...] = ()

    @classmethod
    def of(cls, folder: Path) -> "TrainedOn":
        """Read them of a run and of those that it began from; nothing without their splits.csv."""
        digests, waveforms, shipped = set(), set(), []
        with contextlib.suppress(UserError):  # the model was copied without its run, or that is gone
            for run in ancestors(folder):
                seen = seen_by(run)
                seen = seen[seen["part"].isin(SEEN)]
                digests |= set(seen["digest"].dropna())
                waveforms |= {int(text, 16) for text in seen["waveform"].dropna()}
                shipped += [read_seen(run).fingerprints] if is_shipped(run) else []
        return cls(frozenset(digests), frozenset(waveforms), tuple(shipped))

    def has(self, file: Path, waveform: int, signal: np.ndarray) -> bool:
        """Return whether an ECG is one of them, by its file's content or by its signal, int16 (12, 5000)."""
        if self.digests and (int(waveform) in self.waveforms or digest_of(file) in self.digests):
            return True
        return any(is_among(fingerprints(signal[None]), theirs).any() for theirs in self.fingerprints)
