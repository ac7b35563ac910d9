"""What a finished run's model looked at in one ECG, or all models of an ensemble together.

    explanation = explain_scorer(scorer, signal, label=0)   # int16 (12, 5000) in microvolts

All numbers are in calibrated logits, whose sigmoid is the score that `predict.py` prints.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from ecg.recording import MILLIVOLTS
from explanations.attribution import Explanation, explain
from inference.scoring import Scorer
from metrics.calibration import Calibration
from xml_loader import centre_start


def explain_scorer(
    scorer: Scorer,
    signal: np.ndarray,
    *,
    label: int,
    clinical: np.ndarray | None = None,
    occlusion: bool = True,
) -> Explanation:
    """Explain the score of one ECG; each of several models is explained, with a progress bar.

    Parameters
    ----------
    signal : int16 ndarray of shape (12, 5000), in microvolts at 500 Hz
    label : its number among `scorer.label_names`
    clinical : float32 ndarray of shape (1, n_columns), as `Scorer.score_members` takes it
    occlusion : as in `explain`

    Raises
    ------
    ImportError
        captum is not installed.
    """
    members = []
    bar = tqdm(
        zip(scorer.models, scorer.descriptions, strict=True),
        desc="explaining",
        unit="model",
        total=len(scorer.models),
        disable=None if len(scorer.models) > 1 else True,
        leave=False,
    )
    for model, description in bar:
        start = centre_start(description.n_samples)
        seen = signal[:, start : start + description.n_samples].astype(np.float32) * MILLIVOLTS
        for values in scorer.clinical_of(description, clinical):  # one tensor, or none
            model = WithClinicalValues(model, values)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are in the explanation too
            given = {"normalisation": description.normalisation, "occlusion": occlusion}
            members.append(explain(model, seen, label=label, **given))
    return mean_explanation(members, [one.calibrations[label] for one in scorer.descriptions])


def mean_explanation(members: Sequence[Explanation], calibrations: Sequence[Calibration]) -> Explanation:
    """Return the explanation of the mean of the members' calibrated logits, which is an ensemble's logit.

    A calibrated logit is slope * logit + intercept, and an explanation is linear in it: every number is the
    mean of the members' numbers. Nothing is attributed to what a member did not see.

    Parameters
    ----------
    members : of one ECG; each saw its centre, some perhaps less of it than others
    calibrations : of the members, for this label

    Returns
    -------
    Explanation
        Of the longest stretch that a member saw, with the waves found in it. An occlusion is None where a
        member has none, attention where there are several members.
    """
    slopes = np.array([calibration.slope for calibration in calibrations])

    def mean(values: Sequence[np.ndarray | float]) -> np.ndarray:
        return np.tensordot(slopes, np.stack(values), axes=1) / len(members)

    def mean_occlusion(name: str) -> np.ndarray | None:
        values = [getattr(member, name) for member in members]
        return None if any(value is None for value in values) else mean(values)

    intercept = float(np.mean([calibration.intercept for calibration in calibrations]))
    widest = max(members, key=lambda member: member.attribution.shape[1])
    n_samples = widest.attribution.shape[1]
    return Explanation(
        logit=float(mean([member.logit for member in members])) + intercept,
        baseline_logit=float(mean([member.baseline_logit for member in members])) + intercept,
        attribution=mean([_within(member.attribution, n_samples) for member in members]).astype(np.float32),
        completeness_gap=float(mean([member.completeness_gap for member in members])),
        n_steps=max(member.n_steps for member in members),
        lead_occlusion=mean_occlusion("lead_occlusion"),
        segment_occlusion=mean_occlusion("segment_occlusion"),
        waves=widest.waves,
        attention=members[0].attention if len(members) == 1 else None,
        warnings=tuple(dict.fromkeys(note for member in members for note in member.warnings)),
    )


def _within(attribution: np.ndarray, n_samples: int) -> np.ndarray:
    """Return the attribution of a crop, (12, T), within that of a longer one, 0 where it saw nothing."""
    before = centre_start(attribution.shape[1]) - centre_start(n_samples)
    after = n_samples - before - attribution.shape[1]
    return np.pad(attribution, ((0, 0), (before, after)))


class WithClinicalValues(nn.Module):
    """A model as a function of only the ECG, (N, 12, T) -> logits; its clinical values are fixed.

    Parameters
    ----------
    model : takes (N, 12, T) and (N, n_clinical)
    clinical : tensor of shape (1, n_clinical), of this ECG, on the model's device
    """

    def __init__(self, model: nn.Module, clinical: torch.Tensor):
        super().__init__()
        self.model, self.clinical = model, clinical

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x, self.clinical.expand(len(x), -1))
