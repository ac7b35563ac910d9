"""The ECG on paper is true to scale, shows every sample of the right lead, and says only what it was told."""

import re
import time
import zlib

import matplotlib.pyplot
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from ecg.recording import LEADS
from reporting.figures.ecg_paper import MM_PER_INCH, PANELS, draw_ecg, save_ecg

PAGE_TEXT = [*LEADS, "II", "25 mm/s  10 mm/mV  500 Hz"]


def example_ecg(seconds=10.0, sampling_rate=500, amplitude=1.0):
    """R waves 0.08 s wide every 0.8 s over noise and offsets that tell the leads apart."""
    times = np.arange(round(seconds * sampling_rate)) / sampling_rate
    waves = amplitude * np.clip(1 - np.abs(times % 0.8 - 0.3) / 0.04, 0, None)
    noise = np.random.default_rng(0).normal(0, 0.02, (12, len(times)))
    return waves + noise + np.linspace(-0.5, 0.5, 12)[:, None]


def lines_of(figure, label):
    """The points of each line with that label, in mm on the printed page."""
    axes = figure.axes[0]
    points = [line.get_path().vertices for line in axes.patches if line.get_label() == label]
    return [axes.transData.transform(xy) / figure.dpi * MM_PER_INCH for xy in points]


def panels_of(figure):
    """Points in mm of the twelve leads, and those of the rhythm strip."""
    traces = {lead: lines_of(figure, lead) for lead in LEADS}
    assert {lead: len(lines) for lead, lines in traces.items()} == dict.fromkeys(LEADS, 1) | {"II": 2}
    return {lead: lines[0] for lead, lines in traces.items()}, traces["II"][1]


def texts_of(figure):
    (axes,) = figure.axes
    assert not axes.axison and not figure.texts and not axes.get_title()
    return [text.get_text() for text in axes.texts]


def test_page_is_a4_in_true_scale():
    figure = draw_ecg(example_ecg(), 500)
    np.testing.assert_allclose(figure.get_size_inches() * 25.4, (297, 210))
    leads, rhythm = panels_of(figure)
    for points in [*leads.values(), rhythm]:
        np.testing.assert_allclose(np.diff(points[:, 0]), 25 / 500, atol=1e-9)  # 25 mm a second
    signal = example_ecg()
    for lead, points in leads.items():
        shown = signal[LEADS.index(lead)][LEADS.index(lead) // 3 * 1250 :][:1250]
        np.testing.assert_allclose(np.ptp(points[:, 1]), 10 * np.ptp(shown))  # 10 mm a millivolt


def test_grid_has_lines_of_1_and_5_mm_that_meet_the_baselines():
    figure = draw_ecg(example_ecg(), 500)
    grids = {grid.get_label(): np.array(grid.get_segments()) for grid in figure.axes[0].collections}
    for step in (1, 5):
        ends = grids[f"grid of {step} mm"]
        level = ends[ends[:, 0, 1] == ends[:, 1, 1]][:, 0, 1]
        upright = ends[ends[:, 0, 0] == ends[:, 1, 0]][:, 0, 0]
        np.testing.assert_allclose(np.diff(level), step)
        np.testing.assert_allclose(np.diff(upright), step)
        assert {panel.y for panel in PANELS} <= set(level)
        assert {panel.x for panel in PANELS if panel.start in (0, 5)} <= set(upright)
        assert (ends >= 5).all() and (ends <= (292, 205)).all()  # printers leave out the page's edge


def test_each_panel_shows_its_lead_and_its_seconds():
    signal = example_ecg(seconds=12)
    leads, rhythm = panels_of(draw_ecg(signal, 500))
    for number, lead in enumerate(LEADS):
        column, row = divmod(number, 3)
        shown = signal[number, column * 1250 : (column + 1) * 1250]
        x, y = leads[lead].T
        assert len(y) == 1250
        np.testing.assert_allclose(x[0], leads["I"][0, 0] + column * 62.5)
        baseline = (159, 119, 79)[row]  # mm above the page's edge: the median lies on it
        np.testing.assert_allclose(y, baseline + 10 * (shown - np.median(shown)), atol=1e-9)
    shown = signal[1, :5000]
    np.testing.assert_allclose(rhythm[:, 1], 39 + 10 * (shown - np.median(shown)), atol=1e-9)
    np.testing.assert_allclose(rhythm[0, 0], leads["I"][0, 0])


def test_panels_are_in_the_order_of_the_leads():
    assert [panel.lead for panel in PANELS] == [*LEADS, "II"]
    assert [panel.start for panel in PANELS] == [0] * 3 + [2.5] * 3 + [5.0] * 3 + [7.5] * 3 + [0]
    assert PANELS[3].x_at(3.5) == PANELS[3].x + 25


@pytest.mark.parametrize("sampling_rate", [100, 257, 999.6])
def test_columns_share_no_sample_and_lose_none(sampling_rate):
    slices = [panel.samples(sampling_rate) for panel in PANELS[:12:3]]
    assert slices[0].start == 0
    assert [piece.stop for piece in slices[:-1]] == [piece.start for piece in slices[1:]]
    assert slices[-1].stop == PANELS[-1].samples(sampling_rate).stop == np.ceil(10 * sampling_rate)
    for panel, piece in zip(PANELS[:12:3], slices, strict=True):
        assert panel.start <= piece.start / sampling_rate < panel.start + 1 / sampling_rate


def test_calibration_is_1_mv_high_and_200_ms_wide_before_each_row():
    figure = draw_ecg(example_ecg(), 500)
    pulses = lines_of(figure, "calibration")
    assert [pulse[0, 1] for pulse in pulses] == pytest.approx([159, 119, 79, 39])
    for pulse in pulses:
        top = pulse[pulse[:, 1] > pulse[0, 1] + 1e-6]
        np.testing.assert_allclose(top[:, 1], pulse[0, 1] + 10)
        assert np.ptp(top[:, 0]) == pytest.approx(5)
        assert pulse[:, 0].max() < panels_of(figure)[0]["I"][0, 0]


def test_text_is_names_and_scale_and_what_the_caller_gave():
    assert texts_of(draw_ecg(example_ecg(), 500)) == PAGE_TEXT
    figure = draw_ecg(example_ecg(), 500.0, title="cost $x_1$.xml", notes=["V3: flat", "II: noise"])
    assert texts_of(figure) == [*PAGE_TEXT, "cost $x_1$.xml", "V3: flat", "II: noise"]


def test_many_notes_and_a_long_title_stay_on_the_page_above_the_grid():
    notes = [f"V{lead}: baseline wander of 0.8 mV" for lead in range(1, 7)]
    figure = draw_ecg(example_ecg(), 500, title="folder/" * 60 + "a.xml", notes=notes)
    title, *lines = texts_of(figure)[len(PAGE_TEXT) :]
    assert title.startswith("folder/folder/") and title.endswith("…")
    assert re.split(r"  ·\s+", " ".join(lines)) == notes  # joined, but all there
    lines = texts_of(draw_ecg(example_ecg(), 500, notes=["W" * 300, *notes * 5]))[len(PAGE_TEXT) :]
    assert len(lines) == 3 and lines[-1].endswith("…")
    for text in figure.axes[0].texts[len(PAGE_TEXT) :]:
        box = text.get_window_extent().transformed(figure.axes[0].transData.inverted())
        assert box.x0 >= 13 and box.x1 <= 284 and box.y0 >= 184 and box.y1 <= 208


@pytest.mark.parametrize("amplitude", [0.8, 1.3, 2.0])
def test_names_stand_beside_the_traces(amplitude):
    signal = np.roll(example_ecg(amplitude=amplitude), -110, axis=1)  # an R wave where V1's name would be
    figure = draw_ecg(signal, 500)
    axes = figure.axes[0]
    vertices = [line.get_path().vertices for line in axes.patches if line.get_label() in LEADS]
    points = np.concatenate([np.linspace(xy[:-1], xy[1:], 20).reshape(-1, 2) for xy in vertices])
    for text, panel in zip(axes.texts, PANELS, strict=False):
        box = text.get_tightbbox().transformed(axes.transData.inverted())
        assert not ((points > (box.x0, box.y0)) & (points < (box.x1, box.y1))).all(axis=1).any()
        assert panel.x < box.x0 < panel.x + 31 and panel.y + 6 < box.y0 < panel.y + 17


def test_short_recording_leaves_the_rest_blank():
    leads, rhythm = panels_of(draw_ecg(example_ecg(seconds=8.5), 500))
    assert len(leads["V1"]) == 1250 and len(leads["V6"]) == 500 and len(rhythm) == 4250
    assert leads["V6"][-1, 0] == rhythm[-1, 0] == pytest.approx(leads["I"][0, 0] + 25 * 8.498)


def test_large_amplitudes_run_over_other_rows_to_the_page_and_no_further(tmp_path):
    signal = example_ecg(amplitude=40)
    figure = draw_ecg(signal, 500)
    leads, _ = panels_of(figure)
    assert leads["aVF"][:, 1].max() > 210  # nothing is cut from the line; the page clips it
    page = np.asarray(figure.axes[0].bbox.extents) / figure.dpi * MM_PER_INCH
    np.testing.assert_allclose(page, (0, 0, 297, 210))
    assert all(line.get_clip_on() for line in figure.axes[0].patches)
    save_ecg(signal, 500, tmp_path / "large.png")
    pixels = np.asarray(Image.open(tmp_path / "large.png").convert("L"))
    column = round(10 * (leads["aVF"][0, 0] + 25 * 0.2))  # of aVF's first R wave, at 2.7 s
    assert (pixels[:1310, column - 12 : column + 12] < 80).any(axis=1).all()  # black up to the edge


def test_flat_leads_lie_on_the_baseline():
    leads, rhythm = panels_of(draw_ecg(np.full((12, 5000), 3.3, dtype=np.float32), 500))
    np.testing.assert_allclose(leads["V6"][:, 1], 79)
    np.testing.assert_allclose(rhythm[:, 1], 39)


def test_a_lead_that_was_not_recorded_has_no_trace():
    signal = example_ecg()
    signal[[1, 8]] = 0  # II and V3
    figure = draw_ecg(signal, 500, missing=("II", "V3"))
    assert not lines_of(figure, "II") and not lines_of(figure, "V3")
    assert all(len(lines_of(figure, lead)) == 1 for lead in set(LEADS) - {"II", "V3"})
    texts = texts_of(figure)
    assert texts.count("not recorded") == 3  # the rhythm strip is II too
    assert set(LEADS) <= set(texts)


def test_png_has_ten_pixels_a_mm(tmp_path):
    save_ecg(example_ecg(), 500, tmp_path / "ecg.PNG", title="ecg.xml")
    with Image.open(tmp_path / "ecg.PNG") as image:
        assert image.size == (2970, 2100)
        assert image.info["dpi"] == pytest.approx((254, 254), abs=0.1)
        pixels = np.asarray(image.convert("L"))
    dark = pixels[:, :275] < 80  # left of the traces, where only calibration pulses and text are
    rows = np.flatnonzero(dark[250:1880, 190:230].all(axis=1)) + 250
    tops = rows[np.diff(rows, prepend=0) > 1] / 10  # mm from the page's upper edge
    np.testing.assert_allclose(tops, [210 - y - 10 for y in (159, 119, 79, 39)], atol=0.3)
    assert [path.name for path in tmp_path.iterdir()] == ["ecg.PNG"]  # nothing left aside


def test_pdf_is_a_page_of_a4_with_every_sample(tmp_path):
    smooth = np.sin(np.arange(5000) / 500) * np.ones((12, 1))  # a curve that could do with fewer points
    save_ecg(smooth, 500, tmp_path / "ecg.pdf")
    content = (tmp_path / "ecg.pdf").read_bytes()
    assert content.startswith(b"%PDF") and len(re.findall(rb"/Type /Page\b", content)) == 1
    box = re.search(rb"/MediaBox \[([^\]]+)\]", content).group(1)
    np.testing.assert_allclose([float(edge) / 72 * 25.4 for edge in box.split()], (0, 0, 297, 210), atol=0.01)
    streams = [zlib.decompress(part) for part in re.findall(rb"stream\n(x.*?)endstream", content, re.DOTALL)]
    page = max(streams, key=len)
    assert len(re.findall(rb" l\n", page)) > 12 * 1249 + 4999


@pytest.mark.parametrize("name", ["ecg.svg", "ecg"])
def test_other_suffixes_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"expected \.png or \.pdf"):
        save_ecg(example_ecg(), 500, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (np.zeros((8, 5000)), r"shape \(8, 5000\); expected \(12, n_samples\)"),
        (np.zeros((12, 1499)), "1499 samples at 500 Hz; expected 3 s or more"),
        (np.full((12, 5000), np.nan), "not finite"),
    ],
)
def test_signals_that_cannot_be_drawn_are_refused(signal, message):
    with pytest.raises(ValueError, match=message):
        draw_ecg(signal, 500)


def test_drawing_is_quick_and_leaves_no_figure_open():
    before = matplotlib.pyplot.get_fignums()
    started = time.process_time()
    figure = draw_ecg(example_ecg(), 500)
    figure.canvas.draw()
    assert time.process_time() - started < 3  # 0.4 s on one core; with room for slow machines
    assert matplotlib.pyplot.get_fignums() == before
    assert isinstance(figure.canvas, FigureCanvasAgg) and figure.canvas.manager is None
