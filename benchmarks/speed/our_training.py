"""Our models and their training as the scripts set them up, for the benchmarks."""

from typing import Any

import numpy as np
import torch
from torch import nn

import train_atten
import train_baseline
import train_main_ecg
import train_spectrogram
from benchmarks.speed.timing import Conditions
from data_augmentation import Augmentation
from dataset.batches import EvaluationBatches, TrainingBatches
from dataset.signals import SignalsOnDevice, SignalsOnDisk
from focal_loss import FocalLoss
from hyperparameters.declaration import ABSENT, Hyperparameters
from hyperparameters.reading import read_yaml
from models import MODELS
from training.loop import TrainingStep
from training.optimization import adamw, learning_rate_schedule

MANY_STEPS = 1_000_000  # of the learning rate's schedule, more than any benchmark takes


def values_of(name: str) -> Hyperparameters:
    """Return the hyperparameters with which a model of ``MODELS`` is trained by its script."""
    for script in (train_atten, train_baseline, train_spectrogram):
        if name == script.MODEL:
            return Hyperparameters(**script.HYPERPARAMETERS)
    kinds = {model: kind for kind, model in train_main_ecg.MODEL.items()}
    values, *_ = read_yaml(train_main_ecg.HYPERPARAMETERS_FILE)
    return Hyperparameters(**{**values, "model": kinds[name]})


def build(name: str, device: torch.device, **layers: Any) -> nn.Module:
    """Return a new model for one label; ``layers`` are arguments that differ from the script's."""
    values = values_of(name)
    after_the_trunk = {} if values.model is ABSENT else values.group(values.model)
    return MODELS[name](n_labels=1, **(values.group("layers") | layers), **after_the_trunk).to(device)


def training_step(name: str, model: nn.Module, **options: Any) -> TrainingStep:
    """Return the step of ``training.fit`` with the loss, optimizer and schedule of the model's script.

    ``options`` are arguments of `TrainingStep` that differ from the script's.
    """
    values = values_of(name)
    optimizer = adamw(model, pretrained=(), **values.group("optimizer"))
    steps = {"epochs": 1, "steps_per_epoch": MANY_STEPS}
    schedule = learning_rate_schedule(optimizer, **steps, **values.group("schedule"))
    loss = FocalLoss(**values.group("loss"))
    options = values.group("step") | {"freeze_epochs": 0} | options  # nothing was loaded that could stay
    step = TrainingStep(model, loss, optimizer, schedule, **options)
    step.start_epoch(1)
    return step


def new_step(
    given: Conditions, name: str = "resnet18_with_atten", *, seed: int = 1, **options: Any
) -> TrainingStep:
    """Return the step of a new model, whose weights the seed draws; ``options`` as in `training_step`."""
    torch.manual_seed(seed)
    return training_step(name, build(name, given.device), **options)


def training_batches(
    given: Conditions, signals: SignalsOnDevice | SignalsOnDisk, augmentation: str
) -> TrainingBatches:
    """Return batches of all ECGs, normalised; "independent" is the scripts' augmentation."""
    group = Hyperparameters(augmentation=augmentation).group("augmentation")
    return TrainingBatches(
        given.cohort,
        given.indices,
        augmentation=Augmentation(**group),
        seed=0,
        signals=signals,
        **_shape(given),
    )


def validation_batches(
    given: Conditions, signals: SignalsOnDevice | SignalsOnDisk, indices: np.ndarray
) -> EvaluationBatches:
    """Return batches of some ECGs as a validation sees them."""
    return EvaluationBatches(given.cohort, indices, signals=signals, **_shape(given))


def _shape(given: Conditions) -> dict[str, Any]:
    return Hyperparameters(batch_size=given.batch_size, n_samples=given.n_samples).group("batches")
