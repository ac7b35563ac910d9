"""What can be measured in every ECG without a label: rate, intervals, axis, and the waves of each lead.

    values = measure_values(signals)     # int16 (n_ecgs, 12, 5000) in µV -> float32 (n_ecgs, 68), VALUE_NAMES

A network that is asked for them has to see what a cardiologist measures: they are the signs of many diagnoses
that no label names. All are of the median beat (``ecg/beats.py``); nan where they cannot be measured.

PR begins where P has half its height and QT ends at the foot of T, which noise moves less than the ends that
a reader sees: of 200 simulated ECGs PR is 17 ms short in the mean (deviation 26 ms), QT 13 ms (7 ms).
"""

from __future__ import annotations

import math

import numpy as np

from ecg.beats import BEFORE, PR_LEVEL, T_AFTER_QRS, T_SMOOTHING, MedianBeat, median_beat
from ecg.recording import LEADS, MILLIVOLTS, SAMPLING_RATE
from ecg.signs import MIN_WAVE, T_HALF, qrs_axis, r_prime
from ecg.waves import foot, t_limits

INTERVALS = ("heart_rate_bpm", "rr_irregularity", "axis_cosine", "axis_sine", "pr_ms", "qrs_ms", "qt_ms")
WAVES = ("q", "r", "s", "st", "t")
AMPLITUDES = ("r_prime_in_v1_mv", *(f"{wave}_in_{lead.lower()}_mv" for wave in WAVES for lead in LEADS))
VALUE_NAMES = INTERVALS + AMPLITUDES
VERSION = 2  # raise it with every change of a value

ST_AFTER_QRS = slice(28, 33)  # samples, 56 to 66 ms after the QRS, around the usual J + 60 ms
P_EARLIEST, P_LATEST = 160, 15  # samples before the QRS, 320 and 30 ms: between them a P wave may peak
P_RISE = 60  # samples, 120 ms: how long before its peak it may begin
P_SMOOTHING = 11  # samples, 22 ms
MIN_P = 0.02  # mV, of all leads together; fibrillation leaves less in a median
P_SHARE = 0.5  # of its height: where it rises can be told from noise, where it begins hardly


def measure_values(signals: np.ndarray) -> np.ndarray:
    """Measure ECGs, about 8 ms each.

    Parameters
    ----------
    signals : int16 ndarray of shape (n_ecgs, 12, 5000), in µV at 500 Hz

    Returns
    -------
    float32 ndarray of shape (n_ecgs, 68), the columns are ``VALUE_NAMES``; amplitudes keep their sign
    """
    values = np.full((len(signals), len(VALUE_NAMES)), math.nan, np.float32)
    for row, signal in zip(values, signals, strict=True):
        millivolts = signal * MILLIVOLTS
        beat = median_beat(millivolts)
        if beat is not None:
            row[: len(INTERVALS)] = _intervals(millivolts, beat)
            row[len(INTERVALS)] = r_prime(_qrs(beat)[LEADS.index("V1")])
            row[len(INTERVALS) + 1 :] = _waves(beat).ravel()
    return values


def _intervals(signal: np.ndarray, beat: MedianBeat) -> tuple[float, ...]:
    """Return `INTERVALS`; an angle is a cosine and a sine, since 180 and -180 degrees are the same."""
    rr = np.diff(beat.beats)
    irregularity = float(np.median(np.abs(np.diff(rr))) / rr.mean()) if len(rr) > 1 else math.nan
    axis = math.radians(qrs_axis(beat))
    _, t_end = t_limits(beat, round(float(rr.mean())))
    milliseconds = 1000 / SAMPLING_RATE
    return (
        60 * SAMPLING_RATE / rr.mean(),
        irregularity,
        math.cos(axis),
        math.sin(axis),
        milliseconds * _pr_samples(signal, beat),
        milliseconds * (beat.end - beat.onset),
        milliseconds * (t_end - beat.onset),
    )


def _pr_samples(signal: np.ndarray, beat: MedianBeat) -> float:
    """Return the samples from the rise of the P wave to the onset of the QRS, nan where no P stands out.

    The median of the beats is taken over a longer stretch than `median_beat` has; what all leads together
    show above the level just before the QRS is the P wave. In atrial fibrillation hardly anything is left.
    """
    from scipy.ndimage import uniform_filter1d  # SciPy takes half a second
    from scipy.signal import find_peaks

    onsets = beat.aligned + beat.onset - BEFORE
    stretch = np.arange(-P_EARLIEST - P_RISE, -PR_LEVEL[1])
    onsets = onsets[onsets >= -stretch[0]]
    if len(onsets) < 2:
        return math.nan
    usable = ~np.isnan(beat.waveform[:, 0])
    ahead = np.median(signal[usable][:, onsets[:, None] + stretch], axis=1)  # (n_leads, 218)
    level = ahead[:, -PR_LEVEL[0] :].mean(axis=1, keepdims=True)
    height = np.sqrt(np.square(uniform_filter1d(ahead - level, P_SMOOTHING, axis=1)).mean(axis=0))
    peaks = find_peaks(height[P_RISE:-P_LATEST], prominence=MIN_P)[0] + P_RISE
    if not len(peaks):
        return math.nan
    peak = int(peaks[-1])  # the nearest to the QRS: what is further ahead may be a T wave
    return float(-stretch[peak - foot(height[: peak + 1][::-1], P_SHARE * height[peak])])


def _qrs(beat: MedianBeat) -> np.ndarray:
    return beat.waveform[:, beat.onset : beat.end + 1]


def _waves(beat: MedianBeat) -> np.ndarray:
    """Return the amplitude of each of `WAVES` in each lead, in mV, (5, 12).

    Q is the lowest value before the first R, and S the lowest after it; both are that of a QS complex.
    """
    from scipy.ndimage import uniform_filter1d

    qrs = _qrs(beat)
    above = qrs >= MIN_WAVE
    first_r = np.where(above.any(axis=1), above.argmax(axis=1), qrs.shape[1])[:, None]
    sample = np.arange(qrs.shape[1])
    no_r = first_r == qrs.shape[1]
    q = np.where(sample < first_r, qrs, 0.0).min(axis=1)
    s = np.where((sample >= first_r) | no_r, qrs, 0.0).min(axis=1)
    r, st = qrs.max(axis=1), beat.waveform[:, beat.end + 1 :][:, ST_AFTER_QRS].mean(axis=1)
    first = max(beat.t_peak - T_HALF, beat.end + T_AFTER_QRS // 2)
    t = uniform_filter1d(beat.waveform, T_SMOOTHING, axis=1)[:, first : beat.t_peak + T_HALF]
    t = np.take_along_axis(t, np.abs(t).argmax(axis=1)[:, None], axis=1)[:, 0]
    waves = np.stack([np.minimum(q, 0), np.maximum(r, 0), np.minimum(s, 0), st, t])
    waves[:, np.isnan(beat.waveform[:, 0])] = math.nan
    return waves
