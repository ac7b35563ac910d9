"""ECGs made of Gaussians, so that every wave is known: (12, n_samples) in mV at 500 Hz."""

import numpy as np

from ecg.recording import LEADS

RATE = 500
LEAD = {name: position for position, name in enumerate(LEADS)}
T_WAVE = (280, 35)  # ms from the R peak, standard deviation
R, S, Q, R_PRIME = (0, 8), (32, 8), (-32, 8), (64, 8)  # four deviations apart: their peaks are what was asked


def waves(**millivolts):
    """Return waves (centre in ms, deviation in ms, mV) from such as R=1.0, S=-0.2, T=0.3."""
    shapes = {"Q": Q, "R": R, "S": S, "r_prime": R_PRIME, "T": T_WAVE, "P": (-150, 18)}
    return [(*shapes[name], height) for name, height in millivolts.items()]


def leads(**changes):
    """Return the waves of a normal beat, lead by lead; III and I make the other limb leads."""
    normal = {
        "I": waves(P=0.06, R=0.8, T=0.25),
        "III": waves(P=0.05, R=0.5, T=0.10),
        "V1": waves(R=0.2, S=-0.9, T=0.05),
        "V2": waves(R=0.4, S=-1.2, T=0.40),
        "V3": waves(R=0.7, S=-0.7, T=0.45),
        "V4": waves(R=1.2, S=-0.3, T=0.40),
        "V5": waves(R=1.2, T=0.35),
        "V6": waves(R=1.0, T=0.25),
    }
    return normal | changes


def regular(rate, seconds=10):
    """Return the times of the R peaks in s."""
    return np.arange(0.3, seconds - 0.1, 60 / rate)


def ecg(beats, seconds=10, stretch=1.0, **changes):
    """Return an ECG, (12, n), in mV, with R peaks at the times given; stretch widens the QRS."""
    times = np.arange(round(seconds * RATE)) / RATE
    signal = np.zeros((12, len(times)))
    for lead, lead_waves in leads(**changes).items():
        for centre, deviation, height in lead_waves:
            factor = stretch if abs(centre) < 100 else 1.0
            distance = times[:, None] - np.asarray(beats) - factor * centre / 1000
            signal[LEAD[lead]] += (height * np.exp(-0.5 * (1000 * distance / deviation / factor) ** 2)).sum(1)
    one, three = signal[LEAD["I"]].copy(), signal[LEAD["III"]].copy()
    signal[LEAD["II"]] = one + three
    signal[LEAD["aVR"]] = -(2 * one + three) / 2
    signal[LEAD["aVL"]] = (one - three) / 2
    signal[LEAD["aVF"]] = (one + 2 * three) / 2
    return signal
