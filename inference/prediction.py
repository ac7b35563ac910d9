"""The files of new patients -> scores, decisions and doubts: what `predict.py` prints and writes."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dataset.clinical import given_values
from dataset.decoding import decode
from dataset.labels_table import read_clinical
from dataset.reading_ahead import read_ahead
from dataset.sign_columns import SIGN_COLUMNS, given_columns, sign_columns, with_signs
from ecg.quality import judge, missing_in_words
from inference.likeness import TrainingDistribution, unlike_training
from inference.members import Members
from inference.unseen import TrainedOn
from metrics.calibration import shift_prevalence
from metrics.log_odds import mean_score
from runtime.errors import UserError
from xml_loader import EcgFileError

BATCH_SIZE = 32  # ECGs scored at once
TRAINED_ON = "the model was trained or validated on this ECG"

# A file -> the clinical values that a user gives, (n_given,), nan: not known
ClinicalSource = Callable[[Path], np.ndarray]


class Decoded(NamedTuple):
    """One readable ECG: int16 (12, 5000) in µV, measurements and file format as ``decoding.decode`` gives."""

    file: Path
    signal: np.ndarray
    measurement: np.void
    file_format: str
    doubts: list[str]


class Scored(NamedTuple):
    """One ECG with its scores.

    Attributes
    ----------
    clinical : float32 (n_columns,), what they saw beside it.
    member_scores : (n_members, n_labels), calibrated.
    doubts : sentences about its quality, unknown clinical values, and how it differs from the training ECGs,
        or that it is one of them.
    """

    file: Path
    clinical: np.ndarray
    member_scores: np.ndarray
    doubts: list[str]


class Failure(NamedTuple):
    """An ECG that is not scored, and why."""

    file: Path
    reason: str


def score_files(
    files: Sequence[Path],
    scorer: Members,
    trained_on: Sequence[TrainingDistribution | None],
    clinical_of: ClinicalSource,
    seen: TrainedOn,
    *,
    any_quality: bool,
) -> Iterator[tuple[list[Scored], list[Failure]]]:
    """Yield of some files at a time the scores, and those that have none, with the reason.

    A file has none where it cannot be read, or its quality is beyond the limits. Many files are read ahead,
    by processes of their own.

    Parameters
    ----------
    trained_on : what the training ECGs of each model were like, where that is known.
    seen : which ECGs these were.
    any_quality : score ECGs beyond the limits too, with a doubt.

    Raises
    ------
    UserError : a score is not finite, or a process that reads files was killed.
    """
    window = {
        "window_start": scorer.window_start,
        "min_seconds": scorer.min_seconds,
        "min_leads": scorer.min_leads,
    }
    options = {"quality": scorer.quality, "seen": seen, "any_quality": any_quality}
    results = read_ahead(files, partial(_decoded, **window, **options))
    while some := list(islice(results, BATCH_SIZE)):
        failures = [result for result in some if isinstance(result, Failure)]
        batch = [result for result in some if isinstance(result, Decoded)]
        yield list(_score(batch, scorer, trained_on, clinical_of)) if batch else [], failures


def _decoded(
    file: Path,
    *,
    window_start: float,
    min_seconds: float,
    min_leads: int,
    quality: Mapping[str, Any],
    seen: TrainedOn,
    any_quality: bool,
) -> Decoded | Failure:
    try:
        file_format, signal, measurement = decode(file, window_start, min_seconds, min_leads)
    except EcgFileError as error:
        return Failure(file, str(error))
    refusals, warnings = judged(measurement, **quality)
    if refusals and not any_quality:
        return Failure(file, f"{file}: {'; '.join(refusals)}")
    known = [TRAINED_ON] if seen.has(file, measurement["waveform"], signal) else []
    return Decoded(file, signal, measurement, file_format, known + refusals + warnings)


def judged(
    measurement: np.void, *, quality_checks: bool = False, **limits: float
) -> tuple[list[str], list[str]]:
    """Return why an ECG is unusable, and what is doubtful about it; no sentence where nothing is.

    Which leads it lacks is said without quality checks too.
    """
    if not quality_checks:
        return [], list(filter(None, [missing_in_words(measurement)]))
    findings = judge(np.array([measurement]), **limits)
    refusals, warnings = (findings.loc[findings["verdict"] == kind, "finding"] for kind in ("reject", "warn"))
    return refusals.tolist(), warnings.tolist()


def _score(
    batch: list[Decoded],
    scorer: Members,
    trained_on: Sequence[TrainingDistribution | None],
    clinical_of: ClinicalSource,
) -> Iterator[Scored]:
    signals, given = (
        np.stack([ecg.signal for ecg in batch]),
        np.stack([clinical_of(ecg.file) for ecg in batch]),
    )
    clinical = with_signs(scorer.clinical_columns, given, signals)  # (N, n_columns)
    member_scores, features = scorer.scores_and_features(signals, clinical)
    check_finite(member_scores, [ecg.file for ecg in batch])
    doubts = _doubts(batch, clinical, scorer, trained_on, features)
    for number, ecg in enumerate(batch):
        yield Scored(ecg.file, clinical[number], member_scores[:, number], doubts[number])


def check_finite(member_scores: np.ndarray, files: Sequence[Path]) -> None:
    """Refuse scores, (n_members, n_files, n_labels), that are not finite: they must not become decisions."""
    finite = np.isfinite(member_scores).all(axis=(0, 2))
    if not finite.all():
        file = files[int(np.argmin(finite))]
        raise UserError(f"{file}: found a score that is not a number: a damaged model?")


def _doubts(
    batch: list[Decoded],
    clinical: np.ndarray,
    scorer: Members,
    trained_on: Sequence[TrainingDistribution | None],
    features: Sequence[np.ndarray],
) -> list[list[str]]:
    """Return sentences about each ECG: quality, unknown clinical values, difference from training ECGs."""
    columns = scorer.clinical_columns
    ages = clinical[:, columns.index("age")] if "age" in columns else None
    measurements, file_formats = np.array([ecg.measurement for ecg in batch]), [e.file_format for e in batch]
    unlike = unlike_training(trained_on, features, measurements, file_formats, ages)
    doubts = []
    for ecg, values, differences in zip(batch, clinical, unlike, strict=True):
        doubts.append([*ecg.doubts, *_unknown(columns, values), *differences])
    return doubts


def _unknown(columns: Sequence[str], values: np.ndarray) -> list[str]:
    """Return a sentence about values that were not given, and one about signs that cannot be measured."""
    unknown = [name for name, value in zip(columns, values, strict=True) if np.isnan(value)]
    given, signs = given_columns(unknown), sign_columns(unknown)
    sentences = [f"not known: {', '.join(given)}"] if given else []
    if signs:
        which = "any ECG sign" if len(signs) == len(SIGN_COLUMNS) else ", ".join(signs)
        sentences.append(f"cannot be measured: {which}")
    return sentences


def decide(scored: Sequence[Scored], scorer: Members, prevalences: Sequence[float] | None) -> pd.DataFrame:
    """Return the table of scores and decisions, one row per file; with several models, their range too.

    Parameters
    ----------
    prevalences : of each label among these patients, for which the scores are restated.
    """
    nothing = np.empty((0, len(scorer.descriptions), len(scorer.label_names)))
    member_scores = np.stack([ecg.member_scores for ecg in scored]) if scored else nothing
    member_scores = member_scores.swapaxes(0, 1)  # (n_members, n_files, n_labels)
    scores = mean_score(member_scores)
    table = pd.DataFrame({"file": [str(ecg.file) for ecg in scored]})
    for number, (name, threshold) in enumerate(zip(scorer.label_names, scorer.thresholds, strict=True)):
        score = scores[:, number]
        table[f"score_{name}"] = score
        table[f"decision_{name}"] = (score >= threshold).astype(int)
        if len(member_scores) > 1:
            table[f"lowest_{name}"] = member_scores[:, :, number].min(axis=0)
            table[f"highest_{name}"] = member_scores[:, :, number].max(axis=0)
        if prevalences:
            trained_at = scorer.prevalences[number]
            table[f"restated_{name}"] = shift_prevalence(score, trained_at, prevalences[number])
    table["warnings"] = ["; ".join(ecg.doubts) for ecg in scored]
    return table


def clinical_source(
    columns: Sequence[str],
    *,
    run: Path,
    paths: Sequence[Path],
    files: Sequence[Path],
    words: Sequence[str] | None,
    table: Path | None,
) -> ClinicalSource:
    """Return a function that gives a file's clinical values, float32 (n_columns,), nan where not known.

    In a table, a file is looked up by its path, by its path within a folder that was named, then by its name,
    if no other of the ``files`` has it.

    Parameters
    ----------
    columns : the clinical columns of the run's models that are given, not measured.
    paths, files : the files and folders of the command line, and the ECG files found there.
    words : NAME=VALUE pairs for one ECG.
    table : file with the values of many.

    Raises
    ------
    UserError : the run needs values and gets none, or gets some and takes none, a table has none of the
        files, or the values are wrong.
    """
    if not columns:
        if words or table:
            raise UserError(f"{run}: found models of the ECG alone, expected no clinical values")
        return lambda _: np.empty(0, np.float32)
    if bool(words) == bool(table):
        raise UserError(
            f"{run}: its models see {', '.join(columns)} beside the ECG: expected either "
            f"--clinical {' '.join(f'{name}=VALUE' for name in columns)} of one ECG, or --clinical-table"
        )
    if not words:
        return _source_of_table(columns, paths=paths, files=files, table=table)
    if len(paths) != 1 or paths[0].is_dir():
        raise UserError("--clinical: found several files, expected one; of several, --clinical-table")
    values = given_values(columns, words)
    return lambda _: values


def _source_of_table(
    columns: Sequence[str], *, paths: Sequence[Path], files: Sequence[Path], table: Path
) -> ClinicalSource:
    values_of = read_clinical(table, columns)
    unknown = np.full(len(columns), np.nan, np.float32)
    n_of_name = Counter(other.name for other in files)

    def name_of(file: Path) -> str | None:
        inside = (file.relative_to(path) for path in paths if file.is_relative_to(path))
        names = [file.as_posix(), *(path.as_posix() for path in inside)]
        names += [file.name] if n_of_name[file.name] == 1 else []  # of two, it could be the other's
        return next((name for name in names if name in values_of), None)

    absent = [file for file in files if name_of(file) is None]
    if absent and len(absent) == len(files):
        raise UserError(f"{table}: found none of the {len(files):,} files, such as {files[0]}, expected them")
    if absent:
        found = f"{len(absent):,} of {len(files):,} files, such as {absent[0]}"
        print(f"note        {table} has no line for {found}")
    return lambda file: values_of.get(name_of(file), unknown)
