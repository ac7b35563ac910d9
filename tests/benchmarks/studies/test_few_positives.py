"""The study of few positives: its truths, and that it finds what the documents say, on a small scale."""

import numpy as np
import pytest
from scipy.stats import norm

from benchmarks.studies.few_positives import cross_validate, decide_on_few, draw, lost_information
from metrics.log_odds import logit


def test_the_truth_of_a_threshold_is_that_of_a_large_set():
    study = draw(np.random.default_rng(0), 0.75, 20_000, 200_000)
    sensitivity, specificity = study.truth(float(logit(0.1)))
    flagged = study.logit >= logit(0.1)
    assert sensitivity == pytest.approx(flagged[study.y_true == 1].mean(), abs=0.01)
    assert specificity == pytest.approx(1 - flagged[study.y_true == 0].mean(), abs=0.01)
    # equally far from both means: half the distance, sqrt(2) * 0.674 / 2
    assert sensitivity == specificity == pytest.approx(norm.cdf(0.477), abs=1e-3)


def test_what_a_calibration_loses():
    study = draw(np.random.default_rng(0), 0.75, 2000, 20_000)
    assert lost_information(study, 1.0, 0.0) == 0
    assert lost_information(study, 0.0, float(logit(0.1))) == pytest.approx(1)


def test_the_defaults_lose_less_and_vary_less():
    rng = np.random.default_rng(1)
    rows = [decide_on_few(rng, 0.65, 10) for _ in range(40)]
    lost, spread = (
        {name: kind([row[name] for row in rows]) for name in rows[0]} for kind in (np.mean, np.std)
    )
    assert lost["lost, shrunken"] < 0.5 * lost["lost, platt"]
    assert spread["sensitivity, prevalence"] < 0.5 * spread["sensitivity, youden"]


def test_pooling_out_of_fold_loses_little_and_the_mean_has_its_slope():
    rng = np.random.default_rng(2)
    rows = [cross_validate(rng, 1.8, 0.1) for _ in range(4)]
    mean = {name: np.mean([row[name] for row in rows]) for name in rows[0]}
    assert mean["AUROC, out of fold"] > -0.008
    assert mean["slope, out of fold"] == pytest.approx(1, abs=0.2)
    assert mean["slope, out of fold, mean not stretched"] > mean["slope, out of fold"]
