"""TRIPOD+AI (Collins et al., BMJ 2024;385:e078378): a run's answer to each item.

The items are given in short; the statement has their full wording and explanation.
"""

from collections.abc import Callable
from dataclasses import dataclass

from reporting.words.cohort_flow import cohort_flow, parts_of
from reporting.words.run_sentences import fold_thresholds
from run_folder.run_record import RunRecord
from runtime.messages import counted

BY_AUTHORS = "to be filled in by the authors"


@dataclass(frozen=True)
class Item:
    """One line of the checklist.

    Attributes
    ----------
    number, asks : the item, and what it asks for in short.
    answer : this run's, or `BY_AUTHORS`.
    """

    number: str
    asks: str
    answer: str

    @property
    def is_open(self) -> bool:
        return self.answer.startswith(BY_AUTHORS)


def tripod_items(record: RunRecord) -> list[Item]:
    """Return all items in the statement's order."""
    return [
        Item(number, asks, ANSWERS[number](record) if number in ANSWERS else BY_AUTHORS)
        for number, asks in ASKS.items()
    ]


ASKS = {
    "1": "Title: development or evaluation of a prediction model, target population, outcome",
    "2": "Abstract, after TRIPOD+AI for abstracts",
    "3a": "Healthcare context, rationale, existing models",
    "3b": "Target population, purpose and users in the care pathway",
    "3c": "Known health inequalities between sociodemographic groups",
    "4": "Objectives: development, evaluation or both",
    "5a": "Sources of the data, why these, how representative",
    "5b": "Dates of the data",
    "6a": "Setting, number and location of centres",
    "6b": "Eligibility criteria",
    "6c": "Treatments received",
    "7": "Preparation and quality checks of the data",
    "8a": "Outcome: definition, how and when assessed",
    "8b": "Qualification of those who assessed the outcome",
    "8c": "Blinding of the assessment of the outcome",
    "9a": "Choice of predictors",
    "9b": "Definition of the predictors, how and when measured",
    "9c": "Qualification of those who assessed predictors",
    "10": "Sample size and its justification",
    "11": "Missing data and omitted data",
    "12a": "How the data were used; partition",
    "12b": "How predictors were handled",
    "12c": "Type of model, building, tuning, internal validation",
    "12d": "Differences between clusters such as hospitals",
    "12e": "Measures and plots of performance",
    "12f": "Updating of the model, such as recalibration",
    "12g": "How predictions were calculated",
    "13": "Class imbalance: methods, and recalibration after them",
    "14": "Fairness: approaches and rationale",
    "15": "Output of the model; how thresholds were chosen",
    "16": "Differences between development and evaluation data",
    "17": "Ethical approval and consent",
    "18a": "Funding",
    "18b": "Conflicts of interest",
    "18c": "Protocol",
    "18d": "Registration",
    "18e": "Availability of the data",
    "18f": "Availability of the code",
    "19": "Involvement of patients and the public",
    "20a": "Flow of participants, with and without the outcome",
    "20b": "Characteristics of the participants",
    "20c": "Comparison of development and evaluation data",
    "21": "Participants and outcome events in each analysis",
    "22": "The full model, so that others can use it",
    "23a": "Performance with confidence intervals, also of subgroups",
    "23b": "Heterogeneity of performance across clusters",
    "24": "Results of model updating",
    "25": "Interpretation, also as to fairness",
    "26": "Limitations",
    "27a": "Handling of poor or missing input in use",
    "27b": "Users' interaction and expertise",
    "27c": "Next steps of research",
}


def _value(record: RunRecord, key: str) -> str:
    return str(record.hyperparameters.get(key, "not recorded"))


def _models(record: RunRecord) -> str:
    names = sorted({description["model"] for description in record.descriptions.values()})
    return ", ".join(names) or "not recorded"


def _clinical_columns(record: RunRecord) -> str:
    """Return the columns that the models see beside the ECG; "" where there are none."""
    sources = [*record.descriptions.values(), record.hyperparameters]
    columns = (name for source in sources for name in source.get("clinical_columns") or [])
    return ", ".join(dict.fromkeys(columns))


def _predictors(record: RunRecord) -> str:
    if columns := _clinical_columns(record):
        return (
            "The 12-lead ECG, of which nothing was chosen beforehand, and clinical columns that were: "
            f"{columns}. The reasons are {BY_AUTHORS}."
        )
    return "The 12-lead ECG alone; none was chosen beforehand."


def _definition_of_predictors(record: RunRecord) -> str:
    columns = _clinical_columns(record)
    beside = f" Beside it, as the labels table has them: {columns}." if columns else ""
    when = "How and when these and the ECG were recorded" if columns else "When it was recorded"
    return (
        f"The signal of the file, 10 s, of which the model sees {_value(record, 'n_samples')} samples at "
        f"500 Hz.{beside} {when} is {BY_AUTHORS}."
    )


def _split_in_words(record: RunRecord) -> str:
    if record.is_cross_validation:
        return f"Cross-validation by patient in {record.n_folds} folds; in each, some patients validate."
    parts = ", ".join(f"{group.name} {group.n_ecgs:,}" for group in parts_of(record))
    return f"One split by patient: {parts}."


def _quality(record: RunRecord) -> str:
    checks = record.hyperparameters.get("quality_checks")
    judged = {True: "Each ECG was judged by quality checks (quality.csv).", False: "No quality checks."}
    return (
        "Resampled to 500 Hz, 10 s, twelve leads in mV. "
        f"{judged.get(checks, '')} The checks are the same for all groups of patients."
    ).replace("  ", " ")


def _missing(record: RunRecord) -> str:
    flow = cohort_flow(record)
    return f"{flow.n_rejected:,} of {flow.n_files:,} files not used, each with its reason (rejected.csv)."


def _events(record: RunRecord) -> str:
    labels = record.label_names
    return "; ".join(
        f"{group.name}: {counted(group.n_ecgs, 'ECG')}, {group.positives(labels)}"
        for group in parts_of(record)
    )


def _sample_size(record: RunRecord) -> str:
    flow = cohort_flow(record)
    return (
        f"{counted(flow.used.n_ecgs, 'ECG')} of {counted(flow.used.n_patients, 'patient')}: "
        f"{flow.used.positives(record.label_names)}. The justification is {BY_AUTHORS}."
    )


def _calibration(record: RunRecord) -> str:
    methods = sorted({str(d.get("calibration", "none")) for d in record.descriptions.values()})
    if methods in ([], ["none"]):
        return "Scores were not recalibrated."
    return f"Scores were recalibrated on the validation ECGs ({', '.join(methods)})."


def _imbalance(record: RunRecord) -> str:
    alpha, gamma = record.hyperparameters.get("alpha"), record.hyperparameters.get("gamma", 0)
    if alpha is None and not gamma:
        return f"No such method: cross-entropy without weights. {_calibration(record)}"
    weights = "" if alpha is None else f", positives weighted {alpha:g}"
    return f"Focal loss with gamma {gamma:g}{weights}. {_calibration(record)}"


def _output(record: RunRecord) -> str:
    if not record.metrics:
        return "A score from 0 to 1 for each label."
    found = (", ".join(f"{t:.3g}" for t in fold_thresholds(record, name)) for name in record.label_names)
    thresholds = "; ".join(f"{name} {text}" for name, text in zip(record.label_names, found, strict=True))
    source = record.metrics.get("threshold_source", "chosen before the test")
    return f"A score from 0 to 1 for each label, flagged at or above a threshold ({source}): {thresholds}."


def _code(record: RunRecord) -> str:
    commit = record.environment.get("git_commit")
    return f"Git commit {commit}." if commit else f"No git commit was recorded; {BY_AUTHORS}."


def _kept_in_words(record: RunRecord) -> str:
    if record.hyperparameters.get("keep") == "last":
        return "The averaged weights of the last epoch were kept."
    return f"The epoch was picked by validation {_value(record, 'monitor')}."


ANSWERS: dict[str, Callable[[RunRecord], str]] = {
    "4": lambda record: "Development with internal validation; no evaluation at another hospital.",
    "7": _quality,
    "9a": _predictors,
    "9b": _definition_of_predictors,
    "9c": lambda record: "Does not apply: no person interprets the signal.",
    "10": _sample_size,
    "11": _missing,
    "12a": _split_in_words,
    "12b": lambda record: (
        f"Normalisation: {_value(record, 'normalisation')}; augmentation in training only: "
        f"{_value(record, 'augmentation')}."
    ),
    "12c": lambda record: (
        f"Neural network {_models(record)}; {_split_in_words(record)} {_kept_in_words(record)} "
        f"Hyperparameters: below. Their rationale is {BY_AUTHORS}."
    ),
    "12e": lambda record: (
        "AUROC, average precision, sensitivity, specificity, predictive values, Brier score; ROC, "
        "precision-recall, calibration and decision curves. Intervals: bootstrap over patients for what "
        "follows from the ranking, Wilson's for proportions."
    ),
    "12f": _calibration,
    "12g": lambda record: "predict.py with model.safetensors and model.json of this run.",
    "13": _imbalance,
    "15": _output,
    "18f": _code,
    "20a": lambda record: "The flow at the beginning of this report.",
    "20b": lambda record: f"Table 1 of this report. Further characteristics are {BY_AUTHORS}.",
    "20c": lambda record: "Table 1 of this report, by part of the split.",
    "21": _events,
    "22": lambda record: "The weights are in model.safetensors, what is needed to use them in model.json.",
    "23a": lambda record: f"The performance section of this report. Subgroups are {BY_AUTHORS}.",
    "24": lambda record: "No updating.",
    "26": lambda record: f"The limits at the end of this report; those of the study are {BY_AUTHORS}.",
    "27a": lambda record: "Files that cannot be read or fail a quality check are refused with a reason.",
}
