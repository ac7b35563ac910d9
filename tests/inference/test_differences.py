"""How much models differ on the same ECGs."""

import numpy as np
import pytest

from inference.comparison import Scores
from inference.differences import differences


def test_decisions_are_compared_once_an_ecg_however_often_it_was_scored():
    generator = np.random.default_rng(4)
    y_true, patients = np.arange(60) % 3 == 0, np.arange(60).astype(str)
    models = [Scores(name, generator.random(60), np.full(60, 0.5)) for name in ("a", "b")]
    thrice = [Scores(m.name, np.tile(m.y_score, 3), np.tile(m.thresholds, 3)) for m in models]
    once = differences(y_true, models, patients, np.ones(60))
    found = differences(np.tile(y_true, 3), thrice, np.tile(patients, 3), np.repeat([1, 2, 3], 60))
    for name in ("sensitivity_p", "specificity_p", "sensitivity_difference", "auroc_difference_p"):
        assert found[name][0] == pytest.approx(once[name][0])
    assert 0 < once["specificity_p"][0] < 1
