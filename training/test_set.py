"""The test ECGs, scored once: calibration and thresholds come from validation, before them."""

from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from dataset.batches import EvaluationBatches
from dataset.cohort import Cohort
from dataset.splits import Fold
from inference.likeness import ChannelStatistics, TrainingDistribution
from inference.scoring import calibrate, predict_logits
from metrics.calibration import Calibration, calibrated_score, fit_calibration
from metrics_and_performance import choose_threshold, evaluate
from run_folder.descriptions import ModelDescription
from run_folder.run import Run
from runtime import processes
from xml_loader import LEADS, SAMPLING_RATE

MAX_ECGS = 5000  # per part, to describe the training ECGs; more would change little


def score_test_set(
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

    Writes what ``TrainingDistribution.save`` writes, ``model.json``, ``predictions.csv`` and
    ``metrics.json``. A run that has these is not scored again.

    Parameters
    ----------
    name, arguments : the model's name in ``models.MODELS`` and the arguments of its constructor.
    calibration : "temperature", "platt" or "none"; see ``calibration.fit_calibration``.
    threshold_policy : see ``metrics_and_performance.choose_threshold``.
    """
    if run.is_tested:
        return
    run.load_weights(model)
    _describe_training(model, cohort=cohort, fold=fold, validation=validation, run=run)
    batches = {"validation": validation, "test": test}
    logits = {part: predict_logits(model, (inputs for inputs, _ in batches[part])) for part in batches}
    if not processes.is_first():
        return
    y_true = {part: cohort.targets[batches[part].indices] for part in batches}
    fitted, thresholds = _fit_decisions(
        y_true["validation"], logits["validation"], calibration, threshold_policy
    )
    scores = {part: calibrate(logits[part], fitted) for part in batches}
    description = _description(
        name,
        arguments,
        cohort,
        fold,
        validation,
        calibration=calibration,
        fitted=fitted,
        thresholds=thresholds,
        threshold_policy=threshold_policy,
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


def _describe_training(
    model: nn.Module, *, cohort: Cohort, fold: Fold, validation: EvaluationBatches, run: Run
) -> None:
    """Save in the run what its training ECGs were like, so that others can be compared with them.

    The model sees the training and the validation ECGs once more, without augmentation and gradients, at most
    5,000 of each: about a third of the time of an epoch.
    """
    indices = {"training": fold.parts["train"], "validation": validation.indices}
    features = {
        part: _features(model, cohort, _some(chosen, fold.seed), validation)
        for part, chosen in indices.items()
    }
    if not processes.is_first():
        return
    table = cohort.table.iloc[fold.parts["train"]]
    ages = pd.to_numeric(table["age"], errors="coerce").to_numpy(float) if "age" in table else None
    TrainingDistribution.fit(
        **features,
        measurements=cohort.measurements[fold.parts["train"]],
        file_formats=table.get("file_format", []),
        ages=ages,
    ).save(run)


def _some(indices: np.ndarray, seed: int) -> np.ndarray:
    if len(indices) <= MAX_ECGS:
        return indices
    return np.sort(np.random.default_rng(seed).choice(indices, MAX_ECGS, replace=False))


def _features(model: nn.Module, cohort: Cohort, indices: np.ndarray, like: EvaluationBatches) -> np.ndarray:
    """Return what a model's first layers see of ECGs, in batches like others, (n_ecgs, n_features)."""
    batches = EvaluationBatches(
        cohort,
        indices,
        signals=like.signals,
        batch_size=-(-like.n_ecgs // like.n_batches),
        n_samples=like.n_samples,
        normalisation=like.normalisation,
    )
    with ChannelStatistics(model) as statistics:
        predict_logits(model, (inputs for inputs, _ in batches))
    return statistics.take()[0]


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


def _description(
    name: str,
    arguments: dict[str, Any],
    cohort: Cohort,
    fold: Fold,
    validation: EvaluationBatches,
    *,
    calibration: str,
    fitted: list[Calibration],
    thresholds: list[float],
    threshold_policy: str,
) -> ModelDescription:
    return ModelDescription(
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
        prevalences=_prevalences_of_scores(cohort, fold, calibration),
        thresholds=thresholds,
        threshold_policy=threshold_policy,
        window_start=cohort.reading.window_start,
        quality=dict(cohort.reading.quality_limits),
        clinical_columns=list(cohort.clinical),
    )


def _prevalences_of_scores(cohort: Cohort, fold: Fold, calibration: str) -> list[float]:
    """Return the prevalence of each label for which the scores hold.

    It is that of the ECGs that the scores' level follows: Platt's intercept is fitted to the validation ECGs,
    which a ``split`` column may have selected otherwise; without one, the level is that of training.
    """
    part = "validation" if calibration == "platt" else "train"
    return np.nanmean(cohort.targets[fold.parts[part]], axis=0, dtype=float).tolist()


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
