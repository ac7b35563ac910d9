"""The pictures of an explanation show the numbers, in colours that a grey print keeps apart."""

import io

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image
from torch import nn

from cohorts.synthetic import draw_patient, simulate_ecg
from recording import LEADS
from reporting.ecg_paper import MM_PER_INCH, PANELS
from reporting.explanations.figures import (
    AGAINST,
    FOR,
    band_strength,
    draw_attribution,
    draw_mean_beats,
    draw_occlusion,
)
from reporting.explanations.one_ecg import Explanation
from reporting.explanations.waves import SEGMENTS, find_waves

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
        "lead_segment_occlusion": np.outer(falls, [1, -1, 0, 2]),
        "waves": waves,
        "attention": None,
        "warnings": (),
    }
    return Explanation(**(values | changes))


def bands(axes, label):
    """Return the pieces of all bands of a kind, (n, 2, 2) in mm, but for the legend's."""
    pieces = [np.array(band.get_segments()) for band in axes.collections if band.get_label() == label]
    pieces = np.concatenate([piece.reshape(-1, 2, 2) for piece in pieces])
    return pieces[pieces[:, 0, 1] > 14]


def words_of(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def luminance(colour):
    return np.dot(to_rgb(colour), (0.299, 0.587, 0.114))


def test_colours_differ_on_a_grey_print():
    assert luminance(AGAINST) - luminance(FOR) > 0.15


def test_bands_lie_along_the_traces_that_speak(signal):
    figure = draw_attribution(signal, explanation_of(signal), start=START, label_name="PE")
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
    figure = draw_attribution(
        signal, explanation_of(signal, attribution=attribution), start=START, label_name="PE"
    )
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
    figure = draw_attribution(signal, explanation_of(signal), start=START, label_name="PE")
    greys = [patch for patch in figure.axes[0].artists if patch.get_label() == "unseen"]
    greys += [patch for patch in figure.axes[0].patches if patch.get_label() == "unseen"]
    edges = sorted((grey.get_x(), grey.get_x() + grey.get_width()) for grey in greys)
    strip, stop = PANELS[-1], (START + N_SAMPLES) / 500
    assert len(edges) == 8  # the first three leads, the last three, and the strip twice
    np.testing.assert_allclose(edges[:4], [(strip.x, strip.x_at(START / 500))] * 4)
    np.testing.assert_allclose(edges[4:], [(strip.x_at(stop), strip.x_at(10))] * 4)


def test_legend_title_notes_and_warnings_are_written(signal):
    explanation = explanation_of(signal, warnings=("no beats of one shape were found",))
    figure = draw_attribution(
        signal, explanation, start=START, label_name="P$E", title="a.xml", notes=["note"]
    )
    words = words_of(figure)
    for text in ("speaks for P$E", "speaks against P$E", "not seen by the model", "a.xml", "note"):
        assert text in words
    assert "no beats of one shape were found" in words
    assert "attention" not in words


def test_attention_is_an_area_below_the_strip(signal):
    attention = np.ones(N_SAMPLES)
    attention[1000] = 4.0
    figure = draw_attribution(
        signal, explanation_of(signal, attention=attention), start=START, label_name="PE"
    )
    (axes,) = figure.axes
    (area,) = [patch for patch in (*axes.patches, *axes.artists) if patch.get_label() == "attention"]
    corners = area.get_xy()
    top = corners[corners[:, 1].argmax()]
    assert top[0] == pytest.approx(PANELS[-1].x_at((START + 1000) / 500))
    assert (top[1] - 16) == pytest.approx(4 * (corners[5, 1] - 16))
    assert "attention" in words_of(figure)


def test_bands_are_seen_in_the_picture_under_the_black_trace(signal):
    figure = draw_attribution(signal, explanation_of(signal), start=START, label_name="PE")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=127)
    pixels = np.asarray(Image.open(buffer).convert("RGB")).astype(int)
    for colour in (FOR, AGAINST):
        near = np.abs(pixels - 255 * np.array(to_rgb(colour))).max(axis=2) < 10
        assert near[:900].sum() > 200  # above the legend


def test_mean_beats_are_true_to_scale_and_name_the_sum_of_each_lead(signal):
    explanation = explanation_of(signal)
    figure = draw_mean_beats(explanation, label_name="PE", title="a.xml")
    (axes,) = figure.axes
    np.testing.assert_allclose(figure.get_size_inches() * MM_PER_INCH, (297, 210))
    traces = {patch.get_label(): patch.get_path().vertices for patch in axes.patches}
    assert set(LEADS) <= set(traces)
    for row, lead in enumerate(LEADS):
        points = traces[lead]
        np.testing.assert_allclose(np.diff(points[:, 0]), 50 / 500)  # 50 mm/s
        np.testing.assert_allclose(np.ptp(points[:, 1]), 20 * np.ptp(explanation.waves.median.waveform[row]))
    words = words_of(figure)
    total = explanation.attribution[V2].sum()
    assert f"V2\n{total:+.2f}" in words and "I\n+0.00" in words
    assert any("+3.50" in text for text in words)
    assert "50 mm/s  20 mm/mV" in words and "speaks against PE" in words
    assert len(bands(axes, "for")) > 20 and len(bands(axes, "against")) > 20


def test_a_flat_lead_has_a_flat_beat(signal):
    flat = signal.copy()
    flat[V2] = 0
    figure = draw_mean_beats(explanation_of(flat), label_name="PE")
    (trace,) = [patch for patch in figure.axes[0].patches if patch.get_label() == "V2"]
    assert np.ptp(trace.get_path().vertices[:, 1]) == 0


def test_mean_beats_without_beats_are_refused(signal):
    with pytest.raises(ValueError, match="no beats of one shape"):
        draw_mean_beats(explanation_of(signal, waves=None), label_name="PE")


def test_bars_and_cells_are_the_numbers(signal):
    explanation = explanation_of(signal)
    figure = draw_occlusion(explanation, label_name="PE", title="a.xml")
    leads, segments, cells = figure.axes
    for axes, names, falls in (
        (leads, LEADS, explanation.lead_occlusion),
        (segments, SEGMENTS, explanation.segment_occlusion),
    ):
        np.testing.assert_allclose([bar.get_width() for bar in axes.patches], falls)
        assert [label.get_text() for label in axes.get_yticklabels()] == list(names)
        for bar, fall in zip(axes.patches, falls, strict=True):
            assert bar.get_facecolor()[:3] == pytest.approx(to_rgb(FOR if fall > 0 else AGAINST))
            assert bool(bar.get_hatch()) == (fall <= 0)
    numbers = [float(text.get_text()) for text in cells.texts]
    np.testing.assert_allclose(numbers, explanation.lead_segment_occlusion.ravel(), atol=0.006)
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["speaks for PE", "speaks against PE"]


def test_occlusion_without_beats_shows_the_leads_and_says_why(signal):
    explanation = explanation_of(
        signal, waves=None, segment_occlusion=None, lead_segment_occlusion=None, warnings=("no beats",)
    )
    figure = draw_occlusion(explanation, label_name="PE", title="a.xml")
    assert len(figure.axes) == 1
    assert figure.get_suptitle() == "a.xml\nno beats"


@pytest.mark.parametrize("start", [-1, 905])
def test_a_signal_that_does_not_hold_what_was_explained_is_refused(signal, start):
    with pytest.raises(ValueError, match="start: found samples"):
        draw_attribution(signal, explanation_of(signal), start=start, label_name="PE")


def test_what_explain_returns_can_be_drawn(signal):
    pytest.importorskip("captum", reason="captum is not installed: pip install captum")
    from reporting.explanations.one_ecg import explain

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(12, 2, 9, 4), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    seen = signal[:, START : START + N_SAMPLES]
    explanation = explain(model, seen, label=1, normalisation="recording")
    for figure in (
        draw_attribution(signal, explanation, start=START, label_name="MI"),
        draw_mean_beats(explanation, label_name="MI"),
        draw_occlusion(explanation, label_name="MI"),
    ):
        figure.canvas.draw()
