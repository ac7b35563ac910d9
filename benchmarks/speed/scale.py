"""Measure time and memory of what lies between a labels table and the model, for 1,000 to 1,000,000 ECGs.

    python -m benchmarks.speed.scale
    python -m benchmarks.speed.scale --sizes 1000 50000

Each step runs in a process of its own, on a fake cohort in a temporary folder: a table with 0.3 patients per
ECG, of whom one in twenty is positive, and files of signals and measurements that are sparse and take no
space on the disk. Times are by the clock. The peak is that of the whole process: importing takes 0.1 GB, or
0.4 GB with PyTorch; the steps after the table hold that table. Batches are read with their checksums and
cropped, from the operating system's page cache: a disk may be slower.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.context import BaseContext
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by NumPy when it is imported
import numpy as np
import pandas as pd

from dataset.cohort import Cohort, Reading
from dataset.labels_table import read_labels
from dataset.pseudonyms import KEY_FILE, pseudonymise
from dataset.signal_store.cache_folder import MEASUREMENTS_FILE, ROW_BYTES, SIGNALS_FILE, CacheFolder
from dataset.signal_store.cache_index import Entry
from dataset.signal_store.reading import FLUSH_EVERY
from dataset.signal_store.signal_cache import StoredSignals
from dataset.splits import make_folds, split_by_patient
from ecg.duplicates import near_duplicates
from ecg.quality import MEASUREMENTS

SIZES = (1_000, 10_000, 100_000, 1_000_000)
PATIENTS_PER_ECG = 0.3
PREVALENCE = 0.05
FRACTIONS = {"validation_fraction": 0.1, "test_fraction": 0.2}
BATCHES = 128  # streamed
BATCH_SIZE = 32
AMPLITUDE_SPREAD = 0.4  # standard deviation of the logarithm of QRS amplitudes in clinical ECGs


def write_table(n_ecgs: int, folder: Path) -> None:
    """Write ``labels.csv`` with five columns; the ECGs of a patient have equal labels."""
    generator = np.random.default_rng(0)
    n_patients = max(round(PATIENTS_PER_ECG * n_ecgs), 1)
    positive = generator.random(n_patients) < PREVALENCE
    with open(folder / "labels.csv", "w", encoding="utf-8") as table:
        table.write("file,patient_id,PE,age,sex\n")
        for number, patient in enumerate(generator.integers(n_patients, size=n_ecgs)):
            table.write(f"{number:07d}.xml,MRN-{patient},{positive[patient]:d},{20 + patient % 70},F\n")


def read_table(folder: Path) -> pd.DataFrame:
    table, _ = read_labels(folder / "labels.csv", ["PE"])
    table["patient_id"] = pseudonymise(table["patient_id"], folder / KEY_FILE)
    return table


def fake_cohort(folder: Path) -> Cohort:
    """Return the cohort of the table as ``read_cohort`` would, every ECG readable and different."""
    table = read_table(folder).reset_index(drop=True)
    return Cohort(
        table=table.assign(digest=table["file"], same_ecg=np.arange(len(table))),
        targets=table[["PE"]].to_numpy(np.float32),
        label_names=("PE",),
        clinical=table[[]],
        signals=stored_zeros(folder, table["file"].to_numpy()),
        measurements=np.empty(0, MEASUREMENTS),
        reading=Reading(0.0, {}, "", False, rejected=table[:0], findings=table[:0], n_parsed=0),
    )


def stored_zeros(folder: Path, files: np.ndarray) -> StoredSignals:
    """Return signals in a file that takes no space on the disk."""
    path = folder / SIGNALS_FILE
    path.touch()
    os.truncate(path, len(files) * ROW_BYTES[SIGNALS_FILE])
    memmap = np.memmap(path, np.int16, "r", shape=(len(files), 12, 5000))
    checksums = np.full(len(files), zlib.crc32(bytes(ROW_BYTES[SIGNALS_FILE])), np.uint32)
    return StoredSignals(memmap, np.arange(len(files)), checksums, files)


# A step: from the number of ECGs and the folder it prepares what it needs and returns the call to be timed.


def reading_the_table(n_ecgs: int, folder: Path) -> Callable[[], object]:
    return lambda: read_table(folder)


def writing_the_index(n_ecgs: int, folder: Path) -> Callable[[], object]:
    """Each part is written to the disk separately, as after reading its files."""
    cache = CacheFolder(folder)
    cache.load()
    for name, n_bytes in ROW_BYTES.items():
        (folder / name).touch()
        os.truncate(folder / name, n_ecgs * n_bytes)
    measured = zlib.crc32(bytes(ROW_BYTES[MEASUREMENTS_FILE]))

    def write() -> None:
        for start in range(0, n_ecgs, FLUSH_EVERY):
            rows = range(start, min(start + FLUSH_EVERY, n_ecgs))
            entries = [Entry(f"{row:032x}", "hospital", row, row, measured) for row in rows]
            cache.write([f"{row:07d}.xml" for row in rows], [(250_000, row, row) for row in rows], entries)

    return write


def loading_the_index(n_ecgs: int, folder: Path) -> Callable[[], object]:
    """It verifies the measurements, and finds each file of the table as it was."""
    files = [f"{row:07d}.xml" for row in range(n_ecgs)]
    states = np.stack([np.full(n_ecgs, 250_000), np.arange(n_ecgs), np.arange(n_ecgs)], axis=1)

    def load() -> None:
        cache = CacheFolder(folder)
        cache.load()
        if not cache.current(files, states).all():
            raise RuntimeError("the index does not have what was written")

    return load


def finding_duplicates(n_ecgs: int, folder: Path) -> Callable[[], object]:
    """Independent fingerprints and amplitudes, no two alike: harder to search than those of people."""
    generator = np.random.default_rng(0)
    measurements = np.zeros(n_ecgs, MEASUREMENTS)
    measurements["lead_qrs_mv"] = np.exp(AMPLITUDE_SPREAD * generator.standard_normal((n_ecgs, 12)))
    measurements["lead_rms"] = 100
    measurements["fingerprint"] = generator.integers(256, size=(n_ecgs, 16))
    measurements["waveform"] = np.arange(n_ecgs)
    return lambda: near_duplicates(np.zeros((1, 12, 5000), np.int16), np.zeros(n_ecgs, int), measurements)


def splitting(n_ecgs: int, folder: Path) -> Callable[[], object]:
    cohort = fake_cohort(folder)
    return lambda: split_by_patient(cohort, **FRACTIONS, seed=0)


def making_folds(n_ecgs: int, folder: Path) -> Callable[[], object]:
    cohort = fake_cohort(folder)
    return lambda: make_folds(cohort, **FRACTIONS, folds=5, repeats=1, seed=0)


def streaming(n_ecgs: int, folder: Path) -> Callable[[], object]:
    """Random ECGs, as in training from ``--signals disk``."""
    import torch

    from dataset.signals import SignalsOnDisk

    placed = SignalsOnDisk(fake_cohort(folder).signals, torch.device("cpu"))
    generator = np.random.default_rng(0)
    plan = [(generator.integers(n_ecgs, size=BATCH_SIZE), np.full(BATCH_SIZE, 451)) for _ in range(BATCHES)]

    def stream() -> None:
        for crops in placed.crops(plan, 4096):
            if crops.shape != (BATCH_SIZE, 12, 4096):
                raise RuntimeError("a batch has another shape")

    return stream


DUPLICATES, STREAMING = "finding duplicates", "streaming batches from disk"
STEPS = {
    "reading the labels table": reading_the_table,
    "writing the index of the cache": writing_the_index,
    "loading it": loading_the_index,
    DUPLICATES: finding_duplicates,
    "split_by_patient": splitting,
    "make_folds, 5 folds": making_folds,
    STREAMING: streaming,
}


def measure(step: str, n_ecgs: int, folder: Path) -> tuple[float, float]:
    """Return the seconds of a step, and the peak of this process in MB."""
    timed = STEPS[step](n_ecgs, folder)
    start = time.perf_counter()
    timed()
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def fresh_processes() -> BaseContext:
    """Return what starts processes that have imported what most steps need, and done nothing else."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["dataset.cohort", "dataset.splits"])
    return context


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="ECGs (default: %(default)s)")
    sizes = parser.parse_args().sizes
    if min(sizes) < 100:
        parser.error("--sizes must be at least 100, or a part has no positive patient")
    print(f"{'ECGs':>9}  {'step':<32}{'seconds':>9}{'peak, MB':>10}{'batches/s':>11}")
    for n_ecgs in sizes:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_table(n_ecgs, folder)
            for step in STEPS:
                with ProcessPoolExecutor(1, fresh_processes()) as fresh:
                    seconds, megabytes = fresh.submit(measure, step, n_ecgs, folder).result()
                rate = f"{BATCHES / seconds:>11.1f}" if step == STREAMING else ""
                print(f"{n_ecgs:>9,}  {step:<32}{seconds:>9.2f}{megabytes:>10,.0f}{rate}", flush=True)


if __name__ == "__main__":
    main()
