"""The test ECGs, scored once: calibration and thresholds are fixed before, on other ECGs."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from dataset.batches import EvaluationBatches
from dataset.cohort import Cohort
from dataset.sign_columns import sign_columns
from dataset.splits import Fold
from ecg.signs import VERSION as SIGNS_VERSION
from inference.channel_statistics import ChannelStatistics
from inference.likeness import TrainingDistribution
from inference.members import calibrate
from inference.scoring import predict_logits
from metrics.operating_points import POINTS, fixed_points
from metrics_and_performance import evaluate
from run_folder.descriptions import ModelDescription
from run_folder.run import Run
from runtime import processes
from training.decisions import decide, described, level_of_scores
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
    """Calibrate on validation and fix the thresholds, then score the test ECGs, once, with the weights kept.

    These are the last epoch's averaged ones, or with ``keep="best"`` those of the best epoch. A threshold is
    by default the prevalence of the training and validation ECGs (with a split column, of those that
    ``level_of_scores`` names), otherwise chosen on validation. In a cross-validation, ``training/pooling.py``
    fits calibration and thresholds anew.

    Writes what ``TrainingDistribution.save`` writes, ``model.json``, ``predictions.csv`` and
    ``metrics.json``. A run that has these is not scored again.

    Parameters
    ----------
    name, arguments : the model's name in ``models.MODELS`` and the arguments of its constructor.
    calibration : see ``metrics.calibration.fit_calibration``.
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
    description = _description(
        name,
        arguments,
        cohort,
        fold,
        validation,
        logits=logits["validation"],
        calibration=calibration,
        threshold_policy=threshold_policy,
    )
    run.save_description(description)
    tables = [_predictions(cohort, fold, part, batches[part].indices, logits[part]) for part in batches]
    write_scores(run, description, pd.concat(tables), seed=fold.seed)


def write_scores(run: Run, description: ModelDescription, predictions: pd.DataFrame, *, seed: int) -> None:
    """Write ``predictions.csv``, its scores those of a description's calibration, and ``metrics.json``.

    Parameters
    ----------
    predictions : with the columns of ``predictions.csv``; those of the scores may be absent.
    """
    names = description.label_names
    scores = calibrate(predictions[[f"logit_{name}" for name in names]].to_numpy(), description.calibrations)
    predictions = predictions.assign(
        **{f"y_score_{name}": score for name, score in zip(names, scores.T, strict=True)}
    )
    run.write_table("predictions.csv", predictions)
    tested, validated = (predictions[predictions["split"] == part] for part in ("test", "validation"))
    metrics = evaluate(
        tested[[f"y_true_{name}" for name in names]].to_numpy(float, na_value=np.nan),
        tested[[f"y_score_{name}" for name in names]].to_numpy(float),
        thresholds=description.thresholds,
        label_names=names,
        patient_ids=tested["patient_id"].to_numpy(),
        seed=seed,
        points=points_fixed_on(validated, names),
    )
    sources = {"threshold_source": description.threshold_source, "decisions": description.decisions}
    run.write_metrics({"split": "test", **sources, **metrics})


def points_fixed_on(predictions: pd.DataFrame, names: Sequence[str]) -> dict[str, list[float]]:
    """Return the thresholds of `operating_points.POINTS`, one a label, from ECGs that they do not judge."""
    points = {point: [] for point in POINTS}
    for name in names:
        known = predictions[predictions[f"y_true_{name}"].notna()]
        fixed = dict.fromkeys(POINTS, math.nan)
        if len(known):
            y_true, y_score = (known[f"{column}_{name}"].to_numpy(float) for column in ("y_true", "y_score"))
            fixed = fixed_points(y_true, y_score, known["patient_id"].to_numpy())
        for point, threshold in fixed.items():
            points[point].append(threshold)
    return points


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


def _description(
    name: str,
    arguments: dict[str, Any],
    cohort: Cohort,
    fold: Fold,
    validation: EvaluationBatches,
    *,
    logits: np.ndarray,
    calibration: str,
    threshold_policy: str,
) -> ModelDescription:
    """Return what scoring needs; calibration and thresholds are fitted to the logits of validation."""
    level, indices = level_of_scores(cohort, fold, calibration)
    prevalences = np.nanmean(cohort.targets[indices], axis=0, dtype=float).tolist()
    patient_ids = cohort.table["patient_id"].to_numpy()[validation.indices]
    y_true = cohort.targets[validation.indices].astype(float)
    options = {"calibration": calibration, "threshold_policy": threshold_policy}
    decisions = [
        decide(true, logit, patient_ids, prevalence=prevalence, **options)
        for true, logit, prevalence in zip(y_true.T, logits.T, prevalences, strict=True)
    ]
    return ModelDescription(
        model=name,
        arguments=arguments,
        label_names=list(cohort.label_names),
        n_samples=validation.n_samples,
        normalisation=validation.normalisation,
        leads=list(LEADS),
        sampling_rate=SAMPLING_RATE,
        calibration=calibration,
        threshold_policy=threshold_policy,
        threshold_from=level if threshold_policy == "prevalence" else "validation",
        window_start=cohort.reading.window_start,
        min_seconds=cohort.reading.min_seconds,
        min_leads=cohort.reading.min_leads,
        quality=dict(cohort.reading.quality_limits),
        clinical_columns=list(cohort.clinical),
        signs_version=SIGNS_VERSION if sign_columns(cohort.clinical) else 0,
        **described(decisions),
    )


def _predictions(
    cohort: Cohort, fold: Fold, part: str, indices: np.ndarray, logits: np.ndarray
) -> pd.DataFrame:
    """Return the rows of ``predictions.csv`` of one part, without the scores."""
    columns = {"file": cohort.table["file"].to_numpy()[indices]}
    columns["patient_id"] = cohort.table["patient_id"].to_numpy()[indices]
    columns["fold"] = fold.number
    columns["repeat"] = fold.repeat
    columns["split"] = part
    for number, name in enumerate(cohort.label_names):
        columns[f"y_true_{name}"] = pd.array(cohort.targets[indices, number], "Int64")  # empty: unknown
        columns[f"logit_{name}"] = logits[:, number]
    return pd.DataFrame(columns)
