"""The pictures of an explanation show the numbers, in colours that a grey print keeps apart."""

import io

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image
from torch import nn

from ecg.recording import LEADS
from ecg.simulation import draw_patient, simulate_ecg
from ecg.waves import SEGMENTS, find_waves
from explanations.attribution import Explanation
from reporting.figures.attribution import (
    AGAINST,
    FOR,
    band_strength,
    draw_attribution,
    draw_beat_strip,
    draw_occlusion_bars,
)
from reporting.figures.ecg_paper import LAYOUT, MM_PER_INCH, PANELS

START, N_SAMPLES = 452, 4096
V1, V2, II = (LEADS.index(lead) for lead in ("V1", "V2", "II"))


@pytest.fixture(scope="module")
def signal():
    generator = np.random.default_rng(0)
    return simulate_ecg(draw_patient(generator, pe=False, signs={"sinus_tachycardia": 0}), generator)[0]


def explanation_of(signal, **changes):
    """Return an explanation in which T of V2 speaks for the label and QRS of V1 against it."""
    waves = find_waves(signal[:, START : START + N_SAMPLES])
    attribution = np.zeros((12, N_SAMPLES), np.float32)
    for t in waves.slices("T"):
        attribution[V2, t] = 0.01
    for qrs in waves.slices("QRS"):
        attribution[V1, qrs] = -0.01
    falls = np.linspace(-0.5, 0.6, 12)
    values = {
        "logit": 1.5,
        "baseline_logit": -2.0,
        "attribution": attribution,
        "completeness_gap": 0.0,
        "n_steps": 32,
        "lead_occlusion": falls,
        "segment_occlusion": np.array([0.1, -0.2, 0.3, 2.0]),
        "waves": waves,
        "attention": None,
        "warnings": (),
    }
    return Explanation(**(values | changes))


def bands(axes, label):
    """Return the pieces of all bands of a kind, (n, 2, 2) in mm."""
    pieces = [np.array(band.get_segments()) for band in axes.collections if band.get_label() == label]
    return np.concatenate([piece.reshape(-1, 2, 2) for piece in pieces])


def words_of(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def luminance(colour):
    return np.dot(to_rgb(colour), (0.299, 0.587, 0.114))


def test_colours_differ_on_a_grey_print():
    assert luminance(AGAINST) - luminance(FOR) > 0.15


def test_bands_lie_along_the_traces_that_speak(signal):
    figure = draw_attribution(signal, explanation_of(signal), start=START)
    (axes,) = figure.axes
    for label, lead, part in (("for", "V2", "T"), ("against", "V1", "QRS")):
        panel = PANELS[LEADS.index(lead)]
        pieces = bands(axes, label)
        assert len(pieces) > 50
        trace = {tuple(point) for point in panel.trace(signal, 500).round(6)}
        assert {tuple(point) for point in pieces.reshape(-1, 2).round(6)} <= trace
        times = panel.start + (pieces[:, 0, 0] - panel.x) / 25
        stretches = find_waves(signal[:, START : START + N_SAMPLES]).slices(part)
        inside = [any(s.start - 18 <= time * 500 - START <= s.stop + 18 for s in stretches) for time in times]
        assert all(inside)  # 18 samples: the smoothing's reach
    np.testing.assert_array_equal(bands(axes, "against"), bands(axes, "hollow"))


def test_the_rhythm_strip_has_the_band_of_its_lead(signal):
    attribution = np.zeros((12, N_SAMPLES))
    attribution[II, 2000:2100] = 1
    figure = draw_attribution(signal, explanation_of(signal, attribution=attribution), start=START)
    pieces = bands(figure.axes[0], "for")
    strip = PANELS[-1]
    on_strip = np.abs(pieces[:, 0, 1] - strip.y) < 25
    assert on_strip.all()  # at this time, II is shown in the strip alone
    assert pieces[:, :, 0].mean() == pytest.approx(strip.x_at((START + 2050) / 500), abs=0.3)


def test_strength_is_smooth_signed_and_one_at_the_widest():
    attribution = np.zeros((12, 1000))
    attribution[3, 400:460], attribution[5, 700:760] = 2.0, -2.0
    strength = band_strength(attribution)
    assert strength[3, 430] == pytest.approx(1, abs=0.01) and strength[5, 730] == pytest.approx(-1, abs=0.01)
    assert strength[3, 400] == pytest.approx(0.5, abs=0.05)
    assert not band_strength(np.zeros((12, 100))).any()


def test_what_the_model_did_not_see_is_grey(signal):
    figure = draw_attribution(signal, explanation_of(signal), start=START)
    greys = [patch for patch in figure.axes[0].artists if patch.get_label() == "unseen"]
    greys += [patch for patch in figure.axes[0].patches if patch.get_label() == "unseen"]
    edges = sorted((grey.get_x(), grey.get_x() + grey.get_width()) for grey in greys)
    strip, stop = PANELS[-1], (START + N_SAMPLES) / 500
    assert len(edges) == 8  # the first three leads, the last three, and the strip twice
    np.testing.assert_allclose(edges[:4], [(strip.x, strip.x_at(START / 500))] * 4)
    np.testing.assert_allclose(edges[4:], [(strip.x_at(stop), strip.x_at(10))] * 4)


def test_attention_is_an_area_below_the_strip(signal):
    attention = np.ones(N_SAMPLES)
    attention[1000] = 4.0
    figure = draw_attribution(signal, explanation_of(signal, attention=attention), start=START)
    (axes,) = figure.axes
    (area,) = [patch for patch in (*axes.patches, *axes.artists) if patch.get_label() == "attention"]
    corners = area.get_xy()
    top = corners[corners[:, 1].argmax()]
    assert top[0] == pytest.approx(PANELS[-1].x_at((START + 1000) / 500))
    assert (top[1] - 16) == pytest.approx(4 * (corners[5, 1] - 16))
    assert "attention" in words_of(figure)


def test_bands_are_seen_in_the_picture_under_the_black_trace(signal):
    figure = draw_attribution(signal, explanation_of(signal), start=START)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=127)
    pixels = np.asarray(Image.open(buffer).convert("RGB")).astype(int)
    for colour in (FOR, AGAINST):
        near = np.abs(pixels - 255 * np.array(to_rgb(colour))).max(axis=2) < 10
        assert near.sum() > 200


def test_mean_beats_are_true_to_scale(signal):
    explanation = explanation_of(signal)
    figure, gain = draw_beat_strip(explanation)
    (axes,) = figure.axes
    assert gain in (5, 10)
    np.testing.assert_allclose(
        figure.get_size_inches() * MM_PER_INCH, (axes.get_xlim()[1], axes.get_ylim()[1])
    )
    traces = {patch.get_label(): patch.get_path().vertices for patch in axes.patches}
    assert list(words_of(figure)) == [lead for row in zip(*LAYOUT, strict=True) for lead in row]
    for row, lead in enumerate(LEADS):
        points = traces[lead]
        np.testing.assert_allclose(np.diff(points[:, 0]), 25 / 500)  # 25 mm/s
        beat = explanation.waves.median.waveform[row, : len(points)]
        np.testing.assert_allclose(np.ptp(points[:, 1]), gain * np.ptp(beat))
    assert len(bands(axes, "for")) > 20 and len(bands(axes, "against")) > 20


def test_a_flat_lead_has_a_flat_beat(signal):
    flat = signal.copy()
    flat[V2] = 0
    figure, _ = draw_beat_strip(explanation_of(flat))
    (trace,) = [patch for patch in figure.axes[0].patches if patch.get_label() == "V2"]
    assert np.ptp(trace.get_path().vertices[:, 1]) == 0


def test_a_lead_that_was_not_recorded_has_neither_beat_nor_bar(signal):
    lacking = signal.copy()
    lacking[V2] = 0
    explanation = explanation_of(lacking)
    figure, _ = draw_beat_strip(explanation, missing=("V2",))
    drawn = {patch.get_label() for patch in figure.axes[0].patches}
    assert drawn & set(LEADS) == set(LEADS) - {"V2"}
    assert "not recorded" in [text.get_text() for text in figure.axes[0].texts]
    axes = draw_occlusion_bars(explanation, missing=("V2",)).axes[0]
    others = [number for number in range(12) if number != V2]
    np.testing.assert_allclose([bar.get_height() for bar in axes.patches], explanation.lead_occlusion[others])
    assert "V2" not in [label.get_text() for label in axes.get_xticklabels()]


def test_mean_beats_without_beats_are_refused(signal):
    with pytest.raises(ValueError, match="no beats of one shape"):
        draw_beat_strip(explanation_of(signal, waves=None))


@pytest.mark.parametrize("beats", [True, False])
def test_bars_are_the_numbers(signal, beats):
    explanation = explanation_of(signal, **({} if beats else {"waves": None, "segment_occlusion": None}))
    parts = [(LEADS, explanation.lead_occlusion)]
    if beats:
        parts.append((SEGMENTS, explanation.segment_occlusion))
    figure = draw_occlusion_bars(explanation)
    for axes, (names, falls) in zip(figure.axes, parts, strict=True):
        np.testing.assert_allclose([bar.get_height() for bar in axes.patches], falls)
        assert [label.get_text() for label in axes.get_xticklabels()] == list(names)
        for bar, fall in zip(axes.patches, falls, strict=True):
            assert bar.get_facecolor()[:3] == pytest.approx(to_rgb(FOR if fall > 0 else AGAINST))
            assert bool(bar.get_hatch()) == (fall <= 0)


@pytest.mark.parametrize("start", [-1, 905])
def test_a_signal_that_does_not_hold_what_was_explained_is_refused(signal, start):
    with pytest.raises(ValueError, match="start: found samples"):
        draw_attribution(signal, explanation_of(signal), start=start)


def test_what_explain_returns_can_be_drawn(signal):
    pytest.importorskip("captum", reason="captum is not installed: pip install captum")
    from explanations.attribution import explain

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(12, 2, 9, 4), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    seen = signal[:, START : START + N_SAMPLES]
    explanation = explain(model, seen, label=1, normalisation="recording")
    for figure in (
        draw_attribution(signal, explanation, start=START),
        draw_beat_strip(explanation)[0],
        draw_occlusion_bars(explanation),
    ):
        figure.canvas.draw()
