"""The type in which a model is trained: bfloat16 where the hardware has units for it, float32 elsewhere."""

import torch


def training_type(precision: str, device: torch.device) -> torch.dtype:
    """Return the type of the convolutions and matrix products of a training step.

    Weights, loss and optimizer are in float32 with either.

    Parameters
    ----------
    precision : "float32", "bfloat16", or "auto": bfloat16 on CUDA and on CPUs with AMX.
    """
    fast = device.type == "cuda" or (device.type == "cpu" and cpu_has_amx())
    return torch.bfloat16 if precision == "bfloat16" or (precision == "auto" and fast) else torch.float32


def cpu_has_amx() -> bool:
    """Return whether the processor multiplies matrices of bfloat16 in tiles (Intel's AMX)."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))
