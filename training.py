"""The one loop: fit, validate, checkpoint, resume; then the test set, scored once.

Everything that is random in an epoch follows from the seed and the epoch's number, so that a run that was
killed and resumed ends where an uninterrupted one ends (bit for bit on the CPU).
"""

import contextlib
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from batches import EvaluationBatches, TrainingBatches
from calibration import Calibration, calibrated_score, fit_calibration
from ecg_dataset import Cohort, CohortError
from metrics_and_performance import choose_threshold, evaluate, ranking_metrics
from run_folder import ModelDescription, Run, RunError
from splits import Fold
from xml_loader import LEADS, SAMPLING_RATE

CHECK_EVERY = 50  # steps between two looks at the losses, which on a GPU wait for the device


class TrainingError(RuntimeError):
    """Training that cannot go on; one line that says where it stopped and what is kept."""


def prepare(seed: int) -> torch.device:
    """Seed what draws the initial weights, and return the device: CUDA where there is one, else the CPU."""
    torch.manual_seed(seed)
    torch.set_float32_matmul_precision("high")  # TF32 for what autocast leaves in float32 on a GPU
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def learning_rate_schedule(
    optimizer: torch.optim.Optimizer,
    *,
    schedule: str,
    warmup_epochs: float,
    step_epochs: int,
    milestones: list[int],
    decay: float,
    epochs: int,
    steps_per_epoch: int,
) -> lr_scheduler.LRScheduler:
    """Return a schedule that is stepped after each batch; the optimizer's learning rate is its highest.

    Parameters
    ----------
    schedule : "constant"; "step" (times ``decay`` every ``step_epochs``); "milestones" (times ``decay``
        after each of them); "cosine" (a linear rise over ``warmup_epochs``, then half a cosine down to 0);
        "one_cycle" (Smith and Topin 2017, arXiv:1708.07120: a rise over 30 % of all steps, then down to
        almost 0).
    """
    n_steps = epochs * steps_per_epoch
    if schedule == "one_cycle":
        return lr_scheduler.OneCycleLR(optimizer, optimizer.param_groups[0]["lr"], total_steps=n_steps + 1)
    if schedule == "step":
        return lr_scheduler.StepLR(optimizer, step_epochs * steps_per_epoch, decay)
    if schedule == "milestones":
        return lr_scheduler.MultiStepLR(optimizer, [epoch * steps_per_epoch for epoch in milestones], decay)
    if schedule == "cosine":
        n_warmup = min(round(warmup_epochs * steps_per_epoch), n_steps - 1)

        def factor(step: int) -> float:
            if step < n_warmup:
                return (step + 1) / (n_warmup + 1)
            return 0.5 + 0.5 * math.cos(math.pi * (step - n_warmup) / (n_steps - n_warmup))

        return lr_scheduler.LambdaLR(optimizer, factor)
    return lr_scheduler.ConstantLR(optimizer, factor=1.0)


def average_weights(model: nn.Module, *, decay: float) -> AveragedModel:
    """Return a copy of the model whose weights follow the mean of those of the last 1 / (1 - decay) steps
    or so.

    Of a small cohort the weights of one step fit its last batches; their exponential moving average scores
    unseen ECGs better, and less erratically from epoch to epoch (Polyak and Juditsky 1992). The first steps
    are forgotten sooner, with a decay of (1 + n) / (10 + n) after n steps. With decay 0 the copy is the
    model itself.
    """

    @torch.no_grad()
    def update(averages: list[torch.Tensor], currents: list[torch.Tensor], n_steps: torch.Tensor) -> None:
        weight = 1 - min(decay, (1 + n_steps.item()) / (10 + n_steps.item()))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, currents, weight)
        else:  # the counters of the batch norms
            torch._foreach_copy_(averages, currents)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


def fit(
    model: nn.Module,
    *,
    loss: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: lr_scheduler.LRScheduler,
    training: TrainingBatches,
    validation: EvaluationBatches,
    run: Run,
    epochs: int,
    gradient_clip: float,
    weight_average: float,
    patience: int,
    monitor: str,
) -> None:
    """Train, and leave the averaged weights of the best epoch in the run folder.

    After each epoch the validation ECGs are scored with the averaged weights, which are saved if they are the
    best so far, and a checkpoint is saved; where the run folder has one already, training goes on after it.

    Parameters
    ----------
    weight_average : see ``average_weights``; 0 means the weights as they are.
    gradient_clip : largest norm of the gradient; 0 means no limit.
    patience : epochs without a better score after which training stops; 0 means never.
    monitor : "auroc", "average_precision" or "loss", of the validation ECGs.

    Raises
    ------
    TrainingError : a loss is not finite.
    """
    averaged = average_weights(model, decay=weight_average)
    trained = {"model": model, "averaged": averaged, "optimizer": optimizer, "schedule": schedule}
    log = _restore(run, trained, training.device)
    if log:  # a kill between checkpoint and log.csv left the log an epoch short
        run.write_table("log.csv", pd.DataFrame(log))
    print(" epoch   train loss   val loss   val AUROC   val AP        lr     ECG/s    time")
    for row in log:
        _print_row(row)
    for epoch in range(len(log) + 1, epochs + 1):
        if patience and log and epoch - _best(log)["epoch"] > patience:
            break
        torch.manual_seed(training.seed + epoch)  # dropout
        started = time.perf_counter()
        train_loss = _train_one_epoch(
            model, averaged, loss, optimizer, schedule, training, epoch, gradient_clip
        )
        seconds = time.perf_counter() - started
        validated = _validate(averaged.module, loss, validation, epoch)
        row = {"epoch": epoch, "train_loss": train_loss, **validated}
        row["learning_rate"] = schedule.get_last_lr()[0]
        row["ecgs_per_second"] = training.n_ecgs / seconds
        row["seconds"] = time.perf_counter() - started
        row["best"] = int(_is_better(row, log, monitor))
        log.append(row)
        _save_epoch(run, trained, log)
        _print_row(row)
    _print_end(log, epochs, patience, monitor)


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
    logits = {part: predict_logits(model, (signal for signal, _ in batches[part])) for part in batches}
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
        prevalences=cohort.targets[fold.parts["train"]].mean(axis=0, dtype=float).tolist(),
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


def _fit_decisions(
    y_true: np.ndarray, logits: np.ndarray, calibration: str, threshold_policy: str
) -> tuple[list[Calibration], list[float]]:
    """Return each label's calibration and threshold, from validation ECGs, both (n_ecgs, n_labels)."""
    columns = list(zip(y_true.T, logits.T, strict=True))
    fitted = [fit_calibration(true, logit, calibration) for true, logit in columns]
    thresholds = [
        choose_threshold(true, calibrated_score(logit, one), threshold_policy)
        for (true, logit), one in zip(columns, fitted, strict=True)
    ]
    return fitted, thresholds


@torch.inference_mode()
def predict_logits(model: nn.Module, signals: Iterable[torch.Tensor]) -> np.ndarray:
    """Return the logits of all ECGs, float64 (n_ecgs, n_labels), of batches as the model takes them."""
    model.eval()
    return torch.cat([_forward(model, signal).double().cpu() for signal in signals]).numpy()


def calibrate(logits: np.ndarray, calibrations: Sequence[Calibration]) -> np.ndarray:
    """Return the scores, (n_ecgs, n_labels), of logits of that shape; one calibration a label."""
    columns = zip(logits.T, calibrations, strict=True)
    return np.stack([calibrated_score(logit, calibration) for logit, calibration in columns], axis=1)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Let a script end with one line instead of a traceback where the user can mend what is wrong."""
    try:
        yield
    except (CohortError, RunError, TrainingError, OSError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{Path(sys.argv[0]).name}: interrupted; --resume RUN goes on after the last complete epoch")


def _restore(run: Run, trained: dict[str, Any], device: torch.device) -> list[dict[str, Any]]:
    """Load the checkpoint, if there is one, into what is trained, and return the log until then."""
    checkpoint = run.load_checkpoint(device)
    if checkpoint is None:
        return []
    for name, part in trained.items():
        part.load_state_dict(checkpoint[name])
    return checkpoint["log"]


def _save_epoch(run: Run, trained: dict[str, Any], log: list[dict[str, Any]]) -> None:
    """Save the weights, if they are the best so far, then the checkpoint and the log."""
    # In this order: a kill in between repeats the epoch, which writes the same weights again.
    if log[-1]["best"]:
        run.save_weights(trained["averaged"].module)
    run.save_checkpoint({**{name: part.state_dict() for name, part in trained.items()}, "log": log})
    run.write_table("log.csv", pd.DataFrame(log))


def _train_one_epoch(
    model: nn.Module,
    averaged: AveragedModel,
    loss: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: lr_scheduler.LRScheduler,
    training: TrainingBatches,
    epoch: int,
    gradient_clip: float,
) -> float:
    """Return the mean loss of the training ECGs."""
    model.train()
    losses, indices_of_steps = [], []
    with tqdm(total=len(training), desc=f"epoch {epoch}", unit="step", disable=None, leave=False) as bar:
        for signal, targets, indices in training.epoch(epoch):
            batch_loss = loss(_forward(model, signal), targets)
            optimizer.zero_grad(set_to_none=True)
            batch_loss.backward()
            if gradient_clip:
                nn.utils.clip_grad_norm_(model.parameters(), gradient_clip)
            optimizer.step()
            schedule.step()
            averaged.update_parameters(model)
            losses.append(batch_loss.detach())
            indices_of_steps.append(indices)
            bar.update()
            if len(losses) % CHECK_EVERY == 0 or len(losses) == len(training):
                _check_finite(losses, indices_of_steps, training, epoch)
    sizes = torch.tensor([len(indices) for indices in indices_of_steps], device=training.device)
    return float((torch.stack(losses) * sizes).sum() / sizes.sum())


def _forward(model: nn.Module, signal: torch.Tensor) -> torch.Tensor:
    """Return the logits, in bfloat16 autocast on CUDA, in float32 on the CPU."""
    with torch.autocast(signal.device.type, torch.bfloat16, enabled=signal.device.type == "cuda"):
        return model(signal).float()


def _check_finite(
    losses: list[torch.Tensor], indices_of_steps: list[np.ndarray], training: TrainingBatches, epoch: int
) -> None:
    finite = torch.isfinite(torch.stack(losses)).tolist()
    if not all(finite):
        step = finite.index(False)
        where = f"epoch {epoch}, step {step + 1} of {len(training)}"
        files = ", ".join(training.files[indices_of_steps[step]])
        raise TrainingError(
            f"the loss is {losses[step].item()} in {where}; {_what_is_kept(epoch)}; "
            f"try a lower --learning-rate, or look at the files of this step: {files}"
        )


def _what_is_kept(epoch: int) -> str:
    return f"the checkpoint of epoch {epoch - 1} is kept" if epoch > 1 else "no epoch was complete"


@torch.inference_mode()
def _validate(
    model: nn.Module, loss: nn.Module, validation: EvaluationBatches, epoch: int
) -> dict[str, float]:
    """Return loss, AUROC and average precision (means over the labels) of the validation ECGs."""
    model.eval()
    outputs = [(_forward(model, signal), targets) for signal, targets in validation]
    logits, targets = (torch.cat(tensors) for tensors in zip(*outputs, strict=True))
    val_loss = loss(logits, targets).item()
    if not math.isfinite(val_loss):
        raise TrainingError(
            f"the validation loss is {val_loss} after epoch {epoch}; {_what_is_kept(epoch)}; "
            "try a lower --learning-rate"
        )
    auroc, average_precision = ranking_metrics(
        targets.cpu().numpy(), torch.sigmoid(logits.double()).cpu().numpy()
    )
    return {"val_loss": val_loss, "val_auroc": auroc, "val_average_precision": average_precision}


def _is_better(row: dict[str, Any], log: list[dict[str, Any]], monitor: str) -> bool:
    sign = -1 if monitor == "loss" else 1
    return not log or sign * row[f"val_{monitor}"] > sign * _best(log)[f"val_{monitor}"]


def _best(log: list[dict[str, Any]]) -> dict[str, Any]:
    return [row for row in log if row["best"]][-1]


def _print_row(row: dict[str, Any]) -> None:
    minutes, seconds = divmod(round(row["seconds"]), 60)
    print(
        f"{row['epoch']:>6}{row['train_loss']:>13.4f}{row['val_loss']:>11.4f}{row['val_auroc']:>12.3f}"
        f"{row['val_average_precision']:>9.3f}{row['learning_rate']:>10.1e}{row['ecgs_per_second']:>10,.0f}"
        f"{minutes:>5}:{seconds:02}{'   best' if row['best'] else ''}",
        flush=True,
    )


def _print_end(log: list[dict[str, Any]], epochs: int, patience: int, monitor: str) -> None:
    best = f"best validation {monitor.replace('_', ' ')}: epoch {_best(log)['epoch']}"
    if len(log) < epochs:
        print(f"stopped     no better validation score for {patience} epochs; {best}")
    else:
        print(f"trained     {len(log)} epochs; {best}")


def _predictions(
    cohort: Cohort, fold: Fold, part: str, indices: np.ndarray, scores: np.ndarray
) -> pd.DataFrame:
    columns = {"file": cohort.table["file"].to_numpy()[indices]}
    columns["patient_id"] = cohort.table["patient_id"].to_numpy()[indices]
    columns["fold"] = fold.number
    columns["repeat"] = fold.repeat
    columns["split"] = part
    for number, name in enumerate(cohort.label_names):
        columns[f"y_true_{name}"] = cohort.targets[indices, number].astype(int)
        columns[f"y_score_{name}"] = scores[:, number]
    return pd.DataFrame(columns)
