"""Which models of a folder score together: ``ensemble.json``.

A folder can score if it holds ``model.json`` (one model) or ``ensemble.json`` (a cross-validation, whose
folds are the members, or the ensemble of a comparison).
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from metrics.calibration import Calibration, calibrated_score
from metrics.log_odds import SMALLEST_SCORE, logit, mean_score
from metrics.out_of_fold import ensemble_calibration
from run_folder.descriptions import ModelDescription, policy_of
from run_folder.files import RunFiles

if TYPE_CHECKING:  # predict.py may do without PyTorch, which takes two seconds to import
    from run_folder.run import Run

ENSEMBLE = "ensemble"  # its name among the models of a comparison


@dataclass(frozen=True, kw_only=True)
class EnsembleDescription:
    """``ensemble.json``: which models score together, and how they decide.

    Attributes
    ----------
    members : folders of single models, relative to the folder of the ensemble.
    label_names, prevalences, thresholds, threshold_policy : as in
        ``run_folder.descriptions.ModelDescription``; the last as `run_folder.descriptions.policy_of`.
    calibration_slopes, calibration_intercepts : of the mean of the members' calibrated logits, for each
        label; empty where it is taken as it is.
    """

    members: list[str]
    label_names: list[str]
    prevalences: list[float]
    thresholds: list[float]
    threshold_policy: str
    calibration_slopes: list[float] = field(default_factory=list)
    calibration_intercepts: list[float] = field(default_factory=list)

    def calibrated(self, member: ModelDescription) -> ModelDescription:
        """Return a member whose calibration is followed by that of the ensemble.

        The mean of such members' logits is the calibrated mean: both are straight lines.
        """
        pairs = zip(self.calibration_slopes, self.calibration_intercepts, strict=True)
        own = [Calibration(*pair) for pair in pairs] or [Calibration()] * len(self.label_names)
        both = [one.then(other) for one, other in zip(member.calibrations, own, strict=True)]
        return replace(
            member,
            calibration_slopes=[one.slope for one in both],
            calibration_intercepts=[one.intercept for one in both],
        )


def read_ensemble(folder: Path) -> EnsembleDescription:
    """Return what makes a folder an ensemble; a UserError where its ``ensemble.json`` is damaged."""
    return RunFiles(folder).read(
        "ensemble.json",
        lambda path: EnsembleDescription(**json.loads(path.read_text(encoding="utf-8"))),
        "that of a comparison",
    )


def performance_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return for each label the metrics of a run's test ECGs, or of a comparison's ensemble; {} without."""
    files = RunFiles(folder)
    metrics = files.metrics() if files.is_tested else {}
    if "labels" in metrics:
        return metrics["labels"]
    return {label: models[ENSEMBLE] for label, models in metrics.items() if ENSEMBLE in models}


def members_of(folder: Path) -> list[Path]:
    """Return the folders of an ensemble's models, or the folder itself."""
    if not (folder / "ensemble.json").exists():
        return [folder]
    return [folder / member for member in read_ensemble(folder).members]


def label_names_of(folder: Path) -> list[str]:
    """Return the labels that a folder can score."""
    return RunFiles(members_of(folder)[0]).load_description().label_names


def clinical_columns_of(folders: Sequence[Path]) -> list[str]:
    """Return the clinical columns that these folders need to score, each once."""
    columns: dict[str, None] = {}
    for folder in folders:
        for member in members_of(folder):
            columns |= dict.fromkeys(RunFiles(member).load_description().clinical_columns)
    return list(columns)


def save_ensemble(run: "Run", members: Sequence[Path], decisions: ModelDescription) -> None:
    """Make the folder of a run an ensemble of finished single models.

    Parameters
    ----------
    members : the folders of the models.
    decisions : its labels, thresholds and prevalences are the ensemble's, and its calibration that of the
        mean of the members' calibrated logits.
    """
    shared = {
        name: getattr(decisions, name)
        for name in EnsembleDescription.__dataclass_fields__
        if name != "members"
    }
    ensemble = EnsembleDescription(
        members=[os.path.relpath(member, run.folder) for member in members], **shared
    )
    run.write_text("ensemble.json", json.dumps(asdict(ensemble), indent=2) + "\n")


def mean_decisions(members: Sequence[Path], thresholds: Sequence[Sequence[float]]) -> ModelDescription:
    """Return the first member's description with the decisions of all members together.

    The mean of their logits is calibrated as the mean that it is, on the ECGs that members validated and
    tested (`metrics.out_of_fold.ensemble_calibration`). The threshold moves with it: no decision changes.

    Parameters
    ----------
    thresholds : (n_folds, n_labels), of the mean as it is; the sigmoid of their mean logit is taken.
    """
    described = [RunFiles(member).load_description() for member in members]
    prevalences = np.mean([one.prevalences for one in described], axis=0).tolist()
    names = described[0].label_names
    stretches = [
        _stretch(members, name, prevalence) for name, prevalence in zip(names, prevalences, strict=True)
    ]
    means = zip(stretches, mean_score(np.asarray(thresholds)), strict=True)
    return replace(
        described[0],
        prevalences=prevalences,
        threshold_policy=policy_of(described),
        thresholds=[float(calibrated_score(logit(threshold), one)) for one, threshold in means],
        calibration_slopes=[one.slope for one in stretches],
        calibration_intercepts=[one.intercept for one in stretches],
    )


def _stretch(members: Sequence[Path], name: str, prevalence: float) -> Calibration:
    """Return the calibration of the mean of members' logits; of members without scores, none."""
    if not 0 < prevalence < 1 or not all(RunFiles(member).has("predictions.csv") for member in members):
        return Calibration()
    columns = ["file", f"y_true_{name}", f"y_score_{name}"]
    scored = pd.concat([RunFiles(member).table("predictions.csv")[columns] for member in members]).dropna()
    score = scored[f"y_score_{name}"].clip(SMALLEST_SCORE, 1 - SMALLEST_SCORE)
    return ensemble_calibration(
        scored[f"y_true_{name}"].to_numpy(int),
        logit(score),
        pd.factorize(scored["file"])[0],
        prevalence=prevalence,
        n_models=len(members),
    )
