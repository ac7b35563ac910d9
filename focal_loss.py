"""Focal loss for 0/1 targets: ECGs that are already right weigh less, so that the rare class counts.

Lin et al. 2017, Focal loss for dense object detection (arXiv:1708.02002), equation 5.
"""

import torch
from torch import nn
from torch.nn import functional


class FocalLoss(nn.Module):
    """Mean over ECGs and their known labels of -alpha_t (1 - p_t)^gamma log(p_t).

    ``p_t`` is the probability that the model gives to the right answer. ``gamma = 0`` without ``alpha`` is
    binary cross-entropy.

    Parameters
    ----------
    gamma : 0 or more; how fast the weight of easy ECGs falls.
    alpha : weight of positives, in 0 to 1 (negatives weigh ``1 - alpha``), or None for no weights.
    """

    def __init__(self, *, gamma: float = 2.0, alpha: float | None = None):
        super().__init__()
        self.gamma = gamma
        self.alpha = alpha

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss, a scalar, of logits and targets of shape (N, C): 0, 1, or nan if unknown.

        It is 0 where no label is known; float32, or float64 where the logits are.
        """
        # Shapes that merely broadcast, such as (N, 1) and (N,), would give a number without a meaning.
        if logits.shape != targets.shape:
            raise ValueError(f"logits have shape {tuple(logits.shape)}, targets {tuple(targets.shape)}")
        if logits.dtype != torch.float64:
            logits = logits.float()  # bfloat16 has too few digits for a sum of small losses
        towards_target = torch.where(targets > 0.5, logits, -logits)
        log_p = functional.logsigmoid(towards_target)
        # In logarithms, because the gradient of (1 - p)^gamma is infinite at p = 1 for gamma below 1.
        log_1_minus_p = functional.logsigmoid(-towards_target)
        loss = -torch.exp(self.gamma * log_1_minus_p) * log_p
        if self.alpha is not None:
            loss = loss * torch.where(targets > 0.5, self.alpha, 1 - self.alpha)
        known = ~torch.isnan(targets)
        return torch.where(known, loss, 0.0).sum() / known.sum().clamp_min(1)
