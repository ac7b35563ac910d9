"""What a training decides on, and what it says of how few ECGs decide."""

from types import SimpleNamespace

import numpy as np
import pytest
from fake_cohort import cohort_of

from dataset.splits import Fold
from metrics.calibration import fit_calibration
from metrics.log_odds import logit
from training.decisions import decide, few_to_decide_on, level_of_scores


def draw(n_positive, n_negative, seed=0):
    y_true = np.repeat([1.0, 0.0], [n_positive, n_negative])
    return y_true, np.random.default_rng(seed).normal(size=len(y_true)) + y_true - 2


def decided(y_true, logits, **options):
    options = {"calibration": "shrunken", "threshold_policy": "prevalence", "prevalence": 0.15, **options}
    return decide(y_true, logits, np.arange(len(y_true)), **options)


def test_the_level_is_moved_to_the_prevalence_which_is_the_threshold():
    y_true, logits = draw(4, 26)
    found = decided(y_true, logits)
    slope, intercept = fit_calibration(y_true, logits, "shrunken")
    assert found.calibration.slope == slope
    # odds of 4 / 26 in validation, 15 / 85 in development
    assert found.calibration.intercept == pytest.approx(intercept + logit(0.15) - np.log(4 / 26))
    assert (found.threshold, found.prevalence, found.n_positive, found.expected) == (0.15, 0.15, 4, {})


def test_an_ecg_that_several_models_have_scored_counts_once():
    y_true, logits = draw(8, 60)
    once, ecgs = decided(y_true, logits), np.arange(68)
    thrice = [np.tile(column, 3) for column in (y_true, logits, ecgs, ecgs)]
    options = {"calibration": "shrunken", "threshold_policy": "prevalence", "prevalence": 0.15}
    again = decide(*thrice, **options)
    assert again.n_positive == 8 and again.calibration == pytest.approx(once.calibration, abs=1e-4)
    as_others = decide(*thrice[:3], **options)  # 24 positives would shrink the slope less
    assert abs(np.log(as_others.calibration.slope)) > 1.1 * abs(np.log(once.calibration.slope))


def test_another_prevalence_of_validation_changes_no_decision():
    y_true, logits = draw(10, 90)
    flagged = [
        found.calibration.of(logits) >= logit(found.threshold)
        for found in (decided(y_true, logits, prevalence=prevalence) for prevalence in (0.1, 0.4))
    ]
    np.testing.assert_array_equal(*flagged)
    assert 0 < flagged[0].sum() < 100


@pytest.mark.parametrize("calibration", ["none", "temperature"])
def test_a_calibration_without_intercept_keeps_the_level(calibration):
    y_true, logits = draw(10, 90)
    found = decided(y_true, logits, calibration=calibration, prevalence=0.4)
    assert found.calibration.intercept == 0 and found.threshold == 0.4


def test_a_chosen_threshold_says_what_to_expect_and_unknown_labels_do_not_count():
    y_true, logits = draw(10, 90)
    unknown = np.append(y_true, np.nan), np.append(logits, 50.0)
    for columns in ((y_true, logits), unknown):
        found = decided(*columns, threshold_policy="sensitivity>=0.95")
        assert found.n_positive == 10
        assert found.expected["sensitivity"] == pytest.approx([0.025**0.1, 1])


PARTS = {"train": np.arange(0, 12), "validation": np.arange(12, 18), "test": np.arange(18, 24)}


def test_whose_prevalence_the_level_follows():
    cohort = cohort_of(np.zeros((24, 1), np.float32))
    fold = Fold(0, 1, 1, PARTS)
    name, indices = level_of_scores(cohort, fold, "shrunken")
    assert name == "development" and indices.tolist() == list(range(18))
    cohort.table["split"] = "some part"
    assert level_of_scores(cohort, fold, "shrunken")[0] == "validation"
    assert level_of_scores(cohort, fold, "temperature")[0] == "training"


def few(n_positive, n_folds=1, **values):
    """Return the lines about a cohort of 500, whose validation part has this many positives."""
    targets = np.zeros((500, 1), np.float32)
    targets[np.r_[0:60, 300 : 300 + n_positive, 400:460]] = 1
    parts = {"train": np.arange(300), "validation": np.arange(300, 400), "test": np.arange(400, 500)}
    folds = [Fold(number, 1, 1, parts) for number in range(n_folds)]
    given = {"calibration": "shrunken", "threshold_policy": "prevalence", "keep": "last", **values}
    return list(few_to_decide_on(cohort_of(targets), folds, SimpleNamespace(**given)))


def test_what_few_positives_decide_is_said():
    assert few(4) == ["only 4 with PE to validate on: calibration rests on them"]
    assert few(4, threshold_policy="youden") == [
        "only 4 with PE to validate on: calibration and threshold rest on them"
    ]
    assert few(40, threshold_policy="youden", keep="best") == [
        "only 40 with PE to validate on: best epoch and threshold rest on them"
    ]
    assert few(40) == few(4, calibration="none") == []
    assert few(4, n_folds=3) == []  # 64 in training and validation, which others test
    assert few(4, n_folds=3, keep="best") == ["only 4 with PE to validate on: best epoch rests on them"]
