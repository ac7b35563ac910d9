"""`report.html` of a comparison: the table of all models, their ROC and decision curves, strata."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from inference.comparison import Scores
from inference.differences import LabelComparison
from reporting.figures.curves import MODEL, Curve, curve_style, draw_decision_curves, draw_roc
from reporting.pages.explanation_section import ExplanationSection
from reporting.pages.run_page import Picture, new_environment, svg_picture, write_page
from reporting.words.comparison_table import SHOWN, group_cells, table_cells


@dataclass(frozen=True)
class ComparedLabel:
    """One label's section of the page."""

    name: str
    counts: str
    first: str
    titles: list[str]
    rows: list[tuple[str, list[str]]]
    figures: list[Picture]


@dataclass(frozen=True)
class GroupTable:
    """Metrics of groups of ECGs: one row per group, and the file in the run's folder that holds them."""

    title: str
    file: str
    rows: pd.DataFrame


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
) -> Path:
    """Write `report.html`, whole or not at all, and return its path."""
    labels = [_compared_label(result) for result in results]
    page = new_environment().get_template("comparison.html")
    text = page.render(
        title=f"{', '.join(label.name for label in labels)}: models on the same ECGs",
        n_runs=n_runs,
        folder=folder.name,
        verdict=_verdict(labels),
        labels=labels,
        tables=[(group.title, group_cells(group.rows)) for group in groups],
        explanations=explanations,
        accent=MODEL,
    )
    return write_page(folder / "report.html", text)


def _compared_label(result: LabelComparison) -> ComparedLabel:
    return ComparedLabel(
        name=result.label,
        counts=count_words(result),
        first=result.models[0].name,
        titles=[*SHOWN.values(), "difference in AUROC", "p"],
        rows=table_cells(result.metrics, result.differences),
        figures=_figures(result.y_true, result.models),
    )


def _verdict(labels: Sequence[ComparedLabel]) -> str:
    sentences = []
    for label in labels:
        scored = [(name, cells[0]) for name, cells in label.rows if cells[0][0].isdigit()]  # not undefined
        if scored:
            best, auroc = max(scored, key=lambda row: row[1])
            sentences.append(f"{label.name}: the highest AUROC is that of {best}, {auroc}.")
    return " ".join(sentences)


def _figures(y_true: np.ndarray, models: Sequence[Scores]) -> list[Picture]:
    """Draw ROC curves of the models that scored every ECG, and decision curves of the probabilities.

    A model has the same colour and line style in both, even where others are not drawn.
    """
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
