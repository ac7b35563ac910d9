"""Measure each ECG once, when its file is decoded; judge the stored numbers as often as the limits change.

    numbers = measure(signal, padded=(0, 0), file_rate=500, ...)  # stored beside the signal
    findings = judge(measurements, max_flat_seconds=5, ...)       # what to reject, to warn of and to note

No signal is changed here. A rejection throws a patient away: it is for what a cardiologist would send back.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Collection, Sequence

import numpy as np
import pandas as pd

from ecg.fingerprint import N_BITS, fingerprints
from ecg.recording import LEADS, SAMPLING_RATE

MEASUREMENTS = np.dtype([
    ("file_rate", "<f4"),  # Hz
    ("file_seconds", "<f4"),
    ("padded_samples", "<i2"),  # at 500 Hz, before and after together
    ("gap_samples", "<i4"),  # interpolated, over all leads, at the file's rate
    ("n_derived", "i1"),  # limb leads computed from two others, mostly I and II
    ("n_warnings", "i1"),  # of the reader
    ("flat_seconds", "<f4"),  # the longest stretch that any lead stays flat
    ("flat_lead", "i1"),  # position in LEADS
    ("clipped", "<f4"),  # largest share of a lead's samples that are cut off at its maximum or minimum
    ("clipped_lead", "i1"),
    ("qrs_mv", "<f4"),  # median of lead_qrs_mv
    ("einthoven", "<f4"),  # rms of I + III - II by the rms of these leads
    ("goldberger", "<f4"),  # the same of aVR, aVL or aVF, whichever agrees least with I and II
    ("goldberger_lead", "i1"),
    ("reversal", "<f4"),  # -1 to 1; beyond 0 as if the arm electrodes were exchanged
    ("lead_rms", "<f4", (12,)),  # µV, about the mean; nan where the recording lacks the lead
    ("lead_qrs_mv", "<f4", (12,)),  # peak to peak; nan as above
    ("fingerprint", "u1", (N_BITS // 8,)),  # recognises the recording in another file
    ("waveform", "<u8"),  # 64 bits of BLAKE2b of the signal's bytes
])  # fmt: skip

BEAT_WINDOW = 750  # samples, 1.5 s: holds a beat at 40/min
QRS_WINDOW = 50  # samples, 0.1 s: a QRS fits, and baseline wander is slow beside it
FLAT_RANGE = 5  # µV within a QRS_WINDOW: one count of the coarsest usual resolution
MIN_PLATEAU, LONG_PLATEAU = 3, 100  # equal samples; a single plateau counts where it lasts 0.2 s
MIN_PLATEAU_AT = 500  # µV from the mean; nearer, a coarse file's isoelectric line may be its extreme
MIN_LIMB_RMS = 25  # µV; against limb leads smaller than that, rounding would look like a wrong lead
SLOPE_SAMPLES = 20  # 40 ms

# Where warnings begin; those without a unit are shares of the limit beyond which an ECG is rejected.
WARN_FLAT_SECONDS = 1.0
WARN_CLIPPED = 0.1
WARN_LOW_QRS, WARN_HIGH_QRS = 4.0, 0.25
WARN_LIMB_LEADS = 0.1
WARN_PADDED_SECONDS = 0.5
WARN_GAPS = 0.01  # of the file's samples

FINDING_COLUMNS = ("ecg", "check", "verdict", "finding")


def measure(
    signal: np.ndarray,
    *,
    padded: tuple[int, int],
    file_rate: float,
    file_seconds: float,
    gap_samples: int,
    n_derived: int,
    n_warnings: int,
    missing: Collection[str] = (),
) -> np.void:
    """Measure one ECG, in 1 to 2 ms.

    Of leads that are missing nothing is measured; what needs one of them counts as right.

    Parameters
    ----------
    signal : int16 ndarray of shape (12, 5000), in µV at 500 Hz
    padded : (int, int)
        Samples before and after that are not part of the recording; only hash and fingerprint include them.
    file_rate, file_seconds : float
        Sampling rate in Hz and length of the file, before resampling and cropping.
    gap_samples, n_derived, n_warnings : int
        Missing samples that were interpolated, limb leads that were derived, warnings of the reader.
    missing : collection of str
        Leads that the recording lacks, whose samples are zeros.

    Returns
    -------
    np.void of dtype `MEASUREMENTS`
    """
    before, after = padded
    recorded = np.ascontiguousarray(signal[:, before : signal.shape[1] - after])
    mean = recorded.mean(axis=1, dtype=np.float32)[:, None]
    centred = recorded - mean  # (12, n_samples), float32
    ranges = _sliding_range(recorded, QRS_WINDOW)
    rms = _rms(centred)
    numbers = np.zeros((), MEASUREMENTS)
    numbers["file_rate"], numbers["file_seconds"] = file_rate, file_seconds
    numbers["padded_samples"], numbers["gap_samples"] = before + after, gap_samples
    numbers["n_derived"], numbers["n_warnings"] = n_derived, min(n_warnings, 127)
    absent = np.isin(LEADS, list(missing))
    numbers["flat_seconds"], numbers["flat_lead"] = _largest(np.where(absent, 0, _flat_seconds(ranges)))
    numbers["clipped"], numbers["clipped_lead"] = _largest(_clipped(recorded, mean[:, 0], rms))
    lead_qrs_mv = _qrs_microvolts(ranges) / 1000
    numbers["lead_qrs_mv"] = np.where(absent, np.nan, lead_qrs_mv)
    numbers["qrs_mv"] = np.median(lead_qrs_mv[~absent])
    if not absent[:6].any():
        numbers["einthoven"], residuals = _limb_lead_residuals(centred[:6], rms[:3])
        worst, position = _largest(residuals)
        numbers["goldberger"], numbers["goldberger_lead"] = worst, LEADS.index("aVR") + position
    if not {"I", "V6"} & set(missing):
        numbers["reversal"] = _reversal(centred[LEADS.index("I")], centred[LEADS.index("V6")])
    numbers["lead_rms"] = np.where(absent, np.nan, rms)
    (numbers["fingerprint"],) = fingerprints(signal[None])
    content = np.ascontiguousarray(signal, "<i2")  # the same bytes on every machine
    numbers["waveform"] = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
    return numbers[()]


def missing_leads(measurement: np.void) -> tuple[str, ...]:
    """Return the leads that a recording lacks, whose samples are zeros, from its measurements."""
    return tuple(np.array(LEADS)[np.isnan(measurement["lead_qrs_mv"])].tolist())


def missing_in_words(measurement: np.void) -> str:
    """Return a sentence about the leads that a recording lacks; "" where it lacks none."""
    missing = missing_leads(measurement)
    lead = "lead" if len(missing) == 1 else "leads"
    return f"{lead} {', '.join(missing)} missing in the file: the model sees zeros there" if missing else ""


def count_missing(measurements: np.ndarray) -> str:
    """Return how many ECGs lack which leads, in a sentence; "" where none lacks any."""
    absent = np.isnan(measurements["lead_qrs_mv"])  # (n_ecgs, 12)
    leads = ", ".join(f"{lead} in {n:,}" for lead, n in zip(LEADS, absent.sum(axis=0), strict=True) if n)
    n_ecgs = f"{absent.any(axis=1).sum():,} of {len(absent):,} ECGs"
    return f"{n_ecgs} lack leads, which the models see as zeros: {leads}" if leads else ""


def _largest(values: np.ndarray) -> tuple[float, int]:
    """Return the largest value and its position."""
    position = int(values.argmax())
    return float(values[position]), position


def _rms(values: np.ndarray) -> np.ndarray:
    """Return the root mean square of each row."""
    return np.sqrt(np.einsum("ij,ij->i", values, values) / values.shape[1])


def _sliding_range(signal: np.ndarray, window: int) -> np.ndarray:
    """Return maximum minus minimum of each `window` samples, uint16 (12, n_samples - window + 1).

    Windows of twice the length are made of two that overlap, which takes six steps for 50 samples.
    """
    highest = lowest = signal
    length = 1
    while length < window:
        step = min(length, window - length)
        highest = np.maximum(highest[:, :-step], highest[:, step:])
        lowest = np.minimum(lowest[:, :-step], lowest[:, step:])
        length += step
    return highest.view(np.uint16) - lowest.view(np.uint16)  # a range may exceed int16


def _runs(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and the length of each run of True in a bool array of shape (12, n)."""
    n_rows, n_columns = inside.shape
    framed = np.zeros((n_rows, n_columns + 2), bool)
    framed[:, 1:-1] = inside
    line = framed.ravel()
    changes = np.flatnonzero(line[1:] != line[:-1])
    starts, ends = changes[::2], changes[1::2]
    return starts // (n_columns + 2), ends - starts


def _flat_seconds(ranges: np.ndarray) -> np.ndarray:
    """Return the longest time that each lead stays within `FLAT_RANGE` during every 0.1 s, (12,)."""
    lead, n_windows = _runs(ranges <= FLAT_RANGE)
    longest = np.zeros(len(ranges))
    np.maximum.at(longest, lead, n_windows + QRS_WINDOW - 1)
    return longest / SAMPLING_RATE


def _clipped(recorded: np.ndarray, mean: np.ndarray, rms: np.ndarray) -> np.ndarray:
    """Return the share of each lead's samples in runs of equal ones at its maximum or minimum, (12,).

    Only an extreme far from the mean counts: a coarse file's may be the isoelectric line. A single short
    plateau does not count: some exports repeat the last value, and the top of baseline wander is round.
    """
    far = np.maximum(MIN_PLATEAU_AT, rms)
    n_clipped = np.zeros(len(recorded))
    for extreme in (recorded.max(axis=1), recorded.min(axis=1)):
        leads = np.flatnonzero(np.abs(extreme - mean) > far)
        row, length = _runs(recorded[leads] == extreme[leads, None])
        plateau = length >= MIN_PLATEAU
        n_plateaus = np.bincount(row[plateau], minlength=len(leads))
        n_samples = np.bincount(row[plateau], length[plateau], minlength=len(leads))
        n_clipped[leads] += n_samples * ((n_plateaus > 1) | (n_samples >= LONG_PLATEAU))
    return n_clipped / recorded.shape[1]


def _qrs_microvolts(ranges: np.ndarray) -> np.ndarray:
    """Return each lead's largest range within 0.1 s, the median over windows of 1.5 s, (12,) in µV.

    The median passes over single artefacts, extrasystoles and pauses; wander hardly moves within 0.1 s.
    """
    n_windows = ranges.shape[1] // BEAT_WINDOW
    windows = ranges[:, : n_windows * BEAT_WINDOW].reshape(len(ranges), n_windows, BEAT_WINDOW)
    return np.median(windows.max(axis=2), axis=1)


def _limb_lead_residuals(limb: np.ndarray, rms: np.ndarray) -> tuple[float, np.ndarray]:
    """Return how far the limb leads are from Einthoven's and Goldberger's equations; 0: they fulfil them.

    Parameters
    ----------
    limb : float32 ndarray of shape (6, n_samples), in µV about the mean
    rms : ndarray of shape (3,), in µV
        Of I, II and III. Residuals are relative to their root mean square.

    Returns
    -------
    einthoven : float
    goldberger : ndarray of shape (3,), of aVR, aVL and aVF
    """
    one, two, three, avr, avl, avf = limb
    residuals = np.stack([one + three - two, avr + (one + two) / 2, avl - one + two / 2, avf - two + one / 2])
    relative = _rms(residuals) / max(MIN_LIMB_RMS, np.sqrt(np.square(rms).mean()))
    return float(relative[0]), relative[1:]


def _reversal(one: np.ndarray, v6: np.ndarray) -> float:
    """Return how much leads I and V6, about their means, look like exchanged arm electrodes: -1 to 1.

    Both leads look at the heart from the left: P, QRS and T agree, and exchanged arms turn I upside down. In
    right axis deviation, a sign of pulmonary embolism, the QRS of lead I points down as well, but its P and T
    stay upright, and V6 has an S. Therefore three quarters of the score are the correlation of I with V6, and
    only one quarter is how far lead I points down.
    """
    return -0.75 * _correlation_of_slopes(one, v6) - 0.25 * _polarity(one)


def _correlation_of_slopes(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation of two leads' slopes over 40 ms, which leave baseline wander out; 0 where flat.

    Slopes are cut at their rms, so that P and T count beside the QRS.
    """
    slopes = np.stack(
        [one[SLOPE_SAMPLES:] - one[:-SLOPE_SAMPLES], other[SLOPE_SAMPLES:] - other[:-SLOPE_SAMPLES]]
    )
    limits = _rms(slopes)[:, None]
    slopes = np.clip(slopes, -limits, limits)
    rms = _rms(slopes)
    return float((slopes[0] * slopes[1]).mean() / (rms[0] * rms[1])) if rms.all() else 0.0


def _polarity(lead: np.ndarray) -> float:
    """Return 1 where a lead has only upward deflections, -1 where only downward ones: median over 1.5 s."""
    windows = lead[: lead.size // BEAT_WINDOW * BEAT_WINDOW].reshape(-1, BEAT_WINDOW)
    highest, lowest = windows.max(axis=1), windows.min(axis=1)
    height = np.maximum(highest - lowest, 1)  # µV
    return float(np.median((highest + lowest - 2 * windows.mean(axis=1)) / height))


def judge(
    measurements: np.ndarray,
    *,
    max_flat_seconds: float,
    max_clipped: float,
    min_qrs_mv: float,
    max_qrs_mv: float,
    max_einthoven: float,
    max_goldberger: float,
    max_reversal: float,
) -> pd.DataFrame:
    """Return what is wrong with ECGs or worth knowing about them, from their measurements.

    Parameters
    ----------
    measurements : ndarray of shape (n_ecgs,), dtype `MEASUREMENTS`
    max_flat_seconds : float, in s
        Rejected where a lead stays flat for longer; a warning from 1 s on.
    max_clipped : float, 0 to 1
        Rejected where a larger share of a lead is cut off; a warning beyond a tenth of it.
    min_qrs_mv, max_qrs_mv : float, in mV
        Rejected where the median QRS amplitude is outside; a warning within four times of either.
    max_einthoven, max_goldberger : float
        Rejected where the limb leads contradict each other by more; a warning beyond a tenth of it.
    max_reversal : float, -1 to 1
        Beyond it a warning of exchanged arm electrodes; never a rejection.

    Returns
    -------
    DataFrame with one row per finding, sorted by ECG, the gravest of each first
        ecg : position in `measurements`. check : short name. verdict : reject, warn or note.
        finding : a sentence with the lead, the value, its unit and the limit beyond which it is refused.
    """
    findings = [
        _flat_leads(measurements, max_flat_seconds),
        _clipped_leads(measurements, max_clipped),
        _amplitudes(measurements, min_qrs_mv, max_qrs_mv),
        *_limb_leads(measurements, max_einthoven, max_goldberger),
        _arm_electrodes(measurements, max_reversal),
        _leads_not_recorded(measurements),
        *_what_the_reader_did(measurements),
    ]
    table = pd.concat(findings, ignore_index=True)
    return table.sort_values(["ecg", "verdict"], key=_gravest_first, kind="stable", ignore_index=True)


def _gravest_first(column: pd.Series) -> pd.Series:
    return column.map(("reject", "warn", "note").index) if column.name == "verdict" else column


def _findings(
    check: str,
    sentence: Callable[..., str],
    values: Sequence[np.ndarray],
    *,
    reject: np.ndarray | bool = False,
    warn: np.ndarray | bool = False,
    note: np.ndarray | bool = False,
) -> pd.DataFrame:
    """Return the rows of one check: the gravest verdict that applies to each ECG, if any does."""
    n_ecgs = len(values[0])
    sentence = functools.cache(sentence)  # a cohort at another rate has the same note on every ECG
    masks = [np.broadcast_to(mask, n_ecgs) for mask in (reject, warn, note)]
    verdict = np.select(masks, ["reject", "warn", "note"], "")
    ecg = np.flatnonzero(verdict != "")
    sentences = [sentence(*row) for row in zip(*(value[ecg].tolist() for value in values), strict=True)]
    columns = (ecg, check, verdict[ecg].astype(object), np.array(sentences, dtype=object))
    return pd.DataFrame(dict(zip(FINDING_COLUMNS, columns, strict=True)))


def _flat_leads(m: np.ndarray, limit: float) -> pd.DataFrame:
    return _findings(
        "flat lead",
        lambda lead, seconds: f"lead {LEADS[lead]} flat for {seconds:.3g} s (refused beyond {limit:g} s)",
        (m["flat_lead"], m["flat_seconds"]),
        reject=m["flat_seconds"] > limit,
        warn=m["flat_seconds"] >= WARN_FLAT_SECONDS,
    )


def _clipped_leads(m: np.ndarray, limit: float) -> pd.DataFrame:
    return _findings(
        "clipped lead",
        lambda lead, share: (
            f"{share:.2%} of lead {LEADS[lead]} cut off at its maximum or minimum "
            f"(refused beyond {100 * limit:g}%)"
        ),
        (m["clipped_lead"], m["clipped"]),
        reject=m["clipped"] > limit,
        warn=m["clipped"] > WARN_CLIPPED * limit,
    )


def _amplitudes(m: np.ndarray, lowest: float, highest: float) -> pd.DataFrame:
    qrs = m["qrs_mv"]
    return _findings(
        "amplitude",
        lambda millivolts: (
            f"QRS of {millivolts:.3g} mV, median of the leads (refused outside {lowest:g} to {highest:g} mV)"
        ),
        (qrs,),
        reject=(qrs < lowest) | (qrs > highest),
        warn=(qrs < WARN_LOW_QRS * lowest) | (qrs > WARN_HIGH_QRS * highest),
    )


def _limb_leads(m: np.ndarray, max_einthoven: float, max_goldberger: float) -> list[pd.DataFrame]:
    einthoven = _findings(
        "Einthoven",
        lambda residual: (
            f"I + III differs from II by {residual:.2g} of the limb leads (refused beyond {max_einthoven:g})"
        ),
        (m["einthoven"],),
        reject=m["einthoven"] > max_einthoven,
        warn=m["einthoven"] > WARN_LIMB_LEADS * max_einthoven,
    )
    goldberger = _findings(
        "Goldberger",
        lambda lead, residual: (
            f"lead {LEADS[lead]} differs from what I and II give by {residual:.2g} of the limb leads "
            f"(refused beyond {max_goldberger:g})"
        ),
        (m["goldberger_lead"], m["goldberger"]),
        reject=m["goldberger"] > max_goldberger,
        warn=m["goldberger"] > WARN_LIMB_LEADS * max_goldberger,
    )
    return [einthoven, goldberger]


def _arm_electrodes(m: np.ndarray, limit: float) -> pd.DataFrame:
    return _findings(
        "arm electrodes",
        lambda reversal: (
            "lead I is upside down against V6, as if the arm electrodes were exchanged "
            f"(score {reversal:.2f}, limit {limit:g})"
        ),
        (m["reversal"],),
        warn=m["reversal"] > limit,
    )


def _leads_not_recorded(m: np.ndarray) -> pd.DataFrame:
    is_absent = np.isnan(m["lead_qrs_mv"]).any(axis=1)
    sentences = np.full(len(m), "", dtype=object)
    sentences[is_absent] = [missing_in_words(one) for one in m[is_absent]]
    return _findings("missing leads", str, (sentences,), warn=is_absent)


def _what_the_reader_did(m: np.ndarray) -> list[pd.DataFrame]:
    """Return the findings on where the signal differs from the file."""
    padded_seconds = m["padded_samples"] / SAMPLING_RATE
    n_samples = m["file_rate"].astype(np.float64) * m["file_seconds"] * len(LEADS)
    gaps = m["gap_samples"] / np.maximum(n_samples, 1)
    return [
        _findings(
            "padded",
            lambda added, seconds: f"{added:.3g} s added to a recording of {seconds:.4g} s",
            (padded_seconds, m["file_seconds"]),
            warn=padded_seconds > WARN_PADDED_SECONDS,
            note=padded_seconds > 0,
        ),
        _findings(
            "gaps",
            lambda samples, share: (
                f"{_count(samples, 'missing sample')} interpolated ({share:.2%} of the file)"
            ),
            (m["gap_samples"], gaps),
            warn=gaps > WARN_GAPS,
            note=m["gap_samples"] > 0,
        ),
        _findings(
            "resampled",
            lambda rate: f"resampled from {rate:g} to {SAMPLING_RATE} Hz",
            (m["file_rate"],),
            note=m["file_rate"] != SAMPLING_RATE,
        ),
        _findings(
            "derived",
            lambda derived: f"{_count(derived, 'limb lead')} computed from two others",
            (m["n_derived"],),
            note=m["n_derived"] > 0,
        ),
        _findings(
            "reader",
            lambda warnings: f"{_count(warnings, 'warning')} of the reader",
            (m["n_warnings"],),
            warn=m["n_warnings"] > 0,
        ),
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
