"""The tables of a comparison: names whole, numbers as people read them."""

import numpy as np
import pandas as pd

from metrics.metric import Metric
from reporting.words.comparison_table import format_comparison, group_cells


def test_cells_of_groups_are_words_and_numbers_that_people_read():
    row = {"label": "PE", "stratum": "site", "value": "- (---)", "n": 1200, "n_patients": 9, "n_positive": 0}
    row |= {"auroc": np.nan, "auroc_low": np.nan, "auroc_high": np.nan}
    row |= {"sensitivity": 1.0, "sensitivity_low": np.nan, "sensitivity_high": np.nan}
    row |= {"specificity": 0.75, "specificity_low": 0.5, "specificity_high": 0.9}
    cells = group_cells(pd.DataFrame([row, row | {"auroc": 0.5, "auroc_low": 0.25, "auroc_high": 0.625}]))
    header = [
        "label",
        "stratum",
        "group",
        "ECGs",
        "patients",
        "positive",
        "AUROC",
        "sensitivity",
        "specificity",
    ]
    assert list(cells) == header
    first, second = cells.to_numpy().tolist()
    assert first[2:] == ["- (---)", "1,200", "9", "0", "undefined", "1.000", "0.750 (0.500–0.900)"]
    assert second[6] == "0.500 (0.250–0.625)"


def test_bounds_of_the_heart_rate_are_whole_beats_a_minute():
    rows = [("lowest", 50.336, 64.516, 68, 3, 0.99), ("unknown", np.nan, np.nan, 2, 0, np.nan)]
    columns = ["tertile", "low", "high", "n_ecgs", "n_positive", "auroc"]
    cells = group_cells(pd.DataFrame(rows, columns=columns))
    assert list(cells) == ["third", "bpm from", "to", "ECGs", "positive", "AUROC"]
    assert cells.to_numpy().tolist() == [
        ["lowest", "50", "65", "68", "3", "0.990"],
        ["unknown", "", "", "2", "0", "undefined"],
    ]


def test_names_of_runs_are_whole_in_the_printed_table():
    names = ["train_baseline-20261123-020512", "train_baseline-20261123-020744"]
    value = Metric(0.5, 0.25, 0.75)
    keys = ("auroc", "average_precision", "sensitivity_at_specificity_90", "specificity_at_sensitivity_95")
    table = format_comparison(dict.fromkeys(names, dict.fromkeys(keys, value)), pd.DataFrame({"model": []}))
    header, *lines = table.splitlines()
    assert [line.split()[0] for line in lines] == names
    assert {line.index("0.500") for line in lines} == {header.index("AUROC")}
