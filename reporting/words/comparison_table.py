"""Models side by side: the metrics of each, and how much better it is than the first, with what certainty.

Beside each p stands Holm's, which takes into account how many tests there are.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from inference.differences import TESTED, LabelComparison
from metrics.metric import Metric
from reporting.words.decision_words import span_of_folds
from reporting.words.formatting import number, plain, signed, with_interval
from runtime.messages import counted

# Metrics of `evaluate` that need no threshold: their names for a reader
SHOWN = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "sensitivity_at_specificity_90": "sens. at 90 % spec.",
    "specificity_at_sensitivity_95": "spec. at 95 % sens.",
}
AGAINST_FIRST = ("AUROC minus the first's", "p", "Holm's p")
# Of what depends on the threshold and the level of the scores: of models that decide
DECIDED = {
    "threshold": "threshold",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "calibration_slope": "calibration slope",
    "calibration_intercept": "calibration intercept",
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
CELL_WIDTH, P_WIDTH = 26, 10  # characters


def format_comparison(metrics: dict[str, dict[str, Any]], against_first: pd.DataFrame) -> str:
    """Return the table of all models as lines: metrics with intervals, difference from the first, its p."""
    titles = table_titles(against_first)
    widths = [CELL_WIDTH] * (len(SHOWN) + 1) + [P_WIDTH] * 2
    return _as_lines(titles, table_cells(metrics, against_first), widths[: len(titles)])


def format_decisions(metrics: dict[str, dict[str, Any]]) -> str:
    """Return the table of the models that decide as lines: threshold, what it does, calibration."""
    widths = [P_WIDTH * 2] + [CELL_WIDTH] * (len(DECIDED) - 1)
    return _as_lines(list(DECIDED.values()), decision_cells(metrics), widths)


def table_titles(against_first: pd.DataFrame) -> list[str]:
    """Return the titles of `table_cells`: one model alone differs from no other."""
    return [*SHOWN.values(), *(AGAINST_FIRST if len(against_first) else ())]


def table_cells(
    metrics: dict[str, dict[str, Any]], against_first: pd.DataFrame
) -> list[tuple[str, list[str]]]:
    """Return each model's name and its cells, as `table_titles` names them."""
    n_cells = len(table_titles(against_first))
    rows = {row["model"]: row for row in against_first.to_dict("records")}
    table = []
    for name, model in metrics.items():
        cells = [with_interval(model[metric]) for metric in SHOWN]
        if row := rows.get(name):
            cells.append(_difference(*(row[f"auroc_difference{end}"] for end in ("", "_low", "_high"))))
            cells += [_p(row["auroc_difference_p"]), _p(row["auroc_difference_p_holm"])]
        table.append((name, cells + [""] * (n_cells - len(cells))))
    return table


def decision_cells(metrics: dict[str, dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return name and cells, those of `DECIDED`, of each model that has a threshold."""
    return [
        (name, [_span(model), *(with_interval(model[key]) for key in list(DECIDED)[1:])])
        for name, model in metrics.items()
        if "threshold" in model
    ]


def tests_in_words(results: Sequence[LabelComparison], n_groups: int) -> str:
    """Return how many tests were made and what Holm's p means; "" where nothing was compared.

    Parameters
    ----------
    results : of all labels, after `inference.differences.adjust_for_many`.
    n_groups : groups of ECGs that are reported, but not tested.
    """
    n_of = {name: sum(_n_tests(result.differences, name) for result in results) for name in TESTED}
    n_aurocs, n_decisions = n_of[TESTED[0]], n_of[TESTED[1]] + n_of[TESTED[2]]
    if not results or not results[0].n_tests:
        return ""
    kinds = [f"{n_aurocs} of AUROC"] if n_aurocs else []
    kinds += [f"{n_decisions} of sensitivity and specificity (differences.csv)"] if n_decisions else []
    words = (
        f"{counted(results[0].n_tests, 'test')} against {results[0].models[0].name}: {', '.join(kinds)}. "
        "Holm's p is adjusted for all of them: were no model different, one below 0.05 would be found in 5 % "
        "of such comparisons at most"
    )
    if n_groups:
        words += f". {counted(n_groups, 'group')} of ECGs described, not tested: no interval is adjusted"
    return words + "."


def _n_tests(differences: pd.DataFrame, name: str) -> int:
    return int(differences[f"{name}_p"].notna().sum()) if f"{name}_p" in differences else 0


def group_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a table of groups as text: "0.742 (0.641–0.836)" for a column and its `_low` and `_high`."""
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


def _as_lines(titles: list[str], rows: list[tuple[str, list[str]]], widths: list[int]) -> str:
    first = max((len(name) for name, _ in rows), default=0) + 1
    lines = [f"{name:<{first}}{plain(_padded(cells, widths))}" for name, cells in [("", titles), *rows]]
    return "\n".join(lines)


def _padded(cells: Iterable[str], widths: Iterable[int]) -> str:
    return "".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def _difference(value: float, low: float, high: float) -> str:
    """Return text such as "+0.021 (−0.010 to +0.052)"; two models may rank all ECGs alike."""
    if np.isnan(value):
        return number(value)
    return f"{signed(value)} " + ("(no interval)" if np.isnan(low) else f"({signed(low)} to {signed(high)})")


def _span(model: dict[str, Any]) -> str:
    """Return the threshold or, where each fold has its own, the smallest and the largest."""
    return span_of_folds(model) or f"{model['threshold']:.3g}"


def _p(p: float) -> str:
    return "" if np.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"
