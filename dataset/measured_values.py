"""What is measured in each ECG of a cohort, once: several processes measure, and a file keeps it."""

import contextlib
import hashlib
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from dataset.clinical import clinical_values
from dataset.cohort import Cohort
from dataset.signal_store.signal_cache import StoredSignals
from ecg.beat_values import AMPLITUDES, VALUE_NAMES, VERSION, measure_values
from ecg.recording import MILLIVOLTS
from runtime.atomic_files import write_atomically
from runtime.processes import first_before_others

CHUNK = 128  # ECGs that a process measures at once
KNOWN_OF_PATIENTS = ("age", "sex")  # columns of the table


def measured_values(cohort: Cohort, *, workers: int, relative: bool) -> pd.DataFrame:
    """Return what is measured in each ECG, and age and sex where the table has them; nan: not known.

    The measurements are kept beside the signals in the cache.

    Parameters
    ----------
    workers : processes that measure; 0: one per core.
    relative : give amplitudes as multiples of the ECG's standard deviation over all its leads: a model that
        sees ECGs normalised by it cannot see millivolts.

    Returns
    -------
    DataFrame of float32, n_ecgs rows
    """
    with first_before_others():
        values, deviations = _stored_or_new(cohort.signals, workers)
    table = pd.DataFrame(values, columns=list(VALUE_NAMES))
    if relative:
        table[list(AMPLITUDES)] /= deviations[:, None]
    known = [name for name in KNOWN_OF_PATIENTS if name in cohort.table]
    return table.assign(**dict(zip(known, clinical_values(cohort.table, known).T, strict=True)))


def _stored_or_new(stored: StoredSignals, workers: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the values, (n_ecgs, n_values), and each ECG's deviation in mV, (n_ecgs,)."""
    content = hashlib.blake2b(np.ascontiguousarray(stored.checksums, "<u4"), digest_size=8)
    path = Path(stored.memmap.filename).with_name(f"values-{content.hexdigest()}-v{VERSION}.npy")
    with contextlib.suppress(OSError, ValueError):  # none yet, or damaged
        both = np.load(path, allow_pickle=False)
        if both.shape == (len(stored), len(VALUE_NAMES) + 1):
            return both[:, :-1], both[:, -1]
    both = np.concatenate(list(_measured(stored, workers)))
    with contextlib.suppress(OSError):  # of a cache that may only be read, they are measured again
        write_atomically(path, lambda aside: _save(aside, both))
    return both[:, :-1], both[:, -1]


def _save(path: Path, values: np.ndarray) -> None:
    with open(path, "wb") as handle:
        np.save(handle, values)


def _measured(stored: StoredSignals, workers: int) -> Iterator[np.ndarray]:
    """Yield values and deviations of the ECGs, in their order, chunk by chunk."""
    chunks = np.split(np.arange(len(stored)), range(CHUNK, len(stored), CHUNK))
    workers = min(workers or os.cpu_count() or 1, len(chunks))
    look = {"desc": "measuring ECGs", "unit": "ECG", "disable": None, "leave": False}
    with tqdm(total=len(stored), **look) as bar:
        if workers == 1:
            for chunk in chunks:
                yield _measure(stored.read(chunk))
                bar.update(len(chunk))
            return
        # Forked children need not import the training script again; they use only NumPy and SciPy.
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
        with ProcessPoolExecutor(workers, context, _start_worker) as pool:
            waiting: deque = deque()
            for chunk in chunks:
                waiting.append(pool.submit(_measure, stored.read(chunk)))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
                    bar.update(CHUNK)
            for future in waiting:
                yield future.result()


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers
    threadpool_limits(1)  # every core has a process


def _measure(signals: np.ndarray) -> np.ndarray:
    """Return values and, as the last column, deviations of ECGs, float32 (n_ecgs, n_values + 1)."""
    deviations = np.stack([ecg.std(dtype=np.float32) * MILLIVOLTS for ecg in signals])
    return np.column_stack([measure_values(signals), np.maximum(deviations, MILLIVOLTS)]).astype(np.float32)
