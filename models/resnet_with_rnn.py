"""ResNet-RNN hybrid: the 1D ResNet-18 trunk, then a recurrent network over its positions."""

import torch
from torch import nn

from ecg.recording import SAMPLING_RATE
from models.head import Head
from models.resnet18 import FEATURES, ResNet18

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class ResNetRNN(nn.Module):
    """(N, 12, T), and clinical values for the head -> logits (N, n_labels), for any T of 512 or more.

    The head sees the mean of the trunk's positions beside the recurrent network's mean output: without this
    path around the gates, the trunk learns slowly.

    Parameters
    ----------
    n_labels, n_clinical : logits and clinical values per ECG.
    dropout : probability, before the last linear layer.
    kernel_size : samples, the convolutions in the trunk's blocks, odd.
    sampling_rate : 500, 250 or 100 Hz, to which the trunk brings its signal; see `models.resnet18.STEMS`.
    rnn_cell : "rnn", "lstm" or "gru".
    rnn_layers : stacked recurrent layers.
    rnn_hidden_size : units per layer and direction.
    rnn_bidirectional : read the positions in both directions.
    drop_path : probability that the trunk's last block is left out for an ECG in training; see drop_path.py.
    """

    title = "1D ResNet-18 + recurrent network"

    def __init__(
        self,
        *,
        n_labels: int,
        n_clinical: int = 0,
        dropout: float,
        kernel_size: int,
        sampling_rate: int = SAMPLING_RATE,
        rnn_cell: str,
        rnn_layers: int,
        rnn_hidden_size: int,
        rnn_bidirectional: bool,
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.trunk = ResNet18.for_signals(
            kernel=kernel_size, sampling_rate=sampling_rate, drop_path=drop_path
        )
        self.rnn = CELLS[rnn_cell](
            FEATURES, rnn_hidden_size, rnn_layers, batch_first=True, bidirectional=rnn_bidirectional
        )
        self.dropout = nn.Dropout(dropout)
        self.head = Head(FEATURES + rnn_hidden_size * (2 if rnn_bidirectional else 1), n_labels, n_clinical)

    def forward(self, signal: torch.Tensor, clinical: torch.Tensor | None = None) -> torch.Tensor:
        x = self.trunk(signal)  # (N, T/32, 512) at 500 Hz
        with torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False):  # or cells of float16
            sequence, _ = self.rnn(x.float())  # (N, T/32, hidden), hidden twice as long where bidirectional
        pooled = torch.cat([x.mean(dim=1), sequence.mean(dim=1)], dim=1)  # (N, 512 + hidden)
        return self.head(self.dropout(pooled), clinical)
