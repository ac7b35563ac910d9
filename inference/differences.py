"""Models on the same ECGs: the metrics of each, and how much better than the first it is beyond chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from metrics.delong import delong_test
from metrics.mcnemar import mcnemar_test
from metrics.multiple_tests import holm
from metrics_and_performance import evaluate

if TYPE_CHECKING:  # it needs PyTorch, and whoever only writes about differences does not
    from inference.comparison import Comparison, Scores

TESTED = ("auroc_difference", "sensitivity", "specificity")  # each has a p, and then Holm's, `…_p_holm`
# Metrics that follow from the order of the scores only
WITHOUT_THRESHOLD = (
    "auroc",
    "average_precision",
    "sensitivity_at_specificity_90",
    "specificity_at_sensitivity_95",
    "partial_auroc",
)


@dataclass(frozen=True)
class LabelComparison:
    """All models on the ECGs of which one label is known.

    Attributes
    ----------
    label : its name.
    y_true : int array of shape (n_scores,): each ECG once per repeat of a cross-validation.
    n_repeats : how many there are.
    models : scores of that shape.
    metrics, differences : as `model_metrics` and `differences` return them.
    n_tests : how many p-values the comparison has, of all its labels; 0 before `adjust_for_many`.
    """

    label: str
    y_true: np.ndarray
    n_repeats: int
    models: list[Scores]
    metrics: dict[str, dict[str, Any]]
    differences: pd.DataFrame
    n_tests: int = 0


def compare_models(
    label: str, models: Sequence[Scores], comparison: Comparison, *, seed: int, prevalence: float | None
) -> LabelComparison:
    """Return the metrics of all models for one label, and their differences from the first."""
    y_true = comparison.table[f"y_true_{label}"].to_numpy(float)
    known = ~np.isnan(y_true)
    y_true, patient_ids = y_true[known].astype(int), comparison.table["patient_id"].to_numpy()[known]
    ecg_ids = comparison.table["file"].to_numpy()[known]
    n_repeats = comparison.table["repeat"][known].nunique()
    models = [model.select(known) for model in models]
    metrics = model_metrics(
        y_true, models, patient_ids, ecg_ids, label=label, seed=seed, prevalence=prevalence
    )
    metrics = {name: {**model, "n_repeats": n_repeats} for name, model in metrics.items()}
    against_first = differences(y_true, models, patient_ids, ecg_ids)
    return LabelComparison(label, y_true, n_repeats, models, metrics, against_first)


def model_metrics(
    y_true: np.ndarray,
    models: Sequence[Scores],
    patient_ids: np.ndarray,
    ecg_ids: np.ndarray,
    *,
    label: str,
    seed: int,
    prevalence: float | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the metrics of each model for one label, as `metrics_and_performance.evaluate` gives them.

    Parameters
    ----------
    y_true : array of shape (n_ecgs,)
    models : scores of that shape. ECGs without a score, nan, are left out of that model's metrics. For a
        model without thresholds only `WITHOUT_THRESHOLD` is returned.
    patient_ids, ecg_ids : array of that shape; an ECG that repeats score again has one identifier
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
            ecg_ids=ecg_ids[known],
            seed=seed,
            prevalence=prevalence if decides else None,
        )
        label_metrics = result["labels"][label]
        if not decides:
            label_metrics = {name: label_metrics[name] for name in WITHOUT_THRESHOLD}
        sizes = {key: result[key] for key in ("n_ecgs", "n_patients")}
        metrics[model.name] = sizes | label_metrics
    return metrics


def adjust_for_many(results: Sequence[LabelComparison]) -> list[LabelComparison]:
    """Return the comparisons with Holm's p beside each p.

    All tests of all labels are one family: whoever looks at them all finds a chance difference in one
    comparison of twenty at most. An undefined p is no test.
    """
    tables = [result.differences.copy() for result in results]
    places = [(table, name) for table in tables for name in TESTED if f"{name}_p" in table]
    p_values = np.concatenate([table[f"{name}_p"] for table, name in places] or [[]])
    adjusted, n_tests, first = holm(p_values), int(np.isfinite(p_values).sum()), 0
    for table, name in places:
        table[f"{name}_p_holm"] = adjusted[first : first + len(table)]
        first += len(table)
    pairs = zip(results, tables, strict=True)
    return [replace(result, differences=table, n_tests=n_tests) for result, table in pairs]


def differences(
    y_true: np.ndarray, models: Sequence[Scores], patient_ids: np.ndarray, ecg_ids: np.ndarray
) -> pd.DataFrame:
    """Return how much each model differs from the first, on the ECGs that both have scored.

    Patients are clusters: an ECG that a repeated cross-validation decides on again is not another.

    Returns
    -------
    DataFrame
        model, n_ecgs; auroc_difference with _low, _high and _p (DeLong); and where both decide,
        sensitivity_difference and specificity_difference with sensitivity_p and specificity_p (McNemar).
        Positive: better than the first.
    """
    first, rows = models[0], []
    for model in models[1:]:
        known = np.isfinite(model.y_score) & np.isfinite(first.y_score)
        test = delong_test(y_true[known], model.y_score[known], first.y_score[known], patient_ids[known])
        row = {
            "model": model.name,
            "n_ecgs": len(np.unique(ecg_ids[known])),
            "auroc_difference": test.difference,
            "auroc_difference_low": test.low,
            "auroc_difference_high": test.high,
            "auroc_difference_p": test.p,
        }
        if model.thresholds is not None and first.thresholds is not None:
            decisions = [(scores.y_score >= scores.thresholds)[known] for scores in (model, first)]
            tests = mcnemar_test(y_true[known], *decisions, patient_ids[known])
            for name in ("sensitivity", "specificity"):
                row[f"{name}_difference"] = tests[name]["difference"]
                row[f"{name}_p"] = tests[name]["p"]
        rows.append(row)
    return pd.DataFrame(rows)


def _between_0_and_1(score: np.ndarray) -> np.ndarray:
    """Return scores of any scale in the same order from 0 to 1, as `evaluate` takes them."""
    low, high = score.min(), score.max()
    return (score - low) / (high - low) if high > low else np.full_like(score, 0.5)
