"""The benchmark of the intervals: the bootstrap of a difference, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.studies.coverage import bootstrap_difference, covered_in_one_study
from metrics.bootstrap import resampled_weights


def test_bootstrap_difference():
    rng = np.random.default_rng(0)
    y_true = (rng.random(150) < 0.2).astype(int)
    score_a = rng.normal(size=150) + y_true
    score_b = score_a + rng.normal(scale=0.3, size=150)
    arguments = {"patients": np.arange(150), "n_resamples": 50, "seed": 3}
    found = bootstrap_difference(y_true, score_a, score_b, **arguments)
    weights = np.concatenate(list(resampled_weights(np.arange(150), 50, seed=3)))
    differences = [
        roc_auc_score(y_true, score_a, sample_weight=row) - roc_auc_score(y_true, score_b, sample_weight=row)
        for row in weights
    ]
    assert found == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])))
    mirrored = bootstrap_difference(y_true, score_b, score_a, **arguments)
    assert mirrored == pytest.approx((-found[1], -found[0]))
    assert bootstrap_difference(y_true, score_a, score_a, **arguments) == (0, 0)


def test_a_study_has_each_interval_with_its_width():
    study = covered_in_one_study(np.random.default_rng(0), 0.75, 3)
    assert len(study) == 13 and "bootstrap: difference of auroc" in study
    assert all(width > 0 for _, width in study.values())
