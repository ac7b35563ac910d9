"""A cohort in memory, for tests that need no files."""

import numpy as np
import pandas as pd

from dataset.cohort import Cohort
from ecg.quality import MEASUREMENTS


def cohort_of(targets, patient_ids=None, split=None, signals=None, rows=None):
    """Return a cohort of given labels and patients; its signals are empty unless they are given."""
    targets = np.asarray(targets, np.float32).reshape(len(targets), -1)
    n = len(targets)
    files = [f"{index}.xml" for index in range(n)]
    table = pd.DataFrame({"file": files, "patient_id": files if patient_ids is None else patient_ids})
    table["digest"] = files
    table["same_ecg"] = range(n)
    if split is not None:
        table["split"] = split
    return Cohort(
        signals=np.zeros((0, 12, 5000), np.int16) if signals is None else signals,
        rows=np.arange(n) if rows is None else rows,
        targets=targets,
        label_names=("PE", "MI", "AF")[: targets.shape[1]],
        table=table,
        measurements=np.zeros(n, MEASUREMENTS),
        rejected=pd.DataFrame(columns=["file", "reason"]),
        quality=pd.DataFrame(columns=["file", "check", "verdict", "finding"]),
        patients_assumed=False,
        n_parsed=0,
    )
