"""Attributions summed over leads and parts of the beat, and their means over groups of ECGs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ecg.recording import LEADS
from ecg.waves import SEGMENTS
from explanations.attribution import NO_BEATS, Explanation
from metrics.bootstrap import resampled_weights
from metrics.checks import patient_index

# In the places of a confusion matrix: whether an ECG has the label, and whether it was flagged
GROUPS = {
    "true positive": (True, True),
    "false negative": (True, False),
    "false positive": (False, True),
    "true negative": (False, False),
}
REFERENCE = "true negative"  # what the other groups are compared with
PARTS = (*SEGMENTS, "rest")  # of a beat; the rest lies between T and the next P
N_RESAMPLES = 2000
MIN_PATIENTS = 5  # a smaller group has no interval: a bootstrap of a handful is too narrow


@dataclass(frozen=True, eq=False)
class ExplainedEcg:
    """What adds to one logit of an ECG, and where.

    Attributes
    ----------
    cells : ndarray of shape (12, 5), the sum of the attributions of each lead in each of `PARTS`; nan without
        beats of one shape, where P, QRS, ST and T cannot be found.
    leads : ndarray of shape (12,), the sum for each lead
    complete : whether they add up to the logit's difference from that of a flat line
    """

    cells: np.ndarray
    leads: np.ndarray
    complete: bool


def sum_attribution(explanation: Explanation) -> ExplainedEcg:
    """Return the sums of an explanation's attribution over leads and parts of the beat."""
    attribution = explanation.attribution.astype(float)  # (12, T)
    leads = attribution.sum(axis=1)
    cells = np.full((len(LEADS), len(PARTS)), np.nan)
    if explanation.waves is not None:
        for column, segment in enumerate(SEGMENTS):
            inside = np.zeros(attribution.shape[1], bool)
            for stretch in explanation.waves.slices(segment):
                inside[stretch] = True
            cells[:, column] = attribution[:, inside].sum(axis=1)
        cells[:, -1] = leads - cells[:, :-1].sum(axis=1)
    return ExplainedEcg(cells, leads, complete=not set(explanation.warnings) - {NO_BEATS})


def group_means(
    ecgs: Mapping[str, Sequence[ExplainedEcg]],
    patient_ids: Mapping[str, Sequence[str]],
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 42,
) -> pd.DataFrame:
    """Return the mean attributions of groups of ECGs, and how much each differs from the true negatives.

    Intervals are 95 %, by resampling the patients of all groups together; a patient may be in several.

    Parameters
    ----------
    ecgs, patient_ids : for each of `GROUPS`; a group may be empty

    Returns
    -------
    DataFrame
        group, lead, segment ("all", or one of `PARTS`), mean, low, high, difference, difference_low,
        difference_high, n: how many ECGs; in a part, those with beats. nan for a group without ECGs; no
        interval for a group of fewer than five patients.
    """
    groups = np.repeat(list(GROUPS), [len(ecgs[group]) for group in GROUPS])
    patients = np.array([patient for group in GROUPS for patient in patient_ids[group]], str)
    all_ecgs = [ecg for group in GROUPS for ecg in ecgs[group]]
    totals = np.array([ecg.leads for ecg in all_ecgs]).reshape(-1, len(LEADS))
    cells = np.array([ecg.cells for ecg in all_ecgs]).reshape(-1, len(LEADS) * len(PARTS))
    with_beats = ~np.isnan(cells).any(axis=1)
    whole_leads = _statistics(totals, groups, patients, n_resamples, seed)
    parts = _statistics(cells[with_beats], groups[with_beats], patients[with_beats], n_resamples, seed)
    tables = []
    for group in GROUPS:
        for statistics, segments in ((whole_leads[group], ("all",)), (parts[group], PARTS)):
            names = pd.MultiIndex.from_product([LEADS, segments], names=["lead", "segment"])
            tables.append(pd.DataFrame(statistics, index=names).reset_index().assign(group=group))
    return pd.concat(tables, ignore_index=True)


def _statistics(
    values: np.ndarray, groups: np.ndarray, patients: np.ndarray, n_resamples: int, seed: int
) -> dict[str, dict[str, np.ndarray | int]]:
    """Return the columns of `group_means` for each group; values are (n_ecgs, n_columns)."""
    means, resampled = {}, {}
    for group in GROUPS:
        inside = groups == group
        means[group] = values[inside].mean(axis=0) if inside.any() else np.full(values.shape[1], np.nan)
        resampled[group] = _resampled_means(values, inside, patients, n_resamples, seed)
    statistics = {}
    for group in GROUPS:
        difference = means[group] - means[REFERENCE]
        between = resampled[group] - resampled[REFERENCE]
        if group == REFERENCE:
            difference, between = np.full_like(difference, np.nan), np.full_like(between, np.nan)
        low, high = _interval(resampled[group])
        difference_low, difference_high = _interval(between)
        statistics[group] = {
            "mean": means[group],
            "low": low,
            "high": high,
            "difference": difference,
            "difference_low": difference_low,
            "difference_high": difference_high,
            "n": int((groups == group).sum()),
        }
    return statistics


def _resampled_means(
    values: np.ndarray, inside: np.ndarray, patients: np.ndarray, n_resamples: int, seed: int
) -> np.ndarray:
    """Return a group's means in each resample of all patients, (n_resamples, n_columns).

    nan where the resample drew nobody of the group, and everywhere for a group of too few patients.
    """
    means = np.full((n_resamples, values.shape[1]), np.nan)
    if len(np.unique(patients[inside])) < MIN_PATIENTS:
        return means
    codes = patient_index(patients, len(patients))
    weights = np.concatenate(list(resampled_weights(codes, n_resamples, seed)))[:, inside]
    n_drawn = weights.sum(axis=1, keepdims=True)
    drawn = n_drawn[:, 0] > 0
    means[drawn] = weights[drawn] @ values[inside] / n_drawn[drawn]
    return means


def _interval(resampled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if np.isnan(resampled).all():
        return resampled[0], resampled[0]
    low, high = np.nanquantile(resampled, [0.025, 0.975], axis=0)
    return low, high
