"""TRIPOD+AI (Collins et al., BMJ 2024;385:e078378): a run's answer to each item.

The items are given in short; the statement has their full wording and explanation.
"""

from reporting.words import study_facts as facts
from reporting.words.checklist import BY_AUTHORS, Answers, Checklist, answered
from run_folder.run_record import RunRecord


def tripod(record: RunRecord) -> Checklist:
    """Return all items in the statement's order."""
    return Checklist(
        name="TRIPOD+AI",
        source="Collins et al., BMJ 2024;385:e078378",
        anchor="tripod",
        items=answered(ASKS, ANSWERS, record),
    )


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


def _predictors(record: RunRecord) -> str:
    if facts.ecg_signs(record):
        beside = f"; and the columns {columns}" if (columns := facts.clinical_columns(record)) else ""
        return (
            "The 12-lead ECG, and the signs of right-heart strain measured in it, chosen beforehand from the "
            f"literature (ecg/signs.py){beside}. The reasons are {BY_AUTHORS}."
        )
    if columns := facts.clinical_columns(record):
        return (
            "The 12-lead ECG, of which nothing was chosen beforehand, and clinical columns that were: "
            f"{columns}. The reasons are {BY_AUTHORS}."
        )
    return "The 12-lead ECG alone; none was chosen beforehand."


def _imbalance(record: RunRecord) -> str:
    alpha, gamma = record.hyperparameters.get("alpha"), record.hyperparameters.get("gamma", 0)
    if alpha is None and not gamma:
        return f"No such method: cross-entropy without weights. {facts.calibration(record)}"
    weights = "" if alpha is None else f", positives weighted {alpha:g}"
    return f"Focal loss with gamma {gamma:g}{weights}. {facts.calibration(record)}"


ANSWERS: Answers = {
    "4": facts.objectives,
    "7": facts.preprocessing,
    "9a": _predictors,
    "9b": facts.predictors,
    "9c": lambda record: "Does not apply: no person interprets the signal.",
    "10": facts.sample_size,
    "11": facts.missing,
    "12a": facts.split_in_words,
    "12b": lambda record: (
        f"Normalisation: {facts.value(record, 'normalisation')}; augmentation in training only: "
        f"{facts.value(record, 'augmentation')}."
    ),
    "12c": lambda record: (
        f"Neural network {facts.models(record)}. {facts.split_in_words(record)} "
        f"{facts.kept_in_words(record)} {facts.calibration(record)} {facts.search_in_words(record)} "
        f"Hyperparameters: below. Their rationale is {BY_AUTHORS}."
    ),
    "12d": facts.clusters,
    "12e": lambda record: facts.MEASURES,
    "12f": lambda record: "No updating: the model was not changed after the test.",
    "12g": lambda record: f"By predict.py, from {facts.model_files(record)}.",
    "13": _imbalance,
    "14": facts.fairness,
    "15": facts.output,
    "16": lambda record: (
        "Both are parts of one labels table, read and judged alike. Differences of setting, eligibility or "
        f"outcome between the parts are {BY_AUTHORS}."
    ),
    "18f": facts.code,
    "20a": lambda record: f"The flow at the beginning of this report. {facts.left_out(record)}",
    "20b": lambda record: (
        f"Table 1 of this report, of ECGs and of patients. Further characteristics are {BY_AUTHORS}."
    ),
    "20c": lambda record: "Table 1 of this report, by part of the split.",
    "21": facts.events,
    "22": lambda record: (
        f"In {facts.model_files(record)}. It is for research only, and must not decide about a patient; the "
        f"licence of the weights is {BY_AUTHORS}."
    ),
    "23a": lambda record: f"The performance section of this report. {facts.subgroups(record)}",
    "23b": facts.clusters,
    "24": lambda record: "No updating (12f).",
    "26": lambda record: f"The limits at the end of this report; those of the study are {BY_AUTHORS}.",
    "27a": lambda record: "Files that cannot be read or fail a quality check are refused with a reason.",
    "27b": lambda record: (
        "A user names files as the device wrote them, and the clinical values if the model sees any; "
        "predict.py does the rest, and says where an ECG is unlike those of the training. What the user "
        f"must know to interpret a score is {BY_AUTHORS}."
    ),
}
