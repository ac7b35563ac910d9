"""Legends are whole, and a model looks the same in every figure of a comparison."""

import numpy as np
import pytest

from inference.comparison import Scores
from reporting.figures.curves import (
    COLOURS,
    LINE_STYLES,
    Curve,
    bootstrap_band,
    curve_points,
    curve_style,
    draw_decision_curves,
    draw_precision_recall,
    draw_roc,
    draw_scores,
    precision_on_grid,
    roc_on_grid,
)
from reporting.pages import comparison_page

Y_TRUE = np.arange(40) % 4 == 0
Y_SCORE = np.linspace(0.01, 0.99, 40)
LONG = "train_baseline_of_the_second_hospital"


def looks_of(figure):
    """Return colour and line style of every named line."""
    return {line.get_label(): (line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}


def legend_of(figure):
    """Return the texts of a legend, after checking that it lies between the axes and the figure's edges."""
    (axes,) = figure.axes
    legend = axes.get_legend()
    box, edge = legend.get_window_extent(), figure.bbox
    assert edge.x0 <= box.x0 and box.x1 <= edge.x1 and box.y1 <= edge.y1 + 1e-6
    assert box.y0 >= axes.get_window_extent().y1
    return [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("draw", [draw_roc, draw_decision_curves])
@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["first", "second", "ensemble"], ["first", "second", "ensemble"]),
        (
            ["train_baseline-20261123-020512", "train_baseline-20261123-020744", "ECG signs, age and sex"],
            ["train_baseline-20261123-020512", "train_baseline-20261123-020744", "ECG signs, age and sex"],
        ),
        (
            [f"{LONG}-20261123-020512", f"{LONG}-20261123-020744", *(f"model {n}" for n in range(12))],
            [f"{LONG[:24]}…20261123-020{time}" for time in (512, 744)] + [f"model {n}" for n in range(12)],
        ),
        (["$a_b$"], [r"\$a_b\$"]),
    ],
)
def test_a_legend_is_whole_however_many_and_long_its_names(draw, names, shown):
    figure = draw([Curve(name, Y_TRUE, Y_SCORE, curve_style(0)) for name in names])
    assert legend_of(figure)[: len(names)] == shown


def test_the_legend_of_a_label_with_a_long_name_is_whole():
    name = "complete left bundle branch block, as two readers agreed"
    texts = legend_of(draw_scores(Y_TRUE.astype(int), Y_SCORE, [0.3], name))
    assert texts == [
        "without complete left bu…ers agreed (30)",
        "with complete left bundl…ers agreed (10)",
        "threshold",
    ]


def test_a_model_looks_the_same_where_others_are_not_drawn(monkeypatch):
    monkeypatch.setattr(comparison_page, "svg_picture", lambda figure, **_: figure)
    with_gaps = np.where(np.arange(40) == 3, np.nan, Y_SCORE)
    scores = {"one": Y_SCORE, "with gaps": with_gaps, "wells": 10 * Y_SCORE, "last": Y_SCORE**2}
    models = [Scores(name, score, None) for name, score in scores.items()]
    roc, decision = map(looks_of, comparison_page._figures(Y_TRUE, models))
    assert list(roc) == ["one", "wells", "last", "chance"]
    assert list(decision) == ["one", "last", "everybody", "nobody"]
    assert all(roc[name] == decision[name] for name in ("one", "last"))
    assert roc["last"] == (COLOURS[3], LINE_STYLES[0])


def test_models_differ_in_colour_or_line_and_what_they_are_compared_with_is_grey():
    names = [f"model {number}" for number in range(len(COLOURS) * len(LINE_STYLES))]
    curves = [Curve(name, Y_TRUE, Y_SCORE, curve_style(number)) for number, name in enumerate(names)]
    assert len({tuple(curve.style.values()) for curve in curves}) == len(names)
    for draw, n_references in ((draw_roc, 1), (draw_decision_curves, 2)):
        looks = list(looks_of(draw(curves)).values())
        references = [colour for colour, _ in looks[len(names) :]]
        assert len(references) == n_references
        assert all(0 < float(grey) < 1 and grey not in COLOURS for grey in references)


@pytest.mark.parametrize("draw", [draw_roc, draw_precision_recall])
@pytest.mark.parametrize("n_labels", [1, 3, 20])
def test_a_file_of_labels_says_in_its_legend_what_each_curve_is(draw, n_labels):
    curves = [
        Curve(
            f"label {n}", Y_TRUE.astype(int), Y_SCORE, curve_style(n), (0.5, 0.5), "0.5; dot: threshold 0.3"
        )
        for n in range(n_labels)
    ]
    curves[-1] = curves[-1]._replace(y_true=np.zeros(40, int), point=None)
    figure = draw(curves, title="test: 40 ECGs")
    (axes,) = figure.axes
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts[:n_labels] == [f"label {n}: 0.5; dot: threshold 0.3" for n in range(n_labels - 1)] + [
        f"label {n_labels - 1}: no curve (no positive ECG)"
    ]
    box = axes.get_window_extent()
    assert (
        box.width == pytest.approx(box.height) and axes.get_legend().get_title().get_text() == "test: 40 ECGs"
    )
    dots = [line.get_color() for line in axes.lines if line.get_marker() == "o"]
    assert dots == [curve.style["color"] for curve in curves[:-1]]


def test_curve_points_of_a_hand_worked_example():
    y_true, y_score = np.array([1, 0, 1, 0]), np.array([0.9, 0.5, 0.5, 0.1])
    true_positives, false_positives = curve_points(y_true, y_score)
    assert true_positives.tolist() == [[1, 2, 2]] and false_positives.tolist() == [[0, 1, 2]]
    sensitivity = roc_on_grid(true_positives[0], false_positives[0])
    assert sensitivity[[0, 25, 50, 100]].tolist() == [0.5, 0.75, 1, 1]
    precision = precision_on_grid(true_positives[0], false_positives[0])
    assert precision[[0, 50]].tolist() == [1, 1] and precision[[51, 100]] == pytest.approx([2 / 3, 2 / 3])


def test_bands_hold_the_curve_and_narrow_with_more_patients():
    generator = np.random.default_rng(1)
    widths = []
    for n in (100, 1600):
        y_true = np.arange(n) % 4 == 0
        y_score = generator.normal(size=n) + y_true
        for on_grid in (roc_on_grid, precision_on_grid):
            band = bootstrap_band(on_grid, y_true.astype(int), y_score, np.arange(n))
            curve = on_grid(*(counts[0] for counts in curve_points(y_true, y_score)))
            inside = (band.low - 1e-9 <= curve) & (curve <= band.high + 1e-9)
            assert inside[5:-5].mean() > 0.95
        widths.append(np.mean(band.high - band.low))
    assert widths[1] < 0.5 * widths[0]
    one_positive = np.arange(50) == 0
    assert bootstrap_band(roc_on_grid, one_positive.astype(int), np.arange(50.0), np.arange(50)) is None
