"""Measure what this project costs, in one table, compared with the published way where there is one.

    python -m benchmarks.speed.run ECGS --label-columns MI     # a folder of ECG files with labels.csv
    python -m benchmarks.speed.run --ecgs 256                  # as many synthetic ECGs, in a temporary folder
    python -m benchmarks.speed.run ECGS --parts data epochs    # some of the parts
    python -m benchmarks.speed.run ECGS --json speed.json      # the same as JSON too

docs/performance.md explains each line and has a measured table. The published way reads only files in the
study hospital's format, so the folder's must have that format. Nothing is written into the folder.
"""

import argparse
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.speed.data_speed import batches, beyond_the_parser, finding_duplicates, reading
from benchmarks.speed.decoding import require_beautifulsoup
from benchmarks.speed.epoch_speed import busy_share, epochs
from benchmarks.speed.gpu_fast import saving
from benchmarks.speed.model_speed import (
    PUBLISHED_MODELS,
    at_lower_rates,
    matrix_product,
    our_model,
    published_model,
    types_of,
)
from benchmarks.speed.predict_speed import one_and_all_files
from benchmarks.speed.script_speed import start_up, trainings
from benchmarks.speed.setting import add_flags_of_ecgs, device_of, files_of, header, machine, read_ecgs
from benchmarks.speed.timing import Conditions, Row
from dataset.cohort import Cohort
from models import MODELS
from runtime.atomic_files import write_atomically
from runtime.command_line import one_line_errors
from runtime.errors import UserError
from training.loop import SAVE_EVERY

SYNTHETIC_ECGS = 256
FEWEST_ECGS = 24
SAVING_GOAL = 2.0  # % of a training
AT_LOWER_RATES = "resnet18_with_atten"


def model_rows(given: Conditions, names: list[str]) -> Iterator[Row]:
    types = types_of(given)
    products = {dtype: matrix_product(given, dtype) for dtype in sorted(set(types.values()), key=str)}
    yield from products.values()
    machine = {kind: products[dtype] for kind, dtype in types.items()}
    for name in names:
        yield from our_model(given, name, machine)
    if AT_LOWER_RATES in names:
        yield from at_lower_rates(given, AT_LOWER_RATES)


def published_rows(given: Conditions, names: list[str]) -> Iterator[Row]:
    for name in names:
        if name in PUBLISHED_MODELS:
            yield from published_model(given, name)


def checkpoint(given: Conditions) -> Iterator[Row]:
    """What a checkpoint with the kept weights takes of the seconds between two of them."""
    rows = list(saving(given))
    yield from rows
    share = 100 * sum(row.value for row in rows) / 1e3 / SAVE_EVERY
    yield Row("both, share of a training", share, "%", f"every {SAVE_EVERY} s", goal=SAVING_GOAL)


# The scripts come first: a child's peak memory is no lower than this process's, which grows with the rest.
PARTS: dict[str, tuple[str, list[Callable]]] = {
    "scripts": ("train_atten.py as a user runs it", [start_up, trainings]),
    "predict": ("predict.py as a user runs it", [one_and_all_files]),
    "data": ("Reading and batches", [reading, beyond_the_parser, batches]),
    "scale": ("A million ECGs", [finding_duplicates]),
    "saving": ("What a training saves", [checkpoint]),
    "models": ("Our models; the share is of the matrix product's rate", [model_rows]),
    "published": ("The published models and ours, in turn on the same batch", [published_rows]),
    "epochs": ("An epoch over all ECGs, 1D ResNet-18 + attention", [epochs, busy_share]),
}


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_flags_of_ecgs(parser, SYNTHETIC_ECGS)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5, help="for each timing (default: %(default)s)")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch on the CPU")
    parser.add_argument("--compile", default="none", help="mode of torch.compile for our models")
    parser.add_argument("--loader-workers", type=int, default=4, help="of the published DataLoader")
    parser.add_argument(
        "--processes", nargs="+", type=int, help="of the trainings; none: 1 and 2, or 1 and all GPUs"
    )
    parser.add_argument("--many", type=int, default=10_000, help="files whose scoring shows the memory")
    parser.add_argument("--duplicates", type=int, default=1_000_000, help="ECGs to search for duplicates")
    parser.add_argument("--json", type=Path, help="file to write: the conditions, and a record of each row")
    options = parser.parse_args(arguments)
    counts = [options.batch_size, options.threads, *(options.processes or [])]
    if min(options.many, options.duplicates) < 100:
        parser.error("--many and --duplicates must be at least 100")
    if min(counts) < 1 or options.loader_workers < 0 or options.seconds < 0:
        parser.error("--batch-size, --threads and --processes must be at least 1, the others at least 0")
    if options.ecgs is not None and options.ecgs < FEWEST_ECGS:
        parser.error(f"--ecgs must be at least {FEWEST_ECGS}, or a part of the split has no positive ECG")
    return options


def require_published_format(cohort: Cohort, folder: Path) -> None:
    """Raise a UserError where a file has another format than those that the published way reads."""
    other = cohort.table[cohort.table["file_format"] != "hospital"]
    if len(other):
        file, file_format = other.iloc[0][["file", "file_format"]]
        raise UserError(f"{folder / file}: found the format {file_format}, expected hospital, as published")


def conditions(options: argparse.Namespace, scratch: Path) -> Conditions:
    """Set PyTorch up as the training scripts do, and bring the ECGs here."""
    device = device_of(options.device)
    torch.set_num_threads(options.threads)
    cohort, folder, labels = read_ecgs(options, scratch, SYNTHETIC_ECGS)
    require_published_format(cohort, folder)
    n_devices = torch.cuda.device_count() if device.type == "cuda" else 2
    return Conditions(
        cohort=cohort,
        paths=[folder / file for file in cohort.table["file"]],
        data=["--data-dir", str(folder), "--labels", str(labels), "--label-columns", *cohort.label_names],
        device=device,
        batch_size=options.batch_size,
        seconds=options.seconds,
        threads=options.threads,
        loader_workers=options.loader_workers,
        processes=options.processes or sorted({1, n_devices}),
        compile=options.compile,
        scratch=scratch,
        many=options.many,
        duplicates=options.duplicates,
    )


def head(given: Conditions) -> dict[str, str]:
    """Return the machine, software and ECGs that the numbers depend on, each with its name."""
    lines = machine(given)
    lines["ECGs"] = (
        f"{files_of(given)}; batches of {given.batch_size}; "
        f"workers of the DataLoader: {given.loader_workers}; torch.compile: {given.compile}"
    )
    rejected = given.cohort.reading.rejected
    if len(rejected):
        first = " ".join(rejected.iloc[0][["file", "reason"]])
        lines["left out"] = f"{len(rejected):,} files that cannot be read, the first: {first}"
    return lines


def main() -> None:
    options = options_of()
    require_beautifulsoup()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    warnings.filterwarnings("ignore", message=".*using an HTML parser to parse an XML document")
    warnings.filterwarnings("ignore", message="Using padding='same' with even kernel lengths")
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # as many workers as published
    with tempfile.TemporaryDirectory() as temporary:
        given = conditions(options, Path(temporary))
        lines, rows = head(given), []
        print(header(lines), flush=True)
        for part in (part for part in PARTS if part in options.parts):
            title, measurements = PARTS[part]
            print(f"\n{title}", flush=True)
            for measure in measurements:
                names = [options.models] if measure in (model_rows, published_rows) else []
                for row in measure(given, *names):
                    print(row, flush=True)
                    rows.append({"part": part, **asdict(row)})
    if options.json:
        text = json.dumps({"conditions": lines, "rows": rows}, indent=2) + "\n"
        write_atomically(options.json, lambda aside: aside.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    with one_line_errors():
        main()
