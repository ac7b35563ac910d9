"""Models side by side: the metrics of each, and how much better it is than the first, with what certainty."""

import math
from typing import Any

import numpy as np
import pandas as pd

from metrics.metric import Metric
from reporting.words.formatting import with_interval

# Metrics of `evaluate` that need no threshold: their names for a reader
SHOWN = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "sensitivity_at_specificity_90": "sens. at 90 % spec.",
    "specificity_at_sensitivity_95": "spec. at 95 % sens.",
}
# Of a table of groups, for a reader; other columns keep their names
HEADERS = {
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
    names = [name for name in rows if name not in ends]
    cells = {HEADERS.get(name, name): [_group_cell(row, name) for row in records] for name in names}
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
