"""The sentences of a report: what each number means, for a reader who treats patients.

Nothing here computes a metric; an undefined one is shown with its reason.
"""

import numpy as np

from cohorts.synthetic import planted_auroc
from ecg.recording import LEADS, MIN_SECONDS
from metrics.metric import Metric
from reporting.words.decision_words import decision_notes
from reporting.words.formatting import interval, number
from reporting.words.metric_meanings import missing_class
from reporting.words.summary import WIDE_INTERVAL
from run_folder.repeats import ecgs_of
from run_folder.run_record import RunRecord
from runtime.messages import counted, duration

PUBLISHED_PE = (0.59, 0.75)  # AUROC for PE on the ECG alone: Somani 2021 … Strodthoff 2024
SUSPICIOUS_PE = 0.85
RESEARCH_ONLY = "research only, not for deciding about a patient"


# ----------------------------------------------------------------------------------------------------
# The verdict
# ----------------------------------------------------------------------------------------------------


def verdict(record: RunRecord) -> str:
    """Return the one sentence to remember about a run."""
    metrics = record.metrics
    if not metrics:
        return f"No test set has been scored yet: this run has no result; {RESEARCH_ONLY}."
    n_repeats = metrics.get("n_repeats", 1)
    n_ecgs, patients = ecgs_of(metrics["n_ecgs"], metrics), counted(metrics["n_patients"], "patient")
    ecgs = f"{counted(n_ecgs, 'ECG')} of {patients} whom the model had not seen"
    if record.is_cross_validation:
        ecgs += ", out of fold"
    if n_repeats > 1:
        ecgs += f", each scored {n_repeats} times"
    if len(record.label_names) > 1:
        return f"On {ecgs}, {_macro_in_words(metrics)}; {RESEARCH_ONLY}."
    name, label = next(iter(metrics["labels"].items()))
    auroc = label["auroc"]
    if not auroc.is_defined:
        return f"On {ecgs}, the AUROC is undefined ({missing_class(label, metrics)}); {RESEARCH_ONLY}."
    times = f"of two ECGs, one with {name}, that one scores higher {100 * auroc.value:.0f} times in 100"
    remark = f", {text}" if (text := auroc_remark(record, name)) else ""
    return f"On {ecgs}, the AUROC is {_with_interval(auroc, metrics)}: {times}{remark}; {RESEARCH_ONLY}."


def auroc_remark(record: RunRecord, name: str) -> str:
    """Return how far to believe an AUROC; empty where nothing speaks against it."""
    auroc = record.metrics["labels"][name]["auroc"]
    if record.is_demo:
        return "on synthetic ECGs, which says nothing about the diagnosis in patients"
    if not auroc.has_interval:
        return "and too few patients for an interval"
    if auroc.low <= 0.5 <= auroc.high:
        return "which chance alone can explain"
    if name.upper() == "PE" and auroc.value > SUSPICIOUS_PE:
        low, high = PUBLISHED_PE
        published = f"which is more than is published for PE on the ECG alone ({low}–{high})"
        return f"{published}, so look for leakage first"
    if auroc.high - auroc.low >= WIDE_INTERVAL:
        return "with a wide interval, which leaves open how good the model is"
    return ""


def _macro_in_words(metrics: dict) -> str:
    aurocs = {
        name: label["auroc"].value for name, label in metrics["labels"].items() if label["auroc"].is_defined
    }
    if not aurocs:
        return f"no AUROC is defined: none of the {len(metrics['labels'])} labels has both classes"
    worst, best = min(aurocs, key=aurocs.get), max(aurocs, key=aurocs.get)
    mean = float(np.mean(list(aurocs.values())))
    return (
        f"the mean AUROC of {counted(len(aurocs), 'label')} is {mean:.3f}, "
        f"from {aurocs[worst]:.3f} ({worst}) to {aurocs[best]:.3f} ({best})"
    )


def _with_interval(metric: Metric, metrics: dict) -> str:
    """Return text such as "0.742 (95 % CI 0.641–0.836)"."""
    ends = "no interval: too few patients"
    if metric.has_interval:
        ends = f"{100 * metrics['confidence']:g} % CI {interval(metric)}"
    return f"{number(metric.value)} ({ends})"


# ----------------------------------------------------------------------------------------------------
# Decisions
# ----------------------------------------------------------------------------------------------------


def confusion_sentences(name: str, metrics: dict) -> list[str]:
    """Return the confusion matrix in sentences, as a clinician would count."""
    label = metrics["labels"][name]
    counts = label["confusion_matrix"]
    positive, negative = counts["tp"] + counts["fn"], counts["tn"] + counts["fp"]
    flagged = counts["tp"] + counts["fp"]
    found, alarms = (f"{counts[key]:,} {'was' if counts[key] == 1 else 'were'}" for key in ("tp", "fp"))
    with_name = f"Of {counted(positive, 'ECG')} with {name}, {found} flagged and {counts['fn']:,} missed."
    without = f"Of {counted(negative, 'ECG')} without {name}, {alarms} flagged for nothing."
    sentences = [
        with_name if positive else f"No ECG had {name}.",
        without if negative else f"No ECG was without {name}.",
    ]
    if counts["tp"] and flagged:
        sentences.append(f"For each {name} found, {counts['fp'] / counts['tp']:.1f} others were flagged too.")
    elif not flagged:
        sentences.append("No ECG was flagged at all.")
    if (n_repeats := metrics.get("n_repeats", 1)) > 1:
        sentences.append(f"Each ECG counts {n_repeats} times here, once per repeat of the cross-validation.")
    return sentences


def calibrated_on(record: RunRecord) -> str:
    """Return what the calibration was fitted on; the first versions took validation in each fold too."""
    if record.is_cross_validation and any("n_positive" in one for one in record.descriptions.values()):
        return "the out-of-fold logits of the other folds"
    return "the validation ECGs"


def threshold_sentence(record: RunRecord, name: str) -> str:
    """Return where the threshold comes from, of a cross-validation perhaps one per fold."""
    source = record.metrics.get("threshold_source", "chosen before the test")
    thresholds = fold_thresholds(record, name)
    if not thresholds:
        return f"The threshold: {source}."
    decisions = record.metrics.get("decisions", {})
    notes = decision_notes({name: decisions[name]} if name in decisions else {})
    notes = "".join(f" {note[0].upper()}{note[1:]}." for note in notes)
    if len(thresholds) == 1:
        return f"An ECG is flagged where its score is {thresholds[0]:.3g} or more ({source}).{notes}"
    span = f"{min(thresholds):.3g} to {max(thresholds):.3g}"
    return f"An ECG is flagged by the threshold of its fold, {span} ({source}).{notes}"


def fold_thresholds(record: RunRecord, name: str) -> list[float]:
    """Return the different thresholds that decided on the scored ECGs."""
    thresholds = record.thresholds(name)
    return sorted(set(thresholds[~np.isnan(thresholds)].tolist()))


def fold_sentence(record: RunRecord, name: str) -> str:
    """Return how the AUROC differs between the folds; empty for a single split."""
    aurocs = [fold.get(name, np.nan) for fold in record.metrics.get("auroc_of_folds", [])]
    defined = [value for value in aurocs if not np.isnan(value)]
    if not defined:
        return ""
    undefined = f"; undefined in {len(aurocs) - len(defined)}" if len(defined) < len(aurocs) else ""
    return (
        f"The AUROC within the folds is {np.mean(defined):.3f} in the mean, "
        f"from {min(defined):.3f} to {max(defined):.3f}{undefined}. The pooled one above also compares "
        "scores of different folds' models."
    )


def instability_sentence(name: str, found: dict[str, float], shape: tuple[int, int]) -> str:
    """Return how far the scores of the same ECGs differ between repeats.

    Parameters
    ----------
    found : of ``metrics.instability.instability``.
    shape : numbers of ECGs and of repeats.
    """
    keys = ("mape", "largest_mape", "span", "span_of_most")
    mape, largest, span, most = (f"{found[key]:.3f}" for key in keys)
    return (
        f"Each of {shape[0]:,} ECGs was scored in {shape[1]} repeats, by models that had learnt from other "
        f"patients. A score of {name} lies {mape} from the mean of its ECG's scores (mean absolute "
        f"prediction error, MAPE, the mean over the ECGs; the largest of an ECG is {largest}). Between the "
        f"lowest and the highest score of an ECG lie {span} in the median, and at most {most} in 95 of 100; "
        f"{100 * found['changed']:.1f} of 100 ECGs are flagged in some repeats and not in others."
    )


def compute_in_words(compute: dict) -> str:
    """Return what ``environment.json`` says that a run has cost."""
    training, run = (duration(compute[f"{part}_seconds"]) for part in ("training", "run"))
    of_process = "the first of them" if (n := compute["processes"]) > 1 else "the whole run"
    parts = [
        f"training {training} of wall time" + (f" in {n} processes" if n > 1 else ""),
        f"{of_process} {run}, {duration(compute['cpu_seconds'])} of CPU time",
    ]
    resumed = "; it was resumed, and the latter are those of the last process" if compute["resumed"] else ""
    return "; ".join(parts) + resumed


def planted_signs(record: RunRecord) -> str:
    """Return what a model that found the demo's planted signs would have; "" for other ECGs."""
    if not (record.is_demo and record.metrics):
        return ""
    auroc = planted_auroc(record.data_dir, set(record.predictions["file"]))
    if np.isnan(auroc):
        return ""
    return f"A model that found all planted signs would have an AUROC of {auroc:.3f} on the tested ECGs."


# ----------------------------------------------------------------------------------------------------
# Limits
# ----------------------------------------------------------------------------------------------------


def _elsewhere(record: RunRecord) -> str:
    """Return whether the run was tested on another cohort, as far as is recorded beside it."""
    tested = "Nothing here was tested at another hospital."
    if record.external:
        folders = ", ".join(validation.folder for validation in record.external)
        tested = f"It was tested on another cohort too ({folders}); other hospitals may differ from both."
    return (
        f"{tested} Who is sent to CT angiography differs between hospitals, and so will the model's errors."
    )


def short_recordings(min_seconds: float) -> list[str]:
    """Return a sentence where recordings were accepted that are shorter than usual, in s; none otherwise."""
    if min_seconds >= MIN_SECONDS:
        return []
    return [
        f"Recordings of {min_seconds:g} s or more were accepted (--min-seconds) in place of {MIN_SECONDS:g} "
        "s. Those below 10 s were padded with their first and last values; the quality checks count them."
    ]


def limits(record: RunRecord) -> list[str]:
    """Return what must be said beside the numbers of this run."""
    metrics, sentences = record.metrics, []
    if record.is_demo:
        sentences.append(
            "The ECGs are synthetic, computed from formulas. They show that the program works, nothing else."
        )
        sentences += filter(None, [planted_signs(record)])
    sentences += [
        "Research only. The model is not a medical device, has no clearance, and must not decide about care.",
        _elsewhere(record),
        "PPV and NPV hold for a prevalence like that of the ECGs here, and for no other.",
        "The intervals say how much the result depends on which patients were tested. They leave out "
        "how much it depends on the training: other seeds, other splits.",
        "The bands around the curves hold for each point by itself, not for a curve as a whole.",
        "The most confident errors are the extremes of this run. They are not typical of its errors.",
    ]
    sentences += short_recordings(record.min_seconds)
    least = int(record.hyperparameters.get("min_leads") or len(LEADS))
    if least < len(LEADS):
        sentences.append(
            f"Recordings of {least} or more of the twelve leads were accepted (--min-leads). Those that are "
            "missing are zeros; quality.csv names them."
        )
    sentences += [
        f"The weights to start from came from a file of another model, {weights['file']} (SHA-256 "
        f"{weights['sha256']}). Nobody here knows which ECGs they have seen: those tested here may be among "
        "them."
        for weights in record.foreign
    ]
    if record.is_cross_validation:
        sentences.append(
            "The scores are those of several models, one per fold, on the ECGs that each had not seen. None "
            "of them is the model that one would use; hyperparameters chosen on these folds are optimistic."
        )
    elif metrics:
        sentences.append(
            "This is a single split. Another split of the same ECGs gives others; --folds tests every ECG."
        )
    return sentences
