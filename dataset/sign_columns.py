"""The signs of right-heart strain that the head sees beside the ECG: clinical columns that nobody fills in.

    signs = measured_signs(cohort.signals, workers=0)     # DataFrame, n_ecgs rows, SIGN_COLUMNS
    beside = with_signs(columns, given, signals)          # of new ECGs, in the order of a model's columns

They are those of ``ecg.signs``, measured in the 10 s at rest, before any crop or augmentation, so that an ECG
has the same in training, evaluation and prediction. One that cannot be measured is nan: not known.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dataset.measuring import stored_or_new
from dataset.signal_store.signal_cache import StoredSignals
from ecg.signs import VERSION, Signs, measure_signals

PREFIX = "ecg:"  # so begins the name of what is measured, and not of a column of the labels table
SIGN_COLUMNS = tuple(PREFIX + name for name in Signs._fields)


def given_columns(columns: Sequence[str]) -> list[str]:
    """Return the columns that a labels table or a user has to give."""
    return [name for name in columns if name not in SIGN_COLUMNS]


def sign_columns(columns: Sequence[str]) -> list[str]:
    """Return the columns that are measured."""
    return [name for name in columns if name in SIGN_COLUMNS]


def measured_signs(stored: StoredSignals, *, workers: int) -> pd.DataFrame:
    """Return the signs of each ECG, float32, columns ``SIGN_COLUMNS``; they are kept beside the signals.

    Parameters
    ----------
    workers : processes that measure; 0: one per core.
    """
    shape = {"n_columns": len(SIGN_COLUMNS), "workers": workers}
    values = stored_or_new(stored, _measure, name="signs", version=VERSION, **shape)
    return pd.DataFrame(values, columns=list(SIGN_COLUMNS))


def with_signs(columns: Sequence[str], given: np.ndarray, signals: np.ndarray) -> np.ndarray:
    """Return the values of the columns of new ECGs, float32 (n_ecgs, n_columns): given or measured.

    Parameters
    ----------
    columns : of a model, `SIGN_COLUMNS` among them or not.
    given : float32, (n_ecgs, n_given), the values of ``given_columns(columns)``.
    signals : int16, (n_ecgs, 12, 5000), in µV at 500 Hz.
    """
    if not sign_columns(columns):
        return given
    table = pd.DataFrame(given, columns=given_columns(columns))
    table[list(SIGN_COLUMNS)] = _measure(signals)
    return table[list(columns)].to_numpy(np.float32)


def _measure(signals: np.ndarray) -> np.ndarray:
    """Return the signs of ECGs, float32 (n_ecgs, n_signs)."""
    return measure_signals(signals).to_numpy(np.float32)
