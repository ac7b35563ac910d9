"""Groups of patients, by the columns of the labels table, and how good the first model is in each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cohorts.columns import GROUP_COLUMNS, known_text
from inference.sign_baseline import auroc_within_tertiles
from metrics_and_performance import evaluate_strata
from run_folder.repeats import first_repeat
from run_folder.run_record import RunRecord
from runtime.errors import UserError

if TYPE_CHECKING:  # both need PyTorch, and a report of a finished run does not
    from dataset.cohort import Cohort
    from inference.comparison import Comparison

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
    return groups_of(text_of(cohort, column), column)


def groups_of(text: pd.Series, column: str) -> pd.Categorical:
    """Return the groups of `strata_of` from the column's values as text, empty where one is not known."""
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


def metrics_of_run(record: RunRecord) -> pd.DataFrame:
    """Return the rows of `evaluate_strata` of a run's tested ECGs, in the groups of `GROUP_COLUMNS`.

    There are none where no ECG has such a column. Of a repeated cross-validation the first repeat counts. Of
    a column with many values the rarer ones are one group, "other".
    """
    first, splits = first_repeat(record.predictions), record.splits.set_index("file")
    tested = record.predictions[first]
    strata = {}
    for name in GROUP_COLUMNS:
        if name in splits and name not in record.label_names:
            text = known_text(splits[name].reindex(tested["file"]).fillna("").astype(str).str.strip())
            if text.ne("").any():
                strata[name] = groups_of(_frequent(text) if name != "age" else text, name)
    labels = record.label_names
    if not strata or not len(tested):
        return pd.DataFrame()
    rows = evaluate_strata(
        tested[[f"y_true_{label}" for label in labels]].to_numpy(float),
        tested[[f"y_score_{label}" for label in labels]].to_numpy(float),
        thresholds=np.column_stack([record.thresholds(label)[first] for label in labels]),
        label_names=labels,
        patient_ids=tested["patient_id"].fillna("").to_numpy(),
        strata=strata,
        confidence=record.metrics.get("confidence", 0.95),
    )
    return _in_order(rows, strata, labels)


def _frequent(text: pd.Series) -> pd.Series:
    """Return values of which the rarer ones are "other" where there are more than `MAX_CATEGORIES`."""
    values = text[text != ""].value_counts().index
    kept = values if len(values) <= MAX_CATEGORIES else values[: MAX_CATEGORIES - 1]
    return text.where(text.isin([*kept, ""]), "other")


def metrics_by_stratum(comparison: Comparison, strata: Mapping[str, pd.Categorical]) -> pd.DataFrame:
    """Return the rows of `evaluate_strata` for the first model, the groups in the order of reading.

    Of a repeated cross-validation the first repeat counts.

    Parameters
    ----------
    strata : of the lines of ``comparison.table``
    """
    tested, first = comparison.first_repeat(), first_repeat(comparison.table)
    rows = evaluate_strata(
        _truth(tested),
        tested.models[0].y_score,
        thresholds=tested.models[0].thresholds,
        label_names=tested.label_names,
        patient_ids=tested.table["patient_id"].to_numpy(),
        strata={name: groups[first] for name, groups in strata.items()},
    )
    return _in_order(rows, strata, comparison.label_names)


def _in_order(
    rows: list[dict], strata: Mapping[str, pd.Categorical], label_names: Sequence[str]
) -> pd.DataFrame:
    """Return rows as a table, its labels, strata and groups in the order of reading."""
    order = [(name, group) for name, values in strata.items() for group in values.categories]
    rows = sorted(rows, key=lambda row: order.index((row["stratum"], row["value"])))
    return pd.DataFrame(sorted(rows, key=lambda row: label_names.index(row["label"])))


def auroc_by_heart_rate(comparison: Comparison, heart_rate: pd.Series) -> pd.DataFrame:
    """Return the first model's AUROC of each label within thirds of the heart rate, in the first repeat.

    Parameters
    ----------
    heart_rate : of the lines of ``comparison.splits``
    """
    tested = comparison.first_repeat()
    lines = pd.Index(tested.splits["file"]).get_indexer(tested.table["file"])
    y_true, y_score, rate = _truth(tested), tested.models[0].y_score, heart_rate.to_numpy()[lines]
    thirds = {
        label: auroc_within_tertiles(y_true[:, number], y_score[:, number], rate)
        for number, label in enumerate(comparison.label_names)
    }
    return pd.concat(thirds, names=["label"]).reset_index("label")


def _truth(comparison: Comparison) -> np.ndarray:
    """Return the labels, float (n_ecgs, n_labels), nan where unknown."""
    return comparison.table[[f"y_true_{label}" for label in comparison.label_names]].to_numpy(float)
