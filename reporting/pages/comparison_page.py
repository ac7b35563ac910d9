"""`report.html` of a comparison: the table of all models, their ROC and decision curves, strata."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ecg.recording import MIN_SECONDS
from inference.comparison import Scores
from inference.differences import LabelComparison
from reporting.figures.curves import MODEL, Curve, curve_style, draw_decision_curves, draw_roc
from reporting.pages.explanation_section import ExplanationSection
from reporting.pages.page_parts import Picture, new_environment, svg_picture, write_page
from reporting.words.cohort_flow import Flow
from reporting.words.comparison_table import (
    DECIDED,
    decision_cells,
    group_cells,
    table_cells,
    table_titles,
    tests_in_words,
)
from reporting.words.run_sentences import short_recordings


@dataclass(frozen=True)
class ComparedLabel:
    """One label's section of the page."""

    name: str
    counts: str
    first: str
    titles: list[str]
    rows: list[tuple[str, list[str]]]
    decision_titles: list[str]
    decision_rows: list[tuple[str, list[str]]]
    figures: list[Picture]


@dataclass(frozen=True)
class GroupTable:
    """Metrics of groups of ECGs: one row per group, and the file in the run's folder that holds them."""

    title: str
    file: str
    rows: pd.DataFrame


@dataclass(frozen=True)
class OtherCohort:
    """Patients whom no run was trained on: which of their ECGs are used, and table 1.

    Attributes
    ----------
    flow : from files to ECGs.
    label_names : of the labels that are known of some.
    header, rows : of table 1, beside those with whom the first run was developed.
    left_out : rows of the files that are not used, by label and sex.
    hours : sentences about the time from the examination to the ECG, where it is known.
    unseen : sentences about how they were compared with the ECGs that the runs have seen.
    lacking : a sentence about ECGs that lack leads, or "".
    """

    flow: Flow
    label_names: list[str]
    header: list[str]
    rows: list[list[str]]
    left_out: list[list[str]]
    hours: list[str]
    unseen: Sequence[str]
    lacking: str = ""


def count_words(result: LabelComparison) -> str:
    """Return text such as "60 ECGs, 9 with PE (15.0 %), each scored 3 times"."""
    n_repeats = result.n_repeats
    n_ecgs, n_positive = len(result.y_true) // n_repeats, int(result.y_true.sum()) // n_repeats
    counts = f"{n_ecgs:,} ECGs, {n_positive:,} with {result.label} ({100 * n_positive / n_ecgs:.1f} %)"
    return counts + (f", each scored {n_repeats} times" if n_repeats > 1 else "")


def write_comparison_page(
    folder: Path,
    n_runs: int,
    results: Sequence[LabelComparison],
    groups: Sequence[GroupTable],
    explanations: Sequence[ExplanationSection] = (),
    other_cohort: OtherCohort | None = None,
    min_seconds: float = MIN_SECONDS,
) -> Path:
    """Write `report.html`, whole or not at all, and return its path.

    Parameters
    ----------
    min_seconds : the shortest length of a recording that was used.
    """
    labels = [_compared_label(result) for result in results]
    page = new_environment().get_template("comparison.html")
    text = page.render(
        title=", ".join(label.name for label in labels),
        several=any(len(result.models) > 1 for result in results),
        n_runs=n_runs,
        folder=folder.name,
        verdict=_verdict(labels),
        tests=tests_in_words(results, count_groups(groups)),
        other_cohort=other_cohort,
        labels=labels,
        tables=[(group.title, group_cells(group.rows)) for group in groups],
        explanations=explanations,
        short_recordings=short_recordings(min_seconds),
        accent=MODEL,
    )
    return write_page(folder / "report.html", text)


def count_groups(groups: Sequence[GroupTable]) -> int:
    """Return how many groups of ECGs the tables describe."""
    return sum(len(group.rows) for group in groups)


def _compared_label(result: LabelComparison) -> ComparedLabel:
    return ComparedLabel(
        name=result.label,
        counts=count_words(result),
        first=result.models[0].name,
        titles=table_titles(result.differences),
        rows=table_cells(result.metrics, result.differences),
        decision_titles=list(DECIDED.values()),
        decision_rows=decision_cells(result.metrics),
        figures=_figures(result.y_true, result.models),
    )


def _verdict(labels: Sequence[ComparedLabel]) -> list[str]:
    """Return a sentence on each label for which a model has an AUROC."""
    sentences = []
    for label in labels:
        scored = [(name, cells[0]) for name, cells in label.rows if cells[0][0].isdigit()]  # not undefined
        if scored:
            best, auroc = max(scored, key=lambda row: row[1])
            whose = f"highest AUROC is that of {best}," if len(label.rows) > 1 else f"AUROC of {best} is"
            sentences.append(f"{label.name}: the {whose} {auroc}.")
    return sentences


def _figures(y_true: np.ndarray, models: Sequence[Scores]) -> list[Picture]:
    """Draw ROC curves of the models that scored every ECG, and decision curves of the probabilities.

    There are none where all ECGs are of one class. A model has the same colour and line style in both, even
    where others are not drawn.
    """
    if len(np.unique(y_true)) < 2:
        return []
    curves = [Curve(model.name, y_true, model.y_score, curve_style(n)) for n, model in enumerate(models)]
    complete = [curve for curve in curves if np.isfinite(curve.y_score).all()]
    probable = [curve for curve in complete if curve.y_score.min() >= 0 and curve.y_score.max() <= 1]
    return [
        svg_picture(
            draw_roc(complete),
            alt=f"ROC curves of {len(complete)} models",
            caption="ROC: how many are found, for how many of the others that are flagged in vain.",
        ),
        svg_picture(
            draw_decision_curves(probable),
            alt=f"Decision curves of {len(probable)} models",
            caption="Decision curve: the net benefit of acting on the score, on everybody, on nobody.",
        ),
    ]
