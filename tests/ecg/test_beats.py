"""Beats of signals made of Gaussians: each is found, and only those of one shape make the median beat."""

import numpy as np
import pytest
from gaussian_ecg import LEAD, RATE, ecg, leads, regular, waves

from ecg.beats import detect_beats, median_beat
from ecg.signs import measure_signs


@pytest.mark.parametrize("rate", [32, 50, 75, 101, 140, 180])
def test_heart_rate_and_every_beat(rate):
    beats = regular(rate)
    signal = ecg(beats)
    found = detect_beats(signal) / RATE
    assert len(found) == len(beats)
    assert np.abs(found - beats).max() < 0.05
    signs = measure_signs(signal)
    assert signs.heart_rate_bpm == pytest.approx(rate, abs=0.5)
    assert signs.rr_irregularity < 0.01
    assert signs.sinus_tachycardia == float(rate > 100)


@pytest.mark.parametrize("ectopic", [[5], [3, 7]])
def test_ectopic_beats_count_for_the_rate_but_not_for_the_waves(ectopic):
    beats = regular(70)
    normal = ecg(np.delete(beats, ectopic), I=waves(R=0.8, S=-0.2, T=0.25))
    wide = {lead: [(0, 35, -1.5), (300, 50, 0.5)] for lead in leads()}
    signal = normal + ecg(beats[ectopic] - 0.2, **wide)
    assert len(detect_beats(signal)) == len(beats)
    aligned = median_beat(signal).aligned / RATE
    assert len(aligned) <= len(beats) - len(ectopic)
    assert np.abs(aligned[:, None] - np.delete(beats, ectopic)).min(axis=1).max() < 0.02
    signs = measure_signs(signal)
    assert signs.s_in_i_mv == pytest.approx(-0.2, abs=0.02)
    assert signs.qrs_ms < 110
    # One premature beat in 10 s is no fibrillation; several look like it.
    assert (signs.rr_irregularity > 0.1) == (len(ectopic) > 1)


def test_pacing_spikes_are_no_beats():
    beats = regular(72)
    signal = ecg(beats, stretch=1.5)
    for before in (0.200, 0.050):  # atrial and ventricular, 2 ms wide
        signal[:, np.rint((beats - before) * RATE).astype(int)] += 1.5
    assert len(detect_beats(signal)) == len(beats)
    signs = measure_signs(signal)
    assert signs.heart_rate_bpm == pytest.approx(72, abs=0.5)
    assert 80 < signs.qrs_ms < 220


def test_the_qrs_behind_a_pacing_spike_with_a_tail_is_measured():
    """The spike, 10 mV in all leads, is steeper than any QRS, and decays in some milliseconds."""
    beats = regular(72)
    signal, centres = ecg(beats, stretch=1.5), np.rint((beats - 0.09) * RATE).astype(int)
    for after in range(8):
        signal[:, centres + after] += 10 * np.exp(-after / 2)
    assert 80 < measure_signs(signal).qrs_ms < 220


def test_one_noisy_lead_hides_no_beat():
    beats = regular(75)
    signal = ecg(beats)
    signal[LEAD["V2"]] = np.random.default_rng(0).standard_normal(5000)
    assert np.abs(detect_beats(signal) / RATE - beats).max() < 0.05
