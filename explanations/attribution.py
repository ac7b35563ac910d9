"""What a model looked at in an ECG: integrated gradients, occlusion, attention.

    explanation = explain(model, signal, label=0, normalisation="recording")   # (12, T) in mV at 500 Hz

All numbers are in logits, for one ECG and one label: above 0 speaks for the label, below 0 against it. They
show what the model uses, not what the disease does: a model that reads the rate, or the hospital's filter, is
explained as faithfully as one that reads the waves. An attribution that a model with random weights gives
just as well explains nothing; `docs/explanations.md` has the numbers.

Integrated gradients need the package captum (BSD, `pip install captum`); the rest does not.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from dataset.batches import normalise
from ecg.beats import AFTER, BEFORE
from ecg.recording import LEADS
from ecg.waves import SEGMENTS, Waves, find_waves
from models.resnet18 import ResNet18

FIRST_STEPS, MAX_STEPS = 32, 1024  # of the integral; doubled until it is complete
TOLERANCE = 0.05  # share of the difference in logit that the attributions may miss
NEGLIGIBLE = 0.01  # logits; a smaller gap counts as 0, however small the difference
BATCH_SIZE = 16  # ECGs at once
INDISTINCT = "P, QRS, ST and T cannot be told apart"
NO_BEATS = f"no beats of one shape were found: {INDISTINCT}"


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a model looked at in one ECG, for one label. All in logits, unless said otherwise.

    Attributes
    ----------
    logit, baseline_logit : of the ECG, and of the baseline: every lead a flat line at its median
    attribution : float32 ndarray of shape (12, T), what each sample adds to the logit
    completeness_gap : sum of the attributions minus (logit - baseline_logit); 0 if the integral were exact
    n_steps : of the integral
    lead_occlusion : ndarray of shape (12,), how much the logit falls when a lead is made flat
    segment_occlusion : ndarray of shape (4,), the same for each of `SEGMENTS` in all leads and beats at once.
        Both are None without occlusion.
    waves : where the segments are; it and `segment_occlusion` are None where no beats were found
    attention : ndarray of shape (T,), how much the model attends to a sample; 1 if to all alike. None where
        it has no attention. It is not part of the logit and has no sign.
    warnings : str each, what a reader must know
    """

    logit: float
    baseline_logit: float
    attribution: np.ndarray
    completeness_gap: float
    n_steps: int
    lead_occlusion: np.ndarray | None
    segment_occlusion: np.ndarray | None
    waves: Waves | None
    attention: np.ndarray | None
    warnings: tuple[str, ...]


def explain(
    model: nn.Module,
    signal: np.ndarray,
    *,
    label: int,
    normalisation: str,
    occlusion: bool = True,
    tolerance: float = TOLERANCE,
    max_steps: int = MAX_STEPS,
) -> Explanation:
    """Explain one logit of one ECG; a 1D ResNet-18 takes a few seconds on two CPU cores.

    The baseline of the integral, and what a lead is replaced by, is a flat line at the lead's median: the
    isoelectric line, in which most samples of an ECG lie, so that waves are explained against no waves. Zero
    would be the mean of all leads after normalisation, which QRS and T pull off that line, and a lead's
    offset would count as a sign. A segment is replaced by the straight line between its ends.

    Parameters
    ----------
    model : (N, 12, T), normalised -> logits (N, n_labels); put into evaluation mode
    signal : ndarray of shape (12, T), in mV at 500 Hz, finite, as the model is to see it, not yet normalised
    label : number of the logit
    normalisation : as in `batches.normalise`; a run's `model.json` names it
    occlusion : whether to occlude leads and segments too
    tolerance, max_steps : steps are doubled until the attributions add up to the difference in logit, to
        within this share; if they never do, the explanation carries a warning.

    Returns
    -------
    Explanation
        Its warnings are also given by `warnings.warn`.

    Raises
    ------
    ValueError : a signal or label that the model cannot take.
    ImportError : captum is not installed.
    """
    x, baseline = model_input(model, signal, normalisation)
    attribution, n_steps = integrated_gradients(
        model, x, baseline, label=label, tolerance=tolerance, max_steps=max_steps
    )
    logit, baseline_logit = _logits(model, torch.stack([x, baseline]), label)
    gap = float(attribution.sum(dtype=np.float64)) - (logit - baseline_logit)
    waves = find_waves(signal)
    notes = _warnings(logit - baseline_logit, gap, n_steps, tolerance, waves)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return Explanation(
        logit=float(logit),
        baseline_logit=float(baseline_logit),
        attribution=attribution,
        completeness_gap=float(gap),
        n_steps=n_steps,
        lead_occlusion=lead_occlusion(model, x, baseline, label=label) if occlusion else None,
        segment_occlusion=segment_occlusion(model, x, waves, label=label) if occlusion and waves else None,
        waves=waves,
        attention=attention_of(model, x),
        warnings=notes,
    )


def _warnings(
    difference: float, gap: float, n_steps: int, tolerance: float, waves: Waves | None
) -> tuple[str, ...]:
    notes = []
    if abs(gap) > _allowed_gap(difference, tolerance):
        notes.append(
            f"integrated gradients with {n_steps} steps add up to {difference + gap:.3g} instead of the "
            f"difference in logit, {difference:.3g}: do not trust these attributions"
        )
    if waves is None:
        notes.append(NO_BEATS)
    return tuple(notes)


def model_input(
    model: nn.Module, signal: np.ndarray, normalisation: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Put the model into evaluation mode; return what it sees of a signal, and the baseline for that.

    Parameters
    ----------
    model, signal, normalisation : as in `explain`, which defines the baseline

    Returns
    -------
    x, baseline : float32 tensors of shape (12, T), on the model's device
    """
    signal = np.asarray(signal)
    if signal.ndim != 2 or len(signal) != len(LEADS):
        raise ValueError(f"found a signal of shape {signal.shape}; expected ({len(LEADS)}, n_samples)")
    if not np.isfinite(signal).all():
        raise ValueError("found a value that is not finite; expected finite values in mV")
    model.eval()
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    batch = torch.as_tensor(signal, dtype=torch.float32, device=device)[None]
    try:
        x = normalise(batch, normalisation)[0]
    except KeyError:
        found = f"normalisation: found {normalisation!r}"
        raise ValueError(f"{found}, expected that of the training, such as 'recording'") from None
    return x, x.quantile(0.5, dim=1, keepdim=True).expand_as(x)


# ----------------------------------------------------------------------------------------------------
# Integrated gradients
# ----------------------------------------------------------------------------------------------------


def integrated_gradients(
    model: nn.Module,
    x: torch.Tensor,
    baseline: torch.Tensor,
    *,
    label: int,
    tolerance: float = TOLERANCE,
    max_steps: int = MAX_STEPS,
) -> tuple[np.ndarray, int]:
    """Attribute a logit to the samples of an ECG (Sundararajan et al. 2017, arXiv:1703.01365).

    The gradient is integrated along the straight line from the baseline to the ECG, by Gauss-Legendre
    quadrature. Steps are doubled until the attributions add up to the difference in logit, up to `max_steps`.

    Parameters
    ----------
    x, baseline : tensors of shape (12, T), normalised

    Returns
    -------
    attribution : float32 ndarray of shape (12, T)
    n_steps : int
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError:
        raise ImportError(
            "found no package captum, expected it for integrated gradients: pip install captum"
        ) from None
    method = IntegratedGradients(model)
    logit, baseline_logit = _logits(model, torch.stack([x, baseline]), label)
    difference = logit - baseline_logit
    n_steps = min(FIRST_STEPS, max_steps)
    while True:
        with torch.backends.cudnn.flags(enabled=not _is_recurrent(model)):
            attribution = method.attribute(
                x[None], baseline[None], target=label, n_steps=n_steps, internal_batch_size=BATCH_SIZE
            )[0]
        gap = attribution.double().sum().item() - difference
        if abs(gap) <= _allowed_gap(difference, tolerance) or n_steps >= max_steps:
            return attribution.detach().float().cpu().numpy(), n_steps
        n_steps = min(2 * n_steps, max_steps)


def _is_recurrent(model: nn.Module) -> bool:
    """Return whether a layer is recurrent: in evaluation mode, cuDNN gives no gradient of those."""
    return any(isinstance(module, nn.RNNBase) for module in model.modules())


def _allowed_gap(difference: float, tolerance: float) -> float:
    return max(tolerance * abs(difference), NEGLIGIBLE)


@torch.no_grad()
def _logits(model: nn.Module, batch: torch.Tensor, label: int) -> np.ndarray:
    """Return one label's logits for normalised ECGs, (N, 12, T) -> float64 (N,)."""
    logits = torch.cat([model(part) for part in batch.split(BATCH_SIZE)])
    if not 0 <= label < logits.shape[1]:
        raise ValueError(f"label: found {label}, expected 0 to {logits.shape[1] - 1}, a logit of the model")
    return logits[:, label].double().cpu().numpy()


# ----------------------------------------------------------------------------------------------------
# Occlusion
# ----------------------------------------------------------------------------------------------------


def lead_occlusion(model: nn.Module, x: torch.Tensor, baseline: torch.Tensor, *, label: int) -> np.ndarray:
    """Return by how much the logit falls when one lead is replaced by the baseline, (12,).

    Limb leads follow from each other (III = II - I): a lead that is made flat can still be read from the
    others, and its occlusion may be small although the model needs it.

    Parameters
    ----------
    x, baseline : tensors of shape (12, T), normalised
    """
    one_lead = torch.eye(len(x), dtype=torch.bool, device=x.device)[:, :, None]  # (12, 12, 1)
    logits = _logits(model, torch.cat([x[None], torch.where(one_lead, baseline, x)]), label)
    return logits[0] - logits[1:]


def segment_occlusion(model: nn.Module, x: torch.Tensor, waves: Waves, *, label: int) -> np.ndarray:
    """Return by how much the logit falls when P, QRS, ST or T becomes a straight line in every beat, (4,).

    Parameters
    ----------
    x : tensor of shape (12, T), normalised
    """
    without = torch.stack([straightened(x, waves.slices(segment)) for segment in SEGMENTS])  # (4, 12, T)
    logits = _logits(model, torch.cat([x[None], without]), label)
    return logits[0] - logits[1:]


def straightened(x: torch.Tensor, stretches: Sequence[slice]) -> torch.Tensor:
    """Return the signal, (12, T), with a straight line from the first to the last sample of each stretch."""
    x = x.clone()
    for stretch in stretches:
        first, last = x[:, stretch.start, None], x[:, stretch.stop - 1, None]
        n_samples = stretch.stop - stretch.start
        x[:, stretch] = first + (last - first) * torch.linspace(0, 1, n_samples, device=x.device)
    return x


# ----------------------------------------------------------------------------------------------------
# Attention
# ----------------------------------------------------------------------------------------------------


def attention_of(model: nn.Module, x: torch.Tensor) -> np.ndarray | None:
    """Return how much a model attends to each sample, or None where it has no attention.

    The weights of the layers are multiplied, each averaged over its heads and, for the path around it, with
    the identity (attention rollout, Abnar and Zuidema 2020, arXiv:2005.00928); then averaged over the
    positions that attend, as the models average them. Between positions, samples are interpolated. A position
    also holds what the trunk saw around it, hundreds of milliseconds: the curve is coarse.

    Parameters
    ----------
    model : with `nn.MultiheadAttention` over the positions of a `models.resnet18.ResNet18`
    x : tensor of shape (12, T), normalised

    Returns
    -------
    ndarray of shape (T,)
        1 where a sample is attended to like the mean of all.
    """
    trunk = next((module for module in model.modules() if isinstance(module, ResNet18)), None)
    layers = [module for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
    if trunk is None or not layers:
        return None
    weights, shapes = _watched(model, x, layers, trunk)
    rollout = torch.eye(weights[0].shape[0], dtype=torch.float64)
    for layer in weights:
        rollout = 0.5 * (layer + torch.eye(len(layer), dtype=torch.float64)) @ rollout
    attended = rollout.mean(dim=0).reshape(shapes[0]).sum(dim=0).numpy()  # (H', W') -> (W',)
    n_samples, n_positions = x.shape[1], len(attended)
    middles = trunk.first_middle + trunk.samples_per_position * np.arange(n_positions)
    upsampled = np.interp(np.arange(n_samples), middles, attended)
    return upsampled / upsampled.mean()


@torch.no_grad()
def _watched(
    model: nn.Module, x: torch.Tensor, layers: Sequence[nn.MultiheadAttention], trunk: ResNet18
) -> tuple[list[torch.Tensor], list[tuple[int, int]]]:
    """Return the weights of each layer, (L, L), and the height and width of the trunk's positions."""
    weights, shapes = [], []

    def watch_attention(layer, arguments, keywords, _output):
        keywords = {**keywords, "need_weights": True, "average_attn_weights": True}
        weights.append(layer.forward(*arguments, **keywords)[1][0].double().cpu())  # `forward` calls no hook

    def watch_trunk(_stages, _arguments, output):
        shapes.append(tuple(output.shape[2:]))

    hooks = [layer.register_forward_hook(watch_attention, with_kwargs=True) for layer in layers]
    hooks.append(trunk.stages.register_forward_hook(watch_trunk))
    try:
        model(x[None])
    finally:
        for hook in hooks:
            hook.remove()
    return weights, shapes


# ----------------------------------------------------------------------------------------------------
# The mean beat
# ----------------------------------------------------------------------------------------------------


def attribution_of_beats(explanation: Explanation) -> np.ndarray:
    """Return the mean attribution of the beats that are averaged in `waves.median`, (12, 400).

    Its samples are those of the median beat: from 250 ms before the centre of the QRS to 550 ms after it.

    Raises
    ------
    ValueError
        No beats were found.
    """
    if explanation.waves is None:
        raise ValueError(NO_BEATS)
    positions = explanation.waves.median.aligned[:, None] + np.arange(-BEFORE, AFTER)
    return explanation.attribution[:, positions].mean(axis=1)  # (12, n_aligned, 400) -> (12, 400)
