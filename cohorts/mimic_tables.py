"""The tables of MIMIC-IV-ECG, its Ext-ICD labels and MIMIC-IV -> one row per ECG; read in pieces.

Both ways give the columns file, patient_id, age, sex, the labels (0 or 1), study_id, time (s), stay,
in_ed, in_hospital, in_ed_or_hospital, and diagnosed: whether any diagnosis of the stay is coded.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cohorts.table_maker import Flow, chunks_of, find_table, picked
from runtime.errors import UserError

Labels = Mapping[str, tuple[str, ...]]  # name -> prefixes of ICD codes

CODE_LIST = r"\[(?:'[A-Z0-9. ]*'(?:, '[A-Z0-9. ]*')*)?\]"  # a Python list of codes; it is never evaluated
BOOLEANS = {"True": True, "False": False}
SEXES = {"F": "F", "M": "M"}  # otherwise unknown; the publishers write "missing" or nothing
TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
NO_ID = -1


def from_ext_icd(path: Path, labels: Labels, *, diagnoses: str, folds: str) -> tuple[pd.DataFrame, Flow]:
    """Return the ECGs of records_w_diag_icd10.csv, with ``split`` and ``number_in_stay``, and their count.

    Parameters
    ----------
    diagnoses : the column of diagnoses that labels are taken from
    folds : ``fold`` or ``strat_fold``; 0 to 17 train, 18 validation, 19 test

    Raises
    ------
    UserError : the table cannot be read or understood.
    """
    columns = [
        "file_name", "study_id", "subject_id", "ecg_time", "ed_stay_id", "hosp_hadm_id", diagnoses, "gender",
        "age", "ecg_no_within_stay", "ecg_taken_in_ed", "ecg_taken_in_hosp", folds,
    ]  # fmt: skip
    if not path.is_file():
        raise UserError(f"--ext-icd {path}: found no such file, expected records_w_diag_icd10.csv")
    pieces = [_ext_icd_piece(path, chunk, labels, diagnoses, folds) for chunk in chunks_of(path, columns)]
    table = _together(path, pieces)
    return table, Flow("ECGs", len(table), f"records in {path.name}")


def _ext_icd_piece(
    path: Path, chunk: pd.DataFrame, labels: Labels, diagnoses: str, folds: str
) -> pd.DataFrame:
    hospital_stay, ed_stay = _ids(path, chunk, "hosp_hadm_id"), _ids(path, chunk, "ed_stay_id")
    lists = chunk[diagnoses].str.replace(".", "")
    fold = _numbers(path, chunk, folds)
    _check(path, chunk, folds, fold.between(0, 19), "0 to 19")
    for column in ("ecg_taken_in_ed", "ecg_taken_in_hosp"):
        _check(path, chunk, column, chunk[column].isin(list(BOOLEANS)), "True or False")
    _check(path, chunk, diagnoses, chunk[diagnoses].str.fullmatch(CODE_LIST), "a list of ICD-10 codes")
    _check(path, chunk, "file_name", chunk["file_name"].str.contains("files/"), "files/p1000/…")
    in_ed = chunk["ecg_taken_in_ed"].map(BOOLEANS).astype(bool)
    in_hospital = chunk["ecg_taken_in_hosp"].map(BOOLEANS).astype(bool)
    files = chunk["file_name"].str.replace(r"^.*?(?=files/)|\.hea$", "", regex=True)
    return pd.DataFrame({
        "file": files + ".hea",
        "patient_id": _numbers(path, chunk, "subject_id"),
        "split": np.select([fold <= 17, fold == 18], ["train", "validation"], "test"),
        "age": pd.to_numeric(chunk["age"], errors="coerce").round().astype("Int16"),
        "sex": chunk["gender"].map(SEXES),
        **{name: _listed(lists, prefixes) for name, prefixes in labels.items()},
        "study_id": _numbers(path, chunk, "study_id"),
        "time": _seconds(path, chunk, "ecg_time"),
        "stay": hospital_stay.where(hospital_stay != NO_ID, ed_stay),
        "in_ed": in_ed,
        "in_hospital": in_hospital,
        "in_ed_or_hospital": in_ed | in_hospital,
        "diagnosed": chunk[diagnoses] != "[]",
        "number_in_stay": _numbers(path, chunk, "ecg_no_within_stay"),
    }).astype({"split": "category", "sex": "category"})  # fmt: skip


def _listed(lists: pd.Series, prefixes: Sequence[str]) -> pd.Series:
    """Return 1 where a list of ICD-10 codes has one with a prefix, else 0."""
    icd_10 = "|".join(re.escape(prefix) for prefix in prefixes if not prefix[0].isdecimal())
    return lists.str.contains(rf"' *(?:{icd_10})", regex=True).astype("int8")


def from_mimic_iv(ecgs: Path, mimic_iv: Path, labels: Labels) -> tuple[pd.DataFrame, Flow]:
    """Return the ECGs of record_list.csv with the diagnoses of their stays in MIMIC-IV, and their count.

    An ECG falls in a stay from its first to its last second; where stays overlap, in the one that began last.

    Raises
    ------
    UserError : a table is missing, or cannot be read or understood.
    """
    hospital, ed = (mimic_iv / "hosp", mimic_iv), (mimic_iv / "ed", mimic_iv)
    records = find_table("record_list", ecgs)
    admissions = find_table("admissions", *hospital)
    visits_path = find_table("edstays", *ed)
    coded = _coded(find_table("diagnoses_icd", *hospital), "hadm_id", labels)
    table = _read_records(records)
    flow = Flow("ECGs", len(table), f"records in {records.name}")
    table = flow.keep(table, table["time"].notna(), "no time of the ECG").astype({"time": "int64"})
    stays = _read_stays(admissions, "hadm_id", "admittime", "dischtime")
    visits = _read_stays(visits_path, "stay_id", "intime", "outtime", "hadm_id", "gender")
    in_stay, in_visit = _covering(stays, table), _covering(visits, table)
    admission = _at(stays["hadm_id"], in_stay)
    visit = _at(visits["stay_id"], in_visit)
    # An ED visit before the admission has the diagnoses of the admission that it led to.
    admission = np.where(admission != NO_ID, admission, _at(visits["hadm_id"], in_visit))
    table["stay"] = np.where(admission != NO_ID, admission, visit)
    table["in_ed"], table["in_hospital"] = in_visit >= 0, in_stay >= 0
    table["in_ed_or_hospital"] = table["in_ed"] | table["in_hospital"]
    _add_diagnoses(table, admission, coded, labels)
    _add_ed_diagnoses(table, admission, visit, ed, labels)
    _add_person(table, visits, hospital)
    return table, flow


def _read_records(path: Path) -> pd.DataFrame:
    def piece(chunk: pd.DataFrame) -> pd.DataFrame:
        _check(path, chunk, "path", chunk["path"] != "", "files/p1000/…")
        return pd.DataFrame({
            "file": chunk["path"] + ".hea",
            "patient_id": _numbers(path, chunk, "subject_id"),
            "study_id": _numbers(path, chunk, "study_id"),
            "time": _seconds(path, chunk, "ecg_time"),
        })  # fmt: skip

    columns = ("subject_id", "study_id", "ecg_time", "path")
    return _together(path, [piece(chunk) for chunk in chunks_of(path, columns)])


def _read_stays(path: Path, id_column: str, begin: str, end: str, *others: str) -> pd.DataFrame:
    """Return stays by patient and begin, times in s; one without begin or end holds no ECG."""

    def piece(chunk: pd.DataFrame) -> pd.DataFrame:
        ids = {name: _numbers(path, chunk, name) for name in ("subject_id", id_column)}
        ids |= {name: _ids(path, chunk, name) for name in others if name != "gender"}
        sexes = {"gender": chunk["gender"].map(SEXES).astype("category")} if "gender" in others else {}
        times = {"begin": _seconds(path, chunk, begin), "end": _seconds(path, chunk, end)}
        return pd.DataFrame({**ids, **sexes, **times}).dropna(subset=["begin", "end"])

    columns = ("subject_id", id_column, begin, end, *others)
    stays = _together(path, [piece(chunk) for chunk in chunks_of(path, columns)])
    return stays.sort_values(["subject_id", "begin", "end"], ignore_index=True)


def _covering(stays: pd.DataFrame, ecgs: pd.DataFrame) -> np.ndarray:
    """Return the row of the stay in which each ECG falls, the last begun of several, or -1."""
    patients, begins, ends = (stays[name].to_numpy(np.int64) for name in ("subject_id", "begin", "end"))
    patient, time = ecgs["patient_id"].to_numpy(np.int64), ecgs["time"].to_numpy(np.int64)
    # A patient's rank and a second in one number: the seconds of the year 3000 are below 2^36.
    known = np.unique(patients)
    starts = (np.searchsorted(known, patients) << 36) + begins
    row = np.searchsorted(starts, (np.searchsorted(known, patient) << 36) + time, side="right") - 1
    found = np.full(len(ecgs), -1)
    open_ = np.arange(len(ecgs))
    while len(open_):
        at = row[open_]
        open_ = open_[(at >= 0) & (patients[at] == patient[open_])]
        covers = time[open_] <= ends[row[open_]]
        found[open_[covers]] = row[open_[covers]]
        open_ = open_[~covers]
        row[open_] -= 1
    return found


def _at(column: pd.Series, rows: np.ndarray) -> np.ndarray:
    """Return a column's values at rows, and NO_ID where the row is -1."""
    return np.append(column.to_numpy(np.int64), NO_ID)[rows]


def _coded(path: Path, id_column: str, labels: Labels) -> dict[str, np.ndarray]:
    """Return the ids of the stays with a code of each label, and under "" of those with any code."""
    found: dict[str, set[str]] = {name: set() for name in ("", *labels)}
    kinds: dict[tuple[str, str], list[set[str]]] = {}  # a code is looked at once, not in each of its rows
    for line, (stay, code, version) in picked(path, (id_column, "icd_code", "icd_version")):
        if version not in ("9", "10") or not stay.isdecimal():
            expected = f"9 or 10, and a whole number as {id_column}"
            raise UserError(f"{path} line {line}: found icd_version {version}, {stay}, expected {expected}")
        if (code, version) not in kinds:
            kinds[code, version] = [found[name] for name in _labels_of(code, version, labels)]
        for stays in kinds[code, version]:
            stays.add(stay)
    return {name: np.array(sorted(map(int, stays)), np.int64) for name, stays in found.items()}


def _labels_of(code: str, version: str, labels: Labels) -> list[str]:
    """Return the labels that a code gives, and "" for any code."""
    code = code.strip().replace(".", "").upper()
    wanted = {
        name: tuple(prefix for prefix in prefixes if prefix[0].isdecimal() == (version == "9"))
        for name, prefixes in labels.items()
    }
    return ([""] if code else []) + [name for name, prefixes in wanted.items() if code.startswith(prefixes)]


def _add_diagnoses(
    table: pd.DataFrame, stay: np.ndarray, coded: Mapping[str, np.ndarray], labels: Labels
) -> None:
    table["diagnosed"] = np.isin(stay, coded[""])
    for name in labels:
        table[name] = np.isin(stay, coded[name]).astype(np.int8)


def _add_ed_diagnoses(
    table: pd.DataFrame, admission: np.ndarray, visit: np.ndarray, folders: tuple[Path, ...], labels: Labels
) -> None:
    """Label the ED visits without admission by the diagnoses of the ED, where there is a table of them."""
    try:
        path = find_table("diagnosis", *folders)
    except UserError:
        print("note     no diagnosis.csv of MIMIC-IV-ED: ED visits without admission have no diagnosis")
        return
    coded = _coded(path, "stay_id", labels)
    ed_only = (admission == NO_ID) & (visit != NO_ID)
    table["diagnosed"] |= ed_only & np.isin(visit, coded[""])
    for name in labels:
        table[name] |= (ed_only & np.isin(visit, coded[name])).astype(np.int8)


def _add_person(table: pd.DataFrame, visits: pd.DataFrame, folders: tuple[Path, ...]) -> None:
    """Add sex and age from patients.csv where it is there, otherwise only the sex from the ED visits."""
    try:
        path = find_table("patients", *folders)
    except UserError:
        print("note     no patients.csv: the table has no age, and the sex of ED patients only")
        known = visits.drop_duplicates("subject_id").set_index("subject_id")["gender"]
        table["sex"] = table["patient_id"].map(known.astype(object))
        return
    columns = ("subject_id", "gender", "anchor_age", "anchor_year")
    pieces = [
        pd.DataFrame({name: _ids(path, chunk, name) for name in columns if name != "gender"}).assign(
            gender=chunk["gender"].map(SEXES)
        )
        for chunk in chunks_of(path, columns)
    ]
    people = _together(path, pieces).drop_duplicates("subject_id").set_index("subject_id")
    table["sex"] = table["patient_id"].map(people["gender"])
    year = pd.Series(
        table["time"].to_numpy().astype("datetime64[s]").astype("datetime64[Y]").astype(int) + 1970
    )
    born = people["anchor_year"] - people["anchor_age"]
    table["age"] = (year.to_numpy() - table["patient_id"].map(born)).astype("Int16")


def _together(path: Path, pieces: list[pd.DataFrame]) -> pd.DataFrame:
    if not sum(map(len, pieces)):
        raise UserError(f"{path}: found no rows, expected the publisher's")
    return pd.concat(pieces, ignore_index=True)


def _numbers(path: Path, chunk: pd.DataFrame, column: str) -> pd.Series:
    """Return whole numbers, which a publisher may have written as 3 or 3.0."""
    values = pd.to_numeric(chunk[column], errors="coerce")
    _check(path, chunk, column, values % 1 == 0, "a whole number")
    return values.astype(np.int64)


def _ids(path: Path, chunk: pd.DataFrame, column: str) -> pd.Series:
    """Return identifiers, NO_ID where there is none."""
    values = pd.to_numeric(chunk[column], errors="coerce")
    _check(path, chunk, column, (values % 1 == 0) | (chunk[column] == ""), "a whole number")
    return values.fillna(NO_ID).astype(np.int64)


def _seconds(path: Path, chunk: pd.DataFrame, column: str) -> pd.Series:
    """Return times in s since 1970, missing where there is none."""
    times = pd.to_datetime(chunk[column], format=TIME_FORMAT, errors="coerce")
    _check(path, chunk, column, times.notna() | (chunk[column] == ""), "a time such as 2180-07-23 08:44:00")
    seconds = times.to_numpy().astype("datetime64[s]").astype(np.int64)
    return pd.Series(np.where(times.isna(), np.nan, seconds), chunk.index)


def _check(path: Path, chunk: pd.DataFrame, column: str, right: pd.Series, expected: str) -> None:
    if not right.all():
        at = right.to_numpy(bool).argmin()
        found = chunk[column].iloc[at][:60] or "nothing"
        raise UserError(f"{path} line {chunk.index[at]}: column {column}: found {found}, expected {expected}")
