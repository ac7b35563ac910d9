"""STARD 2015 (Bossuyt et al., BMJ 2015;351:h5527): a run's answer to each item.

The index test is the model's score of the ECG, the reference standard what gave the label, such as CT
angiography. The items are given in short; the statement has their full wording and explanation.
"""

from reporting.words import study_facts as facts
from reporting.words.checklist import BY_AUTHORS, Answers, Checklist, answered
from reporting.words.cohort_flow import cohort_flow
from run_folder.run_record import RunRecord
from runtime.messages import counted


def stard(record: RunRecord) -> Checklist:
    """Return all items in the statement's order."""
    return Checklist(
        name="STARD 2015",
        source="Bossuyt et al., BMJ 2015;351:h5527",
        anchor="stard",
        items=answered(ASKS, ANSWERS, record),
    )


ASKS = {
    "1": "Title or abstract: a study of diagnostic accuracy, with a measure of it",
    "2": "Structured abstract",
    "3": "Background, with intended use and clinical role of the index test",
    "4": "Objectives and hypotheses",
    "5": "Data collected before the tests were planned (retrospective) or after (prospective)",
    "6": "Eligibility criteria",
    "7": "How eligible participants were identified",
    "8": "Where and when they were identified",
    "9": "Consecutive, random or convenience series",
    "10a": "Index test, so that it can be repeated",
    "10b": "Reference standard, so that it can be repeated",
    "11": "Rationale of the reference standard",
    "12a": "Cut-offs of the index test, pre-specified or exploratory, with rationale",
    "12b": "Cut-offs or result categories of the reference standard, likewise",
    "13a": "Whether those who read the index test knew clinical data and the reference standard's result",
    "13b": "Whether those who assessed the reference standard knew clinical data and the index test's result",
    "14": "Methods that estimate or compare diagnostic accuracy",
    "15": "Indeterminate results of index test and reference standard",
    "16": "Missing data of index test and reference standard",
    "17": "Analyses of variability, pre-specified or exploratory",
    "18": "Intended sample size and how it was determined",
    "19": "Flow of participants, as a diagram",
    "20": "Demographic and clinical characteristics",
    "21a": "Severity of disease in those with the target condition",
    "21b": "Alternative diagnoses in those without it",
    "22": "Time, and any clinical interventions, between index test and reference standard",
    "23": "Cross tabulation of the index test by the reference standard",
    "24": "Estimates of diagnostic accuracy with their precision",
    "25": "Adverse events of index test and reference standard",
    "26": "Limitations: bias, uncertainty, generalisability",
    "27": "Implications for practice, with intended use and clinical role",
    "28": "Registration number and registry",
    "29": "Where the protocol is",
    "30": "Funding and other support",
}


def _series(record: RunRecord) -> str:
    n_files = cohort_flow(record).n_files
    return (
        f"All {counted(n_files, 'file')} that the labels table names. Whether these are of a consecutive, "
        f"random or convenience series is {BY_AUTHORS}."
    )


def _index_test(record: RunRecord) -> str:
    return (
        f"A neural network, {facts.models(record)}: {facts.model_files(record)}, which predict.py applies. "
        f"{facts.code(record)}"
    )


def _blinding(record: RunRecord) -> str:
    columns = facts.clinical_columns(record)
    seen = f"the ECG and {columns}" if columns else "the ECG alone"
    return (
        f"No person reads it. The model sees {seen}; the labels of the test ECGs entered nothing but the "
        "split, so that each part has its share, and the comparison with the finished scores."
    )


def _indeterminate(record: RunRecord) -> str:
    return (
        "The index test has none: each ECG that can be used has a score. ECGs without a known label are "
        "not used (16), and cohorts.from_table leaves out results that are neither positive nor negative, "
        "and counts them (labels_flow.csv). Their number and a best-case and worst-case analysis are "
        f"{BY_AUTHORS}."
    )


def _interval(record: RunRecord) -> str:
    if found := facts.hours(record):
        return f"{found} Interventions between them are {BY_AUTHORS}."
    return BY_AUTHORS


ANSWERS: Answers = {
    "9": _series,
    "10a": _index_test,
    "12a": facts.output,
    "12b": lambda record: (
        f"The labels table has 1 with, 0 without {', '.join(record.label_names)}, nothing where it is not "
        f"known. What counts as which is {BY_AUTHORS}."
    ),
    "13a": _blinding,
    "14": lambda record: facts.MEASURES,
    "15": _indeterminate,
    "16": facts.missing,
    "17": lambda record: (
        f"{facts.subgroups(record)} Whether analyses of groups were pre-specified is {BY_AUTHORS}."
    ),
    "18": facts.sample_size,
    "19": lambda record: f"The flow at the beginning of this report. {facts.left_out(record)}",
    "20": lambda record: f"Table 1 of this report. Further characteristics are {BY_AUTHORS}.",
    "22": _interval,
    "23": lambda record: "The table of decisions in the performance section of this report.",
    "24": lambda record: "The performance section of this report.",
    "25": lambda record: (
        "The index test has none: it takes a recorded ECG. Those of the reference standard, such as "
        f"contrast and radiation, are {BY_AUTHORS}."
    ),
    "26": lambda record: f"The limits at the end of this report; those of the study are {BY_AUTHORS}.",
}
