"""What the first layers of a model see of ECGs: mean and standard deviation over time of each channel.

``likeness`` compares them with those of the training ECGs.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from runtime import processes

SHARE_OF_NORMS = 4  # the first 1 / 4 of the batch norms are looked at


class ChannelStatistics:
    """What the first layers of models see, recorded while these score ECGs as usual.

    with ChannelStatistics(model) as statistics:
        logits = predict_logits(model, batches)
    (features,) = statistics.take()
    """

    def __init__(self, *models: nn.Module):
        self._norms = [_first_norms(model) for model in models]
        self._rows: list[list[list[torch.Tensor]]] = [[[] for _ in norms] for norms in self._norms]
        self._hooks: list[Any] = []

    def __enter__(self) -> "ChannelStatistics":
        for norms, model_rows in zip(self._norms, self._rows, strict=True):
            for norm, rows in zip(norms, model_rows, strict=True):
                hook = norm.register_forward_hook(
                    lambda _, __, output, rows=rows: rows.append(_moments(output))
                )
                self._hooks.append(hook)
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def take(self) -> list[np.ndarray]:
        """Return each model's features of the ECGs since the last call, float32 (n_ecgs, n_features).

        A model without batch norms has no features. Where several processes each scored a share of the ECGs,
        all must call, and all get the features of all.
        """
        taken = [processes.gather(share).numpy() for share in self.tensors()]
        for model_rows in self._rows:
            for rows in model_rows:
                rows.clear()
        return taken

    def tensors(self) -> list[torch.Tensor]:
        """Return the same of this process's ECGs, where they are."""
        of_norms = [[torch.cat(rows) for rows in model_rows if rows] for model_rows in self._rows]
        return [torch.cat(columns, dim=1) if columns else torch.empty(0, 0) for columns in of_norms]


def _first_norms(model: nn.Module) -> list[nn.Module]:
    """Return the first quarter of the batch norms, in the order in which the model defines them."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    return norms[: max(1, len(norms) // SHARE_OF_NORMS)]


def _moments(output: torch.Tensor) -> torch.Tensor:
    """Return mean and standard deviation of each channel: (N, C, ...) -> (N, 2 C)."""
    output = output.detach().float().unsqueeze(-1)  # without positions, one
    axes = tuple(range(2, output.dim()))
    mean = output.mean(axes, keepdim=True)
    # Two passes are twice as fast as torch.std where channels come last.
    deviation = torch.linalg.vector_norm(output - mean, dim=axes) / output[0, 0].numel() ** 0.5
    return torch.cat([mean.flatten(1), deviation], dim=1)
