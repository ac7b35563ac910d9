"""Columns of a labels table, with one meaning for what makes, reads and reports on such a table.

Whatever reads a table takes from here which words stand for "not known", which column is meant by another
spelling of its name, which ids are one patient's, and which words are a sex.
"""

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher

import pandas as pd

from runtime.errors import UserError

# From the examination to the ECG, negative before it; ``cohorts.from_table`` writes it.
HOURS = "hours_from_ct"
RESERVED = ("file", "patient_id", "split", "age", "sex", HOURS)  # never labels
GROUP_COLUMNS = ("sex", "age", "device", "site")  # a run reports by those of the table, with no flag
CLINICAL = "clinical:"  # in splits.csv, before the name of a column that the model sees beside the ECG
PARTS = ("train", "validation", "test")  # the values of ``split``
# What exports write for a value that is not known, in upper or lower case.
_UNKNOWN = "na nan n/a n.a. #n/a #na #nv <na> nat null (null) none nil unknown unk missing"
_UNKNOWN_ELSEWHERE = "unbekannt k.a. desconhecido desconocido inconnu sconosciuto - -- --- – — ? ?? . *"
_UNKNOWN_SENTENCES = ("", "not known", "not available", "nicht bekannt", "k. a.", "keine angabe")
UNKNOWN_WORDS = frozenset((*_UNKNOWN_SENTENCES, *_UNKNOWN.split(), *_UNKNOWN_ELSEWHERE.split()))
# Words for ``sex``; M and F are what makers write, and what a checked table has.
_MALE = "m male man men männlich maennlich mann masculino homem hombre masculin homme maschio 0 0.0"
_FEMALE = "f female woman women weiblich w frau feminino mulher femenino mujer féminin feminin femme femmina"
SEX_WORDS = dict.fromkeys(_MALE.split(), "M") | dict.fromkeys([*_FEMALE.split(), "1", "1.0"], "F")
# Usual names of columns, as `_letters` leaves them.
OTHER_NAMES = {
    "file": "filename filepath path ecgfile ecgfilename ekgdatei datei dateiname ficheiro archivo fichier",
    "patient_id": "patid idpat pid patient patients patientsid patientnr patientno patientnum patientnumber "
    "patnr patno subject subjectid subjid mrn medicalrecordnumber idpatient patienten patientenid "
    "patientennr patientennummer paciente pacienteid idpaciente",
    "age": "ages ageyears ageinyears ageyr ageyrs patientage ageatecg alter patientenalter alterjahre "
    "alterinjahren idade edad",
    "sex": "gender patientsex patientgender sexmf sexfm sexe sexo sesso geschlecht genero gênero",
    "split": "splits datasplit",
}
# Of a column with such a name it cannot be known whether it names patients.
PERHAPS_PATIENTS = ("id", "case", "caseid", "person", "personid", "pseudonym", "fall", "fallnr", "fallnummer")
LIKE = 0.88  # of two names' letters from which one may be a slip for the other: patinet_id, patient_idx
LONG = 8  # letters; shorter names are like too many others (age, page)


def is_unknown(text: str) -> bool:
    """Return whether a field is a word for "not known", or empty."""
    return text.strip().lower() in UNKNOWN_WORDS


def known_text(column: pd.Series) -> pd.Series:
    """Return a column of text in which every word for "not known" is empty."""
    codes, words = pd.factorize(column)
    known = pd.Series(["" if is_unknown(word) else word for word in words], dtype=str)
    return known.take(codes).set_axis(column.index)


def meant_columns(where: str, header: Sequence[str], ours: Sequence[str] = RESERVED) -> dict[str, str]:
    """Return which columns are one of ours under another name: {"PatientID": "patient_id"}.

    Spellings differ by case, spaces, ``_`` and ``-``; other usual names (`OTHER_NAMES`) count too. A name
    that the header has exactly is not looked for.

    Raises
    ------
    UserError : two columns may be the same one of ours, or a name is nearly one.
    """
    meant = {other: name for name in ours for other in (*OTHER_NAMES.get(name, "").split(), _letters(name))}
    taken: dict[str, str] = {}
    for found in header:
        name = meant.get(_letters(found))
        if name is None or name in header or found in ours:
            continue
        if name in taken.values():
            first = next(one for one, other in taken.items() if other == name)
            raise UserError(
                f"{where}: found the columns {first} and {found} and none called {name}, expected one of "
                "them to have that name"
            )
        taken[found] = name
    for name in ours:
        if name not in header and name not in taken.values():
            _check_no_slip(where, header, name)
    return taken


def _check_no_slip(where: str, header: Sequence[str], name: str) -> None:
    """Raise the error of a column whose name is nearly one of ours: a slip must not be ignored."""
    ours = _letters(name)
    if len(ours) < LONG:
        return
    for found in header:
        letters = _letters(found)
        if letters != ours and SequenceMatcher(None, letters, ours).ratio() >= LIKE:
            raise UserError(f"{where}: found a column {found} and none called {name}, expected that name")


def perhaps_patients(header: Iterable[str]) -> list[str]:
    """Return columns that may name patients, by their names."""
    return [name for name in header if _letters(name) in PERHAPS_PATIENTS]


def say_taken(path: object, taken: dict[str, str]) -> None:
    """Print which columns are used under another name."""
    if taken:
        words = ", ".join(f"{found} as {ours}" for found, ours in taken.items())
        print(f"columns     {path}: taken are {words}")


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def normal_id(text: str) -> str:
    """Return a patient's id; 17.0 is 17: so pandas writes whole numbers where one of them is missing.

    So are '17 and ="17", with which spreadsheets mark a text.
    """
    text = re.sub(r'^="(.*)"$', r"\1", text.strip()).lstrip("'").strip()
    number = re.fullmatch(r"(\d+)[.,]0*", text)
    return number[1] if number else text


def is_rounded(patient: str) -> bool:
    """Return whether an id is a number that a spreadsheet has rounded: 1.23457E+11 may be many patients."""
    return bool(re.fullmatch(r"\d+([.,]\d+)?[eE]\+\d+", patient.strip()))


def ids_alike(ids: Iterable[str]) -> list[list[str]]:
    """Return groups of different ids that differ only by case, spaces, leading zeros or ``.0``."""
    unique = pd.Series(list(ids), dtype=str)
    plain = unique.str.casefold().str.replace(r"\s|[.,]0+$|(?<![\d.,])0+(?=\d)", "", regex=True)
    same = plain.duplicated(keep=False)
    return [list(group) for _, group in unique[same].groupby(plain[same], sort=False)]
