"""What is said of few positives, and of models that were not tested together."""

import json

import pytest

from reporting.words.decision_words import decision_notes, span_of_folds, untested_together
from reporting.words.formatting import percent


def test_the_thresholds_of_folds_are_a_span():
    of_folds = {"threshold": 0.3, "threshold_low": 0.2764, "threshold_high": 0.35}
    assert span_of_folds(of_folds) == "0.276 to 0.35"
    assert span_of_folds(of_folds, percent) == "27.6 % to 35.0 %"
    of_one = {"threshold": 0.3, "threshold_low": 0.3, "threshold_high": 0.3}
    assert span_of_folds(of_one) == span_of_folds({"threshold": 0.3}) == ""


def test_few_positives_are_said_for_calibration_and_for_a_chosen_threshold():
    chosen = {"sensitivity": [0.6915, 1.0], "specificity": [0.3, 0.52]}
    decisions = {"PE": {"calibration": "platt", "n_positive": 10, **chosen}}
    assert list(decision_notes(decisions)) == [
        "the threshold was chosen on 10 PE: on new patients expect a sensitivity of 0.69 to 1.00, a "
        "specificity of 0.30 to 0.52 (95 %)",
        "the calibration was fitted on 10 PE, fewer than 30: scores are rough probabilities",
    ]


@pytest.mark.parametrize(
    "decision", [{"calibration": "none", "n_positive": 4}, {"calibration": "shrunken", "n_positive": 30}]
)
def test_nothing_is_said_where_few_decide_nothing(decision):
    assert list(decision_notes({"PE": decision})) == list(decision_notes({})) == []


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (["fold-1", "fold-2"], "2 models together, as here, were not tested"),
        (["../one/fold-1", "../two/fold-1"], "2 models together, as here, were not tested"),
        (["../one", "../two"], ""),  # single splits, whose ensemble was tested as it is
        (None, ""),
    ],
)
def test_models_of_folds_were_not_tested_together(tmp_path, members, words):
    if members:
        (tmp_path / "ensemble.json").write_text(json.dumps({"members": members}))
    assert untested_together(tmp_path).endswith(words) and bool(untested_together(tmp_path)) == bool(words)
