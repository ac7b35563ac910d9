"""ECGs of a cohort -> batches as a model takes them, cropped, augmented and normalised on the device."""

from collections.abc import Iterator

import numpy as np
import torch

from data_augmentation import Augmentation
from ecg_dataset import Cohort
from splits import Fold
from xml_loader import N_SAMPLES, centre_start

MILLIVOLTS = 1e-3  # mV per microvolt
FLAT = 1e-3  # mV; no lead or ECG is divided by a deviation below this


def normalise(signal: torch.Tensor, method: str) -> torch.Tensor:
    """Normalise a batch, shape (N, 12, T).

    "recording" takes one mean and one standard deviation over the whole (12, T) of each ECG, which keeps the
    amplitudes between leads; "lead" takes them of each lead, which erases those; "none" leaves millivolts.
    """
    if method == "none":
        return signal
    axes = {"recording": (1, 2), "lead": (2,)}[method]
    deviation, mean = torch.std_mean(signal, dim=axes, keepdim=True, correction=0)
    return (signal - mean) / deviation.clamp_min(FLAT)


def crop(
    signals: np.ndarray, rows: np.ndarray, starts: np.ndarray, n_samples: int, device: torch.device
) -> torch.Tensor:
    """Return float32 (N, 12, n_samples) in mV on the device: of each row, the samples from its start.

    ``signals`` is int16, (n_rows, 12, 5000), in microvolts; ``rows`` and ``starts`` are int, (N,).
    """
    cropped = [signals[row, :, start : start + n_samples] for row, start in zip(rows, starts, strict=True)]
    return torch.from_numpy(np.stack(cropped)).to(device).float() * MILLIVOLTS


def evaluation_input(
    signals: np.ndarray, rows: np.ndarray, *, n_samples: int, normalisation: str, device: torch.device
) -> torch.Tensor:
    """Return what a model sees of ECGs that are evaluated: the centre, never augmented, normalised."""
    starts = np.full(len(rows), centre_start(n_samples))
    return normalise(crop(signals, rows, starts, n_samples, device), normalisation)


class _Batches:
    """What training and evaluation share: the ECGs, and how they are cropped and normalised."""

    def __init__(
        self,
        cohort: Cohort,
        indices: np.ndarray,
        *,
        batch_size: int,
        n_samples: int,
        normalisation: str,
        device: torch.device,
    ):
        self.indices = np.asarray(indices)
        self.n_batches = -(-len(self.indices) // batch_size)
        self.n_samples = n_samples
        self.normalisation = normalisation
        self.device = device
        self.files = cohort.table["file"].to_numpy()
        self.targets = torch.tensor(cohort.targets)
        self._signals = cohort.signals
        self._rows = cohort.rows

    def __len__(self) -> int:
        return self.n_batches

    @property
    def n_ecgs(self) -> int:
        return len(self.indices)

    def _targets_of(self, indices: np.ndarray) -> torch.Tensor:
        return self.targets[torch.from_numpy(indices)].to(self.device)


class TrainingBatches(_Batches):
    """Batches in random order, each ECG cropped at random and augmented; another draw in each epoch.

    All that is random follows from the seed and the number of the epoch, so that a resumed run draws what an
    uninterrupted one would have drawn. The batches of an epoch have equal sizes, to within one ECG.
    """

    def __init__(
        self, cohort: Cohort, indices: np.ndarray, *, augmentation: Augmentation, seed: int, **shared
    ):
        super().__init__(cohort, indices, **shared)
        self.augmentation = augmentation
        self.seed = seed

    def epoch(self, number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, np.ndarray]]:
        """Yield signal (N, 12, n_samples), normalised, targets (N, n_labels) and the ECGs' indices."""
        generator = np.random.default_rng([self.seed, number])
        augmentation_seed = int(generator.integers(2**63))
        on_device = torch.Generator(self.device).manual_seed(augmentation_seed)
        order = generator.permutation(self.indices)
        starts = generator.integers(0, N_SAMPLES - self.n_samples + 1, len(order))
        for positions in np.array_split(np.arange(len(order)), self.n_batches):
            indices = order[positions]
            signal = crop(self._signals, self._rows[indices], starts[positions], self.n_samples, self.device)
            signal = self.augmentation(signal, on_device)
            yield normalise(signal, self.normalisation), self._targets_of(indices), indices


class EvaluationBatches(_Batches):
    """Batches in the order of the indices, each ECG cropped at its centre, never augmented."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield signal (N, 12, n_samples), normalised, and targets (N, n_labels)."""
        for indices in np.array_split(self.indices, self.n_batches):
            signal = evaluation_input(
                self._signals,
                self._rows[indices],
                n_samples=self.n_samples,
                normalisation=self.normalisation,
                device=self.device,
            )
            yield signal, self._targets_of(indices)


def make_batches(
    cohort: Cohort, fold: Fold, *, augmentation: Augmentation, **options
) -> tuple[TrainingBatches, EvaluationBatches, EvaluationBatches]:
    """Return the batches of the training, validation and test part; only the first are augmented.

    Parameters
    ----------
    options : batch_size, n_samples, normalisation and device, as the batches take them.
    """
    parts = fold.parts
    training = TrainingBatches(cohort, parts["train"], augmentation=augmentation, seed=fold.seed, **options)
    validation, test = (EvaluationBatches(cohort, parts[part], **options) for part in ("validation", "test"))
    return training, validation, test
