"""Show what is in ECG files, and what is wrong with them, before any training.

    python inspect_ecgs.py ecgs                                # one line per file of a folder
    python inspect_ecgs.py ecgs --csv files.csv                # the same as a table
    python inspect_ecgs.py patient.xml --plot pictures         # and on ECG paper, one PNG per file
    python inspect_ecgs.py ecgs --report                       # a page about files, patients and labels
    python inspect_ecgs.py patient.xml --deidentify OUT        # copies to attach to a report of a defect

Each line has a file's format, device, sampling rate, length, leads and gain, its verdict: ok, note,
warn, reject (training leaves it out) or refused (it cannot be read), and why. The limits are the
hyperparameters of the same names. The exit status is 1 where a file is rejected or refused, or the labels
table of --report cannot be used. No patient's name, identifier or birth date is shown.

With --deidentify nothing is judged: each file that can be read (from --min-seconds on) is written again under
a new name, with lead names, sampling rate and signal (to 1 µV) and nothing else that it says.
"""

import runtime.early_end  # noqa: F401  Ctrl-C ends the imports, which take seconds, in one line

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pandas as pd
from tqdm import tqdm

from dataset.decoding import measure_recording
from dataset.deidentified import check_place, deidentify
from ecg.duplicates import near_duplicates
from ecg.formats.written import WRITTEN_FORMS
from ecg.quality import MEASUREMENTS, judge
from ecg.recording import LEADS, LEAST_LEADS, LEAST_SECONDS
from hyperparameters.declaration import EXPECTED, Hyperparameters
from inference.lead_count import add_min_leads
from runtime.atomic_files import check_file_to_write, csv_text, write_text_atomically, writing
from runtime.code_pages import as_utf8
from runtime.command_line import OneLineParser, number_flag, one_line_errors
from runtime.errors import UserError
from runtime.messages import counted
from xml_loader import EcgFileError, Recording, bring_to_rest, find_files, read_at_rest, read_recording

# Columns that are printed, with their widths
COLUMNS = {"format": 13, "device": 24, "Hz": 6, "seconds": 8, "leads": 6, "µV/count": 9, "verdict": 8}
VERDICTS = ("ok", "note", "warn", "reject", "refused")  # from good to bad


def main() -> int:
    """Inspect the files of the command line; return the exit status."""
    arguments, limits = parse_arguments()
    if not any(map(os.path.lexists, arguments.paths)):
        raise UserError(
            f"{arguments.paths[0]}: found no such file or folder, expected ECGs, or a folder of them"
        )
    files, left_out, problems = find_files(arguments.paths)
    if arguments.deidentify:
        check_place(arguments.paths, arguments.deidentify)
        return write_copies(files, problems, arguments)
    names = shortened(files)
    if files:
        header = " ".join(f"{name:<{COLUMNS[name]}}" for name in COLUMNS)
        print(f"{'file':<{width(names)}} {header} findings")
    rows, measurements, of_table = [], [], []
    for number, (row, measurement) in enumerate(inspect(files, limits, arguments, names)):
        tqdm.write(line_of(row, names[number], width(names)))
        rows.append(row)
        measurements.append(measurement)
    readable = [number for number, measurement in enumerate(measurements) if measurement is not None]
    measured = np.array([measurements[number] for number in readable], MEASUREMENTS)
    same_ecg = near_duplicates(_FileSignals([files[n] for n in readable]), np.arange(len(readable)), measured)
    lines = [*summary(rows, left_out), *duplicates([files[n] for n in readable], same_ecg)]
    if arguments.report and rows:
        found = pd.DataFrame(rows, columns=["file", *COLUMNS, "findings"])
        page, of_table = report(arguments, files, (found, measured, same_ecg, limits))
        lines += [*(f"table       {problem}" for problem in of_table), f"report      {page}"]
    for line in [*problems, *lines]:
        print(line)
    if arguments.csv and rows:
        with writing(arguments.csv):
            write_text_atomically(arguments.csv, csv_text(pd.DataFrame(rows)))
        print(f"written     {arguments.csv}")
    return int(bool(problems or of_table) or any(row["verdict"] in ("reject", "refused") for row in rows))


def parse_arguments() -> tuple[argparse.Namespace, dict[str, float]]:
    """Return the arguments, and the limits of the quality checks."""
    parser = OneLineParser(description=__doc__)
    parser.add_argument(
        "paths", type=Path, nargs="+", metavar="file_or_folder", help="ECGs, or folders of them"
    )
    parser.add_argument("--csv", type=Path, help="table to write")
    parser.add_argument(
        "--plot", type=Path, metavar="OUT", help="folder to write pictures to, in subfolders as the files"
    )
    help = "page to write [ecg_files.html]"
    default = Path("ecg_files.html")
    parser.add_argument("--report", type=Path, nargs="?", const=default, metavar="FILE.html", help=help)
    parser.add_argument("--labels", type=Path, help="labels table for the page [labels.csv of the folder]")
    help = "its labels [each column of 0 and 1]"
    parser.add_argument("--label-columns", nargs="+", metavar="LABEL", help=help)
    parser.add_argument("--deidentify", type=Path, metavar="OUT", help="folder to write copies to")
    help = "form of the copies [wfdb]"
    parser.add_argument("--deidentified-form", choices=WRITTEN_FORMS, default="wfdb", help=help)
    types = get_type_hints(Hyperparameters)
    quality = [declared for declared in fields(Hyperparameters) if declared.metadata["group"] == "quality"]
    limits = [declared for declared in quality if types[declared.name] is not bool]
    least = next(declared for declared in fields(Hyperparameters) if declared.name == "min_seconds")
    for limit in (least, *limits):
        flag, help = "--" + limit.name.replace("_", "-"), f"{limit.metadata['help']} [{limit.default}]"
        kind = number_flag(types[limit.name], EXPECTED[types[limit.name]])
        parser.add_argument(flag, type=kind, default=limit.default, help=help.replace("%", "%%"))
    help = f"read recordings of this many leads or more, the others zeros, with a warning [{len(LEADS)}]"
    add_min_leads(parser, help=help)
    arguments = parser.parse_args()
    check_flags(parser, arguments)
    return arguments, {limit.name: getattr(arguments, limit.name) for limit in limits}


def check_flags(parser: OneLineParser, arguments: argparse.Namespace) -> None:
    """End with one line where flags do not go together, or name a place that is not one."""
    if arguments.deidentify and (arguments.csv or arguments.plot or arguments.report or arguments.min_leads):
        found = "--csv, --plot, --report or --min-leads"
        parser.error(f"--deidentify: found {found} beside it, expected it alone")
    if (arguments.labels or arguments.label_columns) and not arguments.report:
        parser.error("--labels, --label-columns: found no --report, expected it: they are for its page")
    if arguments.report and arguments.report.suffix.lower() != ".html":
        found = f"--report: found {arguments.report}, expected a page that ends in .html"
        parser.error(f"{found}; files and folders stand before the flag")
    if arguments.labels and not arguments.labels.is_file():
        parser.error(f"--labels: found no file {arguments.labels}, expected a labels table")
    for flag in ("csv", "report"):
        try:
            if path := getattr(arguments, flag):
                check_file_to_write(path)
        except UserError as error:
            parser.error(f"--{flag}: {error}")
    if arguments.plot:
        try:
            arguments.plot.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            parser.error(f"--plot: {arguments.plot}: cannot be made ({error.strerror}), expected a folder")


def write_copies(files: list[Path], problems: list[str], arguments: argparse.Namespace) -> int:
    """Write de-identified copies, with a line for each file; return the exit status."""
    folder = arguments.deidentify
    copies = deidentify(files, folder, arguments.deidentified_form, arguments.min_seconds)
    copies = zip(copies, shortened(files), strict=True)
    written, n_failed = {}, 0
    for (_, copy), name in tqdm(copies, total=len(files), unit="file", disable=None, leave=False):
        if isinstance(copy, EcgFileError):
            tqdm.write(f"{name}: not written: found {copy.found}; expected {copy.expected}")
            n_failed += 1
        else:
            written[name] = copy
    for name, copy in written.items():
        print(f"{folder / copy}  is {name}")
    for problem in problems:
        print(problem)
    print(f"{counted(len(written), 'ECG')} written, {counted(n_failed, 'file')} not")
    return int(bool(problems) or n_failed > 0)


def inspect(
    files: list[Path], limits: dict[str, float], arguments: argparse.Namespace, names: list[str]
) -> Iterator[tuple[dict[str, Any], np.void | None]]:
    """Yield a row of the table for each file, and its measurements; draw it for --plot."""
    plots, min_seconds = arguments.plot, arguments.min_seconds
    min_leads = arguments.min_leads or len(LEADS)
    for file, name in zip(tqdm(files, unit="file", disable=None, leave=False), names, strict=True):
        try:
            recording = read_recording(file, min_seconds, min_leads)
            rest = bring_to_rest(recording, file, min_seconds=min_seconds)
        except EcgFileError as error:
            finding = f"found {error.found}; expected {error.expected}"
            yield {"file": str(file), "verdict": "refused", "findings": finding}, None
            continue
        measurement = measure_recording(recording, rest)
        findings = judge(np.array([measurement]), **limits)
        yield row_of(file, recording, findings), measurement
        if plots:
            draw(recording, picture_of(name, plots), name, findings)


def row_of(file: Path, recording: Recording, findings: pd.DataFrame) -> dict[str, Any]:
    """Return one row of the table."""
    metadata = recording.metadata
    sentences = [*findings["finding"], *(f"reader: {warning}" for warning in metadata["warnings"])]
    return {
        "file": str(file),
        "format": metadata["file_format"],
        "device": metadata["device"],
        "Hz": recording.sampling_rate,
        "seconds": recording.signal.shape[1] / recording.sampling_rate,
        "leads": metadata["leads_in_file"],
        "µV/count": metadata["microvolts_per_count"],
        "verdict": max(["ok", *findings["verdict"]], key=VERDICTS.index),
        "findings": "; ".join(sentences),
    }


def line_of(row: dict[str, Any], name: str, name_width: int) -> str:
    """Return a row as it is printed."""
    cells = []
    for column, column_width in COLUMNS.items():
        value = row.get(column)
        text = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
        cells.append(f"{text[:column_width]:<{column_width}}")
    return f"{name:<{name_width}} {' '.join(cells)} {row['findings']}".rstrip()


def summary(rows: list[dict[str, Any]], left_out: list[Path]) -> list[str]:
    """Return the last lines: how many files of each format and verdict."""
    lines = []
    if rows:
        file_formats = Counter(row.get("format", "refused") for row in rows)
        formats = ", ".join(f"{name} {n:,}" for name, n in file_formats.most_common())
        verdicts = Counter(row["verdict"] for row in rows)
        lines += [
            "",
            f"{counted(len(rows), 'file')}: {formats}",
            f"verdicts: {', '.join(f'{name} {verdicts[name]:,}' for name in VERDICTS if verdicts[name])}",
        ]
    if left_out:
        suffixes = Counter(file.suffix or file.name for file in left_out)
        kinds = ", ".join(f"{suffix} {n:,}" for suffix, n in suffixes.most_common())
        lines.append(f"{counted(len(left_out), 'file')} of the folders left out, as not ECGs: {kinds}")
    return lines


def duplicates(files: list[Path], same_ecg: np.ndarray) -> list[str]:
    """Return a line for each ECG that several files hold; these share a number of ``same_ecg``."""
    same = pd.Series([str(file) for file in files], dtype=str).groupby(same_ecg).agg(list)
    return [f"the same ECG: {', '.join(names)}" for names in same if len(names) > 1]


def report(arguments: argparse.Namespace, files: list[Path], found: tuple) -> tuple[Path, list[str]]:
    """Write the page about the files and their table; return its path, and what is wrong with the table."""
    from reporting.pages.data_page import write_data_page
    from reporting.words.data_facts import Inspection, labels_of

    folders = [path for path in arguments.paths if path.is_dir()]
    folder = folders[0] if len(arguments.paths) == len(folders) == 1 else None
    names = [file.relative_to(folder).as_posix() for file in files] if folder else shortened(files)
    beside = folder / "labels.csv" if folder and (folder / "labels.csv").is_file() else None
    labels = labels_of(arguments.labels or beside, arguments.label_columns, folder)
    title = folder.resolve().name if folder else counted(len(files), "file")
    inspection = Inspection(files, names, *found)
    page = write_data_page(arguments.report, inspection, labels, folder=title)
    return page, [labels.problem] if labels.problem else []


class _FileSignals:
    """The signals at rest of files, each read again when it is needed, so that memory does not grow."""

    def __init__(self, files: list[Path]):
        self.files = files

    def __getitem__(self, row: int) -> np.ndarray:
        return read_at_rest(self.files[row], LEAST_SECONDS, LEAST_LEADS)


def picture_of(name: str, folder: Path) -> Path:
    """Return where the picture of a file goes, in the subfolders of its name; these are made."""
    path = Path(name)
    inside = folder / path.relative_to(path.anchor)  # on Windows, files of two drives share no folder
    inside.parent.mkdir(parents=True, exist_ok=True)
    return inside.with_name(f"{path.name}.png")


def draw(recording: Recording, path: Path, name: str, findings: pd.DataFrame) -> None:
    """Write a picture on ECG paper."""
    from reporting.figures.ecg_paper import save_ecg

    notes = findings.loc[findings["verdict"] != "note", "finding"]
    save_ecg(
        recording.signal,
        recording.sampling_rate,
        path,
        title=name,
        notes=tuple(notes),
        missing=recording.metadata["missing"],
    )


def shortened(files: list[Path]) -> list[str]:
    """Return names for people: the paths without the folders that all share."""
    if len(files) < 2:
        return [as_utf8(file.name) for file in files]
    files = [Path(os.path.abspath(file)) for file in files]
    parents = [file.parent.parts for file in files]
    n_shared = 0
    while all(len(parts) > n_shared and parts[n_shared] == parents[0][n_shared] for parts in parents):
        n_shared += 1
    return [as_utf8(str(Path(*file.parts[n_shared:]))) for file in files]


def width(names: list[str]) -> int:
    """Return the width of the first column."""
    return min(max([len(name) for name in names] or [4]), 60)


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
