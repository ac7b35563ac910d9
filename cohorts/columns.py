"""Columns of a labels table, with one meaning for what makes, reads and reports on such a table."""

import re
from collections.abc import Iterable, Sequence

import pandas as pd

# From the examination to the ECG, negative before it; ``cohorts.from_table`` writes it.
HOURS = "hours_from_ct"
RESERVED = ("file", "patient_id", "split", "age", "sex", HOURS)  # never labels
SEX_WORDS = {"m": "M", "male": "M", "f": "F", "female": "F"}  # words for ``sex``, and what makers write
PARTS = ("train", "validation", "test")  # the values of ``split``
# What exports write for a value that is not known, in upper or lower case.
UNKNOWN_WORDS = ("", "na", "nan", "n/a", "#n/a", "<na>", "null", "none", "unknown")
# Usual names of ``patient_id``, without what `_letters` leaves out.
PATIENT_NAMES = ("patid", "patient", "patientnr", "patientno", "patientnumber", "subjectid", "mrn")


def meant_columns(header: Sequence[str]) -> dict[str, str]:
    """Return columns that are one of `RESERVED` in another spelling: {"PatientID": "patient_id"}.

    Spellings differ by case, spaces, ``_`` and ``-``; of ``patient_id`` a few usual names count too. A name
    that the header has exactly is not looked for.
    """
    meant = {_letters(name): name for name in RESERVED} | dict.fromkeys(PATIENT_NAMES, "patient_id")
    found = {name: meant.get(_letters(name)) for name in header}
    return {name: ours for name, ours in found.items() if ours and ours not in header}


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def normal_id(text: str) -> str:
    """Return a patient's id; 17.0 is 17: so pandas writes whole numbers where one of them is missing."""
    number = re.fullmatch(r"(\d+)[.,]0+", text.strip())
    return number[1] if number else text.strip()


def ids_alike(ids: Iterable[str]) -> list[list[str]]:
    """Return groups of different ids that differ only by case, spaces, leading zeros or ``.0``."""
    unique = pd.Series(list(ids), dtype=str)
    plain = unique.str.casefold().str.replace(r"\s|[.,]0+$|(?<![\d.,])0+(?=\d)", "", regex=True)
    same = plain.duplicated(keep=False)
    return [list(group) for _, group in unique[same].groupby(plain[same], sort=False)]
