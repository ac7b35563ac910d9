"""The parts of each beat lie where the simulator put them, and no sample is in two."""

import numpy as np
import pytest

from ecg.simulation import draw_patient, simulate_ecg
from ecg.waves import SEGMENTS, find_waves


@pytest.mark.parametrize("seed", range(4))
def test_segments_of_synthetic_beats_lie_where_they_were_planted(seed):
    generator = np.random.default_rng(seed)
    signal, truth = simulate_ecg(draw_patient(generator, pe=seed % 2 == 0), generator)
    waves = find_waves(signal)
    inner = waves.limits[1:-1]
    milliseconds = 2 * np.median(inner - inner[:, 1, :1, None], axis=0)  # from the onset of the QRS
    (p_start, p_stop), (_, qrs_stop), (st_start, st_stop), (t_start, t_stop) = milliseconds
    assert p_stop == 0 and st_start == qrs_stop and t_start == st_stop
    assert p_start <= -min(truth["pr_ms"], 180)
    assert qrs_stop == pytest.approx(truth["qrs_ms"], abs=10)
    assert t_stop == pytest.approx(truth["qt_ms"], abs=30)
    assert 50 < st_stop - st_start < 160
    assert len(waves.beats) == pytest.approx(truth["heart_rate_bpm"] / 6, abs=1.5)


def test_segments_share_no_sample_and_stay_in_the_signal():
    generator = np.random.default_rng(3)
    fast = draw_patient(generator, pe=True, signs={"sinus_tachycardia": 1})
    signal = simulate_ecg(fast, generator)[0]
    waves = find_waves(signal)
    covered = np.zeros(signal.shape[1], int)
    for segment in SEGMENTS:
        for stretch in waves.slices(segment):
            assert 0 <= stretch.start < stretch.stop <= signal.shape[1]
            covered[stretch] += 1
    assert covered.max() == 1 and covered.mean() > 0.9
