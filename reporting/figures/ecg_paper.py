"""A 12-lead ECG on ECG paper, as cardiologists read it: 25 mm/s and 10 mm/mV on a page of A4, at true scale.

Three rows of four leads, 2.5 s each and consecutive in time, above a rhythm strip of lead II over 10 s. The
one axes of the figure spans the page and counts in mm from its lower left corner; `PANELS` holds the place of
every lead on it, so that another drawing can be laid over the same leads. The only text is the leads' names,
the scale, and the caller's title and notes.
"""

import math
import textwrap
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Polyline

from ecg.recording import LEADS, LEAST_SECONDS, one_line
from runtime.atomic_files import write_atomically

MM_PER_SECOND = 25.0
MM_PER_MILLIVOLT = 10.0
MM_PER_INCH = 25.4
POINTS_PER_MM = 72 / MM_PER_INCH
DOTS_PER_INCH = 254  # 10 pixels per mm: every line of the grid falls on whole pixels

# All positions in mm from the lower left corner of the page
PAGE = (297.0, 210.0)  # A4, landscape
GRID = (13.5, 14.0, 283.5, 184.0)  # left, bottom, right, top; whole squares of 5 mm
ROWS = (159.0, 119.0, 79.0, 39.0)  # baselines, on lines of 5 mm; the last is the rhythm strip
TRACE_LEFT = GRID[0] + 15.0  # left of it stands the calibration pulse
TITLE_Y, NOTES_Y, FOOT_Y = 201.0, 196.6, 8.0
NOTE_LINES, NOTE_SPACING = 3, 3.9

LAYOUT = (LEADS[:3], LEADS[3:6], LEADS[6:9], LEADS[9:])  # the columns
RHYTHM_LEAD = "II"
NOT_RECORDED = "not recorded"
COLUMN_SECONDS, PAGE_SECONDS = 2.5, 10.0
CALIBRATION_MILLIVOLTS, CALIBRATION_SECONDS = 1.0, 0.2

SEPARATOR_REACH = (3.0, 7.0)  # mm above and below the baseline

FINE_GRID, COARSE_GRID, SEPARATOR = "#F9D3D3", "#EE9FA2", "#8C8C8C"
TRACE_WIDTH = 0.3 * POINTS_PER_MM
NAME_SIZE, TITLE_SIZE, TEXT_SIZE = 10, 11, 8.5  # points
NAME_HEIGHT, CHARACTER_WIDTH = 3.6, 2.9  # mm that a name in NAME_SIZE takes, with a little space
NAME_SHIFTS = (1.0, 2.5, 4.0, 5.5, 7.0, 9.0, 11.0, 14.0, 18.0, 24.0, 30.0)  # mm from the trace's beginning
NAME_HEIGHTS = (10.0, 11.5, 13.0, 8.5, 14.5, 16.0)  # mm above the baseline, in the order of preference
GRID_LAYER, TRACE_LAYER, TEXT_LAYER = 1, 3, 4  # zorder; 2 is free for colour behind the traces


@dataclass(frozen=True)
class Panel:
    """Where a piece of one lead lies on the page.

    Attributes
    ----------
    lead : str, one of `LEADS`
    start, seconds : float, in s
        The piece shows the recording from `start`, included, to `start + seconds`, excluded.
    x, y : float, in mm from the lower left corner of the page
        The piece's beginning and its baseline.
    """

    lead: str
    start: float
    seconds: float
    x: float
    y: float

    def samples(self, sampling_rate: float) -> slice:
        """Return which samples of a recording of this rate, in Hz, the panel shows."""
        ends = (self.start * sampling_rate, (self.start + self.seconds) * sampling_rate)
        return slice(*(math.ceil(end - 1e-6) for end in ends))  # 1e-6: whole numbers may come out too large

    def x_at(self, time: float | np.ndarray) -> float | np.ndarray:
        """Return the page's x, in mm, of a time of the recording, in s."""
        return self.x + MM_PER_SECOND * (time - self.start)

    def trace(self, signal: np.ndarray, sampling_rate: float) -> np.ndarray:
        """Return the line through all samples that the panel shows.

        Its median lies on the baseline: an electrocardiograph removes the offset with a high-pass filter.

        Parameters
        ----------
        signal : ndarray of shape (12, n_samples), in mV
        sampling_rate : float, in Hz

        Returns
        -------
        ndarray of shape (n_shown, 2)
            x and y in mm; fewer samples, or none, where the recording ends within or before the panel.
        """
        shown = self.samples(sampling_rate)
        millivolts = np.asarray(signal[LEADS.index(self.lead), shown], dtype=np.float64)
        times = (shown.start + np.arange(len(millivolts))) / sampling_rate
        median = np.median(millivolts) if len(millivolts) else 0.0
        return np.column_stack([self.x_at(times), self.y + MM_PER_MILLIVOLT * (millivolts - median)])


def _panels() -> tuple[Panel, ...]:
    panels = []
    for column, leads in enumerate(LAYOUT):
        start = column * COLUMN_SECONDS
        x = TRACE_LEFT + MM_PER_SECOND * start
        panels += [Panel(lead, start, COLUMN_SECONDS, x, y) for lead, y in zip(leads, ROWS, strict=False)]
    return (*panels, Panel(RHYTHM_LEAD, 0.0, PAGE_SECONDS, TRACE_LEFT, ROWS[-1]))


PANELS = _panels()  # the twelve leads in the order of `LEADS`, then the rhythm strip


def draw_ecg(
    signal: np.ndarray,
    sampling_rate: float,
    *,
    title: str = "",
    notes: Sequence[str] = (),
    missing: Collection[str] = (),
) -> Figure:
    """Draw the first 10 s of an ECG on a page of ECG paper.

    Every panel's median is on its row's baseline. Large deflections run over the rows above and below, to the
    edge of the page.

    Parameters
    ----------
    signal : float ndarray of shape (12, n_samples), in mV, finite, leads in the order of `LEADS`
        3 s or more. Where it is shorter than 10 s, the rest of the paper stays blank.
    sampling_rate : float, in Hz
    title : str
        One line above the grid, such as the file's name; cut to the page. Never a patient's name.
    notes : sequence of str
        Below the title, one per line if they fit into three lines, else joined and cut.
    missing : collection of str
        Leads that the recording lacks: in place of a trace stands that they were not recorded.

    Returns
    -------
    Figure
        297 × 210 mm, with one axes in mm over the whole page. It has no window and need not be closed.

    Raises
    ------
    ValueError
        The signal's shape, length or a value that is not finite.
    """
    signal = _checked(signal, sampling_rate)
    figure, axes = new_paper(*PAGE)
    draw_grid(axes, *GRID)
    _draw_calibration(axes)
    _draw_separators(axes)
    recorded = [panel for panel in PANELS if panel.lead not in missing]
    traces = [panel.trace(signal, sampling_rate) for panel in recorded]
    for panel, trace in zip(recorded, traces, strict=True):
        draw_line(axes, trace, panel.lead)
    for panel in PANELS:
        if panel.lead in missing:
            draw_absence(axes, panel.x + 1, panel.y)
    _draw_names(axes, traces)
    _draw_text(axes, sampling_rate, title, notes)
    return figure


def save_ecg(
    signal: np.ndarray,
    sampling_rate: float,
    path: str | Path,
    *,
    title: str = "",
    notes: Sequence[str] = (),
    missing: Collection[str] = (),
) -> None:
    """Draw an ECG as `draw_ecg` does and write it, whole or not at all.

    Parameters
    ----------
    signal, sampling_rate, title, notes, missing : as in `draw_ecg`
    path : path that ends in .png (2970 × 2100 pixels) or .pdf (one page of A4)

    Raises
    ------
    ValueError
        Another suffix, or a signal that `draw_ecg` refuses.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".png", ".pdf"):
        raise ValueError(f"{path}: found the suffix '{path.suffix}'; expected .png or .pdf")
    figure = draw_ecg(signal, sampling_rate, title=title, notes=notes, missing=missing)
    write_atomically(path, lambda aside: figure.savefig(aside, format=suffix[1:], dpi=DOTS_PER_INCH))


def _checked(signal: np.ndarray, sampling_rate: float) -> np.ndarray:
    """Return the signal as an array if it can be drawn."""
    signal = np.asarray(signal)
    if signal.ndim != 2 or len(signal) != len(LEADS):
        raise ValueError(f"found a signal of shape {signal.shape}; expected ({len(LEADS)}, n_samples)")
    if not (sampling_rate > 0 and signal.shape[1] >= LEAST_SECONDS * sampling_rate):
        found = f"{signal.shape[1]} samples at {sampling_rate:g} Hz"
        raise ValueError(f"found {found}; expected {LEAST_SECONDS:g} s or more")
    if not np.isfinite(signal).all():
        raise ValueError("found a value that is not finite; expected finite values in mV")
    return signal


def new_paper(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty sheet of this size, in mm, and its axes in mm."""
    figure = Figure(figsize=(width / MM_PER_INCH, height / MM_PER_INCH), dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return figure, axes


def draw_grid(axes: Axes, left: float, bottom: float, right: float, top: float) -> None:
    """Draw lines every 1 mm, then stronger ones every 5 mm, between these edges, in mm."""
    for step, colour, width in ((1, FINE_GRID, 0.1), (5, COARSE_GRID, 0.15)):
        upright = [((x, bottom), (x, top)) for x in np.arange(left, right + step / 2, step)]
        level = [((left, y), (right, y)) for y in np.arange(bottom, top + step / 2, step)]
        _draw_straight_lines(axes, upright + level, colour, width, f"grid of {step} mm")


def _draw_calibration(axes: Axes) -> None:
    """Draw a pulse of 1 mV and 0.2 s at the left of every row, its edges on lines of 5 mm."""
    rise = GRID[0] + 5.0
    fall = rise + CALIBRATION_SECONDS * MM_PER_SECOND
    height = CALIBRATION_MILLIVOLTS * MM_PER_MILLIVOLT
    for y in ROWS:
        x = (rise - 2.5, rise, rise, fall, fall, fall + 2.5)
        draw_line(axes, np.column_stack([x, np.add(y, (0, 0, height, height, 0, 0))]), "calibration")


def _draw_separators(axes: Axes) -> None:
    """Draw short strokes above and below the baseline where one lead changes to the next.

    They are grey and behind the traces: black ones would lengthen a QRS complex that happens to lie there.
    """
    inner, outer = SEPARATOR_REACH
    strokes = [
        ((panel.x, panel.y + end * inner), (panel.x, panel.y + end * outer))
        for panel in PANELS
        if panel.start > 0
        for end in (-1, 1)
    ]
    _draw_straight_lines(axes, strokes, SEPARATOR, 0.5, "separators")


def _draw_straight_lines(axes: Axes, ends: Sequence, colour: str, width: float, label: str) -> None:
    """Draw lines between pairs of (x, y), in mm, behind the traces; the width is in mm too."""
    lines = LineCollection(ends, colors=colour, linewidths=width * POINTS_PER_MM, zorder=GRID_LAYER)
    lines.set_capstyle("projecting")
    lines.set_snap(True)  # to whole pixels: otherwise some lines look stronger than others
    lines.set_label(label)
    axes.add_collection(lines, autolim=False)


def draw_line(axes: Axes, points: np.ndarray, label: str) -> None:
    """Draw a thin black line through points of shape (n, 2), in mm.

    Not with `axes.plot`, whose lines of more than 1,000 points are always simplified.
    """
    polyline = Polyline(points)
    polyline.should_simplify = False
    line = PathPatch(
        polyline, fill=False, linewidth=TRACE_WIDTH, capstyle="round", joinstyle="round", zorder=TRACE_LAYER
    )
    line.set_label(label)
    axes.add_artist(line)  # `add_patch` would measure every segment in Python


def draw_absence(axes: Axes, x: float, y: float) -> None:
    """Write in place of a trace that the lead was not recorded."""
    axes.text(x, y, NOT_RECORDED, fontsize=TEXT_SIZE, fontstyle="italic", zorder=TEXT_LAYER)


def _draw_names(axes: Axes, traces: Sequence[np.ndarray]) -> None:
    """Write each lead's name above the beginning of its trace, where no trace is in the way."""
    boxes = np.concatenate([_segment_boxes(trace) for trace in traces])
    for panel in PANELS:
        x, y = _place_of_name(panel, boxes)
        axes.text(x, y, panel.lead, fontsize=NAME_SIZE, fontweight="bold", zorder=TEXT_LAYER)


def _segment_boxes(trace: np.ndarray) -> np.ndarray:
    """Return left, bottom, right and top of each line from point to point, shape (n_points - 1, 4)."""
    return np.hstack([np.minimum(trace[:-1], trace[1:]), np.maximum(trace[:-1], trace[1:])])


def _place_of_name(panel: Panel, boxes: np.ndarray) -> tuple[float, float]:
    """Return the first place that no segment crosses, or else the one that the fewest cross.

    `boxes` holds left, bottom, right and top of the segments of all traces, in mm, shape (n_segments, 4).
    """
    width, height = len(panel.lead) * CHARACTER_WIDTH, NAME_HEIGHT
    boxes = boxes[(boxes[:, 2] >= panel.x) & (boxes[:, 0] <= panel.x + max(NAME_SHIFTS) + width)]
    best, fewest = (panel.x, panel.y), math.inf
    for x, y in ((panel.x + shift, panel.y + rise) for shift in NAME_SHIFTS for rise in NAME_HEIGHTS):
        inside = (boxes[:, :2] < (x + width, y + height)) & (boxes[:, 2:] > (x - 0.5, y - 0.7))
        n_crossing = np.count_nonzero(inside.all(axis=1))
        if n_crossing < fewest:
            best, fewest = (x, y), n_crossing
        if not fewest:
            break
    return best


def _draw_text(axes: Axes, sampling_rate: float, title: str, notes: Sequence[str]) -> None:
    """Write the title and notes above the grid and the scale below it."""
    scale = f"{MM_PER_SECOND:g} mm/s  {MM_PER_MILLIVOLT:g} mm/mV  {sampling_rate:g} Hz"
    heading = _lines([title], 1, _width_check(axes.figure, TITLE_SIZE))
    below = _lines(notes, NOTE_LINES, _width_check(axes.figure, TEXT_SIZE))
    places = [(FOOT_Y, scale, TEXT_SIZE)]
    places += [(TITLE_Y, line, TITLE_SIZE) for line in heading]
    places += [(NOTES_Y - row * NOTE_SPACING, line, TEXT_SIZE) for row, line in enumerate(below)]
    for y, line, size in places:
        # A file's name may hold "$", which must not begin a formula
        axes.text(GRID[0], y, line, fontsize=size, zorder=TEXT_LAYER, parse_math=False)


def _width_check(figure: Figure, size: float) -> Callable[[str], bool]:
    """Return a function that checks whether a line of this size, in points, is no wider than the grid."""
    font, renderer = FontProperties(size=size), figure.canvas.get_renderer()

    def fits(line: str) -> bool:
        pixels, _, _ = renderer.get_text_width_height_descent(line, font, False)
        return pixels / figure.dpi * MM_PER_INCH <= GRID[2] - GRID[0]

    return fits


def _lines(texts: Sequence[str], n_lines: int, fits: Callable[[str], bool]) -> list[str]:
    """Return the texts one per line, joined if that takes more than `n_lines` lines, and then cut."""
    texts = [one_line(text.strip()) for text in texts]
    lines = [line for text in texts for line in _wrapped(text, fits)]
    if len(lines) > n_lines:
        lines = _wrapped("  ·  ".join(texts), fits)
    if len(lines) > n_lines:
        lines = [*lines[: n_lines - 1], lines[n_lines - 1][:-3] + "…"]
    return lines


def _wrapped(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Return the text broken into the longest lines that fit."""
    for n_characters in range(240, 40, -5):
        lines = textwrap.wrap(text, n_characters)
        if all(fits(line) for line in lines):
            break
    return lines
