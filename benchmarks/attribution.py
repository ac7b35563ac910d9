"""Measure whether integrated gradients fall on the signs that were planted in synthetic ECGs.

    python benchmarks/attribution.py --run runs/train_atten-20261122-101500   # trained on a synthetic cohort
    python benchmarks/attribution.py                  # trains the 1D attention model first, for some minutes

Simulates ECGs with one sign each, and as they come with PE. `share` is the part of the absolute attribution
that lies on the planted signs: these leads, in these parts of every beat. It is to be compared with `area`,
the part of the samples that lies there (chance); `without`, the share in the same place of ECGs that have no
sign, where QRS and T are high as well; and `random`, the share that the same model with random weights gives.
`fall` says how much the logit falls where the place is straightened out, and `rise` how much higher it is
than without any sign: a sign that the model does not use cannot be found by any explanation. The dipole that
carries a sign shows in every lead, not only where cardiologists look for it: the second line of each is for
the same parts of the beats in all leads. Intervals are 95 %, by bootstrap over ECGs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")  # read by PyTorch when it is imported
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from tqdm import tqdm

from cohorts.synthetic import SIGN_RATES, draw_patient, make_cohort, simulate_ecg
from command_line import one_line_errors, prepare
from recording import LEADS
from reporting.explanations import integrated_gradients, model_input, straightened
from reporting.randomisation_check import randomised
from reporting.waves import SEGMENTS, Waves, find_waves
from run_folder import Run
from scoring import predict_logits
from xml_loader import centre_start

ROOT = Path(__file__).resolve().parent.parent
# Where cohorts/synthetic.py plants a sign; "early" and "late" are the halves of the QRS. A rate has no place.
LIMB, RIGHT = LEADS[:6], ("V1", "V2", "V3", "V4")
PLACES = {
    "S1Q3T3": [("I", "late"), ("III", "early"), ("III", "T")],
    "right_axis": [(lead, "QRS") for lead in LIMB],
    "incomplete_RBBB": [(lead, "late") for lead in ("I", "V1", "V2", "V6")],
    "T_inversion_V1_V4": [(lead, "T") for lead in RIGHT],
}
NO_SIGN = dict.fromkeys(SIGN_RATES, 0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--run", type=Path, help="of a model trained on synthetic ECGs; without it, train one"
    )
    parser.add_argument("--ecgs", type=int, default=20, help="of each kind")
    parser.add_argument(
        "--random", type=int, default=5, help="of each kind, also explained with random weights"
    )
    parser.add_argument("--epochs", type=int, default=8, help="of the training")
    parser.add_argument("--seed", type=int, default=1, help="of the simulated ECGs")
    options = parser.parse_args()
    model, description = Run(options.run or train(options.epochs)).load_model(prepare(options.seed))
    groups = {
        group: [
            explain_one(model, description, ecg) for ecg in tqdm(ecgs, desc=group, disable=None, leave=False)
        ]
        for group, ecgs in simulate(options.ecgs, options.seed).items()
    }
    chance = randomised(model, options.seed)
    for cases in groups.values():
        for case in cases[: options.random]:
            case["random"] = attribute(chance, case["x"], case["baseline"])
    print_places(model, groups, options.seed)
    print_segments(groups)


def train(epochs: int) -> Path:
    """Train the 1D attention model on 600 synthetic ECGs, 3 in 10 with PE, and return the run's folder."""
    folder = Path(tempfile.mkdtemp(prefix="attribution-"))
    make_cohort(folder / "cohort", n_ecgs=600, n_patients=540, prevalence=0.3, seed=42)
    flags = ["--data-dir", "cohort", "--epochs", epochs, "--test-fraction", 0.15, "--output-dir", "runs"]
    command = [sys.executable, ROOT / "train_atten.py", *flags]
    subprocess.run(list(map(str, command)), cwd=folder, check=True)
    run = next((folder / "runs").iterdir())
    print(f"trained     {run}", flush=True)
    return run


def simulate(n_ecgs: int, seed: int) -> dict[str, list[tuple[np.ndarray, dict]]]:
    """Return ECGs, (12, 5000) in mV, and what is planted in each: one sign, none, or what comes with PE."""
    generator = np.random.default_rng(seed)
    planted = {sign: NO_SIGN | {sign: 1} for sign in SIGN_RATES} | {"no sign": NO_SIGN, "PE": None}
    return {
        group: [
            simulate_ecg(draw_patient(generator, pe=group == "PE", signs=signs), generator)
            for _ in range(n_ecgs)
        ]
        for group, signs in planted.items()
    }


def explain_one(model: torch.nn.Module, description, ecg: tuple[np.ndarray, dict]) -> dict:
    """Return input, baseline, attribution, beats and planted signs of one ECG."""
    signal, truth = ecg
    start = centre_start(description.n_samples)
    signal = signal[:, start : start + description.n_samples]
    x, baseline = model_input(model, signal, description.normalisation)
    waves = find_waves(signal)
    if waves is None:
        raise SystemExit("a simulated ECG: found no beats, expected some; this is an error of this program")
    case = {"x": x, "baseline": baseline, "waves": waves, "attribution": attribute(model, x, baseline)}
    return case | {"signs": [sign for sign in PLACES if truth[sign]]}


def attribute(model: torch.nn.Module, x: torch.Tensor, baseline: torch.Tensor) -> np.ndarray:
    return np.abs(integrated_gradients(model, x, baseline, label=0)[0])


def stretches(waves: Waves, part: str) -> list[slice]:
    """Return where a part of the beats lies, one of `SEGMENTS`, or a half of the QRS."""
    if part in SEGMENTS:
        return waves.slices(part)
    halves = [(qrs.start, (qrs.start + qrs.stop) // 2, qrs.stop) for qrs in waves.slices("QRS")]
    return [
        slice(first, middle) if part == "early" else slice(middle, last) for first, middle, last in halves
    ]


def planted(case: dict, signs: list[str], everywhere: bool) -> np.ndarray:
    """Return where the signs are planted, or the same parts of the beats in all leads, bool (12, T)."""
    mask = np.zeros(case["attribution"].shape, bool)
    for lead, part in (place for sign in signs for place in PLACES[sign]):
        rows = slice(None) if everywhere else LEADS.index(lead)
        for stretch in stretches(case["waves"], part):
            mask[rows, stretch] = True
    return mask


def fall(model: torch.nn.Module, case: dict, mask: np.ndarray) -> float:
    """Return by how much the logit falls where the signal is straightened out within a mask."""
    x = case["x"].clone()
    for row, inside in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.pad(inside, 1).astype(int))).reshape(-1, 2).tolist()
        x[row] = straightened(x[row : row + 1], [slice(first, last) for first, last in edges])[0]
    before, after = predict_logits(model, [(torch.stack([case["x"], x]),)])[:, 0]
    return float(before - after)


def interval(values: list[float], seed: int) -> str:
    """Return mean and 95 % interval, by bootstrap, as text."""
    values = np.asarray(values)
    draws = np.random.default_rng(seed).integers(0, len(values), (2000, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    return f"{values.mean():.3f} ({low:.3f}-{high:.3f})"


def share(weights: np.ndarray, mask: np.ndarray) -> float:
    return float(weights[mask].sum() / weights.sum())


def print_places(model: torch.nn.Module, groups: dict[str, list[dict]], seed: int) -> None:
    """Print how much of the attribution falls on the planted signs."""
    mean_logit = {
        group: predict_logits(model, [(torch.stack([case["x"] for case in cases]),)])[:, 0].mean()
        for group, cases in groups.items()
    }
    heads = f"{'share':<21}{'area':>6}{'without':>10}{'random':>8}{'fall':>7}{'rise':>7}"
    print(f"{'planted':<20}{'ECGs':>5}  {heads}")
    for group in [*PLACES, "PE"]:
        rise = f"{mean_logit[group] - mean_logit['no sign']:>+7.2f}"
        # An ECG with PE may have no sign but a fast rate
        cases = [case for case in groups[group] if case["signs"]]
        print(f"{group:<20}{len(cases):>5}  {row_of(model, cases, groups['no sign'], False, seed)}{rise}")
        print(f"{'  in all leads':<27}{row_of(model, cases, groups['no sign'], True, seed)}")
    n_fast, rise = len(groups["sinus_tachycardia"]), mean_logit["sinus_tachycardia"] - mean_logit["no sign"]
    print(f"{'sinus_tachycardia':<20}{n_fast:>5}  {'no place':<52}{rise:>+7.2f}")


def row_of(
    model: torch.nn.Module, cases: list[dict], without: list[dict], everywhere: bool, seed: int
) -> str:
    """Return share, area, share in ECGs without a sign, share of random weights, and fall, as text."""
    masks = [planted(case, case["signs"], everywhere) for case in cases]
    pairs = list(zip(cases, masks, strict=True))
    shares = [share(case["attribution"], mask) for case, mask in pairs]
    others = [
        share(other["attribution"], planted(other, case["signs"], everywhere))
        for case in cases
        for other in without
    ]
    by_chance = [share(case["random"], mask) for case, mask in pairs if "random" in case]
    falls = [fall(model, case, mask) for case, mask in pairs]
    return (
        f"{interval(shares, seed):<21}{np.mean(masks):>6.3f}{np.mean(others):>10.3f}"
        f"{np.mean(by_chance):>8.3f}{np.mean(falls):>+7.2f}"
    )


def print_segments(groups: dict[str, list[dict]]) -> None:
    """Print how the attribution, and the samples, divide between the parts of the beats in all leads."""
    print(f"\n{'share of attribution':<26}{''.join(f'{name:>7}' for name in (*SEGMENTS, 'rest'))}")
    for group, cases in groups.items():
        print(f"{group:<26}{by_segment([case['attribution'] for case in cases], cases)}")
    everything = [case for cases in groups.values() for case in cases]
    print(f"{'area':<26}{by_segment([np.ones(case['x'].shape) for case in everything], everything)}")


def by_segment(weights: list[np.ndarray], cases: list[dict]) -> str:
    shares = []
    for weight, case in zip(weights, cases, strict=True):
        of_segments = [
            sum(weight[:, stretch].sum() for stretch in case["waves"].slices(name)) for name in SEGMENTS
        ]
        shares.append([*of_segments, weight.sum() - sum(of_segments)] / weight.sum())
    return "".join(f"{value:>7.3f}" for value in np.mean(shares, axis=0))


if __name__ == "__main__":
    with one_line_errors():
        main()
