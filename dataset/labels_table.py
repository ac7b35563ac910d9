"""A cohort's labels table, read and checked.

It has the columns ``file``, one or more 0/1 labels, and optionally ``patient_id``, ``split`` (train,
validation, test), ``age``, ``sex`` and any others. The published form, ``file;label`` without a header, is
read too. What is wrong in a table is an error that names the line.

Spellings that mean the same are the same: a patient 17.0 is 17, ``./a.xml`` is ``a.xml``, ``2023\\a.xml`` of
Windows is ``2023/a.xml``, 61,5 is 61.5 where semicolons separate, and sex is M or F.
"""

import array
import csv
import io
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from cohorts.columns import PARTS, RESERVED, SEX_WORDS, UNKNOWN_WORDS, ids_alike, meant_columns, normal_id
from cohorts.csv_dialect import decimal_point, decoded, separator_of
from dataset.clinical import LARGEST_AGE, OLDEST, check_clinical, clinical_values
from runtime.errors import UserError
from runtime.messages import counted
from xml_loader import find_files

DEFAULT_LABEL = "PE"
FIRST_LINE = re.compile(r"\S[^\r\n]*|$")  # that is not blank
EVERY_LABEL = "all"  # in place of the name of each 0/1 column
ZERO_OR_ONE = ("", "0", "1", "0.0", "1.0")  # what a label may be; empty is unknown
# Only a table with one of these can have a field of several lines.
MORE_LINES = re.compile('["\x0b\x0c\x1c-\x1e\x85\u2028\u2029]')
OLD_IN_PTB_XL = 300  # its code for every age above 89


def read_labels(
    path: str | Path, label_columns: Sequence[str] | None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read and check a labels table; an ``age`` above 89 becomes 90.

    Returns
    -------
    table : DataFrame whose index is each row's line in the file; labels are int, or float where some are
        empty, which makes them nan: unknown; everything else is text. ``patient_id`` is added where the table
        has none: each file is then a patient of its own.
    label_names : the columns to learn.

    Raises
    ------
    UserError : table not readable or empty, a column unknown, missing or in another spelling, a row of
        another length, a label neither 0 nor 1 nor empty, a file twice, a file or patient without a name, an
        unknown split, a patient in two parts.
    """
    table = _read_table(Path(path), label_columns)
    label_names = _choose_labels(path, table, label_columns)
    for name in label_names:
        _check_each(path, table, name, table[name].isin(ZERO_OR_ONE), "0 or 1")
        table[name] = _numbers(table[name])
    return _checked(path, table), label_names


def read_files(path: str | Path) -> pd.DataFrame:
    """Read and check a table as ``read_labels`` does, but without labels: every column stays text."""
    return _checked(path, _read_table(Path(path), None))


def read_clinical(path: Path, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Return each file's clinical values, float32 (n_columns,), by its name in the table.

    Raises
    ------
    UserError : see ``read_files`` and ``clinical.check_clinical``.
    """
    table = read_files(path)
    check_clinical(path, table, columns)
    values = dict(zip(table["file"], clinical_values(table, columns), strict=True))
    return {_plain(file.replace("\\", "/")): row for file, row in values.items()} | values


def files_of_folder(folder: Path) -> pd.DataFrame:
    """Return a table of all ECG files in a folder and its subfolders, each a patient of its own.

    Raises
    ------
    UserError : there is no ECG file.
    """
    files, left_out, problems = find_files([folder])
    if problems:
        raise UserError(problems[0])
    if left_out:
        print(f"note        {counted(len(left_out), 'file')} of {folder} left out, as not ECGs")
    names = [file.relative_to(folder).as_posix() for file in files]
    return pd.DataFrame({"file": names, "patient_id": names}, dtype=str)


def _checked(path: str | Path, table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with a patient for each file; files, patients, parts and ages are checked."""
    _check_each(path, table, "file", table["file"] != "", "a file's name")
    _check_once(path, table)
    if "patient_id" in table:
        known = ~table["patient_id"].str.lower().isin(UNKNOWN_WORDS)
        _check_each(path, table, "patient_id", known, "a patient's id")
        codes, ids = pd.factorize(table["patient_id"])
        table["patient_id"] = pd.Series([normal_id(one) for one in ids], dtype=str).take(codes).to_numpy()
        _warn_of_ids_alike(path, table)
    else:
        table["patient_id"] = table["file"]
    if "split" in table:
        _check_each(path, table, "split", table["split"].isin(PARTS), "train, validation or test")
        _check_patients_in_one_part(path, table)
    if "age" in table:
        age = pd.to_numeric(table["age"], errors="coerce")
        unknown = table["age"].str.lower().isin(UNKNOWN_WORDS)
        right = age.between(0, LARGEST_AGE) | (age == OLD_IN_PTB_XL) | unknown
        expected = f"years from 0 to {LARGEST_AGE}, or nothing where it is not known"
        _check_each(path, table, "age", right, expected)
        table["age"] = table["age"].mask(age > OLDEST - 1, str(OLDEST))
    if "sex" in table:
        words = SEX_WORDS | dict.fromkeys(UNKNOWN_WORDS, "")
        table["sex"] = table["sex"].str.lower().map(words).fillna(table["sex"])
    return table


def _warn_of_ids_alike(path: str | Path, table: pd.DataFrame) -> None:
    """Print where ids may be one patient's in two spellings; lines, not ids, which may identify a person."""
    if groups := ids_alike(pd.unique(table["patient_id"])):
        lines = [table.index[table["patient_id"] == patient][0] for patient in groups[0]]
        more = f" (and {len(groups) - 1} more such groups)" if len(groups) > 1 else ""
        where = f"{path} lines {', '.join(map(str, lines))}"
        print(
            f"warning     {where}: patient_id differs only by case, spaces, leading zeros or .0{more}; these "
            "count as different patients, so that ECGs of one may train and test"
        )


def _numbers(column: pd.Series) -> pd.Series:
    """Return a label as int, or as float with nan where some are empty."""
    positive = column.isin(["1", "1.0"]).astype(int)
    return positive.mask(column == "") if (column == "").any() else positive


def _read_table(path: Path, label_columns: Sequence[str] | None) -> pd.DataFrame:
    """Return a table as text, stripped; its index is the line of each row in the file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: the labels table cannot be read ({error.strerror})") from None
    text, encoding = decoded(path, content)
    separator, declared = separator_of(FIRST_LINE.search(text)[0])
    # A StringIO would take four bytes per character. Without strict, a quotation mark that is never closed
    # would swallow all lines after it.
    lines = io.TextIOWrapper(io.BytesIO(content), encoding, newline="")
    reader = csv.reader(lines, delimiter=separator, strict=True)
    rows = _stripped(reader, _in_one_line if MORE_LINES.search(text) else str.strip)
    try:
        if declared:
            next(rows)
        first_line, first = next(rows, (1, []))
        header = _header(f"{path} line {first_line}", first, label_columns)
        rows = rows if first == header else itertools.chain([(first_line, first)], rows)
        table = _columns(path, rows, header, decimal_comma=separator == ";" and "," in text)
    except csv.Error as error:
        raise UserError(
            f"{path} line {reader.line_num}: {error}, expected each quotation mark to be closed"
        ) from None
    if len(table) == 0:
        raise UserError(f"{path}: found no rows, expected one for each ECG")
    return table


def _stripped(reader: Any, strip: Callable[[str], str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the fields of each row that is not blank."""
    for row in reader:
        fields = [strip(field) for field in row]
        if any(fields):
            yield reader.line_num, fields


def _in_one_line(field: str) -> str:
    return " ".join(field.splitlines()).strip()


def _columns(
    path: Path, rows: Iterable[tuple[int, list[str]]], header: list[str], *, decimal_comma: bool
) -> pd.DataFrame:
    """Return rows as a table of text, indexed by their lines; no row is kept as an object."""
    lines, columns = array.array("q"), [[] for _ in header]
    for line, fields in rows:
        if len(fields) != len(header):
            found = f"found {len(fields)} fields, expected {len(header)}"
            raise UserError(f"{path} line {line}: {found}: {', '.join(header)}")
        lines.append(line)
        for column, field in zip(columns, fields, strict=True):
            column.append(field)
    if decimal_comma:
        columns = [[decimal_point(field) for field in column] for column in columns]
    return pd.DataFrame(dict(zip(header, columns, strict=True)), index=np.asarray(lines), dtype=str)


def _header(where: str, first: list[str], label_columns: Sequence[str] | None) -> list[str]:
    """Return the names of the columns: the first row, or those of the published form, which has no header."""
    if "file" in first and len(set(first)) < len(first):
        raise UserError(f"{where}: found a column name twice in {', '.join(first)}, expected each once")
    meant = meant_columns(first)
    for found, ours in meant.items():
        if "file" in first or ours == "file":
            raise UserError(f"{where}: found a column {found} and none called {ours}, expected that name")
    if "file" in first:
        return first
    if len(first) == 2 and first[1] in ("0", "1"):
        return ["file", label_columns[0] if label_columns and len(label_columns) == 1 else DEFAULT_LABEL]
    raise UserError(
        f"{where}: found {', '.join(first)[:80]!r}, expected a header with a column file, or file;label"
    )


def _choose_labels(
    path: str | Path, table: pd.DataFrame, label_columns: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the columns to learn; "all", unless a column has this name, stands for every 0/1 column."""
    candidates = [name for name in table if name not in RESERVED]
    if label_columns == [EVERY_LABEL] and EVERY_LABEL not in candidates:
        return _zero_one_columns(path, table[candidates])
    for name in label_columns or [DEFAULT_LABEL]:
        if name not in candidates:
            raise UserError(
                f"{path}: found no label column {name}, expected one of {', '.join(candidates) or 'none'} "
                "(--label-columns chooses)"
            )
    return tuple(dict.fromkeys(label_columns or [DEFAULT_LABEL]))


def _zero_one_columns(path: str | Path, table: pd.DataFrame) -> tuple[str, ...]:
    """Return the columns that hold nothing but 0, 1 and empty fields, and both numbers."""
    found = {name: set(column.unique()) for name, column in table.items()}
    both = [
        values <= set(ZERO_OR_ONE) and len(set(map(float, values - {""}))) == 2 for values in found.values()
    ]
    names = [name for name, is_label in zip(found, both, strict=True) if is_label]
    if not names:
        raise UserError(f"{path}: found no column of 0 and 1, expected one or more (--label-columns all)")
    return tuple(names)


def _check_each(path: str | Path, table: pd.DataFrame, column: str, right: pd.Series, expected: str) -> None:
    wrong = table.index[~right.to_numpy()]
    if len(wrong):
        found = table.loc[wrong[0], column] or "nothing"
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise UserError(
            f"{path} line {wrong[0]}: found {found} in column {column}, expected {expected}{more}"
        )


def _check_once(path: str | Path, table: pd.DataFrame) -> None:
    names = table["file"]
    odd = np.array(["./" in name or "//" in name for name in names + "/"])
    names = names.mask(odd, names[odd].map(_plain)) if odd.any() else names
    again = table.index[names.duplicated()]
    if len(again):
        file, name = table.loc[again[0], "file"], names.loc[again[0]]
        first = table.index[names == name][0]
        raise UserError(f"{path} line {again[0]}: found {file} again (line {first}), expected each file once")


def _plain(file: str) -> str:
    """Return ``a.xml`` for ``./a.xml``, and ``b/a.xml`` for ``b//a.xml``."""
    return PurePosixPath(file).as_posix()


def locate(path: str | Path, table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    r"""Return a checked table with each file's name in the folder; ``2023\a.xml`` may be ``2023/a.xml``.

    Raises
    ------
    UserError : a file is not in the folder, or is named twice.
    """
    absent = [line for line, file in table["file"].items() if not os.path.exists(os.path.join(folder, file))]
    renamed = table["file"].loc[absent].str.replace("\\", "/")
    there = [line for line, file in renamed.items() if os.path.exists(os.path.join(folder, file))]
    if len(absent) > len(there):
        line = next(line for line in absent if line not in set(there))
        more = f" (and {len(absent) - len(there) - 1} more)" if len(absent) > len(there) + 1 else ""
        raise UserError(f"{path} line {line}: file {table.loc[line, 'file']} is not in {folder}{more}")
    if there:
        files = table["file"].copy()
        files[there] = renamed[there]
        patients = table["patient_id"].mask(table["patient_id"] == table["file"], files)
        table = table.assign(file=files, patient_id=patients)
        _check_once(path, table)
    return table


def _check_patients_in_one_part(path: str | Path, table: pd.DataFrame) -> None:
    n_parts = table.groupby("patient_id")["split"].nunique()
    if (n_parts > 1).any():
        patient = n_parts.index[n_parts > 1][0]
        lines = table.index[table["patient_id"] == patient]
        raise UserError(
            f"{path} lines {', '.join(map(str, lines))}: found the same patient in "
            f"{' and '.join(table.loc[lines, 'split'].unique())}, expected each patient in one part"
        )
