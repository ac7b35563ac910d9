"""Explanations against functions whose attributions are known, and planted waves."""

import math
import sys
import warnings

import numpy as np
import pytest
import torch
from explained_models import build, ecg
from torch import nn

from dataset.batches import normalise
from ecg.recording import LEADS
from ecg.simulation import draw_patient, simulate_ecg
from ecg.waves import SEGMENTS, find_waves
from explanations.attribution import (
    attention_of,
    attribution_of_beats,
    explain,
    integrated_gradients,
    lead_occlusion,
    model_input,
    segment_occlusion,
    straightened,
)
from models import MODELS
from models.resnet_with_encoder import sinusoidal_positions

pytest.importorskip("captum", reason="captum is not installed: pip install captum")

V2 = LEADS.index("V2")


class Weighted(nn.Module):
    """Logits (N, 2) of a known function of the weighted sum of all samples; the second is its negative."""

    def __init__(self, weights, function=lambda total: total):
        super().__init__()
        self.weights = nn.Parameter(torch.as_tensor(weights, dtype=torch.float32))
        self.function = function

    def reset_parameters(self):
        nn.init.normal_(self.weights)

    def forward(self, x):
        logit = self.function((x * self.weights).sum(dim=(1, 2)))
        return torch.stack([logit, -logit], dim=1)


def random_ecgs(n=1, n_samples=600, seed=0):
    return torch.randn(n, 12, n_samples, generator=torch.Generator().manual_seed(seed))


# ----------------------------------------------------------------------------------------------------
# Integrated gradients
# ----------------------------------------------------------------------------------------------------


def test_of_a_linear_model_the_attribution_is_weight_times_distance_from_the_median():
    weights = random_ecgs(seed=1)[0]
    signal = ecg(n_samples=1500)
    model = Weighted(weights.new_tensor(np.random.default_rng(1).normal(size=signal.shape)))
    explanation = explain(model, signal, label=0, normalisation="none")
    distance = signal - np.median(signal, axis=1, keepdims=True)
    np.testing.assert_allclose(
        explanation.attribution, model.weights.detach().numpy() * distance, rtol=1e-3, atol=2e-3
    )
    assert explanation.attribution.dtype == np.float32
    assert explanation.completeness_gap == pytest.approx(0, abs=1e-2)
    negative = explain(model, signal, label=1, normalisation="none")
    np.testing.assert_allclose(negative.attribution, -explanation.attribution, rtol=1e-5, atol=1e-7)


def test_of_a_square_the_integral_is_exact():
    # For (w x)², the gradient at a * x is 2 a (w x) w: its integral over a is (w x) w, times x.
    x = random_ecgs()[0]
    weights = random_ecgs(seed=1)[0]
    attribution, n_steps = integrated_gradients(
        Weighted(weights, torch.square), x, torch.zeros_like(x), label=0
    )
    np.testing.assert_allclose(attribution, (x * weights).sum() * weights * x, rtol=1e-3, atol=1e-3)
    assert n_steps == 32


def test_a_lead_offset_is_no_sign():
    signal = ecg(n_samples=1500)
    model = Weighted(np.random.default_rng(1).normal(size=signal.shape))
    shifted = signal + np.linspace(-1, 1, 12)[:, None]
    before, after = (
        explain(model, one, label=0, normalisation="none").attribution for one in (signal, shifted)
    )
    np.testing.assert_allclose(before, after, atol=1e-4)


def test_steps_are_doubled_until_the_attributions_are_complete():
    # A smooth step about half way, too narrow for 32 points
    x, weights = random_ecgs()[0], random_ecgs(seed=1)[0]
    scale = (x * weights).sum()
    model = Weighted(weights / scale, lambda total: torch.sigmoid(300 * (total - 0.5137)))
    attribution, n_steps = integrated_gradients(model, x, torch.zeros_like(x), label=0)
    assert n_steps > 32
    assert attribution.sum() == pytest.approx(1, abs=0.05)
    rough, _ = integrated_gradients(model, x, torch.zeros_like(x), label=0, max_steps=32)
    assert abs(rough.sum() - 1) > 0.05


def test_an_incomplete_attribution_is_said_in_words():
    signal = ecg(n_samples=1500)
    weights = np.zeros(signal.shape)
    weights[V2] = signal[V2] - np.median(signal[V2])
    weights /= (weights * weights).sum()
    _, baseline = model_input(Weighted(weights), signal, "none")
    zero = float((baseline * torch.as_tensor(weights)).sum())
    steep = Weighted(weights, lambda total: torch.sigmoid(1e5 * (total - zero - 0.5137)))
    with pytest.warns(
        UserWarning, match=r"with 64 steps add up to .* instead of the difference in logit, 1:"
    ):
        explanation = explain(steep, signal, label=0, normalisation="none", max_steps=64)
    assert len(explanation.warnings) == 1 and "do not trust" in explanation.warnings[0]
    assert abs(explanation.completeness_gap) > 0.05


@pytest.mark.parametrize("name", ["resnet18_with_atten_spectr", "resnet_with_rnn", "resnet_with_encoder"])
def test_attributions_of_the_models_add_up_to_the_difference_in_logit(name):
    model, signal = build(name), ecg()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explanation = explain(model, signal, label=0, normalisation="recording")
    x, baseline = model_input(model, signal, "recording")
    np.testing.assert_allclose(x, normalise(torch.tensor(signal).float()[None], "recording")[0])
    assert torch.equal(baseline.sort(dim=1).values[:, 0], baseline[:, 0])  # flat
    with torch.no_grad():
        logit, baseline_logit = (model(one[None]).item() for one in (x, baseline))
    assert explanation.logit == pytest.approx(logit, abs=1e-5)
    assert explanation.baseline_logit == pytest.approx(baseline_logit, abs=1e-5)
    difference = logit - baseline_logit
    assert explanation.attribution.sum() == pytest.approx(difference, abs=max(0.05 * abs(difference), 0.01))
    assert explanation.attribution.shape == x.shape


def test_a_gap_is_also_forgiven_where_the_logits_hardly_differ():
    x = random_ecgs()[0]
    _, n_steps = integrated_gradients(Weighted(torch.zeros(12, 600)), x, torch.zeros_like(x), label=0)
    assert n_steps == 32


# ----------------------------------------------------------------------------------------------------
# Occlusion
# ----------------------------------------------------------------------------------------------------


def test_lead_occlusion_of_a_linear_model_is_the_sum_of_the_lead():
    x, weights = random_ecgs()[0], random_ecgs(seed=1)[0]
    baseline = x.quantile(0.5, dim=1, keepdim=True).expand_as(x)
    falls = lead_occlusion(Weighted(weights), x, baseline, label=0)
    np.testing.assert_allclose(falls, (weights * (x - baseline)).sum(dim=1), rtol=1e-4, atol=1e-4)


def test_straightened_is_a_line_between_the_ends():
    x = torch.tensor([[0.0, 1, 5, 9, 4, 7, 7], [1, 1, 1, 1, 1, 1, 1]])
    line = straightened(x, [slice(1, 5), slice(6, 7)])
    np.testing.assert_allclose(line, [[0, 1, 2, 3, 4, 7, 7], [1] * 7])
    assert x[0, 2] == 5


def test_only_the_segment_that_a_model_looks_at_makes_its_logit_fall():
    signal = ecg(T_inversion_V1_V4=1)
    waves = find_waves(signal)
    weights = np.zeros(signal.shape)
    for stretch in waves.slices("T"):
        weights[V2, stretch] = -1
    model = Weighted(weights)
    x = torch.tensor(signal, dtype=torch.float32)
    falls = segment_occlusion(model, x, waves, label=0)
    assert falls.shape == (4,)
    assert falls[SEGMENTS.index("T")] > 1  # mV samples: the inverted T waves of V2
    np.testing.assert_allclose(falls[:3], 0, atol=0.2)  # the ends of ST are those of T


def test_an_ecg_without_beats_says_so_and_is_explained_nevertheless():
    noise = 0.3 * np.random.default_rng(0).standard_normal((12, 1500))
    with pytest.warns(UserWarning, match="no beats of one shape were found"):
        explanation = explain(Weighted(np.ones((12, 1500))), noise, label=0, normalisation="none")
    assert explanation.segment_occlusion is explanation.waves is None
    assert np.isfinite(explanation.lead_occlusion).all() and np.isfinite(explanation.attribution).all()
    with pytest.raises(ValueError, match="no beats"):
        attribution_of_beats(explanation)


def test_without_occlusion_only_that_is_missing():
    generator = np.random.default_rng(0)
    signal, _ = simulate_ecg(draw_patient(generator, pe=True), generator)
    weights = generator.standard_normal(signal.shape)
    whole = explain(Weighted(weights), signal, label=0, normalisation="none")
    without = explain(Weighted(weights), signal, label=0, normalisation="none", occlusion=False)
    assert without.lead_occlusion is without.segment_occlusion is None
    np.testing.assert_array_equal(without.attribution, whole.attribution)
    assert without.logit == whole.logit and without.waves is not None


# ----------------------------------------------------------------------------------------------------
# Attention
# ----------------------------------------------------------------------------------------------------


def test_attention_is_that_of_the_layer_averaged_over_queries():
    model, x = build(), random_ecgs(n_samples=1024, seed=2)[0]
    attention = attention_of(model, x)
    normed = model.attention.norm(model.trunk(x[None]))
    _, weights = model.attention.attention(normed, normed, normed, need_weights=True)  # (1, 32, 32)
    expected = 0.5 + 0.5 * 32 * weights[0].mean(dim=0).detach().numpy()  # half of it takes the residual path
    positions = attention[::32]
    np.testing.assert_allclose(positions / positions.mean(), expected, rtol=1e-4)
    assert attention.shape == (1024,) and attention.mean() == pytest.approx(1)
    middle = (positions[3] + positions[4]) / 2
    assert attention[3 * 32 + 16] == pytest.approx(middle)


def test_attention_finds_the_stretch_that_a_layer_looks_at():
    model = build()
    with torch.no_grad():
        attention = model.attention.attention
        attention.in_proj_bias.zero_()
        attention.in_proj_weight[: 2 * 512] = 4 * torch.eye(512).repeat(
            2, 1
        )  # q = k = 4 x: like looks at like
    x = 0.01 * random_ecgs(n_samples=2048, seed=2)[0]
    x[:, 1200:1264] += 3 * random_ecgs(n_samples=64, seed=3)[0]
    attended = attention_of(model, x)
    assert np.ptp(attended) > 0.1
    burst = np.abs(attended - np.median(attended))
    assert burst[1100:1400].max() == pytest.approx(burst[100:-100].max())


@pytest.mark.parametrize(
    ("name", "n_samples"), [("resnet_with_encoder", 1000), ("resnet18_with_atten_spectr", 2048)]
)
def test_other_attention_has_a_weight_for_every_sample(name, n_samples):
    model, x = build(name), random_ecgs(n_samples=n_samples)[0]
    before = model(x[None])
    attention = attention_of(model, x)
    assert attention.shape == (n_samples,) and (attention > 0).all()
    assert attention.mean() == pytest.approx(1)
    assert np.ptp(attention) > 1e-4
    assert torch.equal(model(x[None]), before)
    assert not any(module._forward_hooks for module in model.modules())


def test_attention_to_a_spectrogram_is_drawn_in_the_middle_of_its_windows():
    # Columns are windows of 64 samples, 32 apart; five layers halve their number, centred on every other one.
    attention = attention_of(build("resnet18_with_atten_spectr"), random_ecgs(n_samples=4096)[0])
    bends = 1 + np.flatnonzero(np.abs(np.diff(attention, 2)) > 1e-9)
    assert bends.tolist() == [32 + 1024 * position for position in range(4)]


def test_encoder_attention_is_the_rollout_of_its_layers():
    model, x = build("resnet_with_encoder"), random_ecgs(n_samples=1024)[0]
    rollout = np.eye(32)
    with torch.enable_grad():
        sequence = model.projection(model.trunk(x[None]))
        sequence = sequence + sinusoidal_positions(32, 32, x.device)
        for layer in model.encoder[:2]:
            normed = layer.norm1(sequence)
            weights = layer.self_attn(normed, normed, normed, need_weights=True)[1][0].detach().numpy()
            rollout = (weights + np.eye(32)) / 2 @ rollout
            sequence = layer(sequence)
    positions = attention_of(model, x)[::32]
    np.testing.assert_allclose(positions / positions.mean(), 32 * rollout.mean(axis=0), rtol=1e-4)


def test_a_model_without_attention_has_none():
    assert attention_of(MODELS["res_net_model"](n_labels=1, dropout=0).eval(), random_ecgs()[0]) is None


# ----------------------------------------------------------------------------------------------------
# The mean beat, and what is refused
# ----------------------------------------------------------------------------------------------------


def test_the_attribution_of_beats_peaks_where_the_model_looks():
    signal = ecg()
    weights = np.zeros(signal.shape)
    waves = find_waves(signal)
    for beat in waves.median.aligned:
        weights[V2, beat + 10] = 1
    explanation = explain(Weighted(weights), signal, label=0, normalisation="none")
    beat = attribution_of_beats(explanation)
    assert beat.shape == (12, 400)
    row, sample = np.unravel_index(np.abs(beat).argmax(), beat.shape)
    assert (row, sample) == (V2, 125 + 10)  # the centre of the QRS is sample 125
    distance = signal[V2] - np.median(signal[V2])
    assert beat[V2, 135] == pytest.approx(distance[waves.median.aligned + 10].mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("signal", "label", "message"),
    [
        (np.zeros((8, 600)), 0, r"shape \(8, 600\); expected \(12, n_samples\)"),
        (np.full((12, 600), math.nan), 0, "not finite"),
        (np.zeros((12, 600)), 2, "label: found 2, expected 0 to 1"),
        (np.zeros((12, 600)), -1, "label: found -1, expected 0 to 1"),
    ],
)
def test_what_cannot_be_explained_is_refused_in_one_line(signal, label, message):
    with pytest.raises(ValueError, match=message) as caught:
        explain(Weighted(np.ones((12, 600))), signal, label=label, normalisation="none")
    assert len(str(caught.value).splitlines()) == 1


def test_an_unknown_normalisation_is_named():
    with pytest.raises(ValueError, match="normalisation: found 'zscore', expected"):
        explain(Weighted(np.ones((12, 600))), np.zeros((12, 600)), label=0, normalisation="zscore")


def test_without_captum_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ImportError, match="pip install captum"):
        explain(Weighted(np.ones((12, 600))), np.zeros((12, 600)), label=0, normalisation="none")
