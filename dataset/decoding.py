"""One file -> what is kept of it: its format, its signal at rest, and what quality checks need to know."""

from pathlib import Path

import numpy as np

from ecg.quality import measure
from ecg.recording import MIN_SECONDS
from xml_loader import LEADS, AtRest, Recording, bring_to_rest, read_recording


def decode(
    path: Path,
    window_start: float = 0.0,
    min_seconds: float = MIN_SECONDS,
    min_leads: int = len(LEADS),
) -> tuple[str, np.ndarray, np.void]:
    """Return a file's format, its signal at rest, int16 (12, 5000) in µV, and its measurements.

    Leads that are missing, where fewer than twelve are accepted, are zeros; the measurements say which.

    Raises
    ------
    EcgFileError : the file cannot be used.
    """
    recording = read_recording(path, min_seconds, min_leads)
    rest = bring_to_rest(recording, path, window_start, min_seconds)
    return recording.metadata["file_format"], rest.signal, measure_recording(recording, rest)


def measure_recording(recording: Recording, rest: AtRest) -> np.void:
    """Return what ``ecg.quality.judge`` needs to know of an ECG, a record of ``ecg.quality.MEASUREMENTS``."""
    return measure(
        rest.signal,
        padded=rest.padded,
        file_rate=recording.sampling_rate,
        file_seconds=recording.signal.shape[1] / recording.sampling_rate,
        gap_samples=recording.metadata["gap_samples"],
        n_derived=len(recording.metadata["derived"]),
        n_warnings=len(recording.metadata["warnings"]),
        missing=recording.metadata["missing"],
    )
