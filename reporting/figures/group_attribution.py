"""What a model looks at in true positives, misses, false alarms and true negatives, as one picture."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ecg.recording import LEADS
from explanations.group_means import GROUPS, PARTS, REFERENCE
from explanations.groups import ExplainedLabel
from reporting.figures.attribution import AGAINST, FOR

WIDTH, HEIGHT = 10.5, 9.0  # inches
TEXT_SIZE = 7.5  # points
DEEPEST = 0.85  # opacity of the largest mean of all groups


def draw_group_attribution(explained: ExplainedLabel) -> Figure:
    """Draw the groups in the places of a confusion matrix: mean attributions minus those of true negatives.

    The true negatives' own are drawn as they are, and so are all groups where there are no true negatives.
    Each group has one cell per lead and part of the beat, darker the larger its mean; on the same line, a bar
    with its interval for the whole lead. Differences share one scale. A number is bold where its interval
    leaves out 0.
    """
    means, label = explained.means, explained.label
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 4, width_ratios=(5, 4, 5, 4))
    shown = {group: _shown(means, group) for group in GROUPS}
    together = pd.concat([shown[group] for group in GROUPS if group != REFERENCE])
    for number, group in enumerate(GROUPS):
        cells, leads = panels[number // 2, 2 * (number % 2) :][:2]
        scale = shown[group] if group == REFERENCE else together
        _draw_cells(cells, shown[group], _largest(scale, ["value"]))
        reach = 1.05 * _largest(scale[scale["segment"] == "all"], ["value", "low", "high"])
        _draw_leads(leads, shown[group], reach)
        heading = f"{group}s: {shown[group]['n'].max()} of {explained.sizes[group]} ECGs"
        cells.set_title(heading + _minus(means, group), fontsize=9.5, loc="left")
    samples = [Rectangle((0, 0), 1, 1, facecolor=colour, edgecolor="none") for colour in (FOR, AGAINST)]
    names = [f"speaks for {label}", f"speaks against {label}"]
    for text in figure.legend(samples, names, loc="outside lower center", ncols=2, frameon=False).get_texts():
        text.set_parse_math(False)
    figure.suptitle(
        f"{explained.model}: mean attribution in logits of {label}", fontsize=11, parse_math=False
    )
    return figure


def _minus(means: pd.DataFrame, group: str) -> str:
    """Return what is subtracted from a group's means, as part of its heading."""
    without = group == REFERENCE or means.loc[means["group"] == REFERENCE, "n"].max() == 0
    return "" if without else ", minus true negatives"


def _shown(means: pd.DataFrame, group: str) -> pd.DataFrame:
    """Return lead, segment, value, low, high and n, as they are drawn for a group."""
    names = ["difference", "difference_low", "difference_high"]
    if not _minus(means, group):
        names = ["mean", "low", "high"]
    columns = dict(zip(names, ("value", "low", "high"), strict=True))
    return means.loc[means["group"] == group, ["lead", "segment", "n", *names]].rename(columns=columns)


def _largest(shown: pd.DataFrame, columns: list[str]) -> float:
    largest = shown[columns].abs().max(axis=None)
    return largest if largest > 0 else 1.0


def _draw_cells(axes: Axes, shown: pd.DataFrame, largest: float) -> None:
    for cell in shown[(shown["segment"] != "all") & shown["value"].notna()].itertuples():
        row, column = LEADS.index(cell.lead), PARTS.index(cell.segment)
        colour = FOR if cell.value > 0 else AGAINST
        patch = Rectangle((column, row), 1, 1, facecolor=colour, linewidth=0)
        patch.set_alpha(min(1.0, DEEPEST * abs(cell.value) / largest))
        axes.add_patch(patch)
        rounded = f"{cell.value:+.2f}"
        rounded = "0.00" if rounded in ("+0.00", "-0.00") else rounded
        certain = rounded != "0.00" and (cell.low > 0 or cell.high < 0)
        words = {"weight": "bold" if certain else "normal", "ha": "center", "va": "center"}
        axes.text(column + 0.5, row + 0.5, rounded, size=TEXT_SIZE, **words)
    axes.set(xlim=(0, len(PARTS)), ylim=(len(LEADS), 0))
    axes.set_xticks(np.arange(len(PARTS)) + 0.5, PARTS, fontsize=8.5)
    axes.set_yticks(np.arange(len(LEADS)) + 0.5, LEADS, fontsize=8.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _draw_leads(axes: Axes, shown: pd.DataFrame, reach: float) -> None:
    """Draw a bar for each lead with its interval, on the lines of the cells."""
    places = np.arange(len(LEADS)) + 0.5
    leads = shown[shown["segment"] == "all"].set_index("lead").loc[list(LEADS)]
    mean, low, high = (leads[name].to_numpy() for name in ("value", "low", "high"))
    for_it = np.nan_to_num(mean) > 0
    axes.barh(places[for_it], mean[for_it], 0.7, color=FOR)
    axes.barh(places[~for_it], mean[~for_it], 0.7, color=AGAINST)
    axes.hlines(places, low, high, color="black", linewidth=1)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(xlim=(-reach, reach), ylim=(len(LEADS), 0), yticks=[])
    axes.set_title("whole lead", fontsize=8.5, loc="right")
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
