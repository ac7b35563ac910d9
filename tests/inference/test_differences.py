"""How much models differ on the same ECGs."""

import numpy as np
import pandas as pd
import pytest

from inference.comparison import Scores
from inference.differences import LabelComparison, adjust_for_many, differences


def test_an_ecg_that_is_decided_on_again_is_not_another():
    generator = np.random.default_rng(4)
    y_true, patients = np.arange(60) % 3 == 0, np.arange(60).astype(str)
    models = [Scores(name, generator.random(60), np.full(60, 0.5)) for name in ("a", "b")]
    thrice = [Scores(m.name, np.tile(m.y_score, 3), np.tile(m.thresholds, 3)) for m in models]
    once = differences(y_true, models, patients, patients)
    found = differences(np.tile(y_true, 3), thrice, *[np.tile(patients, 3)] * 2)
    assert found["n_ecgs"].tolist() == once["n_ecgs"].tolist() == [60]
    for name in ("sensitivity_p", "specificity_p", "sensitivity_difference", "auroc_difference_p"):
        assert found[name][0] == pytest.approx(once[name][0])
    assert 0 < once["specificity_p"][0] < 1


def comparison_of(label, **columns):
    return LabelComparison(label, np.zeros(0), 1, [], {}, pd.DataFrame(columns))


def test_all_tests_of_all_labels_are_one_family():
    one = comparison_of(
        "PE", model=["b", "signs"], auroc_difference_p=[0.01, np.nan], sensitivity_p=[0.2, np.nan]
    )
    two = comparison_of("MI", model=["b", "signs"], auroc_difference_p=[0.03, 0.02])
    pe, mi = adjust_for_many([one, two])
    # 0.01 x 4, 0.02 x 3, 0.03 x 2, 0.2; the undefined ones are no tests
    assert pe.differences["auroc_difference_p_holm"].tolist() == pytest.approx([0.04, np.nan], nan_ok=True)
    assert pe.differences["sensitivity_p_holm"].tolist() == pytest.approx([0.2, np.nan], nan_ok=True)
    assert mi.differences["auroc_difference_p_holm"].tolist() == pytest.approx([0.06, 0.06])
    assert pe.n_tests == mi.n_tests == 4
    assert "sensitivity_p_holm" not in mi.differences and "auroc_difference_p_holm" not in one.differences


def test_one_model_alone_is_not_tested():
    (alone,) = adjust_for_many([LabelComparison("PE", np.zeros(0), 1, [], {}, pd.DataFrame())])
    assert alone.n_tests == 0 and alone.differences.empty
