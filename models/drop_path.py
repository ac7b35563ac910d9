"""Stochastic depth: in training, a residual block is left out for some ECGs of a batch, drawn at random."""

import torch
from torch import nn


class DropPath(nn.Module):
    """Set a block's branch to zero for each ECG with a probability, and make up for it in the others.

    Huang et al. 2016, Deep networks with stochastic depth (arXiv:1603.09382). In evaluation nothing happens.

    Parameters
    ----------
    probability : from 0 on, below 1.
    """

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        if not self.training or not self.probability:
            return branch
        kept = 1 - self.probability
        shape = (len(branch), *[1] * (branch.dim() - 1))
        draw = torch.rand(shape, device=branch.device) < kept
        return branch * (draw.to(branch.dtype) / kept)


def drop_probabilities(n_blocks: int, last: float) -> list[float]:
    """Return the probability of each block: rising evenly to that of the last, as in the paper."""
    return [last * (number + 1) / n_blocks for number in range(n_blocks)]
