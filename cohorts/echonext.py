"""Make a cohort table from EchoNext (100,000 ECGs with labels of the echocardiogram; doi:10.13026/r9pp-3y42).

    python -m cohorts.echonext FOLDER                                  # RV_dysfunction, PASP45 and TR32
    python -m cohorts.echonext FOLDER --labels RV_dysfunction SHD

FOLDER is the publisher's, of restricted access, with echonext_metadata_100k.csv and
EchoNext_train_waveforms.npy, EchoNext_val_waveforms.npy and EchoNext_test_waveforms.npy: arrays (n, 1,
2500, 12) at 250 Hz, whose rows are those of the metadata with that split, in their order. Since the
programs read files, each ECG is written as WFDB to FOLDER/ecgs, 60 kB each. The publisher's split is kept;
ECGs of no split, which have no waveform, are left out.

The names of files and columns were taken from programs of several authors that read this set, not from the
set itself, to which this project has no access: ecg_key, patient_key, split, sex, age_at_ecg and the twelve
flags. Two things could not be verified: the order of the leads, taken to be I, II, III, aVR, aVL, aVF, V1
to V6 as those programs take it, and the unit. A number counts as 1 mV, unless --millivolts says otherwise.
If the waveforms are standardised, millivolts are lost, and the limb leads need not agree: `python
inspect_ecgs.py FOLDER/ecgs` shows it, and `--quality-checks false` trains all the same.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from cohorts.table_maker import Flow, deliver, find_table, number, output_of, parser_of, rows_of, sex
from ecg.formats.written import wfdb_files
from ecg.recording import LEADS, EcgFileError, Recording
from runtime.atomic_files import write_atomically
from runtime.command_line import number_flag, one_line_errors
from runtime.errors import UserError, reason

TABLE = "echonext_metadata_100k"
SPLITS = {"train": "train", "val": "validation", "test": "test"}
SHAPE = (1, 2500, len(LEADS))  # of one ECG
RATE = 250.0  # Hz
LABELS = {
    "RV_dysfunction": "rv_systolic_dysfunction_moderate_or_greater_flag",
    "PASP45": "pasp_gte_45_flag",  # pulmonary artery systolic pressure of 45 mmHg or more
    "TR32": "tr_max_gte_32_flag",  # tricuspid regurgitation of 3.2 m/s or more
    "TR": "tricuspid_regurgitation_moderate_or_greater_flag",
    "PR": "pulmonary_regurgitation_moderate_or_greater_flag",
    "LVEF45": "lvef_lte_45_flag",
    "LVWT13": "lvwt_gte_13_flag",
    "AS": "aortic_stenosis_moderate_or_greater_flag",
    "AR": "aortic_regurgitation_moderate_or_greater_flag",
    "MR": "mitral_regurgitation_moderate_or_greater_flag",
    "effusion": "pericardial_effusion_moderate_large_flag",
    "SHD": "shd_moderate_or_greater_flag",  # any of the others
}
OF_THE_RIGHT_HEART = ["RV_dysfunction", "PASP45", "TR32"]
FLAGS = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0, "": np.nan, "nan": np.nan}


def main() -> None:
    parser = parser_of(__doc__, f"folder of EchoNext, with {TABLE}.csv")
    parser.add_argument("--labels", nargs="+", choices=LABELS, default=OF_THE_RIGHT_HEART, metavar="LABEL")
    above_0 = number_flag(float, "a number above 0", lambda value: value > 0)
    parser.add_argument(
        "--millivolts", type=above_0, default=1.0, help="that a number of the arrays means [1]"
    )
    arguments = parser.parse_args()
    output = output_of(arguments)
    path = find_table(TABLE, arguments.folder)
    labels = list(dict.fromkeys(arguments.labels))
    table = read_metadata(path, labels)
    flow = Flow("ECGs", len(table), f"ECGs in {path.name}")
    table = flow.keep(table, table["split"] != "", "of no split, which have no waveform")
    if not arguments.files_elsewhere:
        refused = write_ecgs(table, arguments.folder, arguments.millivolts)
        table = flow.keep(table, ~table["file"].isin(refused), "beyond 32.767 mV, or not finite")
    deliver(table, labels, flow, arguments, output)


def read_metadata(path: Path, labels: list[str]) -> pd.DataFrame:
    """Return one row per ECG of the metadata, in their order; ``split`` is "" where there is none.

    Raises
    ------
    UserError : no row, a key that is not a plain word, an unknown split, or a flag that is neither 0 nor 1.
    """
    rows = []
    columns = ["ecg_key", "patient_key", "split", "sex", "age_at_ecg", *(LABELS[name] for name in labels)]
    for line, row in rows_of(path, columns):
        if not re.fullmatch(r"[\w-]+", row["ecg_key"], re.ASCII):
            found = f"ecg_key {row['ecg_key'][:40] or 'empty'}"
            raise UserError(f"{path} line {line}: found {found}, expected letters and digits")
        if row["split"] not in (*SPLITS, "no_split"):
            expected = f"{', '.join(SPLITS)} or no_split"
            raise UserError(f"{path} line {line}: found split {row['split'] or 'empty'}, expected {expected}")
        rows.append({
            "file": f"ecgs/{row['ecg_key']}.hea",
            "patient_id": row["patient_key"],
            "split": SPLITS.get(row["split"], ""),
            "age": number(row["age_at_ecg"]),
            "sex": sex(row["sex"]),
            **{name: _flag(row[LABELS[name]], f"{path} line {line}: column {LABELS[name]}")
               for name in labels},
        })  # fmt: skip
    if not rows:
        raise UserError(f"{path}: found no rows, expected one for each ECG")
    return pd.DataFrame(rows).astype(dict.fromkeys(labels, "Int64"))


def _flag(text: str, where: str) -> float:
    if text.lower() not in FLAGS:
        raise UserError(f"{where}: found {text[:40]}, expected 0, 1 or nothing")
    return FLAGS[text.lower()]


def write_ecgs(table: pd.DataFrame, folder: Path, millivolts: float) -> set[str]:
    """Write the ECGs of each split as WFDB, those that are there already too; return which are refused.

    Raises
    ------
    UserError : an array that is not there, cannot be read, or has not one row for each ECG of its split.
    """
    (folder / "ecgs").mkdir(exist_ok=True)
    refused = set()
    for published, split in SPLITS.items():
        files = table.loc[table["split"] == split, "file"]
        for file, signal in zip(files, _signals(folder, published, len(files)), strict=True):
            recording = Recording(np.ascontiguousarray(signal, np.float32) * np.float32(millivolts), RATE)
            try:
                if not np.isfinite(recording.signal).all():
                    raise EcgFileError(file, "a value that is not finite", "millivolts")
                contents = wfdb_files(recording, Path(file).stem)
            except EcgFileError:
                refused.add(file)
                continue
            for name, content in contents.items():
                write_atomically(
                    folder / "ecgs" / name, lambda aside, content=content: aside.write_bytes(content)
                )
    return refused


def _signals(folder: Path, published: str, n_ecgs: int) -> Iterator[np.ndarray]:
    """Yield the signals of a split, (12, 2500), as the publisher scaled them."""
    path = folder / f"EchoNext_{published}_waveforms.npy"
    try:
        waveforms = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: the waveforms cannot be read ({reason(error)})") from None
    if waveforms.shape != (n_ecgs, *SHAPE):
        raise UserError(
            f"{path}: found an array of shape {waveforms.shape}, expected {(n_ecgs, *SHAPE)}, a row for each "
            f"ECG of the split {published}"
        )
    return (waveform[0].T for waveform in waveforms)


if __name__ == "__main__":
    with one_line_errors():
        main()
