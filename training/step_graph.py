"""A training step as one CUDA graph: at batches of 32 a GPU computes faster than Python launches kernels.

Crop, augmentation, normalisation, forward, loss and backward are captured once for each size of batch and
replayed; optimizer, schedule and weight average follow as they are, because their rates change in each step.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import nn

from dataset.batches import TrainingBatches, seed_dropout
from inference.scoring import forward
from runtime.errors import one_line

WARM_UP = 4  # steps before the capture: cuDNN chooses its algorithms, and the allocator its blocks


class _Captured(NamedTuple):
    """One graph and what it reads and writes, all on the device."""

    graph: "torch.cuda.CUDAGraph"
    rows: torch.Tensor  # (n_ecgs,), of the cohort
    starts: torch.Tensor  # (n_ecgs,), where each crop begins
    loss: torch.Tensor
    gradients: list[torch.Tensor | None]  # of each parameter


class StepGraph:
    """Forward and backward of a training's batches as CUDA graphs, one for each size of batch.

    What is random in a step is drawn by generators that are seeded before each replay, so that a resumed run
    draws what an uninterrupted one would have drawn.

    Parameters
    ----------
    model, loss : as they are trained; the model's parameters and buffers must stay where they are.
    training : batches whose signals are on the device.
    update : makes of the gradients the next weights.
    compute_type : as `inference.scoring.forward` takes it.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        training: TrainingBatches,
        update: Callable[[], None],
        compute_type: torch.dtype,
    ):
        self.model, self.loss, self.training, self.update = model, loss, training, update
        self.compute_type = compute_type
        self.generator = torch.Generator(training.device)
        self._captured: dict[int, _Captured] = {}

    def losses(self, epoch: int, first_step: int) -> Iterator[torch.Tensor]:
        """Train on an epoch's batches, from one on, and yield the loss of each, on the device."""
        for rows, starts, seed in self.training.draws(epoch, first_step):
            step = self._captured[len(rows)]
            step.rows.copy_(rows)
            step.starts.copy_(starts)
            seed_dropout(seed, self.training.device)
            self.generator.manual_seed(seed)
            step.graph.replay()
            for parameter, gradient in zip(self.model.parameters(), step.gradients, strict=True):
                parameter.grad = gradient
            self.update()
            yield step.loss.clone()  # the next replay overwrites it

    def _forward_and_backward(self, rows: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        inputs, targets = self.training.make(rows, starts, self.generator)
        loss = self.loss(forward(self.model, inputs, self.compute_type), targets)
        loss.backward()
        return loss.detach()

    def _capture(self, size: int) -> None:
        """Capture the step of batches of this size; the model is then as it was."""
        rows = torch.arange(size, device=self.training.device)  # any will do
        starts = torch.zeros_like(rows)
        kept = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        try:
            self._warm_up(rows, starts)
            graph = torch.cuda.CUDAGraph()
            graph.register_generator_state(self.generator)
            with torch.cuda.graph(graph):
                loss = self._forward_and_backward(rows, starts)
        finally:
            self.model.load_state_dict(kept)  # the batch norms' statistics; tensors keep their addresses
        gradients = [parameter.grad for parameter in self.model.parameters()]
        self._captured[size] = _Captured(graph, rows, starts, loss, gradients)

    def _warm_up(self, rows: torch.Tensor, starts: torch.Tensor) -> None:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self.model.zero_grad(set_to_none=True)
                self._forward_and_backward(rows, starts)
        torch.cuda.current_stream().wait_stream(aside)
        self.model.zero_grad(set_to_none=True)

    @classmethod
    def try_to_capture(
        cls,
        model: nn.Module,
        loss: nn.Module,
        training: TrainingBatches,
        update: Callable[[], None],
        compute_type: torch.dtype,
    ) -> "StepGraph | None":
        """Return the graphs of all sizes of batch, or None where this model's step cannot be captured."""
        graphs = cls(model, loss, training, update, compute_type)
        try:
            for size in sorted(set(training.sizes)):
                graphs._capture(size)
        except RuntimeError as error:
            print(
                f"step        launched kernel by kernel: a CUDA graph cannot be captured ({one_line(error)})"
            )
            model.zero_grad(set_to_none=True)
            return None
        print("step        one CUDA graph each, from crop to gradient")
        return graphs
