"""Batch norms folded into the convolutions before them, while a model scores: fewer passes over memory.

In evaluation a batch norm multiplies each channel by a number and adds another; a convolution with these in
its weights and as its bias does the same. A class of layers names its pairs: ``FOLDABLE``.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def folded_norms(model: nn.Module) -> Iterator[None]:
    """Within this context a model in evaluation, on the CPU, computes without most of its batch norms.

    Its outputs are the same to rounding, and afterwards it is what it was, each tensor in its place: neither
    its ``state_dict`` nor its training may be looked at within. A pair that somebody watches by a hook stays
    as it is; so does a model on a GPU, where convolutions round their weights to bfloat16, and one of
    ``torch.compile``, which would compile again.
    """
    pairs = [] if getattr(model, "_compiled_call_impl", None) else list(_pairs(model))
    before = [(conv.weight, conv.bias) for conv, _, _, _ in pairs]
    try:
        for conv, owner, name, norm in pairs:
            conv.weight, conv.bias = (
                nn.Parameter(tensor, requires_grad=False) for tensor in _fold(conv, norm)
            )
            setattr(owner, name, nn.Identity())
        yield
    finally:
        for (conv, owner, name, norm), (weight, bias) in zip(pairs, before, strict=True):
            conv.weight, conv.bias = weight, bias
            setattr(owner, name, norm)


def _pairs(model: nn.Module) -> Iterator[tuple[nn.Conv2d, nn.Module, str, nn.Module]]:
    """Yield each convolution, and the batch norm after it: the module that has it, its name there, itself."""
    for module in model.modules():
        for conv_name, norm_name in getattr(module, "FOLDABLE", ()):
            place, _, name = norm_name.rpartition(".")
            owner = module.get_submodule(place)
            conv, norm = module.get_submodule(conv_name), getattr(owner, name)
            if conv.weight.device.type == "cpu" and not (_is_watched(conv) or _is_watched(norm)):
                yield conv, owner, name, norm


def _is_watched(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


@torch.no_grad()
def _fold(conv: nn.Conv2d, norm: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight and bias of a convolution without bias and the norm after it, (n_out, ...), (n_out,)."""
    scale = norm.weight.double() * torch.rsqrt(norm.running_var.double() + norm.eps)
    weight = conv.weight * scale[:, None, None, None]
    bias = norm.bias - norm.running_mean * scale
    return weight.to(conv.weight.dtype), bias.to(conv.weight.dtype)
