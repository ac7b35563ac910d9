"""Begin a training that has loaded weights with the best head for what these weights already see.

A new head's first gradients are large and of chance, and change the loaded weights before there is anything
to gain. So the head is fitted first, as a logistic regression, and everything is tuned from there, gently
("LP-FT"; Kumar et al., Fine-tuning can distort pretrained features, ICLR 2022, arXiv:2202.10054).
"""

from collections.abc import Callable, Collection

import torch
from torch import nn

from dataset.batches import TrainingBatches
from inference.scoring import forward
from models.head import Head
from run_folder.run import Run
from runtime import processes
from runtime.precision import training_type

# Variance, before any ECG is seen, of a weight of what the network sees (of which there are some hundreds),
# and of a clinical value; of inputs of deviation 1.
PRIOR_OF_FEATURE = 1 / 512
PRIOR_OF_CLINICAL = 1.0
LEAST_DEVIATION = 1e-6  # of an input: below, it is constant, and its weight 0
MOST_ECGS = 50_000  # more of them than inputs by far, and what they are given takes 0.2 GB
FIRST_EPOCH = 1  # whose crops and augmentation the head is fitted on


def fit_head(
    model: nn.Module,
    training: TrainingBatches,
    loss: nn.Module,
    *,
    pretrained: Collection[str],
    precision: str,
    run: Run,
) -> frozenset[str]:
    """Fit the head to the training ECGs, with the rest of the model as it is, and print the loss.

    Minimises the loss of the known labels plus the negative logarithm of a normal prior of the weights, by
    L-BFGS (Liu and Nocedal 1989), over one epoch's crops, augmented as in training, of `MOST_ECGS` at most.

    Parameters
    ----------
    model : with ``head``, a `models.head.Head`.
    loss : of logits and targets, (N, n_labels) each, a mean over the known labels.
    pretrained : names of the parameters that were loaded; where there are none, nothing happens.
    precision : see `runtime.precision.training_type`.
    run : one that has a checkpoint goes on from there, and needs no head.

    Returns
    -------
    names of the parameters that are no longer new: those that were loaded, and the head's.
    """
    if not pretrained:
        return frozenset()
    if not run.checkpoints():
        inputs, targets = _inputs_of_head(model, training, precision)
        start, end = _solve(model.head, loss, inputs, targets)
        print(f"head        fitted to what is loaded: loss {start:.4f} with no weights, {end:.4f} with them")
    return frozenset(pretrained) | {f"head.{name}" for name, _ in model.head.named_parameters()}


@torch.inference_mode()
def _inputs_of_head(
    model: nn.Module, training: TrainingBatches, precision: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the head is given of training ECGs of all processes, float64, and the targets."""
    model.eval()
    seen: list[torch.Tensor] = []

    def keep(head: Head, given: tuple[torch.Tensor, ...]) -> None:
        seen.append(head.joined(*given).double())

    hook = model.head.register_forward_pre_hook(keep)
    compute_type = training_type(precision, next(model.parameters()).device)
    targets = []
    try:
        for inputs, known, _ in training.epoch(FIRST_EPOCH):
            forward(model, inputs, compute_type)
            targets.append(known)
            if sum(map(len, targets)) * processes.count() >= MOST_ECGS:
                break
    finally:
        hook.remove()
    return processes.gather(torch.cat(seen)), processes.gather(torch.cat(targets))


def _solve(head: Head, loss: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> tuple[float, float]:
    """Give the head its best weights; return the loss with the best bias alone, and with them."""
    mean, deviation = inputs.mean(0), inputs.std(0, correction=0)
    prior = torch.full_like(mean, PRIOR_OF_FEATURE)
    prior[head.in_features - 2 * head.n_clinical :] = PRIOR_OF_CLINICAL
    # In this scale the prior of every weight has variance 1, which L-BFGS solves in the fewest steps
    scale = torch.where(deviation > LEAST_DEVIATION, prior.sqrt() / deviation, 0.0)
    standard = (inputs - mean) * scale
    n_known = int((~torch.isnan(targets)).sum())
    weight = torch.zeros(head.out_features, head.in_features, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(head.out_features, dtype=torch.float64, requires_grad=True)

    def fitted() -> torch.Tensor:
        return loss(standard @ weight.T + bias, targets)

    def objective() -> torch.Tensor:
        return fitted() + weight.square().sum() / (2 * n_known)

    losses = []
    for parameters in ([bias], [bias, weight]):
        _minimise(objective, parameters)
        losses.append(fitted().item())
    with torch.no_grad():
        head.weight.copy_(weight * scale)
        head.bias.copy_(bias - (weight * scale) @ mean)
    return losses[0], losses[1]


def _minimise(objective: Callable[[], torch.Tensor], parameters: list[torch.Tensor]) -> None:
    """Change the parameters to where a smooth function of them is least."""
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=500,
        tolerance_grad=1e-8,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = objective()
        value.backward()
        return value

    optimizer.step(closure)
