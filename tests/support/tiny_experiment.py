"""What a script puts together before it trains, as small as can be: ECGs in memory, two linear layers."""

import numpy as np
import torch
from fake_cohort import cohort_of
from torch import nn

from data_augmentation import Augmentation
from dataset.batches import EvaluationBatches, TrainingBatches
from dataset.signals import SignalsOnDevice
from dataset.splits import Fold
from focal_loss import FocalLoss
from training.loop import TrainingStep, fit
from training.optimization import learning_rate_schedule
from training.test_set import score_test_set

CPU = torch.device("cpu")
PARTS = {"train": np.arange(12), "validation": np.arange(12, 18), "test": np.arange(18, 24)}
FOLD = Fold(0, 1, 1, PARTS)
NO_AUGMENTATION = Augmentation(augmentation="none")


class TinyModel(nn.Module):
    """Two linear layers on the deviation of each lead, with dropout; counts what it sees."""

    title = "Tiny"

    modes = []  # noqa: RUF012 - of the model and of its averaged copy alike: was each call in training mode?

    def __init__(self, n_labels=1):
        super().__init__()
        self.hidden = nn.Linear(12, 6)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(6, n_labels)

    def forward(self, signal):
        self.modes.append(self.training)
        return self.head(self.dropout(torch.relu(self.hidden(signal.std(dim=2)))))


class NotingBatches(EvaluationBatches):
    """Evaluation batches that write in a diary when they are read."""

    def __init__(self, *arguments, name, diary, **keywords):
        super().__init__(*arguments, **keywords)
        self.name, self.diary = name, diary

    def __iter__(self):
        self.diary.append(self.name)
        return super().__iter__()


def make_cohort(seed=0):
    """24 ECGs of 24 patients in memory; lead V1 of the positives, every third, is larger."""
    generator = np.random.default_rng(seed)
    targets = (np.arange(24) % 3 == 0).astype(np.float32)[:, None]
    signals = generator.normal(0, 200, (24, 12, 5000))
    signals[:, 6] *= 1 + targets
    cohort = cohort_of(targets, signals=signals.astype(np.int16))
    cohort.table["PE"] = targets.astype(int)
    return cohort


OF_FIT = ("patience", "keep", "monitor")


class Experiment:
    """What a script puts together before it trains."""

    def __init__(self, cohort, run, *, schedule="constant", epochs=3, learning_rate=0.01, **options):
        torch.manual_seed(3)
        self.cohort, self.run, self.epochs, self.pretrained = cohort, run, epochs, frozenset()
        self.options = {
            "gradient_clip": 0.0,
            "weight_average": 0.0,
            "patience": 0,
            "keep": "best",
            "monitor": "loss",
            "compile": "none",
            "precision": "float32",
            "cuda_graph": True,
            "freeze_epochs": 0,
            "sync_batch_norm": True,
            **options,
        }
        self.model, self.loss, self.diary = TinyModel(), FocalLoss(gamma=0.0), []
        signals = SignalsOnDevice(cohort.signals, CPU)
        shared = {"signals": signals, "batch_size": 4, "n_samples": 512, "normalisation": "none"}
        augmentation = Augmentation(augmentation="independent", gaussian_noise=0.5, polarity_flip=0.5)
        self.training = TrainingBatches(cohort, PARTS["train"], augmentation=augmentation, seed=5, **shared)
        self.validation, self.test = (
            NotingBatches(cohort, PARTS[name], name=name, diary=self.diary, **shared)
            for name in ("validation", "test")
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), learning_rate)
        self.schedule = self.make_schedule(schedule, steps_per_epoch=3)

    def make_schedule(self, schedule, steps_per_epoch):
        sizes = {"epochs": self.epochs, "steps_per_epoch": steps_per_epoch}
        options = {"warmup_epochs": 1.0, "step_epochs": 2, "milestones": [1, 3], "decay": 0.5}
        return learning_rate_schedule(self.optimizer, schedule=schedule, **options, **sizes)

    def deal_training(self, batch_size):
        """Take the training ECGs in batches of another size, without augmentation."""
        self.training = TrainingBatches(
            self.cohort,
            PARTS["train"],
            signals=SignalsOnDevice(self.cohort.signals, CPU),
            batch_size=batch_size,
            n_samples=512,
            normalisation="none",
            augmentation=NO_AUGMENTATION,
            seed=5,
        )

    def fit(self):
        options = {name: self.options[name] for name in OF_FIT}
        fit(self.step(), self.training, self.validation, self.run, epochs=self.epochs, **options)
        return self

    def step(self):
        options = {name: value for name, value in self.options.items() if name not in OF_FIT}
        parts = self.model, self.loss, self.optimizer, self.schedule
        return TrainingStep(*parts, pretrained=self.pretrained, **options)

    def score_test_set(self, calibration="none"):
        score_test_set(
            self.model,
            name="tiny",
            arguments={"n_labels": 1},
            cohort=self.cohort,
            fold=FOLD,
            validation=self.validation,
            test=self.test,
            run=self.run,
            calibration=calibration,
            threshold_policy="youden",
        )
        return self
