"""Names of columns, words for unknown, sexes and ids have one meaning."""

import pytest
from one_line import failure_of

from cohorts.columns import SEX_WORDS, is_unknown, meant_columns, normal_id


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        (["file", "PatientID"], {"PatientID": "patient_id"}),
        (["file", "patient id", "AGE"], {"patient id": "patient_id", "AGE": "age"}),
        (["File", "MRN", "Gender"], {"File": "file", "MRN": "patient_id", "Gender": "sex"}),
        (["Datei", "Pat.-Nr.", "Alter", "Geschlecht"],
         {"Datei": "file", "Pat.-Nr.": "patient_id", "Alter": "age", "Geschlecht": "sex"}),
        (["ficheiro", "idade", "Sexo"], {"ficheiro": "file", "idade": "age", "Sexo": "sex"}),
        (["file", "patient_id", "PatientID", "age", "Alter"], {}),
        (["file", "page", "stage", "inpatient", "sextant", "profile", "split_by"], {}),
    ],
)  # fmt: skip
def test_a_column_under_another_name_is_known(header, taken):
    assert meant_columns("t.csv line 1", header) == taken


@pytest.mark.parametrize("slip", ["patinet_id", "patient_idx", "PatientIDs", "patients_ids"])
def test_a_slip_in_the_name_of_the_patients_is_asked_about(slip):
    line = failure_of(meant_columns, "t.csv line 1", ["file", slip])
    assert line == f"t.csv line 1: found a column {slip} and none called patient_id, expected that name"


def test_two_columns_that_may_be_the_same_one_are_asked_about():
    line = failure_of(meant_columns, "t.csv line 1", ["file", "PatientID", "MRN"])
    assert line.startswith("t.csv line 1: found the columns PatientID and MRN and none called patient_id")


def test_other_names_are_looked_for_too():
    assert meant_columns("t", ["CT-Time", "x"], ["ct_time"]) == {"CT-Time": "ct_time"}
    assert meant_columns("t", ["Age"], ["Age", "age"]) == {}  # asked for by its own name


@pytest.mark.parametrize(
    "word", ["", " ", "nan", "NaN", "NULL", "None", "n/a", "NA", "unknown", "-", "?", "NaT"]
)
def test_words_for_unknown(word):
    assert is_unknown(word)


@pytest.mark.parametrize("word", ["0", "no", "nana", "-1", "unknown donor"])
def test_other_words_are_values(word):
    assert not is_unknown(word)


@pytest.mark.parametrize(
    ("text", "patient"),
    [("17", "17"), (" 17", "17"), ("17.0", "17"), ("17,00", "17"), ("17.", "17"), ("'0017", "0017"),
     ('="0017"', "0017"), ("0017.0", "0017"), ("17.5", "17.5"), ("P17.0", "P17.0"), ("\xa017", "17")],
)  # fmt: skip
def test_an_id_has_one_spelling(text, patient):
    assert normal_id(text) == patient


def test_words_for_sex():
    for word in ("m", "male", "männlich", "masculino", "homme", "0"):
        assert SEX_WORDS[word] == "M"
    for word in ("f", "female", "weiblich", "w", "feminino", "femme", "1"):
        assert SEX_WORDS[word] == "F"
