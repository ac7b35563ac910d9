"""What a file is that is not an ECG of a known format, by its content, and what to do about it.

Folders of ECGs also hold prints, pictures, archives, workbooks and texts; each is named as what it is. These
signatures are looked at last, as the first bytes of an ECG file may be anything: those of SCP-ECG are a
checksum, and those of DICOM may be a TIFF's.
"""

from __future__ import annotations

from typing import NamedTuple

from ecg.formats.xml_tree import looks_like_html

_EXPORT = "the ECG itself, exported as data (XML, DICOM, SCP-ECG, …): "
_PICTURE = f"{_EXPORT}a picture has no signal that could be read exactly"
_UNPACK = "the files in it: unpack it"
_TABLE = "an ECG; its numbers can be saved as CSV"
_DATA = "an ECG, or its numbers as CSV, NPY, MAT or HDF5"

# The first bytes of a file: what it is, and what is expected instead.
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"%PDF", "a PDF", f"{_EXPORT}a print has no signal that could be read exactly"),
    (b"%!PS", "a PostScript print", f"{_EXPORT}a print has no signal that could be read exactly"),
    (b"\x89PNG", "a PNG picture", _PICTURE),
    (b"\xff\xd8\xff", "a JPEG picture", _PICTURE),
    (b"GIF8", "a GIF picture", _PICTURE),
    (b"BM", "a BMP picture", _PICTURE),
    (b"II*\0", "a TIFF picture", _PICTURE),
    (b"MM\0*", "a TIFF picture", _PICTURE),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture", _PICTURE),
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ\0", "an xz archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"MSCF", "a CAB archive", _UNPACK),
    (b"\xd0\xcf\x11\xe0", "an old Office file (xls, doc, ppt, msg) or Thumbs.db", _TABLE),
    (b"{\\rtf", "a text document (RTF)", _DATA),
    (b"\x1aE\xdf\xa3", "a video", _PICTURE),
    (b"PAR1", "a Parquet table", _DATA),
    (b"ARROW1", "a Feather table", _DATA),
    (b"SQLite format 3", "an SQLite database", _DATA),
    (b"MZ", "a Windows program", "an ECG; if it shows one, let it export the ECG as data"),
    (b"\x7fELF", "a program", "an ECG"),
    (b"\xffBIOSEMI", "a BDF file of 24 bits", "an EDF: most programs that write BDF can write it too"),
    *(
        (b"\x80" + bytes([version, 0x95]), "a Python pickle, which is never loaded", _DATA)
        for version in (4, 5)
    ),
    *((b"\x80" + bytes([version]), "a Python pickle, which is never loaded", _DATA) for version in (2, 3)),
)
# What stands further inside: position, bytes, what it is, what is expected instead.
_INSIDE = (
    (257, b"ustar", "a tar archive", _UNPACK),
    (4, b"ftyp", "a video or HEIC picture", _PICTURE),
    (8, b"AVI ", "a video", _PICTURE),
    (8, b"WEBP", "a WebP picture", _PICTURE),
)
# What a name in a zip archive tells of it.
_ZIPPED = (
    (b"xl/workbook", "an Excel workbook", _TABLE),
    (b"word/document", "a Word document", _DATA),
    (b"ppt/presentation", "a PowerPoint presentation", _PICTURE),
    (b"mimetypeapplication/vnd.oasis.opendocument", "an OpenDocument file", _TABLE),
    (b"data.pkl", "a PyTorch file, which holds a pickle and is never loaded", _DATA),
)
_PROSE = 4096  # bytes at the beginning of a file that decide whether it is text


class OtherFile(NamedTuple):
    """What a file is, and what was expected in its place."""

    found: str
    expected: str


def of_another_kind(content: bytes) -> OtherFile | None:
    """Return what the content of a file is by its signature, or None where it has none that is known."""
    if looks_like_html(content):
        return OtherFile("an HTML page", f"{_EXPORT}a page has no signal that could be read exactly")
    if content.startswith(b"PK\x03\x04"):
        found = [(found, expected) for name, found, expected in _ZIPPED if name in content]
        return OtherFile(*found[0]) if found else OtherFile("a zip archive", _UNPACK)
    for beginning, found, expected in _SIGNATURES:
        if content.startswith(beginning):
            return OtherFile(found, expected)
    for position, signature, found, expected in _INSIDE:
        if content.startswith(signature, position):
            return OtherFile(found, expected)
    return None


def what_it_is(content: bytes, known_formats: str) -> OtherFile:
    """Return what the content of a file is that no reader knows.

    Parameters
    ----------
    content : bytes
    known_formats : str
        The names of the formats that are read.
    """
    known = f"an ECG in one of the known formats: {known_formats}"
    if other := of_another_kind(content):
        return other
    if not content.strip(b"\0"):
        return OtherFile("a file of zeros only", "an ECG: copy it again, as it was perhaps not written whole")
    if _is_text(content):
        kind = "JSON" if content.lstrip().startswith(b"{") else "a text"
        return OtherFile(f"{kind} without twelve columns or rows of numbers", known)
    return OtherFile("a binary file of no format that is known", known)


def _is_text(content: bytes) -> bool:
    beginning = content[:_PROSE]
    if beginning.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    controls = bytes(range(9)) + bytes(range(14, 32)) + b"\x7f"  # all but tab, line ends and form feed
    return beginning.translate(None, controls) == beginning
