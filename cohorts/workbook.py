"""An Excel workbook (.xlsx) as the text that it shows, through the optional package openpyxl."""

import csv
import io
import re
import zipfile
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from runtime.errors import UserError, one_line

MAX_BYTES = 256 * 2**20  # of a workbook's parts, unpacked
MAX_CELLS = 30_000_000  # of a sheet, empty ones included
SAVE = "save it as CSV"


def as_csv(path: Path, content: bytes) -> bytes:
    """Return the first sheet that is not empty as CSV in UTF-8; a row is a line, if no cell has several.

    Formulas count with the values that were saved. A date without a time of day stays one, and a number
    keeps the zeros in front that its format shows.

    Raises
    ------
    UserError : it is another zip archive, openpyxl is missing, or the workbook is damaged, empty or absurdly
        large.
    """
    _check_archive(path, content)
    try:
        from openpyxl import load_workbook
    except ImportError:
        expected = f"expected CSV, or the package that reads it: {SAVE}, or pip install openpyxl"
        raise UserError(f"{path}: found an Excel workbook, {expected}") from None
    try:
        book = load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        sheets = {sheet.title: _lines(sheet) for sheet in book.worksheets if sheet.sheet_state == "visible"}
    except Exception as error:  # openpyxl raises what its parsers raise: KeyError, ParseError, BadZipFile, …
        found = f"found an Excel workbook that cannot be read ({one_line(error)})"
        raise UserError(f"{path}: {found}, expected a whole one: {SAVE}") from None
    sheets = {title: lines for title, lines in sheets.items() if any(map(any, lines))}
    if not sheets:
        raise UserError(f"{path}: found an Excel workbook without any cell, expected a table")
    title = next(iter(sheets))
    if len(sheets) > 1:
        print(f"note        {path} has {len(sheets)} sheets: the first, {title}, is read")
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(sheets[title])
    return text.getvalue().encode()


def _check_archive(path: Path, content: bytes) -> None:
    """Raise the error of a zip archive that is not an .xlsx of bearable size."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            sizes = {part.filename: part.file_size for part in archive.infolist()}
    except zipfile.BadZipFile as error:
        found = f"found a workbook or another zip archive that cannot be read ({one_line(error)})"
        raise UserError(f"{path}: {found}, expected a whole one: {SAVE}") from None
    if "xl/workbook.xml" not in sizes:
        kind = "a spreadsheet of LibreOffice" if "content.xml" in sizes else "a zip archive"
        kind = "an Excel workbook of the binary kind (.xlsb)" if "xl/workbook.bin" in sizes else kind
        raise UserError(f"{path}: found {kind}, expected CSV: {SAVE}")
    if sum(sizes.values()) > MAX_BYTES:
        found = f"found an Excel workbook of {sum(sizes.values()):,} bytes when unpacked"
        raise UserError(f"{path}: {found}, expected at most {MAX_BYTES:,}: {SAVE}")


def _lines(sheet: Any) -> list[list[str]]:
    """Return a sheet's rows as text, of one length, so that columns stay where they are."""
    sheet.reset_dimensions()  # a file may declare a million columns and have two
    lines = [[_text(cell) for cell in row] for row in sheet.iter_rows()]
    lines = [line[: max((n for n, text in enumerate(line, 1) if text), default=0)] for line in lines]
    width = max(map(len, lines), default=0)
    if width * len(lines) > MAX_CELLS:
        raise ValueError(f"a sheet of {len(lines):,} rows and {width:,} columns")
    return [line + [""] * (width - len(line)) for line in lines]


def _text(cell: Any) -> str:
    """Return what a cell shows, in the words of a CSV."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, datetime):
        shows_time = re.search("[hs]", re.sub(r'"[^"]*"|\\.|\[[^]]*\]', "", cell.number_format or ""), re.I)
        return str(value.date() if value.time() == time() and not shows_time else value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, int | float):
        whole = f"{value:.0f}" if value == int(value) else repr(value)
        zeros = re.fullmatch("0{2,}", cell.number_format or "")
        return whole.zfill(len(zeros[0])) if zeros and whole.isdigit() else whole
    return " ".join(str(value).split())
