"""The one loop: fit, validate, checkpoint, resume.

Everything that is random in a step follows from the seed and the numbers of epoch and step, so that a run
that was stopped or killed and resumed ends where an uninterrupted one ends (bit for bit on the CPU).
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.optim import lr_scheduler
from tqdm import tqdm

from dataset.batches import EvaluationBatches, Inputs, TrainingBatches
from inference.scoring import forward, predict_logits
from metrics_and_performance import ranking_metrics
from run_folder.run import Run
from runtime import processes
from runtime.errors import UserError
from runtime.interruption import Interruption, StoppedError
from runtime.precision import training_type
from training.optimization import WeightAverage
from training.step_graph import StepGraph

ROSE_BY = 2.0  # times the training loss: more is said
TOO_LARGE_TO_PRINT = 1e5  # a loss, digit by digit
SAVE_EVERY = 30  # seconds between two checkpoints: what a kill costs at most; a signal costs nothing


class ValidationMetrics(NamedTuple):
    """What each epoch's validation computes beside the loss.

    Attributes
    ----------
    titles : for each metric's name in ``log.csv``, after ``val_``, the heading of its column on the screen.
    compute : targets, (n_ecgs, n_labels), and the model's outputs, float64 (n_ecgs, ...) -> their values.
    """

    titles: Mapping[str, str]
    compute: Callable[[np.ndarray, np.ndarray], Sequence[float]]


def _rank_labels(targets: np.ndarray, logits: np.ndarray) -> tuple[float, float]:
    """Return AUROC and average precision, means over the labels."""
    return ranking_metrics(targets, torch.sigmoid(torch.from_numpy(logits)).numpy())


RANKING = ValidationMetrics({"auroc": "AUROC", "average_precision": "AP"}, _rank_labels)


class TrainingStep:
    """One batch: forward, backward, new weights. Nothing in it waits for the device.

    Parameters
    ----------
    pretrained, freeze_epochs : names of the parameters that stay as they are in the first ``freeze_epochs``
        epochs. The batch norms among them always keep their statistics: those of the many ECGs that they come
        from say more than those of a batch.
    gradient_clip : largest norm of the gradient; 0 means no limit.
    weight_average : decay; see ``optimization.WeightAverage``. 0 means the weights as they are.
    compile : "none", or a mode of ``torch.compile``.
    precision : "auto", "float32" or "bfloat16"; see `runtime.precision.training_type`.
    cuda_graph : on one GPU that holds the signals, launch forward and backward as one CUDA graph.
    sync_batch_norm : with several processes, whether batch norms see the whole batch.

    Attributes
    ----------
    model : the model that is trained.
    average : its ``WeightAverage``, which is validated and kept.
    graph : the CUDA graphs of the step, or None where it is launched kernel by kernel.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: lr_scheduler.LRScheduler,
        *,
        pretrained: frozenset[str] = frozenset(),
        freeze_epochs: int,
        gradient_clip: float,
        weight_average: float,
        compile: str,
        precision: str,
        cuda_graph: bool,
        sync_batch_norm: bool,
    ):
        self.sync_batch_norm = sync_batch_norm
        self.model = processes.sync_batch_norms(model) if sync_batch_norm else model
        self.average = WeightAverage(self.model, decay=weight_average)
        self.loss, self.optimizer, self.schedule = loss, optimizer, schedule
        self.pretrained, self.freeze_epochs, self.gradient_clip = pretrained, freeze_epochs, gradient_clip
        if compile != "none":
            self.model.compile(mode=compile, dynamic=False)  # batches of two sizes: two graphs
        self._shared = processes.wrap_ddp(self.model)
        self._compute_type = training_type(precision, next(self.model.parameters()).device)
        self._frozen: list[nn.Parameter] = []
        # These modes of torch.compile make graphs of their own
        self.cuda_graph = cuda_graph and compile not in ("reduce-overhead", "max-autotune")
        self.graph: StepGraph | None = None

    def start_epoch(self, epoch: int) -> None:
        """Turn to training; leave what is frozen in this epoch as it is."""
        self._shared.train()
        names = self.pretrained if epoch <= self.freeze_epochs else frozenset()
        self._frozen = [parameter for name, parameter in self.model.named_parameters() if name in names]
        if processes.count() == 1:  # nothing goes back through a frozen trunk; DDP wants it all the same
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(name not in names)
        for name, module in self.model.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and f"{name}.weight" in self.pretrained:
                module.eval()

    def end_epoch(self) -> None:
        """Let all processes have the same model before it is validated and saved."""
        if not self.sync_batch_norm:
            processes.average_norms(self.model, self.average.model)

    def losses(self, training: TrainingBatches, epoch: int, first_step: int) -> Iterator[torch.Tensor]:
        """Train on an epoch's batches, from one on, and yield the loss of each, on the device.

        Where several processes train, it is this one's share of it.
        """
        if self.graph and not self._frozen:
            yield from self.graph.losses(epoch, first_step)
            return
        shares = training.shares(epoch)
        for number, (inputs, targets, _) in enumerate(training.epoch(epoch, first_step), first_step):
            share = float(shares[number])
            # Processes' gradients are averaged, as if their shares were equal.
            loss = self(inputs, targets, share * processes.count())
            yield loss if share == 1 else loss * share

    def capture(self, training: TrainingBatches) -> None:
        """Make CUDA graphs of the step on these batches, where one GPU trains and holds the signals."""
        if self.cuda_graph and training.is_on_gpu and processes.count() == 1:
            self.start_epoch(self.freeze_epochs + 1)  # nothing is frozen: before, there are no graphs
            parts = self.model, self.loss, training, self._update
            self.graph = StepGraph.try_to_capture(*parts, self._compute_type)

    def __call__(self, inputs: Inputs, targets: torch.Tensor, share: float) -> torch.Tensor:
        """Return the loss, on the device.

        ``share`` is this process's share of the batch, times the number of processes: gradients are averaged
        over processes, whose shares may differ in size.
        """
        self.optimizer.zero_grad(set_to_none=True)
        batch_loss = self.loss(forward(self._shared, inputs, self._compute_type), targets)
        (batch_loss * share if share != 1 else batch_loss).backward()
        for parameter in self._frozen:
            parameter.grad = None  # the optimizer leaves it out, weight decay included
        self._update()
        return batch_loss.detach()

    def _update(self) -> None:
        """Make of the gradients the next weights."""
        if self.gradient_clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.gradient_clip)
        self.optimizer.step()
        self.schedule.step()
        self.average.update()

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self._parts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, part in self._parts.items():
            part.load_state_dict(state[name])

    @property
    def _parts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("model", "average", "optimizer", "schedule")}


def fit(
    step: TrainingStep,
    training: TrainingBatches,
    validation: EvaluationBatches,
    run: Run,
    *,
    epochs: int,
    patience: int,
    keep: str,
    monitor: str,
    metrics: ValidationMetrics = RANKING,
) -> None:
    """Train, and leave the averaged weights of the last or of the best epoch in the run folder.

    After each epoch the validation ECGs are scored with the averaged weights. A checkpoint is saved every
    `SAVE_EVERY` seconds and at the end; where the run folder has one already, training goes on after it.
    SIGINT and SIGTERM let the step end, save a checkpoint and raise.

    Parameters
    ----------
    patience : epochs without a better score after which training stops; 0 means never.
    keep : "last", or "best": the epoch with the best score of those so far.
    monitor : the score: "loss", or the name of one of the metrics, of the validation ECGs.
    metrics : what validation computes beside the loss.

    Raises
    ------
    UserError : a loss is not finite.
    StoppedError : a signal stopped training; the checkpoint is saved.
    """
    state = _State(run, step)
    state.restore(training.device)
    log = state.log
    n_parameters = sum(parameter.numel() for parameter in step.model.parameters())
    print(f"model       {n_parameters / 1e6:.1f} M parameters")
    step.capture(training)
    columns = "".join(f"   val {title}" for title in metrics.titles.values())
    print(f" epoch   train loss   val loss{columns}        lr     ECG/s    time")
    for row in log:
        _print_row(row, metrics)
    with Interruption() as interruption:
        for epoch in range(len(log) + 1, epochs + 1):
            if patience and log and epoch - _kept(log)["epoch"] > patience:
                break
            step.start_epoch(epoch)
            row = _one_epoch(step, training, validation, metrics, epoch, state, interruption)
            row["kept"] = int(epoch == epochs if keep == "last" else _is_better(row, log, monitor))
            state.end_epoch(row)
            _print_row(row, metrics)
            if interruption.signal:
                state.save()
                raise StoppedError(f"{interruption.signal} after epoch {epoch}, which is saved", run.root)
        state.save()
    run.forget_checkpoint_before()
    processes.wait()  # the kept weights are on the disk before anybody loads them
    _print_end(log, epochs, patience, keep, monitor)


class _State:
    """What a checkpoint holds: the state of the step, the log, and the place in an epoch."""

    def __init__(self, run: Run, step: TrainingStep):
        self.run = run
        self.step = step
        self.log: list[dict[str, Any]] = []
        self.losses: list[torch.Tensor] = []  # of this epoch's steps so far
        self.seconds = 0.0  # that they took
        self.saved_at = time.monotonic()
        self.saved_epochs = 0  # that the checkpoint on the disk holds
        self._unsaved = False  # whether there is more than the checkpoint holds
        self._kept: dict[str, torch.Tensor] | None = None  # weights that are kept and not on the disk yet

    def restore(self, device: torch.device) -> None:
        """Load the checkpoint, if there is one."""
        checkpoint = self.run.load_checkpoint(device)
        if checkpoint is None:
            return
        self.step.load_state_dict(checkpoint)
        self.log = checkpoint["log"]
        for row in self.log:  # "best": runs of the first versions
            row["kept"] = row.pop("best", row.get("kept"))
        self.losses = list(checkpoint["losses"])
        self.seconds = checkpoint["seconds"]
        self.saved_epochs = len(self.log)
        if self.log:  # log.csv may lag behind the checkpoint, or be ahead of it
            self.run.write_table("log.csv", pd.DataFrame(self.log))

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self.saved_at > SAVE_EVERY

    def save(self) -> None:
        """Save the kept weights, then the checkpoint, unless they are on the disk already."""
        if not self._unsaved:
            return
        # In this order: a kill in between repeats epochs, which write the same weights again.
        if self._kept is not None:
            self.run.save_weights(self._kept)
        losses = torch.stack(self.losses) if self.losses else torch.empty(0)
        place = {"log": self.log, "losses": losses, "seconds": self.seconds}
        self.run.save_checkpoint({**self.step.state_dict(), **place})
        self.saved_at, self.saved_epochs = time.monotonic(), len(self.log)
        self._unsaved, self._kept = False, None

    def end_step(self, loss: torch.Tensor, seconds: float) -> None:
        """Take in the loss of one more step, and the seconds of the epoch so far."""
        self.losses.append(loss)
        self.seconds, self._unsaved = seconds, True

    def end_epoch(self, row: dict[str, Any]) -> None:
        """Log an epoch, and save where that is due."""
        started = time.perf_counter()
        self.log.append(row)
        self.losses, self.seconds, self._unsaved = [], 0.0, True
        if row["kept"]:
            weights = self.step.average.model.state_dict()
            self._kept = {name: tensor.clone() for name, tensor in weights.items()}
        if self.is_due:
            self.save()
        row["seconds"] += time.perf_counter() - started
        self.run.write_log(self.log)

    @property
    def what_is_kept(self) -> str:
        epochs = self.saved_epochs
        return f"the checkpoint of epoch {epochs} is kept" if epochs else "no checkpoint was saved yet"


def _one_epoch(
    step: TrainingStep,
    training: TrainingBatches,
    validation: EvaluationBatches,
    metrics: ValidationMetrics,
    epoch: int,
    state: _State,
    interruption: Interruption,
) -> dict[str, Any]:
    """Train and validate; return the row of the log."""
    started = time.perf_counter() - state.seconds  # those before an interruption count
    train_loss = _train(step, training, epoch, state, interruption)
    step.end_epoch()
    trained = time.perf_counter()
    validated = _validate(step.average.model, step.loss, validation, metrics)
    if not math.isfinite(validated["val_loss"]):
        raise UserError(
            f"the validation loss is {validated['val_loss']} after epoch {epoch}; {state.what_is_kept}; "
            "try a lower --learning-rate"
        )
    return {
        "epoch": epoch,
        "train_loss": train_loss,
        **validated,
        "learning_rate": step.schedule.get_last_lr()[0],
        "ecgs_per_second": training.n_ecgs / (trained - started),
        "seconds": time.perf_counter() - started,
    }


def _train(
    step: TrainingStep, training: TrainingBatches, epoch: int, state: _State, interruption: Interruption
) -> float:
    """Train one epoch, or the rest of one that was interrupted; return the mean loss of its ECGs."""
    first_step, before, started = len(state.losses), state.seconds, time.perf_counter()
    sizes = torch.tensor(training.sizes, dtype=torch.float32, device=training.device)
    hidden = None if processes.is_first() else True  # None: shown only on a terminal
    look = {"desc": f"epoch {epoch}", "unit": "step", "disable": hidden, "leave": False}
    with tqdm(total=len(training), initial=first_step, **look) as bar:
        for loss in step.losses(training, epoch, first_step):
            state.end_step(loss, before + time.perf_counter() - started)
            bar.update()
            _save_within_epoch(state, training, epoch, interruption)
    losses = processes.all_reduce_sum(torch.stack(state.losses))
    _check_finite(losses, training, epoch, state)
    return float((losses * sizes).sum() / sizes.sum())


def _save_within_epoch(
    state: _State, training: TrainingBatches, epoch: int, interruption: Interruption
) -> None:
    """Save a checkpoint when the last is old or a signal came."""
    done = len(state.losses)
    where = f"{interruption.signal} in epoch {epoch} after step {done} of {len(training)}"
    if processes.count() > 1:  # they stop at different steps; all have the end of the last epoch
        if interruption.signal:
            raise StoppedError(f"{where}; {state.what_is_kept}", state.run.root)
    elif done < len(training) and (interruption.signal or state.is_due):
        _check_finite(torch.stack(state.losses), training, epoch, state)
        state.save()
        if interruption.signal:
            raise StoppedError(f"{where}, which is saved", state.run.root)


def _check_finite(losses: torch.Tensor, training: TrainingBatches, epoch: int, state: _State) -> None:
    """Raise where the loss of one of the epoch's steps is not finite; this waits for the device."""
    finite = torch.isfinite(losses).tolist()
    if not all(finite):
        step = finite.index(False)
        files = ", ".join(training.files_of(epoch, step))
        raise UserError(
            f"the loss is {losses[step].item()} in epoch {epoch}, step {step + 1} of {len(training)}; "
            f"{state.what_is_kept}; try a lower --learning-rate, or look at the files of this step: {files}"
        )


@torch.inference_mode()
def _validate(
    model: nn.Module, loss: nn.Module, validation: EvaluationBatches, metrics: ValidationMetrics
) -> dict[str, float]:
    """Return the loss and the metrics of the validation ECGs."""
    outputs = predict_logits(model, (inputs for inputs, _ in validation))
    targets = validation.all_targets
    val_loss = loss(torch.from_numpy(outputs).float(), targets).item()
    values = zip(metrics.titles, metrics.compute(targets.numpy(), outputs), strict=True)
    return {"val_loss": val_loss, **{f"val_{name}": value for name, value in values}}


def _is_better(row: dict[str, Any], log: list[dict[str, Any]], monitor: str) -> bool:
    """Return whether an epoch's score is above all before; rounded, as a tie in rank is not better."""
    if not log:
        return True
    sign = -1 if monitor == "loss" else 1
    score, best = (round(sign * one[f"val_{monitor}"], 9) for one in (row, _kept(log)))
    return score > best


def _kept(log: list[dict[str, Any]]) -> dict[str, Any]:
    return [row for row in log if row["kept"]][-1]


def _loss_in_words(loss: float) -> str:
    return f"{loss:.4f}" if loss < TOO_LARGE_TO_PRINT else f"{loss:.3e}"


def _print_row(row: dict[str, Any], metrics: ValidationMetrics) -> None:
    minutes, seconds = divmod(round(row["seconds"]), 60)
    widths = {name: len(f"   val {title}") for name, title in metrics.titles.items()}
    values = "".join(f"{row[f'val_{name}']:>{width}.3f}" for name, width in widths.items())
    train_loss, val_loss = (_loss_in_words(row[name]) for name in ("train_loss", "val_loss"))
    print(
        f"{row['epoch']:>6}{train_loss:>13}{val_loss:>11}{values}"
        f"{row['learning_rate']:>10.1e}{row['ecgs_per_second']:>10,.0f}"
        f"{minutes:>5}:{seconds:02}{'   kept' if row['kept'] else ''}",
        flush=True,
    )


def _print_end(log: list[dict[str, Any]], epochs: int, patience: int, keep: str, monitor: str) -> None:
    trained = f"trained     {len(log)} epoch{'' if len(log) == 1 else 's'}"
    first, last = (log[number]["train_loss"] for number in (0, -1))
    if last > ROSE_BY * first:
        rose = f"the training loss rose from {_loss_in_words(first)} to {_loss_in_words(last)}"
        print(f"note        {rose}: try a lower --learning-rate")
    if keep == "last":
        print(f"{trained}; kept: the averaged weights of the last")
        return
    kept = f"kept: epoch {_kept(log)['epoch']}, best validation {monitor.replace('_', ' ')}"
    if len(log) < epochs:
        print(f"stopped     no better validation score for {patience} epochs; {kept}")
    else:
        print(f"{trained}; {kept}")
