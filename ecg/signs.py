"""The ECG signs of right-heart strain, measured from the signal as a cardiologist reads them from paper.

    signs = measure_signs(signal)                    # one ECG, (12, n_samples) in mV at 500 Hz
    table = measure_signals(signals)                 # many, each (12, 5000) int16 in µV: a DataFrame

They are measured in the median beat (``ecg/beats.py``), waves against the level just before the QRS. What
cannot be measured (no beats, a flat lead) is nan, never an error. Amplitudes keep their sign: an S wave of
2 mm is -0.2 mV. A sign that is present or absent is 1.0 or 0.0, so that nan is possible too.

The signs are those of Daniel et al. (Chest 2001;120:474) and of Marchick et al. (Ann Emerg Med 2010;55:331).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from ecg.beats import T_AFTER_QRS, T_SMOOTHING, MedianBeat, median_beat
from ecg.recording import LEADS, MILLIVOLTS, SAMPLING_RATE

T_HALF = 40  # samples, 80 ms: how far a lead's T may peak from that of all leads

VERSION = 2  # raise it with every change of a sign

# Criteria, in mV and ms
MIN_WAVE = 0.05  # half a millimetre; less is not a wave
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
    """What `measure_signs` finds in one ECG; all float, nan where it cannot be measured."""

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
    n_inverted_t_v1_v4: float  # 0 to 4 leads
    rbbb_pattern: float  # 0 none, 1 incomplete, 2 complete
    right_axis: float  # 0 or 1: beyond 90 degrees
    sinus_tachycardia: float  # 0 or 1: faster than 100 bpm, and regular: flutter with a fixed block, too


NOT_MEASURED = Signs(*[math.nan] * len(Signs._fields))


def measure_signals(signals: Iterable[np.ndarray]) -> pd.DataFrame:
    """Measure many ECGs, about 10 ms each.

    Parameters
    ----------
    signals : for each ECG int16 (12, 5000), in µV at 500 Hz

    Returns
    -------
    DataFrame with one row per ECG and the columns of `Signs`, float
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
    axis = qrs_axis(beat)
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
        r_prime_in_v1_mv=r_prime(_qrs(beat, "V1")),
        s1q3t3=_s1q3t3(s_in_i, q_in_iii, t_in_iii),
        n_inverted_t_v1_v4=_all_known(t_chest, float(sum(t <= INVERTED_T for t in t_chest))),
        rbbb_pattern=_rbbb_pattern(beat),
        right_axis=_all_of(axis > 90, known=(axis,)),
        sinus_tachycardia=_all_of(rate > TACHYCARDIA, not irregularity > IRREGULAR, known=(rate,)),
    )


def _s1q3t3(s_in_i: float, q_in_iii: float, t_in_iii: float) -> float:
    """Return 1 where S in I and Q (or QS) in III have their depth and T in III is inverted, else 0."""
    known = (s_in_i, q_in_iii, t_in_iii)
    return _all_of(s_in_i <= -S1Q3, q_in_iii <= -S1Q3, t_in_iii <= -MIN_WAVE, known=known)


def _milliseconds(samples: float) -> float:
    return 1000 * samples / SAMPLING_RATE


def _all_known(values: Sequence[float], result: float) -> float:
    """Return the result, or nan where any of the values is nan."""
    return math.nan if any(math.isnan(value) for value in values) else result


def _all_of(*criteria: bool, known: Sequence[float]) -> float:
    """Return 1 where all criteria hold, otherwise 0; nan where any of the values behind them is nan."""
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


def r_prime(qrs: np.ndarray) -> float:
    """Return the height of the late positive wave of a lead, in mV: its peak is later than 50 ms; else 0."""
    from scipy.signal import find_peaks  # SciPy takes half a second

    if np.isnan(qrs[0]):
        return math.nan
    peaks = find_peaks(qrs, prominence=MIN_WAVE / 2)[0]
    late = peaks[_milliseconds(1) * peaks > R_PEAK_TIME_MS]
    return float(max(0.0, qrs[late].max(initial=0.0)))


def _t_wave(beat: MedianBeat, lead: str) -> float:
    """Return the value farthest from the PR level near the peak of the T wave, in mV."""
    from scipy.ndimage import uniform_filter1d

    first = max(beat.t_peak - T_HALF, beat.end + T_AFTER_QRS // 2)
    wave = uniform_filter1d(beat.waveform[LEADS.index(lead)], T_SMOOTHING)[first : beat.t_peak + T_HALF]
    return float(wave[np.abs(wave).argmax()])


def qrs_axis(beat: MedianBeat) -> float:
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
    120 ms. They require an S of 40 ms in I and V6 and 110 ms; readers call rSr' incomplete without that.
    """
    chest = [_qrs(beat, lead) for lead in ("V1", "V2")]
    lateral = [_qrs(beat, lead) for lead in ("I", "V6")]
    if any(np.isnan(qrs[0]) for qrs in chest + lateral):
        return math.nan
    if max(r_prime(qrs) for qrs in chest) < R_PRIME or max(_s_ms(qrs) for qrs in lateral) < S_MS:
        return 0.0
    return 2.0 if _milliseconds(beat.end - beat.onset) >= COMPLETE_MS else 1.0


def _s_ms(qrs: np.ndarray) -> float:
    """Return how long a lead stays below the PR level after its first R."""
    return _milliseconds((qrs[_first_r(qrs) or 0 :] < -MIN_WAVE / 2).sum())
