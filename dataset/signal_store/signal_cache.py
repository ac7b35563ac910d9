"""Files -> one memory-mapped array of signals at rest; each file is parsed and measured once.

The cache of a data folder holds ``signals.int16``, rows of (12, 5000) int16 in microvolts one after another;
``measurements``, a record of ``ecg.quality.MEASUREMENTS`` for each of these rows; and ``index``: for each
file its size and times, the digest of its content, its format, its row with checksums, or the reason why it
was rejected. A file whose size and times are as before is not even opened, one whose content is known is not
parsed again, everything else is.

New files are dealt into parts. One process reads a part and writes its signals, to rows that are this part's
own; then the part enters the index (``cache_index.py``). So an interruption loses at most the parts that were
being read, and a row that no part names is free.
"""

import contextlib
import hashlib
import multiprocessing
import os
import queue
import signal as signals_of_the_system
import sys
import threading
import zlib
from collections.abc import Callable, Container, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from dataset.signal_store.cache_folder import ROW_BYTES, SIGNALS, CacheFolder, Part, Register, writing_rows
from dataset.signal_store.cache_index import Entry
from ecg.formats import companion_files
from ecg.quality import measure
from runtime.errors import UserError
from xml_loader import (
    MAX_FILE_BYTES,
    AtRest,
    EcgFileError,
    Recording,
    bring_to_rest,
    read_recording,
)

PARSER_VERSION = (
    3  # to be raised with every change that changes a signal at rest, its measurements or the cache
)
FLUSH_EVERY = 500  # files; a part is not longer
PARTS_A_WORKER = 8  # at least, so that all end at about the same time
PARALLEL_FROM = 32  # files; fewer are read sooner than processes start


@dataclass(frozen=True)
class CachedSignals:
    """The signals of a list of files.

    Attributes
    ----------
    signals : memory map of int16, shape (n_rows, 12, 5000), in microvolts, read-only.
    measurements : memory map of ``ecg.quality.MEASUREMENTS``, shape (n_rows,), read-only.
    entries : DataFrame, a line for each file asked for, in that order: file, digest of its content,
        file_format, row in ``signals`` or ``NO_ROW``, checksum (uint32, CRC-32 of that row), rejected (the
        reason, or "").
    n_parsed : how many files were read just now; the others were in the cache.
    """

    signals: np.ndarray
    measurements: np.ndarray
    entries: pd.DataFrame
    n_parsed: int


@dataclass(frozen=True)
class StoredSignals:
    """The signals of some ECGs, in a cache on the disk.

    Attributes
    ----------
    memmap : int16, shape (n_rows, 12, 5000), in microvolts at 500 Hz, read-only.
    rows : int array of shape (n_ecgs,), the row of each ECG.
    checksums : uint32 array of shape (n_ecgs,), the CRC-32 of each of these rows.
    files : array of shape (n_ecgs,), the names of the ECGs' files.
    """

    memmap: np.memmap
    rows: np.ndarray
    checksums: np.ndarray
    files: np.ndarray

    @classmethod
    def of(cls, memmap: np.memmap, entries: pd.DataFrame) -> "StoredSignals":
        """Take what ``CachedSignals`` has of some files, all of which have a row."""
        return cls(memmap, *(entries[column].to_numpy() for column in ("row", "checksum", "file")))

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, ecgs: Sequence[int] | np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return the signals of some ECGs, int16 (n, 12, 5000), and write them to ``out`` where it is given.

        Their rows are checked, 0.1 ms each. The file is read: mapped pages would stay in memory.

        Raises
        ------
        UserError : a row is not as it was written.
        """
        if out is None:
            out = np.empty((len(ecgs), *self.memmap.shape[1:]), np.int16)
        out[:] = 0  # where the file was cut meanwhile, and the checksum will say so
        with open(self.memmap.filename, "rb", buffering=0) as handle:
            for ecg, signal in zip(ecgs, out, strict=True):
                handle.seek(int(self.rows[ecg]) * ROW_BYTES[SIGNALS])
                handle.readinto(memoryview(signal).cast("B"))
                if zlib.crc32(signal) != self.checksums[ecg]:
                    path = Path(self.memmap.filename)
                    raise UserError(
                        f"{path}: the signal of {self.files[ecg]} is damaged (its CRC-32 is not as written); "
                        f"delete the folder {path.parent}, and the files are read again"
                    )
        return out


@dataclass(frozen=True)
class Decoded:
    """What one file gives: the digest of its content, and its signal or the reason why there is none.

    A file whose content is known has neither.
    """

    digest: str = ""
    file_format: str = ""
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
    cache_dir : folder of all caches; each data folder has a folder of its own there, which is only read where
        it has all files as they are.
    workers : processes that read files; 0: one a core.
    window_start : seconds into each recording at which its 10 s begin; each value has a cache of its own.

    Raises
    ------
    UserError : the cache cannot be written, or a reading process was killed.
    """
    resolved = str(Path(data_dir).resolve())
    name = f"{Path(resolved).name}-{hashlib.sha256(resolved.encode()).hexdigest()[:12]}-v{PARSER_VERSION}"
    name += f"-from{window_start:g}s" if window_start else ""
    cache = CacheFolder(Path(cache_dir) / name)
    states = np.array([_state(os.path.join(data_dir, file)) for file in files], np.int64).reshape(-1, 3)
    n_parsed, unread = 0, {}
    try:
        cache.load()
        if not cache.current(files, states).all():
            with cache.lock():
                cache.load()
                cache.mend()
                n_parsed, unread = _read_stale_files(cache, data_dir, files, states, workers, window_start)
                cache.load()
    except OSError as error:
        raise UserError(
            f"{cache.path}: the cache cannot be written ({error.strerror}); name another with --cache-dir"
        ) from None
    except BrokenProcessPool:
        raise UserError(
            f"{data_dir}: a process that read files was killed, perhaps for memory; try --workers 1"
        ) from None
    return CachedSignals(*cache.map(), _entries(cache, files, unread), n_parsed)


def decode(path: Path, window_start: float = 0.0) -> tuple[str, np.ndarray, np.void]:
    """Return a file's format, its signal at rest, int16 (12, 5000) in µV, and its measurements.

    Raises
    ------
    EcgFileError : the file cannot be used.
    """
    recording = read_recording(path)
    rest = bring_to_rest(recording, path, window_start)
    return recording.metadata["file_format"], rest.signal, measured(recording, rest)


def measured(recording: Recording, rest: AtRest) -> np.void:
    """Return what ``ecg.quality.judge`` needs to know of an ECG, a record of ``ecg.quality.MEASUREMENTS``."""
    return measure(
        rest.signal,
        padded=rest.padded,
        file_rate=recording.sampling_rate,
        file_seconds=recording.signal.shape[1] / recording.sampling_rate,
        gap_samples=recording.metadata["gap_samples"],
        n_derived=len(recording.metadata["derived"]),
        n_warnings=len(recording.metadata["warnings"]),
    )


def _entries(cache: CacheFolder, files: Sequence[str], unread: dict[str, Entry]) -> pd.DataFrame:
    """Return what is known of each file, in this order."""
    columns = ["file", "digest", "file_format", "row", "checksum", "rejected"]
    lines = cache.lines[columns]
    if unread:
        tried = pd.DataFrame(
            [(file, *entry) for file, entry in unread.items()], columns=["file", *Entry._fields]
        )
        lines = pd.concat([lines[~lines["file"].isin(unread)], tried[columns]], ignore_index=True)
        lines = lines.astype({"checksum": np.uint32})
    places = pd.Index(lines["file"]).get_indexer(files)
    if (places < 0).any():
        raise UserError(f"{cache.path}: the cache was changed by something else; start again")
    return lines.iloc[places].reset_index(drop=True)


@dataclass(frozen=True)
class _Reading:
    """What every process that reads files needs to know; ``known`` are the digests of contents with a row."""

    data_dir: str | Path
    cache_path: Path
    known: Container[str]
    window_start: float


def _read_stale_files(
    cache: CacheFolder,
    data_dir: str | Path,
    files: Sequence[str],
    states: np.ndarray,
    workers: int,
    window_start: float,
) -> tuple[int, dict[str, Entry]]:
    """Read the files that are new or changed; return how many, and those of them that cannot be opened."""
    stale = np.flatnonzero(~cache.current(files, states))
    stale = stale[~pd.Series([files[place] for place in stale], dtype=object).duplicated().to_numpy()]
    if not len(stale):
        return 0, {}
    register = Register(cache)
    reading = _Reading(data_dir, cache.path, register.known(), window_start)
    workers = min(workers or _n_cores(), len(stale))
    alone = workers == 1 or len(stale) < PARALLEL_FROM
    n_parts = max(1, 1 if alone else workers * PARTS_A_WORKER, -(-len(stale) // FLUSH_EVERY))
    parts = [
        Part([files[place] for place in places], states[places])
        for places in np.array_split(stale, min(n_parts, len(stale)))
    ]
    with tqdm(total=len(stale), desc="reading files", unit="file", disable=None, leave=False) as bar:
        if alone:
            _read_here(reading, parts, cache.first_free_row(), register, bar)
        else:
            _read_in_parallel(reading, parts, cache.first_free_row(), register, bar, workers)
    return len(stale), register.unread


def _read_here(
    reading: _Reading, parts: Sequence[Part], first_row: int, register: Register, bar: tqdm
) -> None:
    def next_file(n_read: int) -> bool:
        bar.update()
        return True

    for part in parts:
        entries = []
        try:
            _read_part(reading, part, first_row, entries, next_file)
        except KeyboardInterrupt:
            register.enter(part, entries)
            raise
        register.enter(part, entries)
        first_row = max(first_row, 1 + max(entry.row for entry in entries))


def _read_in_parallel(
    reading: _Reading, parts: Sequence[Part], first_row: int, register: Register, bar: tqdm, workers: int
) -> None:
    """Let workers read the parts, and enter each when it is there; where a worker fails, enter the others."""
    # Forked children need not import the training script again; they use NumPy alone.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    # Both are without a lock, which a killed worker would keep.
    n_read = context.RawArray("q", len(parts))  # files of each part
    stop = context.RawValue("b", 0)
    pool = ProcessPoolExecutor(workers, context, _start_worker, (reading, n_read, stop))
    part_of: dict[Future, Part] = {}
    ready: queue.SimpleQueue[Future] = queue.SimpleQueue()
    try:
        for number, part in enumerate(parts):
            future = pool.submit(_read_in_worker, number, part, first_row)
            part_of[future] = part
            future.add_done_callback(ready.put)
            first_row += len(part.files)
        while part_of:
            with contextlib.suppress(queue.Empty):
                future = ready.get(timeout=0.2)
                register.enter(part_of[future], future.result())
                del part_of[future]
            bar.update(sum(n_read) - bar.n)
    finally:
        stop.value = True
        pool.shutdown(cancel_futures=True)
        for future, part in part_of.items():
            if not future.cancelled() and future.exception() is None:
                register.enter(part, future.result())


def _read_part(
    reading: _Reading,
    part: Part,
    first_row: int,
    entries: list[Entry],
    next_file: Callable[[int], bool],
) -> None:
    """Read files, write their signals from a row on, and add an entry for each to ``entries``.

    ``next_file`` is told how many were read, and says whether to go on. A known content gets a digest alone.
    """
    row = first_row
    of_this_part: dict[str, Entry] = {}
    with writing_rows(reading.cache_path) as write_row:
        for file in part.files:
            decoded = _read(Path(reading.data_dir, file), (reading.known, of_this_part), reading.window_start)
            entry = of_this_part.get(decoded.digest) or Entry(
                decoded.digest, decoded.file_format, rejected=decoded.rejected
            )
            if decoded.signal is not None:
                checksum, measured = write_row(row, decoded.signal, decoded.measurement)
                entry = entry._replace(row=row, checksum=checksum, measured=measured)
                of_this_part[decoded.digest] = entry
                row += 1
            entries.append(entry)
            if not next_file(len(entries)):
                break


def _read(path: Path, known: Sequence[Container[str]], window_start: float) -> Decoded:
    """Return what a file gives; nothing but its digest where that is known already."""
    digest = ""
    try:
        digest = _digest(path)
        if any(digest in digests for digests in known):
            return Decoded(digest)
        return Decoded(digest, *decode(path, window_start))
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


def _start_worker(reading: _Reading, n_read: Sequence[int], stop) -> None:
    """Keep what the parent shares with its workers."""
    global _shared
    _shared = reading, n_read, stop
    # The parent answers.
    signals_of_the_system.signal(signals_of_the_system.SIGINT, signals_of_the_system.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End a worker whose parent was killed: it holds the cache's lock, and would wait for work for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _read_in_worker(number: int, part: Part, first_row: int) -> list[Entry]:
    reading, n_read, stop = _shared

    def next_file(n_files: int) -> bool:
        n_read[number] = n_files
        return not stop.value

    entries = []
    _read_part(reading, part, first_row, entries, next_file)
    return entries


def _state(path: str) -> tuple[int, int, int]:
    """Return size and times of a file; those of a WFDB header take in its signal files.

    These have the header's name, or else the header is read to find them.
    """
    try:
        states = [os.stat(path)]
    except (OSError, ValueError):  # a name with a zero byte
        return (-1, -1, -1)
    if path.endswith(".hea"):
        for companion in _signal_files(Path(path)):
            with contextlib.suppress(OSError):
                states.append(os.stat(companion))
    return (
        sum(state.st_size for state in states),
        max(state.st_mtime_ns for state in states),
        max(state.st_ctime_ns for state in states),
    )


def _signal_files(header: Path) -> list[Path]:
    """Return the files that the signal of a WFDB header lies in, as far as they can be told."""
    usual = [header.with_suffix(suffix) for suffix in (".dat", ".mat")]
    if any(path.exists() for path in usual):
        return usual
    try:
        return companion_files(header, _content(header) or b"")
    except (EcgFileError, OSError):  # the header is refused when it is parsed
        return []
