"""The test ECGs, scored once: calibration and thresholds come from validation, before them."""

from typing import Any

import numpy as np
import pandas as pd
from torch import nn

import processes
from batches import EvaluationBatches
from ecg_dataset import Cohort
from metrics.calibration import Calibration, calibrated_score, fit_calibration
from metrics_and_performance import choose_threshold, evaluate
from run_folder import ModelDescription, Run
from scoring import calibrate, predict_logits
from splits import Fold
from xml_loader import LEADS, SAMPLING_RATE


def test_once(
    model: nn.Module,
    *,
    name: str,
    arguments: dict[str, Any],
    cohort: Cohort,
    fold: Fold,
    validation: EvaluationBatches,
    test: EvaluationBatches,
    run: Run,
    calibration: str,
    threshold_policy: str,
) -> None:
    """Calibrate and choose thresholds on validation, then score the test ECGs, once, with the best weights.

    Leaves ``model.json``, ``predictions.csv`` and ``metrics.json``. A run that has these is not scored again.

    Parameters
    ----------
    name, arguments : the model's name in ``models.MODELS`` and the arguments of its constructor.
    calibration : "temperature", "platt" or "none"; see ``calibration.fit_calibration``.
    threshold_policy : see ``metrics_and_performance.choose_threshold``.
    """
    if run.is_tested:
        return
    run.load_weights(model)
    batches = {"validation": validation, "test": test}
    logits = {part: predict_logits(model, (inputs for inputs, _ in batches[part])) for part in batches}
    if not processes.is_first():
        return
    y_true = {part: cohort.targets[batches[part].indices] for part in batches}
    fitted, thresholds = _fit_decisions(
        y_true["validation"], logits["validation"], calibration, threshold_policy
    )
    scores = {part: calibrate(logits[part], fitted) for part in batches}
    description = ModelDescription(
        model=name,
        arguments=arguments,
        label_names=list(cohort.label_names),
        n_samples=validation.n_samples,
        normalisation=validation.normalisation,
        leads=list(LEADS),
        sampling_rate=SAMPLING_RATE,
        calibration=calibration,
        calibration_slopes=[one.slope for one in fitted],
        calibration_intercepts=[one.intercept for one in fitted],
        prevalences=np.nanmean(cohort.targets[fold.parts["train"]], axis=0, dtype=float).tolist(),
        thresholds=thresholds,
        threshold_policy=threshold_policy,
        window_start=cohort.window_start,
        quality=dict(cohort.quality_limits),
        clinical_columns=list(cohort.clinical_columns),
    )
    run.save_description(description)
    tables = [_predictions(cohort, fold, part, batches[part].indices, scores[part]) for part in batches]
    run.write_table("predictions.csv", pd.concat(tables))
    metrics = evaluate(
        y_true["test"],
        scores["test"],
        thresholds=thresholds,
        label_names=cohort.label_names,
        patient_ids=cohort.table["patient_id"].to_numpy()[test.indices],
        seed=fold.seed,
    )
    run.write_metrics({"split": "test", "threshold_source": description.threshold_source, **metrics})


def _fit_decisions(
    y_true: np.ndarray, logits: np.ndarray, calibration: str, threshold_policy: str
) -> tuple[list[Calibration], list[float]]:
    """Return each label's calibration and threshold, from validation ECGs, both (n_ecgs, n_labels)."""
    pairs = zip(y_true.T, logits.T, strict=True)
    columns = [(true[~np.isnan(true)], logit[~np.isnan(true)]) for true, logit in pairs]
    fitted = [fit_calibration(true, logit, calibration) for true, logit in columns]
    thresholds = [
        choose_threshold(true, calibrated_score(logit, one), threshold_policy)
        for (true, logit), one in zip(columns, fitted, strict=True)
    ]
    return fitted, thresholds


def _predictions(
    cohort: Cohort, fold: Fold, part: str, indices: np.ndarray, scores: np.ndarray
) -> pd.DataFrame:
    columns = {"file": cohort.table["file"].to_numpy()[indices]}
    columns["patient_id"] = cohort.table["patient_id"].to_numpy()[indices]
    columns["fold"] = fold.number
    columns["repeat"] = fold.repeat
    columns["split"] = part
    for number, name in enumerate(cohort.label_names):
        columns[f"y_true_{name}"] = pd.array(cohort.targets[indices, number], "Int64")  # empty: unknown
        columns[f"y_score_{name}"] = scores[:, number]
    return pd.DataFrame(columns)
