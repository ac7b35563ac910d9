"""1D ResNet-18 with multihead self-attention over its positions."""

import torch
from torch import nn

from ecg.recording import SAMPLING_RATE
from models.attention import AttentionPooling
from models.head import Head
from models.resnet18 import FEATURES, ResNet18


class ResNet18Attention(nn.Module):
    """(N, 12, T), and clinical values for the head -> logits (N, n_labels), for any T of 512 or more.

    Parameters
    ----------
    n_labels, n_clinical : logits and clinical values per ECG.
    dropout : probability, before the last linear layer.
    kernel_size : samples, the convolutions in the trunk's blocks, odd.
    sampling_rate : 500, 250 or 100 Hz, to which the trunk brings its signal; see `models.resnet18.STEMS`.
    attention_heads : heads of the self-attention.
    drop_path : probability that the trunk's last block is left out for an ECG in training; see drop_path.py.
    """

    title = "1D ResNet-18 + attention"

    def __init__(
        self,
        *,
        n_labels: int,
        n_clinical: int = 0,
        dropout: float,
        kernel_size: int,
        sampling_rate: int = SAMPLING_RATE,
        attention_heads: int,
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.trunk = ResNet18.for_signals(
            kernel=kernel_size, sampling_rate=sampling_rate, drop_path=drop_path
        )
        self.attention = AttentionPooling(n_features=FEATURES, n_heads=attention_heads)
        self.dropout = nn.Dropout(dropout)
        self.head = Head(FEATURES, n_labels, n_clinical)

    def forward(self, signal: torch.Tensor, clinical: torch.Tensor | None = None) -> torch.Tensor:
        x = self.trunk(signal)  # (N, T/32, 512) at 500 Hz
        x = self.attention(x)  # (N, 512)
        return self.head(self.dropout(x), clinical)
