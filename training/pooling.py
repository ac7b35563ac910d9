"""The end of a cross-validation: one calibration and one threshold for its folds, their scores pooled.

A fold's model is first calibrated on its own validation part, as a single training is. Here all folds are
there, and their out-of-fold logits tell more: the model of a fold is calibrated anew on the logits that the
other folds' models gave the ECGs that it was trained or validated on. The ECGs of its own test part are left
out, so that they are scored by a calibration that has not seen them.

One number does count them: the prevalence of the whole cohort, by which the folds were stratified, is the
level of all scores and the threshold of the default policy. If each fold took that of the others, those with
more positives would be scored lower, which biases what is pooled.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from dataset.splits import Fold
from metrics.calibration import Calibration
from metrics.log_odds import SMALLEST_SCORE, logit
from metrics.operating_points import POINTS
from metrics.out_of_fold import common_scale, ensemble_calibration
from metrics_and_performance import evaluate
from run_folder.descriptions import ModelDescription
from run_folder.ensemble import save_ensemble
from run_folder.run import Run
from training.decisions import Decision, decide, described
from training.test_set import points_fixed_on, write_scores

OUT_OF_FOLD = "out-of-fold scores"


class LabelDecisions(NamedTuple):
    """One label's decision in each fold, and that of the folds' models together."""

    of_folds: list[Decision]
    of_ensemble: Decision


def pool_folds(run: Run, folds: Sequence[Fold], *, seed: int) -> None:
    """Calibrate the folds together, make them an ensemble, and evaluate their out-of-fold scores as one set.

    With several repeats each ECG is there once per repeat; patients are resampled for the intervals, which
    therefore do not shrink. Called again after an interruption it writes the same again.
    """
    runs = [run.fold(fold.name) for fold in folds]
    descriptions = [fold_run.load_description() for fold_run in runs]
    first = descriptions[0]
    tables = [_with_logits(fold_run, one) for fold_run, one in zip(runs, descriptions, strict=True)]
    options = {"calibration": first.calibration, "threshold_policy": first.threshold_policy}
    labels = [decide_together(tables, name, **options) for name in first.label_names]
    level = "development" if first.threshold_policy == "prevalence" else OUT_OF_FOLD
    descriptions = [
        replace(one, threshold_from=level, **described([label.of_folds[number] for label in labels]))
        for number, one in enumerate(descriptions)
    ]
    for fold, fold_run, description, table in zip(folds, runs, descriptions, tables, strict=True):
        fold_run.save_description(description)
        write_scores(fold_run, description, table, seed=fold.seed)
    together = replace(first, threshold_from=level, **described([label.of_ensemble for label in labels]))
    save_ensemble(run, [fold_run.folder for fold_run in runs], together)
    _evaluate_pooled(
        run, folds, runs, together, thresholds=[one.thresholds for one in descriptions], seed=seed
    )


def _with_logits(fold_run: Run, description: ModelDescription) -> pd.DataFrame:
    """Return a fold's predictions; the first versions wrote scores, from which the logits follow."""
    predictions = fold_run.table("predictions.csv")
    for name, calibration in zip(description.label_names, description.calibrations, strict=True):
        if f"logit_{name}" not in predictions:
            score = predictions[f"y_score_{name}"].clip(SMALLEST_SCORE, 1 - SMALLEST_SCORE)
            predictions[f"logit_{name}"] = (logit(score) - calibration.intercept) / calibration.slope
    return predictions


def decide_together(
    tables: Sequence[pd.DataFrame], name: str, *, calibration: str, threshold_policy: str
) -> LabelDecisions:
    """Return how a label is decided, from the validation and test rows of each fold's predictions."""
    scales = [Calibration()] * len(tables)
    if calibration != "none":
        scales = common_scale([_unlabelled_logits(table, name) for table in tables])
    rows = pd.concat(
        [
            pd.DataFrame(
                {
                    "number": number,
                    "file": table["file"],
                    "patient_id": table["patient_id"],
                    "is_test": table["split"] == "test",
                    "y_true": table[f"y_true_{name}"].astype(float),
                    "logit": scale.of(table[f"logit_{name}"]),
                }
            )
            for number, (table, scale) in enumerate(zip(tables, scales, strict=True))
        ],
        ignore_index=True,
    )
    rows = rows[rows["y_true"].notna()]
    tested = rows[rows["is_test"]]
    prevalence = float(tested["y_true"].mean())
    options = {"calibration": calibration, "threshold_policy": threshold_policy, "prevalence": prevalence}
    decisions, scores = [], []
    for number, scale in enumerate(scales):
        own = tested["number"] == number
        others = tested[~own & ~tested["file"].isin(tested.loc[own, "file"])]
        decision = decide(*_columns(others), **options)
        of_fold = rows[rows["number"] == number]
        scores.append(of_fold.assign(logit=decision.calibration.of(of_fold["logit"])))
        decisions.append(decision._replace(calibration=scale.then(decision.calibration)))
    calibrated = pd.concat(scores)
    return LabelDecisions(decisions, _decide_ensemble(calibrated, len(tables), **options))


def _unlabelled_logits(table: pd.DataFrame, name: str) -> np.ndarray:
    """Return logits that show a model's level and spread: of validation, or where there is none of test."""
    part = "validation" if (table["split"] == "validation").any() else "test"
    return table.loc[table["split"] == part, f"logit_{name}"].to_numpy()


def _columns(rows: pd.DataFrame) -> tuple[np.ndarray, ...]:
    return tuple(rows[name].to_numpy() for name in ("y_true", "logit", "patient_id", "file"))


def _decide_ensemble(
    rows: pd.DataFrame, n_models: int, *, calibration: str, threshold_policy: str, prevalence: float
) -> Decision:
    """Return how the mean of the folds' calibrated logits is calibrated and decided.

    Parameters
    ----------
    rows : of all folds, with calibrated logits.
    """
    together = Calibration()
    if calibration != "none":
        together = ensemble_calibration(
            rows["y_true"].to_numpy(),
            rows["logit"].to_numpy(),
            pd.factorize(rows["file"])[0],
            prevalence=prevalence,
            n_models=n_models,
        )
    decision = decide(
        *_columns(rows[rows["is_test"]]),
        calibration="none",  # they are calibrated
        threshold_policy=threshold_policy,
        prevalence=prevalence,
    )
    return decision._replace(calibration=together)


def _evaluate_pooled(
    run: Run,
    folds: Sequence[Fold],
    runs: Sequence[Run],
    together: ModelDescription,
    *,
    thresholds: Sequence[Sequence[float]],
    seed: int,
) -> None:
    """Write ``predictions.csv`` and ``metrics.json`` of all out-of-fold scores.

    Parameters
    ----------
    thresholds : (n_folds, n_labels), those that each fold's scores are decided at.
    """
    names = together.label_names
    tables = [fold_run.predictions("test") for fold_run in runs]
    predictions = pd.concat(tables, ignore_index=True)
    run.write_table("predictions.csv", predictions)
    pooled = evaluate(
        predictions[[f"y_true_{name}" for name in names]].to_numpy(float),
        predictions[[f"y_score_{name}" for name in names]].to_numpy(float),
        thresholds=np.repeat(thresholds, [len(table) for table in tables], axis=0),
        label_names=names,
        patient_ids=predictions["patient_id"].to_numpy(),
        ecg_ids=predictions["file"].to_numpy(),
        seed=seed,
        points=_points_of_other_folds(predictions, names),
    )
    aurocs = [
        {name: label["auroc"].value for name, label in fold_run.metrics()["labels"].items()}
        for fold_run in runs
    ]
    run.write_metrics(
        {
            "split": "test",
            "n_folds": len(folds) // folds[-1].repeat,
            "n_repeats": folds[-1].repeat,
            "auroc_of_folds": aurocs,
            "threshold_source": together.threshold_source,
            "decisions": together.decisions,
            **pooled,
        }
    )


def _points_of_other_folds(predictions: pd.DataFrame, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return thresholds that are fixed for each fold on the out-of-fold scores of the others' patients.

    Returns
    -------
    dict of arrays of shape (n_scores, n_labels), by the names of `operating_points.POINTS`
    """
    points = {point: np.full((len(predictions), len(names)), np.nan) for point in POINTS}
    for fold in predictions["fold"].unique():
        own = (predictions["fold"] == fold).to_numpy()
        others = predictions[~predictions["patient_id"].isin(predictions.loc[own, "patient_id"])]
        for point, thresholds in points_fixed_on(others, names).items():
            points[point][own] = thresholds
    return points
