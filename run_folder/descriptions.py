"""What the weights of a run folder belong to: ``model.json`` of a finished model, and of a pretraining."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from metrics.calibration import Calibration


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """``model.json``: all that is needed to build the model and to feed it.

    Attributes
    ----------
    model, arguments : its name in ``models.MODELS`` and the arguments of its constructor.
    label_names : one for each logit.
    n_samples, normalisation : the centre crop, in samples at ``sampling_rate`` Hz, and what follows it.
    calibration, calibration_slopes, calibration_intercepts : a score is the sigmoid of slope * logit +
        intercept, which the method of that name fitted.
    prevalences : each label's share of the ECGs that the level of the scores follows; the score holds for
        such a prevalence.
    thresholds : one for each label; a score at or above it is a positive decision.
    threshold_policy, threshold_from : how they were chosen, and from which ECGs or scores.
    n_positive : for each label the positives that calibration and threshold were fitted on; empty in runs of
        the first versions.
    expected : for each label the 95 % intervals of the "sensitivity" and "specificity" that a threshold
        chosen on so few will have on new patients; without them where the threshold is the prevalence.
    window_start, min_seconds : second of each recording at which its 10 s begin, and the shortest length
        that is used.
    min_leads : how many of the twelve leads a recording has at least; those that it lacks are zeros.
    quality : what each ECG had to fulfil, as ``dataset.cohort.read_cohort`` takes it.
    clinical_columns : what the head sees beside the ECG; its mean and deviation are among the weights.
        A name that begins with "ecg:" is a sign that is measured, as ``dataset.sign_columns`` has it.
    signs_version : of ``ecg.signs``, which measured them; 0 in runs without.
    """

    model: str
    arguments: dict[str, Any]
    label_names: list[str]
    n_samples: int
    normalisation: str
    leads: list[str]
    sampling_rate: int
    calibration: str
    calibration_slopes: list[float]
    calibration_intercepts: list[float]
    prevalences: list[float]
    thresholds: list[float]
    threshold_policy: str
    threshold_from: str = "validation"
    n_positive: list[int] = field(default_factory=list)
    expected: list[dict[str, list[float]]] = field(default_factory=list)
    window_start: float = 0.0
    min_seconds: float = 8.0  # as in the versions that did not write it, whatever the default is today
    min_leads: int = 12
    quality: dict[str, Any] = field(default_factory=dict)
    clinical_columns: list[str] = field(default_factory=list)
    signs_version: int = 0

    @property
    def calibrations(self) -> list[Calibration]:
        """One for each label."""
        pairs = zip(self.calibration_slopes, self.calibration_intercepts, strict=True)
        return [Calibration(*pair) for pair in pairs]

    @property
    def threshold_source(self) -> str:
        """How the thresholds were chosen, for a reader."""
        if self.threshold_policy == "prevalence":
            return f"the prevalence of the {self.threshold_from} ECGs"
        return f"{self.threshold_policy.capitalize()}, from {self.threshold_from}"

    @property
    def decisions(self) -> dict[str, dict[str, Any]]:
        """For each label what its decision rests on, as ``metrics.json`` has it."""
        return {
            name: {"calibration": self.calibration, "n_positive": n_positive, **expected}
            for name, n_positive, expected in zip(
                self.label_names, self.n_positive, self.expected, strict=True
            )
        }


def policy_of(members: Sequence[ModelDescription]) -> str:
    """Return the threshold policy of models that decide together; of different ones it is their mean."""
    policies = list(dict.fromkeys(one.threshold_policy for one in members))
    return policies[0] if len(policies) == 1 else f"mean of {' and '.join(policies)}"


def threshold_source_of(members: Sequence[ModelDescription]) -> str:
    """Return how the thresholds of models that decide together were chosen, for a reader."""
    sources = list(dict.fromkeys(one.threshold_source for one in members))
    return sources[0] if len(sources) == 1 else f"the mean of the models' thresholds: {'; '.join(sources)}"


@dataclass(frozen=True, kw_only=True)
class PretrainedDescription:
    """``model.json`` of a pretraining: weights to start from, and how their signals were prepared.

    Attributes
    ----------
    pretrained_by : the method, for a reader; no other description has it.
    model, arguments : the class of ``models/`` by its file, and the arguments of its constructor.
    n_samples, normalisation, leads, sampling_rate, window_start, quality : as in ``ModelDescription``.
    label_names, value_names : what it was asked for: labels, and values that are measured in the ECG.
    left_out : labels of the table that were kept from it.
    companions : of a trunk that ships: other models, by their files in ``models/``, whose layers between
        trunk and head are among the weights, and the arguments of their constructors.
    source : of a trunk that ships: its ECGs, their authors and their licence, which asks to name them.
    """

    pretrained_by: str
    model: str
    arguments: dict[str, Any]
    n_samples: int
    normalisation: str
    leads: list[str]
    sampling_rate: int
    window_start: float
    quality: dict[str, Any]
    label_names: list[str] = field(default_factory=list)
    value_names: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    companions: dict[str, dict[str, Any]] = field(default_factory=dict)
    source: str = ""
