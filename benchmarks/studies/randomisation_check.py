"""Would a model that learned nothing be explained alike? Then the explanation is not due to training.

check = randomisation_check(model, signal, label=0, normalisation="recording")   # as `explain` takes them
check.passed
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn

from explanations.attribution import integrated_gradients, model_input

MAX_AGREEMENT = 0.5  # our choice: three trained models had -0.08 to 0.07 with their random copies


@dataclass(frozen=True, eq=False)
class RandomisationCheck:
    """How much explanations by copies with random weights agree with the model's explanation of an ECG.

    The method is that of Adebayo et al. 2018, arXiv:1810.03292.

    Attributes
    ----------
    attributions : ndarray of shape (n_copies,)
        Spearman's rank correlation of the absolute attributions. It is far above 0 for any weights, because
        an attribution is a mean gradient times the distance from the baseline: high waves rank high.
    gradients : ndarray of shape (n_copies,)
        The same for only the mean gradients; about 0 where the explanation is due to training.
    """

    attributions: np.ndarray
    gradients: np.ndarray

    @property
    def passed(self) -> bool:
        """Whether the mean gradients of no copy rank the samples as the model does."""
        return bool((self.gradients < MAX_AGREEMENT).all())


def randomisation_check(
    model: nn.Module, signal: np.ndarray, *, label: int, normalisation: str, n_copies: int = 3
) -> RandomisationCheck:
    """Compare the attributions of a model with those of copies that have random weights.

    Parameters
    ----------
    model, signal, label, normalisation : as in `explain`
    n_copies : each with its own weights, drawn from the seeds 0, 1, …
    """
    x, baseline = model_input(model, signal, normalisation)
    models = [model, *(randomised(model, seed) for seed in range(n_copies))]
    maps = [np.abs(integrated_gradients(one, x, baseline, label=label)[0]) for one in models]
    distance = (x - baseline).abs().cpu().numpy()
    off_baseline = distance > 0
    gradients = [one[off_baseline] / distance[off_baseline] for one in maps]
    return RandomisationCheck(
        attributions=np.array([_rank_correlation(maps[0], other) for other in maps[1:]]),
        gradients=np.array([_rank_correlation(gradients[0], other) for other in gradients[1:]]),
    )


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(spearmanr(first.ravel(), second.ravel()).statistic)


def randomised(model: nn.Module, seed: int) -> nn.Module:
    """Return a copy of the model with the weights of a new one, each layer drawn as at first.

    Raises
    ------
    ValueError
        A layer has weights but no method that draws them.
    """
    fresh = copy.deepcopy(model).eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for name, module in fresh.named_modules():
            draw = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if draw is not None:
                draw()
            elif next(module.parameters(recurse=False), None) is not None:
                found = f"{name or 'the model'}: found weights of a {type(module).__name__}"
                raise ValueError(f"{found} without reset_parameters(), expected a layer that draws its own")
    return fresh
