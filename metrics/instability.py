"""How far a patient's risk depends on which model gave it (Riley & Collins, Biom J 2023;65:2200302).

They compare a model with others that are developed in the same way on bootstrap samples. Here each repeat of
a cross-validation develops one on other patients, and the mean of an ECG's risks takes the place of the
original model's.
"""

import math

import numpy as np


def instability(risks: np.ndarray, flagged: np.ndarray) -> dict[str, float]:
    """Return how far the risks of the same ECGs differ between models developed in the same way.

    Parameters
    ----------
    risks : (n_ecgs, n_models), from 0 to 1; nan where a model did not score an ECG.
    flagged : (n_ecgs, n_models), whether each decided for the disease.

    Returns
    -------
    dict
        `mape`, the mean over the ECGs of the mean absolute prediction error: how far a risk lies from the
        mean of the ECG's risks; `largest_mape`, the largest of an ECG; `span` and `span_of_most`, the median
        and the 95 % percentile of the distance from an ECG's lowest risk to its highest; `changed`, the share
        of ECGs that some models flag and others do not. All nan where no ECG has two risks.
    """
    risks = np.asarray(risks, float)
    several = np.isfinite(risks).sum(axis=1) > 1
    names = ("mape", "largest_mape", "span", "span_of_most", "changed")
    if not several.any():
        return dict.fromkeys(names, math.nan)
    risks, decided = risks[several], np.where(np.isnan(risks), np.nan, flagged)[several]
    errors = np.nanmean(np.abs(risks - np.nanmean(risks, axis=1, keepdims=True)), axis=1)
    spans = np.nanmax(risks, axis=1) - np.nanmin(risks, axis=1)
    changed = np.nanmin(decided, axis=1) != np.nanmax(decided, axis=1)
    found = (errors.mean(), errors.max(), np.median(spans), np.quantile(spans, 0.95), changed.mean())
    return dict(zip(names, map(float, found), strict=True))
