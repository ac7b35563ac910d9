"""Count how often the 95 % intervals hold the truth: of the bootstrap over patients, DeLong and Wilson.

    python -m benchmarks.studies.coverage                       # 1,000 simulated studies of each kind
    python -m benchmarks.studies.coverage --simulations 200

A study has 1,000 ECGs, one in ten positive, of patients with one ECG or with one to three. Scores are normal,
without information (AUROC 0.5) or with an AUROC of 0.75. ECGs of one patient have the same label and their
scores correlate by 0.5. Of 1,000 intervals at 95 %, 936 to 964 should hold the truth (two standard errors).
"""

import argparse
import math
import os
import time
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by NumPy when it is imported
import numpy as np
from scipy.stats import norm

from metrics.bootstrap import auroc_of_counts, bootstrap_intervals, resampled_counts
from metrics.delong import delong_interval, delong_test
from metrics_and_performance import RANKING_METRICS, confusion_metrics

N_ECGS, PREVALENCE, CORRELATION, THRESHOLD = 1000, 0.1, 0.5, 0.5
RESAMPLED = ("auroc", "sensitivity_at_specificity_90", "specificity_at_sensitivity_95", "ct_avoided_per_100")


def simulate(
    rng: np.random.Generator, true_auroc: float, max_ecgs: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return `y_true`, the scores of two equally good models, and patients, each of shape (n_ecgs,)."""
    patients = np.repeat(np.arange(N_ECGS), rng.integers(1, max_ecgs + 1, size=N_ECGS))[:N_ECGS]
    y_true = (rng.random(N_ECGS) < PREVALENCE)[patients].astype(int)
    shift = math.sqrt(2) * norm.ppf(true_auroc)  # of the positives, in standard deviations
    patient_noise, ecg_noise = rng.normal(size=(2, N_ECGS))[:, patients], rng.normal(size=(2, N_ECGS))
    # The two models share half of the variance of their noise
    for noise in (patient_noise, ecg_noise):
        noise[1] = noise.sum(axis=0) / math.sqrt(2)
    noise = math.sqrt(CORRELATION) * patient_noise + math.sqrt(1 - CORRELATION) * ecg_noise
    return y_true, *(shift * y_true + noise), patients


def true_values(true_auroc: float) -> dict[str, float]:
    """Return the metrics of the two normal distributions."""
    shift = math.sqrt(2) * norm.ppf(true_auroc)
    specificity = norm.cdf(shift + norm.ppf(0.05))
    return {
        "sensitivity": norm.sf(THRESHOLD - shift),
        "specificity": norm.cdf(THRESHOLD),
        "auroc": true_auroc,
        "sensitivity_at_specificity_90": norm.sf(norm.ppf(0.9) - shift),
        "specificity_at_sensitivity_95": specificity,
        "ct_avoided_per_100": 100 * (0.05 * PREVALENCE + specificity * (1 - PREVALENCE)),
    }


def bootstrap_difference(
    y_true: np.ndarray,
    score_a: np.ndarray,
    score_b: np.ndarray,
    patients: np.ndarray,
    *,
    n_resamples: int = 2000,
    seed: int,
) -> tuple[float, float]:
    """Return the 95 % interval of AUROC A minus AUROC B; each resample draws the same patients for both."""
    aurocs = [
        np.concatenate([auroc_of_counts(counts) for counts in resamples])
        for resamples in (
            resampled_counts(y_true, score, patients, n_resamples, seed) for score in (score_a, score_b)
        )
    ]
    low, high = np.quantile(aurocs[0] - aurocs[1], [0.025, 0.975])
    return float(low), float(high)


def covered_in_one_study(rng: np.random.Generator, true_auroc: float, max_ecgs: int) -> dict[str, tuple]:
    """Return for each interval whether it holds the truth, and its width."""
    y_true, score_a, score_b, patients = simulate(rng, true_auroc, max_ecgs)
    truth = true_values(true_auroc)
    seed = int(rng.integers(2**31))
    metrics = {name: RANKING_METRICS[name] for name in RESAMPLED}
    resampled = bootstrap_intervals(metrics, y_true, score_a, patients, seed=seed)
    intervals = {f"bootstrap: {name}": (truth[name], *resampled[name][:2]) for name in metrics}
    for name, ids in (("independent ECGs", None), ("by patient", patients)):
        intervals[f"DeLong, {name}: auroc"] = (true_auroc, *delong_interval(y_true, score_a, ids))
        intervals[f"DeLong, {name}: difference"] = (0.0, *delong_test(y_true, score_a, score_b, ids)[1:3])
        decisions = confusion_metrics(y_true, score_a, THRESHOLD, patient_ids=ids)
        for rate in ("sensitivity", "specificity"):
            share = decisions[rate]
            intervals[f"Wilson, {name}: {rate}"] = (truth[rate], share.low, share.high)
    difference = bootstrap_difference(y_true, score_a, score_b, patients, seed=seed)
    intervals["bootstrap: difference of auroc"] = (0.0, *difference)
    return {name: (low <= value <= high, high - low) for name, (value, low, high) in intervals.items()}


def print_tables(n_simulations: int, seed: int) -> None:
    """Print the share of covering intervals and their mean width for each kind of study."""
    for true_auroc in (0.5, 0.75):
        for max_ecgs in (1, 3):
            rng, started = np.random.default_rng(seed), time.perf_counter()
            studies = [covered_in_one_study(rng, true_auroc, max_ecgs) for _ in range(n_simulations)]
            ecgs = "1 ECG" if max_ecgs == 1 else f"1 to {max_ecgs} ECGs"
            seconds = time.perf_counter() - started
            print(f"\nAUROC {true_auroc}, {ecgs} per patient, {n_simulations:,} studies, {seconds:.0f} s")
            print(f"{'interval':<44} {'covers':>7}   mean width")
            for name in studies[0]:
                covers, width = np.mean([study[name] for study in studies], axis=0)
                print(f"{name:<44} {covers:>7.3f}   {width:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=1000, help="studies of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # a study without an interval counts as not covered
    print_tables(arguments.simulations, arguments.seed)


if __name__ == "__main__":
    main()
