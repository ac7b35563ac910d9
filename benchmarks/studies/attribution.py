"""Measure whether integrated gradients find the signs that were planted in synthetic ECGs.

    python -m benchmarks.studies.attribution --run runs/train_atten-20261122-101500   # of a synthetic cohort
    python -m benchmarks.studies.attribution                  # trains the attention model first, for minutes

Each simulated patient has two ECGs, with one sign and without it, alike in all else: the truth is where they
differ. `rise` is how much higher the logit is with the sign; a sign that the model does not use cannot be
found by any explanation.

The first table is about one ECG, as a reader sees it: which share of the absolute attribution lies on the
sign? `textbook` is where a cardiologist looks for it, `changed` every sample that the sign moved by 0.05 mV
or more, since the dipole that carries it shows in every lead. Compare the share with `area`, the share of the
samples there; with `twin`, the same place in the ECG without the sign, where QRS and T are high as well; and
with `random`, the same model with random weights.

The second table is about the pair: which share of the rise do the attributions of the two ECGs differ by on
the changed samples (`found`; all of it would be 1, chance is `area`)? And about the model: each wave (P, QRS,
ST, T) of each lead in the ECG with the sign is replaced by its twin's, and the logit falls. `agreement` is
the rank correlation of these 48 falls with the sums of the attribution in the same places: of the ECG alone,
minus its twin's, and minus its twin's with random weights. Intervals are 95 %, by bootstrap over patients.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")  # read by PyTorch when it is imported
import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn
from tqdm import tqdm

from benchmarks.studies.randomisation_check import randomised
from benchmarks.studies.sign_pairs import Pair, draw_pair
from cohorts.synthetic import make_cohort
from ecg.recording import LEADS
from ecg.simulation import SIGN_RATES
from ecg.waves import SEGMENTS, Waves, find_waves
from explanations.attribution import integrated_gradients, model_input
from inference.scoring import predict_logits
from run_folder.run import Run
from runtime.command_line import one_line_errors, prepare
from xml_loader import centre_start

ROOT = Path(__file__).resolve().parents[2]
# Where cohorts/synthetic.py plants a sign; "early" and "late" are halves of the QRS. A rate has no place.
LIMB, RIGHT = LEADS[:6], ("V1", "V2", "V3", "V4")
PLACES = {
    "S1Q3T3": [("I", "late"), ("III", "early"), ("III", "T")],
    "right_axis": [(lead, "QRS") for lead in LIMB],
    "incomplete_RBBB": [(lead, "late") for lead in ("I", "V1", "V2", "V6")],
    "T_inversion_V1_V4": [(lead, "T") for lead in RIGHT],
}
CHANGED = 0.05  # mV, half a millimetre on paper


@dataclass(frozen=True, eq=False)
class Case:
    """What is measured of one pair.

    Attributes
    ----------
    rise : logit with the sign minus logit without
    textbook, changed : bool (12, T), where the sign is
    with_sign, without : float (12, T), the attributions
    random : the same two, with random weights; None for most pairs, to save time
    falls : (12, 4), of the logit, when a lead's wave comes from the twin
    waves : of the ECG with the sign
    """

    rise: float
    textbook: np.ndarray
    changed: np.ndarray
    with_sign: np.ndarray
    without: np.ndarray
    random: tuple[np.ndarray, np.ndarray] | None
    falls: np.ndarray
    waves: Waves


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, help="of a model trained on synthetic ECGs; none: train one")
    parser.add_argument("--pairs", type=int, default=20, help="of each sign")
    parser.add_argument("--random", type=int, default=4, help="pairs also explained with random weights")
    parser.add_argument("--epochs", type=int, default=8, help="of the training")
    parser.add_argument("--seed", type=int, default=1, help="of the simulated ECGs")
    options = parser.parse_args()
    model, description = Run(options.run or train(options.epochs)).load_model(prepare(options.seed))
    chance, generator = randomised(model, options.seed), np.random.default_rng(options.seed)
    cases, rises = {}, {}
    for sign in SIGN_RATES:
        pairs = [cropped(draw_pair(sign, generator), description.n_samples) for _ in range(options.pairs)]
        if sign not in PLACES:
            both = [logits(model, pair, description.normalisation) for pair in pairs]
            rises[sign] = [with_sign - without for with_sign, without in both]
            continue
        bar = tqdm(pairs, desc=sign, unit="pair", disable=None, leave=False)
        given = (PLACES[sign], description.normalisation)
        cases[sign] = [
            measure(model, pair, *given, chance if number < options.random else None)
            for number, pair in enumerate(bar)
        ]
        rises[sign] = [case.rise for case in cases[sign]]
    print_shares(cases, rises, options.seed)
    print_pairs(cases, options.seed)


def train(epochs: int) -> Path:
    """Train the 1D attention model on 600 synthetic ECGs, 30 % with PE, and return the run's folder."""
    folder = Path(tempfile.mkdtemp(prefix="attribution-"))
    make_cohort(folder / "cohort", n_ecgs=600, n_patients=540, prevalence=0.3, seed=42)
    flags = ["--data-dir", "cohort", "--epochs", epochs, "--test-fraction", 0.15, "--output-dir", "runs"]
    command = [sys.executable, ROOT / "train_atten.py", *flags]
    subprocess.run(list(map(str, command)), cwd=folder, check=True)
    run = next((folder / "runs").iterdir())
    print(f"trained     {run}", flush=True)
    return run


# ----------------------------------------------------------------------------------------------------
# A pair
# ----------------------------------------------------------------------------------------------------


def cropped(pair: Pair, n_samples: int) -> Pair:
    """Return the centre of both ECGs, as the model sees it."""
    first = centre_start(n_samples)
    return Pair(*(signal[:, first : first + n_samples] for signal in pair))


def logits(model: nn.Module, pair: Pair, normalisation: str) -> np.ndarray:
    """Return the logits of a pair's ECGs, (2,)."""
    batch = torch.stack([model_input(model, signal, normalisation)[0] for signal in pair])
    return predict_logits(model, [(batch,)])[:, 0]


def measure(
    model: nn.Module,
    pair: Pair,
    places: list[tuple[str, str]],
    normalisation: str,
    chance: nn.Module | None = None,
) -> Case:
    """Measure a pair of ECGs, each (12, T); `chance` is a model with random weights."""
    waves = find_waves(pair.with_sign)
    if waves is None:
        raise SystemExit("a simulated ECG: found no beats, expected some; this is an error of this program")
    with_sign, without = logits(model, pair, normalisation)
    return Case(
        rise=with_sign - without,
        textbook=textbook_mask(waves, places, pair.with_sign.shape),
        changed=np.abs(pair.with_sign - pair.without) >= CHANGED,
        with_sign=attribute(model, pair.with_sign, normalisation),
        without=attribute(model, pair.without, normalisation),
        random=tuple(attribute(chance, signal, normalisation) for signal in pair) if chance else None,
        falls=falls_by_swap(model, pair, waves, normalisation),
        waves=waves,
    )


def attribute(model: nn.Module, signal: np.ndarray, normalisation: str) -> np.ndarray:
    x, baseline = model_input(model, signal, normalisation)
    return integrated_gradients(model, x, baseline, label=0)[0].astype(float)


def stretches(waves: Waves, part: str) -> list[slice]:
    """Return where a part of the beats lies: one of `SEGMENTS`, or the "early" or "late" half of the QRS."""
    if part in SEGMENTS:
        return waves.slices(part)
    halves = [(qrs.start, (qrs.start + qrs.stop) // 2, qrs.stop) for qrs in waves.slices("QRS")]
    return [slice(*(ends[:2] if part == "early" else ends[1:])) for ends in halves]


def textbook_mask(waves: Waves, places: list[tuple[str, str]], shape: tuple[int, int]) -> np.ndarray:
    """Return where these parts of the beats lie in their leads, bool of this shape, (12, T)."""
    mask = np.zeros(shape, bool)
    for lead, part in places:
        for stretch in stretches(waves, part):
            mask[LEADS.index(lead), stretch] = True
    return mask


def falls_by_swap(model: nn.Module, pair: Pair, waves: Waves, normalisation: str) -> np.ndarray:
    """Return by how much the logit falls when a lead's wave comes from the twin in all beats, (12, 4)."""
    x, _ = model_input(model, pair.with_sign, normalisation)
    twin, _ = model_input(model, pair.without, normalisation)
    swapped = x.repeat(len(LEADS), len(SEGMENTS), 1, 1)  # (12, 4, 12, T)
    for column, segment in enumerate(SEGMENTS):
        for stretch in waves.slices(segment):
            for lead in range(len(LEADS)):
                swapped[lead, column, lead, stretch] = twin[lead, stretch]
    batches = [(x[None],), *((part,) for part in swapped)]
    found = predict_logits(model, batches)[:, 0]
    return found[0] - found[1:].reshape(len(LEADS), len(SEGMENTS))


def cells(attribution: np.ndarray, waves: Waves) -> np.ndarray:
    """Return the sums of an attribution in each lead and segment, (12, 4)."""
    slices = [waves.slices(segment) for segment in SEGMENTS]
    return np.stack([sum(attribution[:, one].sum(axis=1) for one in each) for each in slices], axis=1)


# ----------------------------------------------------------------------------------------------------
# What is printed
# ----------------------------------------------------------------------------------------------------


def print_shares(cases: dict[str, list[Case]], rises: dict[str, list[float]], seed: int) -> None:
    """Print how much of the absolute attribution of one ECG lies on the sign."""
    heads = f"{'share':<22}{'area':>6}{'twin':>8}{'random':>8}"
    print(f"{'one ECG':<20}{'rise of the logit':<26}{'place':<11}{heads}")
    for sign, sign_rises in rises.items():
        rise = f"{interval(np.array(sign_rises), None, seed, '+.2f'):<26}"
        if sign not in cases:
            print(f"{sign:<20}{rise}none")
            continue
        for place in ("textbook", "changed"):
            first = f"{sign:<20}{rise}" if place == "textbook" else " " * 46
            masks = [getattr(case, place) for case in cases[sign]]
            pairs = list(zip(cases[sign], masks, strict=True))
            shares = np.array([share(case.with_sign, mask) for case, mask in pairs])
            twins = np.mean([share(case.without, mask) for case, mask in pairs])
            random = np.mean([share(case.random[0], mask) for case, mask in pairs if case.random])
            found = f"{interval(shares, None, seed):<22}{np.mean(masks):>6.3f}{twins:>8.3f}{random:>8.3f}"
            print(f"{first}{place:<11}{found}")


def print_pairs(cases: dict[str, list[Case]], seed: int) -> None:
    """Print how much of the rise the attributions find, and how well they rank what makes it."""
    heads = f"{'found of the rise':<26}{'area':>6}  agreement: {'alone':<26}{'minus twin':<26}random"
    print(f"\n{'pair':<20}{heads}")
    for sign, sign_cases in cases.items():
        found = np.array([(case.with_sign - case.without)[case.changed].sum() for case in sign_cases])
        rises = np.array([case.rise for case in sign_cases])
        part = interval(found, rises, seed) if bootstrap(rises, None, seed)[0] > 0 else "no rise"
        area = np.mean([case.changed for case in sign_cases])
        alone, minus_twin = (
            interval(np.array([agreement(case, attribution(case)) for case in sign_cases]), None, seed)
            for attribution in (lambda case: case.with_sign, lambda case: case.with_sign - case.without)
        )
        random = np.mean([agreement(case, np.subtract(*case.random)) for case in sign_cases if case.random])
        print(f"{sign:<20}{part:<26}{area:>6.3f}{'':<13}{alone:<26}{minus_twin:<26}{random:.3f}")


def agreement(case: Case, attribution: np.ndarray) -> float:
    """Return the rank correlation of the logit's falls with an attribution, over leads and waves."""
    return float(spearmanr(case.falls.ravel(), cells(attribution, case.waves).ravel()).statistic)


def share(attribution: np.ndarray, mask: np.ndarray) -> float:
    weights = np.abs(attribution)
    return float(weights[mask].sum() / weights.sum())


def interval(values: np.ndarray, divisors: np.ndarray | None, seed: int, spec: str = ".3f") -> str:
    """Return the mean, or the ratio of two means, and its 95 % interval, as text."""
    low, high = bootstrap(values, divisors, seed)
    mean = values.mean() / (1 if divisors is None else divisors.mean())
    return f"{mean:{spec}} ({low:{spec}} to {high:{spec}})"


def bootstrap(values: np.ndarray, divisors: np.ndarray | None, seed: int) -> np.ndarray:
    """Return the 95 % interval of a mean, or of the ratio of two, by bootstrap over patients, (2,)."""
    draws = np.random.default_rng(seed).integers(0, len(values), (2000, len(values)))
    divisors = np.ones(len(values)) if divisors is None else divisors
    return np.quantile(values[draws].mean(axis=1) / divisors[draws].mean(axis=1), [0.025, 0.975])


if __name__ == "__main__":
    with one_line_errors():
        main()
