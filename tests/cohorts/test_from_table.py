"""A hospital's export becomes a cohort: windows, ties, time zones and results, by hand."""

import pandas as pd
import pytest
from tiny_runs import line_of, run_as_user, run_here

SCRIPT = "cohorts.from_table"
HEADER = "patient_id,file,ecg_time,ct_time,ct_result"
NOON = "2024-03-01 12:00"


@pytest.fixture
def make(tmp_path):
    """Return a function that writes the table, makes the cohort and returns it with what was said."""

    def run(lines, *flags, header=HEADER, ecgs=None):
        (tmp_path / "exams.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        flags = ["--table", tmp_path / "exams.csv", "--files-elsewhere", "--overwrite", *flags]
        if ecgs is not None:
            (tmp_path / "ecgs.csv").write_text("\n".join(["patient_id,file,ecg_time", *ecgs]) + "\n")
            flags += ["--ecgs", tmp_path / "ecgs.csv"]
        outcome = run_here(SCRIPT, tmp_path, *flags)
        if outcome.returncode:
            return line_of(outcome)
        table = pd.read_csv(tmp_path / "labels.csv", dtype=str, keep_default_na=False)
        return table.set_index("file"), outcome.stdout

    return run


def test_a_user_gets_table_flow_and_command(tmp_path):
    exams = [
        f"A,a.xml,2024-03-01 11:00,{NOON},1,71,F",
        f"B,b.xml,2024-03-01 05:59,{NOON},0,50,M",  # a minute too early
        f"C,c.xml,2024-03-01 18:00,{NOON},0,44,F",  # the last minute of the window
        f"D,d.xml,2024-03-01 12:30,{NOON},,44,F",
        f"E,,,{NOON},0,44,F",
        f"F,f.xml,,{NOON},0,44,F",
        "G,g.xml,2024-03-01 12:30,,0,44,F",
        f"H,h.xml,2024-03-01 12:30,{NOON},0,44,F",  # whose file is not there
    ]
    (tmp_path / "exams.csv").write_text("\n".join([f"{HEADER},age,sex", *exams]))
    for name in "abcdefg":
        (tmp_path / f"{name}.xml").touch()
    words = ["--table", tmp_path / "exams.csv", "--window-after", 6]
    outcome = run_as_user(SCRIPT, tmp_path, *words, cwd=tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    table = pd.read_csv(tmp_path / "labels.csv", dtype=str)
    assert table.to_dict("list") == {
        "file": ["a.xml", "c.xml"], "patient_id": ["A", "C"], "PE": ["1", "0"], "age": ["71", "44"],
        "sex": ["F", "F"], "hours_from_ct": ["-1.0", "6.0"],
    }  # fmt: skip
    flow = pd.read_csv(tmp_path / "labels_flow.csv")
    counts = dict(
        flow[(flow["unit"] == "examinations") & (flow["step"] == "left out")][["reason", "n"]].to_numpy()
    )
    assert counts == {
        "no ECG in its window (6 h before to 6 h after)": 1,
        "no result": 1,
        "no ECG file": 1,
        "no ecg_time": 1,
        "no ct_time": 1,
        f"its ECGs are not in {tmp_path}": 1,
    }
    kept = flow[flow["step"] == "kept"].set_index("unit")["n"]
    assert kept["examinations"] == 2 and kept["ECGs"] == 2
    lost = flow[(flow["unit"] == "ECGs") & (flow["n"] > 0)].set_index("reason")["n"]
    assert lost["in the window of no examination, or not in FOLDER"] == 4  # b, f, g, h
    assert lost["nearest to an examination that is neither positive nor negative"] == 1  # d
    for unit in ("examinations", "ECGs"):
        numbers = flow[flow["unit"] == unit].groupby("step")["n"].sum()
        assert numbers["found"] == numbers["left out"] + numbers["kept"]
    assert "label              1  PE (50.0% of 2 known)" in outcome.stdout
    assert f"--labels {tmp_path / 'labels.csv'} --label-columns PE" in outcome.stdout


FOUR = [
    f"A,early.xml,2024-03-01 10:00,{NOON},1",
    f"A,late.xml,2024-03-01 14:00,{NOON},1",
    f"A,first.xml,2024-03-01 07:00,{NOON},1",
    f"A,last.xml,2024-03-01 17:30,{NOON},1",
]


@pytest.mark.parametrize(
    ("which", "files"),
    [
        ("nearest", ["early.xml"]),  # of two at equal distance the earlier one
        ("first", ["first.xml"]),
        ("all", ["first.xml", "early.xml", "late.xml", "last.xml"]),
    ],
)
def test_which_ecg_of_an_examination_is_a_choice(make, which, files):
    for lines in (FOUR, FOUR[::-1]):
        table, said = make(lines, "--which", which, "--window-after", "6")
        assert sorted(table.index) == sorted(files)
        assert "found              1  examinations in 4 rows of exams.csv" in said
        assert f"left out           {4 - len(files)}  other ECGs of an examination (--which {which})" in said


def test_the_window_is_not_the_same_before_and_after(make):
    table, _ = make(FOUR, "--which", "all", "--window-before", "2", "--window-after", "5.5")
    assert sorted(table.index) == ["early.xml", "last.xml", "late.xml"]


TWO_EXAMS = [
    "A,neg.xml,2024-03-01 11:00,2024-03-01 12:00,0",
    "A,pos.xml,2024-05-01 12:10,2024-05-01 12:00,1",
    "B,b.xml,2024-03-01 11:00,2024-03-01 12:00,0",
]


def test_each_examination_of_a_patient_is_judged_by_itself(make):
    table, _ = make(TWO_EXAMS, "--window-after", "1")
    assert table["PE"].to_dict() == {"neg.xml": "0", "pos.xml": "1", "b.xml": "0"}
    assert table["patient_id"].to_dict() == {"neg.xml": "A", "pos.xml": "A", "b.xml": "B"}


@pytest.mark.parametrize(("which", "file"), [("first", "neg.xml"), ("nearest", "pos.xml")])
def test_one_examination_a_patient_is_the_earliest_or_that_with_the_nearest_ecg(make, which, file):
    table, said = make(TWO_EXAMS, "--per", "patient", "--which", which, "--window-after", "1")
    assert list(table.index) == [file, "b.xml"]
    assert "another examination of the patient is kept" in said
    outcome = run_here(SCRIPT, ".", "--table", "x.csv", "--per", "patient", "--which", "all")
    assert outcome.returncode == 2 and "expected --which nearest or first" in outcome.stderr


def test_an_ecg_between_two_examinations_belongs_to_the_nearer_one(make):
    exams = ["A,2024-03-01 20:00,0", "A,2024-03-01 12:00,0", "A,2024-03-01 18:00,1", "B,2024-03-01 12:00,0"]
    ecgs = ["A,near.xml,2024-03-01 14:00", "A,tie.xml,2024-03-01 19:00", "C,c.xml,2024-03-01 12:00"]
    flags = ("--which", "all", "--window-after", "6")
    header = "patient_id,ct_time,ct_result"
    assert "exams.csv line 3 and " in (line := make(exams, *flags, header=header, ecgs=ecgs))
    assert "found a positive and a negative result of one patient within 24 h (and 1 more), expected" in line
    table, said = make(exams, *flags, "--allow-contradictions", header=header, ecgs=ecgs)
    assert table["PE"].to_dict() == {"near.xml": "0", "tie.xml": "1"}
    assert table["hours_from_ct"].to_dict() == {"near.xml": "2.0", "tie.xml": "1.0"}  # the earlier of two
    assert "left out           1  its ECGs are nearer to another examination of the patient" in said
    assert "left out           1  no ECG of the patient" in said
    assert "note     1 ECGs of 1 patients without any examination" in said


@pytest.mark.parametrize("result", ["2", ""])
def test_an_ecg_takes_no_label_from_a_farther_examination_than_one_without_a_result(make, result):
    exams = [f"A,2024-03-01 10:30,{result}", "A,2024-03-01 15:00,1", "B,2024-03-01 15:00,0"]
    ecgs = ["A,a.xml,2024-03-01 10:00", "A,after.xml,2024-03-01 10:40", "B,b.xml,2024-03-01 10:00"]
    words = ["--indeterminate", "2", "--which", "all"]
    table, said = make(exams, *words, header="patient_id,ct_time,ct_result", ecgs=ecgs)
    assert table["PE"].to_dict() == {"after.xml": "1", "b.xml": "0"}
    assert table["hours_from_ct"].to_dict() == {"after.xml": "-4.33", "b.xml": "-5.0"}
    assert "left out           1  nearest to an examination that is neither positive nor negative" in said
    ecgs = [ecgs[0], ecgs[2]]
    table, said = make(exams, *words, "--overwrite", header="patient_id,ct_time,ct_result", ecgs=ecgs)
    assert table["PE"].to_dict() == {"b.xml": "0"}
    assert "left out           1  its ECGs are nearer to another examination of the patient" in said


def test_no_ecg_after_the_ct_is_taken_and_the_hours_are_told_by_result(make):
    lines = [
        f"A,a.xml,2024-03-01 10:00,{NOON},1",
        f"A,later.xml,2024-03-01 12:01,{NOON},1",
        f"B,b.xml,2024-03-01 09:00,{NOON},0",
        f"C,c.xml,{NOON},{NOON},0",
        f"D,d.xml,2024-03-01 13:00,{NOON},1",
    ]
    table, said = make(lines)
    assert sorted(table.index) == ["a.xml", "b.xml", "c.xml"]
    assert "left out           1  no ECG in its window (6 h before to 0 h after)" in said
    table, said = make(lines, "--window-after", "1", "--which", "all")
    assert (
        "hours            0.0  from CT to ECG, the median where PE is 1; 2 of 3 ECGs (66.7%) after the CT"
        in said
    )
    assert (
        "hours           -1.5  from CT to ECG, the median where PE is 0; 0 of 2 ECGs (0.0%) after the CT"
        in said
    )


def test_contradictory_results_are_those_within_a_day(make):
    lines = [
        "A,a.xml,2024-03-01 11:00,2024-03-01 12:00,1",
        "A,b.xml,2024-03-02 11:59,2024-03-02 12:01,0",
        "B,c.xml,2024-03-02 11:00,2024-03-01 12:00,0",
        "B,d.xml,2024-03-02 11:59,2024-03-02 12:00,0",
    ]
    assert make(lines)[0]["PE"].to_dict() == {"a.xml": "1", "b.xml": "0", "d.xml": "0"}
    lines[1] = "A,b.xml,2024-03-02 11:59,2024-03-02 12:00,0"
    assert "line 2 and " in make(lines) and "line 3: found a positive and a negative" in make(lines)


PATIENTS = "patient_id,ct_time,ct_result"
BEFORE = "2024-03-01 11:00"


def test_a_patient_is_one_in_both_tables_however_the_id_is_written(make):
    exams = [f"17.0,{NOON},1", f"P8,{NOON},0", f"0023,{NOON},0"]
    ecgs = [f"17,a.xml,{BEFORE}", f"p 8,b.xml,{BEFORE}", f"23,c.xml,{BEFORE}"]
    table, said = make(exams, header=PATIENTS, ecgs=ecgs)
    assert table["patient_id"].to_dict() == {"a.xml": "17", "b.xml": "P8", "c.xml": "0023"}
    assert "differ only" not in said


def test_ids_alike_that_both_tables_have_are_two_patients(make):
    exams = [f"17,{NOON},1", f"0017,{NOON},0"]
    table, said = make(exams, header=PATIENTS, ecgs=[f"17,a.xml,{BEFORE}", f"0017,b.xml,{BEFORE}"])
    assert table["PE"].to_dict() == {"a.xml": "1", "b.xml": "0"}
    assert "exams.csv line 2 and " in said and "line 3: patients' ids differ only by case" in said


def test_an_id_that_may_be_either_of_two_patients_is_refused(make):
    exams = [f"17,{NOON},1", f"0017,{NOON},0"]
    line = make(exams, header=PATIENTS, ecgs=[f"17,a.xml,{BEFORE}", f"017,b.xml,{BEFORE}"])
    assert "ecgs.csv line 3: found a patient's id that differs from those of " in line


@pytest.mark.parametrize("word", ["nan", "NULL", "-", "?", "n/a", "unbekannt", "1.23457E+11"])
def test_no_patient_is_called_unknown_or_has_lost_digits(make, word):
    line = make([f"{word},a.xml,{NOON},{NOON},1"])
    assert f"line 2: found {word} in column patient_id, expected a patient's id" in line


def test_words_for_unknown_are_no_time_no_result_and_no_file(make):
    lines = [
        f"A,a.xml,{BEFORE},{NOON},1", f"B,nan,{BEFORE},{NOON},1", f"C,c.xml,NaT,{NOON},1",
        f"D,d.xml,{BEFORE},-,1", f"E,e.xml,{BEFORE},{NOON},n/a",
    ]  # fmt: skip
    table, said = make(lines)
    assert list(table.index) == ["a.xml"]
    for reason in ("no ECG file", "no ecg_time", "no ct_time", "no result"):
        assert f"left out           1  {reason}\n" in said


DAY = "2024-03-01"


def test_a_date_without_a_time_is_refused_where_hours_decide(make):
    line = make([f"1,a.xml,{DAY} 00:30,{DAY},1"])
    assert (
        f"line 2: found the date {DAY} without a time in column ct_time, expected a time: the window is in "
        "hours; --window-days 0 0" in line
    )
    assert f"found the date {DAY} without a time in column ecg_time" in make([f"1,a.xml,{DAY},{NOON},1"])
    line = make(["1,a.xml,01.03.2024,01.03.2024,1"], "--time-format", "%d.%m.%Y")
    assert "found the date 01.03.2024 without a time" in line


def test_a_date_without_a_time_is_a_day_in_a_window_of_days(make):
    exams = [f"1,{DAY},1", "2,2024-03-05,0", "3,2024-03-09 12:00,0"]
    ecgs = [
        f"1,night.xml,{DAY} 00:30", f"1,afternoon.xml,{DAY} 15:00", "1,day_before.xml,2024-02-29 23:59",
        "2,next_day.xml,2024-03-06 00:10", "3,hours.xml,2024-03-09 10:00", "3,too_late.xml,2024-03-09 13:00",
    ]  # fmt: skip
    flags = ("--window-days", "0", "0", "--which", "all")
    table, said = make(exams, *flags, header=PATIENTS, ecgs=ecgs)
    assert table["hours_from_ct"].to_dict() == {"night.xml": "", "afternoon.xml": "", "hours.xml": "-2.0"}
    assert "no ECG in its window (6 h before to 0 h after; 0 days before to 0 after where" in said
    assert f"hours    {2:>11}  ECGs of which only the day is known (--window-days)" in said
    table, _ = make(exams, "--window-days", "1", "1", "--which", "all", header=PATIENTS, ecgs=ecgs)
    assert len(table) == 5 and {"day_before.xml", "next_day.xml"} < set(table.index)


def test_a_column_of_midnights_is_one_of_dates(make):
    lines = [f"{n},{n}.xml,{DAY} 00:30,2024-03-0{n} 00:00:00,1" for n in (1, 2)]
    assert f"line 2: found the date {DAY} 00:00:00 without a time in column ct_time" in make(lines)
    table, said = make([*lines, f"3,3.xml,{BEFORE},{NOON},0"], "--window-after", "1")
    assert table["hours_from_ct"].to_dict() == {"1.xml": "0.5", "3.xml": "-1.0"}
    assert "2 of 3 times in column ct_time are midnight to the second" in said


def test_files_of_a_table_from_windows_are_found(make, tmp_path):
    (tmp_path / "2023").mkdir()
    (tmp_path / "2023" / "a.xml").touch()
    (tmp_path / "exams.csv").write_text(f"{HEADER}\nA,2023\\A.XML,{NOON},{NOON},1\n", encoding="utf-8")
    outcome = run_here(SCRIPT, tmp_path, "--table", tmp_path / "exams.csv")
    assert outcome.returncode == 0, outcome.stderr
    assert pd.read_csv(tmp_path / "labels.csv")["file"].tolist() == ["2023/a.xml"]


def test_what_spreadsheets_write_is_read(make, tmp_path):
    lines = [f"A;a.xml;{NOON};{NOON};1;61,5"]
    table, _ = make(lines, header="sep=;\n" + HEADER.replace(",", ";") + ";age")
    assert table["age"].to_dict() == {"a.xml": "61.5"}
    assert "line 3: found time never" in make(["A;a;never;;1"], header="sep=;\n" + HEADER.replace(",", ";"))
    header = "PatientID,Datei,ECG-Time,CT time,CT_Result,Alter,Geschlecht"
    table, said = make([f"A,a.xml,{NOON},{NOON},1,61,w"], header=header)
    assert table.loc["a.xml", ["patient_id", "age", "sex"]].tolist() == ["A", "61", "w"]
    assert (
        "taken are PatientID as patient_id, Datei as file, ECG-Time as ecg_time, CT time as ct_time" in said
    )
    assert list(make([f"A,a.xml,{NOON},{NOON},1,61"], "--keep", "Age", header=f"{HEADER},Age")[0]["Age"]) == [
        "61"
    ]
    (tmp_path / "exams.xls").write_bytes(b"\xd0\xcf\x11\xe0")
    outcome = run_here(SCRIPT, tmp_path, "--table", tmp_path / "exams.xls", "--overwrite")
    assert "exams.xls: found a workbook of Excel before 2007" in line_of(outcome)


def test_offsets_of_time_are_taken_into_account(make):
    lines = [
        "A,a.xml,2024-03-01T11:00:00Z,2024-03-01T12:30:00+01:00,1",  # half an hour before, in UTC
        "B,b.xml,2024-03-01T23:00:00-05:00,2024-03-02T12:00:00+01:00,0",  # 04:00 and 11:00 UTC
    ]
    table, _ = make(lines)
    assert table["hours_from_ct"].to_dict() == {"a.xml": "-0.5"}


def test_times_with_and_without_offset_do_not_mix(make):
    line = make([f"A,a.xml,{NOON},{NOON}:00+01:00,1"])
    assert (
        "line 2: found time 2024-03-01 12:00, expected one with a UTC offset as 2024-03-01 12:00:00+01:00"
        in line
    )
    line = make([f"A,a.xml,{NOON},{NOON},1", f"B,b.xml,{NOON},{NOON}Z,1"])
    assert (
        "line 3: found time 2024-03-01 12:00Z, expected one without a UTC offset as 2024-03-01 12:00" in line
    )


def test_another_format_of_time_is_a_flag(make):
    lines = ["A,a.xml,01.03.2024 11:00,01.03.2024 12:00,1"]
    assert "found time 01.03.2024 12:00, expected a time such as 2024-03-01 14:05 (--time-format" in make(
        lines
    )
    assert list(make(lines, "--time-format", "%d.%m.%Y %H:%M")[0]["hours_from_ct"]) == ["-1.0"]


def test_results_are_words_that_flags_map(make):
    words = ["yes", "PE", "No", "non-diagnostic"]
    lines = [f"{word},{word}.xml,{NOON},{NOON},{word}" for word in words]
    line = make(lines)
    assert "line 2: found result yes, expected one of 1, 0; name it after --positive, --negative or" in line
    flags = ("--positive", "yes", "1", "PE", "--negative", "no", "0")
    assert "line 5: found result non-diagnostic" in make(lines, *flags)
    table, said = make(lines, *flags, "--indeterminate", "non-diagnostic")
    assert table["PE"].to_dict() == {"yes.xml": "1", "PE.xml": "1", "No.xml": "0"}
    assert "left out           1  neither positive nor negative" in said
    outcome = run_here(SCRIPT, ".", "--table", "x.csv", "--positive", "1", "--negative", "1")
    assert outcome.returncode == 2 and "found 1, which another result has too" in outcome.stderr


def test_contradictions_in_the_table_are_errors(make):
    line = make([f"A,a.xml,{NOON},{NOON},1", f"A,b.xml,{NOON},{NOON},0"])
    assert "line 3: found 0 for the examination of" in line and "exams.csv line 2, expected the same" in line
    assert "a.xml: found for two patients, expected one" in make(
        [f"A,a.xml,{NOON},{NOON},1", f"B,a.xml,{NOON},{NOON},1"]
    )
    assert "line 2: found nothing in column patient_id" in make([f",a.xml,{NOON},{NOON},1"])
    assert "found no rows" in make([])
    assert "column ct_result: found only patient_id, file" in make(
        [], header=HEADER.replace("ct_result", "ct")
    )


def test_columns_semicolons_and_other_names_are_understood(make):
    lines = [f"A;a.xml;{NOON};{NOON};ja;3"]
    flags = (
        "--patient-column",
        "Fall",
        "--file-column",
        "EKG",
        "--ecg-time-column",
        "Zeit",
        "--ct-time-column",
    )
    flags += ("CT", "--result-column", "LE", "--positive", "ja", "--label", "LE", "--keep", "wells")
    table, said = make(lines, *flags, header="Fall;EKG;Zeit;CT;LE;wells")
    assert table.to_dict("list") == {
        "patient_id": ["A"], "LE": ["1"], "wells": ["3"], "hours_from_ct": ["0.0"],
    }  # fmt: skip
    assert "--label-columns LE" in said


def test_columns_that_are_not_there_are_errors(make):
    lines = [f"A,a.xml,{NOON},{NOON},1"]
    there = f"exams.csv: column foo: found only {HEADER.replace(',', ', ')}, expected it once"
    for flags in (["--keep", "foo"], ["--keep", "ct_time", "foo"], ["--patient-column", "foo"]):
        assert make(lines, *flags).endswith(there)
    for name in ("file", "ecg-time", "ct-time", "result"):
        assert make(lines, f"--{name}-column", "foo").endswith(there)
    ecgs = [f"A,a.xml,{NOON}"]
    for name in ("file", "ecg-time"):
        line = make(lines, f"--{name}-column", "foo", ecgs=ecgs)
        assert "ecgs.csv: column foo: found only patient_id, file, ecg_time, expected it once" in line


def test_age_and_sex_are_kept_where_they_are_there(make):
    header, lines = f"{HEADER},sex,site", [f"A,a.xml,{NOON},{NOON},1,F,Bern"]
    assert list(make(lines, header=header)[0]) == ["patient_id", "PE", "sex", "hours_from_ct"]
    kept = make(lines, "--keep", "site", header=header)[0]
    assert list(kept) == ["patient_id", "PE", "site", "hours_from_ct"]


def test_a_column_is_kept_once(tmp_path):
    for flags in (["--keep", "age", "age"], ["--keep", "PE"], ["--label", "hours_from_ct"]):
        line = line_of(run_here(SCRIPT, tmp_path, "--table", "x.csv", *flags), status=2)
        assert "expected each column once" in line


def test_the_source_is_never_overwritten(make, tmp_path):
    make([f"A,a.xml,{NOON},{NOON},1"])
    before = (tmp_path / "exams.csv").read_text()
    outcome = run_here(
        SCRIPT, tmp_path, "--table", tmp_path / "exams.csv", "--output", tmp_path / "exams.csv", "--overwrite"
    )
    assert "found the table to be read" in line_of(outcome)
    assert (tmp_path / "exams.csv").read_text() == before
    assert "found no such file" in line_of(
        run_here(SCRIPT, tmp_path, "--table", tmp_path / "x.csv", "--overwrite")
    )
