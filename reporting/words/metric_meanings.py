"""The table of metrics of one label: each with its interval and one sentence that says what it means.

Nothing here computes a metric. An undefined one is shown with its reason.
"""

from collections.abc import Callable
from dataclasses import dataclass

from metrics.metric import Metric
from metrics.rule_out import KEYS as RULE_OUT
from metrics.rule_out import MIN_PATIENTS, share_that_may_lie_below
from reporting.words.formatting import few, interval, number

Meaning = Callable[[Metric, str, dict], str]  # of the metric, the label's name and the label's metrics


@dataclass(frozen=True)
class MetricRow:
    """One line of the table of metrics; all of it text."""

    title: str
    value: str
    interval: str
    meaning: str


@dataclass(frozen=True)
class Explained:
    """How a metric is named, formatted and explained."""

    key: str  # of a label in `metrics.json`
    title: str
    meaning: Meaning
    digits: int = 3


def metric_groups(name: str, metrics: dict) -> list[tuple[str, list[MetricRow]]]:
    """Return the metrics of one label that `metrics.json` has, under their headings."""
    label = with_points(metrics["labels"][name])
    groups = []
    for heading, explained in GROUPS.items():
        rows = [_row(one, name, label, metrics) for one in explained if one.key in label]
        groups += [(heading, rows)] if rows else []
    return groups


def with_points(label: dict) -> dict:
    """Return a label's metrics with those of its fixed points beside them, under keys of their own.

    What the tested ECGs' own curve says of such a point is left out.
    """
    points = {point: label[point] for point in POINTS if point in label}
    replaced = {key for point in points for key in POINTS[point]}
    flat = {f"{point}_{key}": part for point, parts in points.items() for key, part in parts.items()}
    return {key: part for key, part in label.items() if key not in replaced} | flat


def missing_class(label: dict, metrics: dict) -> str:
    """Return which class has no ECG among those whose label is known; "" where both have some."""
    if label["n_positive"] == 0:
        return "no positive ECG"
    n_known = metrics["n_ecgs"] - label.get("n_unknown", 0)
    return "no negative ECG" if label["n_positive"] == n_known else ""


def _row(explained: Explained, name: str, label: dict, metrics: dict) -> MetricRow:
    found = label[explained.key]
    metric = found if isinstance(found, Metric) else Metric(found)
    if explained.key in RULE_OUT and (words := too_few_to_rule_out(name, label)):
        return MetricRow(explained.title, "too few to say", "", f"{words[0].upper()}{words[1:]}.")
    if not metric.is_defined:
        return _undefined_row(explained, metric, label, metrics)
    ends = interval(metric, explained.digits) if metric.has_interval else "none" if metric is found else ""
    if metric.reason and not metric.has_interval:
        ends = f"none: {metric.reason}"
    value = number(metric.value, explained.digits)
    return MetricRow(explained.title, value, ends, explained.meaning(metric, name, label))


def _undefined_row(explained: Explained, metric: Metric, label: dict, metrics: dict) -> MetricRow:
    reason = missing_class(label, metrics) or _UNDEFINED.get(explained.key) or metric.reason or "too few ECGs"
    bound = f"above {number(metric.low, explained.digits)}" if metric.has_interval else ""
    return MetricRow(explained.title, "undefined", bound, f"It cannot be said here: {reason}.")


def too_few_to_rule_out(name: str, label: dict) -> str:
    """Return in words that too few have the disease for a threshold of 95 % sensitivity; "" where enough do.

    Runs of earlier versions have numbers even so: they are not shown.
    """
    n_patients = label.get("n_positive_patients", label["n_positive"])
    if n_patients >= MIN_PATIENTS:
        return ""
    share = f"up to {100 * share_that_may_lie_below(n_patients):.0f} % of {name}"
    return f"too few {name} ({n_patients}) to say: {share} may lie below the lowest score of these"


# Points that are fixed on other ECGs, and what is read off the tested ECGs' own curve in their absence
POINTS = {"at_specificity_90": ("sensitivity_at_specificity_90",), "at_sensitivity_95": RULE_OUT}
_UNDEFINED = {
    "ppv": "no ECG is flagged",
    "npv": "every ECG is flagged",
    "positive_likelihood_ratio": "no ECG without the disease is flagged, so the ratio is infinite",
    "negative_likelihood_ratio": "every ECG without the disease is flagged",
    "calibration_slope": "the scores are all equal, or separate the classes perfectly",
}


# ----------------------------------------------------------------------------------------------------
# What each means
# ----------------------------------------------------------------------------------------------------


def _share(metric: Metric) -> str:
    return f"{100 * metric.value:.0f} of 100"


def _counts(metric: Metric) -> str:
    return f" ({metric.successes:,} of {metric.n:,})" if metric.n is not None else ""


def _auroc(metric: Metric, name: str, label: dict) -> str:
    return (
        f"Of 100 pairs of an ECG with {name} and one without, in {100 * metric.value:.0f} "
        f"the one with {name} scores higher; 50 is chance."
    )


def _average_precision(metric: Metric, name: str, label: dict) -> str:
    return f"The mean PPV over all sensitivities; chance is the prevalence, {label['prevalence']:.3f}."


def _sensitivity(metric: Metric, name: str, label: dict) -> str:
    return f"{_share(metric)} ECGs with {name} are flagged{_counts(metric)}."


def _specificity(metric: Metric, name: str, label: dict) -> str:
    return f"{_share(metric)} ECGs without {name} are not flagged{_counts(metric)}."


def _ppv(metric: Metric, name: str, label: dict) -> str:
    prevalence = f"at a prevalence of {label['prevalence']:.3f}"
    return f"{_share(metric)} flagged ECGs have {name}{_counts(metric)}, {prevalence}."


def _npv(metric: Metric, name: str, label: dict) -> str:
    return (
        f"{_share(metric)} ECGs that are not flagged are without {name}{_counts(metric)}; "
        f"without any test it would be {1 - label['prevalence']:.3f}."
    )


def _ratio(metric: Metric, name: str, label: dict) -> str:
    return f"Multiplies the odds of {name} where an ECG is flagged; 1 says nothing, 10 nearly settles it."


def _negative_ratio(metric: Metric, name: str, label: dict) -> str:
    return (
        f"Multiplies the odds of {name} where an ECG is not flagged; 1 says nothing, 0.1 nearly excludes it."
    )


def _at_specificity(percent: int) -> Meaning:
    def meaning(metric: Metric, name: str, label: dict) -> str:
        return (
            f"{_share(metric)} ECGs with {name} are found where {100 - percent} of 100 without are flagged."
        )

    return meaning


def _rule_out(metric: Metric, name: str, label: dict) -> str:
    return (
        f"{_share(metric)} ECGs without {name} lie below a threshold that still finds 95 of 100 with {name}."
    )


def _rule_out_npv(metric: Metric, name: str, label: dict) -> str:
    return f"{_share(metric)} ECGs below that threshold are without {name}."


def _avoided(metric: Metric, name: str, label: dict) -> str:
    missed = metric.missed_per_100
    price = "" if missed is None else f", and {few(missed)} with {name} would be missed"
    return f"Of 100 patients, this many would lie below that threshold and go without the next test{price}."


def _below(metric: Metric, name: str, label: dict) -> str:
    return "Of 100 patients, this many would lie below that threshold and go without the next test."


def _missed(metric: Metric, name: str, label: dict) -> str:
    return f"Of 100 patients, this many would lie below that threshold with {name}."


def _brier(metric: Metric, name: str, label: dict) -> str:
    constant = label["prevalence"] * (1 - label["prevalence"])
    comparison = "better than" if metric.value < constant else "no better than"
    return (
        f"The mean squared distance of score and truth, less is better; it is {comparison} "
        f"the {constant:.3f} of always answering the prevalence."
    )


def _slope(metric: Metric, name: str, label: dict) -> str:
    side = _side(metric, 1, "they are", below="too extreme", above="too moderate")
    return f"1 where the scores spread as they should; {side}."


def _intercept(metric: Metric, name: str, label: dict) -> str:
    side = _side(metric, 0, "it is", below="too high", above="too low")
    return f"0 where the mean score is right; {side}."


def _side(metric: Metric, right: int, they_are: str, *, below: str, above: str) -> str:
    """Return what a value below or above the right one means, if its interval leaves that one out."""
    if not metric.has_interval:
        return f"without an interval, whether {they_are} {below} or {above} here cannot be said"
    if metric.low <= right <= metric.high:
        return f"the interval includes {right}, so whether {they_are} {below} or {above} here cannot be said"
    return f"here {they_are} {below if metric.high < right else above}"


def _calibration_error(metric: Metric, name: str, label: dict) -> str:
    perfect = label.get("calibration_error_of_perfect_scores")
    beside = (
        "larger where the ECGs are few"
        if perfect is None
        else f"scores that are right have {perfect:.3f} here"
    )
    return f"The mean distance of score and observed share in ten groups; {beside}."


def _fixed(text: str) -> Meaning:
    return lambda metric, name, label: text


GROUPS: dict[str, list[Explained]] = {
    "Ranking, at any threshold": [
        Explained("auroc", "AUROC", _auroc),
        Explained("average_precision", "average precision", _average_precision),
        Explained(
            "partial_auroc",
            "partial AUROC",
            _fixed("The AUROC where specificity is 0.9 or more, scaled so that 0.5 is chance and 1 perfect."),
        ),
    ],
    "Decisions at the threshold": [
        Explained("sensitivity", "sensitivity", _sensitivity),
        Explained("specificity", "specificity", _specificity),
        Explained("ppv", "PPV", _ppv),
        Explained("npv", "NPV", _npv),
        Explained("positive_likelihood_ratio", "likelihood ratio +", _ratio, 2),
        Explained("negative_likelihood_ratio", "likelihood ratio −", _negative_ratio, 2),
    ],
    "At other points of the curve, whose thresholds other ECGs fixed": [
        Explained("at_specificity_90_sensitivity", "sensitivity at 90 % specificity", _sensitivity),
        Explained("at_specificity_90_specificity", "specificity at 90 % specificity", _specificity),
        Explained("at_sensitivity_95_sensitivity", "sensitivity at 95 % sensitivity", _sensitivity),
        Explained("at_sensitivity_95_specificity", "specificity at 95 % sensitivity", _specificity),
        Explained("at_sensitivity_95_npv", "NPV at 95 % sensitivity", _npv),
        Explained("at_sensitivity_95_below_per_100", "ruled out per 100", _below, 1),
        Explained("at_sensitivity_95_missed_per_100", "missed per 100", _missed, 1),
    ],
    "At other points of the curve, read off these same ECGs": [
        Explained("sensitivity_at_specificity_90", "sensitivity at 90 % specificity", _at_specificity(90)),
        Explained("sensitivity_at_specificity_95", "sensitivity at 95 % specificity", _at_specificity(95)),
        Explained("specificity_at_sensitivity_95", "specificity at 95 % sensitivity", _rule_out),
        Explained("npv_at_sensitivity_95", "NPV at 95 % sensitivity", _rule_out_npv),
        Explained("ct_avoided_per_100", "ruled out per 100", _avoided, 1),
    ],
    "Scores as probabilities": [
        Explained("brier_score", "Brier score", _brier),
        Explained("calibration_slope", "calibration slope", _slope, 2),
        Explained("calibration_intercept", "calibration intercept", _intercept, 2),
        Explained("expected_calibration_error", "expected calibration error", _calibration_error),
    ],
    "In other papers, but improper: the true probabilities need not have the best value": [
        Explained("accuracy", "accuracy", lambda m, *_: f"{_share(m)} ECGs are decided rightly{_counts(m)}."),
        Explained(
            "balanced_accuracy",
            "balanced accuracy",
            _fixed("The mean of sensitivity and specificity; 0.5 is chance."),
        ),
        Explained(
            "f1", "F1", _fixed("The harmonic mean of sensitivity and PPV; it depends on the prevalence.")
        ),
    ],
}
