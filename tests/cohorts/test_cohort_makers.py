"""Publishers' tables become cohort tables: labels by hand, every record counted, errors of one line."""

import gzip

import pandas as pd
import pytest
from tiny_runs import line_of, run_as_user, run_here

from cohorts.physionet_challenge import DEFAULT_LABELS, EQUAL, SCORED, codes_of
from cohorts.table_maker import Flow, check_free, chunks_of, find_table, number, rows_of, write_lines
from dataset.labels_table import read_labels
from runtime.errors import UserError

STATEMENTS = """,description,diagnostic,form,rhythm,diagnostic_class
NORM,normal ECG,1.0,,,NORM
IMI,inferior myocardial infarction,1.0,,,MI
ASMI,anteroseptal myocardial infarction,1.0,,,MI
NDT,non-diagnostic T abnormalities,1.0,1.0,,STTC
CRBBB,complete right bundle branch block,1.0,,,CD
LVH,left ventricular hypertrophy,1.0,,,HYP
PVC,ventricular premature complex,,1.0,,
AFIB,atrial fibrillation,,,1.0,
SR,sinus rhythm,,,1.0,
"""
DATABASE = """ecg_id,patient_id,age,sex,site,device,scp_codes,strat_fold,filename_lr,filename_hr
1,15709.0,56.0,1,0.0,CS-12 E,"{'NORM': 100.0, 'SR': 0.0}",3,x_lr,records500/00000/00001_hr
2,13243.0,300.0,0,0.0,CS-12 E,"{'IMI': 35.0, 'ASMI': 80.0}",9,x_lr,records500/00000/00002_hr
3,20372.0,37.0,1,,CS-12 E,"{'IMI': 50.0, 'AFIB': 0.0}",10,x_lr,records500/00000/00003_hr
4,20372.0,,0,2.0,CS-12 E,"{'AFIB': 0.0, 'PVC': 100.0}",10,x_lr,records500/00000/00004_hr
5,17014.0,24.0,1,0.0,CS-12 E,"{'NDT': 0.0, 'CRBBB': 0.0}",1,x_lr,records500/00000/00005_hr
"""
LUDB = """ID,Sex,Age,Rhythms,Electric axis of the heart,Conduction abnormalities,Extrasystolies,Hypertrophies
1,"F
","51
",Sinus bradycardia,Electric axis of the heart: left axis deviation,,,"Left ventricular overload
Left ventricular hypertrophy"
2,M,>89,Atrial fibrillation,,"Incomplete right bundle branch block
Left anterior hemiblock",,
3,M,20,Sinus rhythm,,Iii degree av-block,,
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def write(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def ptbxl(folder):
    """Five records of PTB-XL, the fifth without its file."""
    write(folder / "ptbxl_database.csv", DATABASE)
    write(folder / "scp_statements.csv", STATEMENTS)
    for ecg in range(1, 5):
        write(folder / f"records500/00000/{ecg:05d}_hr.hea")
    return folder


@pytest.fixture
def challenge(folder):
    """Five records of two sources, one of them without any code."""
    records = {
        "training/georgia/g1/E00001": "#Age: 74\n#Sex: Male\n#Dx: 59118001,426783006\n",
        "training/georgia/g1/E00002": "# Age: 49\n# Sex: Female\n# Dx: 164889003\n",
        "training/georgia/g2/E01001": "#Age: NaN\n#Sex: Unknown\n#Dx: \n#Rx: Unknown\n",
        "training/ningbo/g1/JS10001": "#Age: 60\n#Sex: Female\n#Dx: 713427006, 17338001\n",
        "training/ningbo/g1/JS10002": "#Age: 61\n#Sex: Male\n#Dx: 426783006\n",
    }
    for record, comments in records.items():
        name = record.rpartition("/")[2]
        write(
            folder / f"{record}.hea", f"{name} 12 500 5000\n{name}.mat 16+24 1000/mV 16 0 1 2 0 I\n{comments}"
        )
        write(folder / f"{record}.mat")
    return folder


def made(outcome, output, index="file"):
    """Return the table that a maker has written, as text, after checking that training can read it."""
    assert outcome.returncode == 0, outcome.stderr
    table = pd.read_csv(output, dtype=str, keep_default_na=False)
    return table.set_index(index)


def test_ptbxl_gives_superclasses_and_keeps_the_folds(ptbxl, tmp_path):
    output = tmp_path / "table.csv"
    outcome = run_as_user("cohorts.ptbxl", ptbxl, "--output", output, cwd=tmp_path)
    table = made(outcome, output, "ecg_id")
    # 4 has no diagnostic statement, hence no known superclass; 5 has no file.
    assert list(table.index) == ["1", "2", "3"]
    assert table["file"]["2"] == "records500/00000/00002_hr.hea"
    assert list(table["split"]) == ["train", "validation", "test"]
    assert list(table["patient_id"]) == ["15709", "13243", "20372"]
    assert list(table["sex"]) == ["F", "M", "F"]
    assert list(table["age"]) == ["56", "300", "37"]
    assert list(table["MI"]) == ["0", "1", "1"] and list(table["NORM"]) == ["1", "0", "0"]
    assert "found              5  records in ptbxl_database.csv" in outcome.stdout
    assert f"left out           1  no such file in {ptbxl}" in outcome.stdout
    assert "left out           1  none of the labels is known" in outcome.stdout
    assert "kept               3  ECGs" in outcome.stdout and "patients           3" in outcome.stdout
    assert "label              2  MI (66.7% of 3 known)" in outcome.stdout
    command = (
        f"python train_atten.py --data-dir {ptbxl} --labels {output} --label-columns NORM MI STTC CD HYP"
    )
    assert command in outcome.stdout


def test_a_made_table_is_one_that_training_reads(ptbxl, tmp_path):
    output = tmp_path / "table.csv"
    assert run_here("cohorts.ptbxl", ptbxl, "--output", output).returncode == 0
    table, names = read_labels(output, ["MI", "CD"])
    assert names == ("MI", "CD") and list(table["MI"]) == [0, 1, 1]
    assert list(table["age"]) == ["56", "90", "37"]  # 300 is the publisher's "above 89"


def test_a_likelihood_below_the_threshold_leaves_the_label_empty(ptbxl, tmp_path):
    output = tmp_path / "table.csv"
    flags = ("--labels", "MI", "STTC", "CD", "AFIB", "IMI", "--likelihood", "80", "--files-elsewhere")
    table = made(run_here("cohorts.ptbxl", ptbxl, "--output", output, *flags), output, "ecg_id")
    assert list(table["MI"]) == ["0", "1", "", "", "0"]  # 3: 50 %; 4: no diagnostic statement
    assert list(table["IMI"]) == ["0", "", "", "0", "0"]  # a statement is no superclass: 4 does not state it
    assert list(table["AFIB"]) == ["0", "0", "1", "1", "0"]  # rhythm statements have no likelihood
    assert list(table["STTC"]) == ["0", "0", "0", "", "1"]  # NDT is a form statement too
    assert list(table["CD"]) == ["0", "0", "0", "", ""]  # a likelihood of 0 is unknown


def test_all_statements_of_the_records_at_100_hz(ptbxl, tmp_path):
    database = DATABASE.replace("x_lr", "records100/00000/1_lr")
    write(ptbxl / "ptbxl_database.csv", database)
    write(ptbxl / "records100/00000/1_lr.hea")
    output = tmp_path / "table.csv"
    outcome = run_here("cohorts.ptbxl", ptbxl, "--labels", "all", "CD", "--rate", 100, "--output", output)
    table = made(outcome, output, "ecg_id")
    assert set(table["file"]) == {"records100/00000/1_lr.hea"}
    statements = ["NORM", "IMI", "ASMI", "NDT", "CRBBB", "LVH", "PVC", "AFIB", "SR"]
    assert list(table)[5:15] == [*statements, "CD"]
    assert list(table["IMI"]) == list("01100") and list(table["LVH"]) == list("00000")
    assert list(table["CD"]) == ["0", "0", "0", "", "1"]
    assert outcome.stdout.rstrip().endswith(f"--labels {output} --label-columns all")


def test_statements_that_are_too_rare_in_a_part_are_left_out(ptbxl, tmp_path):
    # IMI is of 2 (validation) and 3 (test), and of 5 (train) here; all others lack a part.
    write(ptbxl / "ptbxl_database.csv", DATABASE.replace("'NDT': 0.0", "'IMI': 0.0"))
    output = tmp_path / "table.csv"
    flags = ("--labels", "all", "LVH", "--min-positives", 1, "--files-elsewhere", "--output", output)
    outcome = run_here("cohorts.ptbxl", ptbxl, *flags)
    table = made(outcome, output)
    assert list(table)[4:6] == ["IMI", "LVH"]  # LVH is named by itself
    rare = "NORM ASMI NDT CRBBB PVC AFIB SR"
    with_fewer = "fewer than 1 positive ECGs in a part"
    assert f"rare               7  statements left out, with {with_fewer}: {rare}" in outcome.stdout


def test_ptbxl_is_read_from_compressed_tables_too(ptbxl, tmp_path):
    for name in ("ptbxl_database.csv", "scp_statements.csv"):
        (ptbxl / f"{name}.gz").write_bytes(gzip.compress((ptbxl / name).read_bytes()))
        (ptbxl / name).unlink()
    output = tmp_path / "table.csv"
    assert len(made(run_here("cohorts.ptbxl", ptbxl, "--output", output), output)) == 3


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("scp_codes,", "codes,", "ptbxl_database.csv: column scp_codes: found only ecg_id,"),
        ("{'IMI': 50.0,", "{'IMI': __import__('os'),", "ptbxl_database.csv line 4: found scp_codes"),
        (
            "{'IMI': 50.0,",
            "{'XYZ': 50.0,",
            "line 4: found XYZ in scp_codes, expected a row of scp_statements.csv",
        ),
        (",10,x_lr,records500/00000/00003", ",11,x_lr,records500/00000/00003", "line 4: found strat_fold 11"),
        ("3,20372.0,37.0,", "3,20372.0,", "line 4: found 9 fields, expected 10"),
        ("CS-12 E", '"CS-12 E', "ptbxl_database.csv: "),
    ],
)
def test_a_wrong_field_is_named_with_its_line(ptbxl, tmp_path, old, new, expected):
    assert old in DATABASE
    write(ptbxl / "ptbxl_database.csv", DATABASE.replace(old, new))
    line = line_of(run_here("cohorts.ptbxl", ptbxl, "--output", tmp_path / "table.csv"))
    assert expected in line
    assert not (tmp_path / "table.csv").exists()


def test_an_unknown_label_and_a_wrong_folder_are_one_line(ptbxl, tmp_path):
    line = line_of(run_here("cohorts.ptbxl", ptbxl, "--labels", "PE"))
    assert (
        "--labels: found PE, expected NORM, MI, STTC, CD, HYP, a code of scp_statements.csv, or all" in line
    )
    assert "found no such folder" in line_of(run_here("cohorts.ptbxl", tmp_path / "nowhere"))
    for script in ("ptbxl", "ludb"):
        line = line_of(run_here(f"cohorts/{script}.py", tmp_path))
        assert f"{tmp_path}: found no " in line and "expected the publisher's table" in line
    line = line_of(
        run_here("cohorts.physionet_challenge", tmp_path / "source" / "records500", "--labels", "AF")
    )
    assert "left out" not in line and "found no ECG to keep" in line
    (tmp_path / "empty").mkdir()
    assert "found no .hea file" in line_of(run_here("cohorts.physionet_challenge", tmp_path / "empty"))


def test_a_table_that_is_there_is_not_replaced_unasked(ptbxl):
    write(ptbxl / "labels.csv", "my own work\n")
    assert "--overwrite replaces it" in line_of(run_here("cohorts.ptbxl", ptbxl))
    assert (ptbxl / "labels.csv").read_text() == "my own work\n"
    assert run_here("cohorts.ptbxl", ptbxl, "--overwrite").returncode == 0
    assert len(pd.read_csv(ptbxl / "labels.csv")) == 3


def test_ludb_reads_statements_of_several_lines(folder, tmp_path):
    write(folder / "ludb.csv", LUDB)
    for record in (1, 2, 3):
        write(folder / f"data/{record}.hea")
    output = tmp_path / "table.csv"
    table = made(run_as_user("cohorts.ludb", folder, "--output", output, cwd=tmp_path), output)
    assert list(table.index) == ["data/1.hea", "data/2.hea", "data/3.hea"]
    assert list(table["sex"]) == ["F", "M", "M"] and list(table["age"]) == ["51", "90", "20"]
    positives = {name: [*table.index[table[name] == "1"]] for name in ("RBBB", "IRBBB", "CRBBB", "AF", "LVH")}
    second = ["data/2.hea"]
    assert positives == {"RBBB": second, "IRBBB": second, "CRBBB": [], "AF": second, "LVH": ["data/1.hea"]}
    assert list(table["IAVB"]) == ["0", "0", "0"]  # the third-degree block of 3 is none of the first degree
    assert list(table["LAD"]) == ["1", "0", "0"] and list(table["LAFB"]) == ["0", "1", "0"]


def test_the_challenge_scores_equal_codes_as_one_and_leaves_unseen_labels_empty(challenge, tmp_path):
    output = tmp_path / "table.csv"
    flags = ("--labels", "RBBB", "713427006", "AF", "NSR", "PVC", "--output", output)
    outcome = run_as_user("cohorts.physionet_challenge", challenge, *flags, cwd=tmp_path)
    table = made(outcome, output)
    names = ["E00001", "E00002", "JS10001", "JS10002"]
    assert [file.rpartition("/")[2] for file in table.index] == [f"{name}.hea" for name in names]
    assert list(table["RBBB"]) == ["1", "0", "1", "0"]  # 59118001 and 713427006
    assert list(table["713427006"]) == ["", "", "1", "0"]  # the code alone; no record of Georgia has it
    assert list(table["AF"]) == ["0", "1", "", ""]
    assert list(table["PVC"]) == ["", "", "1", "0"]  # 17338001, scored as 427172004
    assert list(table["NSR"]) == ["1", "0", "0", "1"]
    assert list(table["age"]) == ["74", "49", "60", "61"] and list(table["sex"]) == ["M", "F", "F", "M"]
    assert list(table["source"]) == ["georgia", "georgia", "ningbo", "ningbo"]
    assert "patient_id" not in table and "the publisher names none" in outcome.stdout
    assert "left out           1  no SNOMED CT code under #Dx in the header" in outcome.stdout
    assert "label              1  AF (50.0% of 2 known)" in outcome.stdout


def test_unseen_labels_can_be_negative(challenge, tmp_path):
    output = tmp_path / "table.csv"
    flags = ("--labels", "AF", "--unseen", "0", "--output", output)
    assert list(made(run_here("cohorts.physionet_challenge", challenge, *flags), output)["AF"]) == list(
        "0100"
    )


def test_the_scored_diagnoses_are_those_of_2021():
    assert len(SCORED) == 30 and len(DEFAULT_LABELS) == 26  # dx_mapping_scored.csv has 30 rows, four pairs
    assert len({code for code, _ in SCORED.values()}) == 30
    assert {codes_of(first) == codes_of(second) for first, second in EQUAL} == {True}
    assert codes_of("LBBB") == {"164909002", "733534002"} and codes_of("429622005") == {"429622005"}
    with pytest.raises(UserError, match="found QRS, expected a SNOMED CT code or one of AF, AFL"):
        codes_of("QRS")


def test_a_flow_counts_every_record(capsys):
    flow = Flow("ECGs", 10, "records")
    table = flow.keep(pd.DataFrame({"x": range(10)}), pd.Series(range(10)) > 2, "small")
    flow.leave_out(4, "large")
    flow.print()
    assert len(table) == 7 and flow.n_kept == 3
    assert capsys.readouterr().out.split("\n")[1] == "left out           3  small"
    with pytest.raises(AssertionError):
        flow.leave_out(4, "more than there are")


@pytest.mark.parametrize("read", [rows_of, chunks_of])
@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("cut.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 1000, mtime=0)[:-10], "cannot be read"),
        ("page.xls", b"<html><table><tr><td>a</td></tr></table></html>", "found a web page"),
        ("twice.csv", b"a,b,a\n1,2,3\n", "column a: found twice, expected it once"),
        ("empty.csv", b"", "column a: found only nothing"),
        ("long.csv", b"a,b\n1,2\n1,2,3\n", "line 3: found 3 fields, expected 2"),
    ],
)
def test_a_broken_table_is_one_line(tmp_path, read, name, content, expected):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        list(read(tmp_path / name, ["a", "b"]))
    assert expected in str(caught.value) and name in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("plain.csv", "a,b\nÄ,2\n".encode(), "Ä"),
        ("excel.csv", "sep=;\nb;A\n2,5;Ä\n".encode("utf-8-sig"), "Ä"),
        ("windows.csv", "a\tb\r\nÄ\t2\r\n".encode("utf-16"), "Ä"),
        ("no_mark.csv", "a;b\nÄ;2\n".encode("utf-16-le"), "Ä"),
        ("packed.csv.gz", gzip.compress("a,b\nÄ,2\n".encode(), mtime=0), "Ä"),
    ],
)
def test_a_publishers_table_is_read_as_a_spreadsheet_saved_it_again(
    tmp_path, monkeypatch, whole, name, content, expected
):
    if not whole:  # as a large one is
        monkeypatch.setattr("cohorts.table_maker.MAX_WHOLE", 0)
        monkeypatch.setattr("cohorts.table_maker.MAX_PACKED", 0)
    (tmp_path / name).write_bytes(content)
    ((_, row),) = rows_of(tmp_path / name, ["a", "b"])
    assert (row["a"], row["b"]) == (expected, "2.5" if "excel" in name else "2")


def test_a_large_table_in_another_encoding_is_refused_and_a_small_one_read(tmp_path, monkeypatch):
    (tmp_path / "latin.csv").write_bytes(b"a,b\n\xe9,2\n")
    assert next(rows_of(tmp_path / "latin.csv", ["a"]))[1] == {"a": "é", "b": "2"}
    monkeypatch.setattr("cohorts.table_maker.MAX_WHOLE", 0)
    with pytest.raises(UserError, match=r"latin\.csv: the table cannot be read"):
        list(rows_of(tmp_path / "latin.csv", ["a"]))


def test_large_tables_come_in_pieces_of_text(tmp_path, monkeypatch):
    monkeypatch.setattr("cohorts.table_maker.CHUNK_ROWS", 2)
    write(tmp_path / "t.csv", "a,b,c\n01,x,\n02,,NA\n\n03,,\n")
    pieces = list(chunks_of(tmp_path / "t.csv", ["a", "c"]))
    assert [piece.to_numpy().tolist() for piece in pieces] == [[["01", ""], ["02", "NA"]], [["03", ""]]]
    assert list(pieces[1].index) == [5]  # its line


def test_a_table_is_found_compressed_or_not(tmp_path):
    write(tmp_path / "hosp" / "admissions.csv.gz")
    assert find_table("admissions", tmp_path, tmp_path / "hosp").name == "admissions.csv.gz"
    with pytest.raises(UserError, match=r"found no edstays.csv or edstays.csv.gz \(or in "):
        find_table("edstays", tmp_path, tmp_path / "hosp")


def test_a_folder_is_no_table_to_replace(tmp_path):
    with pytest.raises(UserError, match="found a folder, expected the name of a file to write"):
        check_free(tmp_path, overwrite=True)


def test_a_failed_writing_leaves_nothing(tmp_path):
    write(tmp_path / "t.csv", "before")

    def fail(handle):
        handle.write("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="cannot be written \\(No space left on device\\)"):
        write_lines(tmp_path / "t.csv", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
    assert (tmp_path / "t.csv").read_text() == "before"


@pytest.mark.parametrize(
    ("text", "expected"), [("56.0", "56"), ("", ""), ("NaN", ""), ("-1", ""), ("inf", ""), ("0.5", "0.5")]
)
def test_numbers_are_written_plainly(text, expected):
    assert number(text) == expected
