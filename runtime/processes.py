"""Several processes that train one model together: one per GPU, or several on the cores of a CPU.

    torchrun --nproc-per-node=8 train_atten.py …                    # eight GPUs of one machine
    torchrun --nnodes=2 --nproc-per-node=8 --rdzv-backend=c10d --rdzv-endpoint=HOST:29500 train_atten.py …

Every batch is dealt to the processes, so that a step sees the same ECGs as in one process; the gradients are
those of the whole batch. Only the first process writes and prints. Without torchrun there is one process, and
everything here does nothing.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from runtime.device import choose_device

PATIENCE = timedelta(hours=12)  # the first process may have to read a million files while the others wait
_HERE = {"LOCAL_WORLD_SIZE": 1, "LOCAL_RANK": 0}  # of torchrun: this machine's processes, which this is


def start(device_name: str = "auto") -> torch.device:
    """Join the processes that torchrun started, if it did, and return this one's device.

    Raises
    ------
    UserError : see ``device.choose_device``.
    """
    n_here, number = (int(os.environ.get(name, usual)) for name, usual in _HERE.items())
    device = choose_device(device_name, n_processes=n_here, number=number)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # streams and graphs are of the device that is set
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not distributed.is_initialized():
        # Without its device NCCL guesses one at the first barrier, and warns
        group = {"backend": "nccl", "device_id": device} if device.type == "cuda" else {"backend": "gloo"}
        distributed.init_process_group(**group, timeout=PATIENCE)
        if not is_first():
            sys.stdout = open(os.devnull, "w", encoding="utf-8", errors="replace")  # noqa: SIM115
    return device


def stop() -> None:
    """Leave the group of processes."""
    if count() > 1:
        distributed.destroy_process_group()


def count() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Return this process's number, from 0 on."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first() -> bool:
    return rank() == 0


def wait() -> None:
    """Wait until all processes are here."""
    if count() > 1:
        distributed.barrier()


@contextlib.contextmanager
def first_before_others() -> Iterator[None]:
    """Let the first process through, then the others, which find what it has left."""
    if not is_first():
        wait()
    yield
    if is_first():
        wait()


def from_first(value: Any) -> Any:
    """Return the first process's value in all of them."""
    if count() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def share_of(items: np.ndarray) -> np.ndarray:
    """Return this process's stretch of an array; no item is in two, and lengths differ by at most one."""
    return np.array_split(items, count())[rank()]


def gather(rows: torch.Tensor) -> torch.Tensor:
    """Return the rows of all processes, in the order of `share_of`, on the CPU."""
    rows = rows.cpu()
    if count() == 1:
        return rows
    shares: list[Any] = [None] * count()
    distributed.all_gather_object(shares, rows)
    return torch.cat([share for share in shares if len(share)])


def all_reduce_sum(value: torch.Tensor) -> torch.Tensor:
    """Return the sum over all processes, which is then in the tensor itself too."""
    if count() > 1:
        distributed.all_reduce(value)
    return value


def wrap_ddp(model: nn.Module) -> nn.Module:
    """Return the model with gradients that are the mean over the processes; unchanged if there is one.

    Buffers are not sent in each step: those of batch norms that see the whole batch are the same everywhere,
    and `average_norms` joins the others, which nothing reads before an epoch ends.
    """
    if count() == 1:
        return model
    device = next(model.parameters()).device
    devices = [device] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)


@torch.no_grad()
def average_norms(model: nn.Module, average: nn.Module) -> None:
    """Give batch norms that saw this process's shares of the batches the mean statistics of all processes.

    Parameters
    ----------
    model : as it was trained; norms in evaluation mode kept their statistics, and are left as they are.
    average : a copy of it, whose statistics followed.
    """
    if count() == 1:
        return
    for name, norm in model.named_modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.training:
            for one in (norm, average.get_submodule(name)):
                for statistic in (one.running_mean, one.running_var):
                    all_reduce_sum(statistic).div_(count())


def sync_batch_norms(model: nn.Module) -> nn.Module:
    """Let batch norms take their statistics over the whole batch instead of each process's share."""
    if count() == 1:
        return model
    if next(model.parameters()).device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.__class__ = _SyncBatchNorm  # PyTorch has none for the CPU
    return model


class _SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm with mean and variance over the ECGs of all processes, (N, C, ...), for the CPU."""

    def _check_input_dim(self, x: torch.Tensor) -> None:
        pass

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        given, x = x.dtype, x.to(torch.promote_types(x.dtype, torch.float32))  # bfloat16 sums too roughly
        axes = [axis for axis in range(x.dim()) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(x.dim())]
        n_values = x.new_tensor([x.numel() / x.shape[1]])
        sums = _SumOfAll.apply(torch.cat([x.sum(axes), n_values]))
        n_values = sums[-1].detach()
        mean = sums[:-1] / n_values
        centred = x - mean.view(shape)
        variance = _SumOfAll.apply(centred.square().sum(axes)) / n_values
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n_values / (n_values - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(shape) + self.bias.view(shape)).to(given)


class _SumOfAll(torch.autograd.Function):
    """The sum over all processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(context: Any, value: torch.Tensor) -> torch.Tensor:
        return all_reduce_sum(value.clone())

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        return all_reduce_sum(gradient.contiguous().clone())
