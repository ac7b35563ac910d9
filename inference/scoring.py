"""From signals to scores with the model of a finished run, or several as an ensemble.

A folder can score if it holds ``model.json`` (one model) or ``ensemble.json`` (a cross-validation, whose
folds are the members, or the ensemble of a comparison). An ensemble's score is the sigmoid of the mean of its
members' calibrated logits, each followed by the ensemble's own calibration.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dataset.batches import Inputs, evaluation_input
from ecg.signs import VERSION
from metrics.calibration import Calibration, calibrated_score
from metrics.log_odds import mean_score
from run_folder.descriptions import ModelDescription
from run_folder.ensemble import read_ensemble
from run_folder.run import Run
from runtime import processes
from runtime.errors import UserError


class Scorer:
    """One or several trained models that score ECGs together.

    Attributes
    ----------
    models, descriptions : of the members.
    folders : of the members, where they were loaded from folders.
    label_names : one per column of the scores.
    window_start, min_seconds, quality : how ECGs are read and judged, as in
        ``run_folder.descriptions.ModelDescription``.
    clinical_columns : what the models see beside the ECG, each column that one of them sees once.
    prevalences : of each label, for which the scores hold, the mean of the members.
    thresholds : one per label; a score at or above it is a positive decision.
    threshold_source : how they were chosen, for a reader.
    """

    def __init__(
        self,
        members: Sequence[tuple[nn.Module, ModelDescription]],
        *,
        thresholds: Sequence[float],
        device: torch.device,
        folders: Sequence[Path] = (),
    ):
        self.folders = list(folders)
        self.models = [model for model, _ in members]
        self.descriptions = [description for _, description in members]
        self.label_names = self.descriptions[0].label_names
        self.window_start, self.quality = self.descriptions[0].window_start, self.descriptions[0].quality
        self.min_seconds = max(one.min_seconds for one in self.descriptions)
        member_columns = (column for one in self.descriptions for column in one.clinical_columns)
        self.clinical_columns = list(dict.fromkeys(member_columns))
        self.prevalences = np.mean([one.prevalences for one in self.descriptions], axis=0).tolist()
        self.thresholds = list(thresholds)
        self.threshold_source = self.descriptions[0].threshold_source
        self.device = device

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> "Scorer":
        """Load all models of a finished run, a cross-validation or an ensemble.

        Raises
        ------
        UserError : there is none, or a member is missing, damaged or of other labels.
        """
        if not (folder / "ensemble.json").exists():
            model, description = _load(folder, device)
            thresholds = description.thresholds
            return cls([(model, description)], thresholds=thresholds, device=device, folders=[folder])
        ensemble = read_ensemble(folder)
        folders = [folder / member for member in ensemble.members]
        members = [_load(member, device) for member in folders]
        for member, (_, description) in zip(ensemble.members, members, strict=True):
            if description.label_names != ensemble.label_names:
                raise UserError(
                    f"{folder / member}: found the labels {', '.join(description.label_names)}, expected "
                    f"those of the ensemble: {', '.join(ensemble.label_names)}"
                )
            if description.window_start != members[0][1].window_start:
                raise UserError(
                    f"{folder / member}: found --window-start {description.window_start:g}, expected that of "
                    f"the other members: {members[0][1].window_start:g}"
                )
        members = [(model, ensemble.calibrated(description)) for model, description in members]
        return cls(members, thresholds=ensemble.thresholds, device=device, folders=folders)

    @property
    def title(self) -> str:
        """The models by name, each with how many there are."""
        titles = [model.title for model in self.models]
        if len(titles) == 1:
            return titles[0]
        counts = ", ".join(f"{titles.count(title)} x {title}" for title in dict.fromkeys(titles))
        return f"ensemble of {len(titles)} models ({counts})"

    def score_members(self, signals: np.ndarray, clinical: np.ndarray | None = None) -> np.ndarray:
        """Return the calibrated score of each member, (n_members, N, n_labels).

        Parameters
        ----------
        signals : int16, (N, 12, 5000), in microvolts at 500 Hz.
        clinical : float32, (N, n_columns), the values of ``clinical_columns``, nan where not known; None only
            where there are no such columns.
        """
        on_device = torch.from_numpy(signals).to(self.device)
        scores = []
        for model, description in zip(self.models, self.descriptions, strict=True):
            signal = evaluation_input(
                on_device, n_samples=description.n_samples, normalisation=description.normalisation
            )
            inputs = (signal, *self.clinical_of(description, clinical))
            scores.append(calibrate(predict_logits(model, [inputs]), description.calibrations))
        return np.stack(scores)

    def clinical_of(
        self, description: ModelDescription, clinical: np.ndarray | None
    ) -> tuple[torch.Tensor, ...]:
        """Return a member's clinical values, (N, n_columns) on the device, if it takes any.

        Parameters
        ----------
        description : of the member.
        clinical : as `score_members` takes it.
        """
        if not description.clinical_columns:
            return ()
        if clinical is None:
            raise ValueError(f"clinical: found none, expected {', '.join(self.clinical_columns)} of each ECG")
        chosen = [self.clinical_columns.index(name) for name in description.clinical_columns]
        return (torch.from_numpy(clinical[:, chosen]).to(self.device, torch.float32),)

    def score(self, signals: np.ndarray, clinical: np.ndarray | None = None) -> np.ndarray:
        """Return the scores, (N, n_labels), from the inputs of ``score_members``."""
        return mean_score(self.score_members(signals, clinical))


def _load(folder: Path, device: torch.device) -> tuple[nn.Module, ModelDescription]:
    """Return a model and its description; refuse one that saw signs that are now measured in another way."""
    model, description = Run(folder).load_model(device)
    if description.signs_version not in (0, VERSION):
        raise UserError(
            f"{folder / 'model.json'}: found ECG signs as version {description.signs_version} measures them, "
            f"expected {VERSION}, that of this project; train again, or predict with the project that trained"
        )
    return model, description


@torch.inference_mode()
def predict_logits(model: nn.Module, batches: Iterable[Inputs]) -> np.ndarray:
    """Return the logits of all ECGs, float64 (n_ecgs, n_labels), of batches as the model takes them.

    Where several processes each have a share of the batches, all of them get all logits.
    """
    model.eval()
    # No search for the fastest convolutions: batches that are scored have many sizes, each seen a few times
    with torch.backends.cudnn.flags(enabled=True, benchmark=False):
        logits = [forward(model, inputs, scoring_type(inputs[0].device)).double() for inputs in batches]
    share = torch.cat(logits) if logits else torch.empty(0, 0, dtype=torch.float64)
    return processes.gather(share).numpy()


def forward(model: nn.Module, inputs: Inputs, compute_type: torch.dtype) -> torch.Tensor:
    """Return the logits, float32, of a model whose convolutions and matrix products are of another type."""
    autocast = compute_type != torch.float32
    with torch.autocast(inputs[0].device.type, compute_type, enabled=autocast):
        return model(*inputs).float()


def scoring_type(device: torch.device) -> torch.dtype:
    """Return bfloat16 on CUDA, and float32 on the CPU: there, a score is the same on every processor."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def calibrate(logits: np.ndarray, calibrations: Sequence[Calibration]) -> np.ndarray:
    """Return the scores, (n_ecgs, n_labels), of logits of that shape; one calibration per label."""
    columns = zip(logits.T, calibrations, strict=True)
    return np.stack([calibrated_score(one, calibration) for one, calibration in columns], axis=1)
