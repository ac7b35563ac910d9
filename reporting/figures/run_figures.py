"""Figures of a run as PNG files: ROC and precision-recall curves of all its labels.

Drawn with matplotlib's objects and its Agg canvas, so that no display and no global state is needed.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from metrics_and_performance import auroc, average_precision, confusion_metrics
from runtime.atomic_files import write_atomically

# Told apart with colour-blindness (Okabe & Ito, Color Universal Design, 2008); then the line style changes
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_STYLES = ("-", "--", ":", "-.")
DOTS_PER_INCH = 150
MAX_LABELS_BELOW = 4  # with more, the legend stands beside the axes
LABELS_PER_COLUMN = 18  # of a legend beside them


def curve_style(number: int) -> dict[str, str]:
    """Return colour and line style of one of several curves, told apart without colour too."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": LINE_STYLES[number // len(COLOURS) % len(LINE_STYLES)],
    }


def draw_roc(
    y_true: np.ndarray,
    y_score: np.ndarray,
    path: str | Path,
    *,
    label_names: Sequence[str],
    thresholds: Sequence[float] | None = None,
    title: str = "",
) -> None:
    """Draw one ROC curve for each label, its AUROC in the legend and the decision threshold as a point.

    Parameters
    ----------
    y_true, y_score : array of shape (n_ecgs, n_labels); ECGs whose label is not known, nan, are left out
        A label without positive or negative ECGs gets no curve but a note in the legend.
    path : path of the PNG file
    label_names : sequence of n_labels strings
    thresholds : sequence of n_labels floats, optional
    title : str
    """

    def draw_label(axes: Axes, true: np.ndarray, score: np.ndarray, style: dict) -> str:
        false_positive_rate, sensitivity, _ = roc_curve(true, score, drop_intermediate=False)
        axes.plot(false_positive_rate, sensitivity, **style)
        return f"AUROC {auroc(true, score):.3f}"

    def operating_point(confusion: dict) -> tuple[float, float]:
        return 1 - confusion["specificity"].value, confusion["sensitivity"].value

    figure, axes = _new_square(len(label_names))
    axes.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1)
    _draw_labels(axes, y_true, y_score, label_names, thresholds, draw_label, operating_point)
    _finish_square(figure, "1 - specificity", "sensitivity", title)
    save_png(figure, path)


def draw_precision_recall(
    y_true: np.ndarray,
    y_score: np.ndarray,
    path: str | Path,
    *,
    label_names: Sequence[str],
    thresholds: Sequence[float] | None = None,
    title: str = "",
) -> None:
    """Draw one precision-recall curve for each label, over its prevalence, the precision of chance.

    Parameters as in `draw_roc`; the legend gives average precision (AP) and prevalence. The steps are those
    whose area is the average precision.
    """

    def draw_label(axes: Axes, true: np.ndarray, score: np.ndarray, style: dict) -> str:
        precision, recall, _ = precision_recall_curve(true, score)
        # From the first positive found: before it, recall is 0 whatever the precision
        found = recall > 0
        recall, precision = np.append(recall[found], 0), np.append(precision[found], precision[found][-1])
        axes.plot(recall, precision, drawstyle="steps-post", **style)
        axes.axhline(true.mean(), color=style["color"], linestyle=":", linewidth=1)
        return f"AP {average_precision(true, score):.3f}, dotted: prevalence {true.mean():.3f}"

    def operating_point(confusion: dict) -> tuple[float, float]:
        return confusion["sensitivity"].value, confusion["ppv"].value

    figure, axes = _new_square(len(label_names))
    _draw_labels(axes, y_true, y_score, label_names, thresholds, draw_label, operating_point)
    _finish_square(figure, "recall (sensitivity)", "precision (PPV)", title)
    save_png(figure, path)


def _draw_labels(
    axes: Axes,
    y_true: np.ndarray,
    y_score: np.ndarray,
    label_names: Sequence[str],
    thresholds: Sequence[float] | None,
    draw_label: Callable[[Axes, np.ndarray, np.ndarray, dict], str],
    operating_point: Callable[[dict], tuple[float, float]],
) -> None:
    """Draw each label's curve and operating point, and an invisible line that puts its text in the legend."""
    for column, name in enumerate(label_names):
        known = ~np.isnan(y_true[:, column])
        true, score = y_true[known, column], y_score[known, column]
        style = curve_style(column)
        if len(np.unique(true)) < 2:
            found = "no ECG" if len(true) == 0 else "no negative ECG" if true[0] else "no positive ECG"
            axes.plot([], [], label=f"{name}: no curve ({found})", **style)
            continue
        text, marker = f"{name}: {draw_label(axes, true, score, style)}", None
        if thresholds is not None and (score >= thresholds[column]).any():
            marker = {"marker": "o", "markeredgecolor": "white", "markersize": 8, "color": style["color"]}
            point = operating_point(confusion_metrics(true, score, thresholds[column]))
            axes.plot(*point, **marker, zorder=3)
            text += f"; dot: threshold {thresholds[column]:.3g}"
        axes.plot([], [], label=text, **style, **{"marker": "o"} if marker else {})


def _new_square(n_labels: int) -> tuple[Figure, Axes]:
    """Return a figure with room for the legend, and its axes."""
    n_columns = math.ceil(n_labels / LABELS_PER_COLUMN) if n_labels > MAX_LABELS_BELOW else 0
    figure = _new_figure(5.5 + 4.5 * n_columns, 6)
    return figure, figure.subplots()


def _finish_square(figure: Figure, x: str, y: str, title: str) -> None:
    """Label axes that both run from 0 to 1 and place the legend, below or beside them."""
    axes = figure.axes[0]
    axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.set_title(title, fontsize=10)
    n_labels = len(axes.get_legend_handles_labels()[1])
    if n_labels <= MAX_LABELS_BELOW:
        figure.legend(loc="outside lower center", fontsize=9, frameon=False)
    else:
        n_columns = math.ceil(n_labels / LABELS_PER_COLUMN)
        figure.legend(loc="outside right upper", fontsize=8, frameon=False, ncols=n_columns)


def _new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of that size in inches with an Agg canvas."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Figure, path: str | Path) -> None:
    """Write a PNG file, whole or not at all."""
    options = {"format": "png", "dpi": DOTS_PER_INCH, "bbox_inches": "tight"}
    write_atomically(Path(path), lambda aside: figure.savefig(aside, **options))
