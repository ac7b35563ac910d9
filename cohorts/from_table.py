"""Make a cohort table from a hospital's own export: examinations (CT angiography) and the ECGs around them.

    python -m cohorts.from_table FOLDER --table exams.csv                     # each row names its ECG
    python -m cohorts.from_table FOLDER --table exams.csv --ecgs ecgs.csv     # ECGs of the same patient
    python -m cohorts.from_table FOLDER --table exams.csv --positive yes 1 --negative no 0 --which first

FOLDER holds the ECG files. An examination is a patient and a time; it may have several rows, one per ECG.
ECGs from --window-before hours before it to --window-after hours after it count (6 and 0, limits included):
an ECG after the examination may show its consequences, such as treatment.
An ECG in the windows of two examinations belongs to the nearer one, the earlier one of two at equal distance,
and is left out where that one has no result, or neither a positive nor a negative one.
--which nearest keeps the ECG nearest in time to each examination (of two at equal distance the earlier one),
first keeps the earliest, all keeps every one. Each examination is judged by itself: a patient may be positive
and later negative, and patient_id keeps both in one part of the split; within 24 h that is a contradiction,
and an error unless --allow-contradictions takes each as it is. --per patient then keeps one
examination per patient: with first the earliest that has an ECG, with nearest the one whose ECG is nearest.

Times look like 2024-03-01 14:05, with or without a UTC offset, or follow --time-format. A date without a
time is a day, not its midnight: where hours decide it is an error, unless --window-days names the days before
and after the examination (0 0: the same day) within which such an ECG counts. The table written holds no
times but the hours from the examination to the ECG, unknown where one of them has only a date.
"""

import argparse
import csv
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pandas as pd

from cohorts.columns import HOURS, is_unknown
from cohorts.file_names import located_names
from cohorts.table_maker import (
    Flow,
    absent_files,
    check_free,
    deliver,
    output_of,
    parser_of,
    rows_of,
    write_lines,
)
from cohorts.times_and_patients import Moment, Patients, Rows, Times
from runtime.command_line import number_flag, one_line_errors
from runtime.errors import UserError

UNKNOWN = "indeterminate"
COLUMNS = {
    "patient": "patient_id",
    "file": "file",
    "ecg-time": "ecg_time",
    "ct-time": "ct_time",
    "result": "ct_result",
}
IF_THERE = ("age", "sex")  # further columns that are kept, unless --keep names others
CONTRADICTION = timedelta(hours=24)  # between a positive and a negative result of one patient


@dataclass(frozen=True)
class Ecg:
    """An ECG of an examination; ``distance`` is from the examination, negative before it.

    It is whole days, ``in_days``, where one of them has only a date.
    """

    file: str
    time: datetime
    distance: timedelta
    in_days: bool


def main() -> None:
    arguments = parse_arguments()
    output = output_of(arguments)
    flow_file = arguments.flow or output.with_name(f"{output.stem}_flow.csv")
    check_free(flow_file, arguments.overwrite)
    sources = [path.resolve() for path in (arguments.table, arguments.ecgs) if path]
    if output.resolve() in sources or flow_file.resolve() in sources:
        raise UserError(f"{output}: found the table to be read, expected --output to name another file")
    times, patients = Times(arguments.time_format, days_count=bool(arguments.window_days)), Patients()
    exams, exam_ecgs = read_exams(arguments, times, patients)
    if arguments.ecgs:
        exam_ecgs = ecgs_of_patients(arguments, exams, times, patients)
    if not arguments.files_elsewhere:
        exam_ecgs = with_located_files(arguments.folder, exam_ecgs)
    if not arguments.allow_contradictions:
        check_results_agree(exams)
    n_rows = sum(exam["n_rows"] for exam in exams.values())
    flow = Flow("examinations", len(exams), f"examinations in {n_rows:,} rows of {arguments.table.name}")
    n_ecgs = check_one_patient(exam_ecgs)
    ecg_flow = Flow("ECGs", n_ecgs, f"ECG files in {(arguments.ecgs or arguments.table).name}")
    candidates, reasons = in_window(arguments, exams, exam_ecgs)
    ecg_flow.leave_out(n_ecgs - n_files(candidates), "in the window of no examination, or not in FOLDER")
    give_to_nearest(candidates)
    candidates = {key: ecgs for key, ecgs in candidates.items() if key not in reasons}
    ecg_flow.leave_out(
        ecg_flow.n_kept - n_files(candidates),
        "nearest to an examination that is neither positive nor negative",
    )
    choose(candidates, arguments.which)
    ecg_flow.leave_out(
        ecg_flow.n_kept - n_files(candidates), f"other ECGs of an examination (--which {arguments.which})"
    )
    for key in exams:
        if key not in reasons and not candidates.get(key):
            reasons[key] = "its ECGs are nearer to another examination of the patient"
    if arguments.per == "patient":
        for key in others_of_patients(candidates, arguments.which):
            del candidates[key]
            reasons[key] = (
                f"another examination of the patient is kept (--per patient, --which {arguments.which})"
            )
        ecg_flow.leave_out(ecg_flow.n_kept - n_files(candidates), "of other examinations (--per patient)")
    for reason, n in Counter(reasons.values()).items():
        flow.leave_out(n, reason)
    flow.print()
    table = table_of(arguments, exams, {key: ecgs for key, ecgs in candidates.items() if ecgs})
    print_hours(table, arguments.label)
    deliver(table, [arguments.label], ecg_flow, arguments, output)
    write_flow(flow_file, [flow, ecg_flow])


def parse_arguments() -> argparse.Namespace:
    parser = parser_of(__doc__, "folder of the ECG files")
    parser.add_argument("--table", type=Path, required=True, help="CSV of the examinations")
    parser.add_argument("--ecgs", type=Path, help="CSV of ECGs, joined by patient; else the table names them")
    parser.add_argument("--flow", type=Path, help="CSV of the counts [beside the output, …_flow.csv]")
    for name, default in COLUMNS.items():
        parser.add_argument(f"--{name}-column", default=default, metavar="NAME", help=f"[{default}]")
    parser.add_argument("--time-format", metavar="FORMAT", help="of strptime, such as '%%d.%%m.%%Y %%H:%%M'")
    parser.add_argument("--label", default="PE", help="[PE]")
    parser.add_argument("--positive", nargs="+", default=["1"], metavar="WORD", help="results with PE [1]")
    parser.add_argument("--negative", nargs="+", default=["0"], metavar="WORD", help="results without PE [0]")
    parser.add_argument(
        f"--{UNKNOWN}", nargs="+", default=[], metavar="WORD", help="results that are neither; left out"
    )
    hours = number_flag(float, "hours from 0 to 8760", lambda value: 0 <= value <= 24 * 365)
    days = number_flag(int, "a whole number of days from 0 to 365", lambda value: 0 <= value <= 365)
    parser.add_argument("--window-before", type=hours, default=6, metavar="H", help="[6]")
    parser.add_argument("--window-after", type=hours, default=0, metavar="H", help="[0]")
    parser.add_argument(
        "--window-days",
        type=days,
        nargs=2,
        metavar=("BEFORE", "AFTER"),
        help="days, where one of the two times is a date alone",
    )
    parser.add_argument("--which", choices=("nearest", "first", "all"), default="nearest", help="[nearest]")
    parser.add_argument(
        "--per", choices=("examination", "patient"), default="examination", help="[examination]"
    )
    parser.add_argument(
        "--allow-contradictions",
        action="store_true",
        help="take a positive and a negative result of one patient within 24 h as they are",
    )
    parser.add_argument("--keep", nargs="+", metavar="NAME", help="further columns [age sex, if there]")
    arguments = parser.parse_args()
    names = ["file", "patient_id", HOURS, arguments.label, *(arguments.keep or [])]
    if arguments.label in (*COLUMNS.values(), "split") or len(set(names)) < len(names):
        parser.error("--label, --keep: found a name of the other columns, expected each column once")
    if arguments.per == "patient" and arguments.which == "all":
        parser.error("--per patient: expected --which nearest or first beside it")
    arguments.results = results_of(parser, arguments)
    return arguments


def results_of(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> dict[str, int | str]:
    """Return the meaning of each result word, in lower case: 1, 0 or UNKNOWN."""
    results: dict[str, int | str] = {}
    for flag, value in {"positive": 1, "negative": 0, UNKNOWN: UNKNOWN}.items():
        for word in getattr(arguments, flag):
            if results.setdefault(word.strip().lower(), value) != value:
                parser.error(f"--{flag}: found {word}, which another result has too")
    return results


def read_exams(arguments: argparse.Namespace, times: Times, patients: Patients) -> tuple[dict, dict]:
    """Return the examinations by patient and time, and their ECGs where the table names them.

    Raises
    ------
    UserError : a row without a patient, an unknown result, two results of one examination, a wrong time.
    """
    own = [] if arguments.ecgs else [arguments.file_column, arguments.ecg_time_column]
    columns = [arguments.patient_column, arguments.ct_time_column, arguments.result_column, *own]
    columns += arguments.keep or []
    exams, exam_ecgs = {}, {}
    rows = table_rows(arguments.table, columns)
    moments = times.column(arguments.table, rows, arguments.ct_time_column)
    ecg_moments = times.column(arguments.table, rows, arguments.ecg_time_column) if own else moments
    ids = patients.column(rows, arguments.patient_column)
    for (where, line, row), patient, moment, ecg in zip(rows, ids, moments, ecg_moments, strict=True):
        result = result_of(where, row[arguments.result_column], arguments)
        key = (patient, moment or line)  # without a time each row is an examination
        exam = exams.setdefault(
            key, {"where": where, "moment": moment, "result": result, "n_rows": 0, "row": row}
        )
        exam["n_rows"] += 1
        if exam["result"] != result:
            raise UserError(
                f"{where}: found {row[arguments.result_column] or 'no result'} for the examination of "
                f"{exam['where']}, expected the same result"
            )
        if own:
            exam_ecgs.setdefault(key, []).append((file_of(row, arguments.file_column), ecg))
    if not exams:
        raise UserError(f"{arguments.table}: found no rows, expected one for each examination")
    return exams, exam_ecgs


def table_rows(path: Path, columns: list[str]) -> Rows:
    """Return where, line and fields of a table as hospitals export it, with commas, semicolons or tabs."""
    if not path.is_file():
        raise UserError(f"{path}: found no such file, expected a CSV table")
    return [(f"{path} line {line}", line, row) for line, row in rows_of(path, columns, others=IF_THERE)]


def file_of(row: dict[str, str], column: str) -> str:
    """Return the file that a row names, "" where it names none."""
    return "" if is_unknown(row[column]) else row[column]


def with_located_files(folder: Path, exam_ecgs: dict) -> dict:
    """Return the ECGs of each examination, files with the names that they have in the folder."""
    files = sorted({file for ecgs in exam_ecgs.values() for file, _ in ecgs if file})
    names = dict(zip(files, located_names(folder, files), strict=True))
    return {key: [(names.get(file, file), time) for file, time in ecgs] for key, ecgs in exam_ecgs.items()}


def result_of(where: str, word: str, arguments: argparse.Namespace) -> int | str | None:
    """Return 1, 0, UNKNOWN for what is neither, or None where there is no result."""
    if word.lower() not in arguments.results:
        if is_unknown(word):
            return None
        raise UserError(
            f"{where}: found result {word}, expected one of {', '.join(arguments.results)}; "
            f"name it after --positive, --negative or --{UNKNOWN}"
        )
    return arguments.results[word.lower()]


def check_results_agree(exams: dict) -> None:
    """Refuse a positive and a negative result of one patient within 24 h: which of them is the ECG's?"""
    known = [
        (patient, exam) for (patient, _), exam in exams.items() if exam["moment"] and exam["result"] in (0, 1)
    ]
    known.sort(key=lambda pair: (pair[0], pair[1]["moment"]))
    found = [
        f"{one['where']} and {other['where']}"
        for (patient, one), (same, other) in pairwise(known)
        if patient == same
        and one["result"] != other["result"]
        and other["moment"].time - one["moment"].time <= CONTRADICTION
    ]
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise UserError(
            f"{found[0]}: found a positive and a negative result of one patient within 24 h{more}, expected "
            "one result; --allow-contradictions takes each as it is"
        )


def ecgs_of_patients(arguments: argparse.Namespace, exams: dict, times: Times, patients: Patients) -> dict:
    """Return for each examination all ECGs of its patient in the table --ecgs."""
    columns = [arguments.patient_column, arguments.file_column, arguments.ecg_time_column]
    rows = table_rows(arguments.ecgs, columns)
    moments = times.column(arguments.ecgs, rows, arguments.ecg_time_column)
    ids = patients.column(rows, arguments.patient_column)
    patient_ecgs: dict[str, list] = {}
    for (_, _, row), patient, moment in zip(rows, ids, moments, strict=True):
        patient_ecgs.setdefault(patient, []).append((file_of(row, arguments.file_column), moment))
    strangers = patient_ecgs.keys() - {patient for patient, _ in exams}
    if strangers:
        n = sum(len(patient_ecgs[patient]) for patient in strangers)
        print(f"note     {n:,} ECGs of {len(strangers):,} patients without any examination")
    return {key: patient_ecgs.get(key[0], []) for key in exams}


def check_one_patient(exam_ecgs: dict) -> int:
    """Return how many ECG files there are, after checking that each belongs to one patient."""
    patients: dict[str, str] = {}
    for (patient, _), ecgs in exam_ecgs.items():
        for file, _ in ecgs:
            if file and patients.setdefault(file, patient) != patient:
                raise UserError(f"{file}: found for two patients, expected one")
    return len(patients)


def n_files(candidates: dict) -> int:
    """Return how many files are among the ECGs of all examinations."""
    return len({ecg.file for ecgs in candidates.values() for ecg in ecgs})


def in_window(arguments: argparse.Namespace, exams: dict, exam_ecgs: dict) -> tuple[dict, dict]:
    """Return the ECGs in the window of each examination, and why some examinations are left out.

    Those of an examination without a result are returned, too: they are no other examination's.
    """
    window = f"{arguments.window_before:g} h before to {arguments.window_after:g} h after"
    if arguments.window_days:
        before, after = arguments.window_days
        window += f"; {before} days before to {after} after where a time is missing"
    files = {file for ecgs in exam_ecgs.values() for file, _ in ecgs if file}
    absent = set() if arguments.files_elsewhere else absent_files(arguments.folder, files)
    candidates, reasons = {}, {}
    for key, exam in exams.items():
        ecgs = exam_ecgs.get(key, [])
        named = [(file, moment) for file, moment in ecgs if file]
        timed = [(file, moment) for file, moment in named if moment is not None]
        at = [ecg_of(file, moment, exam["moment"]) for file, moment in timed if exam["moment"]]
        near = [ecg for ecg in at if is_near(ecg, arguments)]
        candidates[key] = [ecg for ecg in near if ecg.file not in absent]
        checks = {
            "no result": exam["result"] is None,
            "neither positive nor negative": exam["result"] == UNKNOWN,
            f"no {arguments.ct_time_column}": exam["moment"] is None,
            "no ECG of the patient" if arguments.ecgs else "no ECG file": not named,
            f"no {arguments.ecg_time_column}": not timed,
            f"no ECG in its window ({window})": not near,
            f"its ECGs are not in {arguments.folder}": not candidates[key],
        }
        reason = next((reason for reason, holds in checks.items() if holds), None)
        if reason:
            reasons[key] = reason
    return candidates, reasons


def ecg_of(file: str, moment: Moment, exam: Moment) -> Ecg:
    """Return an ECG with its distance from an examination."""
    if moment.is_day or exam.is_day:
        return Ecg(file, moment.time, moment.time.date() - exam.time.date(), in_days=True)
    return Ecg(file, moment.time, moment.time - exam.time, in_days=False)


def is_near(ecg: Ecg, arguments: argparse.Namespace) -> bool:
    """Return whether an ECG is in the window, limits included: of days where a time of day is missing."""
    if ecg.in_days:
        before, after = (timedelta(days=days) for days in arguments.window_days)
    else:
        before, after = timedelta(hours=arguments.window_before), timedelta(hours=arguments.window_after)
    return -before <= ecg.distance <= after


def give_to_nearest(candidates: dict) -> None:
    """Leave each file to its nearest examination alone, and once."""
    owner: dict[str, tuple] = {}
    for key, ecgs in candidates.items():
        for ecg in ecgs:
            rank = (abs(ecg.distance), key[1], key)
            owner[ecg.file] = min(owner.get(ecg.file, rank), rank, key=lambda known: known[:2])
    for key, ecgs in candidates.items():
        candidates[key] = list({ecg.file: ecg for ecg in ecgs if owner[ecg.file][2] == key}.values())


def choose(candidates: dict, which: str) -> None:
    """Keep the chosen ECGs of each examination, in the order of their times."""
    for key, ecgs in candidates.items():
        ordered = sorted(ecgs, key=lambda ecg: (ecg.time, ecg.file))
        if which == "nearest":
            ordered.sort(key=lambda ecg: abs(ecg.distance))  # stable: the earlier of two stays in front
        candidates[key] = ordered if which == "all" else ordered[:1]


def others_of_patients(candidates: dict, which: str) -> list[tuple]:
    """Return the examinations other than the one to keep per patient."""
    best: dict[str, tuple] = {}
    for key, ecgs in candidates.items():
        if ecgs:
            rank = (abs(ecgs[0].distance), ecgs[0].time) if which == "nearest" else (key[1],)
            best[key[0]] = min(best.get(key[0], (rank, key)), (rank, key))
    return [key for key, ecgs in candidates.items() if ecgs and best[key[0]][1] != key]


def table_of(arguments: argparse.Namespace, exams: dict, candidates: dict) -> pd.DataFrame:
    row = next(iter(exams.values()))["row"]
    kept = arguments.keep or [name for name in IF_THERE if name in row]
    rows = [
        {
            "file": ecg.file,
            "patient_id": key[0],
            arguments.label: exams[key]["result"],
            **{name: exams[key]["row"][name] for name in kept},
            HOURS: None if ecg.in_days else round(ecg.distance.total_seconds() / 3600, 2),
        }
        for key, ecgs in candidates.items()
        for ecg in ecgs
    ]
    table = pd.DataFrame(rows, columns=["file", "patient_id", arguments.label, *kept, HOURS])
    return table.astype({HOURS: float})


def print_hours(table: pd.DataFrame, label: str) -> None:
    """Print when the ECGs of each result were recorded: a difference would give the result away."""
    for result in (1, 0):
        hours = table.loc[table[label] == result, HOURS].dropna()
        if len(hours):
            n_after = int((hours > 0).sum())
            print(
                f"hours    {hours.median():>11.1f}  from CT to ECG, the median where {label} is {result}; "
                f"{n_after:,} of {len(hours):,} ECGs ({n_after / len(hours):.1%}) after the CT"
            )
    if n_unknown := int(table[HOURS].isna().sum()):
        print(f"hours    {n_unknown:>11,}  ECGs of which only the day is known (--window-days)")


def write_flow(path: Path, flows: list[Flow]) -> None:
    """Write the counts as a CSV table: unit, step, n, reason."""

    def write(handle) -> None:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["unit", "step", "n", "reason"])
        for flow in flows:
            writer.writerows([flow.unit, step, n, what] for step, n, what in flow.steps)
            writer.writerow([flow.unit, "kept", flow.n_kept, ""])

    write_lines(path, write)
    print(f"flow     {path}")


if __name__ == "__main__":
    with one_line_errors():
        main()
