"""Make a synthetic cohort: simulated 12-lead ECGs, some with the signs of acute pulmonary embolism (PE).

    python -m cohorts.synthetic FOLDER [--n-ecgs N] [--n-patients N] [--prevalence P] [--seed S]

writes
    FOLDER/demo-0001.xml …   12 leads x 10 s at 500 Hz in the format of the study hospital
    FOLDER/labels.csv        file, patient_id, age, sex, PE
    FOLDER/truth.csv         what was planted in each file: signs, rate, axis, intervals, some amplitudes
    FOLDER/cohort.json       the parameters: the same ones give byte-identical files; other ones are refused

The ECGs are those of ``ecg/simulation.py``: computed from formulas, not clinical evidence.
"""

import csv
import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ecg.formats.hospital import hospital_xml
from ecg.simulation import (
    MV_PER_COUNT,
    SIGN_RATES,
    Patient,
    achievable_auroc,
    draw_patient,
    sign_log_ratio,
    simulate_ecg,
)
from metrics.bootstrap import auroc_of_counts, rank_counts
from runtime.command_line import (
    OneLineParser,
    one_line_errors,
    share,
    whole_number,
    whole_number_from_0,
)
from runtime.errors import UserError, reason

DEMO_FOLDER = "demo_cohort"  # of the cohort that is used without --data-dir
GENERATOR_VERSION = 1  # to be raised with every change that alters the files
DISCLAIMER = "Synthetic ECGs, computed from formulas; no patient's. They prove nothing clinically."


def draw_patients(
    generator: np.random.Generator, n_ecgs: int, n_patients: int, prevalence: float
) -> list[tuple[Patient, int]]:
    """Return (patient, number of ECGs); PE has its prevalence as nearly as whole patients allow."""
    counts = 1 + np.bincount(generator.integers(n_patients, size=n_ecgs - n_patients), minlength=n_patients)
    with_pe, room = set(), round(prevalence * n_ecgs)
    for index in generator.permutation(n_patients):
        if counts[index] <= room:
            with_pe.add(int(index))
            room -= counts[index]
    if not 0 < len(with_pe) < n_patients:
        raise UserError(
            f"prevalence: found {prevalence}, which gives {len(with_pe)} of {n_patients} patients PE; "
            "expected at least one with and one without"
        )
    return [
        (draw_patient(generator, pe=i in with_pe, patient_id=f"demo-patient-{i + 1:04d}"), int(count))
        for i, count in enumerate(counts)
    ]


def demo_cohort(folder: str | Path = DEMO_FOLDER) -> Path:
    """Make the default cohort, print what it is, and return its folder."""
    print(f"demo        no --data-dir: {folder}, 300 ECGs. {DISCLAIMER}", flush=True)
    return make_cohort(folder).parent


def make_cohort(
    folder: str | Path, *, n_ecgs: int = 300, n_patients: int = 270, prevalence: float = 0.15, seed: int = 42
) -> Path:
    """Write a synthetic cohort, or leave it as it is where the same one is there already.

    Parameters
    ----------
    folder : absent, empty, or holding this cohort; it appears whole or not at all
    n_ecgs, n_patients : the ECGs beyond one for each patient go to patients at random
    prevalence : share of the ECGs that come from patients with PE

    Returns
    -------
    The path of the labels table.

    Raises
    ------
    UserError : an argument out of range, or a folder that holds something else.
    """
    parameters = {"n_ecgs": n_ecgs, "n_patients": n_patients, "prevalence": prevalence, "seed": seed}
    check_parameters(**parameters)
    folder = Path(folder)
    identity = {"generator_version": GENERATOR_VERSION, **parameters}
    if holds_cohort(folder, identity):
        return folder / "labels.csv"
    aside = folder.absolute().with_name(f".{folder.absolute().name}.{os.getpid()}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        write_cohort(aside, np.random.default_rng(seed), identity)
        aside.rename(folder)
    except OSError as error:
        # Another process, e.g. of a training on several GPUs, may have been faster with the same cohort.
        if not holds_cohort(folder, identity):
            raise UserError(
                f"{folder}: the synthetic ECGs cannot be written there ({reason(error)}); work in another "
                "folder, or name ECGs of your own with --data-dir"
            ) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder / "labels.csv"


def check_parameters(n_ecgs: int, n_patients: int, prevalence: float, seed: int) -> None:
    """Raise a UserError that names the first argument out of range."""
    ranges = {"n_patients": (n_patients, 2), "n_ecgs": (n_ecgs, n_patients), "seed": (seed, 0)}
    for name, (value, least) in ranges.items():
        if type(value) is not int or value < least:
            raise UserError(f"{name}: found {value!r}, expected a whole number of at least {least}")
    if not 0 < prevalence < 1:
        raise UserError(f"prevalence: found {prevalence!r}, expected a number between 0 and 1")


def holds_cohort(folder: Path, identity: Mapping[str, Any]) -> bool:
    """Return whether the folder holds this cohort; raise a UserError where it holds something else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    record = folder / "cohort.json"
    found = record.read_text(encoding="utf-8").strip() if record.is_file() else "no cohort.json"
    n_files = len(list(folder.glob("demo-*.xml")))
    tables = (folder / "labels.csv").is_file() and (folder / "truth.csv").is_file()
    if found == json.dumps(identity) and n_files == identity["n_ecgs"] and tables:
        return True
    raise UserError(
        f"{folder}: found {n_files} synthetic ECGs and {found}, expected an absent or empty folder "
        f"or the whole cohort {json.dumps(identity)}; name another folder or remove this one"
    )


def write_cohort(folder: Path, generator: np.random.Generator, identity: Mapping[str, Any]) -> None:
    """Write all files of a cohort into an empty folder."""
    labels, truths = [], []
    sizes = [identity[name] for name in ("n_ecgs", "n_patients", "prevalence")]
    for patient, count in draw_patients(generator, *sizes):
        for _ in range(count):
            file = f"demo-{len(labels) + 1:04d}.xml"
            signal, truth = simulate_ecg(patient, generator)
            text = hospital_xml(signal, mv_per_count=MV_PER_COUNT, comment=DISCLAIMER)
            (folder / file).write_bytes(text.encode("iso-8859-1"))
            person = {name: getattr(patient, name) for name in ("patient_id", "age", "sex", "PE")}
            labels.append({"file": file} | person)
            rounded = {name: f"{v:.3f}" if isinstance(v, float) else v for name, v in truth.items()}
            truths.append({"file": file, "PE": patient.PE} | rounded)
    write_table(folder / "labels.csv", labels)
    write_table(folder / "truth.csv", truths)
    (folder / "cohort.json").write_text(json.dumps(identity) + "\n", encoding="utf-8")


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a list of dicts with the same keys as a CSV file."""
    with open(path, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def planted_auroc(folder: Path, files: Collection[str] | None = None) -> float:
    """Return the AUROC of the planted signs on some ECGs of a cohort, or all; a model that found them has it.

    It is that of their likelihood ratio, and nan where one class has no ECG, or the truth is not there.
    """
    rows = _truth(folder) if (folder / "truth.csv").is_file() else []
    rows = [row for row in rows if files is None or row["file"] in files]
    pe = np.array([float(row["PE"]) for row in rows])
    if len(np.unique(pe)) < 2:
        return np.nan
    ratios = [sign_log_ratio({sign: int(row[sign]) for sign in SIGN_RATES}) for row in rows]
    return auroc_of_counts(rank_counts(pe, np.array(ratios))).item()


def _truth(folder: Path) -> list[dict[str, str]]:
    """Return what was planted in each ECG."""
    with open(folder / "truth.csv", newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def summary(labels_table: Path) -> str:
    """Return a summary of a cohort as text."""
    rows = _truth(labels_table.parent)
    pe = np.array([row["PE"] == "1" for row in rows])
    lines = [f"{labels_table}: {len(rows)} ECGs, {pe.sum()} with PE ({pe.mean():.1%})"]
    lines.append(f"{'sign':<20}{'with PE':>9}{'without':>9}")
    for sign in SIGN_RATES:
        present = np.array([row[sign] == "1" for row in rows])
        lines.append(f"{sign:<20}{present[pe].mean():>9.1%}{present[~pe].mean():>9.1%}")
    lines.append(f"AUROC of the planted signs on these ECGs: {planted_auroc(labels_table.parent):.3f}")
    lines.append(
        f"in the mean over such cohorts, the best that any model can expect: {achievable_auroc():.3f}"
    )
    return "\n".join([*lines, DISCLAIMER])


def main() -> None:
    """Make a cohort from the command line."""
    parser = OneLineParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n-ecgs", type=whole_number, default=300)
    parser.add_argument("--n-patients", type=whole_number, help="default: nine per ten ECGs")
    parser.add_argument("--prevalence", type=share, default=0.15, help="share of the ECGs with PE")
    parser.add_argument("--seed", type=whole_number_from_0, default=42)
    options = vars(parser.parse_args())
    if options["n_patients"] is None:
        options["n_patients"] = round(0.9 * options["n_ecgs"])
    print(summary(make_cohort(options.pop("folder"), **options)))


if __name__ == "__main__":
    with one_line_errors():
        main()
