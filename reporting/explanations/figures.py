"""Explanations of a model as pictures: on ECG paper, over the mean beat, and as bars.

What speaks for the label is dark orange and solid, what speaks against it light blue and hollow or hatched:
told apart with colour-blindness, and on a grey print. The functions return a `Figure`, 254 dots an inch for
what lies on ECG paper and 150 for bars, which belongs to no window; `figure.savefig(path)` writes it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from scipy.ndimage import gaussian_filter1d

from recording import LEADS
from reporting.ecg_paper import (
    COARSE_GRID,
    DOTS_PER_INCH,
    FINE_GRID,
    FOOT_Y,
    GRID,
    GRID_LAYER,
    LAYOUT,
    MM_PER_INCH,
    MM_PER_MILLIVOLT,
    MM_PER_SECOND,
    NAME_SIZE,
    NOTE_SPACING,
    NOTES_Y,
    PANELS,
    POINTS_PER_MM,
    TEXT_LAYER,
    TEXT_SIZE,
    TITLE_SIZE,
    TITLE_Y,
    Panel,
    draw_ecg,
    draw_grid,
    draw_line,
    new_page,
)
from reporting.ecg_signs import AFTER, BEFORE, SAMPLING_RATE
from reporting.explanations.one_ecg import Explanation, attribution_of_beats
from reporting.explanations.waves import SEGMENTS

# Okabe and Ito, Color Universal Design, 2008; in grey, the first is the darker one
FOR, AGAINST = "#D55E00", "#56B4E9"
UNSEEN, ATTENTION = "#C8C8C8", "#7F7F7F"

BAND_LAYER = 2  # between the grid and the traces
WIDEST_BAND, NARROWEST_BAND = 3.0, 0.5  # mm; less than the trace and a rim of 0.1 mm would not be seen
HOLLOW = 0.5  # of the width of a band that speaks against
FULL_WIDTH = 0.995  # quantile of the absolute attributions whose band is the widest
SMOOTHING_MS = 12.0  # standard deviation; neighbouring samples alternate in sign
UNSEEN_REACH = (12.0, 16.0)  # mm below and above the baseline
ATTENTION_Y, ATTENTION_HEIGHT = 16.0, 8.0  # mm, below the rhythm strip
LEGEND_X, LEGEND_STEP, SAMPLE = 98.0, 48.0, 10.0  # mm

MAGNIFICATION = 2  # of the mean beats on a page of their own: 50 mm/s and 20 mm/mV
BEAT_ROWS, BEAT_LEFT, BEAT_STEP = (156.0, 103.0, 50.0), GRID[0] + 12.5, 67.5  # mm: baselines, columns
STRIP_WIDTH, STRIP_STEP = 86.0, 21.5  # mm: the mean beats on a part of a page, and their columns
STRIP_HEIGHT, STRIP_ROW = 68.0, 8.0  # mm: at most, and what a row has above its baseline at least
NEXT_QRS = 60  # samples, 120 ms ahead of the next beat's centre, where a strip of fast beats ends


# ----------------------------------------------------------------------------------------------------
# On ECG paper
# ----------------------------------------------------------------------------------------------------


def draw_attribution(
    signal: np.ndarray,
    explanation: Explanation,
    *,
    start: int,
    label_name: str,
    title: str = "",
    notes: Sequence[str] = (),
) -> Figure:
    """Draw an ECG on ECG paper, with a band along the traces that is as wide as the attribution is large.

    What the model did not see is grey. Where it has attention, a curve below the rhythm strip shows that.

    Parameters
    ----------
    signal : ndarray of shape (12, n_samples), in mV at 500 Hz
        The whole ECG, 8 s or more, of which the model saw `explanation.attribution.shape[1]` samples.
    start : int, the first of these
    label_name : such as "PE"
    title, notes : as in `reporting.ecg_paper.draw_ecg`; the explanation's warnings follow the notes

    Raises
    ------
    ValueError
        A signal that does not hold what was explained, or that `draw_ecg` refuses.
    """
    stop = start + explanation.attribution.shape[1]
    if not 0 <= start < stop <= np.shape(signal)[1]:
        raise ValueError(
            f"start: found samples {start} to {stop} explained of a signal of {np.shape(signal)[1]}, "
            "expected the whole ECG and the first sample that the model saw"
        )
    figure = draw_ecg(signal, SAMPLING_RATE, title=title, notes=[*notes, *explanation.warnings])
    (axes,) = figure.axes
    strengths = np.zeros(np.shape(signal))
    strengths[:, start:stop] = band_strength(explanation.attribution)
    for panel in PANELS:
        strength = strengths[LEADS.index(panel.lead), panel.samples(SAMPLING_RATE)]
        _draw_band(axes, panel.trace(signal, SAMPLING_RATE), strength)
        _draw_unseen(axes, panel, start / SAMPLING_RATE, stop / SAMPLING_RATE)
    if explanation.attention is not None:
        _draw_attention(axes, explanation.attention, start)
    _draw_legend(axes, label_name)
    axes.add_patch(Rectangle((GRID[2] - 46, FOOT_Y - 0.4), 5, 3, color=UNSEEN, linewidth=0))
    axes.text(GRID[2] - 39.5, FOOT_Y, "not seen by the model", fontsize=TEXT_SIZE)
    return figure


def band_strength(attribution: np.ndarray) -> np.ndarray:
    """Return the attribution, (12, n), smoothed over time and divided by what gets the widest band."""
    smooth = gaussian_filter1d(attribution, SMOOTHING_MS * SAMPLING_RATE / 1000, axis=1)
    return smooth / (np.quantile(np.abs(smooth), FULL_WIDTH) or 1.0)


def _draw_band(axes: Axes, trace: np.ndarray, strength: np.ndarray) -> None:
    """Draw a band along a trace, (n, 2) in mm, of -1 to 1 times the widest; a strength below 0 is hollow."""
    pieces = np.stack([trace[:-1], trace[1:]], axis=1)
    strength = strength[: len(pieces)].clip(-1, 1)
    widths = WIDEST_BAND * np.abs(strength)
    visible = widths >= NARROWEST_BAND
    against, favour = visible & (strength < 0), visible & (strength > 0)
    bands = (
        (against, AGAINST, 1.0, "against"),
        (against, "white", HOLLOW, "hollow"),
        (favour, FOR, 1.0, "for"),
    )
    for chosen, colour, share, label in bands:
        lines = LineCollection(
            pieces[chosen],
            colors=colour,
            linewidths=share * POINTS_PER_MM * widths[chosen],
            zorder=BAND_LAYER,
        )
        lines.set_capstyle("round")
        lines.set_label(label)
        axes.add_collection(lines, autolim=False)


def _draw_unseen(axes: Axes, panel: Panel, start: float, stop: float) -> None:
    """Lay grey behind what of a panel lies before `start` or after `stop`, in s."""
    below, above = UNSEEN_REACH
    end = panel.start + panel.seconds
    for first, last in ((panel.start, min(start, end)), (max(stop, panel.start), end)):
        if last > first:
            corner, width = (panel.x_at(first), panel.y - below), MM_PER_SECOND * (last - first)
            grey = Rectangle(corner, width, below + above, color=UNSEEN, alpha=0.5, linewidth=0)
            grey.set(zorder=GRID_LAYER + 0.5, label="unseen")
            axes.add_artist(grey)


def _draw_attention(axes: Axes, attention: np.ndarray, start: int) -> None:
    """Draw the attention as an area below the rhythm strip, its maximum at full height."""
    rhythm = PANELS[-1]
    x = rhythm.x_at((start + np.arange(len(attention))) / SAMPLING_RATE)
    heights = ATTENTION_HEIGHT * attention / attention.max()
    corners = np.column_stack([[x[0], *x, x[-1]], ATTENTION_Y + np.array([0, *heights, 0])])
    axes.add_artist(
        Polygon(corners, color=ATTENTION, alpha=0.7, linewidth=0, zorder=BAND_LAYER, label="attention")
    )
    axes.text(GRID[0] + 1, ATTENTION_Y + 0.5, "attention", fontsize=TEXT_SIZE, zorder=TEXT_LAYER)


def _draw_legend(axes: Axes, label_name: str) -> None:
    for number, (sign, words) in enumerate(((1, "for"), (-1, "against"))):
        x = LEGEND_X + number * LEGEND_STEP
        wedge = np.column_stack([np.linspace(x, x + SAMPLE, 40), np.full(40, FOOT_Y + 1)])
        _draw_band(axes, wedge, sign * np.linspace(0, 0.9, 40))
        words = f"speaks {words} {label_name}"
        axes.text(x + SAMPLE + 3, FOOT_Y, words, fontsize=TEXT_SIZE, zorder=TEXT_LAYER, parse_math=False)


# ----------------------------------------------------------------------------------------------------
# Mean beats
# ----------------------------------------------------------------------------------------------------


def draw_mean_beats(explanation: Explanation, *, label_name: str, title: str = "") -> Figure:
    """Draw the median beat of each lead with the mean attribution of the beats that it is of.

    On a page like that of `draw_ecg`, at 50 mm/s and 20 mm/mV. Beside a lead's name stands the sum of its
    attributions in the whole ECG, in logits.

    Raises
    ------
    ValueError
        No beats were found.
    """
    strengths = band_strength(attribution_of_beats(explanation))
    beat = explanation.waves.median
    figure, axes = new_page()
    draw_grid(axes)
    times = (np.arange(beat.waveform.shape[1]) - BEFORE) / SAMPLING_RATE
    for column, leads in enumerate(LAYOUT):
        for lead, y in zip(leads, BEAT_ROWS, strict=True):
            row, x = LEADS.index(lead), BEAT_LEFT + column * BEAT_STEP
            millivolts = np.nan_to_num(beat.waveform[row])  # nan where the lead is flat
            trace = np.column_stack([
                x + MAGNIFICATION * MM_PER_SECOND * (times - times[0]),
                y + MAGNIFICATION * MM_PER_MILLIVOLT * millivolts,
            ])  # fmt: skip
            _draw_band(axes, trace, strengths[row])
            draw_line(axes, trace, lead)
            name = f"{lead}\n{explanation.attribution[row].sum():+.2f}"
            axes.text(x - 12, y + 15, name, fontsize=NAME_SIZE, fontweight="bold", zorder=TEXT_LAYER)
    scale = f"{MAGNIFICATION * MM_PER_SECOND:g} mm/s  {MAGNIFICATION * MM_PER_MILLIVOLT:g} mm/mV"
    change = explanation.logit - explanation.baseline_logit
    note = (
        f"median of {len(beat.aligned)} beats of {len(beat.beats)}, their mean attribution as a band; "
        f"the leads' sums make up what the waves add to the logit, {change:+.2f}"
    )
    for y, text, size in (
        (TITLE_Y, title, TITLE_SIZE),
        (NOTES_Y, note, TEXT_SIZE),
        (FOOT_Y, scale, TEXT_SIZE),
    ):
        axes.text(GRID[0], y, text, fontsize=size, zorder=TEXT_LAYER, parse_math=False)
    for row, warning in enumerate(explanation.warnings, 1):
        axes.text(GRID[0], NOTES_Y - row * NOTE_SPACING, warning, fontsize=TEXT_SIZE, zorder=TEXT_LAYER)
    _draw_legend(axes, label_name)
    return figure


def draw_beat_strip(explanation: Explanation) -> tuple[Figure, float]:
    """Draw the mean beats as `draw_mean_beats` does, without text but the leads' names, on a part of a page.

    At 25 mm/s and 10 mm/mV, or at 5 mm/mV where the beats are too high for `STRIP_HEIGHT`.

    Returns
    -------
    figure : Figure, in its true size
    millimetres : float, a millivolt

    Raises
    ------
    ValueError
        No beats were found.
    """
    strengths = band_strength(attribution_of_beats(explanation))
    rr = np.diff(explanation.waves.beats).mean()
    n_shown = min(BEFORE + AFTER, BEFORE + round(rr) - NEXT_QRS)
    waveform = np.nan_to_num(explanation.waves.median.waveform[:, :n_shown])  # nan where the lead is flat
    gain = MM_PER_MILLIVOLT
    above, below = _rows_of_beats(waveform, gain)
    if sum(above) + sum(below) > STRIP_HEIGHT:
        gain /= 2
        above, below = _rows_of_beats(waveform, gain)
    height = sum(above) + sum(below)
    figure, axes = _strip(height)
    y = height
    for row in range(len(above)):
        y -= above[row]
        for column, leads in enumerate(LAYOUT):
            number, x = LEADS.index(leads[row]), column * STRIP_STEP + 1.0
            times = np.arange(waveform.shape[1]) / SAMPLING_RATE
            trace = np.column_stack([x + MM_PER_SECOND * times, y + gain * waveform[number]])
            _draw_band(axes, trace, strengths[number])
            draw_line(axes, trace, leads[row])
            axes.text(x - 0.5, y + 4, leads[row], fontsize=TEXT_SIZE, fontweight="bold", zorder=TEXT_LAYER)
        y -= below[row]
    return figure, gain


def _rows_of_beats(waveform: np.ndarray, gain: float) -> tuple[list[float], list[float]]:
    """Return what each row of leads takes above and below its baseline at a gain in mm/mV, in whole mm."""
    rows = [[LEADS.index(lead) for lead in leads] for leads in zip(*LAYOUT, strict=True)]
    above = [max(STRIP_ROW, np.ceil(gain * waveform[row].max() + WIDEST_BAND / 2)) for row in rows]
    below = [np.ceil(gain * -waveform[row].min() + WIDEST_BAND / 2) for row in rows]
    return above, below


def _strip(height: float) -> tuple[Figure, Axes]:
    """Return ECG paper of this height, in mm, and its axes in mm."""
    figure = Figure(figsize=(STRIP_WIDTH / MM_PER_INCH, height / MM_PER_INCH), dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, STRIP_WIDTH), ylim=(0, height))
    axes.set_axis_off()
    for step, colour, width in ((1, FINE_GRID, 0.1), (5, COARSE_GRID, 0.15)):
        upright = [((x, 0), (x, height)) for x in np.arange(0, STRIP_WIDTH + 0.5, step)]
        level = [((0, y), (STRIP_WIDTH, y)) for y in np.arange(0, height + 0.5, step)]
        lines = LineCollection(upright + level, colors=colour, linewidths=width * POINTS_PER_MM)
        lines.set(zorder=GRID_LAYER, snap=True)
        axes.add_collection(lines, autolim=False)
    return figure, axes


# ----------------------------------------------------------------------------------------------------
# Bars
# ----------------------------------------------------------------------------------------------------


def draw_occlusion(explanation: Explanation, *, label_name: str, title: str = "") -> Figure:
    """Draw how much the logit falls without each lead, without each segment, and without one in a lead.

    Where no beats were found, the leads stand alone and the title says why.
    """
    with_segments = explanation.segment_occlusion is not None
    figure = Figure(figsize=(10 if with_segments else 5, 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 3 if with_segments else 1, squeeze=False)[0]
    _draw_bars(panels[0], LEADS, explanation.lead_occlusion, "without a lead")
    panels[0].set_xlabel("fall of the logit")
    if with_segments:
        _draw_bars(panels[1], SEGMENTS, explanation.segment_occlusion, "without a part of all beats")
        panels[1].set_xlabel("fall of the logit")
        _draw_cells(panels[2], explanation.lead_segment_occlusion)
    words = [title, *explanation.warnings]
    figure.suptitle("\n".join(word for word in words if word), fontsize=TITLE_SIZE, parse_math=False)
    samples = [
        Rectangle((0, 0), 1, 1, facecolor=colour, edgecolor="black", linewidth=0.5, hatch=hatch)
        for colour, hatch in ((FOR, None), (AGAINST, "///"))
    ]
    names = [f"speaks for {label_name}", f"speaks against {label_name}"]
    figure.legend(samples, names, loc="outside lower center", ncols=2, frameon=False)
    return figure


def draw_occlusion_bars(explanation: Explanation) -> Figure:
    """Draw how much the logit falls without each lead and without each segment, for a part of a page."""
    figure = Figure(figsize=(3.9, 0.9), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    falls = [(LEADS, explanation.lead_occlusion)]
    if explanation.segment_occlusion is not None:
        falls.append((SEGMENTS, explanation.segment_occlusion))
    ratios = [len(names) for names, _ in falls]
    panels = figure.subplots(1, len(falls), squeeze=False, width_ratios=ratios, sharey=True)[0]
    for axes, (names, values) in zip(panels, falls, strict=True):
        _colour(axes.bar(names, values, edgecolor="black", linewidth=0.4), values)
        axes.axhline(0, color="black", linewidth=0.6)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.tick_params(axis="x", length=0, labelsize=6)
        axes.tick_params(axis="y", length=2, labelsize=6)
    return figure


def _draw_bars(axes: Axes, names: Sequence[str], falls: np.ndarray, heading: str) -> None:
    _colour(axes.barh(names, falls, edgecolor="black", linewidth=0.5), falls)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_title(heading, fontsize=10)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _colour(bars: Sequence[Rectangle], falls: np.ndarray) -> None:
    for bar, fall in zip(bars, falls, strict=True):
        bar.set_facecolor(FOR if fall > 0 else AGAINST)
        bar.set_hatch(None if fall > 0 else "///")


def _draw_cells(axes: Axes, falls: np.ndarray) -> None:
    """Draw a cell with its number for each lead and segment, (12, 4), the deeper the colour the larger."""
    largest = np.abs(falls).max() or 1.0
    for row, column in np.ndindex(falls.shape):
        fall = falls[row, column]
        cell = Rectangle((column, row), 1, 1, facecolor=FOR if fall > 0 else AGAINST, linewidth=0)
        cell.set_alpha(0.85 * abs(fall) / largest)
        axes.add_patch(cell)
        axes.text(column + 0.5, row + 0.5, f"{fall:+.2f}", ha="center", va="center", fontsize=8)
    axes.set(xlim=(0, falls.shape[1]), ylim=(falls.shape[0], 0))
    axes.set_xticks(np.arange(falls.shape[1]) + 0.5, SEGMENTS)
    axes.set_yticks(np.arange(falls.shape[0]) + 0.5, LEADS)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("without a part of one lead", fontsize=10)
