"""Contrastive multi-segment coding: two halves of an ECG are views of one patient; their embeddings agree.

Kiyasseh et al. 2021, CLOCS: contrastive learning of cardiac signals across space, time, and patients
(arXiv:2005.13249), with the temperature-scaled cross-entropy of SimCLR (Chen et al. 2020, arXiv:2002.05709).
No label is needed: a class is a patient.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from models.contrastive_resnet18 import two_halves

BLOCK = 4096  # embeddings that are compared with all others at once


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

        Parameters
        ----------
        embeddings : (N, 2, D), one per half of each ECG, of any length.
        patients : (N, 1), the number of each ECG's patient.
        """
        if embeddings.dim() != 3 or patients.shape != (len(embeddings), 1):
            raise ValueError(
                f"embeddings have shape {tuple(embeddings.shape)}, patients {tuple(patients.shape)}"
            )
        views, patient_of = _views(embeddings.float(), patients[:, 0])
        losses = [self._losses(views, patient_of, block) for block in _blocks(views)]
        return torch.cat(losses).mean()

    def _losses(self, views: torch.Tensor, patient_of: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
        """Return the losses of some views against all."""
        logits = views[block] @ views.T / self.temperature  # (n_block, 2N)
        same = patient_of[block, None] == patient_of
        negatives = logits.masked_fill(same, -torch.inf).logsumexp(dim=1, keepdim=True)
        # -log(exp(p) / (exp(p) + sum of exp(n))) = log(1 + exp(log sum of exp(n) - p))
        losses = functional.softplus(negatives - logits)
        positive = same & (block[:, None] != torch.arange(len(views), device=views.device))
        return torch.where(positive, losses, 0.0).sum(dim=1) / positive.sum(dim=1)


def retrieval(patients: np.ndarray, embeddings: np.ndarray) -> float:
    """Return the share of halves to which no half of another patient is as near as the other half of the ECG.

    Nearness is the cosine; other ECGs of the same patient are left out. ``chance_of_retrieval`` is what
    embeddings without meaning would reach; embeddings that are all the same reach 0.

    Parameters
    ----------
    patients : (n_ecgs, 1), the number of each ECG's patient.
    embeddings : (n_ecgs, 2, D).
    """
    views, patient_of = _views(torch.from_numpy(embeddings), torch.from_numpy(patients)[:, 0])
    found = 0
    for block in _blocks(views):
        cosines = views[block] @ views.T
        others = cosines.masked_fill(patient_of[block, None] == patient_of, -torch.inf)
        own = cosines.gather(1, (block ^ 1)[:, None])  # the views 2i and 2i + 1 belong to one ECG
        found += int((own > others.amax(dim=1, keepdim=True)).sum())
    return found / len(views)


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
    patients : (n_ecgs, 1), those of the validation ECGs, all of which are compared with one another.
    """
    training = np.mean([chance_of_loss(np.arange(size)) for size in batch_sizes])
    print(
        f"chance      loss {training:.2f} in training batches, {chance_of_loss(patients):.2f} in validation, "
        f"which compares all its ECGs; retrieval {chance_of_retrieval(patients):.4f}"
    )


def _n_others(patients: np.ndarray) -> np.ndarray:
    """Return for each ECG the number of halves of other patients."""
    _, patient_of, counts = np.unique(patients, return_inverse=True, return_counts=True)
    return 2 * (len(patients) - counts[patient_of.reshape(-1)])


def _views(embeddings: torch.Tensor, patients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the embeddings, (2N, D) of length 1, and the patient of each."""
    return functional.normalize(embeddings, dim=2).flatten(0, 1), patients.repeat_interleave(2)


def _blocks(views: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.arange(len(views), device=views.device).split(BLOCK)
