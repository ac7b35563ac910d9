"""2D ResNet-18 with multihead self-attention, on the log-spectrogram of each lead."""

import torch
from torch import nn

from ecg.recording import LEADS, SAMPLING_RATE
from models.attention import AttentionPooling
from models.head import Head
from models.resnet18 import FEATURES, ResNet18

WINDOW = 64  # samples, 128 ms at 500 Hz
HOP = 32  # samples between two windows
N_FREQUENCIES = WINDOW // 2 + 1  # 0 to 250 Hz


class LogSpectrogram(nn.Module):
    """(N, C, T) -> (N, C, 33, frames): the logarithm of the power spectral density in each window.

    The density is that of ``scipy.signal.spectrogram(x, fs=500, nperseg=64, noverlap=32)``: a periodic Tukey
    window (0.25), each window's mean taken off, one-sided, in units² / Hz. ``floor`` is added before the
    logarithm, so that silence is finite.
    """

    def __init__(self, *, floor: float = 1e-6):
        from scipy.signal.windows import tukey

        super().__init__()
        self.floor = floor
        window = torch.from_numpy(tukey(WINDOW, 0.25, sym=False)).float()
        density = torch.full((N_FREQUENCIES,), 2.0)
        density[0] = density[-1] = 1.0  # zero and the Nyquist frequency have no mirror image
        density = density / (SAMPLING_RATE * (window.double() ** 2).sum().float())
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("density", density[:, None], persistent=False)

    def power(self, signal: torch.Tensor) -> torch.Tensor:
        """Return the power spectral density, shape (N, C, 33, frames), in float32."""
        frames = signal.float().unfold(-1, WINDOW, HOP)  # (N, C, frames, 64)
        frames = frames - frames.mean(dim=-1, keepdim=True)
        spectrum = torch.fft.rfft(frames * self.window)  # (N, C, frames, 33)
        return spectrum.abs().square().transpose(-1, -2) * self.density

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        return torch.log(self.power(signal) + self.floor)


class ResNet18AttentionSpectrogram(nn.Module):
    """(N, 12, T), and clinical values for the head -> logits (N, n_labels), for any T of 512 or more.

    Parameters
    ----------
    n_labels, n_clinical : logits and clinical values per ECG.
    dropout : probability, before the last linear layer.
    attention_heads : heads of the self-attention.
    drop_path : probability that the trunk's last block is left out for an ECG in training; see drop_path.py.
    """

    title = "Spectrogram 2D ResNet-18 + attention"

    def __init__(
        self,
        *,
        n_labels: int,
        n_clinical: int = 0,
        dropout: float,
        attention_heads: int,
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.spectrogram = LogSpectrogram()
        # Power falls a thousandfold from the lowest frequency to the highest: each is brought to one scale.
        self.norm = nn.BatchNorm1d(len(LEADS) * N_FREQUENCIES)
        self.trunk = ResNet18.for_spectrograms(hop=HOP, window=WINDOW, drop_path=drop_path)
        self.attention = AttentionPooling(n_features=FEATURES, n_heads=attention_heads)
        self.dropout = nn.Dropout(dropout)
        self.head = Head(FEATURES, n_labels, n_clinical)

    def forward(self, signal: torch.Tensor, clinical: torch.Tensor | None = None) -> torch.Tensor:
        x = self.spectrogram(signal)  # (N, 12, 33, 127) for T = 4,096
        x = self.norm(x.flatten(1, 2)).view_as(x)
        x = self.trunk(x)  # (N, 8, 512)
        x = self.attention(x)  # (N, 512)
        return self.head(self.dropout(x), clinical)
