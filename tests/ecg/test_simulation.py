"""Simulated ECGs: planted signs are seen in the leads; rates, axes and intervals are those of the truth."""

import numpy as np
import pytest
from scipy.signal import find_peaks
from sklearn.metrics import roc_auc_score

from ecg.recording import LEADS, SAMPLING_RATE
from ecg.simulation import SIGN_RATES, achievable_auroc, draw_patient, simulate_ecg

NO_SIGN = dict.fromkeys(SIGN_RATES, 0)


def simulate_many(sign, n=25, **options):
    """Return signals (n, 12, 5000) and truths of patients with only this sign, or with none."""
    generator = np.random.default_rng(3)
    signs = NO_SIGN | ({sign: 1} if sign else {})
    patients = [draw_patient(generator, pe=False, signs=signs) for _ in range(n)]
    signals, truths = zip(*(simulate_ecg(patient, generator, **options) for patient in patients), strict=True)
    return np.array(signals), truths


def r_peaks(signal):
    """Find R peaks independently of the truth: where the leads together change fastest."""
    speed = np.convolve(np.abs(np.diff(signal, axis=1)).sum(axis=0), np.ones(25), mode="same")
    return find_peaks(speed, distance=0.3 * SAMPLING_RATE, height=0.4 * np.quantile(speed, 0.995))[0]


def test_achievable_auroc_of_one_sign_by_hand():
    # One sign with sensitivity 0.6 and specificity 0.9 is one point of the ROC: (0.6 + 0.9) / 2.
    assert achievable_auroc({"sign": (0.6, 0.1)}) == pytest.approx(0.75)
    assert achievable_auroc({"useless": (0.3, 0.3)}) == pytest.approx(0.5)


def test_achievable_auroc_agrees_with_a_large_sample():
    generator = np.random.default_rng(2)
    rates = np.array(list(SIGN_RATES.values()))
    y_true = np.repeat([1, 0], 50_000)
    signs = generator.random((100_000, len(rates))) < rates.T[1 - y_true]
    ratios = np.where(signs, rates[:, 0] / rates[:, 1], (1 - rates[:, 0]) / (1 - rates[:, 1]))
    assert roc_auc_score(y_true, np.log(ratios).sum(axis=1)) == pytest.approx(achievable_auroc(), abs=0.01)
    assert 0.87 < achievable_auroc() < 0.93


@pytest.mark.parametrize("sign", [None, "sinus_tachycardia", "incomplete_RBBB"])
def test_heart_rate_agrees_with_counted_peaks(sign):
    signals, truths = simulate_many(sign, n=12)
    for signal, truth in zip(signals, truths, strict=True):
        counted = 60 * SAMPLING_RATE / np.diff(r_peaks(signal)).mean()
        assert counted == pytest.approx(truth["heart_rate_bpm"], rel=0.02)
        assert (truth["heart_rate_bpm"] > 100) == (sign == "sinus_tachycardia")


def beats_without_noise(sign):
    """Return a beat a patient, (n, 12, 450), and the truths.

    The isoelectric line is at zero and the largest deflection, R or S, at sample 150.
    """
    signals, truths = simulate_many(sign, noise=0)
    beats = []
    for signal in signals:
        peak = next(peak for peak in r_peaks(signal) if peak > 200)
        peak += np.argmax(np.ptp(signal[:, peak - 15 : peak + 16], axis=0)) - 15
        beat = signal[:, peak - 150 : peak + 300]
        beats.append(beat - beat[:, 18:24].mean(axis=1, keepdims=True))  # before P, 260 ms before R
    return np.array(beats), truths


def net_axis(beats):
    """Measure the QRS axis in degrees from the net areas in I and aVF."""
    areas = beats[:, [LEADS.index("I"), LEADS.index("aVF")], 112:185].sum(axis=2)
    return np.degrees(np.arctan2(2 / np.sqrt(3) * areas[:, 1], areas[:, 0]))


def test_planted_signs_are_visible_in_the_leads():
    lead = {name: index for index, name in enumerate(LEADS)}
    normal, _ = beats_without_noise(None)
    s1q3t3, truths = beats_without_noise("S1Q3T3")
    qrs, t_wave = slice(125, 185), slice(220, 350)
    assert normal[:, lead["I"], qrs].min(axis=1).mean() > -0.2
    assert np.all(s1q3t3[:, lead["I"], qrs].min(axis=1) < -0.2)
    assert np.all(s1q3t3[:, lead["III"], 125:152].min(axis=1) < -0.15)
    assert s1q3t3[:, lead["III"], t_wave].mean() < -0.02 < 0.02 < normal[:, lead["III"], t_wave].mean()
    assert all(truth["t_in_iii_mv"] < -0.05 for truth in truths)

    late = slice(165, 180)  # 30 to 60 ms after R
    incomplete_rbbb, _ = beats_without_noise("incomplete_RBBB")
    assert normal[:, lead["V1"], late].max(axis=1).mean() < 0.1
    assert np.all(incomplete_rbbb[:, lead["V1"], late].max(axis=1) > 0.15)

    inverted, _ = beats_without_noise("T_inversion_V1_V4")
    for name in ("V1", "V2", "V3", "V4"):
        assert np.all(inverted[:, lead[name], t_wave].mean(axis=1) < 0), name
    assert np.all(normal[:, lead["V2"], t_wave].mean(axis=1) > 0)


@pytest.mark.parametrize("sign", [None, "right_axis", "S1Q3T3"])
def test_axis_measured_in_the_limb_leads_is_the_planted_one(sign):
    beats, truths = beats_without_noise(sign)
    planted = np.array([truth["qrs_axis_deg"] for truth in truths])
    assert np.max(np.abs(net_axis(beats) - planted)) < 10
    assert np.all(planted > 90) if sign == "right_axis" else np.all(planted < 90)


def test_amplitudes_and_intervals_are_those_of_adults():
    beats, truths = beats_without_noise(None)
    v5 = beats[:, LEADS.index("V5")]
    assert 1.0 < np.median(v5[:, 125:185].max(axis=1)) < 1.6
    assert 0.05 < np.median(beats[:, LEADS.index("II"), 60:115].max(axis=1)) < 0.2
    assert 0.15 < np.median(v5[:, 220:350].max(axis=1)) < 0.5
    r_by_lead = np.median(beats[:, 6:10, 125:185].max(axis=2), axis=0)
    assert np.all(np.diff(r_by_lead) > -0.1)  # R grows from V1 to V4
    assert r_by_lead[3] > 2 * r_by_lead[0]
    for name, low, high in (("pr_ms", 110, 200), ("qrs_ms", 75, 102), ("qt_ms", 300, 470)):
        assert all(low <= truth[name] <= high for truth in truths), name


def test_an_unknown_sign_is_refused():
    with pytest.raises(ValueError, match="signs"):
        draw_patient(np.random.default_rng(0), pe=True, signs={"S1Q3": 1})
