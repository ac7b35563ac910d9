"""A cohort's labels table, read and checked.

It has the columns ``file``, one or more 0/1 labels, and optionally ``patient_id``, ``split`` (train,
validation, test), ``age``, ``sex`` and any others. The published form, ``file;label`` without a header, is
read too. What is wrong in a table is an error that names the line.

Spellings that mean the same are the same: a column PatientID is ``patient_id``, a patient 17.0 is 17,
``./a.xml`` is ``a.xml``, ``2023\\A.XML`` of Windows is ``2023/a.xml``, 61,5 is 61.5 where semicolons
separate, sex is M or F, and every word for "not known" is an empty field.
"""

import array
import contextlib
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

from cohorts.columns import (
    PARTS,
    RESERVED,
    SEX_WORDS,
    ids_alike,
    is_rounded,
    is_unknown,
    known_text,
    meant_columns,
    normal_id,
    perhaps_patients,
    say_taken,
)
from cohorts.csv_dialect import decimal_point, separator_of, table_text, without_formula
from cohorts.file_names import located_names
from dataset.clinical import LARGEST_AGE, OLDEST, check_clinical, clinical_values
from runtime.errors import UserError
from runtime.messages import counted
from xml_loader import find_files

DEFAULT_LABEL = "PE"
FIRST_LINE = re.compile(r"\S[^\r\n]*|$")  # that is not blank
EVERY_LABEL = "all"  # in place of the name of each 0/1 column
ZERO_OR_ONE = ("", "0", "1", "0.0", "1.0")  # what a label may be; empty is unknown
SEX_NUMBERS = ("0", "1", "0.0", "1.0")
# Only a table with one of these can have a field of several lines.
MORE_LINES = re.compile('["\x0b\x0c\x1c-\x1e\x85\u2028\u2029]')
CODE_PAGES = ("cp1252", "latin-1", "cp850", "cp437", "gb18030", "cp932")  # of shares and archives of Windows
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
        values = known_text(table[name])
        _check_each(path, table, name, values.isin(ZERO_OR_ONE), "0 or 1")
        table[name] = _numbers(values)
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
        table["patient_id"] = _patients(path, table)
    else:
        table["patient_id"] = table["file"]
        if perhaps := perhaps_patients(table.columns):
            print(f"note        {path}: if {perhaps[0]} names the patients, call the column patient_id")
    if "split" in table:
        _check_each(path, table, "split", table["split"].isin(PARTS), "train, validation or test")
        _check_patients_in_one_part(path, table)
    if "age" in table:
        age, unknown = pd.to_numeric(table["age"], errors="coerce"), table["age"].map(is_unknown)
        right = age.between(0, LARGEST_AGE) | (age == OLD_IN_PTB_XL) | unknown
        expected = f"years from 0 to {LARGEST_AGE}, or nothing where it is not known"
        _check_each(path, table, "age", right, expected)
        table["age"] = table["age"].mask(age > OLDEST - 1, str(OLDEST))
    if "sex" in table:
        table["sex"] = _sexes(path, table)
    for name in table.columns.difference(["file", "patient_id", "split"]):
        if not pd.api.types.is_numeric_dtype(table[name]):  # as labels are
            table[name] = known_text(table[name])
    return table


def _patients(path: str | Path, table: pd.DataFrame) -> pd.Series:
    """Return each row's patient, whose id has one spelling."""
    codes, ids = pd.factorize(table["patient_id"])
    right = [not is_unknown(one) for one in ids]
    _check_each(path, table, "patient_id", pd.Series(right, dtype=bool).take(codes), "a patient's id")
    right = [not is_rounded(one) for one in ids]
    expected = "an id with all of its digits (a spreadsheet has rounded it)"
    _check_each(path, table, "patient_id", pd.Series(right, dtype=bool).take(codes), expected)
    patients = pd.Series([normal_id(one) for one in ids], dtype=str).take(codes).set_axis(table.index)
    return _in_one_spelling(path, patients, table.get("sex"))


def _in_one_spelling(path: str | Path, patients: pd.Series, sexes: pd.Series | None) -> pd.Series:
    """Return ids of which those that differ only by case, spaces or leading zeros are one patient's.

    They stay two where the table says so: each of them has one known sex throughout, and these differ. Prints
    lines, not ids, which may identify a person.
    """
    one_spelling: dict[str, str] = {}
    groups = ids_alike(pd.unique(patients))
    known = {} if sexes is None else sexes.str.strip().str.lower().map(SEX_WORDS).groupby(patients).unique()
    for group in groups:
        found = [set(known[one]) - {np.nan} if len(known) else set() for one in group]
        differ = all(len(sex) == 1 for sex in found) and len(set.union(*found)) > 1
        if not differ:
            one_spelling |= dict.fromkeys(group[1:], group[0])
    for kept, words in (
        (True, "count as different patients, whose sex differs"),
        (False, "count as one patient: ECGs of one must not train and test"),
    ):
        alike = [group for group in groups if (group[1] not in one_spelling) == kept]
        if alike:
            lines = [patients.index[patients == patient][0] for patient in alike[0]]
            more = f" (and {len(alike) - 1} more such groups)" if len(alike) > 1 else ""
            print(
                f"note        {path} lines {', '.join(map(str, lines))}: patient_id differs only by case, "
                f"spaces, leading zeros or .0{more}; these {words}"
            )
    return patients.replace(one_spelling)


def _sexes(path: str | Path, table: pd.DataFrame) -> pd.Series:
    """Return each row's sex: M, F, empty where not known, or another word as it is.

    Raises
    ------
    UserError : a number other than 0 and 1; where 1 and 2 are the sexes, 1 does not mean F.
    """
    words = table["sex"].str.strip().str.lower()
    numbers = pd.to_numeric(words, errors="coerce").notna()
    right = ~numbers | words.isin(SEX_NUMBERS)
    _check_each(path, table, "sex", right, "M, F, or 0 for M and 1 for F, or nothing where it is not known")
    if numbers.any():
        print(f"note        {path}: in column sex 0 is M and 1 is F")
    return words.map(SEX_WORDS).fillna(table["sex"])


def _numbers(column: pd.Series) -> pd.Series:
    """Return a label as int, or as float with nan where some are empty."""
    positive = column.isin(["1", "1.0"]).astype(int)
    return positive.mask(column == "") if (column == "").any() else positive


def _read_table(path: Path, label_columns: Sequence[str] | None) -> pd.DataFrame:
    """Return a table as text, stripped; its index is the line of each row in the file."""
    content, encoding = table_text(path, "labels table")
    text = content.decode(encoding)
    separator, declared = separator_of(FIRST_LINE.search(text)[0])
    # A StringIO would take four bytes per character. Without strict, a quotation mark that is never closed
    # would swallow all lines after it.
    lines = io.TextIOWrapper(io.BytesIO(content), encoding, newline="")
    reader = csv.reader(lines, delimiter=separator, strict=True)
    rows = _stripped(reader, _strip_of(text))
    try:
        if declared:
            next(rows)
        first_line, first = next(rows, (1, []))
        if _is_published_form(first):
            header = [
                "file",
                label_columns[0] if label_columns and len(label_columns) == 1 else DEFAULT_LABEL,
            ]
            rows = itertools.chain([(first_line, first)], rows)
        else:
            header = _header(path, first_line, first)
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


def _strip_of(text: str) -> Callable[[str], str]:
    """Return what cleans a field of this table, at the least cost."""
    strip = _in_one_line if MORE_LINES.search(text) else str.strip
    return (lambda field: without_formula(strip(field))) if '="' in text else strip


def _in_one_line(field: str) -> str:
    return " ".join(field.splitlines()).strip()


def _columns(
    path: Path, rows: Iterable[tuple[int, list[str]]], header: list[str], *, decimal_comma: bool
) -> pd.DataFrame:
    """Return rows as a table of text, indexed by their lines; no row is kept as an object."""
    lines, columns = array.array("q"), [[] for _ in header]
    for line, fields in rows:
        if not any(fields[len(header) :]):  # a spreadsheet may keep empty columns on the right
            del fields[len(header) :]
        if len(fields) != len(header):
            found = f"found {len(fields)} fields, expected {len(header)}"
            raise UserError(f"{path} line {line}: {found}: {', '.join(header)}")
        lines.append(line)
        for column, field in zip(columns, fields, strict=True):
            column.append(field)
    if decimal_comma:
        columns = [
            column if name == "file" else [decimal_point(field) for field in column]
            for name, column in zip(header, columns, strict=True)
        ]
    return pd.DataFrame(dict(zip(header, columns, strict=True)), index=np.asarray(lines), dtype=str)


def _is_published_form(first: list[str]) -> bool:
    """Return whether a table without a header begins so: ``a.xml;1``."""
    return len(first) == 2 and first[1] in ("0", "1") and "file" not in first


def _header(path: Path, line: int, first: list[str]) -> list[str]:
    """Return the names of the columns, ours where another name stands for one of them."""
    where = f"{path} line {line}"
    while first and not first[-1]:
        first = first[:-1]
    taken = meant_columns(where, first)
    names = [taken.get(name, name) for name in first]
    if "file" not in names:
        raise UserError(
            f"{where}: found {', '.join(first)[:80]!r}, expected a header with a column file, or file;label"
        )
    if len(set(names)) < len(names):
        raise UserError(f"{where}: found a column name twice in {', '.join(first)}, expected each once")
    say_taken(path, taken)
    return names


def _choose_labels(
    path: str | Path, table: pd.DataFrame, label_columns: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the columns to learn; "all", unless a column has this name, stands for every 0/1 column."""
    candidates = [name for name in table if name not in RESERVED]
    if label_columns == [EVERY_LABEL] and EVERY_LABEL not in candidates:
        return _zero_one_columns(path, table[candidates])
    for name in label_columns or [DEFAULT_LABEL]:
        if name not in candidates:
            labels = [one for one in candidates if table[one].isin(ZERO_OR_ONE).all()] or candidates
            raise UserError(
                f"{path}: found no label column {name}, expected one of {', '.join(labels) or 'none'} "
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
    r"""Return a checked table with each file's name in the folder, also where another system wrote the table.

    Windows writes ``2023\A.XML`` for ``2023/a.xml``, and macOS may write ``ü`` as two characters; shares and
    archives leave names in the bytes of an old code page.

    Raises
    ------
    UserError : a file is not in the folder, or is named twice.
    """
    files = table["file"]
    absent = [line for line, file in files.items() if not os.path.exists(os.path.join(folder, file))]
    if not absent:
        return table
    files = files.copy()
    files[absent] = located_names(folder, files[absent])
    files[absent] = [_in_folder(folder, file) for file in files[absent]]
    lost = [line for line in absent if not os.path.exists(os.path.join(folder, files[line]))]
    if lost:
        more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
        raise UserError(f"{path} line {lost[0]}: file {table.loc[lost[0], 'file']} is not in {folder}{more}")
    patients = table["patient_id"].mask(table["patient_id"] == table["file"], files)
    table = table.assign(file=files, patient_id=patients)
    _check_once(path, table)
    return table


def _in_folder(folder: Path, file: str) -> str:
    """Return a name whose bytes on the disk are of an old code page, where it is there so; else as it is."""
    if file.isascii() or os.path.exists(os.path.join(folder, file)):
        return file
    for code_page in CODE_PAGES:
        with contextlib.suppress(UnicodeEncodeError):
            name = os.fsdecode(file.encode(code_page))
            if os.path.exists(os.path.join(folder, name)):
                return name
    return file


def _check_patients_in_one_part(path: str | Path, table: pd.DataFrame) -> None:
    n_parts = table.groupby("patient_id")["split"].nunique()
    if (n_parts > 1).any():
        patient = n_parts.index[n_parts > 1][0]
        lines = table.index[table["patient_id"] == patient]
        raise UserError(
            f"{path} lines {', '.join(map(str, lines))}: found the same patient in "
            f"{' and '.join(table.loc[lines, 'split'].unique())}, expected each patient in one part"
        )
