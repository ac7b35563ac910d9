"""How spreadsheets write a table as text: encoding, separator, the line ``sep=;``, the decimal comma."""

import re

from runtime.errors import UserError

WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx and .ods, which are zip archives; .xls
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
DECIMAL_COMMA = re.compile(r"([+-]?\d+),(\d+)")


def decoded(path: object, content: bytes) -> tuple[str, str]:
    """Return a table's text and its encoding.

    Raises
    ------
    UserError : it is a workbook, not text.
    """
    if content.startswith(WORKBOOKS):
        raise UserError(
            f"{path}: found a workbook of Excel or another spreadsheet, expected CSV: save it as CSV"
        )
    encoding = "utf-16" if content.startswith(UTF_16_MARKS) else "utf-8-sig"  # Excel's "Unicode text"
    try:
        return content.decode(encoding), encoding
    except UnicodeDecodeError:
        encoding = "iso-8859-1"  # as Excel in western Europe saves it
        return content.decode(encoding), encoding


def separator_of(line: str, separators: str = ",;\t") -> tuple[str, bool]:
    """Return what separates the fields of the first line, and whether the line says only that: ``sep=;``."""
    declared = re.fullmatch(rf'"?sep=([{separators}])"?[{separators}]*\s*', line.lower())
    return (declared[1], True) if declared else (max(separators, key=line.count), False)


def decimal_point(field: str) -> str:
    """Return 61.5 for 61,5, which is how a number looks in the languages that separate by semicolons."""
    number = DECIMAL_COMMA.fullmatch(field)
    return f"{number[1]}.{number[2]}" if number else field
