"""A column that gives the label away is a copy, or separates; an honest one is neither."""

import numpy as np
import pandas as pd
import pytest

from dataset.clinical import check_clinical
from dataset.label_copies import is_copy, separating_columns, separation
from runtime.errors import UserError

TRUTH = np.array([1.0] * 5 + [0.0] * 10)
SEVERITY = np.array([1.0, 2, 3, 2, 1] + [np.nan] * 10)  # of PE, so known only where there is one


@pytest.mark.parametrize("values", [TRUTH, 1 - TRUTH, 7 - 3 * TRUTH, SEVERITY])
def test_a_copy_has_one_value_of_its_own_for_each_class(values):
    assert is_copy(values, TRUTH) and separation(values, TRUTH) == 1


def test_a_copy_is_one_where_it_or_the_label_is_not_known_too():
    values, truth = np.r_[TRUTH, 1, 0, np.nan], np.r_[TRUTH, np.nan, np.nan, 1]
    assert is_copy(values, truth) and separation(values, truth) == 1


def test_what_is_wrong_once_is_no_copy_but_separates():
    values = TRUTH.copy()
    values[-1] = 1
    assert not is_copy(values, TRUTH)
    assert separation(values, TRUTH) == pytest.approx(0.95)  # 9 of 10 lower, one equal: (9 + 1/2) / 10
    assert separation(-values, TRUTH) == pytest.approx(0.95)


def test_few_ecgs_and_honest_columns_are_left_alone():
    assert not is_copy(TRUTH[1:], TRUTH[1:]) and np.isnan(separation(TRUTH[1:], TRUTH[1:]))
    age = np.random.default_rng(0).normal(60, 10, 15)
    table = pd.DataFrame({"age": age, "d_dimer": 10 * TRUTH + age / 100})
    (line,) = separating_columns(table, np.c_[TRUTH, np.full(15, np.nan)], ["PE", "MI"])
    assert line.startswith("d_dimer alone separates PE (AUROC 1.000)")


def test_a_copy_is_refused_as_a_clinical_column():
    words = np.where(TRUTH == 1, "yes", "no")
    table = pd.DataFrame({"file": "a", "ct_result": words, "PE": TRUTH.astype(int)})
    with pytest.raises(
        UserError, match=r"t\.csv: clinical column ct_result: found the label PE under another name"
    ):
        check_clinical("t.csv", table, ["ct_result"], label_names=["PE"])
