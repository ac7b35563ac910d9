"""What a run can say about the study behind it: the sentences that the reporting checklists share."""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cohorts.columns import GROUP_COLUMNS
from dataset.cohort import NO_LABEL
from dataset.sign_columns import PREFIX, given_columns, sign_columns
from ecg.recording import MAX_GAP_SECONDS
from metrics.sample_size import ASSUMED_AUROC, expected_width, patients_of_classes
from reporting.words.checklist import BY_AUTHORS
from reporting.words.cohort_flow import Group, cohort_flow, hours_from_ct, left_out_rows, parts_of
from reporting.words.formatting import with_interval
from reporting.words.run_sentences import fold_thresholds
from run_folder.files import RunFiles
from run_folder.foreign_weights import is_foreign
from run_folder.hub import is_copy
from run_folder.run_record import RunRecord
from run_folder.shipped import is_shipped, start_folder
from runtime.messages import counted

MEASURES = (
    "Ranking: AUROC, partial AUROC, average precision, points of the ROC curve. Decisions at the "
    "threshold: sensitivity, specificity, predictive values, likelihood ratios. "
    "Probabilities: calibration slope and intercept, expected calibration error, Brier score. Plots: ROC, "
    "precision-recall, calibration and decision curve. They show apart how well the scores rank, what the "
    "decisions cost, whether the probabilities hold, and whether acting on them is worth it. All intervals "
    "count patients, who are resampled or widen an interval by the design effect of their ECGs "
    "(docs/metrics.md)."
)


def value(record: RunRecord, key: str) -> str:
    return str(record.hyperparameters.get(key, "not recorded"))


def models(record: RunRecord) -> str:
    names = sorted({description["model"] for description in record.descriptions.values()})
    return ", ".join(names) or "not recorded"


def clinical_columns(record: RunRecord) -> str:
    """Return the columns of the table that the models see beside the ECG; "" where there are none."""
    return ", ".join(given_columns(_beside(record)))


def ecg_signs(record: RunRecord) -> str:
    """Return the signs that are measured in the ECG and that the models see too; "" where there are none."""
    return ", ".join(name.removeprefix(PREFIX) for name in sign_columns(_beside(record)))


def _beside(record: RunRecord) -> list[str]:
    sources = [*record.descriptions.values(), record.hyperparameters]
    return list(dict.fromkeys(name for source in sources for name in source.get("clinical_columns") or []))


def predictors(record: RunRecord) -> str:
    columns, signs = clinical_columns(record), ecg_signs(record)
    beside = f" Beside it, as the labels table has them: {columns}." if columns else ""
    beside += f" Beside it, measured in its 10 s by ecg/signs.py: {signs}." if signs else ""
    when = "How and when these and the ECG were recorded" if columns else "When it was recorded"
    return (
        f"The signal of the file, 10 s, of which the model sees {value(record, 'n_samples')} samples at "
        f"500 Hz.{beside} {when} is {BY_AUTHORS}."
    )


def preprocessing(record: RunRecord) -> str:
    checks = record.hyperparameters.get("quality_checks")
    judged = {True: " Each ECG was judged by quality checks (quality.csv).", False: " No quality checks."}
    return (
        f"Resampled to 500 Hz, 10 s, twelve leads in mV.{judged.get(checks, '')} The limits are the same "
        "for all groups of patients; how often each group fails them, the flow shows."
    )


def missing(record: RunRecord) -> str:
    """Return what became of files, labels, samples and clinical values that are missing."""
    flow = cohort_flow(record)
    n_unlabelled = int((record.rejected["reason"] == NO_LABEL).sum())
    unlabelled = f", {n_unlabelled:,} of them without a known label" if n_unlabelled else ""
    sentences = [
        f"{flow.n_rejected:,} of {flow.n_files:,} files are not used, each with its reason (rejected.csv)"
        f"{unlabelled}.",
        "A label that is not known of an ECG is left out of its loss and its metrics.",
        f"Missing samples of up to {1000 * MAX_GAP_SECONDS:.0f} ms are interpolated, an ECG with a longer "
        f"gap is not used; a short one, of {record.min_seconds:g} s at least, is padded to 10 s.",
    ]
    if _beside(record):
        sentences.append(
            "A clinical value that is not known, or a sign that cannot be measured, counts as the mean of "
            "the training ECGs, and a second input marks it as unknown."
        )
    return " ".join(sentences)


def left_out(record: RunRecord) -> str:
    """Return where a reader finds who was left out, with and without the outcome."""
    if left_out_rows(record):
        return "Files that are not used, by label and sex, are in a table below it."
    if record.rejected.empty:
        return "Every file is used."
    return f"How many of those not used had the outcome is {BY_AUTHORS}."


def split_in_words(record: RunRecord) -> str:
    if not record.is_cross_validation:
        parts = ", ".join(f"{group.name} {group.n_ecgs:,}" for group in parts_of(record))
        return f"One split by patient: {parts}."
    folds = f"Cross-validation by patient in {record.n_folds} folds: each ECG is tested once."
    return f"{folds} {_in_each_fold(record)}"


def _in_each_fold(record: RunRecord) -> str:
    return f"In each fold {_in_folds(record, 'train')} train and {_in_folds(record, 'validation')} validate."


def _in_folds(record: RunRecord, part: str) -> str:
    """Return how many ECGs and positives a part of the folds has: "605 to 612 ECGs (61 to 63 PE)"."""
    splits = record.splits
    groups = [Group(part, splits[splits[fold] == part]) for fold in record.fold_columns[: record.n_folds]]
    counts = {name: [group.n_with(name) for group in groups] for name in record.label_names if name in splits}
    positives = ", ".join(f"{_span(numbers)} {name}" for name, numbers in counts.items())
    return f"{_span([group.n_ecgs for group in groups])} ECGs ({positives})"


def _span(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def events(record: RunRecord) -> str:
    tested = "; ".join(
        f"{group.name}: {counted(group.n_ecgs, 'ECG')} of {counted(group.n_patients, 'patient')}, "
        f"{group.positives(record.label_names)}"
        for group in parts_of(record)
    )
    return f"{tested}. {_in_each_fold(record)}" if record.is_cross_validation else f"{tested}."


def sample_size(record: RunRecord) -> str:
    flow = cohort_flow(record)
    return (
        f"{counted(flow.used.n_ecgs, 'ECG')} of {counted(flow.used.n_patients, 'patient')}: "
        f"{flow.used.positives(record.label_names)}.{_expected_intervals(record)} The justification is "
        f"{BY_AUTHORS}."
    )


def _expected_intervals(record: RunRecord) -> str:
    """Return how wide the intervals were to be expected with the patients tested; "" without both classes."""
    tested = record.splits[(record.splits[record.fold_columns] == "test").any(axis=1)]
    found = []
    for name in record.label_names if len(tested) else []:
        counts = patients_of_classes(tested[name], tested["patient_id"].fillna(""))
        if not math.isnan(width := expected_width(*counts)):
            found.append(f"{name} {width:.2f} ({counts[0]:,} patients with, {counts[1]:,} without)")
    if not found:
        return ""
    return (
        f" Before the training, the width of a 95 % interval around an AUROC of {ASSUMED_AUROC:g} was to be "
        f"expected as follows (Hanley & McNeil 1982): {'; '.join(found)}."
    )


def group_columns(record: RunRecord) -> list[str]:
    """Return the columns by which the report shows groups of the tested ECGs."""
    return [name for name in GROUP_COLUMNS if name in record.splits and record.splits[name].notna().any()]


def subgroups(record: RunRecord) -> str:
    """Return by which columns the report shows groups, and how to see others."""
    if columns := group_columns(record):
        return (
            f"Groups by {', '.join(columns)} are in the performance section too; evaluate.py --strata has "
            "those of other columns."
        )
    return f"The labels table has no column sex, age, device or site; subgroups are {BY_AUTHORS}."


def external(record: RunRecord) -> str:
    """Return the run's external validations with their AUROC; "" where none lies beside the run."""
    found = []
    for validation in record.external:
        labels = "; ".join(
            f"{name} AUROC {with_interval(label['auroc'])} in {label['n_ecgs']:,} ECGs of "
            f"{label['n_patients']:,} patients"
            for name, label in validation.labels.items()
        )
        found.append(f"{validation.folder} ({labels})")
    return ", ".join(found)


def objectives(record: RunRecord) -> str:
    if validated := external(record):
        return (
            "Development with internal validation, and external validation with a report of its own: "
            f"{validated}."
        )
    return (
        "Development with internal validation. No external validation (evaluate.py --cohort) lies beside "
        "this run."
    )


def clusters(record: RunRecord) -> str:
    """Return how performance differs between sites, devices and cohorts, as far as the report shows it."""
    columns = [name for name in group_columns(record) if name in ("device", "site")]
    shown = [f"Groups by {' and '.join(columns)} are in the performance section."] if columns else []
    if validated := external(record):
        shown.append(f"In another cohort: {validated}.")
    if shown:
        return " ".join(shown)
    return f"The labels table has no column site or device; differences between clusters are {BY_AUTHORS}."


def fairness(record: RunRecord) -> str:
    return f"No method was used to make errors equal between groups. {subgroups(record)}"


def calibration(record: RunRecord) -> str:
    methods = sorted({str(d.get("calibration", "none")) for d in record.descriptions.values()})
    if methods in ([], ["none"]):
        return "Scores were not calibrated."
    return f"Scores were calibrated before the test ({', '.join(methods)})."


def output(record: RunRecord) -> str:
    """Return what the model says, and how its threshold was chosen."""
    if not record.metrics:
        return f"A score from 0 to 1 for each label. The threshold and its rationale are {BY_AUTHORS}."
    found = (", ".join(f"{t:.3g}" for t in fold_thresholds(record, name)) for name in record.label_names)
    thresholds = "; ".join(f"{name} {text}" for name, text in zip(record.label_names, found, strict=True))
    source = record.metrics.get("threshold_source", "chosen before the test")
    return (
        f"A score from 0 to 1 for each label, flagged at or above a threshold ({source}): {thresholds}. "
        "Rule and value were fixed before the test ECGs were scored; points read off the curve of the test "
        f"ECGs are exploratory. Why this rule is {BY_AUTHORS}."
    )


def model_files(record: RunRecord) -> str:
    if record.is_cross_validation:
        return (
            "ensemble.json of this run, and model.safetensors and model.json of each of its folds (fold-1, …)"
        )
    return "model.safetensors and model.json of this run"


def code(record: RunRecord) -> str:
    commit = record.environment.get("git_commit")
    return f"Git commit {commit}." if commit else f"No git commit was recorded; it is {BY_AUTHORS}."


def software(record: RunRecord) -> str:
    """Return the packages of the training, with their versions."""
    packages = ", ".join(f"{name} {one}" for name, one in record.environment.get("packages", {}).items())
    return f"Software: {packages or 'not recorded'}."


def started_from(runs: Sequence[RunRecord]) -> str:
    """Name the runs whose weights these runs started from; "" where they were drawn at random.

    Of a trunk that ships, the licence of its ECGs asks to name them too.
    """
    names = sorted({run.hyperparameters.get("init_from") or "" for run in runs} - {""})
    if not names:
        return ""
    described = [
        f"{weights['file']} (SHA-256 {weights['sha256']})" for run in runs for weights in run.foreign
    ]
    for name in (name for name in names if not is_foreign(name)):
        folder = Path(name) if is_copy(name) else start_folder(name)
        source = RunFiles(folder).load_any_description().source if is_shipped(folder) else ""
        described.append(name if is_copy(name) else f"{folder.name} ({source})" if source else folder.name)
    where = "see there on which ECGs"
    if any(run.foreign for run in runs):
        where += "; of a file of another model, nobody here knows which ECGs it has seen"
    return f"The weights to start from were those of {', '.join(dict.fromkeys(described))}; {where}."


def kept_in_words(record: RunRecord) -> str:
    if record.hyperparameters.get("keep") == "last":
        return "The averaged weights of the last epoch were kept."
    return f"The epoch was picked by validation {value(record, 'monitor')}."


def search_in_words(record: RunRecord) -> str:
    """Return whether hyperparameters were searched before this run, as far as it was told."""
    if not (folder := record.hyperparameters.get("searched_in")):
        return "No search of hyperparameters by search.py is recorded."
    trials = Path(folder) / "trials.csv"
    n = f", the best of {counted(len(pd.read_csv(trials)), 'trial')}" if trials.is_file() else ""
    return f"Hyperparameters were searched before, by search.py without the test patients ({folder}{n})."


def hours(record: RunRecord) -> str:
    """Return the time between the reference standard and the ECG; "" where it is not known."""
    if not (found := hours_from_ct(record)):
        return ""
    return (
        f"ECGs {'; '.join(found)}; hours from the examination to the ECG (hours_from_ct), negative before it."
    )
