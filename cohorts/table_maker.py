"""What the makers of cohort tables share: tables read, exclusions counted, the new table written whole.

A maker reads a publisher's tables unchanged and writes one table for the ECG files where they lie: ``file``
(relative to the folder that ``--data-dir`` names), 0/1 labels, empty where unknown, and ``patient_id``,
``split``, ``age`` and ``sex`` where the publisher has them. It prints how many records are left out, and why.
"""

import argparse
import csv
import gzip
import io
import os
import shlex
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from cohorts.columns import PARTS, SEX_WORDS, meant_columns, say_taken
from cohorts.csv_dialect import (
    check_kind,
    decimal_point,
    marked_encoding,
    separator_of,
    table_text,
    without_formula,
)
from runtime.atomic_files import check_file_to_write, csv_text, write_atomically, writing
from runtime.command_line import OneLineParser
from runtime.errors import UserError, reason

CHUNK_ROWS = 50_000
MAX_WHOLE = 64 * 2**20  # bytes of a table that is read as a whole; a larger one is read line by line
MAX_PACKED = 8 * 2**20
BROKEN = (OSError, EOFError, zlib.error, UnicodeDecodeError)  # of reading a table, .gz or not
csv.field_size_limit(10_000_000)


class Flow:
    """What was there, what was left out and why, what is kept: no record goes uncounted.

    Parameters
    ----------
    unit : what is counted, e.g. "records"
    n, origin : how many there are at first, and where
    """

    def __init__(self, unit: str, n: int, origin: str):
        self.unit = unit
        self.n_kept = n
        self.steps = [("found", n, origin)]

    def leave_out(self, n: int, reason: str) -> None:
        """Count n records that are left out."""
        assert 0 <= n <= self.n_kept
        self.n_kept -= int(n)
        self.steps.append(("left out", int(n), reason))

    def keep(self, table: pd.DataFrame, right: pd.Series, reason: str) -> pd.DataFrame:
        """Return the rows of a table that are right; the others are counted with the reason."""
        self.leave_out(int((~right).sum()), reason)
        return table[right]

    def print(self) -> None:
        for step, n, what in [*self.steps, ("kept", self.n_kept, self.unit)]:
            print(f"{step:<9}{n:>11,}  {what}")


def parser_of(doc: str, source: str) -> argparse.ArgumentParser:
    """Return a parser with what all makers take; ``doc`` is the module's docstring."""
    parser = OneLineParser(description=doc)
    parser.add_argument("folder", type=Path, help=source)
    parser.add_argument("--output", type=Path, metavar="TABLE", help="table to write [labels.csv in FOLDER]")
    parser.add_argument("--overwrite", action="store_true", help="replace the table if it is there already")
    parser.add_argument(
        "--files-elsewhere", action="store_true", help="do not check whether the ECG files are in FOLDER"
    )
    return parser


def output_of(arguments: argparse.Namespace) -> Path:
    """Return the table to write, after checking the folder and that nothing would be lost.

    Raises
    ------
    UserError : no such folder, or a file is there already.
    """
    if not arguments.folder.is_dir():
        raise UserError(f"{arguments.folder}: found no such folder, expected the folder of the ECG files")
    output = arguments.output or arguments.folder / "labels.csv"
    check_free(output, arguments.overwrite)
    return output


def check_free(path: Path, overwrite: bool) -> None:
    """Raise a UserError where a file is there that is not to be replaced, or none can be written."""
    check_file_to_write(path)
    if path.exists() and not overwrite:
        raise UserError(f"{path}: found a file already; --overwrite replaces it, --output names another")


def find_table(name: str, *folders: Path) -> Path:
    """Return the path of a publisher's table, .csv or .csv.gz, in the first folder that has it.

    Raises
    ------
    UserError : none has it.
    """
    for path in (folder / f"{name}.csv{end}" for folder in folders for end in ("", ".gz")):
        if path.is_file():
            return path
    more = f" (or in {', '.join(str(folder) for folder in folders[1:])})" if len(folders) > 1 else ""
    raise UserError(
        f"{folders[0]}: found no {name}.csv or {name}.csv.gz{more}, expected the publisher's table"
    )


def rows_of(
    path: Path, columns: Sequence[str], *, others: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line and the fields, stripped, of each row of a table, one after the other.

    A column that is one of these in another spelling has its name here, and a line says so.

    Parameters
    ----------
    path : .csv, .csv.gz or .xlsx
    columns : names that must be there; others may be
    others : names that may be there in another spelling

    Raises
    ------
    UserError : the file cannot be read, a column is missing or named twice, a row has a different length.
    """
    table = _fields_of(path, columns, others)
    _, header = next(table)
    for line, row in table:
        fields = (without_formula(field.strip()) for field in row)
        yield line, dict(zip(header, fields, strict=True))


def chunks_of(path: Path, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Yield a large table in pieces of 50,000 rows: the columns named, as text; the index is the line.

    Raises
    ------
    UserError : as ``rows_of``.
    """
    rows = picked(path, columns)
    while piece := list(islice(rows, CHUNK_ROWS)):
        lines, fields = zip(*piece, strict=True)
        yield pd.DataFrame(list(fields), index=list(lines), columns=list(columns), dtype=str)


def picked(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the line and the fields of some columns, two or more, of each row of a large table.

    Raises
    ------
    UserError : as ``rows_of``.
    """
    table = _fields_of(path, columns)
    _, header = next(table)
    choose = itemgetter(*map(header.index, columns))
    for line, row in table:
        yield line, choose(row)


def _fields_of(
    path: Path, columns: Sequence[str], others: Sequence[str] = ()
) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the fields of each row; the first are the names of the columns."""
    try:
        with _opened(path) as handle:
            first = handle.readline()
            separator, declared = separator_of(first)
            n_above = 2 if declared else 1  # lines before those that the reader counts
            first = handle.readline() if declared else first
            header = [name.strip() for name in next(csv.reader([first], delimiter=separator), [])]
            taken = meant_columns(f"{path} line {n_above}", header, [*columns, *others])
            header = [taken.get(name, name) for name in header]
            _check_columns(path, header, columns)
            say_taken(path, taken)
            yield n_above, header
            # Without strict, a quotation mark that is never closed would swallow all rows after it.
            reader = csv.reader(handle, delimiter=separator, strict=True)
            for row in reader:
                if not any(row):
                    continue
                if len(row) != len(header):
                    where = f"{path} line {reader.line_num + n_above}"
                    raise UserError(f"{where}: found {len(row)} fields, expected {len(header)}")
                if separator == ";":
                    row = [decimal_point(field.strip()) for field in row]
                yield reader.line_num + n_above, row
    except csv.Error as error:
        raise UserError(f"{path}: {error}, expected each quotation mark to be closed") from None
    except BROKEN as error:
        raise UserError(f"{path}: the table cannot be read ({reason(error)})") from None


def _opened(path: Path) -> TextIO:
    """Return a table's text, line by line where it is large: such a table is UTF-8 or has a mark."""
    packed = path.suffix == ".gz"
    if path.stat().st_size <= (MAX_PACKED if packed else MAX_WHOLE):
        content, encoding = table_text(path)
        return io.TextIOWrapper(io.BytesIO(content), encoding, newline="")
    open_here = gzip.open if packed else open
    with open_here(path, "rb") as handle:
        beginning = handle.read(64)
    check_kind(path, beginning)
    return open_here(path, "rt", encoding=marked_encoding(beginning) or "utf-8-sig", newline="")


def _check_columns(path: Path, header: list[str], columns: Sequence[str]) -> None:
    for name in columns:
        if header.count(name) != 1:
            found = "twice" if name in header else f"only {', '.join(header)[:200] or 'nothing'}"
            raise UserError(f"{path}: column {name}: found {found}, expected it once")


def number(text: str) -> str:
    """Return a number as the table shows it ("56.0" as "56"), or "" where there is none."""
    try:
        value = float(text)
    except ValueError:
        return ""
    return f"{value:g}" if 0 <= value < float("inf") else ""


def sex(text: str) -> str:
    """Return "F", "M" or "" from the words that publishers have for it."""
    return SEX_WORDS.get(text.strip().lower(), "")


def absent_files(folder: Path, files: Iterable[str]) -> set[str]:
    """Return those of the files that are not in the folder."""
    return {file for file in files if not os.path.exists(folder / file)}


def deliver(
    table: pd.DataFrame,
    label_names: Sequence[str],
    flow: Flow,
    arguments: argparse.Namespace,
    output: Path,
    *,
    to_learn: Sequence[str] | None = None,
) -> None:
    """Leave out what has no file or no known label, write the table, print flow, labels and training command.

    Parameters
    ----------
    table : one row per ECG; labels are 0, 1 or missing
    flow : counts of what led to the table
    to_learn : what the training command names; None means the labels

    Raises
    ------
    UserError : nothing is left, or the table cannot be written.
    """
    if not arguments.files_elsewhere:
        absent = absent_files(arguments.folder, table["file"])
        table = flow.keep(table, ~table["file"].isin(absent), f"no such file in {arguments.folder}")
    table = flow.keep(table, table[list(label_names)].notna().any(axis=1), "none of the labels is known")
    flow.print()
    if len(table) == 0:
        raise UserError(f"{arguments.folder}: found no ECG to keep; the reasons are counted above")
    if "patient_id" in table:
        print(f"patients {table['patient_id'].nunique():>11,}")
    else:
        print("patients            –  the publisher names none: each file will count as a patient of its own")
    for name in label_names:
        known, positive = int(table[name].notna().sum()), int((table[name] == 1).sum())
        share = f"{positive / known:.1%} of {known:,} known" if known else "unknown in all"
        print(f"label    {positive:>11,}  {name} ({share})")
    if "split" in table:
        for part in PARTS:
            print(f"split    {int((table['split'] == part).sum()):>11,}  {part}")
    write_lines(output, lambda handle: handle.write(csv_text(table)))
    print(f"table    {output}")
    words = ["python", "train_atten.py", "--data-dir", arguments.folder, "--labels", output]
    print("train   ", shlex.join(map(str, [*words, "--label-columns", *(to_learn or label_names)])))


def write_lines(path: Path, write: Callable[[TextIO], Any]) -> None:
    """Let ``write`` fill a text file, which appears whole or not at all.

    Raises
    ------
    UserError : it cannot be written.
    """

    def fill(aside: Path) -> None:
        with open(aside, "w", encoding="utf-8", newline="") as handle:
            write(handle)

    with writing(path):
        write_atomically(path, fill)
