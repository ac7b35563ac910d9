"""Count how often tests of equally good models call them different: McNemar's, and many tests with Holm's p.

    python -m benchmarks.studies.decision_tests                       # 2,000 simulated studies of each kind
    python -m benchmarks.studies.decision_tests --simulations 200

A study has 9, 20 or 100 patients with the disease, with one ECG or with one to three, and two models that
each find an ECG with the same chance; half of the variance of their scores is the patient's. Of tests at
5 %, at most 50 in 1,000 should call the models different. Then eight models of the same true AUROC, 0.75, are
compared with a ninth on 1,000 ECGs, by DeLong's method.
"""

import argparse
import os
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by NumPy when it is imported
import numpy as np
from scipy.stats import chi2

from metrics.delong import delong_test
from metrics.mcnemar import mcnemar_test
from metrics.multiple_tests import holm

LEVEL = 0.05
N_MODELS, N_ECGS, PREVALENCE, SHIFT = 8, 1000, 0.1, 0.954  # the shift of an AUROC of 0.75


def p_values_of_decisions(rng: np.random.Generator, n_patients: int, max_ecgs: int) -> dict[str, float]:
    """Return the p of one study of equally good decisions by each test."""
    patients = np.repeat(np.arange(n_patients), rng.integers(1, max_ecgs + 1, n_patients))
    of_patient, of_ecg = rng.normal(size=(2, n_patients))[:, patients], rng.normal(size=(2, len(patients)))
    found_a, found_b = (of_patient + of_ecg > -0.7).astype(int)
    y_true = np.ones(len(patients), int)
    surplus = np.bincount(patients, found_a - found_b)
    squares = (surplus**2).sum()
    chi_square = (n_patients - 1) / n_patients * surplus.sum() ** 2 / squares if squares else 0.0
    return {
        "McNemar's, patients": mcnemar_test(y_true, found_a, found_b, patients)["sensitivity"]["p"],
        "Obuchowski's chi-square": float(chi2.sf(chi_square, 1)),
        "McNemar's, ECGs as independent": mcnemar_test(y_true, found_a, found_b)["sensitivity"]["p"],
    }


def p_values_of_models(rng: np.random.Generator) -> np.ndarray:
    """Return DeLong's p of equally good models against another, (N_MODELS,)."""
    y_true = (rng.random(N_ECGS) < PREVALENCE).astype(int)
    shared, own = rng.normal(size=N_ECGS), rng.normal(size=(N_MODELS + 1, N_ECGS))
    first, *others = SHIFT * y_true + (shared + own) / np.sqrt(2)
    return np.array([delong_test(y_true, other, first).p for other in others])


def print_tables(n_simulations: int, seed: int) -> None:
    """Print the share of studies that call equally good models different."""
    for n_patients in (9, 20, 100):
        for max_ecgs in (1, 3):
            rng = np.random.default_rng(seed)
            studies = [p_values_of_decisions(rng, n_patients, max_ecgs) for _ in range(n_simulations)]
            ecgs = "1 ECG each" if max_ecgs == 1 else f"1 to {max_ecgs} ECGs"
            shares = (f"{name} {np.mean([one[name] < LEVEL for one in studies]):.3f}" for name in studies[0])
            print(f"{n_patients:>3} patients, {ecgs}: {', '.join(shares)}", flush=True)
    rng = np.random.default_rng(seed)
    tables = np.array([p_values_of_models(rng) for _ in range(n_simulations)])
    raw = (tables < LEVEL).any(axis=1).mean()
    adjusted = np.mean([(holm(row) < LEVEL).any() for row in tables])
    print(f"any of {N_MODELS} equal models called different: p {raw:.3f}, Holm's p {adjusted:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=2000, help="studies of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # that there are no negatives
    print_tables(arguments.simulations, arguments.seed)


if __name__ == "__main__":
    main()
