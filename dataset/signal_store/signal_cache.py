"""Files -> one memory-mapped array of signals at rest; each file is parsed and measured once.

The cache of a data folder holds ``signals.int16``, rows of (12, 5000) int16 in microvolts one after another;
``measurements``, a record of ``ecg.quality.MEASUREMENTS`` for each of these rows; and ``index``: for each
file its size and times, the digest of its content, its format, its row with checksums, or the reason why it
was rejected. A file whose size and times are as before is not even opened, one whose content is known is not
parsed again, everything else is.
"""

import hashlib
import zlib
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dataset.signal_store.cache_folder import ROW_BYTES, SIGNALS_FILE, CacheFolder
from dataset.signal_store.cache_index import Entry
from dataset.signal_store.file_identity import states_of
from dataset.signal_store.reading import read_stale_files
from ecg.fingerprint import N_BITS, fingerprints
from ecg.recording import LEADS, MIN_SECONDS
from runtime.errors import UserError

# Raise it with every change to a signal at rest, its measurements or the cache.
PARSER_VERSION = 6
CHUNK = 64  # ECGs that are read at once


@dataclass(frozen=True)
class CachedSignals:
    """The signals of a list of files.

    Attributes
    ----------
    signals : memory map of int16, shape (n_rows, 12, 5000), in microvolts, read-only.
    measurements : memory map of ``ecg.quality.MEASUREMENTS``, shape (n_rows,), read-only.
    entries : DataFrame, one row per requested file, in their order: file, digest of its content,
        file_format, row in ``signals`` or ``NO_ROW``, checksum (uint32, CRC-32 of that row), rejected (the
        reason, or "").
    n_parsed : how many files were read just now; the others were in the cache.
    folder : of the cache, which no other data folder has.
    """

    signals: np.ndarray
    measurements: np.ndarray
    entries: pd.DataFrame
    n_parsed: int
    folder: Path


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
    def from_entries(cls, memmap: np.memmap, entries: pd.DataFrame) -> "StoredSignals":
        """Return the signals of some ``entries`` of ``CachedSignals``, all of which have a row."""
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
        out[:] = 0  # where the file was cut meanwhile; the checksum will differ
        with open(self.memmap.filename, "rb", buffering=0) as handle:
            for ecg, signal in zip(ecgs, out, strict=True):
                handle.seek(int(self.rows[ecg]) * ROW_BYTES[SIGNALS_FILE])
                handle.readinto(memoryview(signal).cast("B"))
                if zlib.crc32(signal) != self.checksums[ecg]:
                    path = Path(self.memmap.filename)
                    raise UserError(
                        f"{path}: the signal of {self.files[ecg]} is damaged (its CRC-32 is not as written); "
                        f"delete the folder {path.parent}, and the files are read again"
                    )
        return out


def fingerprints_of(signals: StoredSignals, ecgs: np.ndarray) -> np.ndarray:
    """Return what recognises some of the recordings in other files, uint8 (n, 16): ``ecg.fingerprint``."""
    chunks = (ecgs[first : first + CHUNK] for first in range(0, len(ecgs), CHUNK))
    found = [fingerprints(signals.read(chunk)) for chunk in chunks]
    return np.concatenate(found) if found else np.empty((0, N_BITS // 8), np.uint8)


def cached_signals(
    data_dir: str | Path,
    files: Sequence[str],
    *,
    cache_dir: str | Path,
    workers: int = 0,
    window_start: float = 0.0,
    min_seconds: float = MIN_SECONDS,
    min_leads: int = len(LEADS),
) -> CachedSignals:
    """Return the signals of ``files``, reading those that the cache lacks.

    Parameters
    ----------
    data_dir : the folder that ``files`` are relative to.
    cache_dir : folder of all caches; each data folder has a folder of its own there, which is only read where
        it has all files as they are.
    workers : processes that read files; 0: one per core.
    window_start : seconds into each recording at which its 10 s begin; each value has a cache of its own.
    min_seconds, min_leads : shorter recordings, and those of fewer leads, are rejected; each value has a
        cache of its own.

    Raises
    ------
    UserError : the cache cannot be written, or a reading process was killed.
    """
    resolved = str(Path(data_dir).resolve())
    name = f"{Path(resolved).name}-{hashlib.sha256(resolved.encode()).hexdigest()[:12]}-v{PARSER_VERSION}"
    name += f"-from{window_start:g}s" if window_start else ""
    name += f"-least{min_seconds:g}s" if min_seconds != MIN_SECONDS else ""
    name += f"-{min_leads}leads" if min_leads != len(LEADS) else ""
    cache = CacheFolder(Path(cache_dir) / name)
    states = states_of(data_dir, files)
    n_parsed, unread = 0, {}
    try:
        cache.load()
        if not cache.current(files, states).all():
            with cache.lock():
                cache.load()
                cache.mend()
                n_parsed, unread = read_stale_files(
                    cache,
                    data_dir,
                    files,
                    states,
                    workers=workers,
                    window_start=window_start,
                    min_seconds=min_seconds,
                    min_leads=min_leads,
                )
                cache.load()
    except OSError as error:
        raise UserError(
            f"{cache.path}: the cache cannot be written ({error.strerror}); name another with --cache-dir"
        ) from None
    except BrokenProcessPool:
        raise UserError(
            f"{data_dir}: a process that read files was killed, perhaps for memory; try --workers 1"
        ) from None
    return CachedSignals(*cache.map(), _entries(cache, files, unread), n_parsed, cache.path)


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
