"""A rival that costs minutes: random convolution kernels and a logistic regression on what they find.

    y_score = kernel_scores(signals, targets, folds, patient_ids, seed=42)

MiniRocket of many channels (Dempster, Schmidt & Webb, KDD 2021, arXiv:2012.08791): 84 kernels of nine
samples, six weights of -1 and three of 2, at up to 32 dilations. Each kernel at each dilation sees the sum of
some leads, drawn at random, and gives the shares of samples at which its output exceeds thresholds: 9,996
numbers per ECG. The thresholds are quantiles of the outputs for development ECGs. Nothing else is learnt but
the logistic regression, with the penalty that is best for patients left out of the development part
(``inference.sign_baseline``).

The packages that have it (aeon, sktime) need numba, and an older pandas than this project's; with PyTorch's
convolutions it is short.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.signal import resample_poly
from torch.nn.functional import conv1d
from tqdm import tqdm

from ecg.recording import MILLIVOLTS, SAMPLING_RATE
from inference.sign_baseline import fit_and_score

RATE = 100  # Hz; at 500 Hz it takes five times as long
LENGTH = 9  # of a kernel, in samples
WIDE = np.array(list(itertools.combinations(range(LENGTH), 3)))  # (84, 3): where each kernel has a 2
N_FEATURES = 9_996  # 119 for each kernel
MAX_DILATIONS = 32
GOLDEN = (math.sqrt(5) + 1) / 2  # its multiples, modulo 1, spread evenly
CHUNK = 32  # ECGs that are convolved at once
SMALLEST_SQUARE = 1e-9  # of a direction, as a share of the largest; less is rounding
PENALTIES = tuple(10.0**power for power in range(-3, 4))  # C; features have a mean square of 1 together


def at_low_rate(signals: np.ndarray) -> np.ndarray:
    """Return ECGs, int16 (n, 12, 5000) in µV at 500 Hz, as float32 (n, 12, 1000) in mV, filtered for it."""
    lowered = resample_poly(signals * np.float32(MILLIVOLTS), RATE, SAMPLING_RATE, axis=-1, padtype="line")
    return lowered.astype(np.float32)


class RandomKernels:
    """ECGs (n, n_leads, n_samples), float32 -> shares from 0 to 1, float32 (n, n_features).

    Parameters
    ----------
    n_leads, n_samples : of the ECGs.
    seed : of the leads that each kernel sees, and of the ECGs that give its thresholds.
    n_features : how many numbers are wanted; they become a multiple of 84.
    """

    def __init__(self, n_leads: int, n_samples: int, *, seed: int, n_features: int = N_FEATURES):
        self._generator = np.random.default_rng(seed)
        self.dilations, self.n_thresholds = _dilations(n_samples, n_features // len(WIDE))
        shape = (len(self.dilations), len(WIDE))
        most = math.log2(min(n_leads, LENGTH) + 1)
        n_seen = (2 ** self._generator.uniform(0, most, shape)).astype(int)
        order = self._generator.random((*shape, n_leads)).argsort(axis=-1).argsort(axis=-1)
        self.leads = order < n_seen[..., None]  # (n_dilations, 84, n_leads)
        self.thresholds: list[np.ndarray] = []  # of each dilation, (84, n_thresholds)

    def fit(self, signals: np.ndarray) -> "RandomKernels":
        """Take the thresholds from quantiles of each kernel's output for one ECG, drawn at random."""
        drawn = self._generator.integers(len(signals), size=self.leads.shape[:2])
        first, self.thresholds = 1, []
        for number, n_thresholds in enumerate(self.n_thresholds):
            ecgs, places = np.unique(drawn[number], return_inverse=True)
            levels = first + np.arange(len(WIDE) * n_thresholds).reshape(len(WIDE), n_thresholds)
            first += levels.size
            output = np.concatenate([*self._outputs(signals[ecgs], number)])
            chosen = output[places, np.arange(len(WIDE))]  # (84, n_samples)
            pairs = zip(chosen, levels * GOLDEN % 1, strict=True)
            self.thresholds.append(
                np.stack([np.quantile(one, level) for one, level in pairs]).astype(np.float32)
            )
        return self

    def transform(self, signals: np.ndarray) -> np.ndarray:
        """Return the share of samples at which each kernel's output exceeds each of its thresholds."""
        features = np.empty((len(signals), len(WIDE) * sum(self.n_thresholds)), np.float32)
        column = 0
        for number, thresholds in enumerate(self.thresholds):
            width, row = thresholds.size, 0
            for output in self._outputs(signals, number):
                shares = self._shares(torch.from_numpy(output), torch.from_numpy(thresholds), number)
                features[row : row + len(output), column : column + width] = shares.flatten(1)
                row += len(output)
            column += width
        return features

    def _outputs(self, signals: np.ndarray, number: int) -> Iterator[np.ndarray]:
        """Yield the outputs of all kernels at one dilation, (n, 84, n_samples); zeros surround the ECG."""
        weights = np.full((len(WIDE), LENGTH), -1, np.float32)
        np.put_along_axis(weights, WIDE, 2, axis=1)
        weights = torch.from_numpy(weights[:, None] * self.leads[number][..., None])  # (84, n_leads, 9)
        dilation = self.dilations[number]
        for first in range(0, len(signals), CHUNK):
            batch = torch.from_numpy(signals[first : first + CHUNK])
            yield conv1d(batch, weights, padding=dilation * (LENGTH // 2), dilation=dilation).numpy()

    def _shares(self, output: torch.Tensor, thresholds: torch.Tensor, number: int) -> torch.Tensor:
        """Return the shares above thresholds, (n, 84, n_thresholds); every other kernel skips the ends."""
        margin, n_samples = self.dilations[number] * (LENGTH // 2), output.shape[-1]
        shares = torch.empty(*output.shape[:2], thresholds.shape[1])
        for start, (first, last) in enumerate(((0, n_samples), (margin, n_samples - margin))):
            every_other = slice((number + start) % 2, None, 2)
            part = output[:, every_other, first:last]
            above, average = torch.empty(part.shape), torch.full((last - first,), 1 / (last - first))
            for column, threshold in enumerate(thresholds[every_other].T):
                torch.gt(part, threshold[:, None], out=above)
                shares[:, every_other, column] = above @ average  # thrice as fast as the mean of booleans
        return shares


def _dilations(n_samples: int, n_per_kernel: int) -> tuple[list[int], list[int]]:
    """Return the dilations, spread evenly on a logarithmic scale, and how many thresholds each gets."""
    n_wanted = min(n_per_kernel, MAX_DILATIONS)
    largest = math.log2((n_samples - 1) / (LENGTH - 1))
    dilations, counts = np.unique(np.logspace(0, largest, n_wanted, base=2).astype(int), return_counts=True)
    n_thresholds = (counts * n_per_kernel / n_wanted).astype(int)
    for extra in range(n_per_kernel - n_thresholds.sum()):
        n_thresholds[extra % len(n_thresholds)] += 1
    return dilations.tolist(), n_thresholds.tolist()


def kernel_scores(
    signals: np.ndarray,
    targets: np.ndarray,
    folds: Sequence[Mapping[str, np.ndarray]],
    patient_ids: ArrayLike,
    *,
    seed: int,
) -> np.ndarray:
    """Score each ECG by the model of the fold in whose test part it is.

    Parameters
    ----------
    signals : float32 ndarray of shape (n_ecgs, 12, n_samples), as `at_low_rate` returns them.
    targets : float ndarray of shape (n_ecgs, n_labels), 0 or 1, or nan: not known, and not trained on.
    folds : the parts of each fold, the same as those of the networks.
    patient_ids : array of shape (n_ecgs,).
    seed : of the kernels.

    Returns
    -------
    y_score : float ndarray of shape (n_ecgs, n_labels), probabilities; nan for ECGs that no fold tests

    Raises
    ------
    ValueError
        See `sign_baseline.fit_and_score`.
    """
    y_score = np.full(targets.shape, math.nan)
    look = {"desc": "random kernels", "unit": "fold", "disable": None, "leave": False}
    for parts in tqdm(folds, **look):
        development = np.sort(np.concatenate([parts["train"], parts["validation"]]))
        kernels = RandomKernels(*signals.shape[1:], seed=seed).fit(signals[development])
        features = _in_span(kernels.transform(signals), development)
        for label, y_true in enumerate(targets.T):
            y_score[parts["test"], label] = fit_and_score(
                features, y_true, parts, patient_ids=patient_ids, prepared=(), penalties=PENALTIES
            )
    return y_score


def _in_span(features: np.ndarray, development: np.ndarray) -> np.ndarray:
    """Return standardised features, (n_ecgs, n_features), in the directions that development ECGs span.

    A ridge or logistic regression has no weights in others: it is the same in a tenth of the numbers.
    """
    mean, deviation = features[development].mean(axis=0), features[development].std(axis=0)
    varies = deviation > 0
    standard = (features[:, varies] - mean[varies]) / (deviation[varies] * math.sqrt(varies.sum()))
    products = standard @ standard[development].T.astype(float)  # (n_ecgs, n_development)
    squares, vectors = np.linalg.eigh(products[development])
    kept = squares > SMALLEST_SQUARE * squares[-1]
    return products @ (vectors[:, kept] / np.sqrt(squares[kept]))
