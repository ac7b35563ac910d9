"""Score ECG files with the model of a finished run.

    python predict.py runs/train_atten-20261122-101500 patient.xml
    python predict.py runs/train_atten-20261122-101500 new_ecgs --output scores.csv
    python predict.py runs/train_atten-20261122-101500 new_ecgs --prevalence 0.05

Prints a line for each ECG, and writes it to --output: file, score_LABEL (0 to 1), and decision_LABEL, which
is 1 where the score reaches the threshold that the run chose on its validation ECGs. Of a folder every file
that may be an ECG is taken, in folders within it too. A file that cannot be read is listed with its reason,
the rest is scored, and the exit status is 1. --prevalence adds restated_LABEL: the score for patients of whom
that share has the disease, in place of the share among the training ECGs; decisions stay as they are.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from batches import evaluation_input
from calibration import Calibration, shift_prevalence
from run_folder import ModelDescription, Run, RunError, write_whole
from training import calibrate, one_line_errors, predict_logits, prepare
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
    model, description = Run(arguments.run).load_model(device)
    check_prevalences(arguments.prevalence, description)
    print(f"{model.title} of {arguments.run}; thresholds: {describe_thresholds(description)}")
    files, left_out, failures = find_files(arguments.paths)
    readable, tables = [], []
    with tqdm(total=len(files), desc="scoring", unit="file", disable=None, leave=False) as bar:
        for batch, signals in read_batches(files, failures):
            bar.update(BATCH_SIZE)
            readable += batch
            tables.append(score_batch(model, description, signals, device))
    scores = np.concatenate(tables) if tables else np.empty((0, len(description.label_names)))
    table = decide(readable, scores, description, arguments.prevalence)
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


def score_batch(
    model: torch.nn.Module, description: ModelDescription, signals: np.ndarray, device: torch.device
) -> np.ndarray:
    """Return the scores, (N, n_labels)."""
    signal = evaluation_input(
        signals,
        np.arange(len(signals)),
        n_samples=description.n_samples,
        normalisation=description.normalisation,
        device=device,
    )
    calibrations = zip(description.calibration_slopes, description.calibration_intercepts, strict=True)
    return calibrate(predict_logits(model, [signal]), [Calibration(*pair) for pair in calibrations])


def check_prevalences(prevalences: list[float] | None, description: ModelDescription) -> None:
    if prevalences is None:
        return
    n_labels = len(description.label_names)
    if len(prevalences) != n_labels or not all(0 < prevalence < 1 for prevalence in prevalences):
        found = " ".join(f"{prevalence:g}" for prevalence in prevalences)
        raise RunError(f"--prevalence: found {found}, expected {n_labels} numbers between 0 and 1")


def decide(
    files: list[Path],
    scores: np.ndarray,
    description: ModelDescription,
    prevalences: list[float] | None = None,
) -> pd.DataFrame:
    """Return the table of scores and decisions, one line a file."""
    table = pd.DataFrame({"file": [str(file) for file in files]})
    for name, column, threshold in zip(
        description.label_names, scores.T, description.thresholds, strict=True
    ):
        table[f"score_{name}"] = column
        table[f"decision_{name}"] = (column >= threshold).astype(int)
    for number, prevalence in enumerate(prevalences or []):
        trained_at = description.prevalences[number]
        table[f"restated_{description.label_names[number]}"] = shift_prevalence(
            scores[:, number], trained_at, prevalence
        )
    return table


def describe_thresholds(description: ModelDescription) -> str:
    pairs = zip(description.label_names, description.thresholds, strict=True)
    return (
        ", ".join(f"{name} {threshold:.3g}" for name, threshold in pairs)
        + f" ({description.threshold_source})"
    )


def write_output(path: Path, table: pd.DataFrame) -> None:
    try:
        write_whole(path, lambda aside: aside.write_text(table.to_csv(index=False), encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path}: the scores cannot be written ({error.strerror})") from None


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
