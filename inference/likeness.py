"""What the training ECGs of a run were like, and whether another ECG is unlike them.

A score is worth something for ECGs like those that the model was trained on. Two things are compared:

- what is known of a file and was measured of its signal: sampling rate, format, QRS amplitude, and age;
- what the model's first layers see, `channel_statistics.py`: mean and standard deviation over time of every
  channel after the first quarter of its batch norms (Quintanilha et al. 2018,
  openreview.net/forum?id=rkgpCoRctm). Their distance from the training ECGs is Mahalanobis's, with the shrunk
  covariance of Ledoit and Wolf (2004), as in Lee et al. 2018 (arXiv:1807.03888), but with one mean for all
  classes: these layers hardly know the label.

The last layers have learnt to overlook what does not matter for the label, such as which arm an electrode was
on, and hardly separate such ECGs; ``docs/likeness.md`` has the numbers, and what this does not find.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from dataset.clinical import OLDEST
from runtime.errors import UserError, one_line

if TYPE_CHECKING:  # predict.py may do without PyTorch, which takes two seconds to import
    from run_folder.run import Run

RANGES, MATRICES = "training_distribution.json", "training_distribution.safetensors"
CENTRAL = 0.99  # of the training ECGs lie within the range of amplitude, and of age
FLAGGED = 0.02  # about this share of ECGs like those of validation is called unlike
TAIL = 0.2  # of the validation distances; beyond, they are taken to fall off exponentially
STEPS = 9  # stored quantiles of the others
SMALLEST_VARIANCE = 1e-8  # times the mean variance; a channel that never varied must not divide by 0


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Where the features of the training ECGs lie.

    Attributes
    ----------
    mean : float32 (n_features,).
    whitening : float32 (n_features, n_features); features about the mean, times this, have unit covariance.
    """

    mean: np.ndarray
    whitening: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray) -> "Gaussian":
        from sklearn.covariance import LedoitWolf  # takes a second to import; predict.py does without

        estimate = LedoitWolf(store_precision=False).fit(features.astype(np.float64))
        variances, axes = np.linalg.eigh(estimate.covariance_)
        smallest = max(SMALLEST_VARIANCE * variances.mean(), np.finfo(np.float32).tiny)
        whitening = axes / np.sqrt(np.maximum(variances, smallest))
        return cls(estimate.location_.astype(np.float32), whitening.astype(np.float32, order="C"))

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Return the Mahalanobis distance of each ECG, (n_ecgs,), from features (n_ecgs, n_features)."""
        return np.linalg.norm((features - self.mean) @ self.whitening, axis=1)


@dataclass(frozen=True)
class ValidationDistances:
    """How far the validation ECGs are from the training ECGs; these the model has seen, so they lie nearer.

    The farthest fifth of the distances are taken to fall off exponentially: of 100 distances that gives a
    quantile of 98 or 99 % with less chance in it than their maximum (peaks over a threshold; Coles 2001, An
    Introduction to Statistical Modeling of Extreme Values, chapter 4, with shape 0).

    Attributes
    ----------
    n_ecgs : validation ECGs.
    quantiles : of the distances, at equal steps from 0 to 80 %.
    tail : by how much the farthest fifth lie beyond the 80 % quantile, on average.
    """

    n_ecgs: int
    quantiles: list[float]
    tail: float

    @classmethod
    def fit(cls, distances: np.ndarray) -> "ValidationDistances":
        quantiles = np.quantile(distances, np.linspace(0, 1 - TAIL, STEPS))
        beyond = distances[distances > quantiles[-1]] - quantiles[-1]
        return cls(len(distances), quantiles.tolist(), float(beyond.mean()) if len(beyond) else 0.0)

    @property
    def limit(self) -> float:
        """The distance that 98 % of ECGs like the validation ECGs stay below."""
        return self.quantiles[-1] + self.tail * math.log(TAIL / FLAGGED)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingDistribution:
    """What the training ECGs of one run were like; nothing is kept of a single ECG.

    Attributes
    ----------
    n_ecgs : training ECGs.
    file_rates : how many files had each sampling rate, in Hz, as text.
    file_formats : how many files had each format, a row of ``formats.FORMATS``.
    qrs_mv : range of the central 99 % of the QRS amplitudes, in mV.
    ages : the same of the known ages, in years; None where none is known. 90 is 90 or more.
    gaussian, distances : of the features; None for a model without batch norms.
    """

    n_ecgs: int
    file_rates: dict[str, int]
    file_formats: dict[str, int]
    qrs_mv: list[float]
    ages: list[float] | None
    gaussian: Gaussian | None
    distances: ValidationDistances | None

    @classmethod
    def fit(
        cls,
        *,
        training: np.ndarray,
        validation: np.ndarray,
        measurements: np.ndarray,
        file_formats: Sequence[str],
        ages: np.ndarray | None = None,
    ) -> "TrainingDistribution":
        """Describe the training ECGs.

        Parameters
        ----------
        training, validation : features of ECGs of these parts, (n_ecgs, n_features), or of some of them.
        measurements : of all training ECGs, of ``ecg.quality.MEASUREMENTS``, (n_ecgs,).
        file_formats : of all training ECGs; empty where they are not known.
        ages : of all training ECGs, in years, nan where not known.
        """
        known = np.array([]) if ages is None else ages[~np.isnan(ages)]
        gaussian = Gaussian.fit(training) if training.size else None
        return cls(
            n_ecgs=len(measurements),
            file_rates=_counts([_hertz(rate) for rate in measurements["file_rate"]]),
            file_formats=_counts(file_formats),
            qrs_mv=_central(measurements["qrs_mv"]),
            ages=_central(known) if len(known) else None,
            gaussian=gaussian,
            distances=ValidationDistances.fit(gaussian.distance(validation)) if gaussian else None,
        )

    def save(self, run: "Run") -> None:
        """Leave ``training_distribution.json`` and ``.safetensors`` in the folder of a run."""
        matrices = asdict(self.gaussian) if self.gaussian else {}
        ranges = {
            "n_ecgs": self.n_ecgs,
            "file_rates": self.file_rates,
            "forms": self.file_formats,  # so called in the files of every version
            "qrs_mv": self.qrs_mv,
            "ages": self.ages,
            "distances": asdict(self.distances) if self.distances else None,
            "sha256": _digest(matrices),
        }
        run.write_file(MATRICES, lambda aside: save_file(matrices, aside))
        run.write_text(RANGES, json.dumps(ranges, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "TrainingDistribution | None":
        """Return what a run left, or None where it left nothing: runs of earlier versions did not.

        Raises
        ------
        UserError : its files are damaged.
        """
        path = folder / RANGES
        if not path.exists():
            return None
        try:
            ranges = json.loads(path.read_text(encoding="utf-8"))
            digest, distances = ranges.pop("sha256"), ranges.pop("distances")
            file_formats = ranges.pop("forms")
            path = folder / MATRICES
            matrices = load_file(path)
            if digest != _digest(matrices):
                raise ValueError("found another checksum than when it was written")
            return cls(
                **ranges,
                file_formats=file_formats,
                distances=ValidationDistances(**distances) if distances else None,
                gaussian=Gaussian(**matrices) if matrices else None,
            )
        except (OSError, SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"{path}: what the training ECGs were like cannot be read ({one_line(error)}), "
                "expected it as written"
            ) from None

    def findings(
        self,
        features: np.ndarray,
        measurements: np.ndarray,
        file_formats: Sequence[str],
        ages: np.ndarray | None = None,
    ) -> list[dict[str, str]]:
        """Return, for each ECG, one sentence per way in which it is unlike the training ECGs, by its name.

        Parameters are those of ``fit``, of the ECGs in question.
        """
        unknown = np.full(len(measurements), np.nan)
        distances = self.gaussian.distance(features) if self.gaussian else unknown
        rows = zip(measurements, file_formats, unknown if ages is None else ages, distances, strict=True)
        return [dict(self._compare(*row)) for row in rows]

    def _compare(
        self, measurement: np.void, file_format: str, age: float, distance: float
    ) -> Iterator[tuple[str, str]]:
        """Yield the name of each way in which one ECG is unlike the training ECGs, and a sentence."""
        central = f"{100 * CENTRAL:g} % of the training ECGs"
        rate = _hertz(measurement["file_rate"])
        if self.file_rates and rate not in self.file_rates:
            yield "rate", f"sampled at {rate} Hz, the training ECGs at {_shares(self.file_rates, ' Hz')}"
        if self.file_formats and file_format not in self.file_formats:
            formats = _shares(self.file_formats)
            yield "file_format", f"a file of the format {file_format}, the training ECGs of {formats}"
        (lowest, highest), qrs = self.qrs_mv, measurement["qrs_mv"]
        if not lowest <= qrs <= highest:
            yield "amplitude", f"QRS of {qrs:.3g} mV, {central} have {lowest:.3g} to {highest:.3g} mV"
        age = min(age, OLDEST)  # as in the table of the training ECGs
        if self.ages and (age < self.ages[0] or age > self.ages[1]):
            yield "age", f"age {age:.0f}, {central} are of {self.ages[0]:.0f} to {self.ages[1]:.0f} years"
        if self.distances and distance > self.distances.limit:
            found = f"unlike the training ECGs in what the model sees: distance {distance:.3g}"
            usual = f"{100 * (1 - FLAGGED):g} % of validation ECGs are below {self.distances.limit:.3g}"
            yield "distance", f"{found}, {usual}"


def unlike_training(
    members: Sequence[TrainingDistribution | None],
    features: Sequence[np.ndarray],
    measurements: np.ndarray,
    file_formats: Sequence[str],
    ages: np.ndarray | None = None,
) -> list[list[str]]:
    """Return, for each ECG, how it is unlike the training ECGs according to at least half of the models.

    Parameters
    ----------
    members : one per model; None for a run of an earlier version, which is left out.
    features : one array per model, as ``channel_statistics.ChannelStatistics.take`` gives them.
    measurements, file_formats, ages : of the ECGs, as ``TrainingDistribution.findings`` takes them.
    """
    pairs = [(member, rows) for member, rows in zip(members, features, strict=True) if member is not None]
    found = [member.findings(rows, measurements, file_formats, ages) for member, rows in pairs]
    return [_agreed(ecg) for ecg in zip(*found, strict=True)] or [[] for _ in measurements]


def _agreed(member_findings: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the sentences about one ECG that at least half of the members have, in the first's words."""
    sentences, n_members = [], len(member_findings)
    for name in dict.fromkeys(name for findings in member_findings for name in findings):
        having = [findings[name] for findings in member_findings if name in findings]
        if 2 * len(having) >= n_members:
            how_many = f" ({len(having)} of {n_members} models)" if n_members > 1 else ""
            sentences.append(having[0] + how_many)
    return sentences


def _hertz(rate: float) -> str:
    return f"{round(float(rate)):,}"


def _counts(values: Sequence[str]) -> dict[str, int]:
    """Return how often each value is there, the most frequent first, then in the order of the alphabet."""
    return dict(Counter(sorted(map(str, values))).most_common())


def _central(values: np.ndarray) -> list[float]:
    """Return the range of the central share of the values."""
    outside = (1 - CENTRAL) / 2
    return np.quantile(np.asarray(values, np.float64), [outside, 1 - outside]).tolist()


def _shares(counts: Mapping[str, int], unit: str = "") -> str:
    """Return text such as "500 Hz", or "500 Hz (97 %), 1,000 Hz (3 %)"."""
    if len(counts) == 1:
        return f"{next(iter(counts))}{unit}"
    total = sum(counts.values())
    return ", ".join(f"{value}{unit} ({100 * count / total:.2g} %)" for value, count in counts.items())


def _digest(matrices: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of matrices: names, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(matrices):
        digest.update(f"{name} {matrices[name].shape}".encode())
        digest.update(np.ascontiguousarray(matrices[name]).tobytes())
    return digest.hexdigest()
