"""Abstention: sets of PE, no PE or "not sure", from a run's scores of ECGs that no weight was fitted on."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from metrics.conformal import NOT_SURE, ConformalSets, fewest_for
from run_folder.files import RunFiles
from runtime.errors import UserError


class Abstention(NamedTuple):
    """The sets of one label.

    Attributes
    ----------
    fitted_on : the ECGs, for a reader: "validation" or "out-of-fold".
    n_tested, n_decided, n_right : test ECGs whose label is known; those called PE or no PE; those rightly.
    n_covered : (2,), of the test ECGs without and with it, those that were not called the other.
    n_of_class : (2,), all of them.
    """

    label: str
    alpha: float
    sets: ConformalSets
    fitted_on: str
    n_tested: int
    n_decided: int
    n_right: int
    n_covered: list[int]
    n_of_class: list[int]

    def in_words(self, y_score: np.ndarray) -> list[str]:
        """Return for each score, (n_ecgs,), "PE", "no PE" or "not sure"."""
        words = {1: self.label, 0: f"no {self.label}", NOT_SURE: "not sure"}
        return [words[decision] for decision in self.sets.decide(y_score, self.alpha).tolist()]


def abstentions(run: Path, names: Sequence[str], alpha: float) -> list[Abstention]:
    """Return the sets of each label of a run, at the error rate ``alpha`` in each class.

    A single model's are fitted to its validation ECGs, those of a cross-validation to the out-of-fold scores;
    one ECG of each patient counts in each class, the first. What they are worth is tested on the test ECGs;
    in a cross-validation those of one fold by sets of the other folds' patients.

    Raises
    ------
    UserError : the run has no such scores, or too few ECGs of a class for this ``alpha``.
    """
    files = RunFiles(run)
    together = files.has("ensemble.json")
    if not files.has("predictions.csv"):
        raise UserError(
            f"{run}: found no predictions.csv, expected a run or a cross-validation with the scores of ECGs "
            "that no weight was fitted on (--alpha)"
        )
    predictions = files.table("predictions.csv")
    part = "test" if together else "validation"
    missing = [name for name in names if f"y_score_{name}" not in predictions]
    if missing or not (predictions.get("split", pd.Series(dtype=str)) == part).any():
        found = f"no score of {missing[0]}" if missing else f"no {part} ECGs"
        raise UserError(f"{run / 'predictions.csv'}: found {found}, expected them for --alpha")
    return [_abstention(predictions, name, alpha, together) for name in names]


def _abstention(predictions: pd.DataFrame, name: str, alpha: float, together: bool) -> Abstention:
    known = predictions[predictions[f"y_true_{name}"].notna()]
    tested = known[known["split"] == "test"]
    fitted = tested if together else known[known["split"] == "validation"]
    fitted_on = "out-of-fold" if together else "validation"
    sets = _fit(fitted, name)
    for ecgs, words in ((sets.positive, "with"), (sets.negative, "without")):
        if len(ecgs) < fewest_for(alpha):
            raise UserError(
                f"--alpha: found {len(ecgs)} patients {words} {name} among the {fitted_on} ECGs, expected "
                f"{fewest_for(alpha)} or more for alpha {alpha:g}: take a larger alpha"
            )
    pairs = [
        (rows[f"y_true_{name}"].to_numpy(int), fold_sets.decide(rows[f"y_score_{name}"].to_numpy(), alpha))
        for rows, fold_sets in (_others(tested, name) if together else [(tested, sets)])
    ]
    y_true, decision = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    return Abstention(
        label=name,
        alpha=alpha,
        sets=sets,
        fitted_on=fitted_on,
        n_tested=len(y_true),
        n_decided=int((decision != NOT_SURE).sum()),
        n_right=int((decision == y_true).sum()),
        n_covered=[int(((y_true == value) & (decision != 1 - value)).sum()) for value in (0, 1)],
        n_of_class=[int((y_true == value).sum()) for value in (0, 1)],
    )


def _others(tested: pd.DataFrame, name: str) -> Iterator[tuple[pd.DataFrame, ConformalSets]]:
    """Yield the test ECGs of each fold, and the sets that the patients of the other folds give."""
    for _, own in tested.groupby(["repeat", "fold"]):
        others = tested[~tested["patient_id"].isin(own["patient_id"])]
        yield own, _fit(others, name)


def _fit(rows: pd.DataFrame, name: str) -> ConformalSets:
    once = rows.drop_duplicates(["patient_id", f"y_true_{name}"])
    return ConformalSets.fit(once[f"y_true_{name}"].to_numpy(int), once[f"y_score_{name}"].to_numpy(float))
