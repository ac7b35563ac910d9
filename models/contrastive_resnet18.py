"""The 1D ResNet-18 trunk with a projection in place of the head: what `pretrain.py` trains, without labels.

It is not in ``MODELS``: it gives embeddings, not scores. Every model with the 1D trunk can start from it.
"""

import torch
from torch import nn

from ecg.recording import SAMPLING_RATE
from models.resnet18 import FEATURES, ResNet18


def two_halves(signal: torch.Tensor) -> torch.Tensor:
    """Return the halves of each ECG, (N, n_leads, T) -> (2N, n_leads, T // 2), those of one ECG side by side.

    No sample is in both; of an odd number the last is in neither.
    """
    n, n_leads, n_samples = signal.shape
    half = n_samples // 2
    views = signal[:, :, : 2 * half].reshape(n, n_leads, 2, half)
    return views.transpose(1, 2).reshape(2 * n, n_leads, half)


class ContrastiveResNet18(nn.Module):
    """(N, 12, T) -> an embedding of each half of the ECG, (N, 2, projection_size), for any T of 512 or more.

    The projection has two layers (Chen et al. 2020, arXiv:2002.05709: what lies before it transfers better
    than what comes out) and is left behind when the trunk moves on.

    Parameters
    ----------
    kernel_size : samples, the convolutions in the trunk's blocks, odd.
    sampling_rate : 500, 250 or 100 Hz, to which the trunk brings its signal; see `models.resnet18.STEMS`.
    projection_size : length of an embedding.
    drop_path : probability that the trunk's last block is left out for an ECG in training; see drop_path.py.
    """

    title = "1D ResNet-18 + projection"

    def __init__(
        self,
        *,
        kernel_size: int,
        sampling_rate: int = SAMPLING_RATE,
        projection_size: int,
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.trunk = ResNet18.for_signals(
            kernel=kernel_size, sampling_rate=sampling_rate, drop_path=drop_path
        )
        self.projection = nn.Sequential(
            nn.Linear(FEATURES, FEATURES), nn.ReLU(), nn.Linear(FEATURES, projection_size)
        )

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        x = self.trunk(two_halves(signal))  # (2N, T/64, 512)
        x = self.projection(x.mean(dim=1))  # (2N, projection_size)
        return x.unflatten(0, (-1, 2))  # (N, 2, projection_size)
