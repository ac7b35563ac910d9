"""`report.html`: one page about one run, for a cardiologist, a reviewer and the file.

It holds everything it shows (no network, no script, system fonts), prints on A4, and is made from the run
folder alone; only the ECGs of the most confident errors are read from the folder of the cohort.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hyperparameters.declaration import Hyperparameters
from inference.abstention import calibration_scores
from inference.strata import metrics_of_run
from metrics.instability import instability
from reporting.figures import curves as draw
from reporting.pages.card_xml import write_card
from reporting.pages.error_gallery import ErrorCase, confident_errors
from reporting.pages.page_parts import Picture, new_environment, svg_picture, write_page
from reporting.words.applied_model_card import applied_model_card
from reporting.words.cohort_flow import cohort_flow, left_out_rows, quality_counts, table_one
from reporting.words.comparison_table import group_cells
from reporting.words.formatting import interval, number
from reporting.words.metric_meanings import MetricRow, metric_groups, missing_class
from reporting.words.run_sentences import (
    compute_in_words,
    confusion_sentences,
    fold_sentence,
    fold_thresholds,
    instability_sentence,
    limits,
    threshold_sentence,
    verdict,
)
from reporting.words.set_words import report_sentences
from reporting.words.stard import stard
from reporting.words.stard_ai import stard_ai
from reporting.words.tripod import tripod
from run_folder.repeats import ecgs_of
from run_folder.run_record import RunRecord
from runtime.errors import UserError
from runtime.messages import counted

MAX_LABELS_WITH_CURVES = 6  # the others have only their metrics, or the page would be large and slow
MAX_LABELS_DRAWN = 2  # labels whose errors are drawn; those of the others are listed
MAX_LABELS_IN_TITLE = 3
CAPTIONS = {
    "folds": " The dot pools the folds' own thresholds, and may lie beside the curve.",
    "ROC curve": (
        "ROC: how many are found for how many false alarms, at every threshold. The band holds 95 % of "
        "resampled patients at each point."
    ),
    "Precision-recall curve": (
        "Precision and recall: of those flagged, how many have the disease, for how many of the diseased "
        "found. Dotted: the prevalence."
    ),
    "Calibration plot": (
        "Calibration: ten groups of equal size by score. On the dotted line, a score of 0.2 means one in "
        "five. Bars: Wilson's 95 % intervals, which count patients."
    ),
    "Decision curve": (
        "Decision curve: what acting on the score is worth, by the probability of disease at which the next "
        "test is just worth it. The model helps where its line is the highest."
    ),
    "Instability plot": (
        "Instability: each ECG has a dot for each repeat, whose model has learnt from other patients. The "
        "further the dots lie from the line, the more the score of a patient depends on who else was studied."
    ),
    "Histogram of the scores": (
        "Scores of both groups, each in percent of its own size. Where they overlap, no threshold separates "
        "them."
    ),
}
KEY_METRICS = ("AUROC", "sensitivity", "specificity", "NPV")


@dataclass(frozen=True)
class LabelSection:
    """One label's part of the page.

    Attributes
    ----------
    anchor : its id on the page.
    keys : title, value and interval of the few metrics to be seen first.
    strata : header and rows of the groups of patients; no rows where the labels table names no group.
    sets : sentences about sets of the label, its absence or "not sure"; none where the run has no scores of
        ECGs that no weight was fitted on.
    instability : how far scores differ between the repeats of a cross-validation; None without repeats.
    no_curves : why there are no curves, or "".
    """

    name: str
    anchor: str
    keys: list[tuple[str, str, str]]
    groups: list[tuple[str, list[MetricRow]]]
    confusion: dict[str, int]
    sentences: list[str]
    threshold: str
    folds: list[tuple[int, str]]
    fold_sentence: str
    strata: tuple[list[str], list[list[str]]]
    sets: list[str]
    instability: tuple[str, Picture] | None
    no_curves: str
    figures: list[Picture] = field(default_factory=list)
    errors: list[ErrorCase] = field(default_factory=list)


def write_report(record: RunRecord) -> Path:
    """Write `report.html` and `model_card.xml` into the folder of a run; return the path of the page.

    The page names what is missing, such as a test set that is not scored yet.
    """
    write_card(record)
    return write_page(record.folder / "report.html", render(record))


def render(record: RunRecord) -> str:
    """Return the page; the template escapes everything that comes from the run."""
    header, rows = table_one(record)
    page = new_environment().get_template("report.html")
    return page.render(
        record=record,
        title=_title(record),
        verdict=verdict(record),
        flow=cohort_flow(record),
        table_header=header,
        table_rows=rows,
        left_out=left_out_rows(record),
        quality=quality_counts(record.quality),
        labels=_label_sections(record),
        losses=_loss_picture(record),
        checklists=[tripod(record), stard(record), stard_ai(record), applied_model_card(record)],
        hyperparameters=_hyperparameter_groups(record),
        environment=_environment_rows(record),
        limits=limits(record),
        accent=draw.MODEL,
    )


def _title(record: RunRecord) -> str:
    names = record.label_names
    shown = ", ".join(names[:MAX_LABELS_IN_TITLE])
    n_more = len(names) - MAX_LABELS_IN_TITLE
    return f"{shown} and {n_more} more" if n_more > 0 else shown


# ----------------------------------------------------------------------------------------------------
# One label
# ----------------------------------------------------------------------------------------------------


def _label_sections(record: RunRecord) -> list[LabelSection]:
    if not record.metrics or not len(record.predictions):
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about groups that are too small: the table says so
        strata = metrics_of_run(record)
    try:
        sets = [report_sentences(scores) for scores in calibration_scores(record.folder, record.label_names)]
    except UserError:  # no ECGs that they can be fitted to
        sets = [[] for _ in record.label_names]
    return [
        _label_section(record, position, name, strata, sets[position])
        for position, name in enumerate(record.label_names)
    ]


def _strata_cells(strata: pd.DataFrame, name: str) -> tuple[list[str], list[list[str]]]:
    """Return one label's groups as text."""
    if strata.empty:
        return [], []
    cells = group_cells(strata[strata["label"] == name].drop(columns="label"))
    return list(cells), cells.to_numpy().tolist()


def _instability(record: RunRecord, name: str) -> tuple[str, Picture] | None:
    """Return in words and as a figure how far each ECG's score differs between repeats; None without them."""
    scores, flagged = record.repeated_scores(name)
    found = instability(scores, flagged)
    if math.isnan(found["mape"]):
        return None
    picture = _picture(
        lambda: draw.draw_instability(scores),
        f"Each ECG's score of {name} in each repeat against the mean of them; mean absolute difference "
        f"{found['mape']:.3f}.",
        CAPTIONS["Instability plot"],
    )
    return instability_sentence(name, found, scores.shape), picture


def _label_section(
    record: RunRecord, position: int, name: str, strata: pd.DataFrame, sets: list[str]
) -> LabelSection:
    metrics = record.metrics
    label = metrics["labels"][name]
    no_curves = missing_class(label, metrics)
    no_curves = f"{no_curves} was tested" if no_curves else ""
    if position >= MAX_LABELS_WITH_CURVES:
        no_curves = f"they are drawn for the first {MAX_LABELS_WITH_CURVES} labels; roc.png has all"
    folds = enumerate(metrics.get("auroc_of_folds", []), start=1)
    return LabelSection(
        name=name,
        anchor=f"label-{position + 1}",
        keys=[_key_metric(title, label) for title in KEY_METRICS],
        groups=metric_groups(name, metrics),
        strata=_strata_cells(strata, name),
        sets=sets,
        instability=_instability(record, name),
        confusion=label["confusion_matrix"],
        sentences=confusion_sentences(name, metrics),
        threshold=threshold_sentence(record, name),
        folds=[(fold, number(aurocs.get(name, math.nan))) for fold, aurocs in folds],
        fold_sentence=fold_sentence(record, name),
        no_curves=no_curves,
        figures=_curves(record, name, bool(no_curves)) if position < MAX_LABELS_WITH_CURVES else [],
        errors=confident_errors(record, name, drawn=position < MAX_LABELS_DRAWN),
    )


def _key_metric(title: str, label: dict) -> tuple[str, str, str]:
    metric = label[title.lower()]
    return title, number(metric.value), interval(metric) if metric.has_interval else "no interval"


def _curves(record: RunRecord, name: str, one_class: bool) -> list[Picture]:
    """Return ROC, precision-recall, calibration, net benefit and scores; of one class, only the scores."""
    scored = record.scored_ecgs(name)
    y_true, y_score, patients = (scored[column].to_numpy() for column in ("y_true", "y_score", "patient_id"))
    label, thresholds = record.metrics["labels"][name], fold_thresholds(record, name)
    on_roc, on_precision = draw.operating_points(label)
    curve = draw.Curve("model", y_true, y_score, {"color": draw.MODEL})
    band = partial(draw.bootstrap_band, y_true=y_true, y_score=y_score, patient_ids=patients)
    curves = {
        "ROC curve": lambda: draw.draw_roc([curve._replace(point=on_roc)], band=band(draw.roc_on_grid)),
        "Precision-recall curve": lambda: draw.draw_precision_recall(
            [curve._replace(point=on_precision)], band=band(draw.precision_on_grid)
        ),
        "Calibration plot": lambda: draw.draw_calibration(y_true, y_score, patients),
        "Decision curve": lambda: draw.draw_decision_curves(
            [curve._replace(name="those whom the model flags")]
        ),
        "Histogram of the scores": lambda: draw.draw_scores(y_true, y_score, thresholds, name),
    }
    return [
        _picture(
            figure,
            f"{kind} of {name}, {_numbers_for_alt(kind, name, record.metrics)}.",
            CAPTIONS[kind] + (CAPTIONS["folds"] if kind == "ROC curve" and len(thresholds) > 1 else ""),
        )
        for kind, figure in curves.items()
        if not one_class or kind == "Histogram of the scores"
    ]


def _numbers_for_alt(kind: str, name: str, metrics: dict) -> str:
    """Return the number that a figure's alternative text gives."""
    label = metrics["labels"][name]
    if kind == "ROC curve":
        return f"AUROC {number(label['auroc'].value)}, with its bootstrap band"
    if kind == "Precision-recall curve":
        return f"average precision {number(label['average_precision'].value)}, with its bootstrap band"
    if kind == "Calibration plot":
        return f"mean score against observed share in ten groups, Brier score {number(label['brier_score'])}"
    n_positive = ecgs_of(label["n_positive"], metrics)
    return f"{counted(n_positive, 'ECG')} with the label, prevalence {label['prevalence']:.3f}"


def _picture(figure: Callable[[], Figure], alt: str, caption: str) -> Picture:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about degenerate data, such as equal scores: the figure shows it
        return svg_picture(figure(), alt=alt, caption=caption)


# ----------------------------------------------------------------------------------------------------
# The whole run
# ----------------------------------------------------------------------------------------------------


def _loss_picture(record: RunRecord) -> Picture | None:
    logs = {name: log for name, log in record.logs.items() if len(log)}
    if not logs:
        return None
    shortest, longest = (choose(map(len, logs.values())) for choose in (min, max))
    epochs = f"{shortest} to {longest} epochs" if shortest < longest else counted(longest, "epoch")
    folds = f", a line for each of {len(logs)} folds" if len(logs) > 1 else ""
    return _picture(
        lambda: draw.draw_losses(logs),
        f"Training and validation loss, and validation AUROC, over {epochs}{folds}.",
        f"Training over {epochs}{folds}. A validation loss that rises while the training loss falls "
        "is overfitting; the weights of the epoch with the dot are kept.",
    )


def _hyperparameter_groups(record: RunRecord) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Return name, value and help of every hyperparameter, by group."""
    declared = {declaration.name: declaration.metadata for declaration in fields(Hyperparameters)}
    groups: dict[str, list[tuple[str, str, str]]] = {}
    for name, value in record.hyperparameters.items():
        metadata = declared.get(name, {"group": "other", "help": ""})
        text = ", ".join(map(str, value)) if isinstance(value, list) else _as_written(value)
        groups.setdefault(metadata["group"], []).append((name, text, metadata["help"]))
    return list(groups.items())


def _as_written(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) and np.isfinite(value) else str(value)


def _environment_rows(record: RunRecord) -> list[tuple[str, str]]:
    rows = []
    for name, value in record.environment.items():
        if name == "compute":
            name, value = "compute used", compute_in_words(value)
        if isinstance(value, dict):
            value = ", ".join(f"{key} {item}" for key, item in value.items())
        elif isinstance(value, list):
            value = " ".join(map(str, value))
        rows.append((name.replace("_", " "), _as_written(value)))
    return rows
