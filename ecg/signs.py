"""The ECG signs of right-heart strain, measured from the signal as a cardiologist reads them from paper.

    signs = measure_signs(signal)                    # one ECG, (12, n_samples) in mV at 500 Hz
    table = measure_signals(signals)                 # many, each (12, 5000) int16 in µV: a DataFrame

Beats are found by how fast all leads change together; those of the usual shape are laid over each other and
their median is measured: onset and end of the QRS over all leads, waves against the level just before it.
What cannot be measured (no beats, a flat lead) is nan, never an error. Amplitudes keep their sign: an S wave
of 2 mm is -0.2 mV. A sign that is told by yes or no is 1.0 or 0.0, so that nan has its place too.

The signs are those of Daniel et al. (Chest 2001;120:474) and of Marchick et al. (Ann Emerg Med 2010;55:331).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.ndimage import correlate1d, uniform_filter1d
from scipy.signal import find_peaks

from ecg.recording import LEADS, MILLIVOLTS, SAMPLING_RATE

MIN_SAMPLES = 1000  # 2 s
MIN_RANGE = 0.02  # mV, peak to peak; a lead below is flat

# Finding beats
STEP = 8  # samples, 16 ms: the slope is the difference of two means that long, which passes about 10 to 40 Hz
QRS_SHARE = 0.98  # quantile of a lead's slopes that lies within its QRS complexes, at any rate
ACTIVITY_WINDOW = 41  # samples, 82 ms: one hump a QRS, notched or not
BEAT_HEIGHT = 0.3  # of the usual hump
REFRACTORY = 120  # samples, 240 ms
SHAPE_HALF = 50  # samples, 100 ms: what is compared of a beat, before and after its centre
MAX_SHIFT = 15  # samples, by which a beat is moved to lie on the others
SAME_SHAPE = 0.85  # correlation; ectopic beats have less
MIN_SHARE_OF_BEATS = 0.25  # with fewer of one shape, there is noise instead of beats

# The median beat, in samples from the centre of the QRS
BEFORE, AFTER = 125, 275  # 0.25 s and 0.55 s
LEVEL_BEFORE = slice(-55, -35)  # where each beat's baseline is taken, 110 to 70 ms ahead
SEARCH_BEFORE, SEARCH_AFTER = 75, 85  # how far from the centre a QRS may begin and end
SMOOTHING = np.array([1, 2, 3, 2, 1]) / 9
QRS_SPEED = 0.07  # of a lead's largest speed; above it, a lead is within its QRS
ST_SPEED = 0.008  # mV a sample, 4 µV/ms; T waves and the ends of P waves are slower
QUIET = 8  # samples, 16 ms: a stretch this long without two fast leads ends the QRS
CORE = 21  # samples, 42 ms: the QRS is where the leads are fast for that long; a pacing spike is shorter
PR_LEVEL = (12, 2)  # samples before the onset: 24 to 4 ms, the isoelectric level

T_AFTER_QRS = 30  # samples, 60 ms
LATEST_T = 0.44  # s from the onset of the QRS at 60 bpm, by the cube root of RR (Fridericia)
T_SMOOTHING = 11  # samples, 22 ms
T_HALF = 40  # samples, 80 ms: how far a lead's T may peak from that of all leads

# Criteria, in mV and ms
MIN_WAVE = 0.05  # half a millimetre; less is no wave
S1Q3 = 0.15  # mV, depth of S in I and of Q in III, the usual reading of McGinn and White, JAMA 1935;104:1473
INVERTED_T = -0.1  # mV
TACHYCARDIA = 100  # bpm
IRREGULAR = 0.10  # of the mean RR interval; above, a fast rate is rather atrial fibrillation
# AHA/ACCF/HRS recommendations, Surawicz et al., Circulation 2009;119:e235
COMPLETE_MS = 120
R_PEAK_TIME_MS = 50
R_PRIME = 0.1  # mV
S_MS = 20
MIN_AREA = 1.0  # mV ms; a smaller net QRS has no direction


class Signs(NamedTuple):
    """What `measure_signs` finds in one ECG; all float, nan where it cannot be told."""

    heart_rate_bpm: float
    rr_irregularity: float  # median |difference of successive RR intervals| / mean RR
    qrs_axis_deg: float  # -180 to 180, of the net areas in I and aVF
    qrs_ms: float
    s_in_i_mv: float  # <= 0, below the PR level
    q_in_iii_mv: float  # <= 0
    t_in_iii_mv: float
    t_in_v1_mv: float
    t_in_v2_mv: float
    t_in_v3_mv: float
    t_in_v4_mv: float
    r_prime_in_v1_mv: float  # >= 0; a lone late R counts
    s1q3t3: float  # 0 or 1
    inverted_t_v1_v4: float  # 0 to 4 leads
    rbbb_pattern: float  # 0 none, 1 incomplete, 2 complete
    right_axis: float  # 0 or 1: beyond 90 degrees
    sinus_tachycardia: float  # 0 or 1: faster than 100 bpm, and regular


class MedianBeat(NamedTuple):
    """The beat that is measured.

    Attributes
    ----------
    waveform : ndarray of shape (12, 400), in mV from the PR level; nan in flat leads
    onset, end : int, samples of the waveform at which the QRS begins and ends
    t_peak : int, where the T wave of all leads together is highest
    beats : int ndarray of shape (n_beats,), samples of the signal, the centres of all QRS complexes
    aligned : int ndarray of shape (n_aligned,), the centres of the beats that the median is of, moved so that
        they lie on each other
    """

    waveform: np.ndarray
    onset: int
    end: int
    t_peak: int
    beats: np.ndarray
    aligned: np.ndarray


NOT_MEASURED = Signs(*[math.nan] * len(Signs._fields))


def measure_signals(signals: Iterable[np.ndarray]) -> pd.DataFrame:
    """Measure many ECGs, about 10 ms each.

    Parameters
    ----------
    signals : of each ECG int16 (12, 5000), in µV at 500 Hz

    Returns
    -------
    DataFrame of n_ecgs lines and the columns of `Signs`, float
    """
    signs = [measure_signs(signal * MILLIVOLTS) for signal in signals]
    return pd.DataFrame(signs, columns=list(Signs._fields), dtype=float)


def measure_signs(signal: np.ndarray) -> Signs:
    """Measure one ECG.

    Parameters
    ----------
    signal : ndarray of shape (12, n_samples), in mV at 500 Hz, leads in the order of `recording.LEADS`

    Returns
    -------
    Signs
    """
    beat = median_beat(signal)
    if beat is None:
        return NOT_MEASURED
    rr = np.diff(beat.beats) / SAMPLING_RATE
    rate = 60 / rr.mean()
    irregularity = float(np.median(np.abs(np.diff(rr))) / rr.mean()) if len(rr) > 1 else math.nan
    axis = _axis(beat)
    s_in_i, q_in_iii = _s_wave(_qrs(beat, "I")), _q_wave(_qrs(beat, "III"))
    t_in_iii, *t_chest = (_t_wave(beat, lead) for lead in ("III", "V1", "V2", "V3", "V4"))
    return Signs(
        heart_rate_bpm=float(rate),
        rr_irregularity=irregularity,
        qrs_axis_deg=axis,
        qrs_ms=_milliseconds(beat.end - beat.onset),
        s_in_i_mv=s_in_i,
        q_in_iii_mv=q_in_iii,
        t_in_iii_mv=t_in_iii,
        t_in_v1_mv=t_chest[0],
        t_in_v2_mv=t_chest[1],
        t_in_v3_mv=t_chest[2],
        t_in_v4_mv=t_chest[3],
        r_prime_in_v1_mv=_r_prime(_qrs(beat, "V1")),
        s1q3t3=_all_of(s_in_i <= -S1Q3, q_in_iii <= -S1Q3, t_in_iii < 0, known=(s_in_i, q_in_iii, t_in_iii)),
        inverted_t_v1_v4=_all_known(t_chest, float(sum(t <= INVERTED_T for t in t_chest))),
        rbbb_pattern=_rbbb_pattern(beat),
        right_axis=_all_of(axis > 90, known=(axis,)),
        sinus_tachycardia=_all_of(rate > TACHYCARDIA, not irregularity > IRREGULAR, known=(rate,)),
    )


# ----------------------------------------------------------------------------------------------------
# Beats
# ----------------------------------------------------------------------------------------------------


def detect_beats(signal: np.ndarray) -> np.ndarray:
    """Return the centres of the QRS complexes.

    Each lead's slope is measured by that within its own QRS complexes, so that neither a lead full of noise
    nor a tall one decides alone; where all leads together are fast, there is a QRS.

    Parameters
    ----------
    signal : ndarray of shape (12, n_samples), in mV at 500 Hz

    Returns
    -------
    int ndarray of shape (n_beats,), in samples, ascending; empty where there is nothing to be found
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
    """Return the median of the beats of the most frequent shape, or None where there are none alike.

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
    model = slopes[:, _around(beats[(similar + 0.01 * likeness).sum(axis=1).argmax()], SHAPE_HALF)]
    for _ in range(2):
        beats, match = _shifted(slopes, beats, model)
        same = beats[match > SAME_SHAPE]
        if len(same) < 2:
            return same
        model = _cut(slopes, same, SHAPE_HALF).mean(axis=0)
    return same


def _around(centre: int, half: int) -> slice:
    return slice(centre - half, centre + half)


def _cut(slopes: np.ndarray, beats: np.ndarray, half: int) -> np.ndarray:
    """Return the stretches about the beats, (n_beats, n_leads, 2 * half)."""
    return np.moveaxis(slopes[:, beats[:, None] + np.arange(-half, half)], 0, 1)


def _shifted(slopes: np.ndarray, beats: np.ndarray, model: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the beats moved to where they match the model best, and the correlations there."""
    wide = _cut(slopes, beats, SHAPE_HALF + MAX_SHIFT)
    length = 2 * SHAPE_HALF
    views = np.lib.stride_tricks.sliding_window_view(
        wide, length, axis=2
    )  # (n_beats, n_leads, shifts, length)
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
    QRS goes on for as long as two leads are fast, so that the noise of a single one does not prolong it.
    """
    smooth = correlate1d(waveform, SMOOTHING, axis=1)
    speed = np.zeros_like(waveform)  # (n_leads, 400), mV per sample
    speed[:, 1:-1] = np.abs(smooth[:, 2:] - smooth[:, :-2]) / 2
    first, last = BEFORE - SEARCH_BEFORE, BEFORE + SEARCH_AFTER
    largest = speed[:, first:last].max(axis=1, keepdims=True) + 1e-9
    noise = np.quantile(speed, 0.3, axis=1, keepdims=True)
    limit = np.maximum(np.maximum(QRS_SPEED * largest, 3 * noise), ST_SPEED)
    fast = (speed > limit).sum(axis=0) >= min(2, len(waveform))
    onset = end = first + int(uniform_filter1d((speed / largest).mean(axis=0), CORE)[first:last].argmax())
    while onset > first and fast[onset - QUIET : onset].any():
        onset -= 1
    while end < last and fast[end + 1 : end + 1 + QUIET].any():
        end += 1
    return onset, end


def _t_peak(waveform: np.ndarray, onset: int, end: int, rr: float) -> int:
    """Return where the T wave of all leads together is highest, before the next P wave may begin."""
    first = end + T_AFTER_QRS
    last = onset + int(LATEST_T * rr ** (1 / 3) * SAMPLING_RATE)
    last = min(max(last, first + 2 * T_SMOOTHING), waveform.shape[1])
    height = uniform_filter1d(np.square(waveform).mean(axis=0), T_SMOOTHING)[first:last]
    peaks = find_peaks(height)[0]
    return first + int(peaks[height[peaks].argmax()] if len(peaks) else height.argmax())


# ----------------------------------------------------------------------------------------------------
# Waves
# ----------------------------------------------------------------------------------------------------


def _milliseconds(samples: float) -> float:
    return 1000 * samples / SAMPLING_RATE


def _all_known(values: Sequence[float], result: float) -> float:
    """Return the result, or nan where any of the values is nan."""
    return math.nan if any(math.isnan(value) for value in values) else result


def _all_of(*criteria: bool, known: Sequence[float]) -> float:
    """Return 1 where all criteria hold, otherwise 0; nan where any of the values they look at is nan."""
    return _all_known(known, float(all(criteria)))


def _qrs(beat: MedianBeat, lead: str) -> np.ndarray:
    """Return a lead of the median beat from the onset to the end of the QRS, in mV."""
    return beat.waveform[LEADS.index(lead), beat.onset : beat.end + 1]


def _first_r(qrs: np.ndarray) -> int | None:
    """Return the sample at which the first positive wave rises above `MIN_WAVE`, or None for a QS complex."""
    above = qrs >= MIN_WAVE
    return int(above.argmax()) if above.any() else None


def _q_wave(qrs: np.ndarray) -> float:
    """Return the lowest value before the first R, or that of a QS complex; 0 where there is neither."""
    return _lowest(qrs[: _first_r(qrs)], qrs)


def _s_wave(qrs: np.ndarray) -> float:
    """Return the lowest value after the first R, or that of a QS complex; 0 where there is neither."""
    return _lowest(qrs[_first_r(qrs) or 0 :], qrs)


def _lowest(part: np.ndarray, qrs: np.ndarray) -> float:
    return math.nan if np.isnan(qrs[0]) else float(min(0.0, part.min(initial=0.0)))


def _r_prime(qrs: np.ndarray) -> float:
    """Return the height of the late positive wave of a lead, in mV: its peak is later than 50 ms; else 0."""
    if np.isnan(qrs[0]):
        return math.nan
    peaks = find_peaks(qrs, prominence=MIN_WAVE / 2)[0]
    late = peaks[_milliseconds(1) * peaks > R_PEAK_TIME_MS]
    return float(max(0.0, qrs[late].max(initial=0.0)))


def _t_wave(beat: MedianBeat, lead: str) -> float:
    """Return the value farthest from the PR level near the peak of the T wave, in mV."""
    first = max(beat.t_peak - T_HALF, beat.end + T_AFTER_QRS // 2)
    wave = uniform_filter1d(beat.waveform[LEADS.index(lead)], T_SMOOTHING)[first : beat.t_peak + T_HALF]
    return float(wave[np.abs(wave).argmax()])


def _axis(beat: MedianBeat) -> float:
    """Return the direction of the net QRS area in the frontal plane, in degrees.

    Lead aVF is brought to the scale of lead I by 2 / sqrt(3), as in Einthoven's triangle.
    """
    one = _qrs(beat, "I").sum()
    down = _qrs(beat, "aVF").sum() * 2 / math.sqrt(3)
    if not _milliseconds(math.hypot(one, down)) >= MIN_AREA:
        return math.nan
    return math.degrees(math.atan2(down, one))


def _rbbb_pattern(beat: MedianBeat) -> float:
    """Return 0 without, 1 with incomplete and 2 with complete right bundle branch block.

    After Surawicz et al. 2009: a late positive wave in V1 or V2, and a terminal S in I or V6; complete from
    120 ms. They ask for an S of 40 ms in I and V6 and for 110 ms; readers call rSr' incomplete without that.
    """
    chest = [_qrs(beat, lead) for lead in ("V1", "V2")]
    lateral = [_qrs(beat, lead) for lead in ("I", "V6")]
    if any(np.isnan(qrs[0]) for qrs in chest + lateral):
        return math.nan
    if max(_r_prime(qrs) for qrs in chest) < R_PRIME or max(_s_ms(qrs) for qrs in lateral) < S_MS:
        return 0.0
    return 2.0 if _milliseconds(beat.end - beat.onset) >= COMPLETE_MS else 1.0


def _s_ms(qrs: np.ndarray) -> float:
    """Return how long a lead stays below the PR level after its first R."""
    return _milliseconds((qrs[_first_r(qrs) or 0 :] < -MIN_WAVE / 2).sum())
