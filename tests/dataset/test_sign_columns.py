"""The measured signs beside the ECG: those of `ecg.signs`, measured once, nan where that is not possible."""

import os
import time

import numpy as np
import pytest
from tiny_runs import make_tiny_cohort

from dataset import sign_columns
from dataset.clinical import check_clinical
from dataset.cohort import read_cohort
from dataset.labels_table import read_files
from dataset.measuring import stored_or_new
from dataset.sign_columns import SIGN_COLUMNS, given_columns, with_signs
from ecg.recording import LEADS
from ecg.signs import Signs, measure_signs
from hyperparameters.declaration import Hyperparameters
from runtime.errors import UserError


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_tiny_cohort(tmp_path_factory.mktemp("tiny") / "ecgs")


def read(place, **changes):
    values = Hyperparameters(data_dir=str(place), cache_dir=str(place.parent / "cache"), **changes)
    return read_cohort(quality=values.group("quality"), **values.group("cohort"))


def test_a_cohort_has_the_signs_after_its_columns(place):
    assert read(place, clinical_columns=["age"]).clinical.shape[1] == 1
    cohort = read(place, clinical_columns=["age"], ecg_signs=True)
    assert list(cohort.clinical) == ["age", *SIGN_COLUMNS] and given_columns(cohort.clinical) == ["age"]
    assert cohort.model_arguments["n_clinical"] == 1 + len(Signs._fields)
    expected = [measure_signs(signal * 1e-3) for signal in cohort.signals.read(range(24))]
    np.testing.assert_allclose(cohort.clinical[list(SIGN_COLUMNS)], expected, rtol=1e-6)
    assert cohort.clinical["ecg:heart_rate_bpm"].between(30, 200).all()


def test_they_are_measured_once_unless_other_ecgs_are_meant(place, monkeypatch):
    before = read(place, ecg_signs=True).clinical
    monkeypatch.setattr(sign_columns, "_measure", None)  # nothing is measured again
    assert read(place, ecg_signs=True, workers=2).clinical.equals(before)
    with pytest.raises(TypeError):
        read(place, ecg_signs=True, workers=1, window_start=0.5)


def test_two_processes_measure_what_one_does(place, monkeypatch):
    monkeypatch.setattr("dataset.measuring.CHUNK", 5)
    stored = read(place).signals
    one, two = (
        stored_or_new(stored, sign_columns._measure, name=f"of-{n}", version=1, n_columns=17, workers=n)
        for n in (1, 2)
    )
    np.testing.assert_array_equal(one, two)


def test_a_killed_process_is_one_line(place, monkeypatch):
    monkeypatch.setattr("dataset.measuring.CHUNK", 5)
    with pytest.raises(UserError, match=r"^a process that measured ECGs was killed, .*; try --workers 1$"):
        stored_or_new(read(place).signals, kill, name="of-none", version=1, n_columns=1, workers=2)


def kill(signals):
    os._exit(9)


def test_there_are_no_more_processes_than_cores_that_may_be_used(place, monkeypatch):
    monkeypatch.setattr("dataset.measuring.CHUNK", 1)
    monkeypatch.setattr("dataset.measuring.n_cores", lambda: 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    options = {"name": "of-processes", "version": 1, "n_columns": 1, "workers": 0}
    assert len(np.unique(stored_or_new(read(place).signals, process, **options))) <= 2


def process(signals):
    time.sleep(0.02)  # so that one process alone does not take all
    return np.full((len(signals), 1), os.getpid(), np.float64)


def test_what_cannot_be_measured_is_not_known(place):
    signals = read(place).signals.read(range(3))
    signals[1] = 0
    signals[2, LEADS.index("V3")] = 0
    columns = ["age", "ecg:t_in_v3_mv", "ecg:heart_rate_bpm"]
    values = with_signs(columns, np.array([[61], [62], [np.nan]], np.float32), signals)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(
        np.isnan(values), [[False, False, False], [False, True, True], [True, True, False]]
    )
    assert values[0, 1] == np.float32(measure_signs(signals[0] * 1e-3).t_in_v3_mv)
    assert (
        with_signs(["age"], values[:, :1], signals) is not None and with_signs([], values, signals) is values
    )


def test_a_column_of_the_table_cannot_pass_as_measured(place):
    table = read_files(place / "labels.csv")
    table["ecg:qrs_ms"] = "100"
    with pytest.raises(UserError, match=r"clinical column ecg:qrs_ms: found the name of a sign that is meas"):
        check_clinical("t.csv", table, ["age", "ecg:qrs_ms"])
