"""MAT files of MATLAB and Octave: versions 4 to 7, whose elements are tagged one after another.

They are read here, and not by SciPy, because what an element declares and expands to must be checked before
it is inflated, which takes the same steps as reading it. Version 7.3 is HDF5 (`hdf5.py`).
https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.formats.ecg_file import EcgFile
from ecg.formats.plain_numbers import MAX_NUMBERS, array_of, check_array, recording_of_array
from ecg.formats.statement import statement_for
from ecg.recording import EcgAccessError, EcgFileError, Recording

FILE_FORMAT = "MATLAB"
MAX_ELEMENTS = 1000  # variables of one file
MAX_INFLATED = 8 * MAX_NUMBERS + 1000  # bytes of all variables
_MATRIX, _COMPRESSED = 14, 15
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMERIC_CLASSES = range(6, 16)  # double to uint64
_COMPLEX, _LOGICAL = 0x0800, 0x0200
_TYPES_4 = ("f8", "f4", "i4", "i2", "u2", "u1")


class _Variable(NamedTuple):
    """An array of numbers: its shape, and its values as they are stored, in Fortran's order."""

    shape: tuple[int, ...]
    dtype: np.dtype
    content: bytes


def is_matlab(content: bytes) -> bool:
    """Whether a file is a MAT file of version 4 to 7."""
    return _is_5(content) or _header_4(content, 0) is not None


def read_matlab(file: EcgFile) -> Recording | None:
    """The only array of 12 rows or columns, or the one that is stated; those of PhysioNet by their header."""
    if not is_matlab(file.content):
        return None
    header = Path(file.path).with_suffix(".hea")
    if header != Path(file.path) and header.is_file():  # which says nothing about this file: not remembered
        found = f"the signal file of a WFDB header, {header.name}"
        raise EcgAccessError(file.path, found, "that header, which has its rate, unit and leads")
    what = "a MATLAB file"
    statement = statement_for(file.path, what)
    try:
        variables = dict(_variables_5(file) if _is_5(file.content) else _variables_4(file.content))
    except (struct.error, zlib.error, IndexError, ValueError) as error:
        if isinstance(error, EcgFileError):
            raise
        raise EcgFileError(file.path, f"{what} that is damaged", "a complete MAT file") from error
    name = array_of({name: variable.shape for name, variable in variables.items()}, statement, file, what)
    shape, dtype, content = variables[name]
    check_array(shape, dtype, file)
    count = int(np.prod(shape))
    if len(content) != count * dtype.itemsize:
        found = f"{len(content):,} bytes of an array of {count * dtype.itemsize:,}"
        raise EcgFileError(file.path, found, "a complete MAT file")
    array = np.frombuffer(content, dtype, count).reshape(shape, order="F")
    return recording_of_array(FILE_FORMAT, array, statement, file)


def _is_5(content: bytes) -> bool:
    return content.startswith(b"MATLAB") and content[124:128] in (b"\0\x01IM", b"\x01\0MI")


def _variables_5(file: EcgFile) -> Iterator[tuple[str, _Variable]]:
    """Yield the arrays of numbers of a file of versions 5 to 7; texts, cells, structures are left out.

    Raises
    ------
    struct.error, zlib.error, ValueError : it is damaged.
    EcgFileError : it expands to more than an ECG has.
    """
    content, order = file.content, "<" if file.content[126:128] == b"IM" else ">"
    position, n_elements, n_bytes = 128, 0, 0
    while position + 8 <= len(content):
        kind, size = struct.unpack_from(order + "II", content, position)
        if size > len(content) - position - 8:
            raise EcgFileError(file.path, "a MATLAB file that ends within an array", "a complete MAT file")
        element = content[position + 8 : position + 8 + size]
        position += 8 + size + (-size % 8 if kind != _COMPRESSED else 0)
        if kind == _COMPRESSED:
            element = zlib.decompressobj().decompress(element, MAX_INFLATED - n_bytes + 1)
            kind, element = struct.unpack_from(order + "I", element)[0], element[8:]
        n_elements, n_bytes = n_elements + 1, n_bytes + len(element)
        if n_elements > MAX_ELEMENTS or n_bytes > MAX_INFLATED:
            found = f"a MATLAB file of {n_elements:,} arrays and {n_bytes:,} bytes or more"
            raise EcgFileError(file.path, found, f"at most {MAX_ELEMENTS:,} and {MAX_INFLATED:,}")
        if kind == _MATRIX and (variable := _matrix(element, order)) is not None:
            yield variable


def _matrix(element: bytes, order: str) -> tuple[str, _Variable] | None:
    """Return the name and the array of an element, or None where it is not one of real numbers."""
    parts = _parts(element, order)
    flags = struct.unpack_from(order + "I", next(parts)[1])[0]
    if flags & 0xFF not in _NUMERIC_CLASSES or flags & (_COMPLEX | _LOGICAL):
        return None
    _, dimensions = next(parts)
    shape = struct.unpack(f"{order}{len(dimensions) // 4}i", dimensions[: len(dimensions) // 4 * 4])
    name = next(parts)[1].decode("latin-1")
    kind, values = next(parts)
    if kind not in _TYPES:
        return None
    return name, _Variable(shape, np.dtype(order + _TYPES[kind]), values)


def _parts(element: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of what a matrix consists of; up to four bytes stand within the tag itself."""
    position = 0
    while True:
        (tag,) = struct.unpack_from(order + "I", element, position)
        if tag >> 16:
            yield tag & 0xFFFF, element[position + 4 : position + 4 + min(tag >> 16, 4)]
            position += 8
        else:
            (size,) = struct.unpack_from(order + "I", element, position + 4)
            yield tag, element[position + 8 : position + 8 + size]
            position += 8 + size + -size % 8


def _header_4(content: bytes, position: int) -> tuple[str, _Variable, int] | None:
    """Return name, array (empty) and length of a variable of version 4, or None where there is none.

    It has no signature: the type is a number MOPT of four digits, and the name ends in a zero.
    """
    for order in "<>":
        if position + 20 > len(content):
            return None
        mopt, rows, columns, imaginary, length = struct.unpack_from(order + "5I", content, position)
        machine, precision, kind = mopt // 1000, mopt // 10 % 10, mopt % 10
        known = mopt < 5000 and machine == "<>".index(order) and mopt // 100 % 10 == 0 and kind == 0
        known = known and precision < len(_TYPES_4) and imaginary == 0 and 2 <= length <= 64
        name = content[position + 20 : position + 20 + length]
        if known and name.endswith(b"\0") and name[:-1].replace(b"_", b"a").isalnum():
            variable = _Variable((rows, columns), np.dtype(order + _TYPES_4[precision]), b"")
            return name[:-1].decode("ascii"), variable, 20 + length
    return None


def _variables_4(content: bytes) -> Iterator[tuple[str, _Variable]]:
    """Yield the arrays of a file of version 4 as far as they are of real numbers."""
    position = 0
    for _ in range(MAX_ELEMENTS):
        header = _header_4(content, position)
        if header is None:
            break
        name, variable, length = header
        start = position + length
        position = start + variable.shape[0] * variable.shape[1] * variable.dtype.itemsize
        yield name, variable._replace(content=content[start:position])
