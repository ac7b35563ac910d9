"""The figures of a run and of a comparison: ROC, precision-recall, calibration, net benefit, scores, loss.

Each function returns a `Figure`: `save_png` writes it to a file, `as_svg` makes text for a page, which stays
sharp at any size, in the reader's own fonts. Figures are drawn with matplotlib's objects and its Agg canvas,
without a display and without global state.
"""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from metrics.bootstrap import MIN_SHARE_OF_RESAMPLES, resampled_weights
from metrics.calibration import calibration_curve
from metrics.checks import missing_class, patient_index
from metrics.decisions import decision_curve
from runtime.atomic_files import write_atomically

# Distinct with colour-blindness (Okabe & Ito, Color Universal Design, 2008); then the line style changes
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_STYLES = ("-", "--", ":", "-.")
DOTS_PER_INCH = 150  # of a PNG file
WIDTH, HEIGHT = 4.6, 3.9  # inches; at 390 pixels, a phone, text of 9 points has 10 pixels
PLOT_WIDTH, PLOT_HEIGHT = 0.815 * WIDTH, 0.745 * HEIGHT  # inches, of only the axes
TEXT_SIZE = 9  # points
MAX_LABELS_ABOVE = 4  # with more labels in one file, the legend stands beside the axes
LABELS_PER_COLUMN = 18  # of a legend beside the axes
LONGEST_NAME = 40  # characters that fit on a line of the legend
TIME_LENGTH = 15  # characters of a run's time, at the end of its name
POSITIVE, NEGATIVE = COLOURS[1], COLOURS[0]  # vermilion and blue: with and without the disease
MODEL = COLOURS[0]
# References have greys that no model has
CHANCE = {"color": "0.6", "linestyle": ":", "linewidth": 1, "zorder": 1.5}  # beneath the models' lines
EVERYBODY = {"color": "0.4", "linestyle": "--", "linewidth": 1, "zorder": 1.5, "label": "everybody"}
NOBODY = {"color": "0.6", "linestyle": "-", "linewidth": 1, "zorder": 1.5, "label": "nobody"}
GRID_POINTS = 101  # of a band, from 0 to 1
N_RESAMPLES = 500  # of a band: enough for the percentiles of a picture, not for those of a table
N_SCORE_BINS = 25
MAX_DRAWN = 1500  # ECGs of an instability plot, each a dot per repeat
MAX_THRESHOLD = 0.5  # of the decision curve; few would require more than one in two before a CT
FONTS = "font-family: system-ui, 'Segoe UI', Helvetica, Arial, sans-serif"
SVG_SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "report", "path.simplify": True}


class Curve(NamedTuple):
    """One curve of a figure: a label's, or a model's.

    `y_true` and `y_score` are of shape (n_ecgs,); with only one class the legend says why there is no curve.
    """

    name: str
    y_true: np.ndarray
    y_score: np.ndarray
    style: dict[str, str]  # see `curve_style`
    point: tuple[float, float] | None = None  # where the threshold lies
    note: str = ""  # behind the name


class Band(NamedTuple):
    """The interval of a curve at each point of a grid from 0 to 1: arrays of shape (GRID_POINTS,)."""

    x: np.ndarray
    low: np.ndarray
    high: np.ndarray


def curve_style(number: int) -> dict[str, str]:
    """Return colour and line style of one of several curves, distinct without colour too."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": LINE_STYLES[number // len(COLOURS) % len(LINE_STYLES)],
    }


def save_png(figure: Figure, path: str | Path) -> None:
    """Write a PNG file, whole or not at all."""
    options = {"format": "png", "dpi": DOTS_PER_INCH, "bbox_inches": "tight"}
    write_atomically(Path(path), lambda aside: figure.savefig(aside, **options))


def as_svg(figure: Figure) -> str:
    """Return a figure as SVG, the same text for the same figure."""
    buffer = io.StringIO()
    with matplotlib.rc_context(SVG_SETTINGS):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = re.sub(r" <metadata>.*?</metadata>\n", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    return re.sub(r"font-family: [^;\"]*", FONTS, svg)


# ----------------------------------------------------------------------------------------------------
# Curves and their bands
# ----------------------------------------------------------------------------------------------------


def curve_points(
    y_true: np.ndarray, y_score: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Count true and false positives at each distinct score as the threshold, from high scores to low.

    Parameters
    ----------
    y_true, y_score : array of shape (n_ecgs,)
    weights : array of shape (n_resamples, n_ecgs), optional
        How often each resample draws each ECG; by default each once.

    Returns
    -------
    true_positives, false_positives : array of shape (n_resamples, n_scores)
    """
    weights = np.ones((1, len(y_true))) if weights is None else weights
    order = np.argsort(-y_score, kind="stable")
    last = np.flatnonzero(np.append(np.diff(y_score[order]) != 0, True))  # of the ECGs with each score
    drawn = weights[:, order]
    positives = np.cumsum(drawn * y_true[order], axis=1)[:, last]
    return positives, np.cumsum(drawn, axis=1)[:, last] - positives


def roc_on_grid(true_positives: np.ndarray, false_positives: np.ndarray) -> np.ndarray:
    """Return the sensitivity of one resample at `GRID_POINTS` false positive rates, linear between points."""
    rates = np.append(0, false_positives / false_positives[-1])
    return np.interp(np.linspace(0, 1, GRID_POINTS), rates, np.append(0, true_positives / true_positives[-1]))


def precision_on_grid(true_positives: np.ndarray, false_positives: np.ndarray) -> np.ndarray:
    """Return the precision of one resample at `GRID_POINTS` recalls, each at the highest threshold."""
    recall = true_positives / true_positives[-1]
    found = np.searchsorted(recall, np.linspace(0, 1, GRID_POINTS) - 1e-9)
    found = np.maximum(found, np.argmax(recall > 0))  # before the first positive, precision has no meaning
    return (true_positives / np.maximum(true_positives + false_positives, 1))[found]


def roc_points(y_true: np.ndarray, y_score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return 1 - specificity and sensitivity of a ROC curve, from (0, 0); both classes must occur."""
    true_positives, false_positives = (counts[0] for counts in curve_points(y_true, y_score))
    x, y = (np.append(0, counts / counts[-1]) for counts in (false_positives, true_positives))
    return x, y


def precision_recall_points(y_true: np.ndarray, y_score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return recall and precision from the first positive found to the last, to be drawn as "steps-pre".

    The area under these steps is the average precision. There must be a positive.
    """
    true_positives, false_positives = (counts[0] for counts in curve_points(y_true, y_score))
    found = (true_positives > 0) & (np.append(0, true_positives[:-1]) < true_positives[-1])
    precision = (true_positives / (true_positives + false_positives))[found]
    recall = true_positives[found] / true_positives[-1]
    return np.append(0, recall), np.append(precision[0], precision)


def operating_points(label: dict) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """Return where a label's threshold lies on the ROC and precision-recall curves; None: not on it."""
    sensitivity, specificity, ppv = (label[key].value for key in ("sensitivity", "specificity", "ppv"))
    if math.isnan(sensitivity + specificity):
        return None, None
    return (1 - specificity, sensitivity), None if math.isnan(ppv) else (sensitivity, ppv)


def bootstrap_band(
    on_grid: Callable[[np.ndarray, np.ndarray], np.ndarray],
    y_true: np.ndarray,
    y_score: np.ndarray,
    patient_ids: Sequence,
) -> Band | None:
    """Return the 95 % percentile interval of a curve at each point of a grid, over resampled patients.

    Parameters
    ----------
    on_grid : `roc_on_grid` or `precision_on_grid`
    y_true, y_score : array of shape (n_ecgs,)
    patient_ids : sequence of length n_ecgs

    Returns
    -------
    Band, for each point by itself, not for the whole curve; None where too few resamples hold both classes.
    """
    patients = patient_index(patient_ids, len(y_true))
    curves = []
    for weights in resampled_weights(patients, N_RESAMPLES, seed=42):
        for counts in zip(*curve_points(y_true, y_score, weights), strict=True):
            if counts[0][-1] > 0 and counts[1][-1] > 0:
                curves.append(on_grid(*counts))
    if len(curves) < MIN_SHARE_OF_RESAMPLES * N_RESAMPLES:
        return None
    low, high = np.quantile(curves, [0.025, 0.975], axis=0)
    return Band(np.linspace(0, 1, GRID_POINTS), low, high)


# ----------------------------------------------------------------------------------------------------
# Labels or models
# ----------------------------------------------------------------------------------------------------


def draw_roc(curves: Sequence[Curve], *, band: Band | None = None, title: str = "") -> Figure:
    """Draw ROC curves over each other, each in its style, with its threshold as a point.

    Parameters
    ----------
    band : of the one curve, from `roc_on_grid`
    title : of a figure that stands alone in a file; such a figure is square
    """
    figure, axes = _new_axes("1 − specificity (false alarms)", "sensitivity (found)")
    for curve in curves:
        points = ([], []) if missing_class(curve.y_true) else roc_points(curve.y_true, curve.y_score)
        axes.plot(*points, label=_in_legend(curve), **curve.style)
    _finish_curves(axes, curves, band, title)
    axes.plot([0, 1], [0, 1], **CHANCE, label="chance")
    return _finished_unit_square(figure, title)


def draw_precision_recall(curves: Sequence[Curve], *, band: Band | None = None, title: str = "") -> Figure:
    """Draw precision-recall curves, each over its prevalence, the precision of chance.

    Parameters
    ----------
    band : of the one curve, from `precision_on_grid`
    title : see `draw_roc`
    """
    figure, axes = _new_axes("sensitivity (recall)", "PPV (precision)")
    for curve in curves:
        missing = missing_class(curve.y_true)
        points = ([], []) if missing else precision_recall_points(curve.y_true, curve.y_score)
        axes.plot(*points, label=_in_legend(curve), drawstyle="steps-pre", **curve.style)
    _finish_curves(axes, curves, band, title)
    for curve in curves:
        alone = {"label": "chance: the prevalence"} if len(curves) == 1 else {"color": curve.style["color"]}
        if not missing_class(curve.y_true):
            axes.axhline(curve.y_true.mean(), **CHANCE | alone)
    return _finished_unit_square(figure, title)


def draw_decision_curves(curves: Sequence[Curve]) -> Figure:
    """Draw the net benefit of acting on probabilities, each curve in its style, on everybody, on nobody."""
    figure, axes = _new_axes("threshold probability", "net benefit, per 100 ECGs")
    y_true = curves[0].y_true
    thresholds, prevalence = np.linspace(0.005, MAX_THRESHOLD, 100), y_true.mean()
    for curve in curves:
        benefit = decision_curve(curve.y_true, curve.y_score, thresholds)["model"]
        axes.plot(thresholds, 100 * benefit, label=_short(curve.name), **curve.style)
    everybody = decision_curve(y_true, np.ones(len(y_true)), thresholds)["treat_all"]
    axes.plot(thresholds, 100 * everybody, **EVERYBODY)
    axes.axhline(0, **NOBODY)
    axes.set(xlim=(0, MAX_THRESHOLD), ylim=(-25 * prevalence, 108 * prevalence))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return _finished(figure)


# ----------------------------------------------------------------------------------------------------
# One label
# ----------------------------------------------------------------------------------------------------


def draw_calibration(y_true: np.ndarray, y_score: np.ndarray, patient_ids: Sequence | None = None) -> Figure:
    """Draw mean score against share of positives in ten groups of equal size; intervals count patients."""
    figure, axes = _new_axes("mean score of the group", "share that has the disease")
    curve = calibration_curve(y_true, y_score, patient_ids=patient_ids)
    top = min(1.0, 1.08 * max(curve["high"].max(), curve["mean_score"].max()))
    axes.plot([0, top], [0, top], **CHANCE, label="perfect")
    reach = np.stack([curve["observed"] - curve["low"], curve["high"] - curve["observed"]])
    bars = {"fmt": "o", "markersize": 5, "color": MODEL, "elinewidth": 1.2, "capsize": 2.5}
    axes.errorbar(curve["mean_score"], curve["observed"], np.maximum(reach, 0), label="groups", **bars)
    axes.set(xlim=(-0.02 * top, 1.03 * top), ylim=(-0.02 * top, 1.03 * top))
    return _finished(figure)


def draw_instability(risks: np.ndarray) -> Figure:
    """Draw each ECG's risk in each repeat, (n_ecgs, n_repeats), against the mean of them.

    Of many ECGs only some are drawn, evenly from the lowest mean to the highest.
    """
    figure, axes = _new_axes("mean score of the ECG over the repeats", "its score in each repeat")
    order = np.argsort(np.nanmean(risks, axis=1), kind="stable")
    risks = risks[order[np.linspace(0, len(order) - 1, min(len(order), MAX_DRAWN), dtype=int)]]
    mean = np.nanmean(risks, axis=1)
    top = min(1.0, 1.08 * np.nanmax(risks))
    axes.plot([0, top], [0, top], **CHANCE, label="no difference")
    dots = {"linestyle": "", "marker": "o", "markersize": 2.5, "markeredgewidth": 0, "alpha": 0.45}
    axes.plot(np.repeat(mean, risks.shape[1]), risks.ravel(), color=MODEL, label="a repeat", **dots)
    axes.set(xlim=(-0.02 * top, 1.03 * top), ylim=(-0.02 * top, 1.03 * top))
    return _finished(figure)


def draw_scores(y_true: np.ndarray, y_score: np.ndarray, thresholds: Sequence[float], name: str) -> Figure:
    """Draw the scores of each class, in percent of the class, and the threshold of each fold."""
    figure, axes = _new_axes("score", "share of the group")
    top = 1.0 if y_score.max() > 0.5 else 1.1 * max(y_score.max(), *thresholds, 1e-6)
    groups = {
        words: (y_score[y_true == value], colour)
        for value, colour, words in ((0, NEGATIVE, f"without {name}"), (1, POSITIVE, f"with {name}"))
    }
    _draw_shares(axes, groups, np.linspace(0, top, N_SCORE_BINS + 1))
    for number, threshold in enumerate(thresholds):
        label = ("threshold" if len(thresholds) == 1 else "threshold of each fold") if number == 0 else None
        axes.axvline(threshold, color="0.2", linestyle="--", linewidth=1, label=label)
    axes.set(xlim=(0, top))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return _finished(figure)


def draw_histogram(
    groups: Mapping[str, np.ndarray],
    bins: np.ndarray,
    x: str,
    *,
    limits: Sequence[float] = (),
    log: bool = False,
) -> Figure:
    """Draw how one value is distributed in up to two groups, in percent of each; what is beyond, at the end.

    Parameters
    ----------
    groups : values by the group's name, nan where one is not known.
    bins : edges of the bins, rising.
    x : what the value is, with its unit.
    limits : values beyond which an ECG is refused.
    log : whether the bins lie on a logarithmic scale.
    """
    figure, axes = _new_axes(x, "share of the group")
    colours = (NEGATIVE, POSITIVE)
    known = {name: values[np.isfinite(values)] for name, values in groups.items()}
    _draw_shares(axes, dict(zip(known, zip(known.values(), colours, strict=False), strict=True)), bins)
    for number, limit in enumerate(limits):
        label = "refused beyond" if number == 0 else None
        axes.axvline(limit, color="0.2", linestyle="--", linewidth=1, label=label)
    axes.set(xscale="log" if log else "linear")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return _finished(figure)


def _draw_shares(axes: Axes, groups: Mapping[str, tuple[np.ndarray, str]], bins: np.ndarray) -> None:
    """Draw the histogram of each group, (values, colour) by name, in shares of the group."""
    for name, (values, colour) in groups.items():
        if len(values):
            shares = np.histogram(np.clip(values, bins[0], bins[-1]), bins)[0] / len(values)
            axes.stairs(shares, bins, fill=True, color=colour, alpha=0.3)
            axes.stairs(shares, bins, color=colour, linewidth=1.4, label=_short(f"{name} ({len(values):,})"))


# ----------------------------------------------------------------------------------------------------
# Training
# ----------------------------------------------------------------------------------------------------


def draw_losses(logs: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw loss and validation AUROC of each epoch, one thin line per fold; a dot marks the kept epoch.

    Parameters
    ----------
    logs : `log.csv` of each fold
        Columns `epoch`, `train_loss`, `val_loss`, `val_auroc`, `kept`.
    """
    figure = _new_figure(2 * WIDTH, HEIGHT)
    loss_axes, auroc_axes = figure.subplots(1, 2)
    width = 1.6 if len(logs) == 1 else 0.8
    for number, log in enumerate(logs.values()):
        marker = {"marker": "o", "markersize": 2.5} if len(log) <= 3 else {}
        for axes, column, name, colour in (
            (loss_axes, "train_loss", "training", COLOURS[0]),
            (loss_axes, "val_loss", "validation", COLOURS[1]),
            (auroc_axes, "val_auroc", "validation", COLOURS[1]),
        ):
            label = name if number == 0 else None
            axes.plot(log["epoch"], log[column], color=colour, linewidth=width, label=label, **marker)
        kept = log[log["kept"] == 1].tail(1)
        if len(kept):
            words = f"kept: epoch {kept['epoch'].item()}" if len(logs) == 1 else "kept"
            label = words if number == 0 else None
            auroc_axes.plot(kept["epoch"], kept["val_auroc"], "o", color="black", markersize=4, label=label)
    for axes, name in ((loss_axes, "loss"), (auroc_axes, "AUROC")):
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        _plain(axes)
        axes.legend(frameon=False, fontsize=TEXT_SIZE)
    figure.subplots_adjust(left=0.075, right=0.985, top=0.96, bottom=0.14, wspace=0.2)
    return figure


# ----------------------------------------------------------------------------------------------------
# What they share
# ----------------------------------------------------------------------------------------------------


def _new_figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _new_axes(x: str, y: str) -> tuple[Figure, Axes]:
    """Return a figure with one axes, for `_finished` to give a size and a legend."""
    figure = _new_figure(WIDTH, HEIGHT)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlabel(x, fontsize=TEXT_SIZE + 0.5)
    axes.set_ylabel(y, fontsize=TEXT_SIZE + 0.5)
    _plain(axes)
    return figure, axes


def _plain(axes: Axes) -> None:
    """Leave two thin spines and small ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("0.45")
    axes.tick_params(labelsize=TEXT_SIZE, color="0.45", length=3)
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)


def _in_legend(curve: Curve) -> str:
    """Return a curve's name and note, or why there is no curve."""
    missing = missing_class(curve.y_true)
    note = f"no curve ({missing})" if missing else curve.note
    return f"{_short(curve.name)}: {note}" if note else _short(curve.name)


def _finish_curves(axes: Axes, curves: Sequence[Curve], band: Band | None, title: str) -> None:
    """Fill the band and mark the operating points, named in the legend on a page and by the notes in a file.

    Several folds have several thresholds, but one pooled point.
    """
    if band is not None:
        axes.fill_between(*band, color=MODEL, alpha=0.18, linewidth=0, label="95 % of resamples")
    for curve in curves:
        if curve.point is not None:
            style = {"markersize": 8, "markeredgecolor": "white", "zorder": 4, "clip_on": False}
            style["color"] = POSITIVE if len(curves) == 1 else curve.style["color"]
            axes.plot(*curve.point, "o", label=None if title else "at the threshold", **style)


def _finished_unit_square(figure: Figure, title: str) -> Figure:
    figure.axes[0].set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    return _finished(figure, title)


def _finished(figure: Figure, title: str = "") -> Figure:
    """Put the legend above the axes, where it hides no part of a curve, in one column where names are long.

    The place of the axes is fixed, since a layout engine would take most of the time; a legend of many lines
    makes the figure higher. A figure with a title is a file of its own: there a legend of many lines stands
    beside the axes, and `save_png` includes it.
    """
    axes, plot_height = figure.axes[0], PLOT_WIDTH if title else PLOT_HEIGHT
    height = HEIGHT - PLOT_HEIGHT + plot_height
    _place(axes, height, plot_height)
    style = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "borderaxespad": 0.2, "columnspacing": 1.4}
    style |= {"fontsize": TEXT_SIZE, "frameon": False, "handlelength": 1.6}
    if title:
        style |= {"title": title, "alignment": "left"}
    n_labels = len(axes.get_legend_handles_labels()[1])
    if title and n_labels > MAX_LABELS_ABOVE:
        style |= {"loc": "upper left", "bbox_to_anchor": (1.02, 1.0)}
        axes.legend(ncols=math.ceil(n_labels / LABELS_PER_COLUMN), **style)
        return figure
    legend = axes.legend(ncols=2, **style)
    if legend.get_window_extent().x1 > figure.bbox.x1:
        legend = axes.legend(ncols=1, **style)
    _place(axes, max(height, legend.get_window_extent().y1 / figure.dpi), plot_height)
    return figure


def _place(axes: Axes, height: float, plot_height: float) -> None:
    """Set the heights of figure and axes, in inches; the space below the axes stays the same."""
    axes.figure.set_size_inches(WIDTH, height)
    axes.set_position((0.145, 0.135 * HEIGHT / height, PLOT_WIDTH / WIDTH, plot_height / height))


def _short(name: str) -> str:
    """Return a name cut in the middle, so that a run's script and time stay; "$" begins no formula."""
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - TIME_LENGTH - 1]}…{name[-TIME_LENGTH:]}"
    return name.replace("$", r"\$")
