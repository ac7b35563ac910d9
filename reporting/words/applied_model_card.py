"""The Applied Model Card of the Coalition for Health AI (CHAI, version 0.2): what a run says in each field.

The report shows each field with what it asks, in words of our own; `model_card.xml` has the same answers for
programs. What no run can know is left to the authors.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

from inference.strata import metrics_of_run
from metrics.metric import Metric
from reporting.words import study_facts as facts
from reporting.words.checklist import BY_AUTHORS, Checklist, Item
from reporting.words.formatting import with_interval
from reporting.words.run_sentences import confusion_sentences, limits, verdict
from run_folder.run_record import RunRecord

Answer = Callable[[RunRecord], str]
Results = list[tuple[str, Metric]]  # what each number is, and the number
USEFULNESS = ("auroc", "average_precision", "sensitivity", "specificity", "ppv", "npv")
SAFETY = ("calibration_slope", "calibration_intercept", "expected_calibration_error", "brier_score")
IN_GROUPS = ("auroc", "sensitivity", "specificity")
WORDS = {"auroc": "AUROC", "ppv": "PPV", "npv": "NPV", "brier_score": "Brier score"}  # others as they are
MAX_LABELS = 3  # whose results the report repeats in the card


class Field(NamedTuple):
    """One field.

    Attributes
    ----------
    path : its elements in the XML, below the root.
    asks : what it asks for, in short.
    required : whether it is in the XML where nothing is known, too.
    """

    path: str
    asks: str
    answer: Answer = lambda record: BY_AUTHORS
    required: bool = True

    @property
    def name(self) -> str:
        """The path in words, such as "Fairness equity: metric goal" or "Model name"."""
        parts = self.path.split("/")
        words = [re.sub(r"(?<=[a-z])(?=[A-Z])", " ", part).split() for part in parts]
        shown = words[1:] if parts[0] == "KeyMetrics" else words[-1:]
        phrase = ": ".join(" ".join(_lower(word) for word in part) for part in shown)
        return phrase[0].upper() + phrase[1:]


def _lower(word: str) -> str:
    return word if word.isupper() else word[0].lower() + word[1:]


def applied_model_card(record: RunRecord) -> Checklist:
    """Return the fields in the order of the card, each with the answer of a run."""
    return Checklist(
        name="Applied Model Card",
        source="Coalition for Health AI, version 0.2",
        anchor="model-card",
        items=[Item(field.name, field.asks, field.answer(record)) for field in FIELDS],
        kind="fields of the model card",
    )


# ----------------------------------------------------------------------------------------------------
# Numbers
# ----------------------------------------------------------------------------------------------------


def usefulness(record: RunRecord) -> Results:
    """Return what the scores and decisions are worth, of each label."""
    return list(_of_labels(record, USEFULNESS))


def safety(record: RunRecord) -> Results:
    """Return how far the scores are probabilities, of each label."""
    return list(_of_labels(record, SAFETY))


def fairness(record: RunRecord) -> Results:
    """Return the metrics of the groups of patients of whom the labels table tells."""
    if not record.metrics or record.predictions.empty:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about groups that are too small: they have no number
        rows = metrics_of_run(record).to_dict("records")
    return [
        (
            f"{row['label']}, {row['stratum']} {row['value']} (n = {row['n']:,}): {_title(key)}",
            Metric(row[key], row[f"{key}_low"], row[f"{key}_high"]),
        )
        for row in rows
        for key in IN_GROUPS
        if row[key] == row[key]  # nan: not defined in this group
    ]


def _of_labels(record: RunRecord, keys: tuple[str, ...]) -> Iterator[tuple[str, Metric]]:
    for name, label in record.metrics.get("labels", {}).items():
        for key in keys:
            metric = label.get(key, float("nan"))
            metric = metric if isinstance(metric, Metric) else Metric(metric)
            if metric.is_defined:
                yield f"{name}: {_title(key)}", metric


def _title(key: str) -> str:
    return WORDS.get(key, key.replace("_", " "))


def _in_words(results: Callable[[RunRecord], Results]) -> Answer:
    """Return an answer that lists numbers; of many labels it says where they stand."""

    def answer(record: RunRecord) -> str:
        found = results(record)
        if not found:
            return BY_AUTHORS
        if len(record.label_names) > MAX_LABELS:
            return "The performance sections of this report."
        return "; ".join(f"{what} {with_interval(metric)}" for what, metric in found) + "."

    return answer


# ----------------------------------------------------------------------------------------------------
# Words
# ----------------------------------------------------------------------------------------------------


def keywords(record: RunRecord) -> list[str]:
    """Return what the model is about."""
    return ["12-lead ECG", *record.label_names, "deep learning"]


def _name(record: RunRecord) -> str:
    labels = ", ".join(record.label_names)
    return f"{labels} from the 12-lead ECG: {facts.models(record)} of {record.folder.resolve().name}"


def _date(record: RunRecord) -> str:
    started = str(record.environment.get("started", ""))[:10]
    return f"Trained on {started or 'a day that is not recorded'}; the date of a release is {BY_AUTHORS}."


def _how_to_use(record: RunRecord) -> str:
    return f"By predict.py, from {facts.model_files(record)}. {facts.output(record)}"


def _population(record: RunRecord) -> str:
    return (
        "Patients like those of the training, selected in the same way, and no others (table 1 of the "
        f"report). Who they are is {BY_AUTHORS}."
    )


def _type(record: RunRecord) -> str:
    return f"Predictive: a neural network, {facts.models(record)}. {facts.kept_in_words(record)}"


def _development_data(record: RunRecord) -> str:
    return (
        f"{facts.sample_size(record)} {facts.missing(record)} Origin and dates of the data are {BY_AUTHORS}."
    )


def _decisions(record: RunRecord) -> str:
    if not record.metrics:
        return verdict(record)
    shown = record.label_names if len(record.label_names) <= MAX_LABELS else []
    decided = (sentence for name in shown for sentence in confusion_sentences(name, record.metrics))
    return " ".join([verdict(record), *decided])


def _tested(record: RunRecord) -> str:
    return f"{facts.events(record)} Their characteristics are in table 1 of the report."


def _validation(record: RunRecord) -> str:
    return (
        f"{facts.split_in_words(record)} {facts.kept_in_words(record)} {facts.calibration(record)} Why so is "
        f"{BY_AUTHORS}."
    )


def _as_above(record: RunRecord) -> str:
    return "As of usefulness, above."


def _key_metrics(
    element: str,
    goal: str,
    results: Answer,
    interpretation: Answer,
    test: tuple[Answer, Answer, Answer] = (_as_above,) * 3,
) -> list[Field]:
    """Return the six fields that each of the three groups of metrics has."""
    path, (kind, data, process) = f"KeyMetrics/{element}", test
    return [
        Field(f"{path}/MetricGoal", "What the metrics are to show", lambda record: goal),
        Field(f"{path}/Results", "The metrics, with intervals", results),
        Field(f"{path}/Interpretation", "What they mean", interpretation),
        Field(f"{path}/TestType", "Internal or external, retrospective or prospective", kind),
        Field(f"{path}/TestingDataDescription", "The data of the test", data),
        Field(f"{path}/ValidationProcessAndJustification", "How it was validated, and why so", process),
    ]


FIELDS = [
    Field("BasicInfo/ModelName", "Name of the model", _name),
    Field("BasicInfo/ModelDeveloper", "Who developed it"),
    Field("BasicInfo/DeveloperContact", "Whom to write to"),
    Field(
        "ReleaseInfo/ReleaseStage",
        "Research, pilot or in use",
        lambda record: "Research only: it is not a medical device.",
    ),
    Field("ReleaseInfo/ReleaseDate", "Date of the release", _date),
    Field("ReleaseInfo/ReleaseVersion", "Version", lambda record: record.folder.resolve().name),
    Field("ReleaseInfo/GlobalAvailability", "Where it may be used"),
    Field("ReleaseInfo/EHRCompatibility", "Health records that it works with", required=False),
    Field(
        "ReleaseInfo/RegulatoryApproval",
        "Clearance by authorities",
        lambda record: "No clearance.",
        required=False,
    ),
    Field("ModelSummary/Summary", "What it does, in short", verdict),
    Field("ModelSummary/Keywords", "Keywords", lambda record: ", ".join(keywords(record))),
    Field(
        "UsesAndDirections/IntendedUseAndWorkflow",
        "Intended use and place in the workflow",
        lambda record: (
            "Research on ECGs whose truth is known. It decides nothing about a patient, neither for a "
            "further test nor against it, and has no place in a workflow of care."
        ),
    ),
    Field(
        "UsesAndDirections/PrimaryIntendedUsers",
        "Intended users",
        lambda record: "Those who do research on ECGs; nobody who decides about a patient.",
    ),
    Field("UsesAndDirections/HowToUse", "How to use it", _how_to_use),
    Field("UsesAndDirections/TargetedPatientPopulation", "Patients that it is for", _population),
    Field(
        "UsesAndDirections/CautionedOutOfScopeSettings",
        "Settings that it is not for",
        lambda record: (
            "Care of patients; patients who were selected in another way than those of the training; "
            "recordings that predict.py refuses, or calls unlike the training ECGs."
        ),
    ),
    Field(
        "Warnings/KnownRisksAndLimitations",
        "Risks and limitations",
        lambda record: " ".join(limits(record)),
    ),
    Field(
        "Warnings/KnownBiasesOrEthicalConsiderations",
        "Biases and ethical considerations",
        lambda record: f"{facts.fairness(record)} Ethical considerations are {BY_AUTHORS}.",
    ),
    Field("Warnings/ClinicalRiskLevel", "Clinical risk"),
    Field("TrustIngredients/AISystemFacts/OutcomesAndOutputs", "Outcome and output", facts.output),
    Field("TrustIngredients/AISystemFacts/ModelType", "Type of the model", _type),
    Field(
        "TrustIngredients/AISystemFacts/FoundationModels",
        "Models that it started from",
        lambda record: facts.started_from([record]) or "No other: its first weights were drawn at random.",
        required=False,
    ),
    Field("TrustIngredients/AISystemFacts/InputDataSource", "Where its input comes from", facts.predictors),
    Field(
        "TrustIngredients/AISystemFacts/OutputAndInputDataTypes",
        "Types of output and input; who and what is included",
        lambda record: f"Input: {facts.preprocessing(record)} Output: a number from 0 to 1 for each label.",
    ),
    Field(
        "TrustIngredients/AISystemFacts/DevelopmentDataCharacterization",
        "Data of the development",
        _development_data,
    ),
    Field(
        "TrustIngredients/AISystemFacts/BiasMitigationApproaches",
        "What was done against bias",
        lambda record: "No method was used to make errors equal between groups.",
    ),
    Field(
        "TrustIngredients/AISystemFacts/OngoingMaintenance",
        "Maintenance and monitoring",
        lambda record: (
            "The model was not changed after the test. predict.py says where an ECG is unlike those of the "
            f"training. Monitoring in use is {BY_AUTHORS}."
        ),
    ),
    Field(
        "TrustIngredients/AISystemFacts/Security",
        "Security",
        lambda record: (
            "Nothing is unpickled on loading, the weights have a checksum, and scoring sends nothing over a "
            f"network. The security of the machine is {BY_AUTHORS}."
        ),
        required=False,
    ),
    Field(
        "TrustIngredients/AISystemFacts/Transparency",
        "What is open to those who use it",
        facts.code,
        required=False,
    ),
    Field("TrustIngredients/TransparencyInformation/FundingSource", "Who paid for it"),
    Field(
        "TrustIngredients/TransparencyInformation/ThirdPartyInformation",
        "What others have contributed",
        facts.software,
        required=False,
    ),
    Field("TrustIngredients/TransparencyInformation/StakeholdersConsulted", "Who was consulted"),
    *_key_metrics(
        "UsefulnessUsabilityEfficacy",
        "How well the scores rank the ECGs, and what decisions at the threshold are worth.",
        _in_words(usefulness),
        _decisions,
        (facts.objectives, _tested, _validation),
    ),
    *_key_metrics(
        "FairnessEquity",
        "Whether this differs between groups of patients.",
        lambda record: (
            "The tables of groups of patients in this report." if facts.group_columns(record) else BY_AUTHORS
        ),
        facts.subgroups,
    ),
    *_key_metrics(
        "SafetyReliability",
        "Whether a score is a probability.",
        _in_words(safety),
        lambda record: (
            "A slope of 1 and an intercept and an error of 0 are those of true probabilities. "
            f"{facts.calibration(record)}"
        ),
    ),
    Field(
        "Resources/EvaluationReferences",
        "Evaluations elsewhere",
        lambda record: facts.external(record) or BY_AUTHORS,
        required=False,
    ),
    Field("Resources/ClinicalTrial", "Clinical trials", required=False),
    Field("Resources/PeerReviewedPublications", "Publications with peer review"),
    Field("Resources/ReimbursementStatus", "Reimbursement", required=False),
    Field("Resources/PatientConsentOrDisclosure", "Consent of patients, or disclosure to them"),
    Field("Bibliography", "References, as BibTeX"),
]
