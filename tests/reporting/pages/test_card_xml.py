"""The Applied Model Card of a run: CHAI's elements in order, the texts of the page, the run's numbers."""

import json
import os
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from metrics.metric import metrics_to_json
from metrics_and_performance import evaluate
from reporting.pages.card_xml import NAMESPACE, card_xml, write_card
from reporting.words.applied_model_card import FIELDS, applied_model_card
from reporting.words.checklist import BY_AUTHORS
from run_folder.run_record import read_run

# What schema 0.2 has in each group; a question mark: need not be there
KEY_METRIC = [
    "MetricGoal", "Results", "Interpretation", "TestType", "TestingDataDescription",
    "ValidationProcessAndJustification",
]  # fmt: skip
SCHEMA = {
    "BasicInfo": ["ModelName", "ModelDeveloper", "DeveloperContact"],
    "ReleaseInfo": [
        "ReleaseStage", "ReleaseDate", "ReleaseVersion", "GlobalAvailability", "EHRCompatibility?",
        "RegulatoryApproval?",
    ],
    "ModelSummary": ["Summary", "Keywords"],
    "UsesAndDirections": [
        "IntendedUseAndWorkflow", "PrimaryIntendedUsers", "HowToUse", "TargetedPatientPopulation",
        "CautionedOutOfScopeSettings",
    ],
    "Warnings": ["KnownRisksAndLimitations", "KnownBiasesOrEthicalConsiderations", "ClinicalRiskLevel"],
    "TrustIngredients/AISystemFacts": [
        "OutcomesAndOutputs", "ModelType", "FoundationModels?", "InputDataSource", "OutputAndInputDataTypes",
        "DevelopmentDataCharacterization", "BiasMitigationApproaches", "OngoingMaintenance", "Security?",
        "Transparency?",
    ],
    "TrustIngredients/TransparencyInformation": [
        "FundingSource", "ThirdPartyInformation?", "StakeholdersConsulted",
    ],
    "KeyMetrics/UsefulnessUsabilityEfficacy": KEY_METRIC,
    "KeyMetrics/FairnessEquity": KEY_METRIC,
    "KeyMetrics/SafetyReliability": KEY_METRIC,
    "Resources": [
        "EvaluationReferences?", "ClinicalTrial?", "PeerReviewedPublications", "ReimbursementStatus?",
        "PatientConsentOrDisclosure",
    ],
    "": ["Bibliography"],
}  # fmt: skip


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """A finished run on 40 ECGs of 40 patients of known sex, of whom 20 were tested."""
    folder, generator = tmp_path_factory.mktemp("runs") / "train_atten-1", np.random.default_rng(0)
    folder.mkdir()
    splits = pd.DataFrame({"file": [f"secret-{number}.xml" for number in range(40)]})
    splits["patient_id"] = [f"{number:016x}" for number in range(40)]
    splits["digest"] = "d" * 32
    splits["sex"], splits["PE"] = ["F", "M"] * 20, np.arange(40) % 4 // 2
    splits["split"] = ["test"] * 20 + ["validation"] * 5 + ["train"] * 15
    splits.to_csv(folder / "splits.csv", index=False)
    tested = splits[["file", "patient_id"]].head(20).assign(split="test", fold=0, repeat=1)
    tested["y_true_PE"] = splits["PE"]
    tested["y_score_PE"] = (generator.random(20) + splits["PE"].head(20)) / 2
    tested.to_csv(folder / "predictions.csv", index=False)
    metrics = evaluate(
        tested[["y_true_PE"]].to_numpy(float),
        tested[["y_score_PE"]].to_numpy(),
        thresholds=[0.5],
        label_names=["PE"],
        patient_ids=tested["patient_id"].to_numpy(),
        n_resamples=50,
    )
    content = metrics_to_json({"split": "test", **metrics})
    (folder / "metrics.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "hyperparameters.yml").write_text("data_dir: /home/miller\nkeep: last\n", encoding="utf-8")
    return read_run(folder)


def element_of(root, path):
    return root.find("/".join(f"{{{NAMESPACE}}}{part}" for part in path.split("/")))


def names_in(element):
    return [child.tag.removeprefix(f"{{{NAMESPACE}}}") for child in element]


def test_elements_are_those_of_the_schema_in_its_order(record):
    root = ElementTree.fromstring(card_xml(record))
    assert root.tag == f"{{{NAMESPACE}}}AppliedModelCard"
    groups = dict.fromkeys(path.partition("/")[0] for path in SCHEMA if path)
    assert names_in(root) == [*groups, *SCHEMA[""]]
    for path, names in SCHEMA.items():
        if path:
            found = names_in(element_of(root, path))
            required = [name for name in names if not name.endswith("?")]
            assert [name for name in found if name in required] == required
            in_order = [name.removesuffix("?") for name in names]
            assert found == [name for name in in_order if name in found]
    paths = [f"{path}/{name}".strip("/") for path, names in SCHEMA.items() for name in names]
    assert [f"{field.path}{'' if field.required else '?'}" for field in FIELDS] == paths


def test_an_answer_is_that_of_the_page_and_what_is_not_known_is_empty_or_left_out(record):
    root = ElementTree.fromstring(card_xml(record))
    items = dict(zip([field.path for field in FIELDS], applied_model_card(record).items, strict=True))
    assert element_of(root, "BasicInfo/ModelDeveloper").text is None
    assert items["BasicInfo/ModelDeveloper"].answer == BY_AUTHORS
    assert element_of(root, "Resources/ClinicalTrial") is None
    for path, item in items.items():
        element = element_of(root, path)
        if element is not None and not len(element) and item.state != "open":
            assert element.text == item.answer
    keywords = element_of(root, "ModelSummary/Keywords")
    assert [word.text for word in keywords] == ["12-lead ECG", "PE", "deep learning"]


def results_of(root, group):
    results = element_of(root, f"KeyMetrics/{group}/Results")
    return {result[0].text: json.loads(result[1].text) for result in results}


def test_numbers_are_those_of_the_run(record):
    root, label = ElementTree.fromstring(card_xml(record)), record.metrics["labels"]["PE"]
    useful, safe, fair = (
        results_of(root, group)
        for group in ("UsefulnessUsabilityEfficacy", "SafetyReliability", "FairnessEquity")
    )
    auroc = label["auroc"]
    assert useful["PE: AUROC"] == {
        "kind": "estimate_ci",
        "estimate": auroc.value,
        "lower": auroc.low,
        "upper": auroc.high,
        "level": 95,
    }
    assert safe["PE: Brier score"] == {"kind": "single", "value": label["brier_score"]}
    tested = record.predictions.iloc[::2]  # those of sex F
    found = tested.loc[tested["y_true_PE"] == 1, "y_score_PE"] >= 0.5
    assert fair["PE, sex F (n = 10): sensitivity"]["estimate"] == found.mean()


def test_a_run_without_a_test_has_null_for_a_result(record):
    empty = replace(record, metrics={}, predictions=pd.DataFrame())
    root = ElementTree.fromstring(card_xml(empty))
    for group in ("UsefulnessUsabilityEfficacy", "FairnessEquity", "SafetyReliability"):
        assert results_of(root, group) == {"not known": None}


def test_nothing_of_a_patient_or_a_place_is_in_it(record):
    text = write_card(record).read_text(encoding="utf-8")
    assert not any(part in text for part in ("secret", "miller", "d" * 32, *record.splits["patient_id"]))


def test_characters_that_xml_lacks_are_replaced(record):
    metrics = {**record.metrics, "labels": {"P\x00E<&": record.metrics["labels"]["PE"]}}
    names = {"y_true_PE": "y_true_P\x00E<&", "y_score_PE": "y_score_P\x00E<&"}
    odd = replace(
        record,
        metrics=metrics,
        predictions=record.predictions.rename(columns=names),
        splits=record.splits.rename(columns={"PE": "P\x00E<&"}),
    )
    root = ElementTree.fromstring(card_xml(odd))
    assert "P?E<&: AUROC" in results_of(root, "UsefulnessUsabilityEfficacy")


@pytest.mark.skipif("CHAI_SCHEMA" not in os.environ, reason="CHAI_SCHEMA names no schema.xsd of version 0.2")
def test_the_schema_itself_accepts_it(record):
    """Its import of the signatures' schema needs the network; a copy may lack it, a card has no signature."""
    etree = pytest.importorskip("lxml.etree")
    schema = etree.XMLSchema(etree.parse(os.environ["CHAI_SCHEMA"]))
    schema.assertValid(etree.fromstring(card_xml(record).encode("utf-8")))
