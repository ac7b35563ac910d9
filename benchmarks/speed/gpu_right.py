"""Does a GPU compute what the CPU computes, and a CUDA graph what single kernels compute?

Each line is how far two ways of computing the same are apart, and is right up to a limit. On the CPU the same
comparisons run, between the same arithmetic: what they find there must be 0.
"""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from benchmarks.speed.our_training import build, new_step, training_batches
from benchmarks.speed.timing import Conditions, Row, number
from dataset.signals import SignalsOnDevice, SignalsOnDisk
from inference.scoring import forward
from models import MODELS
from run_folder.run import Run
from training.loop import TrainingStep
from xml_loader import N_SAMPLES

CPU = torch.device("cpu")
MODEL = "resnet18_with_atten"
COMPARED = 4  # ECGs whose logits are compared
FLOAT32 = 1e-4  # of a logit: float32 in another order
BFLOAT16 = 2e-2  # of a logit near 1, whose last bit in bfloat16 is 8e-3
STEPS = 12  # of which losses are compared
RESUMED = 6  # steps, half of them after a checkpoint
APART = 1e-3  # of losses and weights on a GPU, where cuDNN may add in another order


@dataclass(frozen=True)
class Difference(Row):
    """A row that is right where its value is at most ``limit``; nan is not."""

    limit: float = 0.0

    @property
    def is_right(self) -> bool:
        return self.value <= self.limit

    def __str__(self) -> str:
        verdict = "right" if self.is_right else "WRONG"
        words = f"{verdict}: expected at most {number(self.limit)}"
        return str(Row(self.name, self.value, self.unit, words))


def crops(given: Conditions) -> Iterator[Difference]:
    """Compare crops of the device's signals, and of streamed ones, with slices of the rows at rest."""
    generator, n_ecgs = np.random.default_rng(0), len(given.indices)
    plan = [
        (generator.integers(0, n_ecgs, size), generator.integers(0, N_SAMPLES - given.n_samples + 1, size))
        for size in (5, 32, 1, 31)
    ]
    rows = given.cohort.signals.read(given.indices)
    expected = [
        np.stack([rows[ecg, :, start : start + given.n_samples] for ecg, start in zip(*batch, strict=True)])
        for batch in plan
    ]
    for place, kind in (("held on the device", SignalsOnDevice), ("streamed from disk", SignalsOnDisk)):
        found = kind(given.cohort.signals, given.device).crops(plan, given.n_samples)
        pairs = zip(found, expected, strict=True)
        n_wrong = sum(not np.array_equal(one.cpu().numpy(), other) for one, other in pairs)
        yield Difference(f"crops {place}", n_wrong, "batches")


def models(given: Conditions) -> Iterator[Difference]:
    """Compare the logits of each model, float32 and as scripts compute them, with those of the CPU."""
    signal = torch.randn(COMPARED, 12, given.n_samples, generator=torch.Generator().manual_seed(0))
    for name in MODELS:
        torch.manual_seed(2)
        model = build(name, CPU)
        with torch.no_grad():
            model(signal)  # in training: the batch norms get statistics
            expected = model.eval()(signal)
            there, moved = signal.to(given.device), model.to(given.device)
            with _exact_float32():
                exact = moved(there).cpu()
            rough = forward(moved, (there,), torch.bfloat16).cpu()
        yield Difference(f"float32, {name}", _apart(exact, expected), "logit", limit=FLOAT32)
        yield Difference(f"bfloat16, {name}", _apart(rough, expected), "logit", limit=BFLOAT16)


def recurrent(given: Conditions) -> Iterator[Difference]:
    """Count what the recurrent layer computes in less than float32: autocast makes float16 of cuDNN's."""
    types = []
    model = build("resnet_with_rnn", given.device)
    model.rnn.register_forward_hook(lambda layer, inputs, outputs: types.append(outputs[0].dtype))
    forward(model, (torch.randn(COMPARED, 12, given.n_samples, device=given.device),), torch.bfloat16)
    n_short = sum(dtype != torch.float32 for dtype in types)
    yield Difference("recurrent layer, results not in float32", n_short, "passes")


def graphs(given: Conditions) -> Iterator[Difference]:
    """Compare the first losses and weights of training by CUDA graph and step by step."""
    for name in MODELS:
        found, weights = [], []
        for cuda_graph in (False, True):
            step = new_step(given, name, cuda_graph=cuda_graph)
            found.append(_losses(given, step, 0, STEPS))
            weights.append(_weights(step.model))
        limit = _limit(given)
        yield Difference(f"graph, losses, {name}", _apart(*found), "", limit=limit)
        yield Difference(f"graph, weights, {name}", _apart(*weights), "", limit=limit)
        if given.device.type == "cuda":
            yield Difference(f"graph, not captured, {name}", step.graph is None, "graphs")


def resumed(given: Conditions) -> Iterator[Difference]:
    """Compare training that went on from a checkpoint, in another model's place, with uninterrupted one."""
    n_steps = min(RESUMED, len(training_batches(given, _signals(given), "independent")))
    for way, cuda_graph in (("step by step", False), ("graph", True)):
        whole, first, second = (new_step(given, seed=seed, cuda_graph=cuda_graph) for seed in (1, 1, 9))
        expected = _losses(given, whole, 0, n_steps)
        found = _losses(given, first, 0, n_steps // 2)
        folder = given.scratch / f"resumed-{cuda_graph}"
        folder.mkdir()
        run = Run(folder)
        run.save_checkpoint(first.state_dict())
        second.load_state_dict(run.load_checkpoint(given.device))
        found = torch.cat([found, _losses(given, second, n_steps // 2, n_steps)])
        weights = _apart(_weights(second.model), _weights(whole.model))
        losses, limit = _apart(found, expected), _limit(given)
        yield Difference(f"resumed, losses, {way}", losses, "", limit=limit)
        yield Difference(f"resumed, weights, {way}", weights, "", limit=limit)


@contextlib.contextmanager
def _exact_float32() -> Iterator[None]:
    """Switch TF32 off, in matrix products and in convolutions."""
    precision, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = convolutions


def _limit(given: Conditions) -> float:
    """Return how far trainings that should be the same may be apart: on the CPU not at all."""
    return APART if given.device.type == "cuda" else 0.0


def _signals(given: Conditions) -> SignalsOnDevice:
    return SignalsOnDevice(given.cohort.signals, given.device)


def _losses(given: Conditions, step: TrainingStep, first: int, end: int) -> torch.Tensor:
    """Return the losses of an epoch's steps from one on, (end - first,) or fewer, on the CPU."""
    batches = training_batches(given, _signals(given), "independent")
    step.capture(batches)
    losses = itertools.islice(step.losses(batches, 1, first), end - first)
    return torch.stack([loss.cpu() for loss in losses])


def _weights(model: nn.Module) -> torch.Tensor:
    """Return all weights and statistics of a model, one after another, on the CPU."""
    return torch.cat([value.detach().float().flatten().cpu() for value in model.state_dict().values()])


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest difference, nan where one of them is."""
    return float((one - other).abs().max())
