"""The file formats in which ECGs are exported: one function and one row for each format.

A reader takes an `EcgFile` and returns a `Recording`, or None where the file is not of its format, or raises
`EcgFileError` where it is but has a defect. It ends in `recording.assemble`. The content decides, never the
name of the file.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ecg.formats.by_ecgdatakit import READERS, as_it_lies, wfdb_signal_files
from ecg.formats.cardiosoft import read_cardiosoft
from ecg.formats.ecg_file import EcgFile
from ecg.formats.edf import read_edf
from ecg.formats.hdf5 import is_hdf5, read_hdf5
from ecg.formats.hospital import read_hospital
from ecg.formats.matlab import is_matlab, read_matlab
from ecg.formats.number_table import is_number_table, read_number_table
from ecg.formats.numpy_arrays import is_numpy, read_numpy
from ecg.formats.other_files import what_it_is
from ecg.formats.schiller import read_schiller
from ecg.formats.statement import statement_file
from ecg.recording import EcgFileError, PathLike, Recording, hindrance, quote

# The first that knows a file reads it. The hospital's format, which may have any root, comes last.
FORMATS: dict[str, Callable[[EcgFile], Recording | None]] = {
    "GE CardioSoft": read_cardiosoft,
    "Schiller EDI": read_schiller,
    "EDF": read_edf,
    "CSV": read_number_table,
    "NumPy": read_numpy,
    "MATLAB": read_matlab,
    "HDF5": read_hdf5,
    **READERS,
    "hospital": read_hospital,
}

DEFECT = "the reader of the format"  # in an error that no reader means to raise

# Whether a file's content is of one of the formats whose sampling rate and unit `ecg_format.yml` states.
PLAIN_NUMBERS = (is_number_table, is_numpy, is_matlab, is_hdf5)


def read_any_format(path: PathLike) -> Recording:
    """Read a file with the reader that knows its format.

    Raises
    ------
    EcgFileError
        Anything is wrong with the file, or no reader knows it.
    EcgAccessError
        Something outside the file is wrong: a package, the disk, permissions, memory.
    """
    try:
        file = EcgFile(path)
        for file_format, read in FORMATS.items():
            with _defects_refused(path, file_format):
                recording = read(file)
            if recording is not None:
                return recording
    except (ImportError, MemoryError, OSError) as error:
        raise hindrance(path, error) from error
    if file.root is not None:
        found = f"root element {quote(file.root.tag)} without a rhythm of the hospital's format"
        raise EcgFileError(path, found, f"an ECG in one of the known formats: {', '.join(FORMATS)}")
    raise EcgFileError(path, *what_it_is(file.content, known_formats=", ".join(FORMATS)))


def companion_files(path: PathLike, content: bytes) -> list[Path]:
    """Return the other files that decide a file's signal, if it has any.

    These are the signal files of a WFDB header, and the `ecg_format.yml` of plain numbers.

    Raises
    ------
    EcgFileError
        A WFDB header that is refused.
    """
    with _defects_refused(path, "of plain numbers or WFDB"):
        if any(is_plain(content) for is_plain in PLAIN_NUMBERS):
            stated = statement_file(path)
            return [stated] if stated else []
        return [as_it_lies(signal_file) for signal_file in wfdb_signal_files(path, content) or []]


@contextmanager
def _defects_refused(path: PathLike, file_format: str) -> Iterator[None]:
    """Make what no reader means to raise an EcgFileError: its defect costs one file, and not the run."""
    try:
        yield
    except (EcgFileError, ImportError, MemoryError, OSError):
        raise
    except Exception as error:
        found = f"what {DEFECT} {file_format} cannot decode ({type(error).__name__})"
        raise EcgFileError(path, found, "a file as devices write it; please report this one") from error
