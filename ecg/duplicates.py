"""Find ECGs that were exported more than once: the same recording, perhaps filtered, rounded or shifted.

groups = near_duplicates(signals, rows, measurements)  # measured by ecg.quality.measure
"""

from __future__ import annotations

import math

import numpy as np

from ecg.fingerprint import alike

TREE_AXES = 6  # of twelve
DUPLICATE_RADIUS = 0.15  # between the logarithms of two ECGs' twelve QRS amplitudes
MIN_DUPLICATE_QRS_MV = 0.02  # smaller amplitudes count as this one
FLAT_RMS = 5.0  # µV; ECGs without a lead beyond are the same only where every sample is equal
MIN_CORRELATION = 0.99
MAX_AMPLITUDE_RATIO = 1.05
MAX_SHIFT = 1000  # samples, 2 s
SHIFT_LEADS = (1, 7)  # II and V2 lie almost at right angles to each other


def near_duplicates(signals: np.ndarray, rows: np.ndarray, measurements: np.ndarray) -> np.ndarray:
    """Return a group number for each ECG; ECGs in one group are the same recording, exported more than once.

    They are the same where every sample is equal; where their fingerprints are alike, as those of one stretch
    are at any rate, gain or resolution and after the usual filters; and where two files of one rate and gain
    differ by a shift of up to 2 s because another stretch was exported, and no more than a few µV beside. Of
    ECGs shifted by 2 s about four in five are found: those whose QRS amplitudes change from beat to beat are
    missed, and so are most copies that lack leads which the other has.

    Parameters
    ----------
    signals : int16 array-like of shape (n_rows, 12, 5000), in µV at 500 Hz, indexed by row
    rows : int ndarray of shape (n_ecgs,)
        Each ECG's row in `signals`. Only rows of likely duplicates are read.
    measurements : ndarray of shape (n_ecgs,), dtype `MEASUREMENTS`

    Returns
    -------
    int ndarray of shape (n_ecgs,)
        Numbered from 0 by first appearance.
    """
    _, first, copy_of = np.unique(measurements["waveform"], return_index=True, return_inverse=True)
    first_copies = first[copy_of.reshape(-1)]  # each ECG's group is the first ECG in it
    parents = np.arange(len(measurements))
    rms = np.nan_to_num(measurements["lead_rms"][np.sort(first)])  # a missing lead is zeros
    alive = np.sort(first)[rms.max(axis=1, initial=0) > FLAT_RMS]
    for a, b in alive[alike(measurements["fingerprint"][alive])].tolist():
        _join(parents, a, b)
    for a, b in _similar_pairs(measurements, alive):
        if _root(parents, a) == _root(parents, b):
            continue
        one, other = (_recorded(signals[rows[ecg]], measurements["padded_samples"][ecg]) for ecg in (a, b))
        if _is_same_recording(one, other):
            _join(parents, a, b)
    roots = np.array([_root(parents, ecg) for ecg in first_copies.tolist()], dtype=int)
    return np.unique(roots, return_inverse=True)[1].reshape(-1)  # a group's first ECG is its root


def _similar_pairs(measurements: np.ndarray, alive: np.ndarray) -> list[list[int]]:
    """Return the pairs among ECGs, none of them flat, whose QRS has nearly the same amplitude in every lead.

    QRS amplitudes change less than the rms when another stretch of the same recording is taken: wander does
    not enter them. Among 1,014 clinical ECGs no two are within the radius.
    """
    from scipy.spatial import cKDTree

    if len(alive) < 2:
        return []
    amplitudes = np.nan_to_num(measurements["lead_qrs_mv"][alive])
    amplitudes = np.log(np.maximum(amplitudes, MIN_DUPLICATE_QRS_MV))
    # Distances are the same on the principal axes. A tree over those that vary most has fewer dimensions and
    # is many times as fast; the distance on all twelve removes the pairs that it finds in excess.
    axes = np.linalg.eigh(np.cov(amplitudes.T, dtype=np.float64))[1][:, ::-1][:, :TREE_AXES]
    tree = cKDTree((amplitudes - amplitudes.mean(axis=0)) @ axes)
    pairs = tree.query_pairs(DUPLICATE_RADIUS * (1 + 1e-6), output_type="ndarray")
    distances = np.linalg.norm(amplitudes[pairs[:, 0]] - amplitudes[pairs[:, 1]], axis=1)
    return alive[pairs[distances <= DUPLICATE_RADIUS]].tolist()


def _root(parents: np.ndarray, ecg: int) -> int:
    """Return the first ECG of a group, and shorten the way to it."""
    while parents[ecg] != ecg:
        parents[ecg] = parents[parents[ecg]]
        ecg = parents[ecg]
    return int(ecg)


def _join(parents: np.ndarray, a: int, b: int) -> None:
    """Make one group of those of two ECGs."""
    root_a, root_b = _root(parents, a), _root(parents, b)
    parents[max(root_a, root_b)] = min(root_a, root_b)


def _recorded(signal: np.ndarray, padded_samples: int) -> np.ndarray:
    """Return a signal as float32 without its padding, half of which is before it."""
    before = int(padded_samples) // 2
    return np.asarray(signal[:, before : signal.shape[1] - (int(padded_samples) - before)], np.float32)


def _is_same_recording(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two signals, float32 (12, n_samples) in µV, agree where they overlap best."""
    shift = _best_shift(one, other)
    one, other = one[:, max(shift, 0) :], other[:, max(-shift, 0) :]
    overlap = slice(min(one.shape[1], other.shape[1]))
    one, other = (part[:, overlap] - part[:, overlap].mean(axis=1, keepdims=True) for part in (one, other))
    power, other_power = float(np.square(one).mean()), float(np.square(other).mean())
    if min(power, other_power) == 0:
        return False
    correlation = float((one * other).mean()) / math.sqrt(power * other_power)
    ratio = math.sqrt(max(power, other_power) / min(power, other_power))
    return correlation > MIN_CORRELATION and ratio < MAX_AMPLITUDE_RATIO


def _best_shift(one: np.ndarray, other: np.ndarray) -> int:
    """Return by how many samples `one` lags behind `other`, -1000 to 1000, from the cross-correlation."""
    n_circle = max(one.shape[1], other.shape[1]) + MAX_SHIFT  # so that no shift wraps around into another
    spectra = []
    for signal in (one, other):
        leads = signal[list(SHIFT_LEADS)]
        spectra.append(np.fft.rfft(leads - leads.mean(axis=1, keepdims=True), n_circle))
    product = np.fft.irfft((spectra[0] * spectra[1].conj()).sum(axis=0), n_circle)
    shifts = np.arange(-MAX_SHIFT, MAX_SHIFT + 1)
    overlap = np.minimum(one.shape[1] - np.maximum(shifts, 0), other.shape[1] - np.maximum(-shifts, 0))
    return int(shifts[(product[shifts] / overlap).argmax()])
