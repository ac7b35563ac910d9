"""Where the signals of a cohort lie while a model sees them, and how crops of them reach the device.

At rest an ECG is int16, (12, 5000): 120 kB. A cohort that fits is held on the device as it is, so that an
epoch reads nothing; a larger one stays on the disk, and threads read its rows ahead, on a GPU through pinned
memory, so that the device need not wait and memory does not grow with the cohort. Either way every row is
checked against its checksum when it is read.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
import torch

from dataset.cohort import Cohort
from dataset.reading_ahead import n_cores
from dataset.signal_store.cache_folder import ROW_BYTES, SIGNALS_FILE
from dataset.signal_store.signal_cache import StoredSignals
from runtime.side_by_side import neighbours
from xml_loader import LEADS, N_SAMPLES

FEWEST_READERS, MOST_READERS = 4, 16  # threads, each of which reads a batch
READ_AHEAD = 2  # batches for each of them that are read before they are needed
CHUNK = 64  # rows that are read at once when all are brought to the device
SHARE_OF_GPU = 0.5  # share of its free memory that signals may take in any case
OF_MODEL = 4 * 2**30  # bytes of a GPU: context, workspaces of cuDNN, weights, gradients, optimizer, average
# Bytes of a GPU for each ECG of a batch. The layers of the models keep up to 25 MB of 10 s in float32 for the
# gradient, half of it in bfloat16; two sizes of batch have a CUDA graph each, after steps without one.
OF_ECG = 100 * 2**20
SHARE_OF_RAM = 0.25  # share of all memory: other programs need some, and so does the operating system's cache
UNKNOWN_RAM = 8 * 2**30  # bytes, assumed where the size is not known

Signals: TypeAlias = "SignalsOnDevice | SignalsOnDisk"
Plan = Iterable[tuple[np.ndarray, np.ndarray]]  # for each batch: indices, where crops begin


def place_signals(cohort: Cohort, *, device: torch.device, signals: str, batch_size: int) -> Signals:
    """Bring the signals to where training and evaluation read them, and print where that is.

    Parameters
    ----------
    signals : "device", "disk", or "auto": on the device if they take at most half of a GPU's free memory, or
        what training leaves of it where that is more; at most a quarter of the computer's on the CPU.
    batch_size : ECGs of a training step.

    Raises
    ------
    UserError : a row of the cache is not as it was written.
    """
    n_bytes = len(cohort.signals) * ROW_BYTES[SIGNALS_FILE]
    held = signals == "device" or (signals == "auto" and n_bytes <= _room(device, batch_size))
    placed = (SignalsOnDevice if held else SignalsOnDisk)(cohort.signals, device)
    where = "held on the device" if held else "on the disk, read ahead"
    print(f"signals     {n_bytes / 1e6:,.0f} MB as int16, {where}")
    return placed


class SignalsOnDisk:
    """Rows are read when they are needed, some batches ahead."""

    def __init__(self, stored: StoredSignals, device: torch.device):
        self.device = device
        self._stored = stored

    def crops(self, plan: Plan, n_samples: int) -> Iterator[torch.Tensor]:
        """Yield for each batch of the plan int16 (N, 12, n_samples) in microvolts, on the device."""
        for rows, starts in self._read_ahead(plan):
            yield _crop(rows.to(self.device, non_blocking=True), np.arange(len(rows)), starts, n_samples)

    def whole(self, indices: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        """Yield the whole rows, int16 (N, 12, 5000), of each array of indices, in the computer's memory."""
        for rows, _ in self._read_ahead((chunk, chunk) for chunk in indices):
            yield rows

    def _read_ahead(self, plan: Plan) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
        waiting: deque = deque()
        readers = _n_readers()
        pool = ThreadPoolExecutor(readers, "reader")
        try:
            for indices, starts in plan:
                waiting.append((pool.submit(self._read, indices), starts))
                if len(waiting) > READ_AHEAD * readers:
                    rows, starts = waiting.popleft()
                    yield rows.result(), starts
            for rows, starts in waiting:
                yield rows.result(), starts
        finally:
            pool.shutdown(cancel_futures=True)

    def _read(self, indices: np.ndarray) -> torch.Tensor:
        """Return rows, int16 (N, 12, 5000), in pinned memory where the device is a GPU."""
        shape = (len(indices), len(LEADS), N_SAMPLES)
        rows = torch.empty(shape, dtype=torch.int16, pin_memory=self.device.type == "cuda")
        self._stored.read(indices, out=rows.numpy())
        return rows


class SignalsOnDevice:
    """All rows of a cohort are held on the device as int16; every fold and every epoch shares them."""

    def __init__(self, stored: StoredSignals, device: torch.device):
        self.device = device
        shape = (len(stored), len(LEADS), N_SAMPLES)
        self._signals = torch.empty(shape, dtype=torch.int16, device=device)
        first = 0
        chunks = np.split(np.arange(len(stored)), range(CHUNK, len(stored), CHUNK))
        for rows in SignalsOnDisk(stored, device).whole(chunks):
            self._signals[first : first + len(rows)].copy_(rows, non_blocking=True)
            first += len(rows)

    def crops(self, plan: Plan, n_samples: int) -> Iterator[torch.Tensor]:
        """Yield for each batch of the plan int16 (N, 12, n_samples) in microvolts, on the device."""
        for indices, starts in plan:
            yield _crop(self._signals, indices, starts, n_samples)

    def windows(self, n_samples: int) -> torch.Tensor:
        """Return all crops, int16 (n_ecgs, 12, n_starts, n_samples), a view."""
        return _windows(self._signals, n_samples)


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return a small array on the device, without waiting for what the device has still to do."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def _crop(signals: torch.Tensor, rows: np.ndarray, starts: np.ndarray, n_samples: int) -> torch.Tensor:
    """Return each row's samples from its start on, on the device of ``signals``."""
    if signals.device.type == "cpu":  # copies of whole stretches; indexing would go sample by sample
        source = signals.numpy()
        cropped = np.empty((len(rows), len(LEADS), n_samples), np.int16)
        for number, (row, start) in enumerate(zip(rows, starts, strict=True)):
            cropped[number] = source[row, :, start : start + n_samples]
        return torch.from_numpy(cropped)
    rows, starts = to_device(rows, signals.device), to_device(starts, signals.device)
    return _windows(signals, n_samples)[rows, :, starts]


def _windows(signals: torch.Tensor, n_samples: int) -> torch.Tensor:
    return signals.unfold(2, n_samples, 1)


def _room(device: torch.device, batch_size: int) -> float:
    """Return how many bytes of signals the device should hold at most."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0] / neighbours()
        return max(SHARE_OF_GPU * free, free - OF_MODEL - batch_size * OF_ECG)
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # Windows
        memory = UNKNOWN_RAM
    return SHARE_OF_RAM * memory / _n_processes()  # each holds its own


def _n_readers() -> int:
    """Return how many threads read: one for each of this process's cores, to compute checksums and copy.

    There are always some, as most of them wait where the disk is slow.
    """
    return min(max(n_cores() // _n_processes(), FEWEST_READERS), MOST_READERS)


def _n_processes() -> int:
    """Return how many processes of this computer train, this one included."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) * neighbours()
