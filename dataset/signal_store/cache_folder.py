"""One data folder's cache on the disk: rows of signals and measurements, and the index that names them.

A row lies at its number times its size, so that several processes can write at once; where nothing was
written the files are sparse. Whoever writes holds the lock; whoever reads need not.
"""

import contextlib
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dataset.signal_store.cache_index import NO_ROW, STATE, Entry, load_index, write_part
from ecg.quality import MEASUREMENTS
from runtime.errors import reason
from runtime.messages import counted
from xml_loader import LEADS, N_SAMPLES

SIGNALS_FILE, MEASUREMENTS_FILE = "signals.int16", "measurements"
ROW_BYTES = {SIGNALS_FILE: len(LEADS) * N_SAMPLES * 2, MEASUREMENTS_FILE: MEASUREMENTS.itemsize}


class CacheFolder:
    """What is in a cache.

    Attributes
    ----------
    lines : DataFrame of ``cache_index.COLUMNS``, one row per file; only what is on the disk and undamaged.
    """

    def __init__(self, path: Path):
        self.path = path

    def load(self) -> None:
        """Read the index, and check what it names: signals for being there, measurements by their CRC-32."""
        self._index = load_index(self.path / "index")
        lines = self._index.lines
        rows = lines["row"].to_numpy()
        self._cut = rows >= self._size(SIGNALS_FILE) // ROW_BYTES[SIGNALS_FILE]
        self._damaged = ~self._cut & (rows != NO_ROW)
        checksums = self._checksums_of_measurements(rows[self._damaged])
        self._damaged[self._damaged] = checksums != lines["measurements_crc"].to_numpy()[self._damaged]
        lost = self._cut | self._damaged
        self.lines = lines[~lost].reset_index(drop=True) if lost.any() else lines
        self._place_of = pd.Index(self.lines["file"])

    def current(self, files: Sequence[str], states: np.ndarray) -> np.ndarray:
        """Return for each file whether the cache has it in this state, int (n_files, 3): size and times."""
        places = self._place_of.get_indexer(files)
        absent = np.zeros((1, 3), np.int64)  # at place -1
        cached = np.vstack([self.lines[STATE].to_numpy(np.int64), absent])
        return (places >= 0) & (cached[places] == states).all(axis=1)

    def mend(self) -> None:
        """Print what is lost, and forget it, so that rows written later are not taken for these."""
        files = self._index.lines["file"]
        for name, lost in ((SIGNALS_FILE, self._cut), (MEASUREMENTS_FILE, self._damaged)):
            if lost.any():
                fault = "shorter than the index says" if name == SIGNALS_FILE else "cut or damaged"
                n_files = counted(lost.sum(), "file")
                print(f"cache       {self.path / name} is {fault}: {n_files} to be read again")
        lost = files[self._cut | self._damaged].tolist()
        self.write(lost, [(0, 0, 0)] * len(lost), [Entry(digest="")] * len(lost))
        for part, n_lines in self._index.damaged.items():
            n_files = counted(n_lines, "file")
            print(f"cache       {part} is cut or damaged: {n_files} or more to be read again")
            part.unlink(missing_ok=True)

    def write(self, files: Sequence[str], states: Sequence, entries: Sequence[Entry]) -> None:
        """Add a part to the index, after the rows that it names are on the disk.

        This waits here and not in the processes that read, which go on meanwhile.
        """
        if files:
            for name in ROW_BYTES:
                with contextlib.suppress(FileNotFoundError), open(self.path / name, "r+b") as rows:
                    os.fsync(rows.fileno())
            write_part(self.path / "index", self._index.next_number, files, states, entries)
            self._index.next_number += 1

    def first_free_row(self) -> int:
        """Return the row after the last that any part names, or after all, where a part is lost.

        Another run may still be reading the rows that a lost part named.
        """
        if self._index.whole:
            return self._index.n_rows
        return max(-(-self._size(name) // n_bytes) for name, n_bytes in ROW_BYTES.items())

    def map(self) -> tuple[np.ndarray, np.ndarray]:
        """Return signals, int16 (n_rows, 12, 5000), and measurements, (n_rows,), as read-only memory maps."""
        n_rows = min(self._size(name) // n_bytes for name, n_bytes in ROW_BYTES.items())
        shape = (n_rows, len(LEADS), N_SAMPLES)
        if n_rows == 0:
            return np.empty(shape, np.int16), np.empty(0, MEASUREMENTS)
        return (
            np.memmap(self.path / SIGNALS_FILE, np.int16, mode="r", shape=shape),
            np.memmap(self.path / MEASUREMENTS_FILE, MEASUREMENTS, mode="r", shape=n_rows),
        )

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the cache's lock, and make the cache where there is none: a second run waits for the first."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            import fcntl
        except ImportError:  # Windows: no lock; do not start two runs on a new cohort at once
            yield
            return
        with open(self.path / "lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"cache       another run is reading the same files into {self.path}: waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:  # ENOLCK, ENOSYS: some network file systems
                print(f"cache       {self.path} cannot be locked ({reason(error)}): start one run at a time")
            yield

    def _size(self, name: str) -> int:
        path = self.path / name
        return path.stat().st_size if path.exists() else 0

    def _checksums_of_measurements(self, rows: np.ndarray) -> np.ndarray:
        if self._size(MEASUREMENTS_FILE) == 0:
            return np.full(len(rows), -1)
        records = memoryview(np.memmap(self.path / MEASUREMENTS_FILE, np.uint8, mode="r"))
        n_bytes = ROW_BYTES[MEASUREMENTS_FILE]
        starts = (rows * n_bytes).tolist()
        return np.fromiter(
            (zlib.crc32(records[start : start + n_bytes]) for start in starts), np.int64, len(rows)
        )


@dataclass(frozen=True)
class Part:
    """Files that are read by one process and enter the index together.

    Attributes
    ----------
    states : int array of shape (n_files, 3), their sizes and times before they were read.
    first_row : the first of their rows, of which there are as many as files.
    """

    files: Sequence[str]
    states: np.ndarray
    first_row: int


class Register:
    """Enters parts into the index. A content that has a row, from before or from another part, keeps it.

    Attributes
    ----------
    unread : the files whose content could not be read; not in the index, as they may be readable next time.
    """

    def __init__(self, cache: CacheFolder):
        self.unread: dict[str, Entry] = {}
        self._cache = cache
        lines = cache.lines[cache.lines["row"] != NO_ROW].drop_duplicates("digest")
        self._known = lines[list(Entry._fields)]
        self._place_of = pd.Index(lines["digest"])
        self._row_of: dict[str, int] = {}  # of contents that this run read

    def known(self) -> frozenset[str]:
        """Return the digests of the contents that had a row before."""
        return frozenset(self._place_of)

    def enter(self, part: Part, entries: Sequence[Entry]) -> None:
        """Enter what was read of a part: all of it, or its first files."""
        places = self._place_of.get_indexer([entry.digest for entry in entries])
        known = self._known.iloc[places[places >= 0]].itertuples(index=False)
        lines = []
        for file, state, entry, place in zip(part.files, part.states.tolist(), entries, places, strict=False):
            if place >= 0:
                entry = Entry(*next(known))
            elif entry.row != NO_ROW:
                entry = entry._replace(row=self._row_of.setdefault(entry.digest, entry.row))
            if entry.digest:
                lines.append((file, state, entry))
            else:
                self.unread[file] = entry
        if lines:
            self._cache.write(*zip(*lines, strict=True))


@contextlib.contextmanager
def writing_rows(path: Path) -> Iterator[Callable[[int, np.ndarray, np.void], tuple[int, int]]]:
    """Yield a function that writes the signal and measurements of a row, and returns the CRC-32 of each.

    Raises
    ------
    OSError : the disk is full or may not be written.
    """
    with contextlib.ExitStack() as stack:
        outputs = {}
        for name in ROW_BYTES:
            file = os.open(path / name, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            outputs[name] = stack.enter_context(open(file, "wb", buffering=0))

        def write(row: int, signal: np.ndarray, measurement: np.void) -> tuple[int, int]:
            return tuple(
                _write_at(output, row * ROW_BYTES[name], values.tobytes())
                for (name, output), values in zip(outputs.items(), (signal, measurement), strict=True)
            )

        yield write


def _write_at(output, offset: int, content: bytes) -> int:
    output.seek(offset)
    rest = memoryview(content)
    while len(rest):  # a full disk may take only part of it
        rest = rest[output.write(rest) :]
    return zlib.crc32(content)
