"""A page about ECG files before any training: what they are, what is wrong, what would be refused."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd

from ecg.quality import count_missing
from ecg.recording import LEAST_LEADS, LEAST_SECONDS
from hyperparameters.declaration import Hyperparameters
from reporting.figures.curves import MODEL, draw_histogram
from reporting.figures.ecg_paper import draw_ecg
from reporting.pages.page_parts import Picture, new_environment, png_source, svg_picture, write_page
from reporting.words import data_facts as facts
from reporting.words.cohort_flow import age_and_sex, cohort_flow, left_out_rows, quality_counts, table_one
from reporting.words.data_facts import Inspection, Labels
from run_folder.run_record import RunRecord
from xml_loader import read_recording

AGE_BINS = np.arange(0, 96, 5)  # years
QRS_BINS = np.geomspace(0.02, 20, 31)  # mV


def write_data_page(path: Path, inspection: Inspection, labels: Labels, *, folder: str) -> Path:
    """Write the page, whole or not at all, and return its path.

    Parameters
    ----------
    folder : name of what was inspected, for the title.
    """
    record = facts.as_record(inspection, labels)
    header, rows = table_one(record)
    used = set(record.splits["file"])
    page = (
        new_environment()
        .get_template("data.html")
        .render(
            folder=folder,
            verdict=facts.first_sentence(record, labels),
            labels=labels,
            record=record,
            flow=cohort_flow(record),
            source=f"named by {labels.name}" if len(labels.table) else "in the folder",
            n_not_named=facts.not_named(inspection, labels),
            keys=_keys(inspection, record),
            equipment=facts.equipment_rows(inspection),
            lacking=count_missing(inspection.measurements),
            refused=facts.refused_rows(inspection),
            n_refused=facts.n_left_out(inspection),
            quality=quality_counts(record.quality[record.quality["file"].isin(used)]),
            same=facts.same_ecgs(inspection),
            max_listed=facts.MAX_LISTED,
            table_header=header,
            table_rows=rows,
            left_out=left_out_rows(record),
            columns=facts.column_rows(labels),
            pictures=_pictures(inspection, record),
            papers=[_paper(inspection, record, n) for n in facts.drawn_ecgs(inspection)],
            limits=_limits(inspection),
            accent=MODEL,
        )
    )
    return write_page(path, page)


def _keys(inspection: Inspection, record: RunRecord) -> list[tuple[str, str, str]]:
    """Return title, number and a word on it of what is to be seen first."""
    verdicts = inspection.rows["verdict"]
    n_files, n_warned = len(verdicts), int((verdicts == "warn").sum())
    return [
        ("files", f"{n_files:,}", f"{len(inspection.readable):,} can be read"),
        ("usable ECGs", f"{len(record.splits):,}", f"{len(record.rejected):,} not"),
        ("patients", f"{record.splits['patient_id'].nunique():,}", "of the usable ECGs"),
        ("ECGs with a warning", f"{n_warned:,}", "used, but worth a look"),
    ]


def _pictures(inspection: Inspection, record: RunRecord) -> list[Picture]:
    """Draw the ages and QRS amplitudes, of those with and without the first label where there is one."""
    pictures = []
    measured = pd.Series(
        inspection.measurements["qrs_mv"], index=[inspection.names[n] for n in inspection.readable]
    )
    if len(measured):
        limits = [inspection.limits[name] for name in ("min_qrs_mv", "max_qrs_mv")]
        groups = {"all that can be read": measured.to_numpy(float)}
        pictures.append(
            svg_picture(
                draw_histogram(groups, QRS_BINS, "QRS, peak to peak, in mV", limits=limits, log=True),
                alt=f"Histogram of the QRS amplitudes of {len(measured):,} ECGs.",
                caption="QRS amplitude, the median of the twelve leads. A second hump, or a shift by a power "
                "of ten, is a wrong unit.",
            )
        )
    if (
        "age" in record.splits
        and (ages := pd.to_numeric(record.splits["age"], errors="coerce")).notna().any()
    ):
        pictures.append(
            svg_picture(
                draw_histogram(_by_label(record, ages), AGE_BINS, "age in years"),
                alt=f"Histogram of the ages of {int(ages.notna().sum()):,} ECGs' patients.",
                caption="Age at the ECG; above 89 it counts as 90.",
            )
        )
    return pictures


def _by_label(record: RunRecord, values: pd.Series) -> dict[str, np.ndarray]:
    """Return the values of the usable ECGs by the first label, or of all where there is none."""
    if not record.label_names:
        return {"all": values.to_numpy(float)}
    name = record.label_names[0]
    return {
        f"{word} {name}": values[record.splits[name] == number].to_numpy(float)
        for word, number in (("without", 0), ("with", 1))
    }


def _paper(inspection: Inspection, record: RunRecord, n: int) -> Picture:
    """Return one ECG on paper, with what the checks found in it."""
    recording = read_recording(inspection.files[n], LEAST_SECONDS, LEAST_LEADS)
    name = inspection.names[n]
    row = inspection.rows.iloc[n]
    words = [f"verdict: {row['verdict']}", row["findings"], age_and_sex(record.splits, name)]
    caption = "; ".join(word for word in words if word)
    figure = draw_ecg(
        recording.signal,
        recording.sampling_rate,
        title=name,
        notes=[caption],
        missing=recording.metadata["missing"],
    )
    alt = f"12-lead ECG {name} on ECG paper, 25 mm/s and 10 mm/mV; {caption}."
    return Picture(png_source(figure), alt, caption)


def _limits(inspection: Inspection) -> list[tuple[str, str, str]]:
    """Return flag, value and meaning of each limit of the checks."""
    help_of = {declared.name: declared.metadata["help"] for declared in fields(Hyperparameters)}
    return [
        (f"--{name.replace('_', '-')}", f"{value:g}", help_of[name])
        for name, value in inspection.limits.items()
    ]
