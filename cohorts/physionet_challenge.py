"""Make a cohort table from the PhysioNet/CinC Challenges 2020 and 2021 (doi:10.13026/34va-7q14): WFDB, #Dx.

    python -m cohorts.physionet_challenge FOLDER                        # the diagnoses scored in 2021
    python -m cohorts.physionet_challenge FOLDER --labels AF RBBB 429622005

FOLDER holds .hea files at any depth. An abbreviation stands for a scored diagnosis with the code that the
challenge scores as the same one (RBBB: 59118001 and 713427006); a SNOMED CT code stands for itself. The
sources of the challenge (CPSC, Georgia, …) were not labelled with the same vocabulary: a label that no record
of a source has is unknown in that source, and left empty there; --unseen 0 makes it negative. The headers
name no patients: each record counts as one, though some sources have several per patient.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from cohorts.table_maker import Flow, deliver, number, output_of, parser_of, sex
from runtime.command_line import one_line_errors
from runtime.errors import UserError

# Scored in 2021: dx_mapping_scored.csv of github.com/physionetchallenges/evaluation-2021.
SCORED = {
    "AF": ("164889003", "atrial fibrillation"),
    "AFL": ("164890007", "atrial flutter"),
    "BBB": ("6374002", "bundle branch block"),
    "Brady": ("426627000", "bradycardia"),
    "CLBBB": ("733534002", "complete left bundle branch block"),
    "CRBBB": ("713427006", "complete right bundle branch block"),
    "IAVB": ("270492004", "1st degree AV block"),
    "IRBBB": ("713426002", "incomplete right bundle branch block"),
    "LAD": ("39732003", "left axis deviation"),
    "LAnFB": ("445118002", "left anterior fascicular block"),
    "LBBB": ("164909002", "left bundle branch block"),
    "LQRSV": ("251146004", "low QRS voltages"),
    "NSIVCB": ("698252002", "nonspecific intraventricular conduction disorder"),
    "NSR": ("426783006", "sinus rhythm"),
    "PAC": ("284470004", "premature atrial contraction"),
    "PR": ("10370003", "pacing rhythm"),
    "PRWP": ("365413008", "poor R wave progression"),
    "PVC": ("427172004", "premature ventricular contractions"),
    "LPR": ("164947007", "prolonged PR interval"),
    "LQT": ("111975006", "prolonged QT interval"),
    "QAb": ("164917005", "Q wave abnormal"),
    "RAD": ("47665007", "right axis deviation"),
    "RBBB": ("59118001", "right bundle branch block"),
    "SA": ("427393009", "sinus arrhythmia"),
    "SB": ("426177001", "sinus bradycardia"),
    "STach": ("427084000", "sinus tachycardia"),
    "SVPB": ("63593006", "supraventricular premature beats"),
    "TAb": ("164934002", "T wave abnormal"),
    "TInv": ("59931005", "T wave inversion"),
    "VPB": ("17338001", "ventricular premature beats"),
}
EQUAL = (("RBBB", "CRBBB"), ("LBBB", "CLBBB"), ("PAC", "SVPB"), ("PVC", "VPB"))  # scored as the same
DEFAULT_LABELS = [name for name in SCORED if name not in {second for _, second in EQUAL}]
MAX_HEADER_BYTES = 100_000
COMMENT = re.compile(r"#\s*(Age|Sex|Dx)\s*:(.*)")
CODE = re.compile(r"\d{6,18}")  # SNOMED CT identifiers


def main() -> None:
    parser = parser_of(__doc__, "folder of the challenge's .hea files, at any depth")
    parser.add_argument("--labels", nargs="+", default=DEFAULT_LABELS, metavar="LABEL")
    parser.add_argument(
        "--unseen",
        choices=("empty", "0"),
        default="empty",
        help="label that no record of a source has [empty]",
    )
    arguments = parser.parse_args()
    output = output_of(arguments)
    labels = {label: codes_of(label) for label in arguments.labels}
    records = [read_header(arguments.folder, file) for file in headers(arguments.folder)]
    if not records:
        raise UserError(f"{arguments.folder}: found no .hea file, expected the challenge's folder tree")
    table = pd.DataFrame(records)
    flow = Flow("ECGs", len(table), f"headers in {arguments.folder}")
    table = flow.keep(table, table["codes"].str.len() > 0, "no SNOMED CT code under #Dx in the header")
    table = with_labels(table, labels, arguments.unseen == "empty")
    deliver(table, list(labels), flow, arguments, output)


def codes_of(label: str) -> frozenset[str]:
    """Return the SNOMED CT codes of a label.

    Raises
    ------
    UserError : neither an abbreviation of the scored diagnoses nor a code.
    """
    if CODE.fullmatch(label):
        return frozenset([label])
    if label not in SCORED:
        raise UserError(f"--labels: found {label}, expected a SNOMED CT code or one of {', '.join(SCORED)}")
    names = next((pair for pair in EQUAL if label in pair), (label,))
    return frozenset(SCORED[name][0] for name in names)


def headers(folder: Path) -> Iterator[str]:
    """Yield the .hea files of a folder tree, relative to it, in order."""
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            if file.lower().endswith(".hea") and not file.startswith("."):
                yield (Path(parent) / file).relative_to(folder).as_posix()


def read_header(folder: Path, file: str) -> dict:
    """Return file, age, sex, source and set of codes from a header's comments.

    Raises
    ------
    UserError : the header cannot be read.
    """
    try:
        with open(folder / file, encoding="latin-1") as handle:
            content = handle.read(MAX_HEADER_BYTES)
    except OSError as error:
        raise UserError(f"{folder / file}: the header cannot be read ({error.strerror})") from None
    comments = dict(match.groups() for line in content.splitlines() if (match := COMMENT.match(line)))
    return {
        "file": file,
        "age": number(comments.get("Age", "")),
        "sex": sex(comments.get("Sex", "")),
        "source": source_of(file),
        "codes": frozenset(CODE.findall(comments.get("Dx", ""))),
    }


def source_of(file: str) -> str:
    """Return the database that a record is from: "georgia" for training/georgia/g1/E00001.hea."""
    parents = [part for part in Path(file).parts[:-1] if not re.fullmatch(r"g\d+", part)]
    return parents[-1] if parents else ""


def with_labels(
    table: pd.DataFrame, labels: dict[str, frozenset[str]], unseen_is_unknown: bool
) -> pd.DataFrame:
    """Return the table with one column per label instead of the codes."""
    for label, codes in labels.items():
        stated = pd.Series([not codes.isdisjoint(found) for found in table["codes"]], table.index)
        table[label] = stated.astype("Int8")
        if unseen_is_unknown:
            seen = stated.groupby(table["source"]).transform("any")
            table.loc[~seen, label] = pd.NA
    return table[["file", "age", "sex", *labels, "source"]]


if __name__ == "__main__":
    with one_line_errors():
        main()
