"""From signals to scores with the models of a finished run, computed by PyTorch."""

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dataset.batches import Inputs, evaluation_input
from inference.channel_statistics import ChannelStatistics
from inference.members import Members, read_members
from models.folding import folded_norms
from run_folder.descriptions import ModelDescription
from run_folder.run import Run
from runtime import processes


class Scorer(Members):
    """One or several trained models that score ECGs together.

    Attributes
    ----------
    models : the members, in evaluation mode, on the device.
    """

    def __init__(
        self,
        members: Sequence[tuple[nn.Module, ModelDescription]],
        *,
        thresholds: Sequence[float],
        device: torch.device,
        folders: Sequence[Path] = (),
    ):
        descriptions = [description for _, description in members]
        super().__init__(descriptions, thresholds=thresholds, folders=folders)
        self.models = [model for model, _ in members]
        self.device = device

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> "Scorer":
        """Load all models of a finished run, a cross-validation or an ensemble.

        Raises
        ------
        UserError : there is none, or a member is missing, damaged or of other labels.
        """
        folders, descriptions, thresholds = read_members(folder)
        models = [Run(member).load_model(device)[0] for member in folders]
        members = list(zip(models, descriptions, strict=True))
        return cls(members, thresholds=thresholds, device=device, folders=folders)

    @property
    def titles(self) -> list[str]:
        return [model.title for model in self.models]

    def member_logits(self, signals: np.ndarray, clinical: np.ndarray | None = None) -> list[np.ndarray]:
        on_device = torch.from_numpy(signals).to(self.device)
        logits = []
        for model, description in zip(self.models, self.descriptions, strict=True):
            signal = evaluation_input(
                on_device, n_samples=description.n_samples, normalisation=description.normalisation
            )
            batches = [(signal, *self.clinical_of(description, clinical))]
            logits.append(predict_logits(model, batches, fold=False))  # folding takes as long as an ECG
        return logits

    def logits_and_features(
        self, signals: np.ndarray, clinical: np.ndarray
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        with ChannelStatistics(*self.models) as statistics:
            return self.member_logits(signals, clinical), statistics.take()

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
        values = torch.from_numpy(self.clinical_values_of(description, clinical))
        return (values.to(self.device, torch.float32),)


@torch.inference_mode()
def predict_logits(model: nn.Module, batches: Iterable[Inputs], *, fold: bool = True) -> np.ndarray:
    """Return the logits of all ECGs, float64 (n_ecgs, n_labels), of batches as the model takes them.

    Where several processes each have a share of the batches, all of them get all logits.

    Parameters
    ----------
    fold : leave batch norms to the convolutions meanwhile, see `models.folding`.
    """
    model.eval()
    folded = folded_norms(model) if fold else contextlib.nullcontext()
    # No search for the fastest convolutions: batches that are scored have many sizes, each seen a few times
    with folded, torch.backends.cudnn.flags(enabled=True, benchmark=False):
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
