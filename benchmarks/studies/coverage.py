"""Count how often the 95 % intervals hold the truth, and on which side they miss it.

    python -m benchmarks.studies.coverage                                    # the tables of docs/metrics.md
    python -m benchmarks.studies.coverage --positives 9 --studies 50         # a quick look

A study has ten times as many ECGs as positives, of patients with one ECG or with one to three, each patient
positive with a chance of one in ten. Scores are normal in each class and of one variance; those of one
patient correlate by 0.5. The study is evaluated by `metrics_and_performance.evaluate`, as a training's test
set is: every interval that it returns is counted, and so is that of the difference from a second, equally
good model. The truth is that of the two normal distributions.

Of 500 intervals at 95 %, 465 to 485 should hold the truth (two standard errors, each of 1 %). "Too good" are
those that lie wholly on the better side of it (of slope, intercept and difference: wholly above).
"""

import argparse
import math
import os
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by NumPy when it is imported
import numpy as np
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm

from metrics.delong import delong_test
from metrics.metric import Metric
from metrics_and_performance import evaluate

PREVALENCE, OTHER_PREVALENCE, CORRELATION = 0.1, 0.03, 0.5
LEVEL, THRESHOLD = -2.0, 0.5  # the scores' logit is LEVEL plus a normal number; flagged from THRESHOLD on
AUROCS, POSITIVES = (0.5, 0.6, 0.75, 0.9), (9, 20, 100)
N_RESAMPLES = 500
STUDIES_PER_TASK = 25
LESS_IS_BETTER = ("negative_likelihood_ratio",)


class Cell(NamedTuple):
    """One kind of study: the number of positives to be expected, the AUROC, the most ECGs of a patient."""

    positives: int
    auroc: float
    max_ecgs: int

    @property
    def title(self) -> str:
        return f"{self.auroc:g}, " + ("one" if self.max_ecgs == 1 else f"1 to {self.max_ecgs}")


class Count(NamedTuple):
    """Shares of studies: with an interval; of these, those that hold the truth, are too good, too bad."""

    printed: float
    covers: float
    too_good: float
    too_bad: float


def simulate(rng: np.random.Generator, cell: Cell) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return `y_true`, the normal scores of two equally good models, and patients, each (n_ecgs,).

    A study without a positive, or without a negative, is drawn again: nothing would be printed.
    """
    n_ecgs = round(cell.positives / PREVALENCE)
    y_true = np.zeros(n_ecgs, dtype=int)
    while y_true.min() == y_true.max():
        patients = np.repeat(np.arange(n_ecgs), rng.integers(1, cell.max_ecgs + 1, size=n_ecgs))[:n_ecgs]
        y_true = (rng.random(n_ecgs) < PREVALENCE)[patients].astype(int)
    patient_noise, ecg_noise = rng.normal(size=(2, n_ecgs))[:, patients], rng.normal(size=(2, n_ecgs))
    # The two models share half of the variance of their noise
    for noise in (patient_noise, ecg_noise):
        noise[1] = noise.sum(axis=0) / math.sqrt(2)
    noise = math.sqrt(CORRELATION) * patient_noise + math.sqrt(1 - CORRELATION) * ecg_noise
    return y_true, *(_shift(cell.auroc) * y_true + noise), patients


@cache
def true_values(auroc: float) -> dict[str, float]:
    """Return what the intervals should hold, by the names of `evaluate`."""
    shift, grid = _shift(auroc), np.linspace(-9, 9 + _shift(auroc), 20_001)
    found, flagged = norm.sf(grid - shift), norm.sf(grid)  # the ROC curve
    precision = PREVALENCE * found / (PREVALENCE * found + (1 - PREVALENCE) * flagged)
    density = PREVALENCE * norm.pdf(grid - shift) + (1 - PREVALENCE) * norm.pdf(grid)
    rates = np.linspace(1e-9, 0.1, 20_001)  # false positive rates of the partial AUROC
    area = np.trapezoid(norm.sf(norm.isf(rates) - shift), rates)
    sensitivity, specificity = norm.sf(THRESHOLD - shift), norm.cdf(THRESHOLD)
    spared = norm.cdf(shift + norm.ppf(0.05))  # specificity at 95 % sensitivity
    below = spared * (1 - PREVALENCE) + 0.05 * PREVALENCE
    ratios = sensitivity / (1 - specificity), (1 - sensitivity) / specificity

    def predictive_values(prevalence: float) -> tuple[float, float]:
        odds = prevalence / (1 - prevalence)
        return 1 - 1 / (1 + odds * ratios[0]), 1 / (1 + odds * ratios[1])

    values = dict(zip(("ppv", "npv"), predictive_values(PREVALENCE), strict=True))
    values |= zip(("ppv, 3 %", "npv, 3 %"), predictive_values(OTHER_PREVALENCE), strict=True)
    return values | {
        "auroc": auroc,
        "average_precision": -np.trapezoid(precision, found),
        "partial_auroc": (1 + (area - 0.005) / (0.1 - 0.005)) / 2,
        "sensitivity_at_specificity_90": norm.sf(norm.isf(0.10) - shift),
        "sensitivity_at_specificity_95": norm.sf(norm.isf(0.05) - shift),
        "specificity_at_sensitivity_95": spared,
        "npv_at_sensitivity_95": spared * (1 - PREVALENCE) / below,
        "ct_avoided_per_100": 100 * below,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "accuracy": PREVALENCE * sensitivity + (1 - PREVALENCE) * specificity,
        "positive_likelihood_ratio": ratios[0],
        "negative_likelihood_ratio": ratios[1],
        "calibration_slope": shift,  # the log of the two densities' ratio is linear in the score
        "calibration_intercept": brentq(
            lambda b: np.trapezoid(expit(grid + LEVEL + b) * density, grid) - PREVALENCE, -10, 10
        ),
        "difference": 0.0,
    }


def _shift(auroc: float) -> float:
    """Return how many standard deviations the positives' scores are higher."""
    return math.sqrt(2) * norm.ppf(auroc)


def intervals_of_one_study(rng: np.random.Generator, cell: Cell) -> dict[str, Metric]:
    """Return every number with an interval that one study prints."""
    y_true, score_a, score_b, patients = simulate(rng, cell)
    label = evaluate(
        y_true,
        expit(score_a + LEVEL),
        thresholds=[expit(THRESHOLD + LEVEL)],
        label_names=["PE"],
        patient_ids=patients,
        n_resamples=N_RESAMPLES,
        seed=int(rng.integers(2**31)),
        prevalence=OTHER_PREVALENCE,
    )["labels"]["PE"]
    found = {name: metric for name, metric in label.items() if isinstance(metric, Metric)}
    found |= {f"{name}, 3 %": label["at_prevalence"][name] for name in ("ppv", "npv")}
    test = delong_test(y_true, score_a, score_b, patients)
    return found | {"difference": Metric(test.difference, test.low, test.high)}


def judge(name: str, metric: Metric, truth: float) -> tuple[bool, bool, bool]:
    """Return whether a number has an interval, and whether that lies wholly above or below the truth."""
    if not metric.has_interval:
        return False, False, False
    high = math.inf if math.isnan(metric.high) else metric.high  # of an infinite ratio
    tolerance = 1e-9
    return True, metric.low > truth + tolerance, high < truth - tolerance


def judge_studies(task: tuple[Cell, int, int], seed: int) -> dict[str, np.ndarray]:
    """Return the judgements of some studies of one kind, each (n_studies, 3); a task is cell, first, last."""
    warnings.simplefilter("ignore")  # what is undefined has no interval, and is counted
    (cell, first, last), rows = task, []
    for study in range(first, last):
        rng = np.random.default_rng([seed, cell.positives, round(100 * cell.auroc), cell.max_ecgs, study])
        found, truth = intervals_of_one_study(rng, cell), true_values(cell.auroc)
        rows.append({name: judge(name, metric, truth[name]) for name, metric in found.items()})
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def count(name: str, judged: np.ndarray) -> Count:
    """Return the shares of one number in the studies of one kind; nan where it never has an interval."""
    printed, above, below = judged.mean(axis=0)
    if printed == 0:
        return Count(0.0, math.nan, math.nan, math.nan)
    above, below = above / printed, below / printed
    good, bad = (below, above) if name in LESS_IS_BETTER else (above, below)
    return Count(printed, 1 - above - below, good, bad)


def coverage(
    cells: Sequence[Cell], n_studies: int, *, n_workers: int = 1, seed: int = 0
) -> dict[Cell, dict[str, Count]]:
    """Simulate studies of each kind, and count for each number how often its interval holds the truth."""
    tasks = [
        (cell, first, min(first + STUDIES_PER_TASK, n_studies))
        for cell in cells
        for first in range(0, n_studies, STUDIES_PER_TASK)
    ]
    work = partial(judge_studies, seed=seed)
    if n_workers == 1:
        parts = list(map(work, tasks))
    else:
        with ProcessPoolExecutor(n_workers) as pool:
            parts = list(pool.map(work, tasks))
    result = {}
    for cell in cells:
        of_cell = [part for task, part in zip(tasks, parts, strict=True) if task[0] == cell]
        result[cell] = {
            name: count(name, np.concatenate([part[name] for part in of_cell])) for name in of_cell[0]
        }
    return result


def table(counts: dict[Cell, dict[str, Count]]) -> str:
    """Return one size of study as a table in Markdown: percentages that cover, are too good, too bad."""
    cells = list(counts)
    lines = ["| | " + " | ".join(cell.title for cell in cells) + " |", "|---" * (len(cells) + 1) + "|"]
    for name in counts[cells[0]]:
        texts = [_in_percent(counts[cell][name]) for cell in cells]
        lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def _in_percent(one: Count) -> str:
    if math.isnan(one.covers):
        return "–"
    covers, good, bad = (100 * share for share in one[1:])
    few = f"; of {100 * one.printed:.0f} %" if one.printed < 0.995 else ""
    return f"{covers:.1f} ({good:.0f}, {bad:.0f}{few})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=500, help="of each kind")
    parser.add_argument("--positives", type=int, nargs="+", default=POSITIVES, help="ECGs to be expected")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for positives in arguments.positives:
        started = time.perf_counter()
        cells = [Cell(positives, auroc, ecgs) for ecgs in (1, 3) for auroc in AUROCS]
        counts = coverage(cells, arguments.studies, n_workers=arguments.workers, seed=arguments.seed)
        size = f"{positives} positives of {round(positives / PREVALENCE):,} ECGs"
        seconds = time.perf_counter() - started
        print(
            f"\n{size}, {arguments.studies:,} studies of each kind, {seconds:.0f} s\n\n{table(counts)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
