"""The metrics of one evaluation as the block of text that ends a training."""

from collections.abc import Iterator

from metrics.metric import Metric
from reporting.words.decision_words import decision_notes, span_of_folds
from reporting.words.formatting import few, interval, number, plain, with_interval
from reporting.words.metric_meanings import missing_class, too_few_to_rule_out
from run_folder.repeats import ecgs_of
from runtime.messages import counted

INDENT = 12  # characters of the left column, "test        "
WIDE_INTERVAL = 0.1  # of an AUROC: 0.70-0.80 leaves open whether a model is poor or useful


def format_metrics(metrics: dict) -> str:
    """Format the metrics of one set of ECGs as a block of lines.

    Parameters
    ----------
    metrics : dict
        The result of `metrics_and_performance.evaluate`. Further keys are shown where they are given:
        `split`, the word of the left column ("test" without it), `n_repeats` of a cross-validation, and
        `threshold_source`, how the thresholds were chosen ("Youden, from validation"), and `decisions`, what
        they rest on.

    Returns
    -------
    str
        Lines without a final newline: one group of lines for each label; undefined metrics with the reason.
    """
    lines = [_headline(metrics)]
    if macro := metrics.get("macro"):
        lines.append(_macro_line(macro, len(metrics["labels"])))
    for name, label in metrics["labels"].items():
        if len(metrics["labels"]) > 1:
            lines.append(f"{name}: {threshold_in_words(label)}")
        lines += _label_lines(name, label, metrics)
    lines += _caveats(metrics)
    left = [metrics.get("split", "test")] + [""] * (len(lines) - 1)
    return plain("\n".join(f"{word:<{INDENT - 1}} {line}" for word, line in zip(left, lines, strict=True)))


def _headline(metrics: dict) -> str:
    n_repeats = metrics.get("n_repeats", 1)  # of a cross-validation
    n_ecgs = ecgs_of(metrics["n_ecgs"], metrics)
    ecgs = f"{counted(n_ecgs, 'ECG')} of {counted(metrics['n_patients'], 'patient')}"
    if metrics.get("split", "test") == "test":
        ecgs += ", scored once" if n_repeats == 1 else f", each scored {n_repeats} times and so counted below"
    if n_folds := metrics.get("n_folds"):
        ecgs += f", by the one of {n_folds} folds that did not train on them"
    source = metrics.get("threshold_source")
    labels = list(metrics["labels"].values())
    if len(labels) == 1:
        return f"{ecgs}; {threshold_in_words(labels[0])}" + (f" ({source})" if source else "")
    return ecgs + (f"; thresholds: {source}" if source else "")


def threshold_in_words(label: dict) -> str:
    """Return text such as "threshold 0.31", or the span over several folds."""
    span = span_of_folds(label)
    return f"thresholds {span}" if span else f"threshold {label['threshold']:.3g}"


def _macro_line(macro: dict, n_labels: int) -> str:
    if not macro["n_labels"]:
        return f"mean over the labels: undefined (none of the {n_labels} has positive and negative ECGs)"
    count = f"{n_labels}" if macro["n_labels"] == n_labels else f"{macro['n_labels']} of {n_labels}"
    means = f"AUROC {macro['auroc']:.3f}, average precision {macro['average_precision']:.3f}"
    return f"mean of {count} labels: {means}"


def _label_lines(name: str, label: dict, metrics: dict) -> Iterator[str]:
    missing = missing_class(label, metrics)
    confidence = f"{100 * metrics['confidence']:g} % CI "
    yield _row("AUROC", label["auroc"], "", missing, confidence)
    prevalence = f"prevalence {label['prevalence']:.3f}"
    kept, wanted = label["average_precision"].n_resamples, metrics["n_resamples"]
    resamples = f"; {kept:,} of {wanted:,} resamples have both classes" if 0 < kept < wanted else ""
    yield _row("average precision", label["average_precision"], prevalence + resamples, missing)
    for title, key, reason in (
        ("sensitivity", "sensitivity", missing),
        ("specificity", "specificity", missing),
        ("PPV", "ppv", "no ECG flagged"),
        ("NPV", "npv", "every ECG flagged"),
    ):
        yield _row(title, label[key], f"{label[key].successes:,} of {label[key].n:,}", reason)
    if not missing and "calibration_slope" in label:  # runs of earlier versions have only the lines above
        yield from _lines_of_use(name, label)
    yield _brier_score(label)
    yield _in_words(name, label["confusion_matrix"])


def _row(title: str, metric: Metric, note: str, reason: str, confidence: str = "") -> str:
    if not metric.is_defined:
        return f"{title:<18} undefined ({reason})"
    ends = f"{confidence}{interval(metric)}"
    if not metric.has_interval:
        ends = f"no interval: {metric.reason or 'too few patients'}"
    return f"{title:<18} {number(metric.value)}   {f'({ends})':<24} {note}".rstrip()


def _lines_of_use(name: str, label: dict) -> Iterator[str]:
    """What an answer changes, what other thresholds would give, and whether the scores are probabilities."""
    ratios = (with_interval(label[f"{key}_likelihood_ratio"], 2) for key in ("positive", "negative"))
    yield "{:<18} LR+ {}, LR- {}".format("likelihood ratios", *ratios)
    if point := label.get("at_specificity_90"):
        yield f"{'at 90 % spec.':<18} {_point_in_words(point)}"
    else:
        sensitivity = with_interval(label["sensitivity_at_specificity_90"], 3)
        yield f"{'at 90 % spec.':<18} sensitivity {sensitivity}, read off the ROC curve of these ECGs"
    yield from _ruled_out(name, label)
    slope, intercept = (with_interval(label[f"calibration_{key}"], 2) for key in ("slope", "intercept"))
    yield f"{'calibration':<18} slope {slope}, intercept {intercept}"
    error = f"expected error {label['expected_calibration_error']:.3f}"
    if perfect := label.get("calibration_error_of_perfect_scores"):
        error += f"; scores that are right have {perfect:.3f} here"
    yield f"{'':<18} {error}"


def _ruled_out(name: str, label: dict) -> Iterator[str]:
    """What a threshold that still finds 95 % would spare, and its price."""
    what = "CT angiographies avoided" if name.upper() == "PE" else "ruled out"
    if point := label.get("at_sensitivity_95"):
        yield f"{'at 95 % sens.':<18} {_point_in_words(point)}"
        below, missed = (with_interval(point[f"{key}_per_100"], 1) for key in ("below", "missed"))
        yield f"{'':<18} of 100 patients: {below} {what}, {missed} {name} missed"
        return
    if too_few := too_few_to_rule_out(name, label):
        yield f"{'at 95 % sens.':<18} {too_few}"
        return
    specificity, npv = (with_interval(label[f"{key}_at_sensitivity_95"], 3) for key in ("specificity", "npv"))
    yield f"{'at 95 % sens.':<18} specificity {specificity}, NPV {npv}, read off in the same way"
    ruled_out = label["ct_avoided_per_100"]
    per_100 = f"{with_interval(ruled_out, 1)} {what}, {few(ruled_out.missed_per_100)} {name} missed"
    yield f"{'':<18} of 100 patients: {per_100}"


def _point_in_words(point: dict) -> str:
    sensitivity, specificity = (with_interval(point[key]) for key in ("sensitivity", "specificity"))
    return f"sensitivity {sensitivity}, specificity {specificity}, fixed on other ECGs"


def _brier_score(label: dict) -> str:
    """Return the Brier score beside that of a constant answer, the one to beat."""
    constant = label["prevalence"] * (1 - label["prevalence"])
    score = number(label["brier_score"])
    return f"{'Brier score':<18} {score}   (always answering the prevalence: {constant:.3f})"


def _in_words(name: str, counts: dict) -> str:
    """Return the confusion matrix in words: "14 of 21 PE found, 7 missed; 48 of 181 without PE flagged"."""
    n_positive, n_negative = counts["tp"] + counts["fn"], counts["tn"] + counts["fp"]
    found, flagged = f"no ECG with {name}", f"no ECG without {name}"
    if n_positive:
        found = f"{counts['tp']:,} of {n_positive:,} {name} found, {counts['fn']:,} missed"
    if n_negative:
        flagged = f"{counts['fp']:,} of {n_negative:,} without {name} flagged"
    return f"{found}; {flagged}"


def _caveats(metrics: dict) -> Iterator[str]:
    """Yield how far to believe the numbers: the widest AUROC interval, and several ECGs of one patient."""
    widths = {
        name: label["auroc"].high - label["auroc"].low
        for name, label in metrics["labels"].items()
        if label["auroc"].has_interval
    }
    if widths:
        widest = max(widths, key=widths.get)
        whose = f" of {widest}" if len(metrics["labels"]) > 1 else ""
        yield _width_in_words(widths[widest], whose, metrics.get("n_folds", 0))
    yield from decision_notes(metrics.get("decisions", {}))
    for name, label in metrics["labels"].items():
        if n_unknown := ecgs_of(label.get("n_unknown", 0), metrics):
            which = "which counts" if n_unknown == 1 else "which count"
            yield f"{name} is not known of {counted(n_unknown, 'ECG')}, {which} for the other labels only"
    if ecgs_of(metrics["n_ecgs"], metrics) > metrics["n_patients"]:
        yield "some patients have several scored ECGs: the intervals count patients, not ECGs"


def _width_in_words(width: float, whose: str, n_folds: int) -> str:
    if width < WIDE_INTERVAL or n_folds:
        return f"the AUROC's interval{whose} spans {width:.3f}"
    spans = f"the AUROC's{whose} spans {width:.3f}"
    return f"a single split leaves wide intervals: {spans}; --folds 5 tests every ECG"
