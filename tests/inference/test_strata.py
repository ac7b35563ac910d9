"""Groups of patients stand in the order in which people read them."""

from types import SimpleNamespace

import pandas as pd
import pytest

from inference.strata import AGES, strata_of


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
