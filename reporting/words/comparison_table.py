"""Models side by side: the metrics of each, and how much better it is than the first, with what certainty."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from inference.comparison import Scores
from metrics.delong import delong_test
from metrics.metric import Metric
from metrics.proportions import mcnemar_test
from metrics_and_performance import evaluate
from reporting.words.formatting import with_interval

SHOWN = {  # metrics of `evaluate` that need no threshold: their names for people
    "auroc": "AUROC",
    "average_precision": "average precision",
    "sensitivity_at_specificity_90": "sens. at 90 % spec.",
    "specificity_at_sensitivity_95": "spec. at 95 % sens.",
}
HEADERS = {  # of a table of groups, for people; another column's name is itself
    "value": "group",
    "n": "ECGs",
    "n_ecgs": "ECGs",
    "n_patients": "patients",
    "n_positive": "positive",
    "auroc": "AUROC",
    "tertile": "third",
    "low": "bpm from",
    "high": "to",
}
RATES = ("low", "high")  # bounds of the thirds of the heart rate, in bpm
CELL_WIDTH = 26  # characters


def model_metrics(
    y_true: np.ndarray,
    models: Sequence[Scores],
    patient_ids: np.ndarray,
    *,
    label: str,
    seed: int,
    prevalence: float | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the metrics of each model for one label, as `metrics_and_performance.evaluate` gives them.

    Parameters
    ----------
    y_true : array of shape (n_ecgs,)
    models : scores of that shape. ECGs without a score, nan, are left out of that model's metrics. Of a model
        without thresholds only the metrics that need none are returned, and those of probabilities not.
    patient_ids : array of that shape
    """
    metrics = {}
    for model in models:
        known = np.isfinite(model.y_score)
        score = model.y_score[known]
        decides = model.thresholds is not None
        result = evaluate(
            y_true[known],
            score if decides else _between_0_and_1(score),
            thresholds=model.thresholds[known, None] if decides else [0.5],
            label_names=[label],
            patient_ids=patient_ids[known],
            seed=seed,
            prevalence=prevalence if decides else None,
        )
        of_label = result["labels"][label]
        if not decides:
            of_label = {name: of_label[name] for name in (*SHOWN, "partial_auroc", "auroc_delong")}
        metrics[model.name] = {"n_ecgs": result["n_ecgs"], "n_patients": result["n_patients"], **of_label}
    return metrics


def differences(
    y_true: np.ndarray, models: Sequence[Scores], patient_ids: np.ndarray, repeats: np.ndarray
) -> pd.DataFrame:
    """Return how much each model differs from the first, on the ECGs that both have scored.

    ``repeats`` says of which repeat of a cross-validation each score is. Decisions are compared in the first:
    McNemar's test would take the same ECG, decided on again, for another one.

    Returns
    -------
    DataFrame
        model, n_ecgs; auroc_difference with _low, _high and _p (DeLong, patients as clusters); and where both
        decide, sensitivity_difference and specificity_difference with _p (McNemar). Positive: better than the
        first.
    """
    first, rows = models[0], []
    for model in models[1:]:
        known = np.isfinite(model.y_score) & np.isfinite(first.y_score)
        test = delong_test(y_true[known], model.y_score[known], first.y_score[known], patient_ids[known])
        row = {
            "model": model.name,
            "n_ecgs": int(known.sum()),
            "auroc_difference": test.difference,
            "auroc_difference_low": test.low,
            "auroc_difference_high": test.high,
            "auroc_difference_p": test.p,
        }
        if model.thresholds is not None and first.thresholds is not None:
            once = known & (repeats == repeats.min())
            decisions = [(scores.y_score >= scores.thresholds)[once] for scores in (model, first)]
            of_decisions = mcnemar_test(y_true[once], *decisions)
            for name in ("sensitivity", "specificity"):
                row[f"{name}_difference"] = of_decisions[name]["difference"]
                row[f"{name}_p"] = of_decisions[name]["p"]
        rows.append(row)
    return pd.DataFrame(rows)


def format_comparison(metrics: dict[str, dict[str, Any]], against_first: pd.DataFrame) -> str:
    """Return the table of all models as lines: metrics with intervals, difference from the first, its p."""
    width = max(map(len, metrics)) + 1
    titles = [*SHOWN.values(), "AUROC minus the first's", "p"]
    lines = [f"{'':<{width}}" + _padded(titles)]
    for name, cells in table_cells(metrics, against_first):
        lines.append(f"{name:<{width}}" + _padded(cells))
    return "\n".join(lines)


def table_cells(
    metrics: dict[str, dict[str, Any]], against_first: pd.DataFrame
) -> list[tuple[str, list[str]]]:
    """Return each model's name and its cells: the metrics of `SHOWN`, difference from the first, its p."""
    rows = {row.model: row for row in against_first.itertuples()}
    table = []
    for name, model in metrics.items():
        cells = [with_interval(model[metric]) for metric in SHOWN]
        if row := rows.get(name):
            low, high = row.auroc_difference_low, row.auroc_difference_high
            cells.append(f"{row.auroc_difference:+.3f} ({low:+.3f} to {high:+.3f})")
            cells.append(_p(row.auroc_difference_p))
        table.append((name, cells + [""] * (len(SHOWN) + 2 - len(cells))))
    return table


def group_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a table of groups as text: "0.742 (0.641-0.836)" for a column and its `_low` and `_high`."""
    ends = {f"{name}_{end}" for name in rows for end in ("low", "high")}
    records = rows.to_dict("records")
    cells = {
        HEADERS.get(name, name): [_group_cell(row, name) for row in records]
        for name in rows
        if name not in ends
    }
    return pd.DataFrame(cells)


def _group_cell(row: dict[str, Any], name: str) -> str:
    keys = (name, f"{name}_low", f"{name}_high")
    value, low, high = (math.nan if pd.isna(row.get(key, math.nan)) else row[key] for key in keys)
    if name in RATES:
        return "" if math.isnan(value) else f"{value:.0f}"
    if isinstance(value, float):
        return with_interval(Metric(value, low, high))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _padded(cells: list[str]) -> str:
    return "".join(f"{cell:<{CELL_WIDTH}}" for cell in cells).rstrip()


def _p(p: float) -> str:
    return "" if np.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _between_0_and_1(score: np.ndarray) -> np.ndarray:
    """Return scores of any scale in the same order from 0 to 1, as `evaluate` takes them."""
    low, high = score.min(), score.max()
    return (score - low) / (high - low) if high > low else np.full_like(score, 0.5)
