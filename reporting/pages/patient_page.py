"""The page for one patient: a model's answer for one ECG, where it looked, and what a reader can measure.

One side of A4, in the order in which a cardiologist reads: the answer, what is doubtful, the ECG with the
attribution along its traces, the mean beats, the usual signs, and what an explanation is worth. It holds all
that it shows, without script or network, and nothing from the ECG's file but the signal: no name, number or
date of the patient, and not the file's name, which may contain one.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from dataset.clinical import in_words
from dataset.sign_columns import given_columns, sign_columns
from ecg.recording import MILLIVOLTS, SAMPLING_RATE
from ecg.signs import Signs, measure_signs
from explanations.attribution import INDISTINCT, NO_BEATS, Explanation
from explanations.ensemble import explain_scorer
from inference.abstention import Abstention
from inference.scoring import Scorer
from metrics.calibration import shift_prevalence
from metrics.log_odds import mean_score
from reporting.figures.attribution import (
    AGAINST,
    ATTENTION,
    FOR,
    UNSEEN,
    draw_attribution,
    draw_beat_strip,
    draw_occlusion_bars,
)
from reporting.figures.ecg_paper import (
    DOTS_PER_INCH,
    GRID,
    MM_PER_INCH,
    MM_PER_MILLIVOLT,
    MM_PER_SECOND,
    PANELS,
)
from reporting.pages.page_parts import new_environment, png_source, svg_picture, write_page
from reporting.words.decision_words import span_of_folds, untested_together
from reporting.words.formatting import percent, signed
from reporting.words.set_words import guarantee
from reporting.words.sign_table import sign_rows
from run_folder.ensemble import performance_of
from xml_loader import centre_start

ECG_SCALE = 0.7  # the 270 mm of ECG paper on the 189 mm that an upright A4 has between its margins
RIM = 0.5  # mm around the grid
HIGHEST = 195.0  # mm on the page of ECG paper; what rises higher is cut, to keep to one side
MAX_OTHER_LABELS = 3
MAX_WARNING_CHARACTERS = 450  # what one side holds
MAX_TITLE_CHARACTERS = 60
SCALE_LEFT, SCALE_WIDTH = 40, 1160  # of the probability's scale, in tenths of a mm
NEAR_END = 0.12  # share of the scale at its ends, where a word begins or ends at its mark


@dataclass(frozen=True)
class Image:
    """A picture of the page: a data URI, what it shows, and its size in mm."""

    source: str
    alt: str
    width: float
    height: float


@dataclass(frozen=True)
class Mark:
    """A place on the probability's scale: where it lies, and how a word there is anchored."""

    x: float
    anchor: str


def write_patient_page(
    path: Path,
    *,
    scorer: Scorer,
    run: Path,
    signal: np.ndarray,
    member_scores: np.ndarray,
    label: int = 0,
    missing: Collection[str] = (),
    warnings: Sequence[str] = (),
    prevalence: float | None = None,
    clinical: np.ndarray | None = None,
    sets: Abstention | None = None,
    title: str = "",
) -> Path:
    """Explain the score of one ECG, write its page, whole or not at all, and return its path.

    Parameters
    ----------
    scorer, run : the models, and their folder, whose name the page shows.
    signal : int16 ndarray of shape (12, 5000), in microvolts at 500 Hz.
    member_scores : ndarray of shape (n_members, 1, n_labels), the scores of each model.
    label : the number of the label that the page is about.
    missing : leads that the recording lacks, whose samples are zeros: they are not drawn.
    warnings : sentences for the reader; the page shows as many as fit, and how many do not.
    prevalence : of the label among such patients; the score is restated for it.
    clinical : float32 ndarray of shape (1, n_columns), as `Scorer.score_members` takes it.
    sets : those of the label, which call the ECG the label, its absence, or not sure.
    title : heading; never a patient's name.

    Raises
    ------
    ImportError : captum is not installed.
    """
    explanation = explain_scorer(scorer, signal, label=label, clinical=clinical)
    millivolts = signal * MILLIVOLTS
    signs = measure_signs(millivolts)
    no_beats = _no_beats(scorer, explanation, signs)
    notes = [f"{no_beats}: {INDISTINCT}" if note == NO_BEATS else note for note in explanation.warnings]
    name = scorer.label_names[label]
    page = new_environment().get_template("patient.html")
    text = page.render(
        title=_cut(title, MAX_TITLE_CHARACTERS),
        name=name,
        **_answer(scorer, member_scores[:, 0, label], label),
        sentences=list(_sentences(scorer, run, member_scores, label, prevalence, clinical)),
        called=_called(sets, mean_score(member_scores)[0, label]),
        warnings=_warnings([*warnings, *notes]),
        **_where_it_looked(millivolts, explanation, name, missing),
        no_beats=no_beats,
        signs=sign_rows(signs),
        model=scorer.title,
        run=run.resolve().name,
        today=date.today().isoformat(),
    )
    return write_page(path, text)


def _answer(scorer: Scorer, member_scores: np.ndarray, label: int) -> dict[str, Any]:
    """Return what the head of the page needs: the score and the threshold, in words and on the scale.

    Parameters
    ----------
    member_scores : ndarray of shape (n_members,), of the label.
    """
    score, threshold = mean_score(member_scores), scorer.thresholds[label]
    places = {"score": score, "threshold": threshold, "low": member_scores.min(), "high": member_scores.max()}
    return {
        "score": percent(score),
        "threshold": percent(threshold),
        "flagged": bool(score >= threshold),
        "marks": {key: _mark(value) for key, value in places.items()},
        "ticks": [(f"{share:.0%}".replace("%", " %"), _mark(share).x) for share in np.linspace(0, 1, 6)],
        "n_members": len(member_scores),
    }


def _where_it_looked(
    millivolts: np.ndarray, explanation: Explanation, name: str, missing: Collection[str]
) -> dict[str, Any]:
    """Return the pictures of an explanation, and what must be said beside them."""
    return {
        "ecg": _ecg_image(millivolts, explanation, name, missing),
        "ecg_scale": f"{100 * ECG_SCALE:g} % of {MM_PER_SECOND:g} mm/s and {MM_PER_MILLIVOLT:g} mm/mV",
        "beats": _beats(explanation, missing),
        "bars": svg_picture(
            draw_occlusion_bars(explanation, missing),
            alt="Fall of the logit without each lead and segment",
            caption="",
        ),
        "has_segments": explanation.segment_occlusion is not None,
        "completeness": _completeness(explanation),
        "has_attention": explanation.attention is not None,
        "colours": {"for": FOR, "against": AGAINST, "unseen": UNSEEN, "attention": ATTENTION},
    }


# ----------------------------------------------------------------------------------------------------
# The answer in words
# ----------------------------------------------------------------------------------------------------


def _mark(share: float) -> Mark:
    anchor = "start" if share < NEAR_END else "end" if share > 1 - NEAR_END else "middle"
    return Mark(round(SCALE_LEFT + SCALE_WIDTH * float(share), 1), anchor)


def _sentences(
    scorer: Scorer,
    run: Path,
    member_scores: np.ndarray,
    label: int,
    prevalence: float | None,
    clinical: np.ndarray | None,
) -> Iterator[str]:
    name, trained_at = scorer.label_names[label], scorer.prevalences[label]
    performance = performance_of(run).get(name, {})
    yield performance_sentence(name, performance, scorer.threshold_source)
    if performance and (note := untested_together(run)):
        yield f"{note[0].upper()}{note[1:]}."
    score = mean_score(member_scores)[0, label]
    sentence = f"The probability holds where {percent(trained_at)} have {name}, as in development"
    if prevalence is not None:
        restated = percent(shift_prevalence(score, trained_at, prevalence))
        sentence += f"; where {percent(prevalence)} have it, it is {restated}, and the decision stays"
    yield sentence + "."
    if len(member_scores) > 1:
        low, high = (percent(end(member_scores[:, 0, label])) for end in (np.min, np.max))
        yield f"Individually, the {len(member_scores)} models give {low} to {high}."
    if clinical is not None:
        yield f"Besides the ECG, the model took {', '.join(_beside(scorer.clinical_columns, clinical[0]))}."
    if others := _other_labels(scorer, member_scores, label):
        yield others


def _called(sets: Abstention | None, score: float) -> tuple[str, str] | None:
    """Return what conformal sets call an ECG and at which error rate, and their guarantee."""
    if sets is None:
        return None
    (words,) = sets.in_words(np.array([score]))
    return f"Set at alpha {sets.alpha:g}: {words}.", guarantee(sets)


def performance_sentence(name: str, metrics: dict[str, Any], source: str) -> str:
    """Return in a sentence what a threshold is worth: for how many test ECGs it was right."""
    known = [key for key in ("sensitivity", "specificity") if key in metrics and metrics[key].is_defined]
    if not known:
        return f"Threshold: {source}. What it is worth is not known: the run scored no test ECGs."
    words = {"sensitivity": (f"with {name}", "flagged"), "specificity": (f"without {name}", "not")}
    clauses = []
    for key in known:
        metric = metrics[key]
        value, low, high = map(percent, metric[:3])
        (which, decided), were = words[key], "was" if metric.successes == 1 else "were"
        right = f"{metric.successes} of {metric.n} {which} {were} {decided}"
        clauses.append(f"{right} ({key} {value}, {low} to {high})")
    span = span_of_folds(metrics, percent)
    own = f", each fold at its own threshold, {span}" if span else ""
    return f"Threshold: {source}. Of the run's test ECGs{own}, {', and '.join(clauses)}; 95 % intervals."


def _beside(columns: Sequence[str], values: np.ndarray) -> Iterator[str]:
    """Yield what a model saw beside the ECG: the values that were given, and that it saw the signs."""
    for name, value in in_words(columns, values).items():
        if name in given_columns(columns):
            yield f"{name} {value}"
    if sign_columns(columns):
        yield "the signs that are measured below, which the colours leave out"


def _other_labels(scorer: Scorer, member_scores: np.ndarray, label: int) -> str:
    """Return the scores of other labels, first those that exceed their thresholds most, or "" without any."""
    scores = mean_score(member_scores)[0]
    others = [number for number in range(len(scores)) if number != label]
    others.sort(key=lambda number: scores[number] - scorer.thresholds[number], reverse=True)
    shown = [
        f"{scorer.label_names[number]} {percent(scores[number])} "
        f"({'flagged' if scores[number] >= scorer.thresholds[number] else 'not flagged'})"
        for number in others[:MAX_OTHER_LABELS]
    ]
    if not shown:
        return ""
    n_more = len(others) - len(shown)
    more = f"; {n_more} more {'is' if n_more == 1 else 'are'} not shown" if n_more else ""
    return f"Other labels: {', '.join(shown)}{more}."


def _warnings(sentences: Sequence[str]) -> list[str]:
    """Return the warnings that fit on the page, and how many do not."""
    shown, n_characters = [], 0
    for sentence in sentences:
        n_characters += len(sentence)
        if n_characters > MAX_WARNING_CHARACTERS:
            return [*shown, f"{len(sentences) - len(shown)} more, which predict.py prints"]
        shown.append(sentence)
    return shown


def _cut(text: str, n_characters: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= n_characters else text[: n_characters - 1] + "…"


def _no_beats(scorer: Scorer, explanation: Explanation, signs: Signs) -> str:
    """Return why P, QRS, ST and T were not found: no beats, or too few in a crop; "" where they were."""
    if NO_BEATS not in explanation.warnings:
        return ""
    if math.isnan(signs.heart_rate_bpm):
        return "no beats of one shape were found"
    seconds = min(description.n_samples for description in scorer.descriptions) / SAMPLING_RATE
    sees = "the model sees" if len(scorer.models) == 1 else "a model sees"
    return f"{sees} only the central {seconds:.1f} s, in which too few whole beats of one shape were found"


def _completeness(explanation: Explanation) -> str:
    change = explanation.logit - explanation.baseline_logit
    return (
        f"integrated gradients in {explanation.n_steps} steps; they add up to "
        f"{signed(change + explanation.completeness_gap, 2)} of the {signed(change, 2)} by which this ECG's "
        "logit differs"
    )


# ----------------------------------------------------------------------------------------------------
# Pictures
# ----------------------------------------------------------------------------------------------------


def _ecg_image(signal: np.ndarray, explanation: Explanation, name: str, missing: Collection[str]) -> Image:
    """Return the ECG paper without its margins, but with the part of the upper one that a trace reaches."""
    start = centre_start(explanation.attribution.shape[1])
    figure = draw_attribution(signal, explanation, start=start, missing=missing)
    traces = [panel.trace(signal, SAMPLING_RATE)[:, 1].max() for panel in PANELS]
    top = min(max(GRID[3], math.ceil(max(traces))), HIGHEST) + RIM
    box = (GRID[0] - RIM, GRID[1] - RIM, GRID[2] + RIM, top)
    without = f" without {', '.join(missing)}" if missing else ""
    alt = f"12-lead ECG{without}, 10 s; bands along the traces show what speaks for and against {name}"
    return _png(figure, box, alt, ECG_SCALE)


def _beats(explanation: Explanation, missing: Collection[str]) -> dict[str, Any] | None:
    """Return the picture of the mean beats, its gain and numbers of beats; None without beats."""
    if explanation.waves is None:
        return None
    figure, gain = draw_beat_strip(explanation, missing)
    width, height = (MM_PER_INCH * inches for inches in figure.get_size_inches())
    median = explanation.waves.median
    alt = "The mean beat of each lead, with the mean attribution"
    return {
        "image": _png(figure, (0, 0, width, height), alt, 1.0),
        "gain": f"{gain:g}",
        "n_averaged": len(median.aligned),
        "n_beats": len(median.beats),
    }


def _png(figure: Figure, box: tuple[float, float, float, float], alt: str, scale: float) -> Image:
    """Return the part of a figure within a box (left, bottom, right, top, in mm), shown at a scale."""
    left, bottom, right, top = box
    inches = Bbox([[left / MM_PER_INCH, bottom / MM_PER_INCH], [right / MM_PER_INCH, top / MM_PER_INCH]])
    source = png_source(figure, DOTS_PER_INCH, bbox_inches=inches)
    return Image(source, alt, round(scale * (right - left), 2), round(scale * (top - bottom), 2))
