"""The baseline that a network must beat: logistic regression on what a cardiologist measures by hand.

    for name, columns in probe_sets(features).items():
        y_score = out_of_fold_scores(features[columns], y_true, folds, patient_ids)

`features` has one line per ECG: the columns of `ecg.signs.measure_signals`, and age and sex where the
cohort has them. A network no better than "ECG signs, age and sex" adds nothing to reading the ECG. One that
is no better than "heart rate alone" or "age and sex alone" may have learned only these, which differ between
patients with and without PE for many reasons; `auroc_within_tertiles` shows what is left among ECGs of like
rate or age.

Everything that is fitted (medians of missing values, scales, strength of the penalty, coefficients) comes
from the training and the validation part: nothing is chosen on the latter, so it need not be held out.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ecg.signs import Signs
from metrics.checks import patient_index

PROBES = {
    "ECG signs, age and sex": (*Signs._fields, "age", "sex"),
    "heart rate alone": ("heart_rate_bpm",),
    "age and sex alone": ("age", "sex"),
}
PENALTIES = tuple(10.0**power for power in range(-4, 3))  # C of scikit-learn; smaller shrinks more
USUAL_PENALTY = 1.0  # where the training part has too few patients to choose one
INNER_FOLDS = 5


def probe_sets(features: pd.DataFrame) -> dict[str, list[str]]:
    """Return the columns of each probe that the cohort has, and print what it lacks.

    Parameters
    ----------
    features : DataFrame of n_ecgs lines

    Returns
    -------
    dict of a probe's name to its columns
        A column without any value counts as absent, and a probe without any column is left out.
    """
    present = {name for name, column in features.items() if column.notna().any()}
    absent = [name for name in PROBES["ECG signs, age and sex"] if name not in present]
    sets = {probe: [name for name in names if name in present] for probe, names in PROBES.items()}
    left_out = [probe for probe, names in sets.items() if not names]
    if absent:
        consequence = f"; left out: {', '.join(left_out)}" if left_out else ""
        print(f"baseline    the cohort has no {', '.join(absent)}{consequence}")
    return {probe: names for probe, names in sets.items() if names}


def fit_and_score(
    features: ArrayLike,
    y_true: ArrayLike,
    parts: Mapping[str, np.ndarray],
    *,
    patient_ids: ArrayLike | None = None,
    prepared: Sequence[BaseEstimator] | None = None,
    penalties: Sequence[float] = PENALTIES,
) -> np.ndarray:
    """Fit on the training and the validation part, and score the test part.

    Parameters
    ----------
    features : array or DataFrame of n_ecgs lines
        All of its columns are used. They are numbers, nan where missing.
    y_true : array of shape (n_ecgs,), 0 or 1, or nan: not known, and not trained on
    parts : for train and test, and validation where there is one, the indices of its ECGs
    patient_ids : array of shape (n_ecgs,), optional
        Without it each ECG counts as a patient.
    prepared : what comes before the logistic regression; None: the median stands in for a missing value, an
        indicator marks that it was missing, and all are brought to one scale.
    penalties : C of scikit-learn, to choose from.

    Returns
    -------
    y_score : float ndarray of shape (n_test,), probabilities, in the order of ``parts["test"]``

    Raises
    ------
    ValueError
        A patient is in training (or validation) and test, or what is trained on has one class only.
    """
    y_true = np.asarray(y_true, float)
    patients = np.arange(len(y_true)) if patient_ids is None else patient_index(patient_ids, len(y_true))
    train = np.sort(np.concatenate([np.asarray(parts.get(p, ()), int) for p in ("train", "validation")]))
    test = np.asarray(parts["test"], int)
    train = train[~np.isnan(y_true[train])]
    shared = np.intersect1d(patients[train], patients[test])
    if len(shared):
        raise ValueError(f"found {len(shared)} patients in training and test, expected none")
    if len(np.unique(y_true[train])) < 2:
        raise ValueError("found one class in the training part, expected both")
    numbers = np.asarray(features, float)
    numbers = np.where(np.isfinite(numbers), numbers, math.nan)
    model = _fit(numbers[train], y_true[train].astype(int), patients[train], prepared, penalties)
    return model.predict_proba(numbers[test])[:, 1] if len(test) else np.zeros(0)


def out_of_fold_scores(
    features: pd.DataFrame,
    y_true: ArrayLike,
    folds: Sequence[Mapping[str, np.ndarray]],
    patient_ids: ArrayLike | None = None,
) -> np.ndarray:
    """Score each ECG by the model of the fold in whose test part it is.

    Parameters
    ----------
    features, y_true, patient_ids : see `fit_and_score`
    folds : the parts of each fold, the same as those of the networks

    Returns
    -------
    y_score : float ndarray of shape (n_ecgs,); nan for ECGs that no fold tests

    Raises
    ------
    ValueError
        An ECG is tested twice, or see `fit_and_score`.
    """
    y_score = np.full(len(features), math.nan)
    for number, parts in enumerate(folds, 1):
        test = np.asarray(parts["test"], int)
        twice = int((~np.isnan(y_score[test])).sum())
        if twice:
            raise ValueError(f"fold {number}: found {twice} ECGs that an earlier fold tests, expected none")
        y_score[test] = fit_and_score(features, y_true, parts, patient_ids=patient_ids)
    return y_score


def auroc_within_tertiles(y_true: ArrayLike, y_score: ArrayLike, values: ArrayLike) -> pd.DataFrame:
    """Return the AUROC among ECGs of like value, such as heart rate: what is left once it cannot help.

    Parameters
    ----------
    y_true, y_score, values : array of shape (n_ecgs,)
        The tertiles are those of the values; ECGs whose value or score is nan are in a last line, unscored.

    Returns
    -------
    DataFrame of the columns tertile ("lowest", "middle", "highest", "unknown"), low, high (range of the
    values), n_ecgs, n_positive, auroc
        The AUROC is nan where a tertile has one class only.
    """
    y_true, y_score, values = (np.asarray(array, float) for array in (y_true, y_score, values))
    known = ~np.isnan(y_true)
    y_true, y_score, values = y_true[known], y_score[known], values[known]
    known = np.isfinite(values) & np.isfinite(y_score)
    cuts = np.quantile(values[known], [1 / 3, 2 / 3]) if known.any() else [0, 0]
    tertile = np.where(known, np.searchsorted(cuts, values), 3)
    lines = []
    for number, name in enumerate(("lowest", "middle", "highest", "unknown")):
        inside = tertile == number
        if number == 3 and not inside.any():
            continue
        low, high = (values[inside].min(), values[inside].max()) if inside.any() else (math.nan, math.nan)
        score = math.nan if number == 3 else _auroc(y_true[inside], y_score[inside])
        lines.append((name, low, high, int(inside.sum()), int(y_true[inside].sum()), score))
    return pd.DataFrame(lines, columns=["tertile", "low", "high", "n_ecgs", "n_positive", "auroc"])


def _auroc(y_true: np.ndarray, y_score: np.ndarray) -> float:
    return float(roc_auc_score(y_true, y_score)) if len(np.unique(y_true)) == 2 else math.nan


def _to_one_scale() -> list[BaseEstimator]:
    imputer = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    return [imputer, StandardScaler()]


def _fit(
    numbers: np.ndarray,
    y_true: np.ndarray,
    patients: np.ndarray,
    prepared: Sequence[BaseEstimator] | None = None,
    penalties: Sequence[float] = PENALTIES,
) -> Pipeline:
    """Return the fitted model, whose penalty has the best log-likelihood on patients left out of training."""
    steps = _to_one_scale() if prepared is None else prepared
    model = make_pipeline(*steps, LogisticRegression(C=USUAL_PENALTY, max_iter=2000))
    patients_of = [len(np.unique(patients[y_true == label])) for label in (0, 1)]
    n_folds = min(INNER_FOLDS, *patients_of)
    if n_folds < 2:
        return model.fit(numbers, y_true)
    inner = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
    splits = [
        split for split in inner.split(numbers, y_true, patients) if len(np.unique(y_true[split[0]])) == 2
    ]
    search = GridSearchCV(
        model, {"logisticregression__C": list(penalties)}, scoring=_log_likelihood, cv=splits
    )
    return search.fit(numbers, y_true).best_estimator_


def _log_likelihood(model: Pipeline, numbers: np.ndarray, y_true: np.ndarray) -> float:
    """Return the mean log-likelihood, defined where a part has one class only."""
    y_score = model.predict_proba(numbers)[np.arange(len(y_true)), y_true]
    return float(np.log(np.maximum(y_score, 1e-15)).mean())
