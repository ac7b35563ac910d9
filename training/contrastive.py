"""Contrastive multi-segment coding: two halves of an ECG are views of one patient; their embeddings agree.

Kiyasseh et al. 2021, CLOCS: contrastive learning of cardiac signals across space, time, and patients
(arXiv:2005.13249), with the temperature-scaled cross-entropy of SimCLR (Chen et al. 2020, arXiv:2002.05709).
No label is needed: a class is a patient.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from models.contrastive_resnet18 import two_halves

GROUP = 2048  # validation ECGs that are compared with one another: all with all would take hours of 100,000


class AugmentedHalves:
    """Augment the halves of each ECG independently: noise that both had would show that they belong together.

    Parameters
    ----------
    augment : changes a batch of signals, such as ``data_augmentation.Augmentation``.
    """

    def __init__(self, augment: Callable[[torch.Tensor, torch.Generator], torch.Tensor]):
        self.augment = augment

    def __call__(self, signal: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return the augmented batch, (N, n_leads, T), which stays as it is."""
        n, n_leads, n_samples = signal.shape
        halves = self.augment(two_halves(signal), generator)
        joined = halves.reshape(n, 2, n_leads, -1).transpose(1, 2).reshape(n, n_leads, -1)
        return torch.cat([joined, signal[:, :, joined.shape[2] : n_samples]], dim=2)


class ContrastiveLoss(nn.Module):
    """Mean over all views of -log(exp(s_p / t) / (exp(s_p / t) + sum over n of exp(s_n / t))).

    ``s`` is the cosine of two embeddings. ``p`` is another view of the same patient, over all of which the
    mean is taken first; ``n`` goes over the views of all other patients. Other ECGs of the same patient are
    therefore never negatives. With one ECG per patient it is the loss of SimCLR.

    Parameters
    ----------
    temperature : t, above 0.
    """

    def __init__(self, *, temperature: float):
        super().__init__()
        self.temperature = temperature

    def forward(self, embeddings: torch.Tensor, patients: torch.Tensor) -> torch.Tensor:
        """Return the loss, a float32 scalar; it is 0 where there is only one patient.

        Without a gradient, as in validation, more than `GROUP` ECGs are compared in groups.

        Parameters
        ----------
        embeddings : (N, 2, D), one per half of each ECG, of any length.
        patients : (N, 1), the number of each ECG's patient.
        """
        if embeddings.dim() != 3 or patients.shape != (len(embeddings), 1):
            raise ValueError(
                f"embeddings have shape {tuple(embeddings.shape)}, patients {tuple(patients.shape)}"
            )
        if torch.is_grad_enabled() or len(embeddings) <= GROUP:
            return self._losses(embeddings, patients[:, 0]).mean()
        groups = map(torch.from_numpy, groups_of(patients.cpu().numpy()))
        return torch.cat([self._losses(embeddings[group], patients[group, 0]) for group in groups]).mean()

    def _losses(self, embeddings: torch.Tensor, patients: torch.Tensor) -> torch.Tensor:
        """Return the loss of each view against all others, (2N,)."""
        views, patient_of = _views(embeddings.float(), patients)
        logits = views @ views.T / self.temperature  # (2N, 2N)
        same = patient_of[:, None] == patient_of
        negatives = logits.masked_fill(same, -torch.inf).logsumexp(dim=1, keepdim=True)
        # -log(exp(p) / (exp(p) + sum of exp(n))) = log(1 + exp(log sum of exp(n) - p))
        losses = functional.softplus(negatives - logits)
        positive = same & ~torch.eye(len(views), dtype=torch.bool, device=views.device)
        return torch.where(positive, losses, 0.0).sum(dim=1) / positive.sum(dim=1)


def retrieval(patients: np.ndarray, embeddings: np.ndarray) -> float:
    """Return the share of halves to which no half of another patient is as near as the other half of the ECG.

    Nearness is the cosine; other ECGs of the same patient are left out. More than `GROUP` ECGs are compared
    in groups. ``chance_of_retrieval`` is what embeddings without meaning would reach; embeddings that are all
    the same reach 0.

    Parameters
    ----------
    patients : (n_ecgs, 1), the number of each ECG's patient.
    embeddings : (n_ecgs, 2, D).
    """
    found = [_retrieved(patients[group, 0], embeddings[group]) for group in groups_of(patients)]
    return float(np.concatenate(found).mean())


def _retrieved(patients: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    """Return whether each view is nearest to its ECG's other one, (2N,) of booleans."""
    views, patient_of = _views(torch.from_numpy(embeddings), torch.from_numpy(patients))
    cosines = views @ views.T
    others = cosines.masked_fill(patient_of[:, None] == patient_of, -torch.inf)
    other_half = torch.arange(len(views)) ^ 1  # the views 2i and 2i + 1 belong to one ECG
    own = cosines.gather(1, other_half[:, None])
    return (own > others.amax(dim=1, keepdim=True))[:, 0].numpy()


def groups_of(patients: np.ndarray) -> list[np.ndarray]:
    """Return the indices of validation ECGs in groups of at most `GROUP`, whose sizes differ by at most one.

    The time of a comparison then grows as the number of ECGs. Patients come in an order that a fixed seed
    draws, so that groups are alike, and each patient's ECGs stay together except where a group ends.

    Parameters
    ----------
    patients : (n_ecgs, 1), the number of each ECG's patient.
    """
    n_ecgs = len(patients)
    if n_ecgs <= GROUP:
        return [np.arange(n_ecgs)]
    names, patient_of = np.unique(patients, return_inverse=True)
    places = np.random.default_rng(0).permutation(len(names))[patient_of.reshape(-1)]
    return np.array_split(np.argsort(places, kind="stable"), -(-n_ecgs // GROUP))


def chance_of_retrieval(patients: np.ndarray) -> float:
    """Return the expected ``retrieval`` where any half may be the nearest: mean of 1 / (1 + others)."""
    return float(np.mean(1 / (1 + _n_others(patients))))


def chance_of_loss(patients: np.ndarray) -> float:
    """Return the loss of embeddings that are all the same: mean of log(1 + others)."""
    return float(np.mean(np.log1p(_n_others(patients))))


def announce_chance(batch_sizes: Sequence[int], patients: np.ndarray) -> None:
    """Print what embeddings without meaning would reach.

    Parameters
    ----------
    batch_sizes : ECGs of each training step and process, taken to be of different patients.
    patients : (n_ecgs, 1), those of the validation ECGs.
    """
    training = np.mean([math.log1p(2 * (size - 1)) for size in batch_sizes])
    how = "all its ECGs" if len(patients) <= GROUP else f"its ECGs in groups of at most {GROUP:,}"
    print(
        f"chance      loss {training:.2f} in training batches, {chance_of_loss(patients):.2f} in validation, "
        f"which compares {how}; retrieval {chance_of_retrieval(patients):.4f}"
    )


def _n_others(patients: np.ndarray) -> np.ndarray:
    """Return for each ECG of each group the number of halves of other patients."""
    n_others = []
    for group in groups_of(patients):
        _, patient_of, counts = np.unique(patients[group], return_inverse=True, return_counts=True)
        n_others.append(2 * (len(group) - counts[patient_of.reshape(-1)]))
    return np.concatenate(n_others)


def _views(embeddings: torch.Tensor, patients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the embeddings, (2N, D) of length 1, and the patient of each."""
    return functional.normalize(embeddings, dim=2).flatten(0, 1), patients.repeat_interleave(2)
