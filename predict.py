"""Score ECG files with the model of a finished run.

    python predict.py runs/train_atten-20261122-101500 patient.xml
    python predict.py runs/train_atten-20261122-101500 new_ecgs --output scores.csv
    python predict.py runs/train_atten-20261122-101500 new_ecgs --prevalence 0.05
    python predict.py runs/train_atten-20261122-101500 patient.xml --report patient.html

Prints a line for each ECG, and writes it to --output, a .csv or .json file:

    file
    score_LABEL       calibrated probability, 0 to 1
    decision_LABEL    1 where the score reaches the threshold that the run chose on its validation ECGs
    lowest_, highest_LABEL    of the members, where the run is a cross-validation or the folder of a
                      comparison, whose models score together
    restated_LABEL    with --prevalence: the score for patients of whom that share has the disease, in place
                      of the share in development: among the validation ECGs with Platt's calibration, else
                      among the training ECGs; decisions stay as they are
    warnings          what is doubtful about the ECG, and in what it is unlike those that trained the model

A run with --clinical-columns needs their values too: --clinical age=63 sex=F of one ECG, or --clinical-table.

--report writes a page about one ECG, to be read on the screen or printed on one side of A4: score, threshold,
warnings, the ECG with what the model looked at, and the signs that a cardiologist measures. It shows nothing
from the file but the signal, and not its name, which may tell the patient's; --title gives it a heading.

Of a folder every file that may be an ECG is taken, in folders within it too. A file that cannot be read, or
whose ECG the run would not have been trained on (--any-quality scores it all the same), is listed with its
reason, the rest is scored, and the exit status is 1.
"""

import argparse
import importlib.util
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from dataset.clinical import given_values
from dataset.decoding import decode
from dataset.labels_table import read_clinical
from ecg.quality import judge
from inference.likeness import ChannelStatistics, TrainingDistribution, unlike_training
from inference.scoring import Scorer
from metrics.calibration import shift_prevalence
from metrics.log_odds import mean_score
from reporting.words.formatting import with_interval
from run_folder.ensemble import performance_of
from runtime.atomic_files import write_atomically
from runtime.command_line import OneLineParser, one_line_errors, prepare
from runtime.errors import UserError
from xml_loader import EcgFileError, find_files

BATCH_SIZE = 32  # ECGs scored at once


class Batch(NamedTuple):
    """ECGs of some files.

    Attributes
    ----------
    files, measurements, file_formats : one an ECG, as ``decoding.decode`` gives them.
    signals : int16, (N, 12, 5000), in microvolts.
    doubts : sentences about the quality of each.
    """

    files: list[Path]
    signals: np.ndarray
    measurements: list[np.void]
    file_formats: list[str]
    doubts: list[list[str]]


def main() -> int:
    """Score the files of the command line; return the exit status."""
    arguments = parse_arguments()
    check_outputs(arguments)
    device = prepare(seed=0)
    scorer = Scorer.load(arguments.run, device)
    check_prevalences(arguments.prevalence, scorer)
    check_label(arguments.label, scorer)
    files, left_out, failures = find_files(arguments.paths)
    clinical_of = clinical_source(arguments, scorer, files)
    print(f"{scorer.title} of {arguments.run}; thresholds: {describe_thresholds(scorer)}")
    for line in describe_performance(arguments.run):
        print(line)
    trained_on = [TrainingDistribution.load(folder) for folder in scorer.folders]
    if not any(trained_on):
        print(
            "note        the run does not know what its training ECGs were like: none is called unlike them"
        )
    readable, doubts, of_members = [], [], []
    with (
        tqdm(total=len(files), desc="scoring", unit="file", disable=None, leave=False) as bar,
        ChannelStatistics(*scorer.models) as statistics,
    ):
        for batch in read_batches(files, failures, scorer, arguments.any_quality):
            bar.update(BATCH_SIZE)
            clinical = np.stack([clinical_of(file) for file in batch.files])  # (N, n_columns)
            of_members.append(_finite(scorer.score_members(batch.signals, clinical), batch.files))
            readable += batch.files
            doubts += doubts_about(batch, clinical, scorer, trained_on, statistics.take())
    nothing = np.empty((len(scorer.models), 0, len(scorer.label_names)))
    table = decide(readable, np.concatenate([nothing, *of_members], axis=1), scorer, arguments.prevalence)
    table["warnings"] = ["; ".join(sentences) for sentences in doubts]
    if len(table):
        print(table.drop(columns="warnings").to_string(index=False, float_format="%.4f"))
    for file, sentences in zip(readable, doubts, strict=True):
        if sentences:
            print(f"doubtful    {file}: {'; '.join(sentences)}")
    for failure in failures:
        print(f"not scored  {failure}", file=sys.stderr)
    others = f"; {len(left_out):,} files of the folders left out, which are no ECGs" if left_out else ""
    print(f"{len(table):,} ECGs scored, {len(failures):,} files not{others}")
    if arguments.output:
        write_output(arguments.output, table)
    if arguments.report and readable:
        write_page(arguments, scorer, batch.signals[0], clinical, of_members[0], doubts[0])
    return 1 if failures else 0


def _finite(of_members: np.ndarray, files: Sequence[Path]) -> np.ndarray:
    """Return scores as they are; one that is no number must not become a decision."""
    finite = np.isfinite(of_members).all(axis=(0, 2))  # (n_members, n_files, n_labels)
    if not finite.all():
        raise UserError(f"{files[int(np.argmin(finite))]}: found a score that is no number: a damaged model?")
    return of_members


def parse_arguments() -> argparse.Namespace:
    parser = OneLineParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument(
        "paths", type=Path, nargs="+", metavar="file_or_folder", help="ECG files, or folders of them"
    )
    parser.add_argument("--output", type=Path, help="CSV or JSON file to write")
    parser.add_argument(
        "--prevalence", type=float, nargs="+", help="of each label among these patients, between 0 and 1"
    )
    parser.add_argument("--any-quality", action="store_true", help="score unusable ECGs too, with a warning")
    parser.add_argument(
        "--clinical",
        nargs="+",
        metavar="NAME=VALUE",
        help="of one ECG, what the run sees beside it: age=63 sex=",
    )
    parser.add_argument("--clinical-table", type=Path, help="the same of many: a table with a column file")
    parser.add_argument("--report", type=Path, help="HTML file to write, a page about one ECG")
    parser.add_argument("--label", help="which label the page is about (default: the run's first)")
    parser.add_argument("--title", default="", help="heading of the page; the file's name is not shown")
    return parser.parse_args()


def check_outputs(arguments: argparse.Namespace) -> None:
    """Raise a UserError where what is to be written cannot be, before anything is scored."""
    for path in filter(None, (arguments.output, arguments.report)):
        if not path.parent.is_dir():
            raise UserError(f"{path}: found no folder {path.parent}, expected one to write to")
    if not arguments.report:
        for flag in ("label", "title"):
            if getattr(arguments, flag):
                raise UserError(f"--{flag}: found no --report, expected one, the page that it is for")
        return
    if arguments.report.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--report: found {arguments.report}, expected a name that ends in .html")
    if len(arguments.paths) != 1 or arguments.paths[0].is_dir():
        found = f"{len(arguments.paths)} paths" if len(arguments.paths) > 1 else "a folder"
        raise UserError(f"--report: found {found}, expected one ECG file: a page is about one ECG")
    if arguments.report.resolve() == arguments.paths[0].resolve():
        raise UserError(f"--report: found the ECG file itself, {arguments.report}, expected another name")
    if importlib.util.find_spec("captum") is None:
        raise UserError(
            "--report: found no package captum, expected it for the explanation: pip install captum"
        )


def check_label(name: str | None, scorer: Scorer) -> None:
    if name is not None and name not in scorer.label_names:
        raise UserError(f"--label: found {name}, expected one of {', '.join(scorer.label_names)}")


def clinical_source(
    arguments: argparse.Namespace, scorer: Scorer, files: Sequence[Path]
) -> Callable[[Path], np.ndarray]:
    """Return a function that gives a file's clinical values, float32 (n_columns,), nan where not known.

    In a table, a file is looked up by its path, by its path within a folder that was named, then by its name,
    if no other of the ``files`` has it.

    Raises
    ------
    UserError : the run needs values and gets none, or gets some and takes none, or a table has none of the
        files; UserError : the values are wrong.
    """
    columns, words, table = scorer.clinical_columns, arguments.clinical, arguments.clinical_table
    if not columns:
        if words or table:
            raise UserError(f"{arguments.run}: found models of the ECG alone, expected no clinical values")
        return lambda _: np.empty(0, np.float32)
    if bool(words) == bool(table):
        raise UserError(
            f"{arguments.run}: its models see {', '.join(columns)} beside the ECG: expected either "
            f"--clinical {' '.join(f'{name}=VALUE' for name in columns)} of one ECG, or --clinical-table"
        )
    if words:
        if len(arguments.paths) != 1 or arguments.paths[0].is_dir():
            raise UserError("--clinical: found several files, expected one; of several, --clinical-table")
        values = given_values(columns, words)
        return lambda _: values
    values_of = read_clinical(table, columns)
    unknown = np.full(len(columns), np.nan, np.float32)
    n_of_name = Counter(other.name for other in files)

    def name_of(file: Path) -> str | None:
        inside = (file.relative_to(path) for path in arguments.paths if file.is_relative_to(path))
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


def doubts_about(
    batch: Batch,
    clinical: np.ndarray,
    scorer: Scorer,
    trained_on: Sequence[TrainingDistribution | None],
    features: Sequence[np.ndarray],
) -> list[list[str]]:
    """Return sentences about each ECG: its quality, clinical values that are not known, and in what it is
    unlike the ECGs that the models were trained on, which saw these ``features``."""
    columns = scorer.clinical_columns
    ages = clinical[:, columns.index("age")] if "age" in columns else None
    unlike = unlike_training(trained_on, features, np.array(batch.measurements), batch.file_formats, ages)
    doubts = []
    for sentences, values, differences in zip(batch.doubts, clinical, unlike, strict=True):
        unknown = [name for name, value in zip(columns, values, strict=True) if np.isnan(value)]
        unknown = [f"not known: {', '.join(unknown)}"] if unknown else []
        doubts.append([*sentences, *unknown, *differences])
    return doubts


def read_batches(
    files: list[Path], failures: list[str], scorer: Scorer, any_quality: bool
) -> Iterator[Batch]:
    """Yield the ECGs of the files.

    Files that cannot be read, and ECGs beyond the limits of quality unless ``any_quality``, are added to
    ``failures``.
    """
    for first in range(0, len(files), BATCH_SIZE):
        batch = []
        for file in files[first : first + BATCH_SIZE]:
            try:
                file_format, signal, measurement = decode(file, scorer.window_start)
            except EcgFileError as error:
                failures.append(str(error))
                continue
            refusals, warnings = judged(measurement, **scorer.quality)
            if refusals and not any_quality:
                failures.append(f"{file}: {'; '.join(refusals)}")
            else:
                batch.append((file, signal, measurement, file_format, refusals + warnings))
        if batch:
            read, signals, measurements, file_formats, doubts = map(list, zip(*batch, strict=True))
            yield Batch(read, np.stack(signals), measurements, file_formats, doubts)


def judged(
    measurement: np.void, *, quality_checks: bool = False, **limits: float
) -> tuple[list[str], list[str]]:
    """Return why an ECG is unusable, and what is doubtful about it; no sentence where nothing is."""
    if not quality_checks:
        return [], []
    findings = judge(np.array([measurement]), **limits)
    refusals, warnings = (findings.loc[findings["verdict"] == kind, "finding"] for kind in ("reject", "warn"))
    return refusals.tolist(), warnings.tolist()


def check_prevalences(prevalences: list[float] | None, scorer: Scorer) -> None:
    if prevalences is None:
        return
    n_labels = len(scorer.label_names)
    if len(prevalences) != n_labels or not all(0 < prevalence < 1 for prevalence in prevalences):
        found = " ".join(f"{prevalence:g}" for prevalence in prevalences)
        raise UserError(f"--prevalence: found {found}, expected {n_labels} numbers between 0 and 1")


def decide(
    files: list[Path], of_members: np.ndarray, scorer: Scorer, prevalences: list[float] | None = None
) -> pd.DataFrame:
    """Return the table of scores and decisions, one line a file.

    ``of_members`` are the members' scores, (n_members, n_files, n_labels).
    """
    scores = mean_score(of_members)
    table = pd.DataFrame({"file": [str(file) for file in files]})
    for number, (name, threshold) in enumerate(zip(scorer.label_names, scorer.thresholds, strict=True)):
        score = scores[:, number]
        table[f"score_{name}"] = score
        table[f"decision_{name}"] = (score >= threshold).astype(int)
        if len(of_members) > 1:
            table[f"lowest_{name}"] = of_members[:, :, number].min(axis=0)
            table[f"highest_{name}"] = of_members[:, :, number].max(axis=0)
        if prevalences:
            trained_at = scorer.prevalences[number]
            table[f"restated_{name}"] = shift_prevalence(score, trained_at, prevalences[number])
    return table


def describe_thresholds(scorer: Scorer) -> str:
    pairs = zip(scorer.label_names, scorer.thresholds, strict=True)
    return ", ".join(f"{name} {threshold:.3g}" for name, threshold in pairs) + f" ({scorer.threshold_source})"


def describe_performance(run: Path) -> Iterator[str]:
    """Say what the decisions were worth on the run's own test ECGs."""
    for name, label in performance_of(run).items():
        shares = (
            f"{key} {with_interval(label[key])}"
            for key in ("sensitivity", "specificity")
            if key in label and label[key].is_defined
        )
        yield f"{name} at this threshold, on the run's test ECGs: {', '.join(shares)}; 95 % intervals"


def write_output(path: Path, table: pd.DataFrame) -> None:
    as_json = path.suffix.lower() == ".json"
    text = table.to_json(orient="records", indent=2) + "\n" if as_json else table.to_csv(index=False)
    try:
        write_atomically(path, lambda aside: aside.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: the scores cannot be written ({error.strerror})") from None


def write_page(
    arguments: argparse.Namespace,
    scorer: Scorer,
    signal: np.ndarray,
    clinical: np.ndarray,
    of_members: np.ndarray,
    warnings: list[str],
) -> None:
    """Write the page about one ECG, int16 (12, 5000); its scores are (n_members, 1, n_labels), its clinical
    values (1, n_columns)."""
    from reporting.pages.patient_page import write_patient_page  # matplotlib, jinja2 and captum take seconds

    label = scorer.label_names.index(arguments.label) if arguments.label else 0
    write_patient_page(
        arguments.report,
        scorer=scorer,
        run=arguments.run,
        signal=signal,
        of_members=of_members,
        label=label,
        warnings=warnings,
        clinical=clinical if scorer.clinical_columns else None,
        prevalence=arguments.prevalence[label] if arguments.prevalence else None,
        title=arguments.title,
    )
    print(f"page        {arguments.report}: {scorer.label_names[label]}")


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
