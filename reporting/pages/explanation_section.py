"""A run's explanations on the page of a comparison: groups as a picture, errors as a table."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dataset.cohort import Cohort
from ecg.recording import LEADS, MILLIVOLTS
from ecg.signs import Signs, measure_signs
from explanations.group_means import PARTS, REFERENCE, ExplainedEcg
from explanations.groups import ExplainedLabel
from reporting.pages.page_parts import Picture, svg_picture
from reporting.words.cohort_flow import age_and_sex
from reporting.words.formatting import number, signed
from runtime.atomic_files import write_atomically
from runtime.messages import counted

DOTS_PER_INCH = 150
N_STRONGEST = 3  # leads of an error
NO_BREAK = "\N{NO-BREAK SPACE}"
CAPTION = (
    "Integrated gradients of the model that was tested on the ECG, summed over each lead and part of the "
    "beats, in logits of the calibrated score. Lower right: what the waves of true negatives add to it, "
    "against a flat line. The other three: how much more, or less, than in these. Lines on the bars: 95 % "
    "intervals over patients; bold: 0 lies outside. The ECGs of a group are drawn at random. This shows what "
    "the model uses, not what the disease does. The groups are made by the score itself, so flagged ones "
    "add up to more by construction: read where, not how much. Limb leads follow from each other, and how a "
    "model divides its weight among them is arbitrary. Of sixty numbers per group, a few are bold by chance. "
    "Intervals of few patients are rather too narrow, and none accounts for another training."
)


@dataclass(frozen=True)
class ErrorRow:
    """An error worth a look; every field is text."""

    file: str
    patient: str
    age_and_sex: str
    kind: str
    score: str
    threshold: str
    leads: str
    signs: str


@dataclass(frozen=True)
class ExplanationSection:
    """What one run looks at for one label."""

    title: str
    left_out: str
    picture: Picture
    errors: list[ErrorRow]


def explanation_section(explained: ExplainedLabel, figure: Figure, cohort: Cohort) -> ExplanationSection:
    """Return the section; the figure is `group_attribution.draw_group_attribution` of the same label."""
    model, label = explained.model, explained.label
    alt = f"Mean attribution of {model} for {label}, of 12 leads and 5 parts of the beat, in four groups."
    return ExplanationSection(
        title=f"{label}: what {model} looks at",
        left_out=left_out_words(explained),
        picture=svg_picture(figure, alt=alt, caption=CAPTION),
        errors=[_error_row(row, cohort, explained) for row in explained.errors.itertuples(index=False)],
    )


def left_out_words(explained: ExplainedLabel) -> str:
    """Return how many ECGs are left out of the means, and why; "" if none is."""
    if not explained.left_out:
        return ""
    files = ", ".join(explained.left_out[:3]) + (", …" if len(explained.left_out) > 3 else "")
    one = len(explained.left_out) == 1
    which = f"{counted(len(explained.left_out), 'ECG')} {'is' if one else 'are'} in no mean"
    return f"{which}: {'its' if one else 'their'} attributions do not add up to the logit ({files})."


def explained_errors(explained: ExplainedLabel) -> pd.DataFrame:
    """Return the errors as the table of `explained_errors.csv`, with each lead's sum of attributions."""
    errors = explained.errors
    nothing = np.full(len(LEADS), math.nan)
    leads = np.array([nothing if ecg is None else ecg.leads for ecg in errors["explained"]])
    table = errors.drop(columns=["ecg", "explained"]).assign(label=explained.label, model=explained.model)
    return table.assign(**dict(zip(LEADS, leads.reshape(-1, len(LEADS)).T, strict=True)))


def _error_row(row: tuple, cohort: Cohort, explained: ExplainedLabel) -> ErrorRow:
    signs = measure_signs(cohort.signals.read([row.ecg])[0] * MILLIVOLTS)
    return ErrorRow(
        file=row.file,
        patient=row.patient_id,
        age_and_sex=age_and_sex(cohort.table, row.file),
        kind=f"{explained.label}, missed" if row.y_true == 1 else f"no {explained.label}, flagged",
        score=f"{row.y_score:.3f}",
        threshold=f"{row.threshold:.3f}",
        leads="the attributions do not add up" if row.explained is None else _leads(row.explained, explained),
        signs=signs_in_words(signs),
    )


def _leads(ecg: ExplainedEcg, explained: ExplainedLabel) -> str:
    """Return text such as "V1 +0.82 (QRS), V2 +0.40 (T), III −0.22 (QRS)".

    Named are the leads that differ most from the mean true negative, or from a flat line where there are no
    true negatives, each with the part that differs most in that direction.
    """
    usual = explained.means[explained.means["group"] == REFERENCE].set_index(["segment", "lead"])["mean"]
    leads = ecg.leads - usual.loc["all"].fillna(0)[list(LEADS)].to_numpy()
    cells = ecg.cells - np.stack([usual.loc[part].fillna(0)[list(LEADS)] for part in PARTS], axis=1)
    words = []
    for lead in np.argsort(-np.abs(leads), kind="stable")[:N_STRONGEST]:
        part = np.nanargmax(cells[lead] * np.sign(leads[lead])) if not np.isnan(cells[lead]).any() else None
        where = "" if part is None else f" ({PARTS[part]})"
        words.append(f"{LEADS[lead]} {signed(leads[lead], 2)}{where}".replace(" ", NO_BREAK))
    return ", ".join(words)


def signs_in_words(signs: Signs) -> str:
    """Return what was measured: rate, axis and QRS, and each sign of right-heart strain that is there."""
    values = {" bpm": signs.heart_rate_bpm, "° axis": signs.qrs_axis_deg, " ms QRS": signs.qrs_ms}
    words = [f"{number(value, 0)}{unit}" for unit, value in values.items() if not math.isnan(value)]
    if not words:
        return "no beats of one shape"
    present = {
        "S1Q3T3": signs.s1q3t3 == 1,
        f"T inverted in {signs.n_inverted_t_v1_v4:.0f} of V1 to V4": signs.n_inverted_t_v1_v4 > 0,
        "incomplete RBBB": signs.rbbb_pattern == 1,
        "complete RBBB": signs.rbbb_pattern == 2,
        "right axis": signs.right_axis == 1,
        "sinus tachycardia": signs.sinus_tachycardia == 1,
    }
    return ", ".join(words + [name for name, is_there in present.items() if is_there])


def save_explanation_picture(figure: Figure, explained: ExplainedLabel, folder: Path) -> None:
    """Write a PNG under a name that is not taken yet; labels and models may have any characters."""
    stem = re.sub(r"[^\w.-]+", "-", f"explanations-{explained.label}-{explained.model}")
    while (folder / f"{stem}.png").exists():
        stem += "-"
    path = folder / f"{stem}.png"
    write_atomically(path, lambda aside: figure.savefig(aside, format="png", dpi=DOTS_PER_INCH))
