"""An explanation of one ECG as pictures: on ECG paper, over the mean beat, and as bars.

What speaks for the label is dark orange and solid, what speaks against it light blue and hollow or hatched:
distinct with colour-blindness and in a grey print. The functions return a `Figure` without a window, of 254
dots per inch on ECG paper and 150 for bars; `figure.savefig(path)` writes it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from scipy.ndimage import gaussian_filter1d

from ecg.beats import AFTER, BEFORE
from ecg.recording import LEADS, SAMPLING_RATE
from ecg.waves import SEGMENTS
from explanations.attribution import Explanation, attribution_of_beats
from reporting.figures.ecg_paper import (
    GRID,
    GRID_LAYER,
    LAYOUT,
    MM_PER_MILLIVOLT,
    MM_PER_SECOND,
    PANELS,
    POINTS_PER_MM,
    TEXT_LAYER,
    TEXT_SIZE,
    Panel,
    draw_absence,
    draw_ecg,
    draw_grid,
    draw_line,
    new_paper,
)

# Okabe and Ito, Color Universal Design, 2008; printed in grey, the first is the darker one
FOR, AGAINST = "#D55E00", "#56B4E9"
UNSEEN, ATTENTION = "#C8C8C8", "#7F7F7F"

BAND_LAYER = 2  # between the grid and the traces
WIDEST_BAND, NARROWEST_BAND = 3.0, 0.5  # mm; a band narrower than the trace and a rim of 0.1 mm is invisible
HOLLOW = 0.5  # share of the width of a band that speaks against
FULL_WIDTH = 0.995  # quantile of the absolute attributions whose band is the widest
SMOOTHING_MS = 12.0  # standard deviation; neighbouring samples alternate in sign
UNSEEN_REACH = (12.0, 16.0)  # mm below and above the baseline
ATTENTION_Y, ATTENTION_HEIGHT = 16.0, 8.0  # mm, below the rhythm strip

STRIP_WIDTH, STRIP_STEP = 86.0, 21.5  # mm: the mean beats on a part of a page, and their columns
STRIP_HEIGHT, STRIP_ROW = 68.0, 8.0  # mm: the most in all, and the least that a row has above its baseline
NEXT_QRS = 60  # samples, 120 ms before the next beat's centre, where a strip of fast beats ends


# ----------------------------------------------------------------------------------------------------
# On ECG paper
# ----------------------------------------------------------------------------------------------------


def draw_attribution(
    signal: np.ndarray, explanation: Explanation, *, start: int, missing: Collection[str] = ()
) -> Figure:
    """Draw an ECG on ECG paper, with a band along the traces that is as wide as the attribution is large.

    What the model did not see is grey. A curve below the rhythm strip shows its attention, if it has any.

    Parameters
    ----------
    signal : ndarray of shape (12, n_samples), in mV at 500 Hz
        The whole ECG, 8 s or more, of which the model saw `explanation.attribution.shape[1]` samples.
    start : int, the first of these
    missing : leads that the recording lacks: nothing is attributed to their zeros, and they are not drawn.

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
    figure = draw_ecg(signal, SAMPLING_RATE, missing=missing)
    (axes,) = figure.axes
    strengths = np.zeros(np.shape(signal))
    strengths[:, start:stop] = band_strength(explanation.attribution)
    for panel in PANELS:
        strength = strengths[LEADS.index(panel.lead), panel.samples(SAMPLING_RATE)]
        _draw_band(axes, panel.trace(signal, SAMPLING_RATE), strength)
        _draw_unseen(axes, panel, start / SAMPLING_RATE, stop / SAMPLING_RATE)
    if explanation.attention is not None:
        _draw_attention(axes, explanation.attention, start)
    return figure


def band_strength(attribution: np.ndarray) -> np.ndarray:
    """Return the attribution, (12, n), smoothed over time, relative to that with the widest band."""
    smooth = gaussian_filter1d(attribution, SMOOTHING_MS * SAMPLING_RATE / 1000, axis=1)
    return smooth / (np.quantile(np.abs(smooth), FULL_WIDTH) or 1.0)


def _draw_band(axes: Axes, trace: np.ndarray, strength: np.ndarray) -> None:
    """Draw a band along a trace, (n, 2) in mm, for strengths from -1 to 1; below 0 it is hollow."""
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
        linewidths = share * POINTS_PER_MM * widths[chosen]
        lines = LineCollection(pieces[chosen], colors=colour, linewidths=linewidths, zorder=BAND_LAYER)
        lines.set_capstyle("round")
        lines.set_label(label)
        axes.add_collection(lines, autolim=False)


def _draw_unseen(axes: Axes, panel: Panel, start: float, stop: float) -> None:
    """Shade the part of a panel before `start` or after `stop`, in s."""
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
    style = {"color": ATTENTION, "alpha": 0.7, "linewidth": 0, "zorder": BAND_LAYER}
    axes.add_artist(Polygon(corners, label="attention", **style))
    axes.text(GRID[0] + 1, ATTENTION_Y + 0.5, "attention", fontsize=TEXT_SIZE, zorder=TEXT_LAYER)


# ----------------------------------------------------------------------------------------------------
# Mean beats
# ----------------------------------------------------------------------------------------------------


def draw_beat_strip(explanation: Explanation, missing: Collection[str] = ()) -> tuple[Figure, float]:
    """Draw the median beat of each lead, except those missing, with the mean attribution of the beats in it.

    On ECG paper that is a part of a page, at 25 mm/s and 10 mm/mV, or at 5 mm/mV where the beats are too high
    for `STRIP_HEIGHT`.

    Returns
    -------
    figure : Figure, in its true size
    gain : float, in mm/mV

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
    figure, axes = new_paper(STRIP_WIDTH, height)
    draw_grid(axes, 0, 0, STRIP_WIDTH, height)
    times, y = np.arange(waveform.shape[1]) / SAMPLING_RATE, height
    for row in range(len(above)):
        y -= above[row]
        for column, leads in enumerate(LAYOUT):
            number, x = LEADS.index(leads[row]), column * STRIP_STEP + 1.0
            trace = np.column_stack([x + MM_PER_SECOND * times, y + gain * waveform[number]])
            if leads[row] in missing:
                draw_absence(axes, x, y)
            else:
                _draw_band(axes, trace, strengths[number])
                draw_line(axes, trace, leads[row])
            axes.text(x - 0.5, y + 4, leads[row], fontsize=TEXT_SIZE, fontweight="bold", zorder=TEXT_LAYER)
        y -= below[row]
    return figure, gain


def _rows_of_beats(waveform: np.ndarray, gain: float) -> tuple[list[float], list[float]]:
    """Return the whole mm that each row of leads needs above and below its baseline, at a gain in mm/mV."""
    rows = [[LEADS.index(lead) for lead in leads] for leads in zip(*LAYOUT, strict=True)]
    above = [max(STRIP_ROW, np.ceil(gain * waveform[row].max() + WIDEST_BAND / 2)) for row in rows]
    below = [np.ceil(gain * -waveform[row].min() + WIDEST_BAND / 2) for row in rows]
    return above, below


# ----------------------------------------------------------------------------------------------------
# Bars
# ----------------------------------------------------------------------------------------------------


def draw_occlusion_bars(explanation: Explanation, missing: Collection[str] = ()) -> Figure:
    """Draw how much the logit falls without each lead and without each segment, for a part of a page.

    A lead that is missing has no bar.
    """
    figure = Figure(figsize=(3.9, 0.9), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    recorded = [number for number, lead in enumerate(LEADS) if lead not in missing]
    falls = [([LEADS[number] for number in recorded], explanation.lead_occlusion[recorded])]
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


def _colour(bars: Sequence[Rectangle], falls: np.ndarray) -> None:
    for bar, fall in zip(bars, falls, strict=True):
        bar.set_facecolor(FOR if fall > 0 else AGAINST)
        bar.set_hatch(None if fall > 0 else "///")
