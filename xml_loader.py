"""Read one hospital ECG file of any format: file -> `Recording` (mV, Hz, twelve leads) -> tensor (12, 4096).

    signal = load_ecg("ecgs/0001.xml")          # float32 (12, 4096), mV at 500 Hz
    recording = read_recording("ecgs/0001.xml")  # as the file has it: its own sampling rate and length

The formats are in `ecg/formats/`, one function for each; here they are brought to one length and rate.
Everything that is wrong with a file is an `EcgFileError`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from ecg.folder import find_files
from ecg.formats import read_any_format
from ecg.formats.ecg_file import MAX_FILE_BYTES
from ecg.recording import (
    LEADS,
    MIN_SECONDS,
    N_SAMPLES,
    SAMPLING_RATE,
    EcgFileError,
    PathLike,
    Recording,
    at_least,
)

# PyTorch and SciPy take seconds to import, and are therefore imported where they are used: the processes that
# parse a cohort's files then start at once, and need SciPy only for files that are not at 500 Hz.
if TYPE_CHECKING:
    import torch

__all__ = [
    "LEADS",
    "MAX_FILE_BYTES",
    "N_SAMPLES",
    "SAMPLING_RATE",
    "AtRest",
    "EcgFileError",
    "Recording",
    "bring_to_rest",
    "centre_start",
    "find_files",
    "load_ecg",
    "read_at_rest",
    "read_recording",
]

SECONDS = N_SAMPLES / SAMPLING_RATE
MAX_MICROVOLTS = np.iinfo(np.int16).max


@dataclass(frozen=True, eq=False)
class AtRest:
    """An ECG as the cache stores it.

    Attributes
    ----------
    signal : int16 ndarray of shape (12, 5000), in µV at 500 Hz, rounded to nearest
    padded : (int, int)
        Samples before and after that are not part of the recording, which was below 10 s: its first and last
        values, repeated. Half on each side, so that a crop from the centre holds few or none of them.
    """

    signal: np.ndarray
    padded: tuple[int, int]


def read_recording(
    path: PathLike, min_seconds: float = MIN_SECONDS, min_leads: int = len(LEADS)
) -> Recording:
    """Read an ECG file as it is: all of its samples, at its own sampling rate, in mV.

    Where fewer than twelve leads are accepted, those that neither are in the file nor follow from others are
    zeros, and named in the metadata as missing.

    Raises
    ------
    EcgFileError
        Anything is wrong with the file. At least 8 s, or `min_seconds`, of twelve leads, or `min_leads`,
        are required.
    """
    with at_least(min_seconds, min_leads):
        return read_any_format(path)


def read_at_rest(path: PathLike, min_seconds: float = MIN_SECONDS, min_leads: int = len(LEADS)) -> np.ndarray:
    """Read an ECG file as the cache stores it: int16 ndarray of shape (12, 5000), in µV at 500 Hz."""
    recording = read_recording(path, min_seconds, min_leads)
    return bring_to_rest(recording, path, min_seconds=min_seconds).signal


def bring_to_rest(
    recording: Recording, path: PathLike, window_start: float = 0.0, min_seconds: float = MIN_SECONDS
) -> AtRest:
    """Return 10 s of a recording in microvolts at 500 Hz.

    Parameters
    ----------
    recording : Recording
    path : str or path-like
        The file that it came from, for the error.
    window_start : float, in s
        Where the 10 s begin. What is `min_seconds` or longer from there is padded to 10 s.
    min_seconds : float, in s

    Raises
    ------
    EcgFileError
        Less than `min_seconds` from the window's start, or beyond the ±32.767 mV that int16 holds.
    """
    millivolts, padded = _ten_seconds(recording, path, window_start, min_seconds)
    return AtRest(np.rint(millivolts * 1000).astype(np.int16), padded)


def load_ecg(path: PathLike, n_samples: int = 4096) -> torch.Tensor:
    """Read an ECG file as the networks see it in evaluation, before normalisation.

    But for the rounding: networks see it from the cache, which holds whole microvolts.

    Parameters
    ----------
    path : str or path-like
    n_samples : int, 1 to 5000
        Length of the crop from the centre of the first 10 s.

    Returns
    -------
    float32 tensor of shape (12, n_samples), in mV at 500 Hz

    Raises
    ------
    EcgFileError
        Anything is wrong with the file.
    ValueError
        `n_samples` out of range.
    """
    import torch

    start = centre_start(n_samples)
    millivolts, _ = _ten_seconds(read_recording(path), path)
    return torch.from_numpy(millivolts[:, start : start + n_samples].astype(np.float32))


def centre_start(n_samples: int) -> int:
    """Return the first sample of the centre crop of `n_samples` from the 5,000 at rest."""
    if not 1 <= n_samples <= N_SAMPLES:
        raise ValueError(f"n_samples is {n_samples}; expected 1 to {N_SAMPLES} (10 s at {SAMPLING_RATE} Hz)")
    return (N_SAMPLES - n_samples) // 2


def _ten_seconds(
    recording: Recording, path: PathLike, window_start: float = 0.0, min_seconds: float = MIN_SECONDS
) -> tuple[np.ndarray, tuple[int, int]]:
    """Return 10 s in mV at 500 Hz, float64 (12, 5000), none beyond what int16 holds, and the padding."""
    rate = recording.sampling_rate
    signal = recording.signal[:, round(window_start * rate) :]
    if signal.shape[1] < min_seconds * rate - 1e-6:
        found = f"{recording.signal.shape[1] / rate:.4g} s at {rate:g} Hz"
        begin = f" from second {window_start:g} on" if window_start else ""
        raise EcgFileError(path, found, f"at least {min_seconds:g} s{begin}")
    millivolts = signal.astype(np.float64)
    if rate != SAMPLING_RATE:
        millivolts = _resample(millivolts, rate)
    millivolts = millivolts[:, :N_SAMPLES]
    peaks = np.abs(millivolts).max(axis=1)
    lead = int(peaks.argmax())
    if not np.rint(1000 * peaks[lead]) <= MAX_MICROVOLTS:  # so written, NaN fails too
        found = f"{peaks[lead]:.6g} mV in lead {LEADS[lead]}"
        raise EcgFileError(path, found, f"at most {MAX_MICROVOLTS / 1000} mV (is the file's unit right?)")
    missing = N_SAMPLES - millivolts.shape[1]
    padded = (missing // 2, missing - missing // 2)
    return np.pad(millivolts, ((0, 0), padded), mode="edge") if missing else millivolts, padded


def _resample(millivolts: np.ndarray, sampling_rate: float) -> np.ndarray:
    """Return at least the first 10 s, resampled to 500 Hz by a polyphase filter that prevents aliasing."""
    from scipy.signal import resample_poly

    # Within 0.005 % of the rate, 0.5 ms in 10 s; the filter has 20 taps for each 1 of the larger number.
    ratio = Fraction(SAMPLING_RATE / sampling_rate).limit_denominator(10_000)
    # A second more than 10 s is kept, so that the filter need not extrapolate where the file goes on.
    kept = millivolts[:, : math.ceil((SECONDS + 1) * sampling_rate)]
    # Beyond its ends the signal is continued by its point reflection. SciPy's default, zeros, turns a lead's
    # offset into a step, and its "line" still errs by 10 % of a 10 Hz sine in the first samples.
    return resample_poly(kept, ratio.numerator, ratio.denominator, axis=1, padtype="antireflect")
