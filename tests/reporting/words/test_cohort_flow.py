"""Who was studied and who was not, counted by hand."""

from pathlib import Path

import pandas as pd

from reporting.words.cohort_flow import hours_from_ct, left_out_rows, table_one
from run_folder.run_record import RunRecord

SPLITS = pd.DataFrame(
    {
        "file": list("abcdef"),
        "patient_id": ["p", "p", "q", "r", "s", "s"],
        "age": [50, 52, 60, 70, None, 80],
        "sex": ["F", "F", "M", "M", None, None],
        "PE": [0, 1, 0, 0, 1, 1],
        "split": ["train"] * 3 + ["test"] * 3,
        "hours_from_ct": [-1.0, -3.0, -2.0, 0.5, -5.0, 1.0],
    }
)
REJECTED = pd.DataFrame(
    {"file": ["x", "y", "z"], "reason": "broken", "sex": ["F", "M", None], "PE": [1.0, 0.0, None]}
)


def record_of(splits=SPLITS, rejected=REJECTED):
    return RunRecord(Path("run"), {}, pd.DataFrame(), splits, rejected, pd.DataFrame())


def test_who_is_left_out_by_label_and_sex():
    assert left_out_rows(record_of()) == [
        ["PE present", "4", "1", "25.0 %"],
        ["PE absent", "4", "1", "25.0 %"],
        ["PE not known", "1", "1", "100.0 %"],
        ["sex F", "3", "1", "33.3 %"],
        ["sex M", "3", "1", "33.3 %"],
        ["sex not known", "3", "1", "33.3 %"],
    ]
    assert left_out_rows(record_of(rejected=REJECTED[:0])) == []
    assert left_out_rows(record_of(rejected=REJECTED[["file", "reason"]])) == []


def test_table_one_counts_patients_too_where_some_have_several_ecgs():
    header, rows = table_one(record_of())
    assert header == ["", "all", "with PE", "without PE", "train", "validation", "test"]
    rows = {title: cells for title, *cells in rows if title.startswith("patients: ")}
    assert rows == {
        "patients: age in years, median (quartiles)": [
            "65 (58–72)", "66 (59–73)", "60 (55–65)", "55 (52–58)", "–", "75 (72–78)",
        ],
        "patients: sex F": ["1 (25.0 %)", "1 (50.0 %)", "1 (33.3 %)", "1 (50.0 %)", "0 (–)", "0 (0.0 %)"],
        "patients: sex M": ["2 (50.0 %)", "0 (0.0 %)", "2 (66.7 %)", "1 (50.0 %)", "0 (–)", "1 (50.0 %)"],
        "patients: sex missing": ["1", "1", "0", "0", "0", "1"],
        "patients: PE present": [
            "2 (50.0 %)", "2 (100.0 %)", "0 (0.0 %)", "1 (50.0 %)", "0 (–)", "1 (50.0 %)",
        ],
    }  # fmt: skip
    one_each = SPLITS.drop_duplicates("patient_id")
    assert not [row for row in table_one(record_of(one_each))[1] if row[0].startswith("patients: ")]


def test_table_one_has_the_clinical_columns_that_the_model_sees():
    """Numbers of any size by their quartiles, 0 and 1 by their share, each with what is not known."""
    clinical = {
        "clinical:dimer": [200.0, 1000.0, 1800.0, None, 2600.0, None],
        "clinical:wells": [0.5, 1.5, 3.0, 4.5, 6.0, 7.5],
        "clinical:excess": [-2.0, -1.0, 0.0, 1.0, 2.0, None],
        "clinical:immobile": [1.0, 0.0, 0.0, None, 1.0, 1.0],
    }
    record = record_of(SPLITS.assign(**clinical))
    assert record.label_names == ["PE"]
    rows = {title: cells[0] for title, *cells in table_one(record)[1]}  # of all
    expected = {
        "dimer, median (quartiles)": "1400 (800–2000)",
        "dimer not known": "2",
        "wells, median (quartiles)": "3.75 (1.88–5.62)",
        "excess, median (quartiles)": "0 (−1 to 1)",
        "excess not known": "1",
        "immobile: 1 or yes": "3 (60.0 %)",
        "immobile not known": "1",
    }
    assert {title: rows.get(title) for title in expected} == expected and "wells not known" not in rows


def test_hours_from_ct_of_each_result():
    assert hours_from_ct(record_of()) == [
        "with PE: median −3.0 h (quartiles −4.0 and −1.0, range −5.0 to 1.0), 1 of 3 ECGs after it",
        "without PE: median −1.0 h (quartiles −1.5 and −0.2, range −2.0 to 0.5), 1 of 3 ECGs after it",
    ]
    assert hours_from_ct(record_of(SPLITS.drop(columns="hours_from_ct"))) == []
    assert record_of().label_names == ["PE"]
