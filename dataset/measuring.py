"""What is measured in each stored ECG, once: by several processes, and kept beside the signals."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from dataset.reading_ahead import in_processes, n_cores
from dataset.signal_store.signal_cache import StoredSignals
from runtime.atomic_files import write_atomically
from runtime.errors import UserError

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

    Raises
    ------
    UserError : a process was killed.
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
    workers = min(workers or n_cores(), len(chunks))
    signals = map(stored.read, chunks)
    if workers == 1:
        results = map(measure, signals)
    else:
        results = in_processes(
            signals, partial(_on_one_core, measure), n_processes=workers, ahead=2 * workers
        )
    look = {"desc": "measuring ECGs", "unit": "ECG", "disable": None, "leave": False}
    with tqdm(total=len(stored), **look) as bar:
        try:
            for values in results:
                yield values
                bar.update(len(values))
        except BrokenProcessPool:
            raise UserError(
                "a process that measured ECGs was killed, perhaps for memory; try --workers 1"
            ) from None


def _on_one_core(measure: Measure, signals: np.ndarray) -> np.ndarray:
    with threadpool_limits(1):  # every core has a process
        return measure(signals)
