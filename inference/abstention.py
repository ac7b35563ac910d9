"""Abstention: sets of PE, no PE or "not sure", from a run's scores of ECGs that no weight was fitted on."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from metrics.checks import patient_index
from metrics.conformal import NOT_SURE, ConformalSets, fewest_for
from metrics.decisions import share_with_interval
from metrics.metric import Metric
from run_folder.files import RunFiles
from run_folder.repeats import first_repeat
from runtime.errors import UserError

OUT_OF_FOLD = "out-of-fold"


class Abstention(NamedTuple):
    """The sets of one label at one error rate, and what they were worth on the test ECGs.

    Attributes
    ----------
    fitted_on : the ECGs, for a reader: "validation" or "out-of-fold".
    rough : why the guarantee holds only roughly; "" where it holds as it is stated.
    decided : share of the test ECGs, of those whose label is known, that are called PE or no PE.
    right : share of the decided ones that are called so rightly.
    covered : of the test ECGs without and with it, the shares that were not called the other.
    """

    label: str
    alpha: float
    sets: ConformalSets
    fitted_on: str
    rough: str
    decided: Metric
    right: Metric
    covered: tuple[Metric, Metric]

    def in_words(self, y_score: np.ndarray) -> list[str]:
        """Return for each score, (n_ecgs,), "PE", "no PE" or "not sure"."""
        words = {1: self.label, 0: f"no {self.label}", NOT_SURE: "not sure"}
        return [words[decision] for decision in self.sets.decide(y_score, self.alpha).tolist()]


class CalibrationScores(NamedTuple):
    """One label's scores of ECGs that no weight was fitted on: what its sets are fitted to.

    Attributes
    ----------
    fitted_on, rough : as in ``Abstention``.
    tested : the rows of ``predictions.csv`` that the sets are tested on.
    """

    label: str
    sets: ConformalSets
    fitted_on: str
    rough: str
    tested: pd.DataFrame

    def shortage(self, alpha: float) -> str:
        """Return of which class there are too few patients for sets at an error rate; "" where enough are."""
        for ecgs, words in ((self.sets.positive, "with"), (self.sets.negative, "without")):
            if len(ecgs) < fewest_for(alpha):
                return (
                    f"found {len(ecgs)} patients {words} {self.label} among the {self.fitted_on} ECGs, "
                    f"expected {fewest_for(alpha)} or more for alpha {alpha:g}"
                )
        return ""

    def at(self, alpha: float) -> Abstention:
        """Return the sets at an error rate, tested in a cross-validation by the patients of other folds."""
        y_true, decision = self._decisions(alpha)
        patients = patient_index(self.tested["patient_id"].fillna("").to_numpy(), len(self.tested))
        decided = decision != NOT_SURE

        def share(which: np.ndarray, of: np.ndarray) -> Metric:
            return share_with_interval(which[of], patients[of])

        return Abstention(
            label=self.label,
            alpha=alpha,
            sets=self.sets,
            fitted_on=self.fitted_on,
            rough=self.rough,
            decided=share(decided, np.ones(len(decided), bool)),
            right=share(decision == y_true, decided),
            covered=tuple(share(decision != 1 - value, y_true == value) for value in (0, 1)),
        )

    def _decisions(self, alpha: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the label and the decision of each test ECG."""
        y_true, score = _columns(self.tested, self.label)
        if self.fitted_on != OUT_OF_FOLD:
            return y_true, self.sets.decide(score, alpha)
        decision, folds = np.empty(len(y_true), int), self.tested["fold"].to_numpy()
        for fold in np.unique(folds):
            own = folds == fold
            others = self.tested[~self.tested["patient_id"].isin(self.tested.loc[own, "patient_id"])]
            decision[own] = _fit(others, self.label).decide(score[own], alpha)
        return y_true, decision


def abstentions(run: Path, names: Sequence[str], alpha: float) -> list[Abstention]:
    """Return the sets of each label of a run, at the error rate ``alpha`` in each class.

    Raises
    ------
    UserError : the run has no such scores, or too few ECGs of a class for this ``alpha``.
    """
    found = calibration_scores(run, names)
    for scores in found:
        if shortage := scores.shortage(alpha):
            raise UserError(f"--alpha: {shortage}: take a larger alpha")
    return [scores.at(alpha) for scores in found]


def calibration_scores(run: Path, names: Sequence[str]) -> list[CalibrationScores]:
    """Return what the sets of each label of a run are fitted to, and tested on.

    A single model's are fitted to its validation ECGs, those of a cross-validation to the out-of-fold scores,
    of its repeats the first; one ECG of each patient counts in each class, the first. What they are worth is
    tested on the test ECGs, which in a cross-validation are the same.

    Raises
    ------
    UserError : the run has no scores of ECGs that no weight was fitted on.
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
    if together:
        predictions = predictions[first_repeat(predictions)]
    return [
        _calibration_scores(predictions, name, OUT_OF_FOLD if together else part, _why_rough(files, together))
        for name in names
    ]


def _calibration_scores(
    predictions: pd.DataFrame, name: str, fitted_on: str, rough: str
) -> CalibrationScores:
    known = predictions[predictions[f"y_true_{name}"].notna()]
    tested, validated = (known[known["split"] == part] for part in ("test", "validation"))
    fitted = tested if fitted_on == OUT_OF_FOLD else validated
    return CalibrationScores(name, _fit(fitted, name), fitted_on, rough, tested)


def _why_rough(files: RunFiles, together: bool) -> str:
    if together:
        return "the mean of the models is used, where the scores of single models were taken"
    values = files.hyperparameters() if files.has("hyperparameters.yml") else {"keep": "last"}
    return "" if values.get("keep") == "last" else "the validation ECGs chose the epoch too"


def _fit(rows: pd.DataFrame, name: str) -> ConformalSets:
    once = rows.drop_duplicates(["patient_id", f"y_true_{name}"])
    return ConformalSets.fit(*_columns(once, name))


def _columns(rows: pd.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray]:
    return rows[f"y_true_{name}"].to_numpy(int), rows[f"y_score_{name}"].to_numpy(float)
