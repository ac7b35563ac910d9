"""Clinical columns beside the ECG: age, sex and any others of the table that the head is to see, as numbers.

A value is a number in the table's own unit, or a word below; nothing, NA, null and the like are not known. An
age is in years, and a sex of 0 or 1 is shown as M or F. Take only what is known when the ECG is taken, and
not because of the diagnosis: that a D-dimer was ordered gives away that PE was suspected.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cohorts.columns import CLINICAL, GROUP_COLUMNS, RESERVED, SEX_WORDS, UNKNOWN_WORDS
from dataset.label_copies import is_copy
from dataset.sign_columns import SIGN_COLUMNS
from runtime.errors import UserError

LARGEST_AGE = 130  # years; more is a mistake
OLDEST = 90  # years; above 89 an age can identify a person (HIPAA, 45 CFR 164.514)
SEXES = {word: {"M": 0.0, "F": 1.0}[letter] for word, letter in SEX_WORDS.items()}
ANSWERS = {"no": 0.0, "yes": 1.0, "false": 0.0, "true": 1.0}
WORDS = SEXES | ANSWERS
SHOWN_SEXES = ("m", "male", "f", "female")  # of the words that stand for one
NEVER = ("file", "patient_id", "split")


def check_clinical(
    path: str | Path, table: pd.DataFrame, columns: Sequence[str], *, label_names: Sequence[str] = ()
) -> None:
    """Check the columns of a table whose index is each row's line in the file.

    Raises
    ------
    UserError : a column is missing, given twice, a label or its copy, named as a sign that is measured, or
        never a clinical value; a value is neither a number nor a word that stands for one, or an impossible
        age; no value is known.
    """
    candidates = [name for name in table if name not in (*NEVER, *label_names)]
    for number, name in enumerate(columns):
        where = f"{path}: clinical column {name}"
        if name in label_names:
            raise UserError(f"{where}: found a label that is to be learnt, expected another column")
        if name in SIGN_COLUMNS:
            raise UserError(
                f"{where}: found the name of a sign that is measured in the ECG, expected another column "
                "(--ecg-signs true shows the signs)"
            )
        if name in columns[:number]:
            raise UserError(f"{where}: found twice, expected once")
        if name not in candidates:
            raise UserError(f"{where}: found none, expected one of {', '.join(candidates) or 'none'}")
        values = [value_of(name, text) for text in table[name]]
        for line, text, value in zip(table.index, table[name], values, strict=True):
            if value is None:
                raise UserError(
                    f"{path} line {line}: found {text} in clinical column {name}, expected {_expected(name)}"
                )
        numbers = np.array(values, float)
        if np.isnan(numbers).all():
            raise UserError(f"{where}: found no value that is known, expected some")
        for label in label_names:
            if is_copy(numbers, pd.to_numeric(table[label], errors="coerce").to_numpy(float)):
                raise UserError(
                    f"{where}: found the label {label} under another name, expected what is known when the "
                    "ECG is taken"
                )


def clinical_values(table: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Return the columns of a checked table as float32 (n_rows, n_columns), nan where not known."""
    values = np.empty((len(table), len(columns)), np.float32)
    for number, name in enumerate(columns):
        values[:, number] = [value_of(name, text) for text in table[name]]
    return values


def for_splits(clinical: pd.DataFrame) -> pd.DataFrame:
    """Return the clinical columns of a cohort as ``splits.csv`` has them: "clinical:wells"; no signs.

    Those that stand there anyway, such as age and sex, are left out.
    """
    given = [name for name in clinical if name not in (*RESERVED, *GROUP_COLUMNS, *SIGN_COLUMNS)]
    return clinical[given].add_prefix(CLINICAL)


def value_of(column: str, text: str) -> float | None:
    """Return a value as a number, nan where not known, None where invalid; ages of 90 to 130 are 90."""
    word = text.strip().lower()
    if word in UNKNOWN_WORDS:
        return np.nan
    if word in WORDS and column != "age":
        return WORDS[word]
    try:
        value = float(word)
    except ValueError:
        return None
    if not np.isfinite(value):
        return None
    if column != "age":
        return value
    return min(value, float(OLDEST)) if 0 <= value <= LARGEST_AGE else None


def given_values(columns: Sequence[str], words: Sequence[str]) -> np.ndarray:
    """Return values that were given as "age=63", float32 (n_columns,); nothing after the = means not known.

    Raises
    ------
    UserError : a column is unknown, missing or given twice, or a value is invalid.
    """
    given = {}
    for word in words:
        name, equals, text = word.partition("=")
        if name not in columns or not equals or name in given:
            expected = " ".join(f"{column}=VALUE" for column in columns)
            raise UserError(f"--clinical: found {word}, expected {expected}, each once")
        given[name] = value_of(name, text)
        if given[name] is None:
            raise UserError(f"--clinical: found {word}, expected {_expected(name)}")
    if missing := [name for name in columns if name not in given]:
        raise UserError(
            f"--clinical: found no {missing[0]}, expected {missing[0]}=VALUE, or {missing[0]}= if not known"
        )
    return np.array([given[name] for name in columns], np.float32)


def _expected(column: str) -> str:
    value = (
        f"0 to {LARGEST_AGE} years" if column == "age" else f"a number, {', '.join((*SHOWN_SEXES, *ANSWERS))}"
    )
    return f"{value}, or nothing where it is not known"


def in_words(columns: Sequence[str], values: Sequence[float]) -> Mapping[str, str]:
    """Return each column's value for a reader: {"age": "63", "sex": "F", "wells": "not known"}."""
    return {name: _in_words(name, value) for name, value in zip(columns, values, strict=True)}


def _in_words(column: str, value: float) -> str:
    if np.isnan(value):
        return "not known"
    letters = [word.upper() for word, number in SEXES.items() if column == "sex" and number == value]
    return letters[0] if letters else f"{value:g}"


def coding_of(column: str) -> str:
    """Return which number stands for what, for a program that gives a column's values as numbers."""
    if column in SIGN_COLUMNS:
        return "measured in the same ECG, by ecg/signs.py of the project that made the graph"
    if column == "age":
        return f"years; {OLDEST} if above {OLDEST - 1}"
    words = {word: SEXES[word] for word in SHOWN_SEXES} if column == "sex" else ANSWERS
    coded = ", ".join(f"{word} {number:g}" for word, number in words.items())
    return coded if column == "sex" else f"the number that the labels table has; {coded}"
