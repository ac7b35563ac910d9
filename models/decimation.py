"""Fewer samples a second, on the device: what content a model needs decides what it costs."""

import torch
from torch import nn

from ecg.recording import SAMPLING_RATE


class Decimation(nn.Module):
    """(N, C, T) at 500 Hz -> (N, C, ceil(T / factor)): low-pass, then every ``factor``-th sample.

    The filter is that of ``scipy.signal.decimate(x, factor, ftype="fir")``: linear phase, 6 dB down at the
    new Nyquist frequency; before and after the signal lie zeros. In float32, whatever the rest computes in.

    Parameters
    ----------
    sampling_rate : Hz, that of the result; a divisor of 500.
    """

    def __init__(self, sampling_rate: int):
        from scipy.signal import firwin

        super().__init__()
        self.factor = SAMPLING_RATE // sampling_rate
        taps = firwin(20 * self.factor + 1, 1 / self.factor, window="hamming")
        self.register_buffer("taps", torch.from_numpy(taps).float()[None, None], persistent=False)

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        n, n_leads, n_samples = signal.shape
        with torch.autocast("cpu" if signal.is_meta else signal.device.type, enabled=False):
            x = signal.float().reshape(n * n_leads, 1, n_samples)
            x = nn.functional.conv1d(x, self.taps, stride=self.factor, padding=10 * self.factor)
        return x.reshape(n, n_leads, -1)
