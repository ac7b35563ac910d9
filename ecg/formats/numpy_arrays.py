"""NPY and NPZ, the files of `numpy.save` and `numpy.savez`: an array of an ECG, or several by name.

Nothing is unpickled, and what a header declares is checked before it is read.
https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
import warnings
import zipfile
import zlib

import numpy as np

from ecg.formats.ecg_file import EcgFile
from ecg.formats.plain_numbers import array_of, check_array, recording_of_array
from ecg.formats.statement import statement_for
from ecg.recording import EcgFileError, Recording

FILE_FORMAT = "NumPy"
MAX_MEMBERS = 1000  # of an NPZ
MAX_NPY_BYTES = 61_000_000  # 7.5 million numbers of 8 bytes, and a header
_MAGIC, _ZIP = b"\x93NUMPY", b"PK\x03\x04"
_CENTRAL_DIRECTORY = b"PK\x01\x02"  # begins the entry of each member
_Header = tuple[tuple[int, ...], bool, np.dtype]  # shape, whether in Fortran's order, type


def is_numpy(content: bytes) -> bool:
    """Whether a file is an NPY, or a zip archive whose first member is called .npy."""
    name = content[30 : 30 + int.from_bytes(content[26:28], "little")]
    return content.startswith(_MAGIC) or (content.startswith(_ZIP) and name.endswith(b".npy"))


def read_numpy(file: EcgFile) -> Recording | None:
    """The only array, or the one that is stated; 12 rows or columns."""
    if not is_numpy(file.content):
        return None
    what = "a NumPy array" if file.content.startswith(_MAGIC) else "a NumPy archive (NPZ)"
    statement = statement_for(file.path, what)
    if file.content.startswith(_MAGIC):
        return recording_of_array(FILE_FORMAT, _array(file.content, file), statement, file)
    if file.content.count(_CENTRAL_DIRECTORY) > MAX_MEMBERS:
        raise EcgFileError(file.path, f"{what} of more than {MAX_MEMBERS:,} arrays", "one ECG")
    try:
        with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            shapes = {name: _member_shape(archive, info) for name, info in members.items()}
            arrays = {name: shape for name, shape in shapes.items() if shape is not None}
            name = array_of(arrays, statement, file, what)
            content = _beginning(archive, members[name], MAX_NPY_BYTES)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        if isinstance(error, EcgFileError):
            raise
        found = f"{what} that is damaged or packed in another way ({type(error).__name__})"
        raise EcgFileError(file.path, found, "a file as numpy.savez writes it") from error
    return recording_of_array(FILE_FORMAT, _array(content, file), statement, file)


def _beginning(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    """Return at most so many bytes of a member; what a bomb expands to beyond is not inflated."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise NotImplementedError
    with archive.open(info) as member:
        return member.read(most)


def _member_shape(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[int, ...] | None:
    """Return the shape of an array of real numbers in an archive, or None for anything else."""
    try:
        shape, _, dtype = _header(io.BytesIO(_beginning(archive, info, 16_384)))
    except (ValueError, zipfile.BadZipFile, NotImplementedError):
        return None
    return shape if dtype.kind in "iuf" else None


def _array(content: bytes, file: EcgFile) -> np.ndarray:
    """Return the array of an NPY, read-only.

    Raises
    ------
    EcgFileError
        Objects, which would be unpickled; not of real numbers; not complete.
    """
    stream = io.BytesIO(content)
    try:
        shape, fortran, dtype = _header(stream)
    except ValueError as error:
        found = "a NumPy array with a header that is damaged or not known"
        raise EcgFileError(file.path, found, "a file as numpy.save writes it") from error
    check_array(shape, dtype, file)
    n_bytes, start = int(np.prod(shape)) * dtype.itemsize, stream.tell()
    if len(content) - start < n_bytes:
        found = f"{len(content) - start:,} of {n_bytes:,} bytes of an array"
        raise EcgFileError(file.path, found, "a complete file")
    return np.frombuffer(content, dtype, int(np.prod(shape)), start).reshape(
        shape, order="F" if fortran else "C"
    )


def _header(stream: io.BytesIO) -> _Header:
    """Return what the header of an NPY declares.

    Raises
    ------
    ValueError : it is damaged; version 3 is for names of fields alone, which no array of numbers has.
    """
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(stream)
    if version not in readers:
        raise ValueError("another version")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a header that Python 2 wrote
        try:
            return readers[version](stream)
        except Exception as error:  # of ast and tokenize, which take the header apart
            raise ValueError("damaged") from error
