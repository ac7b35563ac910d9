"""A cohort in memory, for tests that need no files."""

import numpy as np
import pandas as pd

from dataset.cohort import Cohort, Reading
from ecg.quality import MEASUREMENTS


class SignalsInMemory:
    """What a cohort has in place of `StoredSignals`: ``values`` is int16, (n_rows, 12, 5000)."""

    def __init__(self, values, rows=None):
        self.values, self.rows = values, np.arange(len(values)) if rows is None else rows

    def __len__(self):
        return len(self.rows)

    def read(self, ecgs, out=None):
        return np.take(self.values, self.rows[ecgs], axis=0, out=out)


def cohort_of(targets, patient_ids=None, split=None, signals=None, rows=None):
    """Return a cohort of given labels and patients; it has no signals unless they are given."""
    targets = np.asarray(targets, np.float32).reshape(len(targets), -1)
    n = len(targets)
    files = [f"{index}.xml" for index in range(n)]
    table = pd.DataFrame({"file": files, "patient_id": files if patient_ids is None else patient_ids})
    table["digest"] = files
    table["same_ecg"] = range(n)
    if split is not None:
        table["split"] = split
    return Cohort(
        table=table,
        targets=targets,
        label_names=("PE", "MI", "AF")[: targets.shape[1]],
        clinical=table[[]],
        signals=SignalsInMemory(np.zeros((0, 12, 5000), np.int16) if signals is None else signals, rows),
        measurements=np.zeros(n, MEASUREMENTS),
        reading=Reading(
            window_start=0.0,
            quality_limits={},
            patient_key="",
            patients_assumed=False,
            rejected=pd.DataFrame(columns=["file", "reason"]),
            findings=pd.DataFrame(columns=["file", "check", "verdict", "finding"]),
            n_parsed=0,
        ),
    )
