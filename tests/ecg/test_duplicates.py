"""The same ECG is found again under noise, cut and padding; others, of the same patient too, are not."""

import os
from pathlib import Path

import numpy as np
import pytest
from microvolt_ecgs import AS_READ, measure_all, noise, synthetic_ecg
from scipy.signal import butter, decimate, resample_poly, sosfiltfilt

from ecg.duplicates import near_duplicates
from ecg.quality import measure
from ecg.simulation import draw_patient, simulate_ecg
from xml_loader import read_at_rest


def groups_of(signals):
    signals = np.stack(signals)
    return near_duplicates(signals, np.arange(len(signals)), measure_all(signals)).tolist()


def test_rounding_and_noise_make_no_other_ecg():
    one, other = synthetic_ecg(0), synthetic_ecg(1)
    rounded = (np.rint(one / 5) * 5).astype(np.int16)
    noisy = one + noise(size=10)
    assert groups_of([other, one, rounded, other, noisy]) == [0, 1, 1, 0, 1]


@pytest.mark.parametrize("shift", [1, 333, 1000])
def test_another_stretch_of_the_same_recording(shift):
    one, other = synthetic_ecg(0), synthetic_ecg(1)
    early, late, another = one[:, :4000], one[:, shift : shift + 4000], other[:, shift : shift + 4000]
    assert groups_of([early, late, another]) == [0, 0, 1]
    assert groups_of([late, early, another]) == [0, 0, 1]


def test_padding_does_not_hide_a_duplicate():
    one = synthetic_ecg(0)
    padded = np.pad(one[:, 300:4301], ((0, 0), (499, 500)), mode="edge")
    measurements = measure_all([one, padded])
    measurements[1] = measure(padded, **AS_READ | {"padded": (499, 500)})
    assert near_duplicates(np.stack([one, padded]), np.arange(2), measurements).tolist() == [0, 0]


def test_a_patients_ecgs_are_not_duplicates():
    generator = np.random.default_rng(0)
    patient = draw_patient(generator, pe=False)
    signals = [np.rint(1000 * simulate_ecg(patient, generator)[0]).astype(np.int16) for _ in range(5)]
    assert groups_of(signals) == [0, 1, 2, 3, 4]


def band_passed(signal):
    sections = butter(2, [0.5, 40], "bandpass", fs=500, output="sos")
    return np.rint(sosfiltfilt(sections, signal.astype(float))).astype(np.int16)


def by_way_of_100_hz(signal):
    coarse = decimate(signal.astype(float), 5, axis=1, ftype="fir")
    return np.rint(resample_poly(coarse, 5, 1, axis=1)).astype(np.int16)


def test_filters_rates_and_gains_make_no_other_ecg():
    ecgs = [synthetic_ecg(seed) for seed in range(6)]
    copies = [band_passed(ecgs[0]), by_way_of_100_hz(ecgs[1]), np.rint(1.3 * ecgs[2]).astype(np.int16)]
    assert groups_of([*ecgs, *copies]) == [0, 1, 2, 3, 4, 5, 0, 1, 2]


def test_the_amplitude_of_another_stretch_counts():
    # As far as the candidates are looked for: 4 % in each lead are within the radius, 10 % beyond.
    one = synthetic_ecg(0)
    scaled = [np.rint(factor * one[:, 333:4333]).astype(np.int16) for factor in (1.04, 1.1)]
    assert groups_of([one[:, :4000], scaled[0]]) == [0, 0]
    assert groups_of([one[:, :4000], scaled[1]]) == [0, 1]


def test_flat_ecgs_are_the_same_only_where_they_are_equal():
    zeros, ones = np.zeros((12, 5000), np.int16), np.ones((12, 5000), np.int16)
    assert groups_of([zeros, ones, zeros, noise(size=2), noise(seed=1, size=2)]) == [0, 1, 0, 2, 3]
    step = zeros.copy()
    step[:, 2500:] = 4  # µV
    assert groups_of([step, 2 * step]) == [0, 1]  # whose fingerprints are equal


def test_only_the_rows_of_candidates_are_read():
    signals = np.stack([synthetic_ecg(seed) for seed in range(4)])
    rows = np.array([3, 0, 3, 1])
    measurements = measure_all(signals[rows])
    assert near_duplicates(None, rows, measurements).tolist() == [0, 1, 0, 2]
    assert near_duplicates(None, rows[:0], measurements[:0]).tolist() == []
    assert near_duplicates(None, rows[:1], measurements[:1]).tolist() == [0]


def test_many_noisy_copies_are_compared_once_each():
    one = synthetic_ecg(0)
    assert groups_of([one + noise(seed, size=3) for seed in range(40)]) == [0] * 40


@pytest.mark.skipif(not os.environ.get("ECG_REAL_DATA"), reason="ECG_REAL_DATA is not set")
def test_real_ecgs_of_a_cohort_are_different():
    paths = sorted(Path(os.environ["ECG_REAL_DATA"], "ptbxl").glob("*.xml"))[:50]
    assert groups_of([read_at_rest(path) for path in paths]) == list(range(50))
