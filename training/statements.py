"""Supervised pretraining: a network learns every label of a table, and what can be measured in each ECG.

Labels teach a trunk to see what they name and to forget the rest. What is measured without a label (rate,
intervals, axis, the waves of each lead) keeps in it what other diagnoses, pulmonary embolism among them, are
read from.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional

from cohorts.ptbxl import SUPERCLASSES
from dataset.cohort import Cohort
from focal_loss import FocalLoss
from runtime.errors import UserError
from training.loop import ValidationMetrics

EXTREMES = (0.5, 99.5)  # percentiles of a measured value; beyond, it counts as the percentile


@dataclass(frozen=True)
class Question:
    """What a network is asked for: one output for each label, then one for each measured value.

    Attributes
    ----------
    label_names, value_names : of the outputs, in their order.
    left_out : labels of the table that are not among them.
    """

    label_names: tuple[str, ...]
    value_names: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def n_outputs(self) -> int:
        return len(self.label_names) + len(self.value_names)

    def as_lists(self) -> dict[str, list[str]]:
        """Return the attributes by name, as ``model.json`` has them."""
        return {field.name: list(getattr(self, field.name)) for field in fields(self)}

    def __str__(self) -> str:
        more = f"; left out: {', '.join(self.left_out)}" if self.left_out else ""
        return f"{len(self.label_names)} labels and {len(self.value_names)} measured values{more}"


def without_labels(cohort: Cohort, left_out: Collection[str]) -> Cohort:
    """Return a cohort without some of its labels.

    Raises
    ------
    UserError : one of them is not there.
    """
    if absent := [name for name in left_out if name not in cohort.label_names]:
        raise UserError(
            f"--leave-out: found {absent[0]}, expected some of the labels {', '.join(cohort.label_names)}"
        )
    kept = [number for number, name in enumerate(cohort.label_names) if name not in left_out]
    names = tuple(cohort.label_names[number] for number in kept)
    return replace(cohort, targets=cohort.targets[:, kept], label_names=names)


def ask(
    cohort: Cohort, values: pd.DataFrame, training: np.ndarray, left_out: Sequence[str]
) -> tuple[Cohort, Question]:
    """Return a cohort whose targets are labels and measured values, and what they are.

    Each value has mean 0 and deviation 1 among the training ECGs, extremes cut. A label or value that never
    varies there is not asked for.

    Parameters
    ----------
    values : one row per ECG, nan where not known; no columns where labels alone are asked for.
    training : indices of the training ECGs.
    """
    labels = cohort.targets
    varies = (labels[training] == 1).any(axis=0) & (labels[training] == 0).any(axis=0)
    known = values.columns[values.iloc[training].nunique() > 1]
    standard = _standardised(values[known].to_numpy(np.float32), training)
    names = tuple(name for name, keep in zip(cohort.label_names, varies, strict=True) if keep)
    question = Question(names, tuple(known), tuple(left_out))
    if not question.n_outputs:
        raise UserError("found no label and no measured value that varies among the training ECGs")
    return replace(cohort, targets=np.column_stack([labels[:, varies], standard])), question


def _standardised(values: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Return values, (n_ecgs, n_values), of mean 0 and deviation 1 among the training ECGs."""
    if not values.shape[1]:
        return values
    values = np.clip(values, *np.nanpercentile(values[training], EXTREMES, axis=0))
    mean = np.nanmean(values[training], axis=0, dtype=float)
    deviation = np.nanstd(values[training], axis=0, dtype=float)
    return ((values - mean) / np.where(deviation > 0, deviation, 1)).astype(np.float32)


class StatementsLoss(nn.Module):
    """Cross-entropy of the labels, plus a weight times the Huber loss of the standardised measured values.

    Each is the mean over what is known in the batch. Without a change of the weight, their gradients in an
    output are of about the same size: a rare label's error is mostly small, a measured value's is not.

    Parameters
    ----------
    n_labels : outputs that are labels; the others are measured values.
    measured_weight : 0 or more.
    """

    def __init__(self, *, n_labels: int, measured_weight: float):
        super().__init__()
        self.n_labels = n_labels
        self.measured_weight = measured_weight
        self.of_labels = FocalLoss(gamma=0.0)

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss, a float32 scalar, of outputs and targets (N, n_outputs); nan: not known."""
        labels = self.of_labels(outputs[:, : self.n_labels], targets[:, : self.n_labels])
        values, found = targets[:, self.n_labels :], outputs[:, self.n_labels :].float()
        known = ~torch.isnan(values)
        errors = functional.huber_loss(found, torch.where(known, values, found.detach()), reduction="none")
        measured = torch.where(known, errors, 0.0).sum() / known.sum().clamp_min(1)
        return labels + self.measured_weight * measured


def macro_auroc(targets: np.ndarray, scores: np.ndarray) -> float:
    """Return the mean AUROC of the labels that have both classes, nan where none has; (n_ecgs, n_labels)."""
    each = _aurocs(targets, scores)
    return float(np.nanmean(each)) if np.isfinite(each).any() else float("nan")


def _aurocs(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the AUROC of each label, nan without both classes."""
    found = np.full(targets.shape[1], np.nan)
    for number, (true, score) in enumerate(zip(targets.T, scores.T, strict=True)):
        known = ~np.isnan(true)
        if len(np.unique(true[known])) == 2:
            found[number] = roc_auc_score(true[known], score[known])
    return found


def explained(targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Return the share of each measured value's variance that the outputs explain, at most 1."""
    found = np.full(targets.shape[1], np.nan)
    for number, (true, output) in enumerate(zip(targets.T, outputs.T, strict=True)):
        known = ~np.isnan(true)
        if (variance := true[known].var() if known.any() else 0) > 0:
            found[number] = 1 - np.square(true[known] - output[known]).mean() / variance
    return found


def validation_metrics(n_labels: int) -> ValidationMetrics:
    """Return what each epoch's validation shows: macro-AUROC, and the share of variance explained."""

    def compute(targets: np.ndarray, outputs: np.ndarray) -> tuple[float, float]:
        shares = explained(targets[:, n_labels:], outputs[:, n_labels:])
        share = float(np.nanmean(shares)) if np.isfinite(shares).any() else float("nan")
        return macro_auroc(targets[:, :n_labels], outputs[:, :n_labels]), share

    return ValidationMetrics({"auroc": "AUROC", "explained": "expl."}, compute)


def score_outputs(question: Question, targets: np.ndarray, outputs: np.ndarray) -> pd.DataFrame:
    """Return a row for each output: name, kind, n_known, n_positive, and its AUROC or explained variance."""
    n_labels = len(question.label_names)
    kinds = ["label"] * n_labels + ["measured value"] * len(question.value_names)
    positive = (targets == 1).sum(axis=0).astype(float)
    positive[n_labels:] = np.nan
    values = [
        _aurocs(targets[:, :n_labels], outputs[:, :n_labels]),
        explained(targets[:, n_labels:], outputs[:, n_labels:]),
    ]
    return pd.DataFrame({
        "name": [*question.label_names, *question.value_names],
        "kind": kinds,
        "n_known": (~np.isnan(targets)).sum(axis=0),
        "n_positive": pd.array(positive, "Int64"),
        "score": np.concatenate(values),
    })  # fmt: skip


def mean_scores(scores: pd.DataFrame) -> list[tuple[str, float, str]]:
    """Return the means of ``score_outputs``: name, value, and of how many what it is the mean."""
    labels, values = (scores[scores["kind"] == kind] for kind in ("label", "measured value"))
    only_super = [name for name in SUPERCLASSES if name != "NORM"]  # NORM is a statement too
    groups = {
        "labels": labels[~labels["name"].isin(only_super)],
        f"superclasses: {', '.join(SUPERCLASSES)}": labels[labels["name"].isin(SUPERCLASSES)],
    }
    if not set(only_super) <= set(labels["name"]):
        groups = {"labels": labels}
    found = [("macro-AUROC", group["score"], f"mean of {{}} {words}") for words, group in groups.items()]
    found += [("explained", values["score"], "of the variance, mean of {} measured values")]
    return [(name, s.mean(), words.format(s.notna().sum())) for name, s, words in found if s.notna().any()]


def announce_scores(scores: pd.DataFrame, n_ecgs: int) -> None:
    """Print the means of ``score_outputs`` of the test ECGs."""
    print(f"test        {n_ecgs:,} ECGs, scored once")
    for name, value, words in mean_scores(scores):
        print(f"            {name:<11}  {value:.4f}   {words}")
