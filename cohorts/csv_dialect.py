"""How spreadsheets write a table: encodings, separators, ``sep=;``, decimal commas; packed, or as .xlsx."""

import gzip
import io
import re
import zlib
from pathlib import Path

from cohorts.workbook import as_csv
from runtime.errors import UserError, reason

UTF_16 = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}  # marks at the beginning
GZIP, ZIP, OLE = b"\x1f\x8b", b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
# What files that are not tables begin with, in lower case.
OTHER_KINDS = {
    OLE: "a workbook of Excel before 2007, or one with a password, expected CSV: save it as CSV",
    b"%pdf": "a PDF, expected CSV",
    b"\x89png": "a picture, expected CSV",
    b"\xff\xd8\xff": "a picture, expected CSV",
    b"{\\rtf": "a text document (RTF), expected CSV",
    b"<!doctype": "a web page, which some programs export as .xls, expected CSV: open it and save it as CSV",
    b"<html": "a web page, which some programs export as .xls, expected CSV: open it and save it as CSV",
    b"<table": "a web page, which some programs export as .xls, expected CSV: open it and save it as CSV",
    b"<?xml": "XML, expected CSV: open it in a spreadsheet and save it as CSV",
    b"par1": "a Parquet file, expected CSV",
    b"sqlite format": "a database (SQLite), expected CSV",
    b"\x89hdf": "an HDF5 file, expected CSV",
}
MAX_UNPACKED = 256 * 2**20  # bytes of a packed table that is read as a whole
DECIMAL_COMMA = re.compile(r"([+-]?\d*),(\d+(?:[eE][+-]?\d+)?)")
FORMULA = re.compile(r'="([^"]*)"')


def table_text(path: Path, what: str = "table") -> tuple[bytes, str]:
    """Return a table's bytes as CSV, and their encoding, whatever a spreadsheet saved it as.

    Parameters
    ----------
    what : what the table is called where it cannot be read.

    Raises
    ------
    UserError : it cannot be read, or is not a table.
    """
    try:
        content = path.read_bytes()
        if packed := content.startswith(GZIP):
            with gzip.open(io.BytesIO(content)) as unpacked:
                content = unpacked.read(MAX_UNPACKED + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: the {what} cannot be read ({reason(error)})") from None
    if packed and len(content) > MAX_UNPACKED:
        raise UserError(f"{path}: found a packed table of more than {MAX_UNPACKED:,} bytes, unpack it first")
    if content.startswith(ZIP):
        content = as_csv(path, content)
    check_kind(path, content[:64])
    return content, encoding_of(content)


def check_kind(path: Path, beginning: bytes) -> None:
    """Raise a UserError that names what a file is, where its first bytes say that it is not a table."""
    start = beginning.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for mark, found in OTHER_KINDS.items():
        if start.startswith(mark):
            raise UserError(f"{path}: found {found}")


def encoding_of(content: bytes) -> str:
    """Return a text's encoding: by its first bytes, else UTF-8 or, where it is not that, western Europe's."""
    if marked := marked_encoding(content):
        return marked
    for encoding in ("utf-8-sig", "cp1252"):  # as Excel in western Europe saves it
        try:
            content.decode(encoding)
            return encoding
        except UnicodeDecodeError:
            continue
    return "iso-8859-1"


def marked_encoding(beginning: bytes) -> str | None:
    """Return the encoding that a text's first bytes tell, None where they tell none."""
    if beginning[:2] in UTF_16:
        return UTF_16[beginning[:2]]
    if beginning[:1] and beginning[1:2] == b"\0":  # a letter of UTF-16 without its mark
        return "utf-16-le"
    return "utf-16-be" if beginning[:1] == b"\0" and beginning[1:2] else None


def separator_of(line: str, separators: str = ",;\t") -> tuple[str, bool]:
    """Return what separates the fields of the first line, and whether the line says only that: ``sep=;``."""
    declared = re.fullmatch(rf'"?sep=([{separators}])"?[{separators}]*\s*', line.lower())
    return (declared[1], True) if declared else (max(separators, key=line.count), False)


def decimal_point(field: str) -> str:
    """Return 61.5 for 61,5, which is how a number looks in the languages that separate by semicolons."""
    number = DECIMAL_COMMA.fullmatch(field)
    return f"{number[1]}.{number[2]}" if number else field


def without_formula(field: str) -> str:
    """Return 0017 for ="0017", with which programs keep a spreadsheet from reading a text as a number."""
    formula = FORMULA.fullmatch(field)
    return formula[1] if formula else field
