"""Score ECG files with the model of a finished run.

    python predict.py runs/train_atten-20261122-101500 patient.xml
    python predict.py runs/train_atten-20261122-101500 new_ecgs --output scores.csv
    python predict.py runs/train_atten-20261122-101500 new_ecgs --prevalence 0.05

Prints a line for each ECG, and writes it to --output: file, score_LABEL (0 to 1), and decision_LABEL, which
is 1 where the score reaches the threshold that the run chose on its validation ECGs. Of a folder every file
that may be an ECG is taken, in folders within it too. A file that cannot be read is listed with its reason,
the rest is scored, and the exit status is 1. The run may be a cross-validation or the folder of a comparison:
its models score together, and lowest_LABEL and highest_LABEL tell how far they disagree. --prevalence adds
restated_LABEL: the score for patients of whom that share has the disease, in place of the share among the
training ECGs; decisions stay as they are.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from calibration import shift_prevalence
from run_folder import RunError, write_whole
from scoring import Scorer, mean_score
from training import one_line_errors, prepare
from xml_loader import EcgFileError, find_files, read_at_rest

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
    files, left_out, failures = find_files(arguments.paths)
    readable, of_members = [], []
    with tqdm(total=len(files), desc="scoring", unit="file", disable=None, leave=False) as bar:
        for batch, signals in read_batches(files, failures):
            bar.update(BATCH_SIZE)
            readable += batch
            of_members.append(scorer.score_members(signals))
    nothing = np.empty((len(scorer.models), 0, len(scorer.label_names)))
    table = decide(readable, np.concatenate([nothing, *of_members], axis=1), scorer, arguments.prevalence)
    if len(table):
        print(table.to_string(index=False, float_format="%.4f"))
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
    parser.add_argument("--output", type=Path, help="CSV file to write")
    parser.add_argument(
        "--prevalence", type=float, nargs="+", help="of each label among these patients, between 0 and 1"
    )
    return parser.parse_args()


def read_batches(files: list[Path], failures: list[str]) -> Iterator[tuple[list[Path], np.ndarray]]:
    """Yield files and their signals, int16 (N, 12, 5000) in microvolts; add the others to ``failures``."""
    for first in range(0, len(files), BATCH_SIZE):
        signals = {}
        for file in files[first : first + BATCH_SIZE]:
            try:
                signals[file] = read_at_rest(file)
            except EcgFileError as error:
                failures.append(str(error))
        if signals:
            yield list(signals), np.stack(list(signals.values()))


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


def write_output(path: Path, table: pd.DataFrame) -> None:
    try:
        write_whole(path, lambda aside: aside.write_text(table.to_csv(index=False), encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path}: the scores cannot be written ({error.strerror})") from None


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
