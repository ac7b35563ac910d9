"""Sets of PE, no PE or "not sure" in words: what they did on the test ECGs, and their guarantee."""

from inference.abstention import Abstention, CalibrationScores
from metrics.metric import Metric
from reporting.words.formatting import interval, number
from runtime.messages import counted

ALPHA = 0.1  # the error rate in each class that a report shows


def sets_line(sets: Abstention) -> str:
    """Return in a line what sets are fitted to, and what they were worth on the run's test ECGs."""
    label, (without, with_it) = sets.label, sets.covered
    return (
        f"{label} at alpha {sets.alpha:g}, from {len(sets.sets.positive)} patients with and "
        f"{len(sets.sets.negative)} without, {sets.fitted_on}; on the run's test ECGs "
        f"{sets.decided.successes} of {sets.decided.n} decided, {sets.right.successes} of them right; "
        f"{_n_wrong(with_it)} of {with_it.n} with {label} called no {label}, {_n_wrong(without)} of "
        f"{without.n} without called {label}"
    )


def report_sentences(scores: CalibrationScores) -> list[str]:
    """Return what sets at the report's error rate did on the test ECGs, or why there are none."""
    if shortage := scores.shortage(ALPHA):
        return [
            f"predict.py --alpha cannot call an ECG {scores.label}, no {scores.label} or not sure here: "
            f"{shortage}. With a larger alpha it can."
        ]
    sets = scores.at(ALPHA)
    label, (without, with_it) = sets.label, sets.covered
    patients = counted(len(sets.sets.positive), "patient")
    return [
        f"predict.py --alpha {ALPHA:g} calls an ECG {label}, no {label} or not sure, by the {sets.fitted_on} "
        f"scores of {patients} with and {len(sets.sets.negative):,} without {label} (conformal sets). Of the "
        f"test ECGs {_share(sets.decided)} are decided, of these {_share(sets.right)} rightly; "
        f"{_n_wrong(with_it):,} of {with_it.n:,} with {label} are called no {label}, and "
        f"{_n_wrong(without):,} of {without.n:,} without it are called {label}.",
        guarantee(sets) + (f" Here it holds roughly, as {sets.rough}." if sets.rough else ""),
    ]


def guarantee(sets: Abstention) -> str:
    """Return what share of each class is called the other at most, and for whom that does not hold."""
    label, share = sets.label, f"{'about' if sets.rough else 'at most'} {100 * sets.alpha:g} %"
    return (
        f"Of patients with {label} {share} are called no {label}, and as few of those without {label}, on "
        f"average, if they are drawn as the run's {sets.fitted_on} patients were: not at another hospital, "
        "device or way of referral, in a subgroup by itself, or for an ECG unlike the training."
    )


def _n_wrong(covered: Metric) -> int:
    return covered.n - covered.successes


def _share(metric: Metric) -> str:
    """Return text such as "55 of 60 (0.917, 95 % CI 0.816–0.972)"."""
    counts = f"{metric.successes:,} of {metric.n:,}"
    return f"{counts} ({number(metric.value)}, 95 % CI {interval(metric)})" if metric.n else counts
