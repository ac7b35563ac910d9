"""Make a cohort table from MIMIC-IV-ECG (doi:10.13026/4nqg-sb35) and discharge diagnoses: PE is I26 or 415.1.

    python -m cohorts.mimic_iv_ecg FOLDER --ext-icd records_w_diag_icd10.csv      # MIMIC-IV-ECG-Ext-ICD
    python -m cohorts.mimic_iv_ecg FOLDER --mimic-iv MIMIC_IV                     # MIMIC-IV and MIMIC-IV-ED

FOLDER is that of MIMIC-IV-ECG, with record_list.csv and files/. With --ext-icd the published labels and folds
are used (Strodthoff et al., Eur Heart J Digit Health 2024, ztae039; doi:10.13026/hdyc-1h77). With --mimic-iv
the diagnoses are those of the stay in which the ECG falls, from admissions, diagnoses_icd, edstays and, where
they are there, diagnosis (of ED visits without admission) and patients (age); there is then no split.

A stay is a hospital admission with the ED visit that led to it, or an ED visit without admission; the authors
of Ext-ICD number the ECGs of the visit and of the admission separately. An ECG outside any stay, or of a stay
without any coded diagnosis, is left out. --setting holds for cases and controls alike: a model must not tell
them apart by where the ECG was taken. --which published is the paper's rule: all ECGs of a stay train, its
first validates or tests; with --setting all its AUROC for I26 is 0.750 (scenario ALL2ALL, 14,231 test ECGs,
216 with PE), with emergency 0.739 (ED2ALL, 7,694 and 102). Codes show that there was PE during the stay: it
may have come after the ECG. A label is NAME=PREFIX,PREFIX; a prefix of digits is ICD-9, any other ICD-10.
"""

import argparse
import re
from pathlib import Path

import pandas as pd

from cohorts.mimic_tables import from_ext_icd, from_mimic_iv
from cohorts.table_maker import deliver, output_of, parser_of
from runtime.command_line import one_line_errors
from runtime.errors import UserError

DIAGNOSES = ("all_diag_all", "all_diag_hosp", "ed_diag_ed", "ed_diag_hosp", "hosp_diag_hosp")
TAKEN = ("file", "patient_id", "split", "age", "sex", "study_id", "in_ed")
LABEL = re.compile(r"(\w+)=([A-Z0-9.]+(?:,[A-Z0-9.]+)*)")


def main() -> None:
    arguments = parse_arguments()
    output = output_of(arguments)
    if arguments.ext_icd:
        table, flow = from_ext_icd(
            arguments.ext_icd, arguments.label, diagnoses=arguments.diagnoses, folds=arguments.folds
        )
    else:
        table, flow = from_mimic_iv(arguments.folder, arguments.mimic_iv, arguments.label)
    taken = {"all": "in_ed_or_hospital", "emergency": "in_ed", "hospital": "in_hospital"}[arguments.setting]
    table = flow.keep(table, table["in_ed_or_hospital"], "ECGs outside any stay")
    if arguments.setting != "all":
        place = "ED" if arguments.setting == "emergency" else "hospital"
        table = flow.keep(table, table[taken], f"not taken in the {place} (--setting {arguments.setting})")
    table = flow.keep(table, table["diagnosed"], "no coded diagnosis of the stay")
    table = flow.keep(
        table, chosen(table, arguments.which), f"other ECGs of the stay (--which {arguments.which})"
    )
    columns = ["file", "patient_id", "split", "age", "sex", *arguments.label, "study_id", "in_ed"]
    table = table[[name for name in columns if name in table]].astype({"in_ed": int})
    deliver(table, list(arguments.label), flow, arguments, output)


def parse_arguments() -> argparse.Namespace:
    parser = parser_of(__doc__, "folder of MIMIC-IV-ECG, with record_list.csv and files/")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--ext-icd", type=Path, metavar="CSV", help="records_w_diag_icd10.csv or its .csv.gz")
    source.add_argument(
        "--mimic-iv", type=Path, metavar="FOLDER", help="with hosp/ and ed/, or the tables themselves"
    )
    parser.add_argument(
        "--label", action="append", metavar="NAME=PREFIXES", help="may be repeated [PE=I26,4151]"
    )
    parser.add_argument("--setting", choices=("all", "emergency", "hospital"), default="all", help="[all]")
    parser.add_argument(
        "--which",
        choices=("first", "last", "all", "published"),
        help="[published with --ext-icd, else first]",
    )
    parser.add_argument(
        "--diagnoses", choices=DIAGNOSES, help="column of --ext-icd [all_diag_all, the paper's]"
    )
    parser.add_argument(
        "--folds", choices=("fold", "strat_fold"), help="column of --ext-icd [fold, the paper's]"
    )
    arguments = parser.parse_args()
    if arguments.mimic_iv:
        for name, value in {"diagnoses": arguments.diagnoses, "folds": arguments.folds}.items():
            if value:
                parser.error(f"--{name} is only for --ext-icd")
        if arguments.which == "published":
            parser.error("--which published is only for --ext-icd, which has the published folds")
    arguments.which = arguments.which or ("published" if arguments.ext_icd else "first")
    arguments.diagnoses = arguments.diagnoses or "all_diag_all"
    arguments.folds = arguments.folds or "fold"
    arguments.label = dict(map(prefixes_of, arguments.label or ["PE=I26,4151"]))
    for name, prefixes in arguments.label.items():
        if name in TAKEN:
            parser.error(f"--label {name}: expected a name that no other column has")
        if arguments.ext_icd and all(prefix[0].isdecimal() for prefix in prefixes):
            parser.error(f"--label {name}: found only ICD-9 codes, but those of --ext-icd are ICD-10")
    return arguments


def prefixes_of(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the name and the prefixes, without dots, of a label such as PE=I26,415.1."""
    match = LABEL.fullmatch(text)
    prefixes = tuple(prefix.replace(".", "") for prefix in match[2].split(",")) if match else ()
    if not match or not all(prefixes):
        raise UserError(f"--label: found {text}, expected a label such as PE=I26,4151")
    return match[1], prefixes


def chosen(table: pd.DataFrame, which: str) -> pd.Series:
    """Return which rows to keep of each stay.

    The first of a stay is the one that the publisher numbered 0, where ``number_in_stay`` is there; it may
    have been left out, and then the stay has none. Otherwise first and last are those of what is left.
    """
    if which == "all":
        return pd.Series(True, table.index)
    if which != "last" and "number_in_stay" in table:
        kept = table["number_in_stay"] == 0
    else:
        ordered = table.sort_values(["time", "study_id"])
        others = ordered.duplicated("stay", keep="last" if which == "last" else "first")
        kept = ~others.reindex(table.index)
    return kept | (table["split"] == "train") if which == "published" else kept


if __name__ == "__main__":
    with one_line_errors():
        main()
