"""ECGs of a fold -> batches as a model takes them: cropped, augmented and normalised on the device."""

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import torch

from data_augmentation import Augmentation
from dataset.cohort import Cohort
from dataset.signals import SignalsOnDevice, SignalsOnDisk, to_device
from dataset.splits import Fold
from ecg.recording import MILLIVOLTS
from runtime import processes
from runtime.errors import UserError
from xml_loader import N_SAMPLES, centre_start

# What a model takes: signal (N, 12, n_samples), normalised; then, with clinical columns, their values
# (N, n_clinical) in the table's units, nan where not known.
Inputs: TypeAlias = tuple[torch.Tensor] | tuple[torch.Tensor, torch.Tensor]
FLAT = 1e-3  # mV; no lead or ECG is divided by a deviation below this


def normalise_(signal: torch.Tensor, method: str) -> torch.Tensor:
    """Normalise a batch, shape (N, 12, T), in place, and return it.

    "recording" takes one mean and one standard deviation over the whole (12, T) of each ECG, which keeps the
    amplitudes between leads; "lead" takes them over each lead, which erases those; "none" leaves millivolts.
    """
    if method == "none":
        return signal
    axes = {"recording": (1, 2), "lead": (2,)}[method]
    n_values = signal[0].numel() if method == "recording" else signal.shape[2]
    signal.sub_(signal.mean(axes, keepdim=True))
    # Two passes in place are four times as fast on the CPU as torch.std.
    deviation = torch.linalg.vector_norm(signal, dim=axes, keepdim=True) / n_values**0.5
    return signal.div_(deviation.clamp_min(FLAT))


def normalise(signal: torch.Tensor, method: str) -> torch.Tensor:
    """As ``normalise_``, but leave the batch as it is."""
    return normalise_(signal.clone(), method)


def evaluation_input(signals: torch.Tensor, *, n_samples: int, normalisation: str) -> torch.Tensor:
    """Return what a model sees of ECGs that are evaluated: the centre, never augmented, normalised.

    ``signals`` is int16, (N, 12, 5000), in microvolts, on the device that the result is on.
    """
    start = centre_start(n_samples)
    return normalise_(signals[:, :, start : start + n_samples].float().mul_(MILLIVOLTS), normalisation)


class _Batches:
    """What training and evaluation share: the ECGs, and how they are cropped and normalised.

    Attributes
    ----------
    all_targets : of all ECGs in the order of the indices, (n_ecgs, n_labels), on the CPU.
    """

    def __init__(
        self,
        cohort: Cohort,
        indices: np.ndarray,
        *,
        signals: SignalsOnDevice | SignalsOnDisk,
        batch_size: int,
        n_samples: int,
        normalisation: str,
    ):
        self.indices = np.asarray(indices)
        self.n_batches = -(-len(self.indices) // batch_size)
        self.n_samples = n_samples
        self.normalisation = normalisation
        self.device = signals.device
        self.files = cohort.table["file"].to_numpy()
        self.signals = signals
        self._targets = torch.tensor(cohort.targets, device=self.device)
        self.all_targets = torch.from_numpy(cohort.targets[self.indices])
        clinical = None if cohort.clinical.empty else cohort.clinical.to_numpy()
        self._clinical = None if clinical is None else torch.tensor(clinical, device=self.device)
        self.clinical = None if clinical is None else clinical[self.indices]

    def __len__(self) -> int:
        return self.n_batches

    @property
    def n_ecgs(self) -> int:
        return len(self.indices)

    def _batch(self, signal: torch.Tensor, rows: torch.Tensor) -> tuple[Inputs, torch.Tensor]:
        """Return what a model takes of these ECGs, and their targets; ``signal`` is in mV."""
        signal = normalise_(signal, self.normalisation)
        inputs = (signal,) if self._clinical is None else (signal, self._clinical[rows])
        return inputs, self._targets[rows]


class TrainingBatches(_Batches):
    """Batches in random order, each ECG cropped at random and augmented; another draw in each epoch.

    All that is random follows from the seed and the numbers of epoch and step, so that a resumed run draws
    what an uninterrupted one would have drawn. The batches of an epoch have equal sizes, to within one ECG.
    Where several processes train, each gets its share of every batch.
    """

    def __init__(
        self, cohort: Cohort, indices: np.ndarray, *, augmentation: Augmentation, seed: int, **shared
    ):
        super().__init__(cohort, indices, **shared)
        self._n_known = np.count_nonzero(~np.isnan(cohort.targets), axis=1)  # labels of each ECG
        self._positions = np.array_split(np.arange(self.n_ecgs), self.n_batches)
        self.sizes = [len(positions) for positions in self._positions]  # ECGs of each step
        if min(self.sizes) < processes.count():
            raise UserError(
                f"--batch-size: found {min(self.sizes)} ECGs in a step, expected one for each of the "
                f"{processes.count()} processes"
            )
        self.augmentation = augmentation
        self.seed = seed

    def epoch(self, number: int, first_step: int = 0) -> Iterator[tuple[Inputs, torch.Tensor, np.ndarray]]:
        """Yield what a model takes, targets (N, n_labels) and the ECGs' indices.

        ``first_step`` is how many of the epoch's batches are left out: those before an interruption. Each
        step seeds PyTorch's own generator too, which draws dropout.
        """
        order, starts, seeds = self._draw(number)
        shares = map(processes.share_of, self._positions[first_step:])
        plan = [(order[share], starts[share]) for share in shares]
        generator = torch.Generator(self.device)
        for (indices, _), signal, seed in zip(
            plan, self.signals.crops(plan, self.n_samples), seeds[first_step:], strict=True
        ):
            seed = int(seed) + processes.rank()
            seed_dropout(seed, self.device)
            generator.manual_seed(seed)
            signal = self.augmentation(signal.float().mul_(MILLIVOLTS), generator)
            yield *self._batch(signal, to_device(indices, self.device)), indices

    @property
    def is_on_gpu(self) -> bool:
        """Whether batches can be made on a GPU without a look at the computer's memory."""
        return self.device.type == "cuda" and isinstance(self.signals, SignalsOnDevice)

    def draws(self, number: int, first_step: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
        """Yield each step's rows and starts, int64 on the device, and its seed, for `make`; see `epoch`."""
        order, starts, seeds = self._draw(number)
        order, starts = (to_device(array, self.device) for array in (order, starts))
        for positions, seed in list(zip(self._positions, seeds, strict=True))[first_step:]:
            chosen = slice(positions[0], positions[-1] + 1)
            yield order[chosen], starts[chosen], int(seed)

    def make(
        self, rows: torch.Tensor, starts: torch.Tensor, generator: torch.Generator
    ) -> tuple[Inputs, torch.Tensor]:
        """Return what a model takes of these rows, cropped and augmented, and their targets.

        Nothing waits for the device or depends on values, so that a CUDA graph can hold it; the signals must
        be on the device.
        """
        signal = self.signals.windows(self.n_samples)[rows, :, starts]
        return self._batch(self.augmentation(signal.float().mul_(MILLIVOLTS), generator), rows)

    def shares(self, epoch: int) -> np.ndarray:
        """Return this process's share of the known labels of each step, over which the loss is a mean.

        1 where one process trains. By this weight, losses and gradients of several add up to the batch's.
        """
        if processes.count() == 1:
            return np.ones(self.n_batches)
        order, _, _ = self._draw(epoch)
        own, whole = (
            np.array([self._n_known[order[positions]].sum() for positions in steps])
            for steps in (map(processes.share_of, self._positions), self._positions)
        )
        return own / whole

    def files_of(self, epoch: int, step: int) -> np.ndarray:
        """Return the files of one step's ECGs, of all processes."""
        order, _, _ = self._draw(epoch)
        return self.files[order[self._positions[step]]]

    def _draw(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the epoch's order and crops, one per ECG, and the seed of each step's augmentation."""
        generator = np.random.default_rng([self.seed, number])
        order = generator.permutation(self.indices)
        starts = generator.integers(0, N_SAMPLES - self.n_samples + 1, len(order))
        return order, starts, generator.integers(2**62, size=self.n_batches)


def seed_dropout(seed: int, device: torch.device) -> None:
    """Seed PyTorch's own generator of the device; ``torch.manual_seed`` takes longer than a small step."""
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


class EvaluationBatches(_Batches):
    """Batches in the order of the indices, each ECG cropped at its centre, never augmented.

    Where several processes evaluate, each gets a stretch of the ECGs; `processes.gather` joins the results.
    """

    def __iter__(self) -> Iterator[tuple[Inputs, torch.Tensor]]:
        """Yield what a model takes, and targets (N, n_labels)."""
        share = processes.share_of(self.indices)
        batches = [batch for batch in np.array_split(share, self.n_batches) if len(batch)]
        start = centre_start(self.n_samples)
        plan = [(batch, np.full(len(batch), start)) for batch in batches]
        for batch, signal in zip(batches, self.signals.crops(plan, self.n_samples), strict=True):
            yield self._batch(signal.float().mul_(MILLIVOLTS), to_device(batch, self.device))


def make_batches(
    cohort: Cohort, fold: Fold, *, augmentation: Augmentation, **options
) -> tuple[TrainingBatches, EvaluationBatches, EvaluationBatches]:
    """Return the batches of the training, validation and test part; only the first are augmented.

    Parameters
    ----------
    options : signals, batch_size, n_samples and normalisation, as the batches take them.
    """
    parts = fold.parts
    training = TrainingBatches(cohort, parts["train"], augmentation=augmentation, seed=fold.seed, **options)
    validation, test = (EvaluationBatches(cohort, parts[part], **options) for part in ("validation", "test"))
    return training, validation, test
