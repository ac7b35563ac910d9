"""What is measured in each stored ECG, once: by several processes, and kept beside the signals."""

import contextlib
import hashlib
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from dataset.signal_store.signal_cache import StoredSignals
from runtime.atomic_files import write_atomically

CHUNK = 128  # ECGs that a process measures at once

Measure = Callable[[np.ndarray], np.ndarray]  # int16 (n, 12, 5000) in µV -> float32 (n, n_columns)


def stored_or_new(
    stored: StoredSignals, measure: Measure, *, name: str, version: int, n_columns: int, workers: int
) -> np.ndarray:
    """Return what a function measures in the ECGs, float32 (n_ecgs, n_columns), and keep it on the disk.

    Parameters
    ----------
    measure : a function of a module, so that other processes find it.
    name, version : of what is measured; another version is measured again.
    n_columns : numbers per ECG.
    workers : processes that measure; 0: one per core.
    """
    content = hashlib.blake2b(np.ascontiguousarray(stored.checksums, "<u4"), digest_size=8)
    path = Path(stored.memmap.filename).with_name(f"{name}-{content.hexdigest()}-v{version}.npy")
    with contextlib.suppress(OSError, ValueError):  # none yet, or damaged
        kept = np.load(path, allow_pickle=False)
        if kept.shape == (len(stored), n_columns):
            return kept
    values = np.concatenate(list(_measured(stored, measure, workers)))
    with contextlib.suppress(OSError):  # of a cache that may only be read, they are measured again
        write_atomically(path, lambda aside: _save(aside, values))
    return values


def _save(path: Path, values: np.ndarray) -> None:
    with open(path, "wb") as handle:
        np.save(handle, values)


def _measured(stored: StoredSignals, measure: Measure, workers: int) -> Iterator[np.ndarray]:
    """Yield the values of the ECGs, in their order, chunk by chunk."""
    chunks = np.split(np.arange(len(stored)), range(CHUNK, len(stored), CHUNK))
    workers = min(workers or os.cpu_count() or 1, len(chunks))
    look = {"desc": "measuring ECGs", "unit": "ECG", "disable": None, "leave": False}
    with tqdm(total=len(stored), **look) as bar:
        if workers == 1:
            for chunk in chunks:
                yield measure(stored.read(chunk))
                bar.update(len(chunk))
            return
        # Forked children need not import the training script again; they use only NumPy and SciPy.
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
        with ProcessPoolExecutor(workers, context, _start_worker) as pool:
            waiting: deque = deque()
            for chunk in chunks:
                waiting.append(pool.submit(measure, stored.read(chunk)))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
                    bar.update(CHUNK)
            for future in waiting:
                yield future.result()


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers
    threadpool_limits(1)  # every core has a process
