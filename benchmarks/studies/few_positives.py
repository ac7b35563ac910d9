"""What calibration and threshold are worth where few positives choose them, and how folds are best pooled.

    python -m benchmarks.studies.few_positives            # 150 simulated studies, 20 cross-validations a kind
    python -m benchmarks.studies.few_positives --studies 50 --cross-validations 5

First, scores of one model whose logits are right (two normal distributions, prevalence 10 %) are calibrated
and decided on 4 to 82 positives; the truth follows from the distributions. Then logistic regressions of 60
numbers, 10 of which tell something, are cross-validated in five folds of 1,014 ECGs with 103 positives; each
model's logits get a spread and a level of their own, as a network's have. The mean of the five is tried on
19,700 more.
"""

import argparse
import math
import os
import warnings
from collections.abc import Iterator
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by NumPy when it is imported
import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from metrics.calibration import calibrated_score, fit_calibration
from metrics.log_odds import logit as logit_of
from metrics.thresholds import choose_threshold, expected_of_choice
from training.pooling import decide_together

PREVALENCE = 0.1
SIZES = {4: 30, 10: 102, 20: 203, 82: 811}  # positives: ECGs
AUROCS = (0.65, 0.75, 0.9)
N_ECGS, N_POSITIVE, N_FOLDS, N_NUMBERS, N_TELLING = 1014, 103, 5, 60, 10
SPREAD, LEVEL = 0.15, 0.3  # standard deviations of a fold's log spread and level


class Study(NamedTuple):
    """One simulated set: labels, logits that are right, and by how much the classes' values differ."""

    y_true: np.ndarray
    logit: np.ndarray
    shift: float

    def truth(self, threshold: float) -> tuple[float, float]:
        """Return sensitivity and specificity of a threshold of the logit, by the distributions."""
        value = (threshold - logit_of(PREVALENCE)) / self.shift + self.shift / 2
        return float(norm.sf(value - self.shift)), float(norm.cdf(value))


def draw(rng: np.random.Generator, auroc: float, n_positive: int, n_ecgs: int) -> Study:
    shift = math.sqrt(2) * norm.ppf(auroc)
    y_true = np.repeat([1, 0], [n_positive, n_ecgs - n_positive])
    value = rng.normal(size=n_ecgs) + shift * y_true
    return Study(y_true, shift * (value - shift / 2) + logit_of(PREVALENCE), shift)


def lost_information(study: Study, slope: float, intercept: float) -> float:
    """Return the share of a right model's information that a calibration loses, on a large set."""
    y_true, logit = study.y_true, study.logit

    def log_loss(logit: np.ndarray) -> float:
        return float(np.mean(np.logaddexp(0, logit) - y_true * logit))

    ignorant = log_loss(np.full(len(y_true), logit_of(y_true.mean())))
    return (log_loss(slope * logit + intercept) - log_loss(logit)) / (ignorant - log_loss(logit))


def decide_on_few(rng: np.random.Generator, auroc: float, n_positive: int) -> dict[str, float]:
    """Return what one study's calibrations lose, and what its thresholds will really give."""
    study = draw(rng, auroc, n_positive, SIZES[n_positive])
    large = draw(rng, auroc, 2000, 20_000)
    found = {}
    for method in ("platt", "shrunken"):
        fitted = fit_calibration(study.y_true, study.logit, method).moved(study.y_true.mean(), PREVALENCE)
        found[f"lost, {method}"] = lost_information(large, *fitted)
    threshold = (logit_of(PREVALENCE) - fitted.intercept) / fitted.slope
    found["sensitivity, prevalence"] = study.truth(threshold)[0]
    score = calibrated_score(study.logit, fitted)
    for policy in ("youden", "sensitivity>=0.95"):
        chosen = choose_threshold(study.y_true, score, policy)
        truth = study.truth(float(logit_of(chosen) - fitted.intercept) / fitted.slope)
        expected = expected_of_choice(study.y_true, score, chosen, policy)
        found[f"sensitivity, {policy}"] = truth[0]
        for name, value in zip(("sensitivity", "specificity"), truth, strict=True):
            low, high = expected[name]
            found[f"{name} held, {policy}"] = float(low <= value <= high)
    return found


def cross_validate(rng: np.random.Generator, separation: float, strength: float) -> dict[str, float]:
    """Return the pooled AUROC minus that within folds, and the slope of the mean, of one cross-validation.

    Also the AUROC on new ECGs, where the validation part is kept apart and where it trains too.

    Parameters
    ----------
    separation : of the classes, in standard deviations, in the best direction.
    strength : inverse of the regularisation; large: the models are over-fitted.
    """
    y_true, numbers = _numbers(rng, N_POSITIVE, N_ECGS, separation)
    y_new, numbers_new = _numbers(rng, 2000, 19_700, separation)
    fold_of = _deal(rng, y_true)
    tables, new, joined = [], [], []
    options = {"C": strength, "max_iter": 500}
    for fold in range(N_FOLDS):
        others = rng.permutation(np.flatnonzero(fold_of != fold))
        validation = np.concatenate([others[y_true[others] == label][: (91, 10)[label]] for label in (0, 1)])
        training = np.setdiff1d(others, validation)
        model = LogisticRegression(**options).fit(numbers[training], y_true[training])
        every = LogisticRegression(**options).fit(numbers[others], y_true[others])
        joined.append(every.decision_function(numbers_new))
        spread, level = np.exp(rng.normal(0, SPREAD)), rng.normal(0, LEVEL)
        logit = spread * model.decision_function(numbers) + level
        new.append(spread * model.decision_function(numbers_new) + level)
        parts = {"validation": validation, "test": np.flatnonzero(fold_of == fold)}
        columns = [
            pd.DataFrame(
                {"file": rows, "patient_id": rows, "split": part, "y_true_PE": y_true[rows]}
                | {"logit_PE": logit[rows]}
            )
            for part, rows in parts.items()
        ]
        tables.append(pd.concat(columns))
    found = {}
    for what, models in (("validation kept apart", new), ("validation trains too", joined)):
        found[f"AUROC of new, {what}, one model"] = roc_auc_score(y_new, models[0])
        found[f"AUROC of new, {what}, mean"] = roc_auc_score(y_new, np.mean(models, axis=0))
    for name, (calibrations, together) in _ways_to_pool(tables).items():
        pooled = [
            one.of(table.loc[table["split"] == "test", "logit_PE"])
            for one, table in zip(calibrations, tables, strict=True)
        ]
        tested = [table.loc[table["split"] == "test", "y_true_PE"] for table in tables]
        within = np.mean([roc_auc_score(*pair) for pair in zip(tested, pooled, strict=True)])
        lost = roc_auc_score(np.concatenate(tested), np.concatenate(pooled)) - within
        mean = together.of(
            np.mean([one.of(of_new) for one, of_new in zip(calibrations, new, strict=True)], 0)
        )
        regression = LogisticRegression(C=np.inf).fit(mean[:, None], y_new)
        found |= {f"AUROC, {name}": lost, f"slope, {name}": regression.coef_.item()}
    return found


def _numbers(
    rng: np.random.Generator, n_positive: int, n_ecgs: int, separation: float
) -> tuple[np.ndarray, np.ndarray]:
    y_true = np.repeat([1, 0], [n_positive, n_ecgs - n_positive])
    telling = np.arange(N_NUMBERS) < N_TELLING
    return y_true, rng.normal(size=(n_ecgs, N_NUMBERS)) + np.outer(
        y_true, separation * telling / math.sqrt(N_TELLING)
    )


def _deal(rng: np.random.Generator, y_true: np.ndarray) -> np.ndarray:
    """Return each ECG's fold, stratified by label."""
    fold_of = np.empty(len(y_true), int)
    for label in (0, 1):
        ecgs = rng.permutation(np.flatnonzero(y_true == label))
        fold_of[ecgs] = np.arange(len(ecgs)) % N_FOLDS
    return fold_of


def _ways_to_pool(tables: list[pd.DataFrame]) -> dict[str, tuple[list, object]]:
    """Return the calibrations of the folds, and that of their mean, by way of pooling."""
    identity = fit_calibration([0, 1], [0.0, 1.0], "none")
    ways = {"none": ([identity] * N_FOLDS, identity)}
    validated = [table[table["split"] == "validation"] for table in tables]
    for method in ("platt", "shrunken"):
        fitted = [fit_calibration(one["y_true_PE"], one["logit_PE"], method) for one in validated]
        ways[f"{method} in each fold"] = fitted, identity
    together = decide_together(tables, "PE", calibration="shrunken", threshold_policy="prevalence")
    out_of_fold = [decision.calibration for decision in together.of_folds]
    ways["out of fold"] = out_of_fold, together.of_ensemble.calibration
    ways["out of fold, mean not stretched"] = out_of_fold, identity
    return ways


def summarise(title: str, rows: list[dict[str, float]]) -> Iterator[str]:
    table = pd.DataFrame(rows)
    yield title
    for name, column in table.items():
        low, high = column.quantile([0.05, 0.95])
        yield f"  {name:<44} {column.mean():7.3f}   SD {column.std():.3f}   5-95 % {low:.3f} to {high:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--studies", type=int, default=150, help="of each kind [%(default)s]")
    parser.add_argument("--cross-validations", type=int, default=20, help="of each kind [%(default)s]")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", UndefinedMetricWarning)
    rng = np.random.default_rng(0)
    for auroc in AUROCS:
        for n_positive, n_ecgs in SIZES.items():
            rows = [decide_on_few(rng, auroc, n_positive) for _ in range(arguments.studies)]
            print("\n".join(summarise(f"AUROC {auroc}, {n_positive} of {n_ecgs} positive", rows)), flush=True)
    for separation, strength in ((0.95, 0.01), (0.95, 1.0), (1.8, 0.1)):
        rows = [cross_validate(rng, separation, strength) for _ in range(arguments.cross_validations)]
        title = f"five folds, separation {separation}, strength {strength}"
        print("\n".join(summarise(title, rows)), flush=True)


if __name__ == "__main__":
    main()
