"""Score ECG files with the model of a finished run.

    python predict.py runs/train_atten-20261122-101500 patient.xml
    python predict.py runs/train_atten-20261122-101500 new_ecgs --output scores.csv
    python predict.py runs/train_atten-20261122-101500 new_ecgs --prevalence 0.05

Prints a line for each ECG, and writes it to --output, a .csv or .json file:

    file
    score_LABEL       calibrated probability, 0 to 1
    decision_LABEL    1 where the score reaches the threshold that the run chose on its validation ECGs
    lowest_, highest_LABEL    of the members, where the run is a cross-validation or the folder of a
                      comparison, whose models score together
    restated_LABEL    with --prevalence: the score for patients of whom that share has the disease, in place
                      of the share among the training ECGs; decisions stay as they are
    warnings          what is doubtful about the ECG

Of a folder every file that may be an ECG is taken, in folders within it too. A file that cannot be read, or
whose ECG the run would not have been trained on (--any-quality scores it all the same), is listed with its
reason, the rest is scored, and the exit status is 1.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from ecg_quality import judge
from metrics.calibration import shift_prevalence
from run_folder import RunError
from scoring import Scorer, mean_score, performance_of
from signal_store.signal_cache import decode
from training import one_line_errors, prepare
from whole_files import write_whole
from xml_loader import EcgFileError, find_files

BATCH_SIZE = 32  # ECGs scored at once


def main() -> int:
    """Score the files of the command line; return the exit status."""
    arguments = parse_arguments()
    if arguments.output and not arguments.output.parent.is_dir():
        raise RunError(
            f"{arguments.output}: found no folder {arguments.output.parent}, expected one to write to"
        )
    device = prepare(seed=0)
    scorer = Scorer.load(arguments.run, device)
    check_prevalences(arguments.prevalence, scorer)
    print(f"{scorer.title} of {arguments.run}; thresholds: {describe_thresholds(scorer)}")
    for line in describe_performance(arguments.run):
        print(line)
    limits = {} if arguments.any_quality else scorer.quality
    files, left_out, failures = find_files(arguments.paths)
    readable, doubts, of_members = [], [], []
    with tqdm(total=len(files), desc="scoring", unit="file", disable=None, leave=False) as bar:
        for batch, signals, warnings in read_batches(files, failures, scorer.window_start, limits):
            bar.update(BATCH_SIZE)
            readable += batch
            doubts += warnings
            of_members.append(scorer.score_members(signals))
    nothing = np.empty((len(scorer.models), 0, len(scorer.label_names)))
    table = decide(readable, np.concatenate([nothing, *of_members], axis=1), scorer, arguments.prevalence)
    table["warnings"] = doubts
    if len(table):
        shown = table if any(doubts) else table.drop(columns="warnings")
        print(shown.to_string(index=False, float_format="%.4f"))
    for failure in failures:
        print(f"not scored  {failure}", file=sys.stderr)
    others = f"; {len(left_out):,} files of the folders left out, which are no ECGs" if left_out else ""
    print(f"{len(table):,} ECGs scored, {len(failures):,} files not{others}")
    if arguments.output:
        write_output(arguments.output, table)
    return 1 if failures else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument(
        "paths", type=Path, nargs="+", metavar="file_or_folder", help="ECG files, or folders of them"
    )
    parser.add_argument("--output", type=Path, help="CSV or JSON file to write")
    parser.add_argument(
        "--prevalence", type=float, nargs="+", help="of each label among these patients, between 0 and 1"
    )
    parser.add_argument("--any-quality", action="store_true", help="score unusable ECGs too")
    return parser.parse_args()


def read_batches(
    files: list[Path], failures: list[str], window_start: float, limits: dict[str, Any]
) -> Iterator[tuple[list[Path], np.ndarray, list[str]]]:
    """Yield files, their signals, int16 (N, 12, 5000) in microvolts, and what is doubtful about each.

    Files that cannot be read, and ECGs beyond the limits of quality, are added to ``failures``.
    """
    for first in range(0, len(files), BATCH_SIZE):
        batch = []
        for file in files[first : first + BATCH_SIZE]:
            try:
                _, signal, measurement = decode(file, window_start)
            except EcgFileError as error:
                failures.append(str(error))
                continue
            refusal, warning = judged(measurement, **limits)
            if refusal:
                failures.append(f"{file}: {refusal}")
            else:
                batch.append((file, signal, warning))
        if batch:
            read, signals, warnings = zip(*batch, strict=True)
            yield list(read), np.stack(signals), list(warnings)


def judged(measurement: np.void, *, quality_checks: bool = False, **limits: float) -> tuple[str, str]:
    """Return why an ECG is unusable, and what is doubtful about it; nothing where nothing is."""
    if not quality_checks:
        return "", ""
    findings = judge(np.array([measurement]), **limits)
    sentences = findings.groupby("verdict")["finding"].agg("; ".join)
    return sentences.get("reject", ""), sentences.get("warn", "")


def check_prevalences(prevalences: list[float] | None, scorer: Scorer) -> None:
    if prevalences is None:
        return
    n_labels = len(scorer.label_names)
    if len(prevalences) != n_labels or not all(0 < prevalence < 1 for prevalence in prevalences):
        found = " ".join(f"{prevalence:g}" for prevalence in prevalences)
        raise RunError(f"--prevalence: found {found}, expected {n_labels} numbers between 0 and 1")


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
            f"{key} {label[key]['value']:.3f} ({label[key]['low']:.3f}-{label[key]['high']:.3f})"
            for key in ("sensitivity", "specificity")
            if label.get(key, {}).get("value") is not None
        )
        yield f"{name} at this threshold, on the run's test ECGs: {', '.join(shares)}; 95 % intervals"


def write_output(path: Path, table: pd.DataFrame) -> None:
    as_json = path.suffix.lower() == ".json"
    text = table.to_json(orient="records", indent=2) + "\n" if as_json else table.to_csv(index=False)
    try:
        write_whole(path, lambda aside: aside.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path}: the scores cannot be written ({error.strerror})") from None


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
