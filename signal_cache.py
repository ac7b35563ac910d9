"""Files -> one memory-mapped array of signals at rest; each file is parsed and measured once.

The cache of a data folder holds ``signals.int16``, rows of (12, 5000) int16 in microvolts one after another;
``measurements``, a record of ``ecg_quality.MEASUREMENTS`` for each of these rows; and ``index.csv``: for each
file its size and times, the digest of its content, its form, and its row or the reason why it was rejected. A
file whose size and times are as before is not even opened, one whose content is known is not parsed again,
everything else is. The index is replaced as a whole and names only rows that are on disk, so that an
interruption loses at most the last ``FLUSH_EVERY`` files.
"""

import contextlib
import hashlib
import io
import multiprocessing
import os
import signal as signals_of_the_system
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
from tqdm import tqdm

from ecg_quality import MEASUREMENTS, measure
from formats import companion_files
from xml_loader import (
    LEADS,
    MAX_FILE_BYTES,
    N_SAMPLES,
    AtRest,
    EcgFileError,
    Recording,
    bring_to_rest,
    read_recording,
)

PARSER_VERSION = 2  # to be raised with every change that changes a signal at rest or its measurements
FLUSH_EVERY = 500  # files
PARALLEL_FROM = 32  # files; fewer are read sooner than processes start
ROW_BYTES = len(LEADS) * N_SAMPLES * 2
NO_ROW = -1
INDEX_COLUMNS = {
    "file": str,
    "size": np.int64,
    "modified_ns": np.int64,
    "changed_ns": np.int64,
    "digest": str,
    "form": str,
    "row": np.int64,
    "rejected": str,
}


class CohortError(ValueError):
    """A table or folder that cannot be used; one line that names it, what was found and what was expected."""


@dataclass(frozen=True)
class IndexEntry:
    """What the cache knows of one file; ``state`` is size, modification and change time (ns)."""

    file: str
    state: tuple[int, int, int]
    digest: str
    form: str
    row: int
    rejected: str


@dataclass(frozen=True)
class CachedSignals:
    """The signals of a list of files.

    Attributes
    ----------
    signals : memory map of int16, shape (n_rows, 12, 5000), in microvolts, read-only.
    measurements : memory map of ``ecg_quality.MEASUREMENTS``, shape (n_rows,), read-only.
    entries : what is known of each file asked for, in that order; ``row`` is its row in ``signals``.
    n_parsed : how many files were read just now; the others were in the cache.
    """

    signals: np.ndarray
    measurements: np.ndarray
    entries: list[IndexEntry]
    n_parsed: int


@dataclass(frozen=True)
class Decoded:
    """What one file gives: the digest of its content, and its signal or the reason why there is none.

    A file whose content is in the cache has neither.
    """

    digest: str = ""
    form: str = ""
    signal: np.ndarray | None = None
    measurement: np.void | None = None
    rejected: str = ""


def cached_signals(
    data_dir: str | Path,
    files: Sequence[str],
    *,
    cache_dir: str | Path,
    workers: int = 0,
    window_start: float = 0.0,
) -> CachedSignals:
    """Return the signals of ``files``, reading those that the cache lacks.

    Parameters
    ----------
    data_dir : the folder that ``files`` are relative to.
    cache_dir : folder of all caches; each data folder has a folder of its own there.
    workers : processes that read files; 0: one a core.
    window_start : seconds into each recording at which its 10 s begin; each value has a cache of its own.

    Raises
    ------
    CohortError : the cache cannot be written, or a reading process was killed.
    """
    resolved = str(Path(data_dir).resolve())
    name = f"{Path(resolved).name}-{hashlib.sha256(resolved.encode()).hexdigest()[:12]}-v{PARSER_VERSION}"
    name += f"-from{window_start:g}s" if window_start else ""
    cache = _Cache(Path(cache_dir) / name)
    try:
        cache.folder.mkdir(parents=True, exist_ok=True)
        with _one_process_at_a_time(cache.folder):
            cache.load()
            n_parsed = _read_stale_files(cache, Path(data_dir), files, workers, window_start)
    except OSError as error:
        raise CohortError(
            f"{cache.folder}: the cache cannot be written ({error.strerror}); name another with --cache-dir"
        ) from None
    except BrokenProcessPool:
        raise CohortError(
            f"{data_dir}: a process that read files was killed, perhaps for memory; try --workers 1"
        ) from None
    signals, measurements = cache.map()
    return CachedSignals(signals, measurements, [cache.entries[file] for file in files], n_parsed)


def decode(path: Path, window_start: float = 0.0) -> tuple[str, np.ndarray, np.void]:
    """Return a file's form, its signal at rest, int16 (12, 5000) in µV, and its measurements.

    Raises
    ------
    EcgFileError : the file cannot be used.
    """
    recording = read_recording(path)
    rest = bring_to_rest(recording, path, window_start)
    return recording.metadata["form"], rest.signal, measured(recording, rest)


def measured(recording: Recording, rest: AtRest) -> np.void:
    """Return what ``ecg_quality.judge`` needs to know of an ECG, a record of ``ecg_quality.MEASUREMENTS``."""
    return measure(
        rest.signal,
        padded=rest.padded,
        file_rate=recording.sampling_rate,
        file_seconds=recording.signal.shape[1] / recording.sampling_rate,
        gap_samples=recording.metadata["gap_samples"],
        n_derived=len(recording.metadata["derived"]),
        n_warnings=len(recording.metadata["warnings"]),
    )


class _Cache:
    """The three files of one data folder's cache, and the entries by file name."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.signals_path = folder / "signals.int16"
        self.measurements_path = folder / "measurements"
        self.index_path = folder / "index.csv"
        self.entries: dict[str, IndexEntry] = {}

    def load(self) -> None:
        if not self.index_path.exists():
            return
        try:
            entries = _parse_index(self.index_path.read_bytes())
        except (ValueError, KeyError) as error:
            print(
                f"cache       {self.index_path} unreadable ({type(error).__name__}): reading all files again"
            )
            return
        if self.n_rows_on_disk() <= max((entry.row for entry in entries.values()), default=NO_ROW):
            print(f"cache       {self.signals_path} is shorter than its index says: reading all files again")
            return
        self.entries = entries

    def save(self) -> None:
        table = pd.DataFrame(
            [(e.file, *e.state, e.digest, e.form, e.row, e.rejected) for e in self.entries.values()],
            columns=list(INDEX_COLUMNS),
        )
        aside = self.index_path.with_suffix(".partial")
        table.to_csv(aside, index=False)
        os.replace(aside, self.index_path)

    def n_rows_on_disk(self) -> int:
        sizes = {self.signals_path: ROW_BYTES, self.measurements_path: MEASUREMENTS.itemsize}
        return min(path.stat().st_size // size if path.exists() else 0 for path, size in sizes.items())

    def map(self) -> tuple[np.ndarray, np.ndarray]:
        n_rows = self.n_rows_on_disk()
        shape = (n_rows, len(LEADS), N_SAMPLES)
        if n_rows == 0:
            return np.empty(shape, np.int16), np.empty(0, MEASUREMENTS)
        return (
            np.memmap(self.signals_path, np.int16, mode="r", shape=shape),
            np.memmap(self.measurements_path, MEASUREMENTS, mode="r", shape=n_rows),
        )

    @contextlib.contextmanager
    def appending(self, next_row: int) -> Iterator[tuple[BinaryIO, BinaryIO]]:
        """Open both files of rows, to write from a row on."""
        with contextlib.ExitStack() as stack:
            outputs = []
            for path, size in (
                (self.signals_path, ROW_BYTES),
                (self.measurements_path, MEASUREMENTS.itemsize),
            ):
                output = stack.enter_context(open(path, "r+b" if path.exists() else "w+b"))
                output.seek(next_row * size)
                outputs.append(output)
            yield tuple(outputs)


def _parse_index(content: bytes) -> dict[str, IndexEntry]:
    """Return the entries by file name; a ValueError or KeyError where an index is not as it was saved."""
    if not content.endswith(b"\n"):  # a row's number may have lost digits
        raise ValueError("the last line is cut")
    table = pd.read_csv(io.BytesIO(content), keep_default_na=False, dtype=INDEX_COLUMNS)
    if (table["row"] < NO_ROW).any():
        raise ValueError("negative rows")
    states = zip(table["size"], table["modified_ns"], table["changed_ns"], strict=True)
    others = (table[name] for name in ("digest", "form", "row", "rejected"))
    lines = zip(table["file"], states, *others, strict=True)
    return {file: IndexEntry(file, state, *others) for file, state, *others in lines}


def _read_stale_files(
    cache: _Cache, data_dir: Path, files: Sequence[str], workers: int, window_start: float
) -> int:
    """Read the files that are new or changed, append their signals, and return how many they were."""
    states = {file: _state(data_dir / file) for file in files}
    stale = [file for file in states if not _is_current(cache.entries.get(file), states[file])]
    if not stale:
        return 0
    known = {entry.digest: entry for entry in cache.entries.values() if entry.row != NO_ROW}
    next_row = cache.n_rows_on_disk()  # never a row that another run may be reading
    results = _results([data_dir / file for file in stale], set(known), workers, window_start)
    with cache.appending(next_row) as outputs:
        try:
            for number, (file, decoded) in enumerate(zip(stale, results, strict=True), 1):
                before = known.get(decoded.digest)
                row, form = (before.row, before.form) if before else (NO_ROW, decoded.form)
                if decoded.signal is not None and row == NO_ROW:
                    for output, values in zip(outputs, (decoded.signal, decoded.measurement), strict=True):
                        output.write(values.tobytes())
                    row, next_row = next_row, next_row + 1
                entry = IndexEntry(file, states[file], decoded.digest, form, row, decoded.rejected)
                cache.entries[file] = entry
                if row != NO_ROW:
                    known[decoded.digest] = entry
                if number % FLUSH_EVERY == 0:
                    _flush(cache, outputs)
        finally:
            _flush(cache, outputs)
    return len(stale)


def _is_current(entry: IndexEntry | None, state: tuple[int, int, int]) -> bool:
    # Without a digest the content was never read: a disk or a network that failed may work by now.
    return entry is not None and entry.state == state and entry.digest != ""


def _flush(cache: _Cache, outputs: Iterable[BinaryIO]) -> None:
    for output in outputs:
        output.flush()
        os.fsync(output.fileno())
    cache.save()


def _results(paths: list[Path], known: set[str], workers: int, window_start: float) -> Iterator[Decoded]:
    """Yield what each file gives, in order, with a progress bar."""
    workers = min(workers or _n_cores(), len(paths))
    bar = tqdm(total=len(paths), desc="reading files", unit="file", disable=None, leave=False)
    with contextlib.ExitStack() as stack:
        stack.enter_context(bar)
        if workers == 1 or len(paths) < PARALLEL_FROM:
            results = (_read(path, known, window_start) for path in paths)
        else:
            # Forked children need not import the training script again; they use NumPy alone.
            method = "fork" if sys.platform == "linux" else None
            pool = ProcessPoolExecutor(
                workers,
                multiprocessing.get_context(method),
                initializer=_start_worker,
                initargs=(known, window_start),
            )
            stack.callback(pool.shutdown, cancel_futures=True)
            results = pool.map(_read_in_worker, paths, chunksize=8)
        for result in results:
            bar.update()
            yield result


def _read(path: Path, known: set[str], window_start: float) -> Decoded:
    """Return what a file gives; nothing but its digest where that is known already."""
    digest = ""
    try:
        digest = _digest(path)
        return Decoded(digest) if digest in known else Decoded(digest, *decode(path, window_start))
    except EcgFileError as error:
        return Decoded(digest, rejected=str(error))
    except OSError as error:
        return Decoded(digest, rejected=f"{path}: cannot be read ({error.strerror})")


def _digest(path: Path) -> str:
    """Return the digest of a file's content, and of the files that belong to it."""
    content = _content(path)
    if content is None:
        return ""
    digest = hashlib.blake2b(content, digest_size=16)
    for companion in companion_files(path, content):
        digest.update(_content(companion) or b"")
    return digest.hexdigest()


def _content(path: Path) -> bytes | None:
    """Return what a file holds, or None where it is no file: opening a FIFO would wait for ever."""
    if not path.is_file():
        return None
    with open(path, "rb") as handle:
        return handle.read(MAX_FILE_BYTES + 1)  # the readers refuse more


def _n_cores() -> int:
    """Return the cores that this process may use; macOS and Windows only say how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_known_to_worker: set[str] = set()
_window_start_of_worker = 0.0


def _start_worker(known: set[str], window_start: float) -> None:
    global _window_start_of_worker
    _window_start_of_worker = window_start
    signals_of_the_system.signal(
        signals_of_the_system.SIGINT, signals_of_the_system.SIG_IGN
    )  # the parent answers
    _known_to_worker.update(known)


def _read_in_worker(path: Path) -> Decoded:
    return _read(path, _known_to_worker, _window_start_of_worker)


def _state(path: Path) -> tuple[int, int, int]:
    """Return size and times of a file; those of a WFDB header take in the signal file of the same name."""
    try:
        states = [path.stat()]
    except OSError:
        return (-1, -1, -1)
    if path.suffix == ".hea":
        for companion in (path.with_suffix(".dat"), path.with_suffix(".mat")):
            with contextlib.suppress(OSError):
                states.append(companion.stat())
    return (
        sum(state.st_size for state in states),
        max(state.st_mtime_ns for state in states),
        max(state.st_ctime_ns for state in states),
    )


@contextlib.contextmanager
def _one_process_at_a_time(folder: Path) -> Iterator[None]:
    """Hold the cache's lock: a second run waits until the first has read its files."""
    try:
        import fcntl
    except ImportError:  # Windows: no lock; do not start two runs on a new cohort at once
        yield
        return
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"cache       another run is reading the same files into {folder}: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
