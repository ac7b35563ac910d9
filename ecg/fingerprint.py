"""Recognise a recording by 128 bits, without having it: in a file of another format, rate or resolution.

Each bit is the sign of a fixed random projection of the signal (Charikar, STOC 2002,
doi:10.1145/509907.509965), so that bits differ in proportion to the angle between two signals: files of one
recording are almost parallel, those of two are almost at right angles, for their beats do not coincide.
"""

import functools
import hashlib
from itertools import combinations

import numpy as np

N_BITS = 128
SAME_BITS = 10  # that may differ between files of one recording; half of all differ between two recordings
N_BANDS = 12  # of 10 or 11 bits: where 10 bits differ, at least two bands are equal
BLOCK = 10  # samples, 20 ms: what is left is slow enough to be in a file of 100 Hz as in one of 500 Hz
INDEPENDENT = (0, 1, 6, 7, 8, 9, 10, 11)  # I, II, V1 to V6; the other limb leads follow from I and II


def fingerprints(signals: np.ndarray) -> np.ndarray:
    """Return the fingerprint of each ECG, uint8 (n_ecgs, 16).

    Of 300 ECGs of PTB-XL, brought from 500 to 100 Hz and rounded to 4 µV, at most 9 bits changed; by a
    band-pass of 0.5 to 40 Hz at most 8, by 10 µV of noise 5. Among the 189 million pairs of 19,435 recordings
    none differs in fewer than 20.

    Parameters
    ----------
    signals : int16 ndarray of shape (n_ecgs, 12, 5000), in µV at 500 Hz
        The same 10 s must have been exported: those of another stretch have other fingerprints.
    """
    n_ecgs, _, n_samples = signals.shape
    blocks = signals[:, INDEPENDENT].reshape(n_ecgs, len(INDEPENDENT), n_samples // BLOCK, BLOCK)
    steps = np.diff(blocks.mean(axis=3, dtype=np.float32), axis=2)  # baseline wander hardly moves in 20 ms
    steps = steps.reshape(n_ecgs, len(INDEPENDENT) * (n_samples // BLOCK - 1))
    return np.packbits(steps @ _directions(steps.shape[1]) > 0, axis=1)


def is_among(own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return which of some ECGs are a recording that is among the others, (n_ecgs,) of booleans.

    Parameters
    ----------
    own, others : uint8 ndarrays of shape (n_ecgs, 16) and (n_others, 16)
        A flat ECG, all of whose bits are 0, is nobody's.
    """
    found = np.zeros(len(own), bool)
    others = np.ascontiguousarray(others).view(np.uint64)
    for number, one in enumerate(np.ascontiguousarray(own).view(np.uint64)):
        differ = np.bitwise_count(others ^ one).sum(axis=1, dtype=np.uint8)
        found[number] = one.any() and (differ <= SAME_BITS).any()
    return found


def alike(prints: np.ndarray) -> np.ndarray:
    """Return the pairs of fingerprints that differ in at most `SAME_BITS` bits, int (n_pairs, 2), sorted.

    Only pairs of which two bands are equal are compared (multi-index hashing: Norouzi, CVPR 2012,
    doi:10.1109/CVPR.2012.6248043): among a million, one in 40,000.

    Parameters
    ----------
    prints : uint8 ndarray of shape (n_ecgs, 16)
        A flat ECG, all of whose bits are 0, is in no pair.
    """
    ecgs = np.flatnonzero(prints.any(axis=1))
    prints = np.ascontiguousarray(prints[ecgs])
    bands, halves = _bands(prints), prints.view(np.uint64)
    found = np.empty(0, np.int64)
    for one, other in combinations(range(N_BANDS), 2):
        found = np.union1d(found, _alike_where_equal(halves, bands[one] << 11 | bands[other]))
    return ecgs[np.stack(np.divmod(found, max(len(ecgs), 1)), axis=1)]


def _bands(prints: np.ndarray) -> np.ndarray:
    """Return the bits of each band as a number below 2048, uint32 (N_BANDS, n_ecgs)."""
    bands = np.array_split(np.unpackbits(prints, axis=1), N_BANDS, axis=1)
    return np.stack([band @ (1 << np.arange(band.shape[1], dtype=np.uint32)) for band in bands])


def _alike_where_equal(halves: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return the pairs whose keys are equal and whose fingerprints are alike, each as one number.

    Neighbours in the order of the keys are compared, then those next but one, and so on, so that memory does
    not grow with the number of pairs.
    """
    ordered = np.sort(keys.astype(np.uint64) << 32 | np.arange(len(keys), dtype=np.uint64))
    keys, order = ordered >> 32, (ordered & 0xFFFFFFFF).astype(np.int64)
    places, found = np.arange(len(keys)), [np.empty(0, np.int64)]
    for apart in range(1, len(keys)):
        if not len(places):
            break
        places = places[places < len(keys) - apart]
        places = places[keys[places] == keys[places + apart]]
        bits = halves[order[places]] ^ halves[order[places + apart]]
        same = places[np.bitwise_count(bits).sum(axis=1, dtype=np.uint8) <= SAME_BITS]
        found.append(order[same] * len(keys) + order[same + apart])
    return np.concatenate(found)


@functools.cache
def _directions(n_values: int) -> np.ndarray:
    """Return -1 and 1, float32 (n_values, N_BITS), the same on every machine."""
    stream = hashlib.shake_128(b"fingerprint").digest(n_values * N_BITS // 8)
    bits = np.unpackbits(np.frombuffer(stream, np.uint8)).reshape(n_values, N_BITS)
    return 2 * bits.astype(np.float32) - 1
