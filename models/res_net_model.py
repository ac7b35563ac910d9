"""The baseline: the residual network of Ribeiro et al. 2020.

Automatic diagnosis of the 12-lead ECG using a deep neural network, Nature Communications 11:1760, figure 2,
and the authors' code (github.com/antonior92/automatic-ecg-diagnosis): a convolution of 64 filters, four
residual blocks with 128, 196, 256 and 320 filters, each shortening the signal to a quarter, and one dense
layer on all that is left. Kernels have 17 samples where the authors' have 16, so that the padding is
symmetric.
"""

import torch
from torch import nn

from ecg.recording import LEADS
from models.drop_path import DropPath, drop_probabilities
from models.head import Head

KERNEL = 17  # samples
STEM_WIDTH = 64
BLOCK_WIDTHS = (128, 196, 256, 320)
DOWNSAMPLING = 4  # by each block
POSITIONS = 16  # 4,096 / 4 ** 4: what the last block leaves of an ECG of 4,096 samples


def convolution(n_in: int, n_out: int, stride: int = 1) -> nn.Conv2d:
    """Return a convolution along time, as a Conv2d of height 1 (see models/resnet18.py for the reason)."""
    return nn.Conv2d(n_in, n_out, (1, KERNEL), (1, stride), (0, KERNEL // 2), bias=False)


class ResidualBlock(nn.Module):
    """Two convolutions and a skip path of max-pooling and a 1 x 1 convolution.

    Takes and returns two tensors: the activated one, and the one before activation, for the skip path.
    """

    FOLDABLE = (("conv1", "norm1"),)  # see models/folding.py; norm2 follows a sum

    def __init__(self, n_in: int, n_out: int, *, dropout: float, drop_path: float = 0.0):
        super().__init__()
        self.conv1 = convolution(n_in, n_out)
        self.norm1 = nn.BatchNorm2d(n_out)
        self.conv2 = convolution(n_out, n_out, stride=DOWNSAMPLING)
        self.norm2 = nn.BatchNorm2d(n_out)
        self.dropout1 = nn.Dropout(dropout)
        self.dropout2 = nn.Dropout(dropout)
        self.drop_path = DropPath(drop_path)
        self.pool = nn.MaxPool2d((1, DOWNSAMPLING), ceil_mode=True)  # ceil, as the strided convolution
        self.skip = nn.Conv2d(n_in, n_out, 1, bias=False)

    def forward(self, x: torch.Tensor, carried: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.dropout1(torch.relu(self.norm1(self.conv1(x))))
        carried = self.drop_path(self.conv2(x)) + self.skip(self.pool(carried))  # (N, n_out, 1, T / 4)
        return self.dropout2(torch.relu(self.norm2(carried))), carried


class ResidualNetwork(nn.Module):
    """(N, 12, T), and clinical values for the head -> logits (N, n_labels), for any T of 512 or more.

    The last block's output is averaged to 16 positions, which changes nothing at the paper's 4,096 samples.

    Parameters
    ----------
    n_labels, n_clinical : logits and clinical values per ECG.
    dropout : probability, after each activation in the blocks; the last is just before the dense layer.
    drop_path : probability that the last block is left out for an ECG in training; see drop_path.py.
    """

    title = "Residual network (Ribeiro 2020)"
    FOLDABLE = (("stem", "norm"),)

    def __init__(self, *, n_labels: int, n_clinical: int = 0, dropout: float, drop_path: float = 0.0):
        super().__init__()
        self.stem = convolution(len(LEADS), STEM_WIDTH)
        self.norm = nn.BatchNorm2d(STEM_WIDTH)
        widths = (STEM_WIDTH, *BLOCK_WIDTHS)
        probabilities = drop_probabilities(len(BLOCK_WIDTHS), drop_path)
        self.blocks = nn.ModuleList(
            ResidualBlock(n_in, n_out, dropout=dropout, drop_path=drop)
            for n_in, n_out, drop in zip(widths, BLOCK_WIDTHS, probabilities, strict=False)
        )
        self.positions = nn.AdaptiveAvgPool2d((1, POSITIONS))
        self.head = Head(BLOCK_WIDTHS[-1] * POSITIONS, n_labels, n_clinical)
        self.to(memory_format=torch.channels_last)

    def forward(self, signal: torch.Tensor, clinical: torch.Tensor | None = None) -> torch.Tensor:
        x = signal.unsqueeze(2).contiguous(memory_format=torch.channels_last)  # (N, 12, 1, T)
        x = torch.relu(self.norm(self.stem(x)))  # (N, 64, 1, T)
        carried = x
        for block in self.blocks:
            x, carried = block(x, carried)
        x = self.positions(x).flatten(1)  # (N, 320 * 16)
        return self.head(x, clinical)
