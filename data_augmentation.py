"""Random changes to a batch of training ECGs, on its device, drawn separately for each ECG.

Every function takes ``signal``, float32 (N, 12, T) in mV at 500 Hz, and a generator on the signal's device,
and returns the changed signals; the class decides which ECGs get them. A new augmentation is one function,
one row of ``AUGMENTATIONS`` and one probability in ``hyperparameters/declaration.py``.
"""

import math
from collections.abc import Callable

import torch

from ecg.recording import SAMPLING_RATE

SAMPLE_DROP_FRACTION = 0.1
LEAD_DROP_PROBABILITY = 0.2
SCALE = (0.25, 1.0)
WAVE_AMPLITUDE = (0.025, 0.1)  # mV; the published 0.25 to 1 are raw counts of 0.0025 mV, which nobody sees
SINE_FREQUENCY = (0.5, 10.0)  # Hz: the published 0.001 to 0.02 cycles per sample
SQUARE_FREQUENCY = (0.5, 50.0)  # Hz: the published 0.001 to 0.1 cycles per sample
WANDER_AMPLITUDE = (0.0, 0.2)  # mV, per lead
WANDER_FREQUENCY = (0.05, 0.5)  # Hz: breathing and electrodes that drift
HUM_AMPLITUDE = (0.0, 0.05)  # mV, per lead
HUM_FREQUENCIES = (50.0, 60.0)  # Hz
NOISE_DEVIATION = (0.0, 0.03)  # mV
LOW_PASS = (30.0, 150.0)  # Hz, of the corner: from the filter of a monitor to that of a diagnostic ECG
LOW_PASS_ORDER = 4


def flip_polarity(signal: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return the negative of each ECG (published; off by default, as it hides T inversion)."""
    return -signal


def drop_samples(signal: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Set 10 % of the samples to zero, the same ones in all leads (published)."""
    kept = _uniform(signal, (signal.shape[0], 1, signal.shape[2]), (0, 1), generator) >= SAMPLE_DROP_FRACTION
    return signal * kept


def drop_leads(signal: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Set each lead to zero with probability 0.2 (published; it erases signs that live in one lead)."""
    kept = _uniform(signal, (*signal.shape[:2], 1), (0, 1), generator) >= LEAD_DROP_PROBABILITY
    return signal * kept


def scale_amplitude(signal: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Multiply each ECG by a factor of 0.25 to 1 (published; no effect where each ECG is normalised)."""
    return signal * _uniform(signal, (signal.shape[0], 1, 1), SCALE, generator)


def add_sine(signal: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Add one sine wave of 0.5 to 10 Hz to all leads (published)."""
    return signal + _sine(signal, 1, WAVE_AMPLITUDE, SINE_FREQUENCY, generator)


def add_square_wave(signal: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Add one square wave of 0.5 to 50 Hz to all leads (published)."""
    amplitude = _uniform(signal, (signal.shape[0], 1, 1), WAVE_AMPLITUDE, generator)
    wave = _sine(signal, 1, (1.0, 1.0), SQUARE_FREQUENCY, generator)
    return signal + amplitude * torch.where(wave >= 0, 1.0, -1.0)


def add_baseline_wander(signal: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Add a slow sine wave of its own to each lead."""
    return signal + _sine(signal, signal.shape[1], WANDER_AMPLITUDE, WANDER_FREQUENCY, generator)


def add_mains_hum(signal: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Add 50 or 60 Hz, one of the two per ECG, with an amplitude of its own in each lead."""
    n, n_leads, _ = signal.shape
    amplitude = _uniform(signal, (n, n_leads, 1), HUM_AMPLITUDE, generator)
    phase = _uniform(signal, (n, 1, 1), (0, 2 * math.pi), generator)
    low, high = HUM_FREQUENCIES
    frequency = torch.where(_uniform(signal, (n, 1, 1), (0, 1), generator) < 0.5, low, high)
    return signal + amplitude * torch.sin(2 * math.pi * frequency * _seconds(signal) + phase)


def add_gaussian_noise(signal: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Add white noise of one standard deviation per ECG, independent in each lead."""
    deviation = _uniform(signal, (signal.shape[0], 1, 1), NOISE_DEVIATION, generator)
    noise = torch.randn(signal.shape, generator=generator, device=signal.device, dtype=signal.dtype)
    return signal + deviation * noise


def low_pass(signal: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Filter each ECG by a low-pass (Butterworth's gain, no phase) with a corner of 30 to 150 Hz.

    Devices filter differently, and an ECG stored at 100 Hz has nothing above 50 Hz: a model that has seen
    only one of both must not take the difference for a sign.
    """
    n_samples = signal.shape[2]
    frequency = torch.fft.rfftfreq(n_samples, 1 / SAMPLING_RATE, device=signal.device, dtype=signal.dtype)
    corner = _uniform(signal, (signal.shape[0], 1, 1), LOW_PASS, generator)
    gain = (1 + (frequency / corner) ** (2 * LOW_PASS_ORDER)).rsqrt()
    return torch.fft.irfft(torch.fft.rfft(signal) * gain, n=n_samples)


AUGMENTATIONS = {
    "polarity_flip": flip_polarity,
    "sample_drop": drop_samples,
    "lead_drop": drop_leads,
    "amplitude_scaling": scale_amplitude,
    "sine": add_sine,
    "square_wave": add_square_wave,
    "baseline_wander": add_baseline_wander,
    "mains_hum": add_mains_hum,
    "gaussian_noise": add_gaussian_noise,
    "low_pass": low_pass,
}
# The published code draws one of seven for each ECG; its amplitude scaling is written but never drawn.
PUBLISHED = (None, None, "polarity_flip", "sample_drop", "lead_drop", "sine", "square_wave")


class Augmentation:
    """Apply each augmentation to each ECG of a batch with its own probability, in the order of the table.

    Parameters
    ----------
    augmentation : "independent" (the probabilities apply), "published" (one of seven with equal
        probability, two of them nothing; the probabilities do not apply) or "none".
    **probabilities : for each name of ``AUGMENTATIONS``, 0 to 1.
    """

    def __init__(self, *, augmentation: str, **probabilities: float):
        if augmentation not in ("independent", "published", "none"):
            raise ValueError(f"augmentation: found {augmentation!r}, expected independent, published or none")
        if unknown := set(probabilities) - set(AUGMENTATIONS):
            raise ValueError(
                f"augmentation: unknown {sorted(unknown)}, expected some of {list(AUGMENTATIONS)}"
            )
        self.preset = augmentation
        self.probabilities = probabilities

    def __call__(self, signal: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return the augmented batch, (N, 12, T) in mV like ``signal``, which stays as it is."""
        for name, chosen in self._choose(signal, generator).items():
            signal = _change(signal, chosen, AUGMENTATIONS[name], generator)
        return signal

    def _choose(self, signal: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Return, for each augmentation that can occur, which ECGs get it: bool (N,)."""
        if self.preset == "none":
            return {}
        draw = _uniform(signal, (signal.shape[0], len(AUGMENTATIONS)), (0, 1), generator)
        if self.preset == "published":
            choice = (draw[:, 0] * len(PUBLISHED)).long()
            return {name: choice == index for index, name in enumerate(PUBLISHED) if name is not None}
        return {
            name: draw[:, column] < self.probabilities[name]
            for column, name in enumerate(AUGMENTATIONS)
            if self.probabilities.get(name, 0) > 0
        }


def _change(
    signal: torch.Tensor,
    chosen: torch.Tensor,
    augment: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
    generator: torch.Generator,
) -> torch.Tensor:
    """Return the batch with the chosen ECGs augmented."""
    if signal.device.type == "cpu":
        (rows,) = chosen.nonzero(as_tuple=True)
        return signal.index_copy(0, rows, augment(signal[rows], generator)) if len(rows) else signal
    # Counting them would make a GPU wait: it changes all, and takes the chosen.
    return torch.where(chosen[:, None, None], augment(signal, generator), signal)


def _uniform(
    signal: torch.Tensor, shape: tuple[int, ...], limits: tuple[float, float], generator: torch.Generator
) -> torch.Tensor:
    low, high = limits
    draw = torch.rand(shape, generator=generator, device=signal.device, dtype=signal.dtype)
    return low + (high - low) * draw


def _seconds(signal: torch.Tensor) -> torch.Tensor:
    return torch.arange(signal.shape[2], device=signal.device, dtype=signal.dtype) / SAMPLING_RATE  # (T,)


def _sine(
    signal: torch.Tensor,
    n_waves: int,
    amplitudes: tuple[float, float],
    frequencies: tuple[float, float],
    generator: torch.Generator,
) -> torch.Tensor:
    """Return sine waves of random amplitude, frequency in Hz and phase, shape (N, n_waves, T)."""
    shape = (signal.shape[0], n_waves, 1)
    amplitude = _uniform(signal, shape, amplitudes, generator)
    frequency = _uniform(signal, shape, frequencies, generator)
    phase = _uniform(signal, shape, (0, 2 * math.pi), generator)
    return amplitude * torch.sin(2 * math.pi * frequency * _seconds(signal) + phase)
