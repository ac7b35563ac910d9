"""Pairs of the attribution benchmark differ in their sign alone, and a known model is measured right."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from tiny_runs import make_tiny_cohort, run_folder_of, run_here, tiny, train_here
from torch import nn

from benchmarks.studies.attribution import PLACES, agreement, cropped, interval, measure, share
from benchmarks.studies.sign_pairs import draw_pair
from ecg.recording import LEADS
from ecg.signs import measure_signs
from ecg.simulation import SIGN_RATES
from ecg.waves import find_waves
from explanations import attribution

N_SAMPLES = 2048
SHOWN = {  # by ecg/signs.py: where a planted sign is seen
    "sinus_tachycardia": lambda signs: signs.sinus_tachycardia == 1,
    "S1Q3T3": lambda signs: signs.s1q3t3 == 1,
    "right_axis": lambda signs: signs.right_axis == 1,
    "incomplete_RBBB": lambda signs: signs.rbbb_pattern > 0,
    "T_inversion_V1_V4": lambda signs: signs.n_inverted_t_v1_v4 >= 2,
}


class SumOfLead(nn.Module):
    """The logit is the sum of V2: its attributions, and what a swap changes, are known."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.eye(12)[LEADS.index("V2")][None, :, None])

    def forward(self, x):
        return (self.weights * x).sum(dim=(1, 2))[:, None]


def pair_of(sign, seed=0):
    return draw_pair(sign, np.random.default_rng(seed))


@pytest.mark.parametrize("sign", SIGN_RATES)
def test_the_sign_is_in_one_ecg_of_a_pair_and_none_is_in_the_other(sign):
    pairs = [pair_of(sign, seed) for seed in range(4)]
    assert all(SHOWN[sign](measure_signs(pair.with_sign)) for pair in pairs)
    assert not any(seen(measure_signs(pair.without)) for pair in pairs for seen in SHOWN.values())


@pytest.mark.parametrize("sign", PLACES)
def test_most_samples_of_a_pair_are_the_same(sign):
    pair, other = pair_of(sign), pair_of(sign, seed=1)
    assert 0.01 < np.mean(np.abs(pair.with_sign - pair.without) >= 0.05) < 0.3
    assert np.mean(np.abs(pair.with_sign - pair.without) < 0.01) > 0.4
    assert np.mean(np.abs(pair.with_sign - other.without) < 0.01) < 0.25


def test_an_inverted_t_changes_no_qrs():
    pair = pair_of("T_inversion_V1_V4")
    changed = np.abs(pair.with_sign - pair.without) >= 0.05
    waves, chest = find_waves(pair.without), [LEADS.index(lead) for lead in ("V1", "V2", "V3", "V4")]
    shares = {
        name: np.mean([changed[chest, stretch].mean() for stretch in waves.slices(name)])
        for name in ("P", "QRS", "T")
    }
    assert shares["P"] == 0 and shares["QRS"] < 0.05 and shares["T"] > 0.5


def test_of_a_linear_model_all_is_found():
    pytest.importorskip("captum", reason="captum is not installed: pip install captum")
    pair = cropped(pair_of("T_inversion_V1_V4"), N_SAMPLES)
    case = measure(SumOfLead(), pair, PLACES["T_inversion_V1_V4"], "none")
    difference = (pair.with_sign - pair.without)[LEADS.index("V2")]
    assert case.rise == pytest.approx(difference.sum(), rel=1e-3)
    found = (case.with_sign - case.without)[case.changed].sum()
    assert found == pytest.approx(case.rise, rel=0.25)  # the medians of the two differ
    assert share(case.with_sign, case.textbook) > 0.3 and case.textbook.mean() < 0.1
    column = case.falls[LEADS.index("V2")]
    expected = [
        sum(difference[stretch].sum() for stretch in case.waves.slices(name))
        for name in ("P", "QRS", "ST", "T")
    ]
    np.testing.assert_allclose(column, expected, rtol=1e-3, atol=1e-2)
    assert np.abs(np.delete(case.falls, LEADS.index("V2"), axis=0)).max() < 1e-2
    assert agreement(case, case.with_sign - case.without) > agreement(case, -case.with_sign + case.without)


def test_intervals_are_of_means_and_of_ratios_of_means():
    assert interval(np.full(5, 0.25), None, 1) == "0.250 (0.250 to 0.250)"
    values = np.array([1.0, 2.0, 3.0])
    assert interval(values, 4 * values, 1) == "0.250 (0.250 to 0.250)"
    mean, low, high = map(float, re.findall(r"-?[\d.]+", interval(values, None, 1)))
    assert (mean, low, high) == (2.0, 1.0, 3.0)


def test_the_script_prints_every_sign(tmp_path, monkeypatch):
    pytest.importorskip("captum", reason="captum is not installed: pip install captum")
    rough = partial(attribution.integrated_gradients, max_steps=4)  # how it prints does not depend on them
    monkeypatch.setattr(attribution, "integrated_gradients", rough)
    flags = tiny(make_tiny_cohort(tmp_path / "ecgs"), "--n-samples", 1536, "--output-dir", tmp_path)
    run = run_folder_of(train_here("train_atten.py", *flags, "--cache-dir", tmp_path / "cache"))
    words = ["--run", run, "--pairs", 1, "--random", 1]
    outcome = run_here("benchmarks.studies.attribution", *words)
    assert outcome.returncode == 0, outcome.stderr
    for sign in SIGN_RATES:
        n_lines = sum(line.startswith(sign) for line in outcome.stdout.splitlines())
        assert n_lines == (2 if sign in PLACES else 1)
    assert "nan" not in outcome.stdout
