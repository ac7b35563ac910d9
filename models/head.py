"""The last layer of every model: what the network found in the ECG, and clinical values beside it."""

import numpy as np
import torch
from torch import nn


class Head(nn.Linear):
    """Features (N, n_features) and clinical values (N, n_clinical) -> logits (N, n_labels).

    Clinical values come in their own units, nan where they are not known. Each is standardised by its mean
    and deviation among the training ECGs; one that is not known counts as their mean, and a second number
    beside it, 1 in place of 0, lets the head learn what it means that it is not known. The weights of both
    begin at 0: a model starts from the ECG only, and what was never missing in training adds nothing where
    it is missing later.

    Parameters
    ----------
    n_features, n_labels, n_clinical : features, logits and clinical values per ECG.
    """

    def __init__(self, n_features: int, n_labels: int, n_clinical: int = 0):
        super().__init__(n_features + 2 * n_clinical, n_labels)
        self.n_clinical = n_clinical
        if n_clinical:
            nn.init.zeros_(self.weight[:, n_features:])
            self.register_buffer("clinical_mean", torch.zeros(n_clinical))
            self.register_buffer("clinical_deviation", torch.ones(n_clinical))

    def standardise(self, clinical: np.ndarray | None) -> None:
        """Take mean and deviation from the clinical values of the training ECGs, (n_ecgs, n_clinical).

        A value that never varies keeps the deviation 1. Nothing happens without clinical values.
        """
        if not self.n_clinical:
            return
        deviation = np.nanstd(clinical, axis=0, dtype=np.float64)
        self.clinical_mean.copy_(torch.from_numpy(np.nanmean(clinical, axis=0, dtype=np.float64)))
        self.clinical_deviation.copy_(torch.from_numpy(np.where(deviation > 0, deviation, 1.0)))

    def joined(self, features: torch.Tensor, clinical: torch.Tensor | None = None) -> torch.Tensor:
        """Return what the weights apply to, (N, in_features): features, then standardised clinical values."""
        if not self.n_clinical:
            return features
        if clinical is None:
            raise ValueError(
                f"clinical: found none, expected {self.n_clinical} values per ECG, nan if unknown"
            )
        unknown = torch.isnan(clinical)
        standard = (clinical - self.clinical_mean) / self.clinical_deviation
        standard = torch.where(unknown, torch.zeros_like(standard), standard)
        return torch.cat([features, standard, unknown.to(standard.dtype)], dim=1)

    def forward(self, features: torch.Tensor, clinical: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(self.joined(features, clinical))
