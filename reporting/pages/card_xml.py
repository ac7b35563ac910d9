"""`model_card.xml`: the Applied Model Card of a run for programs, in CHAI's XML (mc.chai.org, schema 0.2).

It has the texts of the report's table of the same name. An element that must be there and of which nothing is
known is empty, and a result that is not known is null; the report says what is asked there.
"""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

from metrics.metric import Metric
from reporting.words.applied_model_card import (
    FIELDS,
    Results,
    applied_model_card,
    fairness,
    keywords,
    safety,
    usefulness,
)
from run_folder.run_record import RunRecord
from runtime.atomic_files import write_text_atomically

NAMESPACE = "https://mc.chai.org/v0.2/schema.xsd"
FILE = "model_card.xml"
RESULTS = {
    "KeyMetrics/UsefulnessUsabilityEfficacy/Results": usefulness,
    "KeyMetrics/FairnessEquity/Results": fairness,
    "KeyMetrics/SafetyReliability/Results": safety,
}
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # characters that XML lacks


def write_card(record: RunRecord) -> Path:
    """Write `model_card.xml` into the folder of a run, whole or not at all, and return its path."""
    path = record.folder / FILE
    write_text_atomically(path, card_xml(record))
    return path


def card_xml(record: RunRecord) -> str:
    """Return the card as XML."""
    root = ElementTree.Element("AppliedModelCard", xmlns=NAMESPACE)
    confidence = record.metrics.get("confidence", 0.95)
    for field, item in zip(FIELDS, applied_model_card(record).items, strict=True):
        if item.state == "open" and not field.required:
            continue
        element = _element(root, field.path)
        if field.path in RESULTS:
            _add_results(element, RESULTS[field.path](record), confidence)
        elif field.path == "ModelSummary/Keywords":
            for word in keywords(record):
                ElementTree.SubElement(element, "Keyword").text = _allowed(word)
        elif item.state != "open":
            element.text = _allowed(item.answer)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _element(root: ElementTree.Element, path: str) -> ElementTree.Element:
    """Return a new last element of a path, and make those above it that are not there."""
    *above, last = path.split("/")
    for name in above:
        found = root.find(name)
        root = ElementTree.SubElement(root, name) if found is None else found
    return ElementTree.SubElement(root, last)


def _add_results(element: ElementTree.Element, results: Results, confidence: float) -> None:
    for what, metric in results or [("not known", None)]:
        result = ElementTree.SubElement(element, "MetricResult")
        ElementTree.SubElement(result, "Label").text = _allowed(what)
        ElementTree.SubElement(result, "ValueJson").text = json.dumps(_value(metric, confidence))


def _value(metric: Metric | None, confidence: float) -> dict[str, object] | None:
    """Return a number as the cards of CHAI's examples have it."""
    if metric is None:
        return None
    if not metric.has_interval:
        return {"kind": "single", "value": metric.value}
    ends = {"lower": metric.low, "upper": metric.high, "level": float(f"{100 * confidence:g}")}
    return {"kind": "estimate_ci", "estimate": metric.value, **ends}


def _allowed(text: str) -> str:
    return FORBIDDEN.sub("?", text)
