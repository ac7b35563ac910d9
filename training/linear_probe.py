"""Begin a training that has loaded weights with the best head for what these weights already see.

A new head's first gradients are large and of chance, and change the loaded weights before there is anything
to gain. So the head is fitted first, as a logistic regression, and everything is tuned from there, gently
("LP-FT"; Kumar et al., Fine-tuning can distort pretrained features, ICLR 2022, arXiv:2202.10054).

Where the loaded weights have answered questions, such as "a right bundle branch block?" or "how high is R' in
V1?", a few of their answers may say most of what the new label needs. They are weighed first, by a lasso
(Tibshirani 1996), which leaves most of them out; the features then correct what these few do not know.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import nn

from dataset.batches import TrainingBatches
from inference.scoring import forward
from models.head import Head
from run_folder.run import Run
from runtime import processes
from runtime.precision import training_type
from training.transfer import Pretrained

# Variance, before any ECG is seen, of a weight of what the network sees (of which there are some hundreds),
# of one that corrects answers, and of a clinical value; of inputs of deviation 1.
PRIOR_OF_FEATURE = 1 / 512
PRIOR_OF_CORRECTION = 1 / 2048
PRIOR_OF_CLINICAL = 1.0
RATE_OF_ANSWER = 5.0  # of the Laplace prior of its weight; of answers of deviation 1
NAMED = 3  # answers that are printed: those with the largest weights
LEAST_DEVIATION = 1e-6  # of an input: below, it is constant, and its weight 0
MOST_ECGS = 50_000  # more of them than inputs by far, and what they are given takes 0.2 GB
FIRST_EPOCH = 1  # whose crops and augmentation the head is fitted on


def fit_head(
    model: nn.Module,
    training: TrainingBatches,
    loss: nn.Module,
    *,
    pretrained: Pretrained,
    precision: str,
    run: Run,
) -> frozenset[str]:
    """Fit the head to the training ECGs, with the rest of the model as it is, and print the loss.

    Minimises the loss of the known labels plus the negative logarithm of the weights' prior, over one epoch's
    crops, augmented as in training, of `MOST_ECGS` at most: that of the answers' weights, a Laplace prior, by
    L-BFGS-B (Byrd et al. 1995), that of the others, a normal prior, by L-BFGS (Liu and Nocedal 1989).

    Parameters
    ----------
    model : with ``head``, a `models.head.Head`.
    loss : of logits and targets, (N, n_labels) each, a mean over the known labels.
    pretrained : what was loaded; where nothing was, nothing happens.
    precision : see `runtime.precision.training_type`.
    run : one that has a checkpoint goes on from there, and needs no head.

    Returns
    -------
    names of the parameters that are no longer new: those that were loaded, and the head's.
    """
    if not pretrained.names:
        return frozenset()
    if not run.checkpoints():
        inputs, targets = _inputs_of_head(model, training, precision)
        _solve(model.head, loss, inputs, targets, pretrained)
    return pretrained.names | {f"head.{name}" for name, _ in model.head.named_parameters()}


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


class _Standard(NamedTuple):
    """Values, (n_ecgs, n), of mean 0 and deviation 1, or 0 where they are constant; and what was divided."""

    values: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor

    @classmethod
    def of(cls, values: torch.Tensor) -> "_Standard":
        mean, deviation = values.mean(0), values.std(0, correction=0)
        scale = torch.where(deviation > LEAST_DEVIATION, 1 / deviation, 0.0)
        return cls((values - mean) * scale, mean, scale)


def _solve(
    head: Head, loss: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, pretrained: Pretrained
) -> None:
    """Give the head its best weights, and print the loss with the best bias alone, and with them."""
    n_known = int((~torch.isnan(targets)).sum())
    begun, words = torch.zeros(head.weight.shape, dtype=torch.float64), ""
    if pretrained.answers is not None:
        begun, words = _from_answers(inputs, loss, targets, pretrained)
    prior = torch.full((head.in_features,), PRIOR_OF_CORRECTION if words else PRIOR_OF_FEATURE).double()
    prior[head.in_features - 2 * head.n_clinical :] = PRIOR_OF_CLINICAL
    standard = _Standard.of(inputs)
    given = (inputs - standard.mean) @ begun.T
    # In this scale the prior of every weight has variance 1, which L-BFGS solves in the fewest steps
    scale = prior.sqrt()
    scaled = standard.values * scale
    weight = torch.zeros_like(begun, requires_grad=True)
    bias = torch.zeros(head.out_features, dtype=torch.float64, requires_grad=True)

    def fitted() -> torch.Tensor:
        return loss(given + scaled @ weight.T + bias, targets)

    _minimise(lambda: loss(bias.expand_as(targets), targets), [bias])
    alone = loss(bias.expand_as(targets), targets).item()
    _minimise(lambda: fitted() + weight.square().sum() / (2 * n_known), [bias, weight])
    with torch.no_grad():
        whole = begun + weight * scale * standard.scale
        head.weight.copy_(whole)
        head.bias.copy_(bias - whole @ standard.mean)
    print(f"head        fitted: loss {alone:.4f} with no weights{words}, {fitted().item():.4f} with all")


def _from_answers(
    inputs: torch.Tensor, loss: nn.Module, targets: torch.Tensor, pretrained: Pretrained
) -> tuple[torch.Tensor, str]:
    """Return weights of the inputs that make the best of the answers, and what to print of them."""
    rows = torch.zeros(len(pretrained.answers), inputs.shape[1], dtype=torch.float64)
    rows[:, : pretrained.answers.shape[1]] = pretrained.answers  # clinical values answer nothing
    answers = _Standard.of(inputs @ rows.T)
    chosen, fitted = _weigh(answers.values, loss, targets)
    return (chosen * answers.scale) @ rows, f", {fitted:.4f} with {_named(chosen, pretrained.questions)}"


def _weigh(answers: torch.Tensor, loss: nn.Module, targets: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return the weights of answers of deviation 1, (n_labels, n_answers), most of them 0, and the loss.

    A weight is the difference of two numbers that are not negative, which makes its absolute value smooth.
    """
    n_labels, n_answers = targets.shape[1], answers.shape[1]
    n_known = int((~torch.isnan(targets)).sum())

    def parts(flat: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(flat).view(n_labels, 2 * n_answers + 1)

    def fitted(of: torch.Tensor) -> torch.Tensor:
        weight = of[:, :n_answers] - of[:, n_answers : 2 * n_answers]
        return loss(answers @ weight.T + of[:, -1], targets)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        of = parts(flat).requires_grad_()
        value = fitted(of) + RATE_OF_ANSWER * of[:, :-1].sum() / n_known
        value.backward()
        return value.item(), of.grad.numpy().ravel()

    bounds = [*[(0, None)] * (2 * n_answers), (None, None)] * n_labels
    limits = {"maxiter": 2000, "maxfun": 5000, "ftol": 1e-12, "gtol": 1e-8}
    best = minimize(
        objective, np.zeros(len(bounds)), jac=True, method="L-BFGS-B", bounds=bounds, options=limits
    )
    of = parts(best.x)
    return of[:, :n_answers] - of[:, n_answers:-1], fitted(of).item()


def _named(chosen: torch.Tensor, questions: tuple[str, ...]) -> str:
    """Return text such as "5 of 145 answers (IRBBB, r_prime_in_v1_mv, RVH …)"."""
    sizes = chosen.abs().amax(0)
    n_chosen = int((sizes > 0).sum())
    first = [questions[index] for index in sizes.argsort(descending=True)[: min(NAMED, n_chosen)]]
    more = " …" if n_chosen > len(first) else ""
    return f"{n_chosen} of {len(questions)} answers" + (f" ({', '.join(first)}{more})" if first else "")


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
