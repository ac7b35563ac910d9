"""ECGs at rest, int16 (12, 5000) in µV, and their measurements."""

import functools

import numpy as np

from ecg.quality import MEASUREMENTS, measure
from ecg.simulation import draw_patient, simulate_ecg

AS_READ = {
    "padded": (0, 0),
    "file_rate": 500,
    "file_seconds": 10,
    "gap_samples": 0,
    "n_derived": 0,
    "n_warnings": 0,
}


def noise(seed=0, size=100):
    """Return a signal of white noise, in µV, that is never flat."""
    return np.random.default_rng(seed).integers(-size, size + 1, (12, 5000)).astype(np.int16)


@functools.cache
def synthetic_ecg(seed, right_axis=0):
    generator = np.random.default_rng(seed)
    signs = {"right_axis": right_axis, "S1Q3T3": right_axis}
    millivolts, _ = simulate_ecg(draw_patient(generator, pe=False, signs=signs), generator)
    return np.rint(1000 * millivolts).astype(np.int16)


def measure_all(signals):
    return np.array([measure(signal, **AS_READ) for signal in signals], MEASUREMENTS)
