"""CSV, TSV and other text: twelve columns or rows of numbers, with or without the names of the leads.

Columns are separated by semicolons, commas, tabs or spaces; where commas do not separate, they may be decimal
commas. Sampling rate and unit are stated in `ecg_format.yml`.
"""

from __future__ import annotations

import codecs
import csv
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ecg.formats.ecg_file import EcgFile
from ecg.formats.numbers import number_or_nan
from ecg.formats.plain_numbers import recording_of_array, recording_of_rows
from ecg.formats.statement import Statement, statement_file, statement_for
from ecg.recording import LEADS, EcgFileError, PathLike, Recording, quote, standard_lead

FILE_FORMAT = "CSV"
MAX_TEXT_BYTES = 20_000_000
MAX_CELLS = 1_000_000  # each becomes a text in Python; 12 leads at 1 kHz for 80 s
MANY_COLUMNS = 400  # 8 s at 50 Hz, the lowest sampling rate that is read
MIN_NUMBERS = 8  # in a row, of a table that names no leads
MISSING = {"", "nan", "na", "n/a", "#n/a", "null", "none", "-"}  # a sample is; short gaps are filled
_BEGINNING = 65_536  # bytes of a file, which show whether it is such a table
_LINE = 4096  # characters of a line, for the same
_INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)
_PLAIN = re.compile(r"[0-9eE+\-.\n]*")
_UNIT_AT_END = re.compile(r"[\[(/]\s*(?P<unit>[nuµμm]?V)\s*[\])]?\Z", re.IGNORECASE)
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_CONTROLS = bytes({*range(32)} - {*b"\t\n\r\f\x1a"})  # which no text has


class _Layout(NamedTuple):
    """How a text is a table.

    Attributes
    ----------
    n_above : int
        Lines before the first row of numbers, without empty ones.
    separator : ";", ",", a tab, or None for white space
    names : list of str or None
        Of the columns, where at least two are leads.
    named_rows : bool
        Whether each row begins with the name of its lead.
    """

    n_above: int
    separator: str | None
    names: list[str] | None
    named_rows: bool


def is_number_table(content: bytes) -> bool:
    """Whether a file is text in which a row of numbers, or leads and numbers, begin a table."""
    if content[:1] in (b"<", b"{") or not content:
        return False
    return _layout(_lines(content[:_BEGINNING])) is not None


def begins_as_ecg_table(path: PathLike, beginning: bytes) -> bool:
    """Whether a text in a folder is an ECG, and not another table of numbers, such as one row per patient.

    It is one if it names leads, or if something is stated about the numbers of its folder, or if it has as
    many columns as there are leads, or as an ECG has samples.
    """
    if beginning[:1] in (b"<", b"{") or (layout := _layout(lines := _lines(beginning))) is None:
        return False
    n_columns = len(_cells(lines[layout.n_above][:_LINE], layout.separator))
    named = layout.names is not None or layout.named_rows
    return named or statement_file(path) is not None or n_columns == len(LEADS) or n_columns >= MANY_COLUMNS


def read_number_table(file: EcgFile) -> Recording | None:
    """Text that begins with a row of 8 numbers or more, or with leads and numbers below or beside them."""
    if not is_number_table(file.content):
        return None
    statement = statement_for(file.path, "a table of numbers as text")
    n_lines = file.content.count(b"\n") + file.content.count(b"\r")
    if len(file.content) > MAX_TEXT_BYTES or n_lines > MAX_CELLS:
        found = f"a text of {len(file.content):,} bytes and {n_lines:,} lines"
        raise EcgFileError(file.path, found, f"at most {MAX_TEXT_BYTES:,} and {MAX_CELLS:,}")
    lines = _lines(file.content)
    layout = _layout(lines)
    if layout is None:  # what follows the beginning is no text
        raise EcgFileError(file.path, "a damaged table of numbers", "text throughout")
    rows = _rows(lines[layout.n_above :], layout.separator, file.path)
    if layout.named_rows:
        names = [row[0] for row in rows]
        numbers = [_numbers(row[1:], f"row {n}", file.path) for n, row in enumerate(rows, 1)]
        return _named(names, numbers, statement, file)
    if layout.names:
        return _named(layout.names, _columns(rows, layout.names, file.path), statement, file)
    columns = [column for column in zip(*rows, strict=True) if any(column)]  # Excel adds empty ones
    numbers = [_numbers(column, f"column {n}", file.path) for n, column in enumerate(columns, 1)]
    return recording_of_array(FILE_FORMAT, np.stack(numbers), statement, file)


def _lines(content: bytes) -> list[str]:
    """Return the lines of a text that are not empty; none where it is not text."""
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)
    if encoding is None and content[:_LINE].translate(None, _CONTROLS) != content[:_LINE]:
        return []
    try:
        text = content.decode(encoding or "utf-8")
    except UnicodeDecodeError:
        text = content.decode(encoding or "latin-1", errors="replace")
    return [line for line in text.splitlines() if line.strip()]


def _layout(lines: Sequence[str]) -> _Layout | None:
    """Return how lines are a table of numbers, from the first of them, or None where they are not."""
    separator, n_above, above = "", 0, ""
    if lines and (stated := re.fullmatch(r"sep=(.)", lines[0].strip(), re.IGNORECASE)):
        separator, n_above = stated[1], 1
    while n_above < len(lines) and lines[n_above].lstrip().startswith(("#", "%")):
        above = lines[n_above].lstrip("#% ")
        n_above += 1
    shown = [line[:_LINE] for line in lines[n_above : n_above + 3]]
    if not shown:
        return None
    separator = separator or _separator(shown[min(1, len(shown) - 1)])
    rows = [_cells(line, separator)[: -1 if len(line) == _LINE else None] for line in shown]
    names = re.split(r"[,;\s]+", above) if above else None
    if _is_header(rows[0]):
        names, rows, n_above = rows[0], rows[1:], n_above + 1
    ours = [place for place, name in enumerate(names or []) if _lead(name)]
    if len(ours) > 1 and rows and all(len(row) > max(ours) for row in rows):
        numeric = all(_is_sample(row[place]) for row in rows for place in ours)
        return _Layout(n_above, separator, names, False) if numeric else None
    named_rows = bool(rows) and all(row and _lead(row[0]) for row in rows)
    samples = [row[1:] if named_rows else row for row in rows]
    if not all(sum(map(_is_number, row)) >= MIN_NUMBERS and all(map(_is_sample, row)) for row in samples):
        return None
    return _Layout(n_above, separator, None, named_rows) if rows else None


def _separator(line: str) -> str | None:
    """Return what separates the cells of a line of numbers, None for white space."""
    for separator in ("\t", ";"):
        if separator in line:
            return separator
    words = line.split()
    decimal_commas = len(words) >= MIN_NUMBERS and all(map(_is_sample, words[1:-1])) and words[0][-1] != ","
    return "," if "," in line and not decimal_commas else None


def _cells(line: str, separator: str | None, most: int = -1) -> list[str]:
    if '"' in line and separator:
        try:
            return [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]
        except csv.Error:  # a cell of more than 131,072 characters
            pass
    return [cell.strip() for cell in line.split(separator, most)]


def _is_header(row: Sequence[str]) -> bool:
    """Whether a row has words, but for a lead's name at its beginning, or is 0, 1, 2, … as pandas writes."""
    words = [not _is_sample(cell) for cell in row]
    if any(words):
        return not (_lead(row[0]) and sum(words) == 1 and len(row) > MIN_NUMBERS)
    counted = row[1:] if row and not row[0] else row
    return len(counted) >= MIN_NUMBERS and all(cell == str(n) for n, cell in enumerate(counted))


def _is_sample(cell: str) -> bool:
    return cell.lower() in MISSING or _is_number(cell)


def _is_number(cell: str) -> bool:
    return math.isfinite(number_or_nan(cell)) or _INFINITE.fullmatch(cell) is not None


def _lead(name: str) -> str | None:
    return standard_lead(_name_and_unit(name)[0])


def _name_and_unit(name: str) -> tuple[str, str | None]:
    """Return "V1" and "mV" of "V1 (mV)", "V1 [mV]" or "V1/mV", and None where there is no unit."""
    match = _UNIT_AT_END.search(name)
    return (name[: match.start()].rstrip(), match["unit"]) if match else (name, None)


def _rows(lines: Sequence[str], separator: str | None, path: PathLike) -> list[list[str]]:
    """Return the cells of each line, as many in each."""
    rows, n_cells = [], 0
    for number, line in enumerate(lines, 1):
        row = _cells(line, separator, MAX_CELLS)
        n_cells += len(row)
        if n_cells > MAX_CELLS:
            raise EcgFileError(path, f"more than {MAX_CELLS:,} numbers as text", f"at most {MAX_CELLS:,}")
        if rows and len(row) != len(rows[0]):
            found = f"{len(row):,} cells in row {number:,} of numbers"
            raise EcgFileError(path, found, f"{len(rows[0]):,}, as in the first")
        rows.append(row)
    return rows


def _columns(rows: list[list[str]], names: Sequence[str], path: PathLike) -> list[np.ndarray]:
    """Return the numbers of each column that is a lead; of the others, such as times, nothing is read."""
    if len(rows[0]) != len(names):
        raise EcgFileError(path, f"{len(names):,} names of {len(rows[0]):,} columns", "one name per column")
    empty = np.empty(0)
    return [
        _numbers([row[place] for row in rows], f"column {quote(name)}", path) if _lead(name) else empty
        for place, name in enumerate(names)
    ]


def _numbers(cells: Sequence[str], where: str, path: PathLike) -> np.ndarray:
    """Return cells as int64 or float64 (n,), NaN where a sample is missing."""
    joined = "\n".join(cells)
    if "," in joined:
        if "." in joined:
            raise EcgFileError(path, f"decimal commas and points in {where}", "one of them")
        joined = joined.replace(",", ".")
    values = None
    if _PLAIN.fullmatch(joined):
        try:
            values = np.array([float(cell) for cell in joined.split("\n")])
        except ValueError:  # an empty cell, or such as "1-2"
            values = None
    if values is None:
        values = np.array([_number(cell, f"cell {n} of {where}", path) for n, cell in enumerate(cells, 1)])
    whole = "." not in joined and np.isfinite(values).all() and np.abs(values).max() < 2**53
    return values.astype(np.int64) if whole and np.array_equal(values, np.rint(values)) else values


def _number(cell: str, where: str, path: PathLike) -> float:
    if cell.lower() in MISSING:
        return math.nan
    if _INFINITE.fullmatch(cell):
        return math.inf
    value = number_or_nan(cell)
    if math.isnan(value):
        raise EcgFileError(path, f"text in {where}", "a number")
    return value


def _named(
    names: Sequence[str], rows: Sequence[np.ndarray], statement: Statement, file: EcgFile
) -> Recording:
    """Return the ECG of rows whose leads the file names; a stated order of leads must be the same."""
    pairs = [_name_and_unit(name) for name in names]
    leads = [lead for name, _ in pairs if (lead := standard_lead(name))]
    stated = [lead for name in statement.leads or () if (lead := standard_lead(name))]
    if stated and stated != leads:
        found = f"the leads {', '.join(leads[:12])} by the file, {', '.join(stated[:12])} as stated"
        raise EcgFileError(file.path, found, "the same, or no stated leads where the file names them")
    units = [unit for _, unit in pairs]
    return recording_of_rows(FILE_FORMAT, [name for name, _ in pairs], rows, statement, file, units)
