"""Groups of patients, by the columns of the labels table, and how good the first model is in each of them."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from cohorts.columns import known_text
from dataset.cohort import Cohort
from inference.comparison import Comparison
from inference.sign_baseline import auroc_within_tertiles
from metrics_and_performance import evaluate_strata
from runtime.errors import UserError

MAX_CATEGORIES = 10  # of a numeric column that is taken as it is; one with more values is cut into thirds
AGES = {"below 50": (0, 50), "50 to 64": (50, 65), "65 to 79": (65, 80), "80 and above": (80, np.inf)}


def text_of(cohort: Cohort, column: str) -> pd.Series:
    """Return a column of the labels table as text, empty where it is not known."""
    if column not in cohort.table:
        known = [name for name in cohort.table if name not in ("digest", "same_ecg", "patient_id")]
        raise UserError(f"column {column}: not in the labels table, expected one of {', '.join(known)}")
    return known_text(cohort.table[column].astype(str).str.strip())


def strata_of(cohort: Cohort, column: str) -> pd.Categorical:
    """Return each ECG's group: bands of age, thirds of a column of many numbers, or the value itself.

    The categories are in the order in which people read them: of age, of numbers, of the alphabet, and
    "missing" last.
    """
    text = text_of(cohort, column)
    numbers = pd.to_numeric(text.replace("", np.nan), errors="coerce")
    if column == "age":
        bands = pd.IntervalIndex.from_tuples(list(AGES.values()), closed="left")
        groups = pd.cut(numbers, bands).cat.rename_categories(list(AGES))
    elif numbers.nunique() > MAX_CATEGORIES:
        thirds = pd.qcut(numbers, 3, duplicates="drop")
        ends = numbers.groupby(thirds, observed=False).agg(["min", "max"]).to_numpy()
        groups = thirds.cat.rename_categories([f"{low:.12g} to {high:.12g}" for low, high in ends])
    else:
        in_order = pd.DataFrame({"number": numbers, "text": text}).sort_values(["number", "text"])["text"]
        values = in_order[in_order != ""].unique()
        groups = text.replace("", np.nan).astype(pd.CategoricalDtype(values))
    return groups.cat.add_categories("missing").fillna("missing").array


def metrics_by_stratum(comparison: Comparison, strata: Mapping[str, pd.Categorical]) -> pd.DataFrame:
    """Return the rows of `evaluate_strata` for the first model, the groups in the order of reading."""
    first, tested = comparison.models[0], comparison.table
    rows = evaluate_strata(
        _truth(comparison),
        first.y_score,
        thresholds=first.thresholds,
        label_names=comparison.label_names,
        patient_ids=tested["patient_id"].to_numpy(),
        strata=strata,
    )
    order = [(name, group) for name, values in strata.items() for group in values.categories]
    rows.sort(key=lambda row: order.index((row["stratum"], row["value"])))
    rows.sort(key=lambda row: comparison.label_names.index(row["label"]))
    return pd.DataFrame(rows)


def auroc_by_heart_rate(comparison: Comparison, heart_rate: pd.Series) -> pd.DataFrame:
    """Return the first model's AUROC of each label within thirds of the heart rate.

    Parameters
    ----------
    heart_rate : of the lines of ``comparison.splits``
    """
    lines = pd.Index(comparison.splits["file"]).get_indexer(comparison.table["file"])
    y_true, y_score, rate = _truth(comparison), comparison.models[0].y_score, heart_rate.to_numpy()[lines]
    thirds = {
        label: auroc_within_tertiles(y_true[:, number], y_score[:, number], rate)
        for number, label in enumerate(comparison.label_names)
    }
    return pd.concat(thirds, names=["label"]).reset_index("label")


def _truth(comparison: Comparison) -> np.ndarray:
    """Return the labels, float (n_ecgs, n_labels), nan where unknown."""
    return comparison.table[[f"y_true_{label}" for label in comparison.label_names]].to_numpy(float)
