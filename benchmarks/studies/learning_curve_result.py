"""From the test ECGs of several deals: mean AUROC with an interval, a figure, and the test patients needed.

Patients are resampled once for all seeds: a patient whom several seeds have tested counts equally in each, so
that overlapping test sets are not taken as independent. The seeds are taken as they are.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from metrics.bootstrap import MIN_SHARE_OF_RESAMPLES, resampled_weights
from metrics.checks import normal_quantile, patient_index
from metrics.log_odds import mean_score
from metrics.sample_size import variances_of_pairs
from metrics_and_performance import auroc
from reporting.figures.curves import COLOURS, DOTS_PER_INCH
from run_folder.files import RunFiles
from runtime.atomic_files import write_atomically
from runtime.errors import UserError

SCRATCH = "scratch"  # the arm that starts from random weights
MINUS_SCRATCH = f" - {SCRATCH}"  # follows the name of another arm, where it is compared
AND_SCRATCH = f" & {SCRATCH}"  # follows the name of pretrained weights, where both models score together
N_RESAMPLES, RESAMPLING_SEED = 2000, 42
INTERVALS = (
    f"95 %, of the mean over the seeds: percentiles of {N_RESAMPLES:,} resamples of the patients tested, each"
    " with all ECGs and in all seeds that tested the patient, the same for all starts. The seeds are taken "
    "as they are and their test sets overlap, so that the variation between draws of patients, and between "
    "initial weights, is not counted in full; the spread of the seeds hints at it"
)


class Scored(NamedTuple):
    """The test ECGs of one training, each an array of shape (n_ecgs,)."""

    files: np.ndarray
    patient_ids: np.ndarray
    y_true: np.ndarray
    y_score: np.ndarray


def read_scored(run: Path, label: str) -> Scored:
    """Return the test ECGs of a finished run; a UserError where its predictions cannot be used."""
    columns = ["file", "patient_id", f"y_true_{label}", f"y_score_{label}"]
    table = RunFiles(run).predictions("test")
    if missing := [name for name in columns if name not in table]:
        raise UserError(f"{run / 'predictions.csv'}: found no column {missing[0]}, expected those of {label}")
    table = table[table[columns[2]].notna()]
    return Scored(*(table[column].to_numpy() for column in columns))


def together(one: Scored, other: Scored) -> Scored:
    """Return what two models say of the same ECGs together: the mean of their logits, as `evaluate.py`."""
    return one._replace(y_score=mean_score(np.array([one.y_score, other.y_score])))


def curve_table(tested: Mapping[tuple[int, str], Sequence[Scored]], seeds: Sequence[int]) -> pd.DataFrame:
    """Return the AUROC of each number of patients and each start, and how much pretraining adds.

    Parameters
    ----------
    tested : for a number of fine-tuning patients and a start, `SCRATCH` or the name of pretrained weights,
        the test ECGs of each seed. All trainings of a seed have tested the same ECGs.

    Returns
    -------
    DataFrame
        patients, start, auroc_seed_<seed> …, mean, low, high; for each number of patients a row per start,
        one per pretrained start whose model scores together with that from scratch, and one for each of
        these with what it adds to scratch, paired: from the same resamples.
    """
    rows = []
    for size in sorted({size for size, _ in tested}):
        arms = {SCRATCH: tested[size, SCRATCH]}
        arms |= {start: of_seeds for (n, start), of_seeds in tested.items() if n == size}
        for one, *others in zip(*arms.values(), strict=True):
            same = all(np.array_equal(one.files, other.files) for other in others)
            assert same, "the trainings of a seed tested other ECGs"
        arms |= {
            start + AND_SCRATCH: [together(*pair) for pair in zip(arm, arms[SCRATCH], strict=True)]
            for start, arm in arms.items()
            if start != SCRATCH
        }
        values = {
            start: np.array([auroc(one.y_true, one.y_score) for one in arm]) for start, arm in arms.items()
        }
        resampled = {start: resampled_means(arm) for start, arm in arms.items()}
        for mapping in (values, resampled):
            mapping |= {
                start + MINUS_SCRATCH: mapping[start] - mapping[SCRATCH] for start in arms if start != SCRATCH
            }
        for start, aurocs in values.items():
            columns = {f"auroc_seed_{seed}": value for seed, value in zip(seeds, aurocs, strict=True)}
            low, high = percentile_interval(resampled[start])
            ends = {"mean": aurocs.mean(), "low": low, "high": high}
            rows.append({"patients": size, "start": start, **columns, **ends})
    return pd.DataFrame(rows)


def resampled_means(
    tests: Sequence[Scored], n_resamples: int = N_RESAMPLES, seed: int = RESAMPLING_SEED
) -> np.ndarray:
    """Return the mean AUROC over the seeds in each resample of the patients of all their test sets.

    Patients are drawn with replacement, each with all ECGs in the test sets of all seeds.

    Returns
    -------
    array of shape (n_resamples,); nan where a test set is left without one of the classes. The same patients
    and `seed` give the same resamples for any scores.
    """
    ids = np.concatenate([tested.patient_ids for tested in tests])
    ends = np.cumsum([len(tested.files) for tested in tests])
    means = []
    for weights in resampled_weights(patient_index(ids, len(ids)), n_resamples, seed):
        parts = np.split(weights, ends[:-1], axis=1)
        pairs = zip(tests, parts, strict=True)
        aurocs = [weighted_aurocs(tested.y_true, tested.y_score, part) for tested, part in pairs]
        means.append(np.mean(aurocs, axis=0))
    return np.concatenate(means)


def weighted_aurocs(y_true: np.ndarray, y_score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the AUROC for each row of weights.

    Parameters
    ----------
    y_true, y_score : array of shape (n_ecgs,)
    weights : array of shape (n_rows, n_ecgs), how often each ECG counts

    Returns
    -------
    array of shape (n_rows,), nan where all positive or all negative ECGs have weight 0.
    """
    order = np.argsort(y_score, kind="stable")
    _, first = np.unique(y_score[order], return_index=True)  # of the ECGs of each score
    positive, negative = (
        np.add.reduceat(weights[:, order] * is_class, first, axis=1)
        for is_class in (y_true[order] == 1, y_true[order] == 0)
    )
    below = negative.cumsum(axis=1) - negative / 2  # ties count half
    n_pairs = (positive.sum(axis=1) * negative.sum(axis=1)).astype(float)
    n_pairs[n_pairs == 0] = math.nan
    return (positive * below).sum(axis=1) / n_pairs


def percentile_interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval; nan where fewer than nine in ten resamples are defined."""
    defined = values[~np.isnan(values)]
    if len(defined) < MIN_SHARE_OF_RESAMPLES * len(values):
        return math.nan, math.nan
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


# ----------------------------------------------------------------------------------------------------
# How many patients a test set must have
# ----------------------------------------------------------------------------------------------------


def patients_needed(true_auroc: float, prevalence: float, width: float, confidence: float = 0.95) -> int:
    """Return how many patients, with one ECG each, make the AUROC's interval no wider than `width`.

    The interval is that of `metrics.sample_size.expected_width`, where the prevalence is exactly that of the
    patients. It is solved for their number, a quadratic equation.

    Parameters
    ----------
    true_auroc, prevalence, width, confidence : between 0 and 1
    """
    for name, value in (("true_auroc", true_auroc), ("prevalence", prevalence), ("width", width)):
        if not 0 < value < 1:
            raise ValueError(f"{name}: expected a number between 0 and 1, found {value}")
    q1, q2 = variances_of_pairs(true_auroc)
    square = (width / (2 * normal_quantile(confidence))) ** 2 * prevalence * (1 - prevalence)
    linear = prevalence * q1 + (1 - prevalence) * q2
    constant = true_auroc * (1 - true_auroc) - q1 - q2
    return math.ceil((linear + math.sqrt(linear**2 + 4 * square * constant)) / (2 * square))


def sample_size(table: pd.DataFrame, label: str, prevalence: float, width: float) -> str:
    """Return in a sentence the `patients_needed` for the better start on the most patients."""
    is_arm = ~table["start"].str.endswith((MINUS_SCRATCH, AND_SCRATCH))
    rows = table[(table["patients"] == table["patients"].max()) & is_arm]
    best = rows.loc[rows["mean"].idxmax()]
    found = f"the AUROC of {best['mean']:.3f} ({start_name(best['start'])}, {best['patients']:,} patients)"
    if not 0 < best["mean"] < 1:
        return f"{found} has no standard error, and the number of test patients does not follow"
    n = patients_needed(best["mean"], prevalence, width)
    return (
        f"for a 95 % interval {width:g} wide at {found} and a prevalence of {100 * prevalence:.1f} %, a test "
        f"set must have {n:,} patients, {n * prevalence:,.0f} of them with {label} (Hanley & McNeil 1982)"
    )


# ----------------------------------------------------------------------------------------------------
# What a person looks at
# ----------------------------------------------------------------------------------------------------


def start_name(start: str) -> str:
    """Return the name of an arm for people."""
    return "from scratch" if start == SCRATCH else start


def format_table(table: pd.DataFrame) -> str:
    """Return the table of `curve_table` as lines."""
    seeds = [column for column in table if column.startswith("auroc_seed_")]
    titles = [column.removeprefix("auroc_").replace("_", " ") for column in seeds]
    width = max(table["start"].map(len).max(), len(start_name(SCRATCH))) + 2
    lines = [f"{'patients':>8}   {'start':<{width}}" + "".join(f"{title:>9}" for title in [*titles, "mean"])]
    lines[0] += "   95 % interval"
    for row in table.to_dict("records"):
        is_difference = row["start"].endswith(MINUS_SCRATCH)
        sign = "+" if is_difference else ""
        cells = "".join(f"{row[column]:>{sign}9.3f}" for column in [*seeds, "mean"])
        low, high = (f"{row[end]:{sign}.3f}" for end in ("low", "high"))
        interval = "undefined" if math.isnan(row["low"]) else f"{low}{' to ' if is_difference else '-'}{high}"
        lines.append(f"{row['patients']:>8,}   {start_name(row['start']):<{width}}{cells}   {interval}")
    return "\n".join(lines)


def draw_curve(table: pd.DataFrame, path: Path, *, title: str) -> None:
    """Draw AUROC against the number of fine-tuning patients, one line per start.

    Parameters
    ----------
    table : of `curve_table`
    path : of the PNG file; the same figure is written with the suffix .svg.
    """
    figure = Figure(figsize=(7, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    sizes = np.unique(table["patients"])
    shift = (sizes[-1] / sizes[0]) ** 0.008 if len(sizes) > 1 else 1.01  # puts the bars side by side
    seeds = [column for column in table if column.startswith("auroc_seed_")]
    starts = [one for one in table["start"].unique() if not one.endswith((MINUS_SCRATCH, AND_SCRATCH))]
    for number, (start, colour) in enumerate(zip(starts, itertools.cycle(COLOURS), strict=False)):
        rows, factor = table[table["start"] == start], shift ** (2 * number - len(starts) + 1)
        x, mean = rows["patients"] * factor, rows["mean"]
        bars = [mean - rows["low"], rows["high"] - mean]
        style = {"color": colour, "marker": "s", "markersize": 6, "linewidth": 1.8, "zorder": 3}
        axes.errorbar(x, mean, yerr=bars, capsize=4, elinewidth=1.2, label=start_name(start), **style)
        for column in seeds:
            axes.plot(x, rows[column], "o", color=colour, markersize=4, alpha=0.55, mew=0)
    axes.set_xscale("log")
    margin = shift ** (3 * len(starts)) if len(sizes) > 1 else 1.2
    axes.set_xlim(sizes[0] / margin, sizes[-1] * margin)
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(xlabel="fine-tuning patients, those who validate included", ylabel="test AUROC")
    axes.set_title(title, fontsize=10)
    axes.legend(loc="best", frameon=False)
    write_atomically(path, lambda aside: figure.savefig(aside, format="png", dpi=DOTS_PER_INCH))
    svg = path.with_suffix(".svg")
    write_atomically(svg, lambda aside: figure.savefig(aside, format="svg", metadata={"Date": None}))
