"""What is measured in each ECG of a cohort for a pretraining: waves and intervals, age and sex."""

import numpy as np
import pandas as pd

from dataset.clinical import clinical_values
from dataset.cohort import Cohort
from dataset.measuring import stored_or_new
from ecg.beat_values import AMPLITUDES, VALUE_NAMES, VERSION, measure_values
from ecg.recording import MILLIVOLTS
from runtime.processes import first_before_others

KNOWN_OF_PATIENTS = ("age", "sex")  # columns of the table


def measured_values(cohort: Cohort, *, workers: int, relative: bool) -> pd.DataFrame:
    """Return what is measured in each ECG, and age and sex where the table has them; nan: not known.

    The measurements are kept beside the signals in the cache.

    Parameters
    ----------
    workers : processes that measure; 0: one per core.
    relative : give amplitudes as multiples of the ECG's standard deviation over all its leads: a model that
        sees ECGs normalised by it cannot see millivolts.

    Returns
    -------
    DataFrame of float32, n_ecgs rows
    """
    with first_before_others():
        both = stored_or_new(
            cohort.signals,
            _measure,
            name="values",
            version=VERSION,
            n_columns=len(VALUE_NAMES) + 1,
            workers=workers,
        )
    table = pd.DataFrame(both[:, :-1], columns=list(VALUE_NAMES))
    if relative:
        table[list(AMPLITUDES)] /= both[:, -1:]
    known = [name for name in KNOWN_OF_PATIENTS if name in cohort.table]
    return table.assign(**dict(zip(known, clinical_values(cohort.table, known).T, strict=True)))


def _measure(signals: np.ndarray) -> np.ndarray:
    """Return values and, as the last column, deviations of ECGs, float32 (n_ecgs, n_values + 1)."""
    deviations = np.stack([ecg.std(dtype=np.float32) * MILLIVOLTS for ecg in signals])
    return np.column_stack([measure_values(signals), np.maximum(deviations, MILLIVOLTS)]).astype(np.float32)
