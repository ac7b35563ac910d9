"""Count how many ECGs are found unlike a run's training ECGs: its test ECGs, as they are and altered.

    python -m benchmarks.studies.likeness runs/train_atten-20261122-101500 ecgs
    python -m benchmarks.studies.likeness runs/train_atten-20261122-101500 ecgs --others ludb  # other ECGs

FOLDER is the --data-dir that the run was trained with. A row per way of altering them shows how many are

    refused    by the quality checks (ecg/quality.py) with the run's limits: predict.py would not score them
    doubted    by these checks, refused or warned of
    range      outside the training ECGs' sampling rates, formats, or range of QRS amplitude
    distance   too far from the training ECGs in what the model sees

and, for their distances,

    AUROC      against the unaltered test ECGs; 0.5 is chance
    median     percentile among validation ECGs; 50 for ECGs like these

Noise and hum are put on the nine electrodes, so that the limb leads still agree with each other.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")  # read by PyTorch when it is imported
import numpy as np
import torch
from scipy.signal import butter, resample_poly, sosfiltfilt
from tqdm import tqdm

from dataset.batches import evaluation_input
from dataset.decoding import decode
from ecg.quality import judge, measure
from ecg.recording import LEADS
from inference.channel_statistics import ChannelStatistics
from inference.likeness import TAIL, TrainingDistribution, ValidationDistances
from inference.scoring import predict_logits
from metrics_and_performance import auroc
from run_folder.run import Run
from runtime.command_line import one_line_errors, prepare
from runtime.errors import UserError
from xml_loader import SAMPLING_RATE, EcgFileError, find_files

BATCH_SIZE = 32
MICROVOLTS = 1000  # per mV


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a finished run with one model")
    parser.add_argument("folder", type=Path, help="of the ECG files that it was trained with")
    parser.add_argument("--others", type=Path, help="folder of other ECGs, to be compared as they are")
    parser.add_argument("--ecgs", type=int, default=200, help="of each kind, at most")
    options = parser.parse_args()
    comparison = Comparison(options.run, prepare(seed=0))
    table = comparison.run.splits()
    files = [options.folder / file for file in table.loc[table["split"] == "test", "file"]]
    others = find_files([options.others])[0] if options.others else []
    print_table(comparison, files[: options.ecgs], others[: options.ecgs])


def print_table(comparison: "Comparison", files: list[Path], others: list[Path]) -> None:
    """Print one row per way of altering the ECGs, and one for the other ECGs."""
    file_formats, signals, measurements = comparison.read(files)
    print(f"{len(file_formats)} test ECGs, {comparison.distribution.n_ecgs} training ECGs")
    heads = ("refused", "doubted", "range", "distance", "AUROC", "median")
    print(f"{'':<28}" + "".join(f"{head:>10}" for head in heads))
    as_they_are = None
    for name, alter in ALTERATIONS.items():
        altered = alter(signals)
        measured = [measure_again(*pair) for pair in zip(altered, measurements, strict=True)]
        distances = comparison.print_line(name, file_formats, altered, np.array(measured), as_they_are)
        as_they_are = distances if as_they_are is None else as_they_are
    if others:
        comparison.print_line(others[0].parent.name, *comparison.read(others), as_they_are)


class Comparison:
    """A run's model, and what its training ECGs were like."""

    def __init__(self, run: Path, device: torch.device):
        self.run = Run(run)
        self.model, self.description = self.run.load_model(device)
        self.device = device
        self.distribution = TrainingDistribution.load(run)
        if self.distribution is None:
            raise UserError(f"{run}: found no training_distribution.json, expected a run of this version")

    def read(self, files: list[Path]) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Return formats, signals at rest and measurements of the files that can be read."""
        ecgs, refused = [], []
        for file in tqdm(files, desc="reading files", unit="file", disable=None, leave=False):
            try:
                ecgs.append(decode(file, self.description.window_start))
            except EcgFileError as error:
                refused.append(str(error))
        if refused:
            print(f"not read    {len(refused)} files, the first: {refused[0]}")
        if not ecgs:
            raise UserError(f"{files[0].parent if files else 'splits.csv'}: found no ECG that can be read")
        file_formats, signals, measurements = zip(*ecgs, strict=True)
        return list(file_formats), np.stack(signals), np.array(measurements)

    def print_line(
        self,
        name: str,
        file_formats: list[str],
        signals: np.ndarray,
        measurements: np.ndarray,
        as_they_are: np.ndarray | None,
    ) -> np.ndarray:
        """Print how many ECGs are found unlike, and return their distances."""
        features = self.features(signals)
        distances = self.distribution.gaussian.distance(features)
        findings = self.distribution.findings(features, measurements, file_formats)
        out_of_range = np.mean([bool(found.keys() - {"distance"}) for found in findings])
        far = np.mean(["distance" in found for found in findings])
        refused, doubted = (
            self.judged(measurements, verdicts) for verdicts in (["reject"], ["reject", "warn"])
        )
        shares = "".join(f"{100 * share:>8.0f} %" for share in (refused, doubted, out_of_range, far))
        median = np.median(percentiles(distances, self.distribution.distances))
        area = "" if as_they_are is None else f"{separation(as_they_are, distances):.2f}"
        print(f"{name:<28}{shares}{area:>10}{median:>10.0f}", flush=True)
        return distances

    def judged(self, measurements: np.ndarray, verdicts: list[str]) -> float:
        """Return the share of ECGs with one of these verdicts, by quality checks with the run's limits."""
        limits = dict(self.description.quality)
        if not limits.pop("quality_checks", False):
            return 0.0
        findings = judge(measurements, **limits)
        return findings.loc[findings["verdict"].isin(verdicts), "ecg"].nunique() / len(measurements)

    def features(self, signals: np.ndarray) -> np.ndarray:
        """Return the statistics of the model's first layers for int16 signals, (N, 12, 5000) in µV."""
        with ChannelStatistics(self.model) as statistics:
            predict_logits(self.model, self._inputs(signals))
        return statistics.take()[0]

    def _inputs(self, signals: np.ndarray) -> Iterator[tuple[torch.Tensor, ...]]:
        shape = {"n_samples": self.description.n_samples, "normalisation": self.description.normalisation}
        unknown = torch.full((1, len(self.description.clinical_columns)), torch.nan, device=self.device)
        for first in range(0, len(signals), BATCH_SIZE):
            batch = torch.from_numpy(signals[first : first + BATCH_SIZE]).to(self.device)
            clinical = (unknown.expand(len(batch), -1),) if unknown.numel() else ()
            yield evaluation_input(batch, **shape), *clinical


def percentiles(distances: np.ndarray, validation: ValidationDistances) -> np.ndarray:
    """Return which share of ECGs like the validation ECGs is nearer, in percent, (n_ecgs,)."""
    below = np.interp(distances, validation.quantiles, np.linspace(0, 1 - TAIL, len(validation.quantiles)))
    beyond = np.maximum(distances - validation.quantiles[-1], 0)
    tail = TAIL * np.exp(-beyond / validation.tail) if validation.tail else np.where(beyond > 0, 0, TAIL)
    return 100 * np.where(beyond > 0, 1 - tail, below)


def separation(near: np.ndarray, far: np.ndarray) -> float:
    """Return the AUROC of distances, between ECGs that should be near and those that should be far."""
    return float(auroc(np.repeat([0, 1], [len(near), len(far)]), np.concatenate([near, far])))


def measure_again(signal: np.ndarray, before: np.void) -> np.void:
    """Return the measurements of an altered signal in an otherwise unchanged file."""
    kept = {name: before[name] for name in ("file_rate", "file_seconds", "gap_samples", "n_derived")}
    return measure(signal, padded=(0, 0), n_warnings=int(before["n_warnings"]), **kept)


# Ways of altering ECGs: int16 (N, 12, 5000) in µV -> the same


def arms_exchanged(signals: np.ndarray) -> np.ndarray:
    """Turn I upside down; exchange II with III, and aVR with aVL."""
    altered = signals[:, [0, 2, 1, 4, 3, *range(5, 12)]]
    altered[:, 0] *= -1
    return altered


def chest_shuffled(signals: np.ndarray) -> np.ndarray:
    generator, altered = np.random.default_rng(0), signals.copy()
    for ecg in altered:
        ecg[6:] = ecg[6 + generator.permutation(6)]
    return altered


def all_shuffled(signals: np.ndarray) -> np.ndarray:
    generator = np.random.default_rng(0)
    return np.stack([ecg[generator.permutation(12)] for ecg in signals])


def white_noise(signals: np.ndarray) -> np.ndarray:
    """0.2 mV at each electrode, and no heart."""
    return _counts(_electrodes_to_leads(_noise(len(signals), 200)))


def noise_added(signals: np.ndarray) -> np.ndarray:
    """0.1 mV at each electrode."""
    return _counts(signals + _electrodes_to_leads(_noise(len(signals), 100)))


def hum_added(signals: np.ndarray) -> np.ndarray:
    """50 Hz of up to 1 mV, with another amplitude at each electrode."""
    hum = MICROVOLTS * np.sin(2 * np.pi * 50 * np.arange(signals.shape[2]) / SAMPLING_RATE)
    amplitudes = np.random.default_rng(0).random((len(signals), 9, 1))
    return _counts(signals + _electrodes_to_leads(amplitudes * hum))


def wander_added(signals: np.ndarray) -> np.ndarray:
    """0.3 Hz of 1 mV, with another phase at each electrode."""
    time = np.arange(signals.shape[2]) / SAMPLING_RATE
    phases = np.random.default_rng(0).random((len(signals), 9, 1))
    return _counts(signals + _electrodes_to_leads(MICROVOLTS * np.sin(2 * np.pi * (0.3 * time + phases))))


def flat(*leads: str):
    def alter(signals: np.ndarray) -> np.ndarray:
        altered = signals.copy()
        altered[:, [LEADS.index(lead) for lead in leads]] = 0
        return altered

    return alter


def at_half_rate(signals: np.ndarray) -> np.ndarray:
    """As if a file of 250 Hz declared 500: twice the heart rate, and the ECG is there twice."""
    return np.tile(signals[:, :, ::2], 2)


def at_double_rate(signals: np.ndarray) -> np.ndarray:
    """As if a file of 1,000 Hz declared 500: half the heart rate."""
    return _counts(resample_poly(signals[:, :, : signals.shape[2] // 2].astype(float), 2, 1, axis=2))


def low_passed(signals: np.ndarray) -> np.ndarray:
    """Nothing above 15 Hz, as if a muscle filter were set too low."""
    return _counts(sosfiltfilt(butter(2, 15, fs=SAMPLING_RATE, output="sos"), signals.astype(float), axis=2))


def _noise(n_ecgs: int, microvolts: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, microvolts, (n_ecgs, 9, 5000))


def _electrodes_to_leads(potentials: np.ndarray) -> np.ndarray:
    """Return the leads, (N, 12, T), of the potentials of R, L, F and the six chest electrodes, (N, 9, T)."""
    right, left, foot = potentials[:, 0], potentials[:, 1], potentials[:, 2]
    one, two, three = left - right, foot - right, foot - left
    augmented = [-(one + two) / 2, one - two / 2, two - one / 2]
    chest = potentials[:, 3:] - potentials[:, :3].mean(axis=1, keepdims=True)
    return np.concatenate([np.stack([one, two, three, *augmented], axis=1), chest], axis=1)


def _counts(microvolts: np.ndarray) -> np.ndarray:
    limits = np.iinfo(np.int16)
    return np.clip(np.rint(microvolts), limits.min, limits.max).astype(np.int16)


ALTERATIONS = {
    "as they are": lambda signals: signals,
    "arm electrodes exchanged": arms_exchanged,
    "V1 to V6 in reverse": lambda signals: signals[:, [*range(6), *range(11, 5, -1)]],
    "chest leads shuffled": chest_shuffled,
    "all leads shuffled": all_shuffled,
    "upside down": lambda signals: -signals,
    "backwards in time": lambda signals: signals[:, :, ::-1].copy(),
    "amplitude x 10": lambda signals: _counts(signals * 10.0),
    "amplitude x 0.1": lambda signals: _counts(signals * 0.1),
    "V3 flat": flat("V3"),
    "V1 to V6 flat": flat(*LEADS[6:]),
    "white noise alone": white_noise,
    "white noise added": noise_added,
    "50 Hz hum added": hum_added,
    "baseline wander added": wander_added,
    "250 Hz taken for 500": at_half_rate,
    "1,000 Hz taken for 500": at_double_rate,
    "low-passed at 15 Hz": low_passed,
}


if __name__ == "__main__":
    with one_line_errors():
        main()
