"""The beats of an ECG, and their median, in which onset and end of the QRS and the T wave are found.

    centres = detect_beats(signal)         # (12, n_samples) in mV at 500 Hz
    beat = median_beat(signal)             # a MedianBeat, or None where no beats are alike

Beats are found by how fast all leads change together; those of the usual shape are laid over each other and
their median is taken. The QRS goes from its onset in the earliest lead to its end in the latest.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ecg.recording import SAMPLING_RATE

MIN_SAMPLES = 1000  # 2 s
MIN_RANGE = 0.02  # mV, peak to peak; a lead below is flat

# Finding beats
STEP = 8  # samples, 16 ms: the slope is the difference of two means that long, which passes about 10 to 40 Hz
QRS_SHARE = 0.98  # quantile of a lead's slopes that lies within its QRS complexes, at any heart rate
ACTIVITY_WINDOW = 41  # samples, 82 ms: one hump per QRS, notched or not
BEAT_HEIGHT = 0.3  # of the usual hump
REFRACTORY = 120  # samples, 240 ms
SHAPE_HALF = 50  # samples, 100 ms: the part of a beat that is compared, on each side of its centre
MAX_SHIFT = 15  # samples; how far a beat is moved at most to lie on the others
SAME_SHAPE = 0.85  # correlation; ectopic beats have less
MIN_SHARE_OF_BEATS = 0.25  # with fewer of one shape, there is noise instead of beats

# The median beat, in samples from the centre of the QRS
BEFORE, AFTER = 125, 275  # 0.25 s and 0.55 s
LEVEL_BEFORE = slice(-55, -35)  # where each beat's baseline is taken, 110 to 70 ms ahead
SEARCH_BEFORE, SEARCH_AFTER = 75, 85  # how far from the centre a QRS may begin and end
SMOOTHING = np.array([1, 2, 3, 2, 1]) / 9
QRS_SPEED = 0.07  # of a lead's largest speed; above it, a lead is within its QRS
ST_SPEED = 0.008  # mV per sample, 4 µV/ms; T waves and the ends of P waves are slower
LONE_SPEED = 0.2  # of a lead's largest speed; above it, one lead is enough: R' in V1, where S in I turns
LONE_ST_SPEED = 0.015  # mV per sample
QUIET = 8  # samples, 16 ms: a stretch this long without a fast one ends the QRS
CORE = 21  # samples, 42 ms: the QRS is where the leads are fast for that long
MIN_QRS = 25  # samples, 50 ms; what is shorter is a pacing spike, and the QRS is sought beside it
PR_LEVEL = (12, 2)  # samples before the onset: 24 to 4 ms, the isoelectric level

T_AFTER_QRS = 30  # samples, 60 ms
LATEST_T = 0.44  # s from the onset of the QRS at 60 bpm, by the cube root of RR (Fridericia)
T_SMOOTHING = 11  # samples, 22 ms


class MedianBeat(NamedTuple):
    """The beat that is measured.

    Attributes
    ----------
    waveform : ndarray of shape (12, 400), in mV from the PR level; nan in flat leads
    onset, end : int, samples of the waveform at which the QRS begins and ends
    t_peak : int, where the T wave of all leads together is highest
    beats : int ndarray of shape (n_beats,), samples of the signal, the centres of all QRS complexes
    aligned : int ndarray of shape (n_aligned,), the centres of the beats whose median this is, moved so that
        they lie on each other
    """

    waveform: np.ndarray
    onset: int
    end: int
    t_peak: int
    beats: np.ndarray
    aligned: np.ndarray


def detect_beats(signal: np.ndarray) -> np.ndarray:
    """Return the centres of the QRS complexes.

    Each lead's slope is relative to that within its own QRS complexes, so that neither a lead full of noise
    nor a tall one decides by itself; where all leads together are fast, there is a QRS.

    Parameters
    ----------
    signal : ndarray of shape (12, n_samples), in mV at 500 Hz

    Returns
    -------
    int ndarray of shape (n_beats,), in samples, ascending; empty where none is found
    """
    signal = np.asarray(signal, float)
    usable = _usable_leads(signal)
    if not usable.any():
        return np.array([], int)
    return _peaks_of(_slopes(signal[usable]))


def _usable_leads(signal: np.ndarray) -> np.ndarray:
    """Return which leads are finite and not flat, bool (12,); none of a signal below 2 s."""
    if signal.shape[1] < MIN_SAMPLES:
        return np.zeros(len(signal), bool)
    with np.errstate(invalid="ignore"):
        return np.isfinite(signal).all(axis=1) & (np.ptp(signal, axis=1) >= MIN_RANGE)


def _slopes(signal: np.ndarray) -> np.ndarray:
    """Return the mean of the next 16 ms minus that of the last 16 ms, as (n_leads, n_samples)."""
    total = np.cumsum(np.pad(signal, ((0, 0), (STEP + 1, STEP - 1)), mode="edge"), axis=1)
    sums = total[:, STEP:] - total[:, :-STEP]  # (n_leads, n_samples + STEP)
    return (sums[:, STEP:] - sums[:, :-STEP]) / STEP


def _peaks_of(slopes: np.ndarray) -> np.ndarray:
    """Return where the slopes of all leads together are highest, beat by beat."""
    from scipy.ndimage import uniform_filter1d  # SciPy takes half a second
    from scipy.signal import find_peaks

    n_samples = slopes.shape[1]
    slopes = np.abs(slopes)
    rank = int(QRS_SHARE * n_samples)
    scale = np.partition(slopes, rank, axis=1)[:, rank]
    scale = np.maximum(scale, 0.3 * np.median(scale) + 1e-6)  # a lead with no more than ripples counts less
    activity = np.square(np.minimum(slopes / scale[:, None], 2)).mean(axis=0)
    activity = uniform_filter1d(activity, ACTIVITY_WINDOW)
    two_seconds = activity[: n_samples // MIN_SAMPLES * MIN_SAMPLES].reshape(-1, MIN_SAMPLES)
    usual = np.median(two_seconds.max(axis=1))
    return find_peaks(activity, height=BEAT_HEIGHT * usual, distance=REFRACTORY)[0]


def median_beat(signal: np.ndarray) -> MedianBeat | None:
    """Return the median of the beats of the most frequent shape, or None where no beats are alike.

    Parameters
    ----------
    signal : ndarray of shape (12, n_samples), in mV at 500 Hz
    """
    signal = np.asarray(signal, float)
    beats = detect_beats(signal)
    if not len(beats):
        return None
    usable = _usable_leads(signal)
    signal = np.where(usable[:, None], signal, 0)
    aligned = _alike(_slopes(signal[usable]), beats)
    if len(aligned) < max(2, MIN_SHARE_OF_BEATS * len(beats)):
        return None
    level = _baseline(signal, aligned)
    positions = aligned[:, None] + np.arange(-BEFORE, AFTER)
    waveform = np.median((signal - level)[:, positions], axis=1)  # (12, n_aligned, 400) -> (12, 400)
    waveform[~usable] = math.nan
    onset, end = _qrs_limits(waveform[usable])
    waveform -= waveform[:, onset - PR_LEVEL[0] : onset - PR_LEVEL[1]].mean(axis=1, keepdims=True)
    t_peak = _t_peak(waveform[usable], onset, end, np.diff(beats).mean() / SAMPLING_RATE)
    return MedianBeat(waveform, onset, end, t_peak, beats, aligned)


def _alike(slopes: np.ndarray, beats: np.ndarray) -> np.ndarray:
    """Return the centres of the beats of the most frequent shape, moved so that they lie on each other."""
    n_samples = slopes.shape[1]
    beats = beats[(beats >= BEFORE + 2 * MAX_SHIFT) & (beats < n_samples - AFTER - 2 * MAX_SHIFT)]
    if len(beats) < 2:
        return beats[:0]
    shapes = _cut(slopes, beats, SHAPE_HALF).reshape(len(beats), -1)
    shapes /= np.linalg.norm(shapes, axis=1, keepdims=True) + 1e-12
    likeness = shapes @ shapes.T
    similar = likeness > SAME_SHAPE - 0.15  # they do not lie on each other yet
    centre = beats[(similar + 0.01 * likeness).sum(axis=1).argmax()]
    model = slopes[:, centre - SHAPE_HALF : centre + SHAPE_HALF]
    for _ in range(2):
        beats, match = _shifted(slopes, beats, model)
        same = beats[match > SAME_SHAPE]
        if len(same) < 2:
            return same
        model = _cut(slopes, same, SHAPE_HALF).mean(axis=0)
    return same


def _cut(slopes: np.ndarray, beats: np.ndarray, half: int) -> np.ndarray:
    """Return the stretches around the beats, (n_beats, n_leads, 2 * half)."""
    return np.moveaxis(slopes[:, beats[:, None] + np.arange(-half, half)], 0, 1)


def _shifted(slopes: np.ndarray, beats: np.ndarray, model: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the beats moved to where they match the model best, and the correlations there."""
    wide = _cut(slopes, beats, SHAPE_HALF + MAX_SHIFT)
    length = 2 * SHAPE_HALF
    # (n_beats, n_leads, shifts, length)
    views = np.lib.stride_tricks.sliding_window_view(wide, length, axis=2)
    products = np.einsum("blst,lt->bs", views, model, optimize=True)
    energy = np.cumsum(np.pad(np.square(wide).sum(axis=1), ((0, 0), (1, 0))), axis=1)
    energy = energy[:, length:] - energy[:, :-length]  # (n_beats, shifts)
    match = products / (np.sqrt(np.maximum(energy, 0)) * np.linalg.norm(model) + 1e-12)
    best = match.argmax(axis=1)
    return beats + best - MAX_SHIFT, match[np.arange(len(beats)), best]


def _baseline(signal: np.ndarray, beats: np.ndarray) -> np.ndarray:
    """Return straight lines through the level ahead of each beat, (12, n_samples)."""
    window = np.arange(LEVEL_BEFORE.start, LEVEL_BEFORE.stop)
    levels = signal[:, beats[:, None] + window].mean(axis=2)  # (12, n_beats)
    samples, knots = np.arange(signal.shape[1]), beats + window.mean()
    return np.stack([np.interp(samples, knots, level) for level in levels])


def _qrs_limits(waveform: np.ndarray) -> tuple[int, int]:
    """Return where the QRS begins in the earliest lead and ends in the latest, in samples of the median beat.

    A lead is fast beyond a share of its own largest speed, its noise, and what an ST segment may rise; the
    QRS goes on for as long as two leads are fast, so that the noise of a single one does not prolong it, or
    as one is very fast.
    """
    from scipy.ndimage import correlate1d

    smooth = correlate1d(waveform, SMOOTHING, axis=1)
    speed = np.zeros_like(waveform)  # (n_leads, 400), mV per sample
    speed[:, 1:-1] = np.abs(smooth[:, 2:] - smooth[:, :-2]) / 2
    onset, end = _fast_stretch(speed)
    if end - onset < MIN_QRS:
        speed[:, onset - QUIET : end + 1 + QUIET] = 0
        beside = _fast_stretch(speed)
        if beside[1] - beside[0] >= MIN_QRS:
            return beside
    return onset, end


def _fast_stretch(speed: np.ndarray) -> tuple[int, int]:
    """Return the limits of the stretch in which the leads are fastest, (n_leads, 400) in mV per sample."""
    from scipy.ndimage import uniform_filter1d

    first, last = BEFORE - SEARCH_BEFORE, BEFORE + SEARCH_AFTER
    largest = speed[:, first:last].max(axis=1, keepdims=True) + 1e-9
    noise = np.quantile(speed, 0.3, axis=1, keepdims=True)
    limit = np.maximum(np.maximum(QRS_SPEED * largest, 3 * noise), ST_SPEED)
    lone_limit = np.maximum(np.maximum(LONE_SPEED * largest, 6 * noise), LONE_ST_SPEED)
    fast = (speed > limit).sum(axis=0) >= min(2, len(speed))
    fast |= (speed > lone_limit).any(axis=0)
    onset = end = first + int(uniform_filter1d((speed / largest).mean(axis=0), CORE)[first:last].argmax())
    while onset > first and fast[onset - QUIET : onset].any():
        onset -= 1
    while end < last and fast[end + 1 : end + 1 + QUIET].any():
        end += 1
    return onset, end


def _t_peak(waveform: np.ndarray, onset: int, end: int, rr: float) -> int:
    """Return where the T wave of all leads together is highest, before the next P wave may begin."""
    from scipy.ndimage import uniform_filter1d
    from scipy.signal import find_peaks

    first = end + T_AFTER_QRS
    last = onset + int(LATEST_T * rr ** (1 / 3) * SAMPLING_RATE)
    last = min(max(last, first + 2 * T_SMOOTHING), waveform.shape[1])
    height = uniform_filter1d(np.square(waveform).mean(axis=0), T_SMOOTHING)[first:last]
    peaks = find_peaks(height)[0]
    return first + int(peaks[height[peaks].argmax()] if len(peaks) else height.argmax())
