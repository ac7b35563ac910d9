"""Make a cohort table from PTB-XL (Wagner et al., Sci Data 2020;7:154; doi:10.13026/kfzx-aw45).

    python -m cohorts.ptbxl FOLDER                                     # the five diagnostic superclasses
    python -m cohorts.ptbxl FOLDER --labels MI CRBBB AFIB              # superclasses and SCP statements
    python -m cohorts.ptbxl FOLDER --labels MI --likelihood 80         # surer diagnoses only
    python -m cohorts.ptbxl FOLDER --labels all MI STTC CD HYP --rate 100    # every statement and superclass

FOLDER is the publisher's, with ptbxl_database.csv, scp_statements.csv and records500 or, for --rate 100,
records100, a sixth of the download. "all" stands for every statement of scp_statements.csv, 71 in version
1.0.3; --min-positives leaves out those of them that are too rare to be learnt. A superclass is positive where
one of its diagnostic statements is. A diagnostic statement below --likelihood (0 in the
publisher's table means unknown) is neither positive nor negative: the label is left empty. Form and rhythm
statements carry no likelihood and always count. The superclasses of a record without any diagnostic statement
are unknown. The publisher's folds are kept: 1 to 8 train, 9 validation, 10 test.

The numbers of the patients are public, and so is the key of their pseudonyms: it is left beside the table,
where there is none yet, so that a model that has seen a patient recognises it on every machine.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cohorts.table_maker import Flow, deliver, find_table, number, output_of, parser_of, rows_of, write_lines
from runtime.command_line import number_flag, one_line_errors, whole_number_from_0
from runtime.errors import UserError

SUPERCLASSES = ("NORM", "MI", "STTC", "CD", "HYP")
ALL = "all"  # in place of the name of each statement
SOURCE = (  # what its licence asks to name
    "PTB-XL 1.0.3: Wagner et al., PTB-XL, a large publicly available electrocardiography dataset, Sci Data "
    "2020;7:154, on PhysioNet, doi:10.13026/kfzx-aw45, licence CC BY 4.0 "
    "(https://creativecommons.org/licenses/by/4.0/)"
)
PUBLIC_KEY = b"PTB-XL, doi:10.13026/kfzx-aw45".hex()  # of pseudonyms
KEY_FILE = "patient_key.txt"  # where dataset/pseudonyms.py looks for it
DATABASE = ("ecg_id", "patient_id", "age", "sex", "site", "device", "scp_codes", "strat_fold")
FILES = {100: "filename_lr", 500: "filename_hr"}  # by the rate of the records, Hz
SPLITS = {**{str(fold): "train" for fold in range(1, 9)}, "9": "validation", "10": "test"}


@dataclass(frozen=True)
class Statement:
    """A row of scp_statements.csv: superclass, "" if not a diagnosis; whether it describes form or rhythm."""

    superclass: str
    form_or_rhythm: bool


def main() -> None:
    parser = parser_of(__doc__, "folder of PTB-XL, with ptbxl_database.csv")
    parser.add_argument("--labels", nargs="+", default=list(SUPERCLASSES), metavar="LABEL")
    percent = number_flag(float, "a number from 0 to 100", lambda value: 0 <= value <= 100)
    parser.add_argument("--likelihood", type=percent, default=0, help="least likelihood in percent [0]")
    parser.add_argument("--rate", type=int, choices=FILES, default=500, help="of the records, Hz [500]")
    parser.add_argument(
        "--min-positives",
        type=whole_number_from_0,
        default=0,
        metavar="N",
        help="with fewer positive ECGs in a part, a statement of all is left out [0]",
    )
    arguments = parser.parse_args()
    output = output_of(arguments)
    database = find_table("ptbxl_database", arguments.folder)
    statements = read_statements(find_table("scp_statements", arguments.folder))
    labels = named_labels(arguments.labels, statements)
    table = read_records(database, statements, labels, arguments.likelihood, FILES[arguments.rate])
    flow = Flow("ECGs", len(table), f"records in {database.name}")
    rare = rare_labels(table, labels, arguments.labels, arguments.min_positives)
    if rare:
        least = f"fewer than {arguments.min_positives} positive ECGs in a part"
        print(f"rare     {len(rare):>11,}  statements left out, with {least}: {' '.join(rare)}")
    labels = [label for label in labels if label not in rare]
    to_learn = [ALL] if ALL in arguments.labels else labels
    deliver(table.drop(columns=rare), labels, flow, arguments, output, to_learn=to_learn)
    if output.parent.resolve() == arguments.folder.resolve():  # beside a hospital's table it would betray it
        leave_public_key(output.with_name(KEY_FILE))


def leave_public_key(path: Path) -> None:
    """Write the key of the patients' pseudonyms, unless there is one.

    Raises
    ------
    UserError : it cannot be written.
    """
    if not path.exists():
        write_lines(path, lambda handle: handle.write(PUBLIC_KEY + "\n"))


def named_labels(words: list[str], statements: Mapping[str, Statement]) -> list[str]:
    """Return the labels that the words name, each once; "all" names every statement.

    Raises
    ------
    UserError : one is neither a superclass nor a statement.
    """
    for word in words:
        if word not in (ALL, *SUPERCLASSES, *statements):
            raise UserError(
                f"--labels: found {word}, expected {', '.join(SUPERCLASSES)}, a code of scp_statements.csv, "
                f"or {ALL}"
            )
    return list(dict.fromkeys(name for word in words for name in (statements if word == ALL else [word])))


def rare_labels(table: pd.DataFrame, labels: list[str], words: list[str], least: int) -> list[str]:
    """Return the labels that "all" named which have fewer positive ECGs in one of the parts."""
    if not len(table):
        return []
    positives = (table[labels] == 1).groupby(table["split"]).sum().min()
    return [label for label in labels if label not in words and positives[label] < least]


def read_statements(path: Path) -> dict[str, Statement]:
    """Return the SCP statements by their code, which is the first column, without a name."""
    columns = ("diagnostic", "form", "rhythm", "diagnostic_class")
    statements = {}
    for _, row in rows_of(path, columns):
        superclass = row["diagnostic_class"] if _is_set(row["diagnostic"]) else ""
        code = next(iter(row.values()))
        statements[code] = Statement(superclass, _is_set(row["form"]) or _is_set(row["rhythm"]))
    return statements


def _is_set(field: str) -> bool:
    return field not in ("", "0", "0.0")


def read_records(
    path: Path, statements: Mapping[str, Statement], labels: list[str], likelihood: float, file_column: str
) -> pd.DataFrame:
    """Return one row per record of ptbxl_database.csv, whose file the column names.

    Raises
    ------
    UserError : a field that cannot be understood, with its line.
    """
    rows = []
    for line, row in rows_of(path, (*DATABASE, file_column)):
        where = f"{path} line {line}"
        if row["strat_fold"] not in SPLITS:
            raise UserError(f"{where}: found strat_fold {row['strat_fold'] or 'empty'}, expected 1 to 10")
        codes = scp_codes(where, row["scp_codes"], statements)
        rows.append({
            "file": f"{row[file_column]}.hea",
            "patient_id": number(row["patient_id"]),
            "split": SPLITS[row["strat_fold"]],
            "age": number(row["age"]),
            "sex": {"0": "M", "1": "F"}.get(number(row["sex"]), ""),
            **{label: label_of(label, codes, statements, likelihood) for label in labels},
            "ecg_id": row["ecg_id"],
            "device": row["device"],
            "site": number(row["site"]),
        })  # fmt: skip
    table = pd.DataFrame(rows)
    return table.astype(dict.fromkeys(labels, "Int8")) if rows else pd.DataFrame(columns=["file", *labels])


def scp_codes(where: str, text: str, statements: Mapping[str, Statement]) -> dict[str, float]:
    """Return statement -> likelihood in percent, from a dict written as a Python literal."""
    try:
        codes = ast.literal_eval(text)
        codes = {str(code): float(likelihood) for code, likelihood in codes.items()}
    except (ValueError, SyntaxError, TypeError, AttributeError, MemoryError, RecursionError):
        raise UserError(f"{where}: found scp_codes {text[:60]!r}, expected {{'NORM': 100.0}}") from None
    for code in codes:
        if code not in statements:
            raise UserError(f"{where}: found {code} in scp_codes, expected a row of scp_statements.csv")
    return codes


def label_of(
    label: str, codes: Mapping[str, float], statements: Mapping[str, Statement], likelihood: float
) -> int | None:
    """Return 1, 0, or None where the label is unknown."""
    if label in SUPERCLASSES:
        diagnoses = [code for code in codes if statements[code].superclass]
        stated = [code for code in diagnoses if statements[code].superclass == label]
        if not diagnoses:
            return None
    else:
        stated = [code for code in codes if code == label]
    if not stated:
        return 0
    sure = any(
        codes[code] >= likelihood or (codes[code] == 0 and statements[code].form_or_rhythm) for code in stated
    )
    return 1 if sure else None


if __name__ == "__main__":
    with one_line_errors():
        main()
