"""MIMIC-IV-ECG with either source of diagnoses: stays, labels, folds and choices against hand-worked ones."""

import numpy as np
import pandas as pd
import pytest
from mimic_files import EXT_COLUMNS, simulate, write_table
from tiny_runs import line_of, run_as_user, run_here

from cohorts.mimic_iv_ecg import prefixes_of
from cohorts.mimic_tables import _covering
from runtime.errors import UserError

SCRIPT = "cohorts.mimic_iv_ecg"
DAY = "2180-07-2"
PREFIX = "mimic-iv-ecg-diagnostic-electrocardiogram-matched-subset-1.0/"


def ext_row(
    study, subject=1, time=f"{DAY}3 08:44:00", codes="[]", ed=True, hospital=False, number=0, fold=0, **others
):
    """Return a row of records_w_diag_icd10.csv, whose stays are 1000 + subject and 2000 + subject."""
    row = dict.fromkeys(EXT_COLUMNS.split(","), "") | {
        "file_name": f"{PREFIX}files/p1000/p{subject}/s{study}/{study}", "study_id": study,
        "subject_id": subject, "ecg_time": time, "ed_stay_id": f"{1000 + subject}.0" if ed else "",
        "hosp_hadm_id": f"{2000 + subject}.0" if hospital else "", "all_diag_all": codes,
        "all_diag_hosp": "[]", "gender": "F", "age": "52.0",
        "ecg_no_within_stay": number, "ecg_taken_in_ed": ed,
        "ecg_taken_in_hosp": hospital, "fold": fold, "strat_fold": 19 - fold,
    }  # fmt: skip
    return list((row | others).values())


PE, NONE = "['I2699', 'I10']", "['I10', 'XI26', 'Z86711']"
EXT_ROWS = [
    ext_row(11, 1, f"{DAY}3 08:00:00", PE, number=0),
    ext_row(12, 1, f"{DAY}3 09:00:00", PE, number=1, fold=17),
    ext_row(13, 1, f"{DAY}4 09:00:00", PE, ed=False, hospital=True, number=0),
    ext_row(21, 2, codes=NONE, number=0, fold=18),
    ext_row(22, 2, codes=NONE, number=1, fold=18, gender="missing", age=""),
    ext_row(31, 3, codes="['I2609']", number=0, fold=19, age="95.0"),
    ext_row(41, 4, codes="[]", number=0, fold=19),
    ext_row(51, 5, codes="[]", ed=False, number=-1, fold=17),
]


@pytest.fixture
def ecgs(tmp_path):
    """The folder of MIMIC-IV-ECG with the files of six studies, beside the tables of Ext-ICD."""
    write_table(tmp_path / "records_w_diag_icd10.csv.gz", EXT_COLUMNS, EXT_ROWS)
    for study in (11, 12, 13, 21, 22, 31):
        file = tmp_path / "ecg" / f"files/p1000/p{study // 10}/s{study}/{study}.hea"
        file.parent.mkdir(parents=True)
        file.touch()
    return tmp_path / "ecg"


def ext(ecgs, *flags):
    """Run the script on Ext-ICD; return its table by study, and what it says."""
    output = ecgs.parent / "table.csv"
    table = ecgs.parent / "records_w_diag_icd10.csv.gz"
    outcome = run_here(SCRIPT, ecgs, "--ext-icd", table, "--output", output, "--overwrite", *flags)
    assert outcome.returncode == 0, outcome.stderr
    return pd.read_csv(output, dtype=str, keep_default_na=False).set_index("study_id"), outcome.stdout


def test_ext_icd_gives_the_published_labels_and_folds(ecgs, tmp_path):
    output = tmp_path / "table.csv"
    source = ecgs.parent / "records_w_diag_icd10.csv.gz"
    outcome = run_as_user(SCRIPT, ecgs, "--ext-icd", source, "--output", output, cwd=tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    table = pd.read_csv(output, dtype=str, keep_default_na=False).set_index("study_id")
    assert list(table.index) == ["11", "12", "13", "21", "31"]  # of stay 2 only the first validates
    assert list(table["split"]) == ["train", "train", "train", "validation", "test"]
    assert list(table["PE"]) == ["1", "1", "1", "0", "1"]  # Z86711, PE in the past, is no PE
    assert table["file"]["31"] == "files/p1000/p3/s31/31.hea"
    assert list(table["patient_id"]) == ["1", "1", "1", "2", "3"]
    assert list(table["age"]) == ["52", "52", "52", "52", "95"] and set(table["sex"]) == {"F"}
    for line in (
        "found              8  records in records_w_diag_icd10.csv.gz",
        "left out           1  ECGs outside any stay",
        "left out           1  no coded diagnosis of the stay",
        "left out           1  other ECGs of the stay (--which published)",
        "kept               5  ECGs",
        "patients           3",
        "label              4  PE (80.0% of 5 known)",
        "split              3  train",
    ):
        assert line in outcome.stdout
    assert f"python train_atten.py --data-dir {ecgs} --labels {output} --label-columns PE" in outcome.stdout


@pytest.mark.parametrize(
    ("flags", "studies"),
    [
        (["--which", "all"], ["11", "12", "13", "21", "22", "31"]),
        (["--which", "first"], ["11", "13", "21", "31"]),
        (["--which", "last"], ["12", "13", "22", "31"]),
        (["--which", "first", "--setting", "emergency"], ["11", "21", "31"]),
        (["--which", "all", "--setting", "hospital"], ["13"]),
    ],
)
def test_which_ecgs_of_a_stay_and_of_which_setting_is_a_choice(ecgs, flags, studies):
    table, _ = ext(ecgs, *flags)
    assert list(table.index) == studies


def test_unknown_sex_and_age_stay_empty(ecgs):
    table, _ = ext(ecgs, "--which", "all")
    assert table["sex"]["22"] == "" and table["age"]["22"] == ""


def test_other_folds_labels_and_diagnoses_are_flags(ecgs):
    table, _ = ext(
        ecgs, "--folds", "strat_fold", "--which", "all", "--label", "hypertension=I10", "--label", "PE=I26.0"
    )
    assert list(table["split"]) == ["test", "train", "test", "train", "train", "train"]
    assert list(table["hypertension"]) == ["1", "1", "1", "1", "1", "0"]
    assert list(table["PE"]) == ["0", "0", "0", "0", "0", "1"]
    source = ecgs.parent / "records_w_diag_icd10.csv.gz"
    line = line_of(run_here(SCRIPT, ecgs, "--ext-icd", source, "--diagnoses", "all_diag_hosp"))
    assert "found no ECG to keep" in line


def test_files_that_are_not_there_are_counted(ecgs):
    (ecgs / "files/p1000/p3/s31/31.hea").unlink()
    table, said = ext(ecgs)
    assert "31" not in table.index and f"left out           1  no such file in {ecgs}" in said
    assert "31" in ext(ecgs, "--files-elsewhere")[0].index


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            ext_row(1, codes="__import__('os').system('true')"),
            "line 2: column all_diag_all: found __import__(",
        ),
        (ext_row(1, codes="['I10' + 'I26']"), "expected a list of ICD-10 codes"),
        (ext_row(1, fold=20), "line 2: column fold: found 20, expected 0 to 19"),
        (ext_row(1, ecg_taken_in_ed="maybe"), "column ecg_taken_in_ed: found maybe, expected True or False"),
        (
            ext_row(1, ecg_time="23/07/2180"),
            "column ecg_time: found 23/07/2180, expected a time such as 2180-07-23",
        ),
        (ext_row(1, subject_id=""), "column subject_id: found nothing, expected a whole number"),
        (ext_row(1)[:-1], "line 2: found 22 fields, expected 23"),
    ],
)
def test_a_field_that_is_not_the_publishers_is_named(tmp_path, row, expected):
    write_table(tmp_path / "ext.csv", EXT_COLUMNS, [row])
    assert expected in line_of(run_here(SCRIPT, tmp_path, "--ext-icd", tmp_path / "ext.csv"))


def test_a_missing_column_or_table_is_named(tmp_path):
    write_table(tmp_path / "ext.csv", EXT_COLUMNS.replace(",fold,", ","), [])
    assert "ext.csv: column fold: found only" in line_of(
        run_here(SCRIPT, tmp_path, "--ext-icd", tmp_path / "ext.csv")
    )
    assert "found no such file" in line_of(run_here(SCRIPT, tmp_path, "--ext-icd", tmp_path / "none.csv"))
    assert "found no record_list.csv" in line_of(run_here(SCRIPT, tmp_path, "--mimic-iv", tmp_path))
    write_table(tmp_path / "ext.csv", EXT_COLUMNS, [])
    assert "found no rows" in line_of(run_here(SCRIPT, tmp_path, "--ext-icd", tmp_path / "ext.csv"))


@pytest.fixture
def mimic_iv(tmp_path):
    """Patient 1: ED, admission 100 (PE, ICD-9). 2: ED only, stay 502. 3: admission 300 (no PE), 301 (PE)."""
    times = {
        11: (1, "1 10:00:00"), 12: (1, "2 10:00:00"), 13: (1, "9 10:00:00"), 21: (2, "1 10:00:00"),
        31: (3, "1 00:00:00"), 32: (3, "5 12:00:00"), 33: (3, ""), 41: (4, "1 10:00:00"),
    }  # fmt: skip
    records = [
        (subject, study, study, f"{DAY}{time}" if time else "", f"files/p1000/p{subject}/s{study}/{study}")
        for study, (subject, time) in times.items()
    ]
    write_table(tmp_path / "ecg/record_list.csv", "subject_id,study_id,file_name,ecg_time,path", records)
    hosp, ed = tmp_path / "iv/hosp", tmp_path / "iv/ed"
    write_table(
        hosp / "admissions.csv.gz",
        "subject_id,hadm_id,admittime,dischtime,deathtime",
        [
            (3, 301, f"{DAY}5 00:00:00", f"{DAY}6 00:00:00", ""),
            (1, 100, f"{DAY}1 12:00:00", f"{DAY}4 12:00:00", ""),
            (3, 300, f"{DAY}1 00:00:00", f"{DAY}5 18:00:00", ""),
        ],
    )
    write_table(
        ed / "edstays.csv.gz",
        "subject_id,hadm_id,stay_id,intime,outtime,gender",
        [
            (1, 100, 501, f"{DAY}1 09:00:00", f"{DAY}1 12:00:00", "F"),
            (2, "", 502, f"{DAY}1 09:00:00", f"{DAY}1 12:00:00", "M"),
        ],
    )
    write_table(
        hosp / "diagnoses_icd.csv.gz",
        "subject_id,hadm_id,seq_num,icd_code,icd_version",
        [
            (1, 100, 1, "41519", 9),
            (1, 100, 2, "4019", 9),
            (1, 100, 3, "V4511", 9),
            (3, 300, 1, "I10", 10),
            (3, 301, 1, "I2692 ", 10),
        ],
    )
    return tmp_path


def own(folder, *flags):
    output = folder / "table.csv"
    flags = ("--mimic-iv", folder / "iv", "--output", output, "--overwrite", "--files-elsewhere", *flags)
    outcome = run_here(SCRIPT, folder / "ecg", *flags)
    assert outcome.returncode == 0, outcome.stderr
    return pd.read_csv(output, dtype=str, keep_default_na=False).set_index("study_id"), outcome.stdout


def test_mimic_iv_labels_an_ecg_by_its_stay(mimic_iv):
    table, said = own(mimic_iv, "--which", "all")
    # 11 in the ED before admission 100, 12 in it, 13 after it; 31 in the first second of 300; 32 in 300 and
    # 301, which began last; 33 has no time; 2 has no admission and no table of ED diagnoses; 4 has no stay.
    assert table["PE"].to_dict() == {"11": "1", "12": "1", "31": "0", "32": "1"}
    assert table["in_ed"].to_dict() == {"11": "1", "12": "0", "31": "0", "32": "0"}
    assert "age" not in table and table["sex"].to_dict() == {"11": "F", "12": "F", "31": "", "32": ""}
    assert "left out           1  no time of the ECG" in said
    assert "left out           2  ECGs outside any stay" in said
    assert "left out           1  no coded diagnosis of the stay" in said
    assert "note     no diagnosis.csv of MIMIC-IV-ED" in said


def test_mimic_iv_gives_one_ecg_a_stay(mimic_iv):
    assert list(own(mimic_iv)[0].index) == ["11", "31", "32"]
    assert list(own(mimic_iv, "--which", "last")[0].index) == ["12", "31", "32"]
    assert list(own(mimic_iv, "--setting", "hospital")[0].index) == ["12", "31", "32"]
    assert list(own(mimic_iv, "--setting", "emergency")[0].index) == ["11"]


def test_ed_visits_without_admission_have_the_diagnoses_of_the_ed(mimic_iv):
    columns = "subject_id,stay_id,seq_num,icd_code,icd_version,icd_title"
    rows = [(2, 502, 1, "I2699", 10, "PULMONARY EMBOLISM"), (1, 501, 1, "R079", 10, "CHEST PAIN")]
    rows += [(1, 501, 2, "I10", 10, "HYPERTENSION")]
    write_table(mimic_iv / "iv/ed/diagnosis.csv.gz", columns, rows)
    table, _ = own(mimic_iv, "--which", "all")
    assert table["PE"].to_dict() == {"11": "1", "12": "1", "21": "1", "31": "0", "32": "1"}
    table, _ = own(mimic_iv, "--which", "all", "--label", "hypertension=I10")
    assert list(table["hypertension"]) == list("00010")  # 11 has an admission, whose diagnoses count


def test_age_is_that_of_the_year_of_the_ecg(mimic_iv):
    columns = "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod"
    write_table(
        mimic_iv / "iv/hosp/patients.csv.gz",
        columns,
        [(1, "F", 60, 2178, "", ""), (3, "M", 91, 2180, "", "")],
    )
    table, _ = own(mimic_iv)
    assert table["age"].to_dict() == {"11": "62", "31": "91", "32": "91"}
    assert table["sex"].to_dict() == {"11": "F", "31": "M", "32": "M"}


def test_a_prefix_counts_for_its_own_version_of_the_icd(mimic_iv):
    names = ("a=I10", "b=401", "c=I10,401.9", "d=V45")  # V4511 of ICD-9 is no V45 of ICD-10
    table, _ = own(mimic_iv, "--which", "all", *(word for name in names for word in ("--label", name)))
    assert [list(table[name]) for name in "abcd"] == [list("0010"), list("1100"), list("1110"), list("0000")]


def test_both_sources_agree_on_simulated_stays(tmp_path):
    simulate(tmp_path, 400)
    source = {"--ext-icd": tmp_path / "ext/records_w_diag_icd10.csv", "--mimic-iv": tmp_path / "iv"}
    tables = []
    for number, (flag, path) in enumerate(source.items()):
        output = tmp_path / f"{number}.csv"
        flags = (flag, path, "--which", "all", "--files-elsewhere", "--output", output)
        assert run_here(SCRIPT, tmp_path / "ecg", *flags).returncode == 0
        tables.append(pd.read_csv(output).set_index("study_id"))
    assert 150 < len(tables[0]) < 250 and 0 < tables[0]["PE"].mean() < 1
    columns = ["file", "patient_id", "age", "sex", "PE", "in_ed"]
    pd.testing.assert_frame_equal(tables[0][columns], tables[1][columns])


def test_stays_are_found_as_by_looking_at_each():
    generator = np.random.default_rng(3)
    begin = generator.integers(0, 100, 300)
    stays = pd.DataFrame({"subject_id": generator.integers(5, 15, 300), "begin": begin})
    stays["end"] = begin + generator.integers(-2, 20, 300)
    stays = stays.sort_values(["subject_id", "begin", "end"], ignore_index=True)
    ecgs = pd.DataFrame(
        {"patient_id": generator.integers(0, 20, 500), "time": generator.integers(-10, 130, 500)}
    )
    found = _covering(stays, ecgs)
    for row, patient, time in zip(found, ecgs["patient_id"], ecgs["time"], strict=True):
        of_patient = stays[stays["subject_id"] == patient]
        covering = of_patient[(of_patient["begin"] <= time) & (time <= of_patient["end"])]
        assert row == (covering.index[-1] if len(covering) else -1)
    assert (found >= 0).sum() > 100 and (found < 0).sum() > 100


@pytest.mark.parametrize("text", ["PE", "PE=", "=I26", "PE=I26;4151", "PE=.", "PE=i26"])
def test_a_label_needs_a_name_and_prefixes(text):
    with pytest.raises(UserError, match="expected a label such as PE=I26,4151"):
        prefixes_of(text)


def test_flags_that_contradict_each_other_are_refused(tmp_path):
    for flags, expected in [
        ([], "one of the arguments --ext-icd --mimic-iv is required"),
        (["--mimic-iv", tmp_path, "--folds", "fold"], "--folds is only for --ext-icd"),
        (["--mimic-iv", tmp_path, "--which", "published"], "--which published is only for --ext-icd"),
        (["--ext-icd", tmp_path, "--label", "PE=4151"], "only ICD-9 codes"),
        (["--ext-icd", tmp_path, "--label", "age=I26"], "expected a name that no other column has"),
    ]:
        outcome = run_here(SCRIPT, tmp_path, *flags)
        assert outcome.returncode == 2 and expected in outcome.stderr
