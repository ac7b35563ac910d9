"""Whether a score of 0.2 means one in five: fitting, judging and moving the probabilities of a model.

`y_true` and `y_score` are of shape (n_ecgs,), the label (0 or 1) and the probability. `logit` is a model's
output before the sigmoid, ``log(y_score / (1 - y_score))``.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from metrics.checks import (
    checked,
    checked_probabilities,
    ecg_index,
    missing_class,
    patient_index,
    patients_of_rarer_class,
    t_quantile,
    warn_undefined,
)
from metrics.log_odds import expit
from metrics.log_odds import logit as logit_of
from metrics.metric import Metric
from metrics.proportions import design_effect, wilson_interval

METHODS = ("none", "temperature", "platt", "shrunken")
SLOPE_SD = 0.5  # of the log slope, before anything is seen: 95 % of slopes from 0.38 to 2.7
SLOPES = (0.01, 100.0)  # a fitted slope stays within, so that the order of the ECGs does
FEWEST_TO_CALIBRATE = 30  # positives; with fewer a fitted slope may be twice or half the right one
LARGEST_LOGIT = 36.0  # of a float64 probability that is not 1


class Calibration(NamedTuple):
    """The calibrated probability is the sigmoid of ``slope * logit + intercept``."""

    slope: float = 1.0
    intercept: float = 0.0

    def of(self, logit: ArrayLike) -> np.ndarray:
        """Return the calibrated logits."""
        return self.slope * np.asarray(logit, np.float64) + self.intercept

    def then(self, other: "Calibration") -> "Calibration":
        """Return the calibration of which another takes the result."""
        return Calibration(other.slope * self.slope, other.slope * self.intercept + other.intercept)

    def moved(self, from_prevalence: float, to_prevalence: float) -> "Calibration":
        """Return the same for another prevalence; see `shift_prevalence`."""
        shift = float(logit_of(to_prevalence) - logit_of(from_prevalence))
        return Calibration(self.slope, self.intercept + shift)


def fit_calibration(
    y_true: ArrayLike, logit: ArrayLike, method: str = "shrunken", ecg_ids: Sequence | None = None
) -> Calibration:
    """Fit the calibration of a model on the logits of ECGs that it was not trained on, never on test ECGs.

    The log loss is minimised against Platt's smoothed targets, (n_positive + 1) / (n_positive + 2) and
    1 / (n_negative + 2), instead of 1 and 0 (Platt 1999, section 2.2). They keep the fit finite where
    the classes are separated perfectly, and moderate where ECGs are few. The slope is positive, so that AUROC
    and average precision stay as they are.

    Ten positives cannot tell a slope of 0.4 from one of 1.6. "shrunken" therefore takes the log slope as
    normal around 0 with a standard deviation of 0.5, which says that the model's own logits are about right,
    and finds the most probable slope and intercept. With hundreds of positives that is Platt's.

    Parameters
    ----------
    y_true, logit : array of shape (n_ecgs,)
    method : "none" (slope 1, intercept 0); "temperature" (slope only, Guo et al. 2017, arXiv:1706.04599:
        it cannot mend scores that are too high throughout); "platt" (slope and intercept); "shrunken"
    ecg_ids : as in `checks.ecg_index`, optional: an ECG that several models have scored counts once in what
        so few ECGs leave open.

    Returns
    -------
    Calibration
        Slope 1 and intercept 0, with a warning, where one class is missing.

    Raises
    ------
    ValueError
        The method is not one of these.
    """
    if method not in METHODS:
        raise ValueError(f"calibration: expected one of {', '.join(METHODS)}, found {method!r}")
    y_true, logit = checked(y_true, logit)
    if method == "none":
        return Calibration()
    if reason := missing_class(y_true):
        warn_undefined("calibration", f"{reason}; the scores stay as they are")
        return Calibration()
    ecg = ecg_index(ecg_ids, len(y_true))
    n_positive, n_negative = (len(np.unique(ecg[y_true == label])) for label in (1, 0))
    target = np.where(y_true == 1, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    has_intercept = method != "temperature"
    centre = logit.mean() if has_intercept else 0.0  # slope and intercept are then nearly uncorrelated
    offsets = (None, None) if has_intercept else (0.0, 0.0)
    start = [1.0, float(logit_of(target.mean())) if has_intercept else 0.0]
    precision = 1 / SLOPE_SD**2 / (n_positive + n_negative) if method == "shrunken" else 0.0
    loss = _loss_of_slope_and_offset(logit - centre, target, precision)
    options = {"ftol": 1e-14, "gtol": 1e-9, "maxiter": 1000}
    from scipy.optimize import minimize  # half a second to import

    fitted = minimize(loss, start, jac=True, bounds=[SLOPES, offsets], options=options)
    slope, offset = map(float, fitted.x)
    if slope == SLOPES[0]:
        flat = "the scores do not tell the validation ECGs apart: all get about the same probability"
        warn_undefined("calibration", flat)
    return Calibration(slope, offset - slope * centre)


def _loss_of_slope_and_offset(
    logit: np.ndarray, target: np.ndarray, precision: float
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Return a function: (slope, offset) -> the mean log loss and its gradient.

    With a precision above 0 the loss is the negative log posterior, per ECG, of a log slope that is normal
    around 0 with that inverse variance, divided by the number of ECGs.
    """

    def loss_and_gradient(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        slope, offset = parameters
        shifted = slope * logit + offset
        error = (expit(shifted) - target) / len(target)
        loss = np.mean(np.logaddexp(0, shifted) - target * shifted) + precision * math.log(slope) ** 2 / 2
        return loss, np.array([error @ logit + precision * math.log(slope) / slope, error.sum()])

    return loss_and_gradient


def calibrated_score(logit: ArrayLike, calibration: Calibration) -> np.ndarray:
    """Return the probabilities, float64, in the shape of the logits."""
    return expit(calibration.of(logit))


def shift_prevalence(score: ArrayLike, from_prevalence: float, to_prevalence: float) -> np.ndarray:
    """Restate calibrated probabilities for patients among whom the disease is rarer or more frequent.

    The logit moves by the difference of the prevalences' logits (Elkan 2001, theorem 2; Saerens et al.,
    Neural Comput 2002;14:21). It holds where the ECGs of the diseased look alike in both
    groups of patients, and so do those of the others, and only their shares differ.

    Parameters
    ----------
    score : array of any shape, probabilities
    from_prevalence, to_prevalence : float
        Between 0 and 1: of the ECGs that the score was calibrated on, and of the patients it is meant for.

    Returns
    -------
    array of the same shape; 0 and 1 stay 0 and 1.
    """
    for name, prevalence in (("from_prevalence", from_prevalence), ("to_prevalence", to_prevalence)):
        if not 0 < prevalence < 1:
            raise ValueError(f"{name}: expected a number between 0 and 1, found {prevalence}")
    score = np.asarray(score, dtype=np.float64)
    if not ((score >= 0) & (score <= 1)).all():
        raise ValueError("score: expected probabilities, from 0 to 1")
    return expit(logit_of(score) + logit_of(to_prevalence) - logit_of(from_prevalence))


# ----------------------------------------------------------------------------------------------------
# How well calibrated
# ----------------------------------------------------------------------------------------------------


def brier_score(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Mean squared difference between score and label (Brier 1950), for scores that are probabilities.

    Returns
    -------
    float
        0 is perfect; always answering the prevalence p gives p * (1 - p).
    """
    y_true, y_score = checked_probabilities(y_true, y_score, "the Brier score")
    return float(np.mean((y_score - y_true) ** 2))


def calibration_curve(
    y_true: ArrayLike,
    y_score: ArrayLike,
    n_bins: int = 10,
    confidence: float = 0.95,
    patient_ids: Sequence | None = None,
) -> dict[str, np.ndarray]:
    """Compare mean score and share of positives in bins of equally many ECGs, from low to high scores.

    ECGs of one score stay in one bin, so that bins can be fewer than `n_bins` and of unequal size.

    Parameters
    ----------
    patient_ids : sequence of length n_ecgs, optional; without it each ECG counts as a patient.

    Returns
    -------
    dict of arrays of shape (n_filled_bins,)
        `mean_score`, `observed` (share of positives), `low` and `high` (Wilson's interval of `observed`, both
        counts divided by the `design_effect` of the bin's patients), `n_positive` and `n`.
    """
    y_true, y_score = checked_probabilities(y_true, y_score, "the calibration curve")
    if n_bins < 1:
        raise ValueError(f"n_bins: expected 1 or more, found {n_bins}")
    rank = np.searchsorted(np.sort(y_score), y_score)  # ties share their lowest rank
    bins = np.unique(rank * n_bins // len(rank), return_inverse=True)[1]
    n, n_positive = np.bincount(bins), np.bincount(bins, y_true).astype(int)
    patients = np.arange(len(bins)) if patient_ids is None else patient_index(patient_ids, len(bins))
    effect = np.array(
        [design_effect(y_true[bins == one] == 1, patients[bins == one]) for one in range(len(n))]
    )
    pairs = zip(n_positive / effect, n / effect, strict=True)
    intervals = [wilson_interval(successes, size, confidence) for successes, size in pairs]
    return {
        "mean_score": np.bincount(bins, y_score) / n,
        "observed": n_positive / n,
        "low": np.array([low for low, _ in intervals]),
        "high": np.array([high for _, high in intervals]),
        "n_positive": n_positive,
        "n": n,
    }


def expected_calibration_error(y_true: ArrayLike, y_score: ArrayLike, n_bins: int = 10) -> float:
    """Mean distance of score and share of positives over the bins of `calibration_curve`, weighted by ECGs.

    Biased upwards, more so with few ECGs: among n ECGs in B bins even a perfectly calibrated score leaves
    about ``sqrt(2 / pi * p * (1 - p) * B / n)``: 0.024 for 1,000 ECGs with p = 0.1, and 0.054 for 200.
    Compare it with that, and between sets of one size only.

    Returns
    -------
    float
        From 0 to 1.
    """
    curve = calibration_curve(y_true, y_score, n_bins)
    return float(np.average(np.abs(curve["mean_score"] - curve["observed"]), weights=curve["n"]))


def calibration_error_of_perfect_scores(
    y_score: ArrayLike, n_bins: int = 10, ecg_ids: Sequence | None = None
) -> float:
    """Return the `expected_calibration_error` that these scores would have on average if they were right.

    Labels are drawn as the scores say, ECG by ECG, a thousand times (less often of many ECGs, whose error
    varies less). Beside it an error can be judged: with a few hundred ECGs even perfect scores have a few
    hundredths.

    An ECG that was scored several times has one label, drawn as the mean of its scores says, and its scores
    have the label's deviation from that mean in common: scored again, 200 ECGs tell no more than 200.

    Parameters
    ----------
    y_score : array of shape (n_scores,), probabilities
    ecg_ids : of the same length, optional, as in `checks.ecg_index`
    """
    y_score = checked_probabilities(np.zeros(len(y_score), int), y_score, "the calibration error")[1]
    rng, errors = np.random.default_rng(0), []
    order = np.argsort(y_score)
    score = y_score[order]
    ecg = pd.factorize(ecg_index(ecg_ids, len(score))[order])[0]
    chance = np.bincount(ecg, score) / np.bincount(ecg)  # of each ECG
    bins = np.searchsorted(score, score) * n_bins // len(score)  # as in `calibration_curve`
    first = np.unique(bins, return_index=True)[1]
    rows = max(1, 1_000_000 // len(score))
    n_draws = min(1000, max(10, 10_000_000 // len(score)))
    for start in range(0, n_draws, rows):
        deviation = (rng.random((min(rows, n_draws - start), len(chance))) < chance) - chance
        in_bins = np.add.reduceat(deviation[:, ecg], first, axis=1)
        errors.append(np.abs(in_bins).sum(axis=1) / len(score))
    return float(np.concatenate(errors).mean())


def calibration_slope_and_intercept(
    y_true: ArrayLike, y_score: ArrayLike, patient_ids: ArrayLike | None = None, confidence: float = 0.95
) -> dict[str, Metric]:
    """Regress the label on the score's logit (Cox, Biometrika 1958;45:562).

    The slope is 1 where the scores spread as they should, and below 1 where they are too extreme, the mark
    of overfitting. The intercept is calibration in the large, with the slope held at 1: 0 where the mean is
    right, below 0 where scores are too high throughout. Wald's intervals take ECGs as independent; with
    `patient_ids` the variance is summed over patients (the sandwich of Liang & Zeger, Biometrika
    1986;73:13). Student's t takes the place of z, as `checks.t_quantile` says.

    Parameters
    ----------
    y_true, y_score : array of shape (n_ecgs,)
        Logits beyond 36 count as 36, so that scores of 0 and 1 can be used.
    patient_ids : sequence of length n_ecgs, optional

    Returns
    -------
    dict
        `slope` and `intercept`. nan, with a warning, where one class is missing, and for the slope where all
        scores are equal or separate the classes perfectly. Without an interval where a class has one patient.
    """
    y_true, y_score = checked_probabilities(y_true, y_score, "the calibration slope")
    patients = None if patient_ids is None else patient_index(patient_ids, len(y_true))
    logit = np.clip(logit_of(y_score), -LARGEST_LOGIT, LARGEST_LOGIT)
    one = np.ones((len(logit), 1))
    if reason := missing_class(y_true):
        warn_undefined("calibration slope and intercept", reason)
        return {"slope": Metric(math.nan), "intercept": Metric(math.nan)}
    n_clusters = patients_of_rarer_class(y_true, np.arange(len(y_true)) if patients is None else patients)
    t = t_quantile(confidence, n_clusters) if n_clusters > 1 else math.nan
    intercept = _with_interval(*_logistic_regression(one, y_true, logit, patients), t)
    if reason := _no_slope(y_true, logit):
        warn_undefined("calibration slope", reason)
        return {"slope": Metric(math.nan), "intercept": intercept}
    scale = logit.std()
    columns = np.column_stack([(logit - logit.mean()) / scale, one])
    slope = _with_interval(*_logistic_regression(columns, y_true, np.zeros(len(logit)), patients), t)
    value, low, high = (float(part / scale) for part in slope[:3])
    return {"slope": slope._replace(value=value, low=low, high=high), "intercept": intercept}


def _no_slope(y_true: np.ndarray, logit: np.ndarray) -> str:
    """Return why the slope has no finite estimate; empty where it has one."""
    if np.ptp(logit) == 0:
        return "all scores are equal"
    positives, negatives = logit[y_true == 1], logit[y_true == 0]
    if positives.min() >= negatives.max() or positives.max() <= negatives.min():
        return "the scores separate the classes perfectly"
    return ""


def _logistic_regression(
    columns: np.ndarray, y_true: np.ndarray, offset: np.ndarray, patients: np.ndarray | None
) -> tuple[float, float]:
    """Return the first coefficient and its variance.

    Parameters
    ----------
    columns : array of shape (n_ecgs, n_coefficients)
    offset : array of shape (n_ecgs,), added to the logit
    """

    def loss_and_gradient(coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        logit = columns @ coefficients + offset
        loss = np.mean(np.logaddexp(0, logit) - y_true * logit)
        return loss, columns.T @ (expit(logit) - y_true) / len(logit)

    def hessian(coefficients: np.ndarray) -> np.ndarray:
        score = expit(columns @ coefficients + offset)
        return (columns * (score * (1 - score))[:, None]).T @ columns / len(score)

    start = np.zeros(columns.shape[1])
    options = {"gtol": 1e-10}
    from scipy.optimize import minimize

    found = minimize(loss_and_gradient, start, jac=True, hess=hessian, method="trust-exact", options=options)
    inverse = np.linalg.pinv(hessian(found.x) * len(y_true))
    if patients is None:
        return float(found.x[0]), float(inverse[0, 0])
    residual = (y_true - expit(columns @ found.x + offset))[:, None] * columns
    sums = np.stack([np.bincount(patients, column) for column in residual.T], axis=1)  # (n_patients, n_coef)
    return float(found.x[0]), float((inverse @ sums.T @ sums @ inverse)[0, 0])


def _with_interval(value: float, variance: float, t: float) -> Metric:
    margin = t * math.sqrt(variance)
    reason = "one patient in a class" if math.isnan(t) else None
    return Metric(value, value - margin, value + margin, reason=reason)
