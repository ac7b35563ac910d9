"""HDF5, and MAT files of version 7.3, which are HDF5: a data set of an ECG, or several by name.

The optional package `pyfive` reads it, which is Python throughout: a damaged file cannot crash it as it can
the C library, no plug-in is loaded, and no other file is opened. It reads from memory, and what it reads is
counted, so that structures that lead in circles end; what is compressed is inflated here first, up to the
size that it declares.
"""

from __future__ import annotations

import io
import warnings
import zlib
from typing import Any

import numpy as np

from ecg.formats.ecg_file import EcgFile
from ecg.formats.plain_numbers import MAX_NUMBERS, array_of, check_array, recording_of_array
from ecg.formats.statement import statement_for
from ecg.recording import EcgFileError, Recording, quote

FILE_FORMAT = "HDF5"
MAX_OBJECTS = 1000  # groups and data sets
MAX_DEPTH = 8  # of groups within groups
MAX_READS = 20_000
MAX_BYTES_READ = 200_000_000
MAX_CHUNK_BYTES = 8 * MAX_NUMBERS
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_PLACES = (0, 512, 1024, 2048)  # where the signature may stand; MATLAB's text comes before it
_GZIP, _SHUFFLE, _CHECKSUM = 1, 2, 3  # the filters that are read
_OF_MATLAB = "#refs#"  # where MATLAB keeps what cells hold


class _TooMuch(Exception):
    """More was read than a file of one ECG needs."""


class _CountedReads(io.BytesIO):
    """A file in memory that ends a reader which does not come to an end."""

    n_reads = n_bytes = 0

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self.n_reads, self.n_bytes = self.n_reads + 1, self.n_bytes + len(content)
        if self.n_reads > MAX_READS or self.n_bytes > MAX_BYTES_READ:
            raise _TooMuch
        return content


def is_hdf5(content: bytes) -> bool:
    """Whether the signature stands at one of the first places that it may have."""
    return any(content.startswith(_SIGNATURE, place) for place in _PLACES)


def read_hdf5(file: EcgFile) -> Recording | None:
    """The only data set of 12 rows or columns, or the one that is stated."""
    if not is_hdf5(file.content):
        return None
    what = "a MATLAB 7.3 file (HDF5)" if file.content.startswith(b"MATLAB") else "an HDF5 file"
    import pyfive

    statement = statement_for(file.path, what)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            datasets = _datasets(pyfive.File(_CountedReads(file.content)), pyfive.Dataset)
            shapes = {name: shape for name, (shape, dtype, _) in datasets.items() if dtype.kind in "iuf"}
            shape, dtype, dataset = datasets[array_of(shapes, statement, file, what)]
            check_array(shape, dtype, file)
            _check_storage(dataset.id, dtype, file)
            array = np.asarray(dataset[...])
    except (EcgFileError, ImportError, MemoryError):  # the last two are not the file's fault
        raise
    except _TooMuch as error:
        raise EcgFileError(file.path, f"{what} of more parts than one ECG needs", "one ECG") from error
    except Exception as error:  # whatever pyfive meets in a damaged file
        found = f"{what} that is damaged, or stored in a way that is not read ({type(error).__name__})"
        raise EcgFileError(file.path, found, "data sets in the file itself, as h5py writes them") from error
    return recording_of_array(FILE_FORMAT, array, statement, file)


def _datasets(root: Any, kind: type) -> dict[str, tuple[tuple[int, ...], np.dtype, Any]]:
    """Return shape, type and data set of each data set in a file, by its path."""
    found, groups, n_objects = {}, [(root, "", 0)], 0
    while groups:
        group, path, depth = groups.pop()
        for name in group:
            n_objects += 1
            if n_objects > MAX_OBJECTS or depth > MAX_DEPTH:
                raise _TooMuch
            if name == _OF_MATLAB:
                continue
            item = group.get_lazy_view(name)
            if isinstance(item, kind):
                found[path + name] = (tuple(item.shape), _dtype(item), item)
            elif hasattr(item, "get_lazy_view"):
                groups.append((item, f"{path}{name}/", depth + 1))
    return found


def _dtype(dataset: Any) -> np.dtype:
    """Return the type of a data set; that of objects for what NumPy has no type for."""
    return dataset.dtype if isinstance(dataset.dtype, np.dtype) else np.dtype(object)


def _check_storage(stored: Any, dtype: np.dtype, file: EcgFile) -> None:
    """Refuse what lies outside of the file, is compressed otherwise, or expands to more than it declares."""
    expected = "data in the file itself, compressed by gzip or not at all"
    filters = [entry["filter_id"] for entry in stored.filter_pipeline or []]
    if not {_GZIP, _SHUFFLE, _CHECKSUM} >= set(filters) or filters.count(_GZIP) > 1:
        raise EcgFileError(file.path, f"a data set with the filters {quote(str(filters[:8]))}", expected)
    if stored.layout_class == 1 and not 0 <= stored.data_offset < len(file.content):
        raise EcgFileError(file.path, "a data set that is empty, or stored in another file", expected)
    if stored.layout_class not in (0, 1, 2):
        raise EcgFileError(file.path, "a virtual data set", expected)
    if stored.layout_class != 2:
        return
    chunk_bytes = int(np.prod([float(n) for n in stored.chunks])) * dtype.itemsize
    n_chunks = stored.get_num_chunks()
    if chunk_bytes * max(n_chunks, 1) > 4 * MAX_CHUNK_BYTES:
        raise EcgFileError(file.path, f"{n_chunks:,} chunks of {chunk_bytes:,} bytes", "one ECG")
    for number in range(n_chunks if _GZIP in filters else 0):
        mask, content = stored.read_direct_chunk(stored.get_chunk_info(number).chunk_offset)
        # What is no checksum was compressed last, and is inflated first.
        content = content[:-4] if filters[-1] == _CHECKSUM else content
        skipped = mask & (1 << filters.index(_GZIP))
        if not skipped and len(zlib.decompressobj().decompress(content, chunk_bytes + 5)) > chunk_bytes + 4:
            raise EcgFileError(file.path, "a chunk that expands to more than it declares", "one ECG")
