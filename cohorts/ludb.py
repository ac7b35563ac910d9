"""Make a cohort table from LUDB, the Lobachevsky University database (doi:10.13026/eegm-h675; 200 ECGs).

    python -m cohorts.ludb FOLDER                          # all labels below
    python -m cohorts.ludb FOLDER --labels RBBB AF

FOLDER is the publisher's, with ludb.csv and data/1.hea … A label is positive where its column of ludb.csv
holds one of its statements; RBBB and LBBB are the complete and the incomplete blocks. Each record is a
patient of its own.
"""

from pathlib import Path

import pandas as pd

from cohorts.table_maker import Flow, deliver, find_table, number, output_of, parser_of, rows_of
from runtime.command_line import one_line_errors
from runtime.errors import UserError

RHYTHMS, CONDUCTION = "Rhythms", "Conduction abnormalities"
AXIS, HYPERTROPHIES = "Electric axis of the heart", "Hypertrophies"
# label -> column and its statements, in lower case
LABELS = {
    "RBBB": (CONDUCTION, ("complete right bundle branch block", "incomplete right bundle branch block")),
    "CRBBB": (CONDUCTION, ("complete right bundle branch block",)),
    "IRBBB": (CONDUCTION, ("incomplete right bundle branch block",)),
    "LBBB": (CONDUCTION, ("complete left bundle branch block", "incomplete left bundle branch block")),
    "CLBBB": (CONDUCTION, ("complete left bundle branch block",)),
    "ILBBB": (CONDUCTION, ("incomplete left bundle branch block",)),
    "LAFB": (CONDUCTION, ("left anterior hemiblock",)),
    "IAVB": (CONDUCTION, ("i degree av block",)),
    "SR": (RHYTHMS, ("sinus rhythm",)),
    "STach": (RHYTHMS, ("sinus tachycardia",)),
    "SB": (RHYTHMS, ("sinus bradycardia",)),
    "AF": (RHYTHMS, ("atrial fibrillation",)),
    "AFL": (RHYTHMS, ("atrial flutter, typical",)),
    "LAD": (AXIS, ("electric axis of the heart: left axis deviation",)),
    "RAD": (AXIS, ("electric axis of the heart: right axis deviation",)),
    "LVH": (HYPERTROPHIES, ("left ventricular hypertrophy",)),
    "RVH": (HYPERTROPHIES, ("right ventricular hypertrophy",)),
}


def main() -> None:
    parser = parser_of(__doc__, "folder of LUDB, with ludb.csv")
    parser.add_argument("--labels", nargs="+", choices=LABELS, default=list(LABELS), metavar="LABEL")
    arguments = parser.parse_args()
    output = output_of(arguments)
    path = find_table("ludb", arguments.folder)
    labels = list(dict.fromkeys(arguments.labels))
    prefix = "data/" if (arguments.folder / "data").is_dir() else ""
    table = read_records(path, labels, prefix)
    deliver(table, labels, Flow("ECGs", len(table), f"records in {path.name}"), arguments, output)


def read_records(path: Path, labels: list[str], prefix: str) -> pd.DataFrame:
    """Return one row per record of ludb.csv.

    Raises
    ------
    UserError : a record without a number, or no record.
    """
    columns = dict.fromkeys(["ID", "Sex", "Age", *(column for column, _ in LABELS.values())])
    rows = []
    for line, row in rows_of(path, list(columns)):
        if not row["ID"].isdecimal():
            raise UserError(f"{path} line {line}: found ID {row['ID'] or 'empty'}, expected a number")
        rows.append({
            "file": f"{prefix}{row['ID']}.hea",
            "patient_id": row["ID"],
            "age": "90" if row["Age"] == ">89" else number(row["Age"]),
            "sex": row["Sex"],
            **{label: int(is_stated(row, label)) for label in labels},
        })  # fmt: skip
    if not rows:
        raise UserError(f"{path}: found no records, expected one for each ECG")
    return pd.DataFrame(rows)


def is_stated(row: dict[str, str], label: str) -> bool:
    """Return whether a record's column, one statement per line, holds a statement of the label."""
    column, statements = LABELS[label]
    return any(line.strip().lower() in statements for line in row[column].splitlines())


if __name__ == "__main__":
    with one_line_errors():
        main()
