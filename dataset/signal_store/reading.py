"""Files -> rows of a cache, read in one process or in several.

Files are dealt into parts. One process reads a part and writes its signals, to rows that are this part's
own; then the part enters the index (``cache_index.py``). So an interruption loses at most the parts that were
being read, and a row that no part names is free.
"""

import contextlib
import queue
from collections.abc import Container, Iterable, Iterator, MutableSequence, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from tqdm import tqdm

from dataset.decoding import decode
from dataset.reading_ahead import PARALLEL_FROM, n_cores, reading_processes, serve_parent
from dataset.signal_store.cache_folder import CacheFolder, Part, Register, writing_rows
from dataset.signal_store.cache_index import Entry
from dataset.signal_store.file_identity import digest_of
from ecg.recording import EcgAccessError, EcgFileError, hindrance

FLUSH_EVERY = 500  # files; a part is not longer
CHANGED = ("a file that was changed while it was read", "one that no program writes just now")
PARTS_PER_WORKER = 8  # at least, so that all end at about the same time


def read_stale_files(
    cache: CacheFolder,
    data_dir: str | Path,
    files: Sequence[str],
    states: np.ndarray,
    *,
    workers: int,
    window_start: float,
    min_seconds: float,
    min_leads: int,
) -> tuple[int, dict[str, Entry]]:
    """Read the files that a cache, whose lock is held, lacks or has in another state.

    Parameters
    ----------
    states : int (n_files, 3), what ``file_identity.states_of`` returns.
    data_dir, workers, window_start, min_seconds, min_leads : see ``signal_cache.cached_signals``.

    Returns
    -------
    n_read : how many files these are.
    unread : those of them that could not be opened, which are not in the index.

    Raises
    ------
    OSError : the disk is full or may not be written.
    BrokenProcessPool : a process that read files was killed.
    """
    stale = np.flatnonzero(~cache.current(files, states))
    stale = stale[~pd.Series([files[place] for place in stale], dtype=object).duplicated().to_numpy()]
    if not len(stale):
        return 0, {}
    workers = min(workers or n_cores(), len(stale))
    alone = workers == 1 or len(stale) < PARALLEL_FROM
    n_parts = max(1 if alone else workers * PARTS_PER_WORKER, -(-len(stale) // FLUSH_EVERY))
    parts, row = [], cache.first_free_row()
    for places in np.array_split(stale, min(n_parts, len(stale))):
        parts.append(Part([files[place] for place in places], states[places], row))
        row += len(places)
    register = Register(cache)
    reader = FileReader(data_dir, cache.path, register.known(), window_start, min_seconds, min_leads)
    with tqdm(total=len(stale), desc="reading files", unit="file", disable=None, leave=False) as bar:
        if alone:
            _read_here(reader, parts, register, bar)
        else:
            _read_in_parallel(reader, parts, register, bar, workers)
    return len(stale), register.unread


@dataclass(frozen=True)
class FileReader:
    """What every process that reads files has; ``known`` are the digests of contents that have a row."""

    data_dir: str | Path
    cache_path: Path
    known: Container[str]
    window_start: float
    min_seconds: float
    min_leads: int

    def read_files(self, files: Iterable[str], first_row: int) -> Iterator[Entry]:
        """Read files, write their signals from a row on, and yield an entry for each when it is written.

        The entry of a known content has only its digest.
        """
        row = first_row
        written: dict[str, Entry] = {}  # by digest
        with writing_rows(self.cache_path) as write_row:
            for file in files:
                entry, ecg = self._read(Path(self.data_dir, file), written)
                if ecg is not None:
                    checksum, measurements_crc = write_row(row, *ecg)
                    entry = entry._replace(row=row, checksum=checksum, measurements_crc=measurements_crc)
                    written[entry.digest] = entry
                    row += 1
                yield entry

    def _read(self, path: Path, written: dict[str, Entry]) -> tuple[Entry, tuple[np.ndarray, np.void] | None]:
        """Return a file's entry, and its signal and measurements where they are to be written."""
        digest = ""
        try:
            digest = digest_of(path)
            if digest in self.known:
                return Entry(digest), None
            if digest in written:
                return written[digest], None
            file_format, *ecg = decode(path, self.window_start, self.min_seconds, self.min_leads)
            if digest_of(path) != digest:  # or the signal would count as that of the content before
                raise EcgAccessError(path, *CHANGED)
            return Entry(digest, file_format), tuple(ecg)
        except EcgAccessError as error:  # without a digest, so that it is not remembered
            return Entry("", rejected=str(error)), None
        except EcgFileError as error:
            return Entry(digest, rejected=str(error)), None
        except (OSError, MemoryError) as error:
            return Entry("", rejected=str(hindrance(path, error))), None


def _read_here(reader: FileReader, parts: Iterable[Part], register: Register, bar: tqdm) -> None:
    for part in parts:
        entries = []
        try:
            for entry in reader.read_files(part.files, part.first_row):
                entries.append(entry)
                bar.update()
        except KeyboardInterrupt:
            register.enter(part, entries)
            raise
        register.enter(part, entries)


def _read_in_parallel(
    reader: FileReader, parts: Sequence[Part], register: Register, bar: tqdm, workers: int
) -> None:
    """Let workers read the parts, and enter each when it is there; where a worker fails, enter the others."""
    context = reading_processes()
    # Both are without a lock, which a killed worker would keep.
    n_read = context.RawArray("q", len(parts))  # files of each part
    stop = context.RawValue("b", 0)
    pool = ProcessPoolExecutor(workers, context, Worker.start, (reader, n_read, stop))
    part_of: dict[Future, Part] = {}
    ready: queue.SimpleQueue[Future] = queue.SimpleQueue()
    try:
        for number, part in enumerate(parts):
            future = pool.submit(Worker.read, number, part)
            part_of[future] = part
            future.add_done_callback(ready.put)
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


class Worker:
    """One of several processes that read files; the class keeps what it has from its parent.

    Attributes
    ----------
    n_read : how many files of each part were read, which the worker counts for its parent.
    stop : whether the parent has ended the reading.
    """

    reader: ClassVar[FileReader]
    n_read: ClassVar[MutableSequence[int]]
    stop: ClassVar[Any]

    @classmethod
    def start(cls, reader: FileReader, n_read: MutableSequence[int], stop: Any) -> None:
        """Begin, in the new process."""
        cls.reader, cls.n_read, cls.stop = reader, n_read, stop
        serve_parent()

    @classmethod
    def read(cls, number: int, part: Part) -> list[Entry]:
        """Return the entries of a part, or of its first files where the parent stops it."""
        entries = []
        for entry in cls.reader.read_files(part.files, part.first_row):
            entries.append(entry)
            cls.n_read[number] = len(entries)
            if cls.stop.value:
                break
        return entries
