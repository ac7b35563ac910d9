"""Is training on this GPU right, and how fast is it? One table, in nine minutes at most.

    python -m benchmarks.speed.gpu ECGS --label-columns MI       # a folder of ECG files with labels.csv
    python -m benchmarks.speed.gpu                               # 1,014 synthetic ECGs, in a temporary folder
    python -m benchmarks.speed.gpu ECGS --parts right epochs     # some of the parts
    python -m benchmarks.speed.gpu --device cpu --tiny           # whether the benchmark itself runs, anywhere

First come the comparisons, each with its limit: crops, logits of five models in float32 and bfloat16 against
the CPU's, losses by CUDA graph against those step by step, a resumed training against one that was never
stopped. Then come the rates, in ECGs a second: of whole epochs of training on all ECGs of the folder. What
fails, or finds no time, has a line that says so. Ends with status 1 where something is wrong or has failed.
docs/performance.md explains the lines.
"""

import argparse
import contextlib
import io
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.speed import gpu_fast, gpu_right
from benchmarks.speed.gpu_right import Difference
from benchmarks.speed.setting import add_flags_of_ecgs, device_of, files_of, header, machine, read_ecgs
from benchmarks.speed.timing import Conditions, Row
from runtime.command_line import one_line_errors
from runtime.errors import one_line

SYNTHETIC_ECGS = 1014
TINY_ECGS = 4
TINY = {"batch_size": 2, "n_samples": 512, "seconds": 0.0}
Measure = Callable[[Conditions], Iterator[Row]]
# Of each part: what its lines are, and what measures them, with the seconds that it may take on an H100.
PARTS: dict[str, tuple[str, dict[Measure, int]]] = {
    "right": (
        "Is it right? Largest differences",
        {
            gpu_right.crops: 5,
            gpu_right.models: 20,
            gpu_right.recurrent: 5,
            gpu_right.graphs: 60,
            gpu_right.resumed: 15,
        },
    ),
    "steps": ("Training: model, size of batch, way of launching a step", {gpu_fast.steps: 90}),
    "epochs": ("Epochs as a script runs them, 1D ResNet-18 + attention", {gpu_fast.epochs: 30}),
    "folds": ("Five trainings, 1D ResNet-18 + attention, by graph", {gpu_fast.folds: 20}),
    "scripts": (
        "train_atten.py --folds 5 as a user runs it, start-up and report included",
        {gpu_fast.cross_validation: 90},
    ),
    "streamed": ("Where the signals lie, 1D ResNet-18 + attention, step by step", {gpu_fast.streamed: 15}),
    "inference": ("Inference: model, size of batch", {gpu_fast.inference: 15}),
    "search": ("cuDNN's search, 1D ResNet-18 + attention, by graph", {gpu_fast.search: 15}),
    "saving": ("Saving, 1D ResNet-18 + attention", {gpu_fast.saving: 5}),
    "compiled": ("Training by torch.compile", {gpu_fast.compiled: 120}),
}


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_flags_of_ecgs(parser, SYNTHETIC_ECGS)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=1, help="for each timing (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=9, help="for everything (default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help=f"{TINY_ECGS} ECGs of 512 samples, no timing")
    options = parser.parse_args(arguments)
    if options.batch_size < 1 or options.seconds < 0 or options.minutes <= 0:
        parser.error("--batch-size must be at least 1, --seconds at least 0, --minutes above 0")
    if options.ecgs is not None and options.ecgs < TINY_ECGS:
        parser.error(f"--ecgs must be at least {TINY_ECGS}")
    if options.tiny:
        options.ecgs = options.ecgs or TINY_ECGS
    return options


def conditions(options: argparse.Namespace, scratch: Path) -> Conditions:
    """Set PyTorch up as the training scripts do, and bring the ECGs here."""
    device = device_of(options.device)
    cohort, folder, labels = read_ecgs(options, scratch, SYNTHETIC_ECGS)
    usual = {"batch_size": options.batch_size, "seconds": options.seconds}
    return Conditions(
        cohort=cohort,
        paths=[folder / file for file in cohort.table["file"]],
        data=["--data-dir", str(folder), "--labels", str(labels), "--label-columns", *cohort.label_names],
        device=device,
        threads=torch.get_num_threads(),
        loader_workers=0,
        processes=[1],
        compile="none",
        scratch=scratch,
        **TINY if options.tiny else usual,
    )


def show(measure: Measure, needed: int, given: Conditions, until: float) -> bool:
    """Print a measure's rows as they come; return whether all are right and none has failed.

    Parameters
    ----------
    needed : seconds that it may take on a GPU; it is left out where fewer are left.
    until : when everything ends, as `time.monotonic` has it.
    """
    name = f"{measure.__module__.rpartition('.')[2]}.{measure.__name__}"
    rows, fine = measure(given), True
    if time.monotonic() + (needed if given.device.type == "cuda" else 0) > until:
        print(f"{name}: no time left", flush=True)
        return True
    try:
        while (row := _next(rows)) is not None:
            print(row, flush=True)
            fine &= not isinstance(row, Difference) or row.is_right
            if time.monotonic() > until:
                print(f"{name}: no time for the rest", flush=True)
                break
    except Exception as error:  # what is measured after it is worth having
        print(f"{name}: FAILED: {type(error).__name__}: {one_line(error)}", flush=True)
        fine = False
    if given.device.type == "cuda":
        torch.cuda.empty_cache()
    return fine


def _next(rows: Iterator[Row]) -> Row | None:
    """Return the next row, or None at the end; what training prints meanwhile is not part of the table."""
    with contextlib.redirect_stdout(io.StringIO()):
        return next(rows, None)


def main() -> int:
    """Print the table, and return the exit status."""
    options, started = options_of(), time.monotonic()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as temporary:
        given = conditions(options, Path(temporary))
        shape = f"batches of {given.batch_size}; {given.n_samples:,} samples of each"
        print(header(machine(given) | {"ECGs": f"{files_of(given)}; {shape}"}), flush=True)
        fine = True
        for part in (part for part in PARTS if part in options.parts):
            title, measures = PARTS[part]
            print(f"\n{title}", flush=True)
            for measure, needed in measures.items():
                fine &= show(measure, needed, given, started + 60 * options.minutes)
    found = "nothing wrong was found" if fine else "something is WRONG or has FAILED"
    print(f"\n{found}; {time.monotonic() - started:.0f} s", flush=True)
    return 0 if fine else 1


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
