"""The models of a finished run that score together: what holds for them however they are computed.

A folder can score if it holds ``model.json`` (one model) or ``ensemble.json`` (a cross-validation, whose
folds are the members, or the ensemble of a comparison). An ensemble's score is the sigmoid of the mean of its
members' calibrated logits, each followed by the ensemble's own calibration.

Nothing here imports PyTorch, which takes two seconds: ``scoring`` computes by it, ``exported`` without it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ecg.recording import LEADS
from hyperparameters.reading import drops_leads
from metrics.calibration import Calibration, calibrated_score
from metrics.log_odds import mean_score
from run_folder.descriptions import ModelDescription, threshold_source_of
from run_folder.ensemble import read_ensemble
from run_folder.files import RunFiles
from run_folder.lineage import root_of
from runtime.errors import UserError


class Members(ABC):
    """One or several trained models that score ECGs together.

    Attributes
    ----------
    descriptions : of the members.
    folders : of the members, where they were loaded from folders.
    label_names : one per column of the scores.
    window_start, min_seconds, min_leads, quality : how ECGs are read and judged, as in
        ``run_folder.descriptions.ModelDescription``; the last three are the strictest of the members', so
        that an ECG is used that all of them could have been trained on.
    clinical_columns : what the models see beside the ECG, each column that one of them sees once.
    prevalences : of each label, for which the scores hold, the mean of the members.
    thresholds : one per label; a score at or above it is a positive decision.
    threshold_source : how they were chosen, for a reader.
    """

    def __init__(
        self,
        descriptions: Sequence[ModelDescription],
        *,
        thresholds: Sequence[float],
        folders: Sequence[Path] = (),
    ):
        self.folders = list(folders)
        self.descriptions = list(descriptions)
        self.label_names = self.descriptions[0].label_names
        self.window_start = self.descriptions[0].window_start
        self.quality = strictest([one.quality for one in self.descriptions])
        self.min_seconds = max(one.min_seconds for one in self.descriptions)
        self.min_leads = max(one.min_leads for one in self.descriptions)
        member_columns = (column for one in self.descriptions for column in one.clinical_columns)
        self.clinical_columns = list(dict.fromkeys(member_columns))
        self.prevalences = np.mean([one.prevalences for one in self.descriptions], axis=0).tolist()
        self.thresholds = list(thresholds)
        self.threshold_source = threshold_source_of(self.descriptions)

    @property
    @abstractmethod
    def titles(self) -> list[str]:
        """The name of each member's model, for a reader."""

    @abstractmethod
    def member_logits(self, signals: np.ndarray, clinical: np.ndarray | None = None) -> list[np.ndarray]:
        """Return each member's logits, float64 (N, n_labels), from the inputs of ``score_members``."""

    @abstractmethod
    def logits_and_features(
        self, signals: np.ndarray, clinical: np.ndarray
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return ``member_logits``, and each member's ``channel_statistics.ChannelStatistics``."""

    @property
    def title(self) -> str:
        """The models by name, each with how many there are."""
        titles = self.titles
        if len(titles) == 1:
            return titles[0]
        counts = ", ".join(f"{titles.count(title)} x {title}" for title in dict.fromkeys(titles))
        return f"ensemble of {len(titles)} models ({counts})"

    def accept_leads(self, min_leads: int) -> None:
        """Score recordings with this many of the twelve leads, or more.

        Raises
        ------
        UserError : a member was trained without lead dropout, and has never seen an ECG that lacks leads.
        """
        for folder in self.folders if min_leads < len(LEADS) else ():
            if not drops_leads(RunFiles(root_of(folder)).hyperparameters()):
                raise UserError(
                    f"--min-leads: found {folder}, trained without lead dropout, expected a model that has "
                    "seen ECGs without some leads: one trained with --lead-drop, such as 0.5"
                )
        self.min_leads = min_leads

    def score_members(self, signals: np.ndarray, clinical: np.ndarray | None = None) -> np.ndarray:
        """Return the calibrated score of each member, (n_members, N, n_labels).

        Parameters
        ----------
        signals : int16, (N, 12, 5000), in microvolts at 500 Hz.
        clinical : float32, (N, n_columns), the values of ``clinical_columns``, nan where not known; None only
            where there are no such columns.
        """
        return self._calibrated(self.member_logits(signals, clinical))

    def score(self, signals: np.ndarray, clinical: np.ndarray | None = None) -> np.ndarray:
        """Return the scores, (N, n_labels), from the inputs of ``score_members``."""
        return mean_score(self.score_members(signals, clinical))

    def scores_and_features(
        self, signals: np.ndarray, clinical: np.ndarray
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return ``score_members``, and each member's features of the same ECGs."""
        logits, features = self.logits_and_features(signals, clinical)
        return self._calibrated(logits), features

    def clinical_values_of(self, description: ModelDescription, clinical: np.ndarray | None) -> np.ndarray:
        """Return a member's clinical values, (N, n_columns), of those of all members."""
        if clinical is None:
            raise ValueError(f"clinical: found none, expected {', '.join(self.clinical_columns)} of each ECG")
        return clinical[:, [self.clinical_columns.index(name) for name in description.clinical_columns]]

    def _calibrated(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        pairs = zip(logits, self.descriptions, strict=True)
        return np.stack([calibrate(of_member, one.calibrations) for of_member, one in pairs])


def calibrate(logits: np.ndarray, calibrations: Sequence[Calibration]) -> np.ndarray:
    """Return the scores, (n_ecgs, n_labels), of logits of that shape; one calibration per label."""
    columns = zip(logits.T, calibrations, strict=True)
    return np.stack([calibrated_score(one, calibration) for one, calibration in columns], axis=1)


def strictest(limits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the limits that an ECG keeps where it keeps those of every member.

    Parameters
    ----------
    limits : of each member, as `quality` of a ``run_folder.descriptions.ModelDescription``. One without
        quality checks has no limits that count.
    """
    checked = [one for one in limits if one.get("quality_checks")] or [limits[0]]
    strict = dict(checked[0])
    for one in checked[1:]:
        for name, limit in one.items():
            stricter = max if name.startswith("min_") else min  # "quality_checks" is true of all
            strict[name] = stricter(strict.get(name, limit), limit)
    return strict


def read_members(folder: Path) -> tuple[list[Path], list[ModelDescription], list[float]]:
    """Return the folders of the models that score together, their descriptions, and the thresholds.

    Raises
    ------
    UserError : there is no model, members have different labels or begin at another second of a recording,
        or saw signs that are now measured in another way.
    """
    if not (folder / "ensemble.json").exists():
        description = _description(folder)
        return [folder], [description], description.thresholds
    ensemble = read_ensemble(folder)
    folders = [folder / member for member in ensemble.members]
    descriptions = [_description(member) for member in folders]
    for member, description in zip(folders, descriptions, strict=True):
        if description.label_names != ensemble.label_names:
            raise UserError(
                f"{member}: found the labels {', '.join(description.label_names)}, expected those of the "
                f"ensemble: {', '.join(ensemble.label_names)}"
            )
        if description.window_start != descriptions[0].window_start:
            raise UserError(
                f"{member}: found --window-start {description.window_start:g}, expected that of the other "
                f"members: {descriptions[0].window_start:g}"
            )
    return folders, [ensemble.calibrated(one) for one in descriptions], ensemble.thresholds


def _description(folder: Path) -> ModelDescription:
    """Return a model's description; refuse one that saw signs that are now measured in another way."""
    description = RunFiles(folder).load_description()
    if not description.signs_version:
        return description
    from ecg.signs import VERSION  # SciPy takes half a second

    if description.signs_version != VERSION:
        raise UserError(
            f"{folder / 'model.json'}: found ECG signs as version {description.signs_version} measures them, "
            f"expected {VERSION}, that of this project; train again, or predict with the project that trained"
        )
    return description
