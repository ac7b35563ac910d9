"""What is measured in each ECG, against signals made of Gaussians and against the ECG signs."""

import math

import numpy as np
import pandas as pd
import pytest
from gaussian_ecg import ecg, regular, waves

from ecg.beat_values import VALUE_NAMES, measure_values
from ecg.recording import LEADS
from ecg.signs import measure_signals
from ecg.simulation import draw_patient, simulate_ecg


def measured(signal):
    """Return the values of one ECG in mV by name."""
    microvolts = np.rint(1000 * signal).astype(np.int16)
    return dict(zip(VALUE_NAMES, measure_values(microvolts[None])[0].tolist(), strict=True))


def test_the_waves_of_a_lead_are_those_that_it_was_made_of():
    wave_of = waves(Q=-0.2, R=0.7, S=-0.6, T=0.45)
    values = measured(ecg(regular(75), V3=wave_of, V4=wave_of))
    for wave, millivolts in {"q": -0.2, "r": 0.7, "s": -0.6, "st": 0.0, "t": 0.45}.items():
        assert values[f"{wave}_in_v3_mv"] == pytest.approx(millivolts, abs=0.03), wave
    assert values["q_in_v6_mv"] == pytest.approx(0, abs=0.02) == values["s_in_v6_mv"]


def test_a_raised_st_segment():
    values = measured(ecg(regular(75), V2=[*waves(R=0.4, S=-1.2), (120, 40, 0.3)]))
    # 61 ms after the end of the QRS, which is about 70 ms after the R peak
    assert values["st_in_v2_mv"] == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("centre", [-130, -150, -180, -210])
def test_the_p_wave_moves_the_pr_interval(centre):
    one, three = (
        [(centre, 18, height), *waves(R=r, T=t)] for height, r, t in ((0.1, 0.8, 0.2), (0.08, 0.5, 0.1))
    )
    values = measured(ecg(regular(70), I=one, III=three))
    # The P wave reaches half its height 1.18 deviations before its peak; the QRS begins some 20 ms before R.
    assert values["pr_ms"] == pytest.approx(-centre + 1.18 * 18 - 20, abs=12)


def test_without_p_waves_there_is_no_pr_interval():
    beats = np.cumsum(np.random.default_rng(2).uniform(0.5, 1.1, 12))
    flat = {"I": waves(R=0.8, T=0.2), "III": waves(R=0.5, T=0.1)}
    values = measured(ecg(beats[beats < 9.6], **flat))
    assert math.isnan(values["pr_ms"]) and values["rr_irregularity"] > 0.1
    assert values["qrs_ms"] > 0


def test_qt_follows_the_t_wave():
    late = {
        lead: [(340, 35, 0.3), *waves(R=0.8)] for lead in ("I", "III", "V1", "V2", "V3", "V4", "V5", "V6")
    }
    early = {lead: [(280, 35, 0.3), *waves(R=0.8)] for lead in late}
    first, second = (measured(ecg(regular(60), **changes))["qt_ms"] for changes in (early, late))
    assert second - first == pytest.approx(60, abs=6)


def test_they_are_the_ecg_signs_where_both_have_them():
    generator = np.random.default_rng(5)
    patients = [draw_patient(generator, pe=number % 2 == 0) for number in range(6)]
    signals = np.stack([np.rint(1000 * simulate_ecg(one, generator)[0]).astype(np.int16) for one in patients])
    values, signs = pd.DataFrame(measure_values(signals), columns=VALUE_NAMES), measure_signals(signals)
    for name in ("heart_rate_bpm", "rr_irregularity", "qrs_ms", "r_prime_in_v1_mv"):
        np.testing.assert_allclose(values[name], signs[name], rtol=1e-5, atol=1e-6)
    for name in ("s_in_i_mv", "q_in_iii_mv", "t_in_iii_mv", "t_in_v1_mv", "t_in_v4_mv"):
        np.testing.assert_allclose(values[name], signs[name], atol=1e-6, err_msg=name)
    angle = np.degrees(np.arctan2(values["axis_sine"], values["axis_cosine"]))
    np.testing.assert_allclose(angle, signs["qrs_axis_deg"], atol=0.01)


def test_a_flat_lead_and_no_beats_are_nan():
    signal = ecg(regular(75))
    signal[LEADS.index("V2")] = 0
    values = measured(signal)
    of_v2 = [name for name in values if name.endswith("_in_v2_mv")]
    assert len(of_v2) == 5 and all(math.isnan(values[name]) for name in of_v2)
    assert math.isfinite(values["pr_ms"]) and math.isfinite(values["t_in_v3_mv"])
    assert np.isnan(measure_values(np.zeros((2, 12, 5000), np.int16))).all()
