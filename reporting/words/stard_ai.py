"""STARD-AI (Sounderajah et al., Nat Med 2025;31:3283): a run's answer to each item.

It extends STARD 2015 to tests that are made with artificial intelligence, and numbers the items anew. They
are given in short, in words of our own, after two copies of the statement's table 2 in public repositories,
which agree; the statement has their wording.
"""

from reporting.words import study_facts as facts
from reporting.words.checklist import BY_AUTHORS, Answers, Checklist, answered
from reporting.words.stard import ANSWERS as OF_STARD
from run_folder.run_record import RunRecord


def stard_ai(record: RunRecord) -> Checklist:
    """Return all items in the statement's order."""
    return Checklist(
        name="STARD-AI",
        source="Sounderajah et al., Nat Med 2025;31:3283",
        anchor="stard-ai",
        items=answered(ASKS, ANSWERS, record),
    )


ASKS = {
    "1": "Title or abstract: a study of diagnostic accuracy of artificial intelligence, with a measure of it",
    "2": "Structured abstract",
    "3": "Background, with intended use of the index test, its novelty and its place in the workflow",
    "4": "Objectives and hypotheses",
    "5": "Data collected before the tests were planned (retrospective) or after (prospective)",
    "6": "Ethical approval, or why none is needed",
    "7": "Eligibility criteria of participants and of data, in the order in which they are applied",
    "8": "How eligible participants were identified",
    "9": "Where and when they were identified",
    "10": "Consecutive, random or convenience series",
    "11": "Source of the data: routine, collected for the study, or open",
    "12": "Who annotated the data, with which experience, and how",
    "13": "Devices that recorded the data; software that made the index test, with versions",
    "14": "Acquisition and preprocessing of the data, so that they can be repeated",
    "15a": "Index test, so that it can be repeated",
    "15b": "Development of the index test: training, validation, testing, external evaluation, sample sizes",
    "15c": "Cut-offs of the index test, pre-specified or exploratory, with rationale",
    "15d": "Users of the index test, and the expertise that they need",
    "16a": "Reference standard, so that it can be repeated",
    "16b": "Rationale of the reference standard",
    "16c": "Cut-offs or result categories of the reference standard, pre-specified or exploratory",
    "17a": "Whether those who read the index test knew clinical data and the reference standard's result",
    "17b": "Whether those who assessed the reference standard knew clinical data and the index test's result",
    "18": "Methods that estimate or compare diagnostic accuracy",
    "19": "Indeterminate results of index test and reference standard",
    "20": "Missing data of index test and reference standard",
    "21": "Analyses of variability, pre-specified or exploratory",
    "22": "Intended sample size and how it was determined",
    "23": "Analysis of errors; assessment of bias and fairness",
    "24": "Flow of participants, as a diagram",
    "25": "Demographic, clinical and technical characteristics of training, validation and test sets",
    "26a": "Severity of disease in those with the target condition",
    "26b": "Alternative diagnoses in those without it",
    "27": "Time, and any clinical interventions, between index test and reference standard",
    "28": "Whether the target condition is as frequent in the data as in the intended population",
    "29": "Of an external evaluation: how its data differ from training, validation and test sets",
    "30": "Cross tabulation of the index test by the reference standard",
    "31": "Estimates of diagnostic accuracy with their precision",
    "32": "Adverse events of index test and reference standard",
    "33": "Limitations: bias, uncertainty, generalisability",
    "34": "Implications for practice, with intended use and clinical role",
    "35": "Ethical considerations of the use of the index test, and fairness",
    "36": "Registration number and registry",
    "37": "Where the protocol is",
    "38": "Funding and other support, and the role of funders",
    "39": "Commercial interests",
    "40a": "Availability of data and code, and restrictions of their use",
    "40b": "Whether outputs are stored, and can be audited and evaluated",
}
SAME_AS = {
    "10": "9", "15a": "10a", "15c": "12a", "16c": "12b", "17a": "13a", "18": "14", "19": "15",
    "20": "16", "21": "17", "22": "18", "24": "19", "25": "20", "27": "22", "30": "23", "31": "24",
    "32": "25", "33": "26",
}  # fmt: skip


def _development(record: RunRecord) -> str:
    return (
        f"{facts.split_in_words(record)} {facts.kept_in_words(record)} {facts.calibration(record)} "
        f"{facts.objectives(record)}"
    )


def _software(record: RunRecord) -> str:
    devices = "The groups by device name the devices." if "device" in facts.group_columns(record) else ""
    devices = devices or f"The devices are {BY_AUTHORS}."
    return f"{facts.software(record)} {facts.code(record)} {devices}"


def _external_differences(record: RunRecord) -> str:
    if validated := facts.external(record):
        return (
            f"Table 1 of the report of the external validation stands beside the ECGs of the development: "
            f"{validated}. Differences of setting, eligibility or outcome are {BY_AUTHORS}."
        )
    return "Does not apply: no external evaluation (evaluate.py --cohort) lies beside this run."


ANSWERS: Answers = {number: OF_STARD[same] for number, same in SAME_AS.items()} | {
    "13": _software,
    "14": lambda record: f"{facts.preprocessing(record)} Acquisition protocols are {BY_AUTHORS}.",
    "15b": _development,
    "23": lambda record: (
        f"The most confident errors of this report. {facts.fairness(record)} What follows from them is "
        f"{BY_AUTHORS}."
    ),
    "29": _external_differences,
    "40a": lambda record: f"{facts.code(record)} The availability of the data is {BY_AUTHORS}.",
    "40b": lambda record: (
        "predictions.csv has the score of each tested ECG, splits.csv the digest of its file, metrics.json "
        "what was computed from them; the weights are kept with a checksum."
    ),
}
