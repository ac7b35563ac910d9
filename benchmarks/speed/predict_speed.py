"""predict.py as a user runs it: one file, all files, the memory of many; by PyTorch and by onnxruntime."""

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.speed.script_speed import Script, run_script, train
from benchmarks.speed.timing import Conditions, Row, number
from inference.onnx_graph import PACKAGES

ROOT = Path(__file__).resolve().parents[2]
ONE_FILE = 2.0  # s, start-up included
ALL_FILES = 25.0 / 1014  # s for each file
GROWTH = 1.1  # of peak memory, from a tenth of the files to all


def one_and_all_files(given: Conditions) -> Iterator[Row]:
    """Score one file, then all, by each engine; the run is one that ``train_atten.py`` leaves."""
    run = train(given, given.scratch / "to-predict")
    n_files = len(given.paths)
    for engine in engines(given, run):
        one = predict(given, run, engine, given.paths[0])
        yield Row(f"predict.py, one file, {engine}", one.seconds, "s", goal=ONE_FILE)
        some = predict(given, run, engine, *given.paths)
        per_file = f"{1e3 * some.seconds / n_files:.1f} ms each"
        goal = ALL_FILES * n_files
        yield Row(f"predict.py, {n_files:,} files, {engine}", some.seconds, "s", per_file, goal=goal)
    yield memory_of_many(given, run, engine)


def memory_of_many(given: Conditions, run: Path, engine: str) -> Row:
    """Compare the peak memory of many files, hard links to the given ones, with that of a tenth of them."""
    peaks = []
    for n_files in (given.many // 10, given.many):
        folder = given.scratch / f"{n_files}-files"
        folder.mkdir()
        for number_of_file in range(n_files):
            link(given.paths[number_of_file % len(given.paths)], folder / f"{number_of_file:06d}.xml")
        peaks.append(predict(given, run, engine, folder).peak)
    few, many = peaks
    words = f"{number(many / few)} times that of {given.many // 10:,}"
    return Row(f"predict.py, {given.many:,} files, peak memory", many, "MB", words, goal=GROWTH * few)


def engines(given: Conditions, run: Path) -> list[str]:
    """Return the engines that can score here; export the run for the second."""
    if not all(importlib.util.find_spec(name) for name in PACKAGES):
        return ["torch"]
    run_script(given, [sys.executable, str(ROOT / "export.py"), str(run)])
    return ["torch", "onnx"]


def predict(given: Conditions, run: Path, engine: str, *paths: Path) -> Script:
    """Score files, those of doubtful quality too, and write the table."""
    flags = ["--engine", engine, "--any-quality", "--output", str(given.scratch / "scores.csv")]
    return run_script(given, [sys.executable, str(ROOT / "predict.py"), str(run), *map(str, paths), *flags])


def link(path: Path, name: Path) -> None:
    """Give a file another name; a symbolic one where it lies on another disk."""
    try:
        os.link(path, name)
    except OSError:
        name.symlink_to(path.resolve())
