"""The file formats in which ECGs are exported: one function and one row for each format.

A reader takes an `EcgFile` and returns a `Recording`, or None where the file is not of its format, or raises
`EcgFileError` where it is but has a defect. It ends in `recording.assemble`. The content decides, never the
name of the file.
"""

from collections.abc import Callable
from pathlib import Path

from ecg.formats.by_ecgdatakit import READERS, wfdb_signal_files
from ecg.formats.cardiosoft import read_cardiosoft
from ecg.formats.ecg_file import EcgFile
from ecg.formats.hospital import read_hospital
from ecg.formats.schiller import read_schiller
from ecg.recording import EcgFileError, PathLike, Recording, hindrance, quote

# The first that knows a file reads it. The hospital's format, which may have any root, comes last.
FORMATS: dict[str, Callable[[EcgFile], Recording | None]] = {
    "GE CardioSoft": read_cardiosoft,
    "Schiller EDI": read_schiller,
    **READERS,
    "hospital": read_hospital,
}


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
        for read in FORMATS.values():
            recording = read(file)
            if recording is not None:
                return recording
    except (ImportError, MemoryError, OSError) as error:
        raise hindrance(path, error) from error
    raise EcgFileError(path, _what_it_is(file), f"an ECG in one of the known formats: {', '.join(FORMATS)}")


def companion_files(path: PathLike, content: bytes) -> list[Path]:
    """Return the other files that hold a file's signal: those of a WFDB header; other formats have none.

    Raises
    ------
    EcgFileError
        A WFDB header that is refused.
    """
    return wfdb_signal_files(path, content) or []


def _what_it_is(file: EcgFile) -> str:
    if file.root is not None:
        return f"root element {quote(file.root.tag)} without a rhythm of the hospital's format"
    if file.content.startswith(b"PK\x03\x04"):
        return "a zip archive"
    beginning = file.content[:4].hex(" ")  # not as text, which could be a name
    return f"no format that is known, beginning with the bytes {beginning}"
