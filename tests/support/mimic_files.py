"""Simulated tables in the form of MIMIC-IV-ECG, MIMIC-IV-ECG-Ext-ICD, MIMIC-IV and MIMIC-IV-ED, of any size.

PYTHONPATH=. python tests/support/mimic_files.py FOLDER N_ECGS   # writes ecg/, ext/, iv/hosp/ and iv/ed/
"""

import csv
import gzip
import random
import sys
from datetime import datetime, timedelta
from pathlib import Path

EXT_COLUMNS = (
    "file_name,study_id,subject_id,ecg_time,ed_stay_id,ed_hadm_id,hosp_hadm_id,ed_diag_ed,ed_diag_hosp,"
    "hosp_diag_hosp,all_diag_hosp,all_diag_all,gender,age,anchor_year,anchor_age,dod,ecg_no_within_stay,"
    "ecg_taken_in_ed,ecg_taken_in_hosp,ecg_taken_in_ed_or_hosp,fold,strat_fold"
)
ICD_10 = ("I2699", "I2609", "I10", "E785", "I4891", "R4182", "N179", "J189", "Z7901", "W19XXXA")
ICD_9 = ("41519", "41511", "4019", "2724", "42731", "78097", "5849", "486", "V5861", "E8889")


def write_table(path, columns, rows):
    """Write a CSV table with a header as it is given, compressed where its name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", newline="", encoding="utf-8") as handle:
        handle.write(f"{columns}\n")
        csv.writer(handle, lineterminator="\n").writerows(rows)


def simulate(folder, n_ecgs, seed=1):
    """Write all tables; half of the ECGs fall in no stay, and patients have five ECGs each."""
    generator = random.Random(seed)
    tables = {name: [] for name in ("records", "ext", "admissions", "stays", "diagnoses", "patients")}
    for patient in range(10_000_000, 10_000_000 + -(-n_ecgs // 5)):
        one_patient(tables, patient, generator)
    folder = Path(folder)
    hosp, ed = folder / "iv" / "hosp", folder / "iv" / "ed"
    record_columns = "subject_id,study_id,file_name,ecg_time,path"
    admission_columns = "subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,edregtime,edouttime"
    stay_columns = "subject_id,hadm_id,stay_id,intime,outtime,gender"
    diagnosis_columns = "subject_id,hadm_id,seq_num,icd_code,icd_version"
    patient_columns = "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod"
    write_table(folder / "ecg" / "record_list.csv", record_columns, tables["records"])
    write_table(folder / "ext" / "records_w_diag_icd10.csv", EXT_COLUMNS, tables["ext"])
    write_table(hosp / "admissions.csv.gz", admission_columns, tables["admissions"])
    write_table(hosp / "diagnoses_icd.csv.gz", diagnosis_columns, tables["diagnoses"])
    write_table(hosp / "patients.csv.gz", patient_columns, tables["patients"])
    write_table(ed / "edstays.csv.gz", stay_columns, tables["stays"])


def one_patient(tables, patient, generator):
    """Add a patient with five ECGs and one admission through the ED, during which two or three are taken."""
    arrival = datetime(2110 + generator.randrange(90), 1 + generator.randrange(12), 5, 8, 30)
    admitted, discharged = arrival + timedelta(hours=5), arrival + timedelta(days=6)
    hadm, stay, sex, age = patient + 10_000_000, patient + 20_000_000, generator.choice("FM"), 50
    version = generator.choice((9, 10))
    codes = generator.sample(ICD_10 if version == 10 else ICD_9, generator.randrange(1, 8))
    tables["admissions"].append((patient, hadm, admitted, discharged, "", "EW EMER.", arrival, admitted))
    tables["stays"].append((patient, hadm, stay, arrival, admitted, sex))
    tables["patients"].append((patient, sex, age, arrival.year, "2011 - 2013", ""))
    tables["diagnoses"] += [(patient, hadm, n, code, version) for n, code in enumerate(codes, 1)]
    fold = generator.randrange(20)
    hours = (1, 3, 30, 24 * 20, 24 * 200) if generator.random() < 0.5 else (2, 40, 24 * 30, 24 * 60, 24 * 90)
    for number, hour in enumerate(hours):
        study, time = 40_000_000 + (patient - 10_000_000) * 5 + number, arrival + timedelta(hours=hour)
        path = f"files/p{str(patient)[:4]}/p{patient}/s{study}/{study}"
        tables["records"].append((patient, study, study, time, path))
        in_ed, in_hospital = time <= admitted, admitted <= time <= discharged
        ours = [ICD_10[ICD_9.index(code)] if version == 9 else code for code in codes]
        ed_codes, hospital_codes = ours if in_ed else [], ours if in_hospital else []
        tables["ext"].append((
            f"mimic-iv-ecg-diagnostic-electrocardiogram-matched-subset-1.0/{path}", study, patient, time,
            float(stay) if in_ed else "", float(hadm) if in_ed else "", float(hadm) if in_hospital else "",
            [], ed_codes, hospital_codes, ed_codes or hospital_codes, ed_codes or hospital_codes, sex,
            float(age), arrival.year, age, "", number if in_ed or in_hospital else -1, in_ed, in_hospital,
            in_ed or in_hospital, fold, 19 - fold,
        ))  # fmt: skip


if __name__ == "__main__":
    simulate(sys.argv[1], int(sys.argv[2]))
