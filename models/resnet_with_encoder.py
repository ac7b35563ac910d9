"""ResNet-transformer: the 1D ResNet-18 trunk, sinusoidal positions, then a transformer encoder."""

import math

import torch
from torch import nn

from ecg.recording import SAMPLING_RATE
from models.head import Head
from models.resnet18 import FEATURES, ResNet18


def sinusoidal_positions(n_positions: int, n_features: int, device: torch.device) -> torch.Tensor:
    """Return the encoding of Vaswani et al. 2017, section 3.5, shape (n_positions, n_features)."""
    position = torch.arange(n_positions, device=device, dtype=torch.float32)[:, None]
    frequency = torch.exp(
        torch.arange(0, n_features, 2, device=device, dtype=torch.float32)
        * (-math.log(10_000.0) / n_features)
    )
    angle = position * frequency  # (n_positions, n_features / 2)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)


class ResNetEncoder(nn.Module):
    """(N, 12, T), and clinical values for the head -> logits (N, n_labels), for any T of 512 or more.

    Parameters
    ----------
    n_labels, n_clinical : logits and clinical values per ECG.
    dropout : probability, before the last linear layer and in the encoder.
    kernel_size : samples, the convolutions in the trunk's blocks, odd.
    sampling_rate : 500, 250 or 100 Hz, to which the trunk brings its signal; see `models.resnet18.STEMS`.
    encoder_layers : layers of the encoder.
    encoder_heads : attention heads of each.
    encoder_width : features of a position in the encoder; its feed-forward networks have twice as many units.
    drop_path : probability that the trunk's last block is left out for an ECG in training; see drop_path.py.
    """

    title = "1D ResNet-18 + transformer encoder"

    def __init__(
        self,
        *,
        n_labels: int,
        n_clinical: int = 0,
        dropout: float,
        kernel_size: int,
        sampling_rate: int = SAMPLING_RATE,
        encoder_layers: int,
        encoder_heads: int,
        encoder_width: int,
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.trunk = ResNet18.for_signals(
            kernel=kernel_size, sampling_rate=sampling_rate, drop_path=drop_path
        )
        self.projection = nn.Linear(FEATURES, encoder_width)
        # One by one, because nn.TransformerEncoder copies a layer: all would begin with the same weights.
        layers = [
            nn.TransformerEncoderLayer(
                encoder_width, encoder_heads, 2 * encoder_width, dropout, batch_first=True, norm_first=True
            )
            for _ in range(encoder_layers)
        ]
        self.encoder = nn.Sequential(*layers, nn.LayerNorm(encoder_width))
        self.dropout = nn.Dropout(dropout)
        self.head = Head(encoder_width, n_labels, n_clinical)

    def forward(self, signal: torch.Tensor, clinical: torch.Tensor | None = None) -> torch.Tensor:
        x = self.trunk(signal)  # (N, T/32, 512) at 500 Hz
        x = self.projection(x)  # (N, T/32, width)
        x = x + sinusoidal_positions(x.shape[1], x.shape[2], x.device).to(x.dtype)
        x = self.encoder(x)  # (N, T/32, width)
        return self.head(self.dropout(x.mean(dim=1)), clinical)
