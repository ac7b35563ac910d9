"""Calibrating a cross-validation: its models, which are tested, and their mean, which is deployed.

Each of the models has a level and a spread of logits of its own, of which ten positives in validation tell
little. So they are first brought to one scale, which needs no label; then one calibration is fitted for all,
on the out-of-fold logits of the other folds.
"""

from collections.abc import Sequence

import numpy as np

from metrics.calibration import Calibration
from metrics.log_odds import logit as logit_of

FEWEST_PAIRS = 30  # logits beyond the first of an ECG, below which models are not compared


def common_scale(logits: Sequence[np.ndarray]) -> list[Calibration]:
    """Return what brings models' logits to one mean and one standard deviation, theirs on average.

    Parameters
    ----------
    logits : for each model an array of shape (n_ecgs,), of ECGs that it was not trained on; other models may
        have others, of the same kind of patients.

    Returns
    -------
    list of Calibration
        One for each model. Where a model gives all ECGs the same logit, the spreads stay as they are.
    """
    means = np.array([model.mean() for model in logits])
    spreads = np.array([model.std() for model in logits])
    wanted = np.exp(np.log(spreads).mean()) if (spreads > 0).all() else spreads
    slopes = wanted / spreads if (spreads > 0).all() else np.ones(len(means))
    intercepts = means.mean() - slopes * means
    return [Calibration(*pair) for pair in zip(slopes.tolist(), intercepts.tolist(), strict=True)]


def ensemble_calibration(
    y_true: np.ndarray, logit: np.ndarray, ecg: np.ndarray, *, prevalence: float, n_models: int
) -> Calibration:
    """Return the calibration of the mean of several models' calibrated logits.

    What the models do not share averages out, so that the mean's logits spread less within each class than
    those of one model, while the classes stay as far apart: the mean is too timid, and its slope above 1.
    With r the correlation of two models' logits within a class, the variance of the mean of n is
    ``r + (1 - r) / n`` of one model's, and its slope the inverse, for logits that are normal in each class
    with one variance. r is estimated from ECGs for which several models have a logit and none of them was
    trained: those of one ECG differ by what is not shared (intraclass correlation).

    Parameters
    ----------
    y_true, logit, ecg : array of shape (n_logits,)
        Label, calibrated logit and number of the ECG; one line for each model that was not trained on it.
    prevalence : for which the logits hold; the slope turns around it.
    n_models : of which the mean is taken.

    Returns
    -------
    Calibration
        Slope 1 and intercept 0 where fewer than `FEWEST_PAIRS` further logits tell how models differ.
    """
    _, line_of, counts = np.unique(ecg, return_inverse=True, return_counts=True)
    several = counts[line_of] > 1
    n_further = int((counts[counts > 1] - 1).sum())
    if n_models < 2 or n_further < FEWEST_PAIRS:
        return Calibration()
    means = np.bincount(line_of, logit) / counts
    not_shared = ((logit - means[line_of])[several] ** 2).sum() / n_further
    in_class = [logit[several & (y_true == label)] for label in (0, 1)]
    squares = sum(((values - values.mean()) ** 2).sum() for values in in_class if len(values))
    total = squares / max(1, several.sum() - sum(len(values) > 0 for values in in_class))
    shared = min(1.0, max(0.0, 1 - not_shared / total)) if total > 0 else 1.0
    slope = 1 / (shared + (1 - shared) / n_models)
    return Calibration(float(slope), float((1 - slope) * logit_of(prevalence)))
