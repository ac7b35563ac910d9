"""Which models of a folder score together, and what is known of how well."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from described_models import describe

from metrics.log_odds import expit
from run_folder.descriptions import threshold_source_of
from run_folder.ensemble import (
    clinical_columns_of,
    label_names_of,
    mean_decisions,
    members_of,
    performance_of,
    read_ensemble,
    save_ensemble,
)
from run_folder.run import Run
from runtime.errors import UserError


@pytest.fixture
def ensemble(tmp_path):
    """An ensemble of two models, of which the second takes the patient's age."""
    for name, changes in {"one": {}, "two": {"clinical_columns": ["age"], "prevalences": [0.3, 0.2]}}.items():
        (tmp_path / name).mkdir()
        Run(tmp_path / name).save_description(describe(**changes))
    (tmp_path / "both").mkdir()
    members = [tmp_path / name for name in ("one", "two")]
    decisions = mean_decisions(members, [[0.2, 0.5], [0.8, 0.5]])
    save_ensemble(Run(tmp_path / "both"), members, decisions)
    return tmp_path / "both"


def test_an_ensemble_decides_at_the_mean_logit_and_holds_for_the_mean_prevalence(ensemble):
    description = read_ensemble(ensemble)
    assert description.members == ["../one", "../two"] and description.label_names == ["PE", "MI"]
    assert description.thresholds == pytest.approx([0.5, 0.5])
    assert description.prevalences == pytest.approx([0.2, 0.2])


def test_a_threshold_of_different_policies_is_called_their_mean(ensemble):
    assert read_ensemble(ensemble).threshold_policy == "youden"
    Run(ensemble.parent / "two").save_description(describe(threshold_policy="prevalence"))
    decisions = mean_decisions([ensemble.parent / name for name in ("one", "two")], [[0.5, 0.5]])
    assert decisions.threshold_policy == "mean of youden and prevalence"
    members = [describe(), describe(), describe(threshold_policy="prevalence")]
    assert threshold_source_of(members[:2]) == "Youden, from validation"
    said = (
        "the mean of the models' thresholds: Youden, from validation; the prevalence of the validation ECGs"
    )
    assert threshold_source_of(members) == said


def test_a_member_is_followed_by_the_calibration_of_the_ensemble(ensemble):
    member = describe()  # of PE as it is; of MI 1.5 * logit - 0.5
    assert read_ensemble(ensemble).calibrated(member) == member  # it has none, as in the first versions
    stretched = {"calibration_slopes": [1.2, 2.0], "calibration_intercepts": [0.3, 1.0]}
    followed = dataclasses.replace(read_ensemble(ensemble), **stretched).calibrated(member)
    assert followed.calibration_slopes == pytest.approx([1.2, 3.0])
    assert followed.calibration_intercepts == pytest.approx([0.3, 0.0])


def test_the_members_say_what_is_needed(ensemble):
    one, two = members_of(ensemble)
    assert members_of(one) == [one] and two.resolve() == ensemble.parent / "two"
    assert label_names_of(ensemble) == ["PE", "MI"]
    assert clinical_columns_of([one, ensemble]) == ["age"]


@pytest.mark.parametrize("content", ["{", "[]", '{"members": []}'])
def test_a_damaged_ensemble_is_one_line(tmp_path, content):
    (tmp_path / "ensemble.json").write_text(content)
    with pytest.raises(UserError, match=r"ensemble\.json: found no usable ensemble \(") as caught:
        members_of(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_the_performance_is_that_of_the_run_or_of_the_ensemble(tmp_path):
    assert performance_of(tmp_path) == {}
    for metrics in (
        {"labels": {"PE": {"n_ecgs": 1}}},
        {"PE": {"x": {"n_ecgs": 2}, "ensemble": {"n_ecgs": 1}}},
    ):
        (tmp_path / "metrics.json").write_text(json.dumps(metrics))
        assert performance_of(tmp_path) == {"PE": {"n_ecgs": 1}}
    (tmp_path / "metrics.json").write_text(json.dumps({"PE": {"x": {"n_ecgs": 2}}}))
    assert performance_of(tmp_path) == {}


def test_the_mean_of_compared_models_is_stretched_without_changing_a_decision(tmp_path):
    """Two models of 400 common ECGs, which share half of the variance: 1 / (1 / 2 + 1 / 4)."""
    rng = np.random.default_rng(0)
    y_true, common = (np.arange(400) % 10 == 0).astype(int), rng.normal(size=400)
    members, logits = [tmp_path / "one", tmp_path / "two"], []
    for member in members:
        logits.append((common + rng.normal(size=400)) / np.sqrt(2) + y_true - 3)
        member.mkdir()
        Run(member).save_description(describe(label_names=["PE"], prevalences=[0.1], thresholds=[0.2]))
        files = [f"{number}.xml" for number in range(400)]
        scores = {"file": files, "y_true_PE": y_true, "y_score_PE": expit(logits[-1])}
        Run(member).write_table("predictions.csv", pd.DataFrame(scores))
    decisions = mean_decisions(members, [[0.07]])
    (slope,), (intercept,) = decisions.calibration_slopes, decisions.calibration_intercepts
    assert slope == pytest.approx(4 / 3, abs=0.08)
    mean = np.mean(logits, axis=0)
    flagged = expit(slope * mean + intercept) >= decisions.thresholds[0]
    np.testing.assert_array_equal(flagged, expit(mean) >= 0.07)
    assert 0 < flagged.sum() < 400
