"""What turns a model's logits into probabilities and decisions: one calibration and one threshold a label."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from dataset.cohort import Cohort
from dataset.splits import Fold
from hyperparameters.declaration import Hyperparameters
from metrics.calibration import FEWEST_TO_CALIBRATE, Calibration, calibrated_score, fit_calibration
from metrics.checks import ecg_index
from metrics.thresholds import FEWEST_TO_CHOOSE, choose_threshold, expected_of_choice

WITH_LEVEL = ("shrunken", "platt")  # calibrations that have an intercept


class Decision(NamedTuple):
    """How one label is decided.

    Attributes
    ----------
    calibration : of the logits.
    prevalence : for which the scores hold.
    threshold : a score at or above it is a positive decision.
    n_positive : ECGs that both were fitted on.
    expected : intervals, as in ``run_folder.descriptions.ModelDescription``.
    """

    calibration: Calibration
    prevalence: float
    threshold: float
    n_positive: int
    expected: dict[str, list[float]]


def level_of_scores(cohort: Cohort, fold: Fold, calibration: str) -> tuple[str, np.ndarray]:
    """Return the ECGs whose prevalence the level of the scores follows: their name, and their indices.

    A random split leaves the same prevalence everywhere, and all ECGs in development tell it best. A split
    column may have selected validation otherwise: then it is that of the ECGs that the level is fitted on.
    """
    parts = fold.parts
    if "split" not in cohort.table:
        return "development", np.concatenate([parts["train"], parts["validation"]])
    return ("validation", parts["validation"]) if calibration in WITH_LEVEL else ("training", parts["train"])


def decide(
    y_true: np.ndarray,
    logit: np.ndarray,
    patient_ids: np.ndarray,
    ecg_ids: np.ndarray | None = None,
    *,
    calibration: str,
    threshold_policy: str,
    prevalence: float,
) -> Decision:
    """Calibrate one label, and choose its threshold, on ECGs that no weight was fitted on.

    Parameters
    ----------
    y_true, logit, patient_ids : array of shape (n_ecgs,); a label that is not known is nan.
    ecg_ids : of that shape, optional: the same where several models have scored one ECG.
    calibration, threshold_policy : see ``fit_calibration`` and ``choose_threshold``.
    prevalence : for which the scores are to hold.
    """
    known = ~np.isnan(y_true)
    ecgs = ecg_index(ecg_ids, len(known))[known]
    y_true, logit = y_true[known], logit[known]
    fitted = fit_calibration(y_true, logit, calibration, ecgs)
    if calibration in WITH_LEVEL and 0 < y_true.mean() < 1:
        fitted = fitted.moved(float(y_true.mean()), prevalence)
    n_positive = len(np.unique(ecgs[y_true == 1]))
    if threshold_policy == "prevalence":
        return Decision(fitted, prevalence, prevalence, n_positive, {})
    score = calibrated_score(logit, fitted)
    threshold = choose_threshold(y_true, score, threshold_policy)
    expected = expected_of_choice(y_true, score, threshold, threshold_policy, patient_ids[known])
    return Decision(fitted, prevalence, threshold, n_positive, expected)


def described(decisions: Sequence[Decision]) -> dict[str, Any]:
    """Return the decisions of all labels as a ``ModelDescription`` takes them."""
    return {
        "calibration_slopes": [one.calibration.slope for one in decisions],
        "calibration_intercepts": [one.calibration.intercept for one in decisions],
        "prevalences": [one.prevalence for one in decisions],
        "thresholds": [one.threshold for one in decisions],
        "n_positive": [one.n_positive for one in decisions],
        "expected": [one.expected for one in decisions],
    }


def few_to_decide_on(cohort: Cohort, folds: Sequence[Fold], values: Hyperparameters) -> Iterator[str]:
    """Yield text such as "only 4 with PE to validate on: calibration rests on them".

    A cross-validation is calibrated and decided on the out-of-fold ECGs of the other folds.
    """
    validated = [fold.parts["validation"] for fold in folds]
    decided = [np.concatenate([fold.parts["train"], fold.parts["validation"]]) for fold in folds]
    to_choose = ["best epoch"] if values.keep == "best" else []
    if len(folds) == 1:
        yield from _few(cohort, validated, "to validate on", values, to_choose)
        return
    yield from _few(cohort, decided, "in the other folds", values, [])
    if to_choose:
        yield from _few(cohort, validated, "to validate on", None, to_choose)


def _few(
    cohort: Cohort,
    parts: Sequence[np.ndarray],
    where: str,
    values: Hyperparameters | None,
    to_choose: Sequence[str],
) -> Iterator[str]:
    """Yield what rests on the fewest ECGs of a class in one of these parts, where they are few.

    Parameters
    ----------
    values : whose calibration and threshold rest on them; None: neither.
    to_choose : what else does.
    """
    numbers = [
        (int((cohort.targets[part, label] == value).sum()), f"{words} {name}")
        for part in parts
        for label, name in enumerate(cohort.label_names)
        for value, words in ((1, "with"), (0, "without"))
    ]
    n_ecgs, which = min(numbers, default=(FEWEST_TO_CHOOSE, ""))
    rests = list(to_choose) if n_ecgs < FEWEST_TO_CHOOSE else []
    if values and values.calibration != "none" and n_ecgs < FEWEST_TO_CALIBRATE:
        rests.append("calibration")
    if values and values.threshold_policy != "prevalence" and n_ecgs < FEWEST_TO_CHOOSE:
        rests.append("threshold")
    if rests:
        listed = " and ".join(filter(None, [", ".join(rests[:-1]), rests[-1]]))
        yield f"only {n_ecgs} {which} {where}: {listed} rest{'s' if len(rests) == 1 else ''} on them"
