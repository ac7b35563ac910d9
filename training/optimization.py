"""How weights change: the learning rate, and the moving average of the weights that is kept."""

import copy
import math
from collections.abc import Collection
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler


def adamw(
    model: nn.Module,
    *,
    pretrained: Collection[str],
    learning_rate: float,
    weight_decay: float,
    pretrained_rate: float,
) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), fused into few kernels.

    Parameters
    ----------
    pretrained : names of the parameters that came from another run.
    pretrained_rate : their share of the learning rate.
    """
    named = list(model.named_parameters())
    new = [parameter for name, parameter in named if name not in pretrained]
    loaded = [parameter for name, parameter in named if name in pretrained]
    groups = [{"params": new}]
    if loaded:
        groups.append({"params": loaded, "lr": pretrained_rate * learning_rate})
    return torch.optim.AdamW(groups, learning_rate, weight_decay=weight_decay, fused=True)


def length_of_training(steps_per_epoch: int, *, epochs: int, min_steps: int) -> int:
    """Return the number of epochs: as many as are asked for, and more where these make too few steps.

    What a model learns in its last epochs depends on how many steps it makes rather than on how often it has
    seen each ECG; with few ECGs, few epochs leave it where it was (Mosbach et al. 2021, arXiv:2006.04884).
    """
    needed = math.ceil(min_steps / steps_per_epoch)
    if needed > epochs:
        print(f"epochs      {needed} instead of {epochs}, so that at least {min_steps} steps are made")
    return max(epochs, needed)


def learning_rate_schedule(
    optimizer: torch.optim.Optimizer,
    *,
    schedule: str,
    warmup_epochs: float,
    step_epochs: int,
    milestones: list[int],
    decay: float,
    epochs: int,
    steps_per_epoch: int,
) -> lr_scheduler.LRScheduler:
    """Return a schedule that is stepped after each batch; the optimizer's learning rates are its highest.

    Parameters
    ----------
    schedule : "constant"; "step" (times ``decay`` every ``step_epochs``); "milestones" (times ``decay``
        after each of them); "cosine" (a linear rise over ``warmup_epochs``, then half a cosine down to 0);
        "one_cycle" (Smith and Topin 2017, arXiv:1708.07120: a rise over 30 % of all steps, then down to
        almost 0).
    """
    n_steps = epochs * steps_per_epoch
    if schedule == "one_cycle":
        highest = [group["lr"] for group in optimizer.param_groups]
        return lr_scheduler.OneCycleLR(optimizer, highest, total_steps=n_steps + 1)
    if schedule == "step":
        return lr_scheduler.StepLR(optimizer, step_epochs * steps_per_epoch, decay)
    if schedule == "milestones":
        return lr_scheduler.MultiStepLR(optimizer, [epoch * steps_per_epoch for epoch in milestones], decay)
    if schedule == "cosine":
        n_warmup = min(round(warmup_epochs * steps_per_epoch), n_steps - 1)

        def factor(step: int) -> float:
            if step < n_warmup:
                return (step + 1) / (n_warmup + 1)
            return 0.5 + 0.5 * math.cos(math.pi * (step - n_warmup) / (n_steps - n_warmup))

        return lr_scheduler.LambdaLR(optimizer, factor)
    return lr_scheduler.ConstantLR(optimizer, factor=1.0)


class WeightAverage:
    """A copy of a model whose weights follow the mean of roughly the last 1 / (1 - decay) steps.

    On a small cohort the weights of one step fit its last batches; their exponential moving average scores
    unseen ECGs better, and less erratically from epoch to epoch (Polyak and Juditsky 1992). The first steps
    are forgotten sooner, with a decay of (1 + n) / (10 + n) after n steps. With decay 0 the copy is the
    model itself. Nothing here waits for the device.

    Attributes
    ----------
    model : the copy.
    """

    def __init__(self, model: nn.Module, *, decay: float):
        self.model = copy.deepcopy(model)
        self.decay = decay
        self.n_steps = 0
        pairs = list(zip(self.model.state_dict().values(), model.state_dict().values(), strict=True))
        self._weights = [pair for pair in pairs if pair[0].is_floating_point()]
        counters = [pair for pair in pairs if not pair[0].is_floating_point()]  # of the batch norms
        self._counters = [[pair[side] for pair in counters] for side in (0, 1)]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights of one more step; batch norm's statistics are averaged like them."""
        weight = 1 - min(self.decay, (1 + self.n_steps) / (10 + self.n_steps)) if self.n_steps else 1.0
        torch._foreach_lerp_([average for average, _ in self._weights], [w for _, w in self._weights], weight)
        if self._counters[0]:
            torch._foreach_copy_(*self._counters)
        self.n_steps += 1

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "n_steps": self.n_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.n_steps = state["n_steps"]
