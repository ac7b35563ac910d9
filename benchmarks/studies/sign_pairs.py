"""Pairs of synthetic ECGs that differ in one planted sign of PE and in nothing else.

Both belong to one simulated patient: the same beats, breath, P waves, electrodes and noise, and the same
random numbers for QRS and T. Where they differ, there is the sign.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ecg.simulation import SIGN_RATES, Patient, draw_patient, draw_qrs, draw_t, qrs_limits, simulate_ecg

NO_SIGN = dict.fromkeys(SIGN_RATES, 0)
AXES = {"right_axis": (98, 130), "S1Q3T3": (40, 80)}  # degrees, as ecg/simulation.py draws them
RBBB_DURATION = (0.106, 0.118)  # s
FAST = (105, 132)  # bpm


class Pair(NamedTuple):
    """The ECG of a patient with a sign and without any, float (12, 5000) in mV at 500 Hz."""

    with_sign: np.ndarray
    without: np.ndarray


def draw_pair(sign: str, generator: np.random.Generator) -> Pair:
    """Simulate a patient with and without a sign, one of `SIGN_RATES`.

    With sinus tachycardia the beats lie elsewhere: that pair differs everywhere.
    """
    patient = draw_patient(generator, pe=False, signs=NO_SIGN)
    severity, *seeds = generator.random(), *generator.integers(2**32, size=3).tolist()
    changed = {}
    if sign in AXES:
        low, high = AXES[sign]
        drawn = low + severity * (high - low)
        changed["qrs_axis"] = drawn if sign == "right_axis" else max(patient.qrs_axis, drawn)
    if sign == "incomplete_RBBB":
        low, high = RBBB_DURATION
        changed["qrs_duration"] = low + severity * (high - low)
    if sign == "sinus_tachycardia":
        low, high = FAST
        changed["heart_rate"] = low + severity * (high - low)
    return Pair(
        _simulate(replace(patient, signs=NO_SIGN | {sign: 1}, **changed), seeds),
        _simulate(patient, seeds),
    )


def _simulate(patient: Patient, seeds: list[int]) -> np.ndarray:
    """Simulate an ECG with the waves that belong to a patient's signs, axis and QRS duration."""
    qrs_generator, t_generator, ecg_generator = map(np.random.default_rng, seeds)
    qrs_waves = draw_qrs(qrs_generator, patient.signs, np.radians(patient.qrs_axis))
    qrs_waves[:, :3] *= patient.qrs_duration / np.ptp(qrs_limits(qrs_waves))
    t_wave = draw_t(t_generator, patient.signs, patient.qrs_axis)
    return simulate_ecg(replace(patient, qrs_waves=qrs_waves, t_wave=t_wave), ecg_generator)[0]
