"""ResNet-18, the trunk that four of the five models share, for signals (1D) and for spectrograms (2D).

He et al. 2016, Deep residual learning for image recognition (arXiv:1512.03385): a stem, then four stages of
two BasicBlocks with 64, 128, 256 and 512 filters. A signal (N, C, T) is an image of height 1 with kernels of
height 1: the arithmetic is that of Conv1d, and Conv2d allows the channels-last layout, which is faster on the
CPU (``benchmarks/speed/convolution.py`` measures it).
"""

import torch
from torch import nn

from ecg.recording import LEADS, SAMPLING_RATE
from models.decimation import Decimation
from models.drop_path import DropPath, drop_probabilities

WIDTHS = (64, 128, 256, 512)  # filters of the four stages
FEATURES = WIDTHS[-1]  # length of the vector that the trunk gives for each position
# Kernel and stride of the stem, in samples, at each sampling rate in Hz: 34 to 50 ms. The first stage has a
# sample for 8, 16 or 20 ms of the signal, which decides what a step costs; a position is 64, 128 or 160 ms.
STEMS = {500: (17, 2), 250: (9, 2), 100: (5, 1)}


class Convolution(nn.Conv2d):
    """Without bias, with an odd kernel; a length T becomes ceil(T / stride).

    On the CPU, oneDNN's convolution of bfloat16 with a stride is wrong in maps of one or two columns (PyTorch
    2.13 on processors with AMX; tests/models/test_resnet18.py shows it): these are computed in float32.
    """

    def __init__(self, n_in: int, n_out: int, kernel: tuple[int, int], stride: tuple[int, int]):
        super().__init__(n_in, n_out, kernel, stride, (kernel[0] // 2, kernel[1] // 2), bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_autocast_enabled("cpu") and x.device.type == "cpu" and x.shape[-1] < 3:
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        return super().forward(x)


class BasicBlock(nn.Module):
    """Two convolutions, each with a batch norm of its own, and a skip path (He et al., figure 5 left)."""

    FOLDABLE = (("conv1", "norm1"), ("conv2", "norm2"))  # see models/folding.py

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.conv1 = Convolution(n_in, n_out, kernel, stride)
        self.norm1 = nn.BatchNorm2d(n_out)
        self.conv2 = Convolution(n_out, n_out, kernel, (1, 1))
        self.norm2 = nn.BatchNorm2d(n_out)
        self.drop_path = DropPath(drop_path)
        self.skip = nn.Identity()
        if stride != (1, 1) or n_in != n_out:
            self.skip = nn.Sequential(Convolution(n_in, n_out, (1, 1), stride), nn.BatchNorm2d(n_out))
            self.FOLDABLE = (*self.FOLDABLE, ("skip.0", "skip.1"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return torch.relu(self.drop_path(y) + self.skip(x))


class ResNet18(nn.Module):
    """The trunk: (N, n_channels, H, W) -> one vector of 512 features for each position, (N, H' W', 512).

    Parameters
    ----------
    n_channels : channels of the input (12 leads).
    stem_kernel, stem_stride : height and width of the stem's convolution.
    kernel : height and width of the convolutions in the blocks, odd.
    stride : how much the pooling and the stages 2 to 4 shorten height and width.
    samples_per_column : of the signal: 1, or how far two columns of a spectrogram are apart.
    first_middle : the sample in the middle of the first column, and so of the first position.
    sampling_rate : Hz; a signal of 500 Hz is decimated first where it is less.
    drop_path : probability with which the last block is left out in training; the first ones have less.
    """

    FOLDABLE = (("stem", "norm"),)

    def __init__(
        self,
        *,
        n_channels: int,
        stem_kernel: tuple[int, int],
        stem_stride: tuple[int, int],
        kernel: tuple[int, int],
        stride: tuple[int, int],
        samples_per_column: int,
        first_middle: int = 0,
        sampling_rate: int = SAMPLING_RATE,
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.decimation = nn.Identity() if sampling_rate == SAMPLING_RATE else Decimation(sampling_rate)
        samples_per_column *= SAMPLING_RATE // sampling_rate
        self.first_middle = first_middle
        self.samples_per_position = samples_per_column * stem_stride[1] * stride[1] ** len(WIDTHS)
        self.stem = Convolution(n_channels, WIDTHS[0], stem_kernel, stem_stride)
        self.norm = nn.BatchNorm2d(WIDTHS[0])
        pool_kernel = tuple(2 * s - 1 for s in stride)  # 3 along an axis that is halved, 1 along height 1
        self.pool = nn.MaxPool2d(pool_kernel, stride, padding=tuple(k // 2 for k in pool_kernel))
        self.stages = nn.Sequential()
        n_in = WIDTHS[0]
        drop = iter(drop_probabilities(2 * len(WIDTHS), drop_path))
        for index, width in enumerate(WIDTHS):
            first_stride = (1, 1) if index == 0 else stride
            for strides in (first_stride, (1, 1)):
                block = BasicBlock(n_in, width, kernel=kernel, stride=strides, drop_path=next(drop))
                self.stages.append(block)
                n_in = width
        self.to(memory_format=torch.channels_last)

    @classmethod
    def for_signals(
        cls, *, kernel: int = 3, sampling_rate: int = SAMPLING_RATE, drop_path: float = 0.0
    ) -> "ResNet18":
        """Return the 1D trunk for signals (N, 12, T) of 500 Hz: kernels of height 1.

        At 500 Hz the stem has 17 samples and there are T / 32 positions; below, see `STEMS`.
        """
        stem_kernel, stem_stride = STEMS[sampling_rate]
        return cls(
            n_channels=len(LEADS),
            stem_kernel=(1, stem_kernel),
            stem_stride=(1, stem_stride),
            kernel=(1, kernel),
            stride=(1, 2),
            samples_per_column=1,
            sampling_rate=sampling_rate,
            drop_path=drop_path,
        )

    @classmethod
    def for_spectrograms(
        cls, *, hop: int, window: int = 0, n_channels: int = len(LEADS), drop_path: float = 0.0
    ) -> "ResNet18":
        """Return the 2D trunk, with the 7 x 7 stem of the original and H/32 W/32 positions, rounded up.

        ``hop``, ``window`` : samples between two columns, and in each.
        """
        return cls(
            n_channels=n_channels,
            stem_kernel=(7, 7),
            stem_stride=(2, 2),
            kernel=(3, 3),
            stride=(2, 2),
            samples_per_column=hop,
            first_middle=window // 2,
            drop_path=drop_path,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() == 3:
            x = self.decimation(x).unsqueeze(2)  # (N, 12, 1, T), or T / 2 at 250 Hz, T / 5 at 100 Hz
        x = x.contiguous(memory_format=torch.channels_last)
        x = torch.relu(self.norm(self.stem(x)))  # (N, 64, H/2, W/2)
        x = self.stages(self.pool(x))  # (N, 512, H', W')
        return x.flatten(2).transpose(1, 2)  # (N, H' W', 512)
