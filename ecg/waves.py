"""Where P wave, QRS complex, ST segment and T wave lie in an ECG, beat by beat.

The limits are those of the median beat (`ecg/beats.py`), laid on every beat that was found. They cut an ECG
into its parts, so that each can be looked at or hidden; they are not interval measurements.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ecg.beats import BEFORE, MAX_SHIFT, T_SMOOTHING, MedianBeat, median_beat
from ecg.recording import SAMPLING_RATE

SEGMENTS = ("P", "QRS", "ST", "T")
P_AND_PR = round(0.240 * SAMPLING_RATE)  # samples ahead of the QRS; a normal PR interval is at most 200 ms
T_SHARE = 0.25  # of the T wave's height; where all leads together are lower, it has not begun or has ended


class Waves(NamedTuple):
    """The parts of all beats of an ECG.

    Attributes
    ----------
    median : MedianBeat, whose limits these are
    beats : int ndarray of shape (n_beats,), samples of the signal, the centres of the QRS complexes
    limits : int ndarray of shape (n_beats, 4, 2), samples of the signal
        First sample of each of `SEGMENTS` in each beat, and the one after the last. Equal where a beat has no
        such part: outside the signal, or swallowed by the next beat.
    """

    median: MedianBeat
    beats: np.ndarray
    limits: np.ndarray

    def slices(self, segment: str) -> list[slice]:
        """Return where the segment lies in each beat that has it."""
        pairs = self.limits[:, SEGMENTS.index(segment)].tolist()
        return [slice(start, stop) for start, stop in pairs if stop > start]


def find_waves(signal: np.ndarray) -> Waves | None:
    """Find the parts of every beat, or return None where no beats are alike.

    "P" goes from 240 ms ahead of the QRS, or from the end of the T wave before, to the QRS: all that the
    atria do there, and the PR segment. "ST" lies between QRS and T. An ectopic beat is cut like the rest.

    Parameters
    ----------
    signal : ndarray of shape (12, n_samples), in mV at 500 Hz
    """
    median = median_beat(signal)
    if median is None:
        return None
    beats = _moved(median.beats, median.aligned)
    rr = round(float(np.diff(beats).mean()))
    t_onset, t_end = (sample - BEFORE for sample in t_limits(median, rr))
    onset, end = beats + median.onset - BEFORE, beats + median.end + 1 - BEFORE
    next_onset = np.append(onset[1:], np.asarray(signal).shape[1])
    t_ends = np.minimum(beats + t_end, next_onset)
    previous_t_end = np.append(0, t_ends[:-1])
    t_onsets = np.minimum(beats + t_onset, t_ends)
    starts = np.stack([np.maximum(onset - P_AND_PR, previous_t_end), onset, end, t_onsets], axis=1)
    stops = np.stack([onset, end, t_onsets, t_ends], axis=1)
    limits = np.clip(np.stack([starts, np.maximum(starts, stops)], axis=2), 0, np.asarray(signal).shape[1])
    return Waves(median, beats, limits)


def _moved(beats: np.ndarray, aligned: np.ndarray) -> np.ndarray:
    """Return all beats, those near an aligned one in its place."""
    nearest = aligned[np.abs(beats[:, None] - aligned).argmin(axis=1)]
    return np.where(np.abs(beats - nearest) <= 2 * MAX_SHIFT, nearest, beats)


def t_limits(median: MedianBeat, rr: int) -> tuple[int, int]:
    """Return where the T wave of all leads together begins, and the sample after it, in the median beat."""
    from scipy.ndimage import uniform_filter1d  # SciPy takes half a second

    usable = ~np.isnan(median.waveform).any(axis=1)
    height = uniform_filter1d(np.sqrt(np.square(median.waveform[usable]).mean(axis=0)), T_SMOOTHING)
    last = max(min(len(height), median.onset + rr), median.t_peak + 2)  # the next beat begins there
    rising, falling = height[median.end : median.t_peak + 1][::-1], height[median.t_peak : last]
    limit = T_SHARE * height[median.t_peak]
    return median.t_peak - foot(rising, limit), median.t_peak + foot(falling, limit)


def foot(height: np.ndarray, limit: float) -> int:
    """Return where a height first falls below the limit, or else where it is lowest."""
    below = height < limit
    return int(below.argmax() if below.any() else height.argmin())
