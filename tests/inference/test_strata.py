"""Groups of patients stand in the order in which people read them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from inference.comparison import Comparison, Scores
from inference.strata import AGES, auroc_by_heart_rate, metrics_by_stratum, metrics_of_run, strata_of
from run_folder.run_record import RunRecord


@pytest.mark.parametrize(
    ("column", "values", "categories"),
    [
        ("age", ["81", "50", "", "49.5", "65", "64", "x", "-1"], [*AGES, "missing"]),
        ("score", ["10", "2", "-1", "", "2"], ["-1", "2", "10", "missing"]),
        ("score", ["b", "10", "a", "2", "missing"], ["2", "10", "a", "b", "missing"]),
        (
            "score",
            [str(number) for number in range(120, 0, -1)],
            ["1 to 40", "41 to 80", "81 to 120", "missing"],
        ),
        ("sex", ["M", "F", "", "M"], ["F", "M", "missing"]),
        ("site", ["", ""], ["missing"]),
    ],
)
def test_groups_of_a_stratum_are_in_order(column, values, categories):
    cohort = SimpleNamespace(table=pd.DataFrame({column: values}))
    groups = strata_of(cohort, column)
    assert list(groups.categories) == categories and not groups.isna().any()
    if column == "age":
        expected = ["80 and above", "50 to 64", "missing", "below 50", "65 to 79", "50 to 64"]
        assert list(groups) == expected + ["missing"] * 2
    elif len(values) > 10:
        assert groups.value_counts().tolist() == [40, 40, 40, 0]
    else:
        assert list(groups) == [value or "missing" for value in values]


def test_of_a_repeated_cross_validation_each_ecg_counts_once():
    files = [f"{number}.xml" for number in range(40)]
    table = pd.DataFrame({"file": files, "patient_id": files, "y_true_PE": [1.0, 0.0] * 20, "fold": 1})
    table = pd.concat([table.assign(repeat=repeat) for repeat in (1, 2)], ignore_index=True)
    score = np.r_[[0.9, 0.1] * 20, [0.5] * 40][:, None]  # the first repeat is right throughout
    comparison = Comparison(
        table=table,
        splits=table[table["repeat"] == 1][::-1],
        folds={},
        label_names=["PE"],
        models=[Scores("a", score, np.full((80, 1), 0.6))],
        members=[],
        ensemble_thresholds=None,
    )
    sex = pd.Categorical((["F"] * 6 + ["M"] * 34) * 2)
    rows = metrics_by_stratum(comparison, {"sex": sex}).set_index("value")
    assert rows["n"].tolist() == [6, 34] and rows["n_positive"].tolist() == [3, 17]
    assert np.isnan(rows.loc["F", "auroc"]) and rows.loc["M", "auroc"] == 1  # three positives are too few
    assert rows["sensitivity"].tolist() == rows["specificity"].tolist() == [1, 1]
    rate = pd.Series(np.arange(40.0)[::-1])  # of the lines of splits
    thirds = auroc_by_heart_rate(comparison, rate)
    assert thirds["n_ecgs"].sum() == 40 and thirds["auroc"].tolist() == [1, 1, 1]


def test_groups_of_a_finished_run():
    files = [f"{number}.xml" for number in range(40)]
    sites = [f"site {number % 12}" for number in range(39)] + [None]  # more than ten: the rarer are "other"
    truth = [number % 2 for number in range(40)]
    score = [0.9 if number % 2 else 0.1 for number in range(38)] + [0.7, 0.2]  # the last two are wrong
    tested = {"file": files, "patient_id": files, "y_true_PE": truth, "y_score_PE": score, "repeat": 1}
    again = pd.DataFrame(tested | {"repeat": 2, "y_score_PE": 0.5})  # a second repeat does not count
    record = RunRecord(
        folder=None,
        metrics={"labels": {"PE": {"threshold": 0.5}}},
        predictions=pd.concat([pd.DataFrame(tested), again], ignore_index=True),
        splits=pd.DataFrame({"file": files, "split": "test", "site": sites, "sex": ["M"] * 20 + ["F"] * 20}),
        rejected=pd.DataFrame(),
        quality=pd.DataFrame(),
    )
    rows = metrics_of_run(record)
    sex, site = (rows[rows["stratum"] == name].set_index("value") for name in ("sex", "site"))
    assert list(sex["n"]) == [20, 20] and list(sex["n_positive"]) == [10, 10]
    assert list(sex["sensitivity"]) == [0.9, 1] and list(sex["specificity"]) == [0.9, 1]  # F, then M
    assert len(site) == 11 and site.loc["missing", "n"] == 1  # nine sites, the others, and one not known
    assert site["n"].sum() == 40 and site.loc["other", "n"] == 39 - 3 * 4 - 6 * 3
    assert metrics_of_run(replace(record, splits=record.splits[["file", "split"]])).empty
