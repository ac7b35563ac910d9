"""The ECG signs against signals made of Gaussians, whose waves are known, and the synthetic cohort."""

import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gaussian_ecg import LEAD, RATE, ecg, regular, waves
from sklearn.metrics import roc_auc_score

from ecg.signs import Signs, measure_signals, measure_signs
from ecg.simulation import draw_patient, simulate_ecg
from xml_loader import read_at_rest


def rbbb(**changes):
    """Return an ECG with rsR' in V1 and a late S in I and V6."""
    late = {
        "V1": waves(R=0.2, S=-0.4, r_prime=0.7, T=-0.2),
        "I": [*waves(R=0.8, T=0.25), (50, 14, -0.3)],
        "V6": [*waves(R=1.0, T=0.25), (50, 14, -0.3)],
    }
    return ecg(regular(75), **(late | changes))


# ----------------------------------------------------------------------------------------------------
# Rate and rhythm
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean_rr", [0.75, 0.5])
def test_atrial_fibrillation_is_irregular_and_no_sinus_tachycardia(mean_rr):
    generator = np.random.default_rng(2)
    beats = np.cumsum(generator.uniform(0.65 * mean_rr, 1.35 * mean_rr, 40))
    beats = beats[beats < 9.6]
    fibrillation = 0.03 * np.sin(2 * np.pi * 6 * np.arange(5000) / RATE)
    signal = ecg(beats, I=waves(R=0.8, T=0.2), III=waves(R=0.4, T=0.1)) + fibrillation
    signs = measure_signs(signal)
    assert signs.heart_rate_bpm == pytest.approx(60 / np.diff(beats).mean(), rel=0.01)
    assert signs.rr_irregularity > 0.1
    assert signs.sinus_tachycardia == 0.0


# ----------------------------------------------------------------------------------------------------
# QRS
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [-150, -89, -45, 0, 45, 89, 91, 130, 175])
def test_axis_and_right_axis(degrees):
    # In Einthoven's triangle, lead I is the projection on 0 degrees and III that on 120 degrees.
    one, three = (math.cos(math.radians(degrees - lead)) for lead in (0, 120))
    signs = measure_signs(ecg(regular(75), I=waves(R=one, T=0.2), III=waves(R=three, T=0.1)))
    assert signs.qrs_axis_deg == pytest.approx(degrees, abs=1)
    assert signs.right_axis == float(degrees > 90)


def test_axis_is_unknown_where_the_areas_cancel():
    balanced = {"I": waves(R=0.5, S=-0.5, T=0.2), "III": waves(R=-0.3, S=0.3, T=0.1)}
    signs = measure_signs(ecg(regular(75), **balanced))
    assert math.isnan(signs.qrs_axis_deg)
    assert math.isnan(signs.right_axis)


@pytest.mark.parametrize("stretch", [0.8, 1.0, 1.3, 1.7])
def test_qrs_duration(stretch):
    signal = ecg(regular(70), stretch=stretch)
    first_beat = np.abs(ecg([1.0], stretch=stretch)[:, RATE - 50 : RATE + 50])
    visible = np.flatnonzero((first_beat > 0.03).any(axis=0))
    truth = 1000 * (visible[-1] - visible[0]) / RATE
    assert measure_signs(signal).qrs_ms == pytest.approx(truth, abs=10)


@pytest.mark.parametrize(("s", "q", "t"), [(-0.1, -0.1, -0.2), (-0.3, -0.25, 0.15), (-0.6, -0.4, -0.3)])
def test_s_in_i_q_and_t_in_iii(s, q, t):
    signal = ecg(regular(80), I=waves(R=0.6, S=s, T=0.2), III=waves(Q=q, R=0.5, T=t))
    signs = measure_signs(signal)
    assert signs.s_in_i_mv == pytest.approx(s, abs=0.015)
    assert signs.q_in_iii_mv == pytest.approx(q, abs=0.015)
    assert signs.t_in_iii_mv == pytest.approx(t, abs=0.02)


def test_a_wave_before_r_is_q_one_after_it_is_s_and_a_negative_qrs_is_both():
    signs = measure_signs(ecg(regular(80), I=waves(Q=-0.2, R=0.6, T=0.2), III=waves(R=0.3, S=-0.5, T=0.1)))
    assert signs.s_in_i_mv == pytest.approx(0, abs=0.02)
    assert signs.q_in_iii_mv == pytest.approx(0, abs=0.02)
    signs = measure_signs(ecg(regular(80), I=waves(R=-0.5, T=0.2), III=waves(R=-0.4, T=0.1)))
    assert signs.s_in_i_mv == pytest.approx(-0.5, abs=0.02)
    assert signs.q_in_iii_mv == pytest.approx(-0.4, abs=0.02)


@pytest.mark.parametrize(
    ("s", "q", "t", "expected"),
    [
        (-0.2, -0.2, -0.1, 1),
        (-0.1, -0.2, -0.1, 0),
        (-0.2, -0.1, -0.1, 0),
        (-0.2, -0.2, 0.1, 0),
        (-0.2, -0.2, -0.02, 0),  # below the line, but no wave
    ],
)
def test_s1q3t3_asks_for_all_three(s, q, t, expected):
    signal = ecg(regular(80), I=waves(R=0.6, S=s, T=0.2), III=waves(Q=q, R=0.5, T=t))
    assert measure_signs(signal).s1q3t3 == expected


def test_rbbb_complete_incomplete_and_none():
    assert measure_signs(ecg(regular(75))).rbbb_pattern == 0
    incomplete = rbbb()
    signs = measure_signs(incomplete)
    assert (signs.rbbb_pattern, signs.qrs_ms < 120) == (1, True)
    assert signs.r_prime_in_v1_mv == pytest.approx(0.7, abs=0.03)
    complete = rbbb(
        V1=[*waves(R=0.2, S=-0.4, T=-0.2), (85, 14, 0.7)], V2=[*waves(R=0.4, S=-1), (85, 14, 0.3)]
    )
    assert measure_signs(complete).rbbb_pattern == 2
    without_s = rbbb(I=waves(R=0.8, T=0.25), V6=waves(R=1.0, T=0.25))
    assert measure_signs(without_s).rbbb_pattern == 0


@pytest.mark.parametrize("centre", [65, 75])
def test_r_prime_belongs_to_the_qrs_though_s_turns_with_it(centre):
    """For 16 ms around their common peak no two leads are fast; V1 alone goes on."""
    late = {lead: [*waves(R=0.9, T=0.25), (centre, 20, -0.15)] for lead in ("I", "V6")}
    signs = measure_signs(ecg(regular(75), V1=[*waves(R=0.2, S=-0.3, T=-0.2), (centre, 20, 0.7)], **late))
    assert (signs.rbbb_pattern, signs.qrs_ms > 120) == (2, True)
    assert signs.r_prime_in_v1_mv == pytest.approx(0.7, abs=0.03)


def test_lbbb_is_wide_but_no_rbbb():
    broad, deep = [(30, 30, 1.0), (330, 50, -0.2)], [(30, 28, -1.5), (320, 50, 0.4)]
    lbbb = dict.fromkeys(("I", "V5", "V6"), broad) | dict.fromkeys(("V1", "V2", "V3"), deep)
    signs = measure_signs(ecg(regular(70), III=[(30, 28, -0.3)], V4=waves(R=0.3, T=0.2), **lbbb))
    assert signs.qrs_ms > 120
    assert (signs.rbbb_pattern, signs.r_prime_in_v1_mv) == (0, 0)


# ----------------------------------------------------------------------------------------------------
# T waves
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [60, 110])
def test_t_waves_and_how_many_are_inverted(rate):
    heights = {"V1": -0.25, "V2": -0.4, "V3": -0.15, "V4": 0.2}
    chest = {lead: waves(R=0.5, S=-0.5, T=height) for lead, height in heights.items()}
    signs = measure_signs(ecg(regular(rate), **chest))
    for lead, height in heights.items():
        assert getattr(signs, f"t_in_{lead.lower()}_mv") == pytest.approx(height, abs=0.025), lead
    assert signs.n_inverted_t_v1_v4 == 3


# ----------------------------------------------------------------------------------------------------
# What disturbs, and what cannot be measured
# ----------------------------------------------------------------------------------------------------


def test_noise_and_baseline_wander_change_little():
    generator = np.random.default_rng(0)
    times = np.arange(5000) / RATE
    clean = ecg(regular(84), I=waves(R=0.6, S=-0.3, T=0.2), III=waves(Q=-0.25, R=0.5, T=-0.2))
    wander = 0.5 * np.sin(2 * np.pi * 0.25 * times + np.arange(12)[:, None])
    mains = 0.05 * np.sin(2 * np.pi * 50 * times)
    before, after = (
        measure_signs(clean),
        measure_signs(clean + wander + mains + 0.03 * generator.standard_normal(clean.shape)),
    )
    for name, tolerance in {"heart_rate_bpm": 0.5, "qrs_axis_deg": 5, "qrs_ms": 20}.items():
        assert getattr(after, name) == pytest.approx(getattr(before, name), abs=tolerance), name
    for name in (name for name in Signs._fields if name.endswith("_mv")):
        assert getattr(after, name) == pytest.approx(getattr(before, name), abs=0.06), name
    assert (before.s1q3t3, after.s1q3t3) == (1, 1)


@pytest.mark.parametrize("value", [0.0, 1.0, math.nan, math.inf])
def test_a_flat_or_missing_lead_leaves_only_its_own_signs_unknown(value):
    signal = ecg(regular(75))
    whole = measure_signs(signal)
    signal[LEAD["V2"]] = value
    signs = measure_signs(signal)
    unknown = {name for name in Signs._fields if math.isnan(getattr(signs, name))}
    assert unknown == {"t_in_v2_mv", "n_inverted_t_v1_v4", "rbbb_pattern"}
    assert signs.qrs_axis_deg == pytest.approx(whole.qrs_axis_deg, abs=1)


def random_signal(n_samples=5000):
    return 0.3 * np.random.default_rng(1).standard_normal((12, n_samples))


@pytest.mark.parametrize(
    "signal",
    [
        np.zeros((12, 5000)),
        np.full((12, 5000), math.nan),
        np.zeros((12, 0)),
        np.zeros((12, 1)),
        ecg(regular(75))[:, :900],
        random_signal(),
        np.cumsum(random_signal(), axis=1),
        np.outer(np.ones(12), np.arange(5000) == 2500),
        ecg([5.0]),
    ],
    ids=["flat", "nan", "empty", "one sample", "short", "noise", "random walk", "a spike", "one beat"],
)
def test_where_there_are_no_beats_everything_is_unknown(signal):
    signs = measure_signs(signal)
    assert all(math.isnan(value) for value in signs)


def test_three_seconds_suffice():
    signs = measure_signs(ecg(regular(90, seconds=3), seconds=3))
    assert signs.heart_rate_bpm == pytest.approx(90, abs=1)
    assert signs.qrs_axis_deg == pytest.approx(measure_signs(ecg(regular(90))).qrs_axis_deg, abs=1)


# ----------------------------------------------------------------------------------------------------
# Cohorts
# ----------------------------------------------------------------------------------------------------


def test_a_cohort_is_measured_row_by_row():
    one, other = ecg(regular(60)), ecg(regular(120))
    signals = np.rint(1000 * np.stack([one, np.zeros_like(one), other])).astype(np.int16)
    table = measure_signals(signals[[2, 1, 0, 2]])
    assert list(table.columns) == list(Signs._fields)
    assert set(table.dtypes) == {np.dtype(float)}
    assert table["heart_rate_bpm"].round().tolist()[::2] == [120, 60]
    assert table.loc[1].isna().all()
    pd.testing.assert_series_equal(table.loc[0], table.loc[3], check_names=False)
    assert measure_signals([]).shape == (0, len(Signs._fields))


@pytest.fixture(scope="module")
def synthetic():
    """Return the measured signs and the planted truth of 60 ECGs."""
    generator = np.random.default_rng(5)
    pairs = [simulate_ecg(draw_patient(generator, pe=i % 2 == 0), generator) for i in range(60)]
    signs = pd.DataFrame([measure_signs(signal) for signal, _ in pairs])
    return signs, pd.DataFrame([truth for _, truth in pairs])


def test_numbers_of_the_synthetic_cohort(synthetic):
    signs, truth = synthetic
    tolerances = {"heart_rate_bpm": 0.5, "qrs_ms": 8} | dict.fromkeys(
        ["s_in_i_mv", "q_in_iii_mv", "t_in_iii_mv", "t_in_v1_mv", "t_in_v2_mv"], 0.05
    )
    for name, tolerance in tolerances.items():
        error = (signs[name] - truth[name]).abs()
        assert error.quantile(0.95) < tolerance, name
    assert (signs["qrs_axis_deg"] - truth["qrs_axis_deg"]).abs().quantile(0.95) < 8


@pytest.mark.parametrize(
    ("planted", "measured", "least", "sensitivity", "specificity"),
    [
        ("sinus_tachycardia", "sinus_tachycardia", 1, 1.0, 1.0),
        ("S1Q3T3", "s1q3t3", 1, 0.95, 0.98),
        ("right_axis", "right_axis", 1, 0.95, 0.98),
        ("incomplete_RBBB", "rbbb_pattern", 1, 0.95, 0.8),  # a right axis gives an r' in V1 too
        ("T_inversion_V1_V4", "n_inverted_t_v1_v4", 3, 0.85, 0.98),
    ],
)
def test_signs_of_the_synthetic_cohort(synthetic, planted, measured, least, sensitivity, specificity):
    signs, truth = synthetic
    present, found = truth[planted] == 1, signs[measured] >= least
    assert present.sum() >= 5
    assert found[present].mean() >= sensitivity
    assert (~found[~present]).mean() >= specificity


@pytest.mark.skipif(not os.environ.get("ECG_REAL_DATA"), reason="ECG_REAL_DATA is not set")
def test_real_ecgs():
    folder = Path(os.environ["ECG_REAL_DATA"], "ptbxl")
    table = pd.read_csv(folder / "labels.csv").iloc[::5].reset_index(drop=True)
    signals = np.stack([read_at_rest(folder / file) for file in table["file"]])
    signs = measure_signals(signals)
    assert signs["heart_rate_bpm"].isna().sum() <= 1
    assert signs["heart_rate_bpm"].dropna().between(25, 220).all()
    known = signs["heart_rate_bpm"].notna()
    signs, table = signs[known], table[known]
    for label, name, least in [
        ("STACH", "heart_rate_bpm", 0.93),
        ("AFIB", "rr_irregularity", 0.85),
        ("RBBB", "r_prime_in_v1_mv", 0.85),
        ("LBBB", "qrs_ms", 0.95),
    ]:
        assert roc_auc_score(table[label], signs[name].fillna(0)) > least, label
    assert (signs.loc[table["LBBB"] == 1, "rbbb_pattern"] == 0).all()
