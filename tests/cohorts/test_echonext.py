"""EchoNext, from arrays and metadata in the publisher's form, as far as it is known."""

import numpy as np
import pandas as pd
import pytest
from tiny_runs import line_of, run_here

from cohorts.echonext import LABELS
from dataset.labels_table import read_labels
from xml_loader import read_recording

RV, PASP = "rv_systolic_dysfunction_moderate_or_greater_flag", "pasp_gte_45_flag"


@pytest.fixture
def folder(tmp_path):
    """Five ECGs: two of one patient train, one validates, one tests, one is of no split."""
    rows = [
        (101, 7, "train", "Female", 61, "1", "0"),
        (102, 9, "test", "Male", 93, "0", ""),
        (103, 7, "train", "Female", 62, "0", "1.0"),
        (104, 8, "no_split", "Male", 50, "1", "1"),
        (105, 5, "val", "Male", "", "", "0.0"),
    ]
    table = pd.DataFrame(rows, columns=["ecg_key", "patient_key", "split", "sex", "age_at_ecg", RV, PASP])
    others = {column: 0 for column in LABELS.values() if column not in (RV, PASP)}
    table.assign(**others).to_csv(tmp_path / "echonext_metadata_100k.csv", index=False)
    generator = np.random.default_rng(0)
    for split, n in {"train": 2, "val": 1, "test": 1}.items():
        np.save(tmp_path / f"EchoNext_{split}_waveforms.npy", generator.normal(size=(n, 1, 2500, 12)))
    return tmp_path


def test_labels_split_and_signals_are_the_publishers(folder):
    outcome = run_here("cohorts.echonext", folder)
    assert outcome.returncode == 0, outcome.stderr
    table, _ = read_labels(folder / "labels.csv", ["RV_dysfunction", "PASP45", "TR32"])
    assert list(table["file"]) == [f"ecgs/{key}.hea" for key in (101, 102, 103, 105)]
    assert list(table["patient_id"]) == ["7", "9", "7", "5"]
    assert list(table["split"]) == ["train", "test", "train", "validation"]
    assert list(table["sex"]) == ["F", "M", "F", "M"] and list(table["age"]) == ["61", "90", "62", ""]
    np.testing.assert_array_equal(table["RV_dysfunction"], [1, 0, 0, np.nan])
    np.testing.assert_array_equal(table["PASP45"], [0, np.nan, 1, 0])
    assert "left out           1  of no split" in outcome.stdout and "kept               4" in outcome.stdout
    second = np.load(folder / "EchoNext_train_waveforms.npy")[
        1, 0
    ]  # of ECG 103: the third row, the second that trains
    recording = read_recording(folder / "ecgs" / "103.hea")
    assert recording.sampling_rate == 250
    np.testing.assert_allclose(recording.signal, second.T, rtol=0, atol=0.000501)


def test_the_unit_and_the_labels_can_be_chosen(folder):
    outcome = run_here("cohorts.echonext", folder, "--labels", "SHD", "--millivolts", 0.5)
    assert outcome.returncode == 0 and "0  SHD (0.0% of 4 known)" in outcome.stdout
    one = read_recording(folder / "ecgs" / "105.hea").signal
    np.testing.assert_allclose(
        one, 0.5 * np.load(folder / "EchoNext_val_waveforms.npy")[0, 0].T, atol=0.000501
    )


def test_what_cannot_be_written_is_counted(folder):
    waveforms = np.load(folder / "EchoNext_train_waveforms.npy")
    waveforms[0, 0, 5, 3], waveforms[1, 0, 7, 2] = 40, np.nan
    np.save(folder / "EchoNext_train_waveforms.npy", waveforms)
    outcome = run_here("cohorts.echonext", folder)
    assert "left out           2  beyond 32.767 mV, or not finite" in outcome.stdout
    assert sorted(path.stem for path in (folder / "ecgs").glob("*.hea")) == ["102", "105"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda table: table.assign(split="dev"),
            "line 2: found split dev, expected train, val, test or no_split",
        ),
        (
            lambda table: table.assign(**{PASP: 2}),
            f"line 2: column {PASP}: found 2, expected 0, 1 or nothing",
        ),
        (
            lambda table: table.assign(ecg_key="../x"),
            "line 2: found ecg_key ../x, expected letters and digits",
        ),
        (lambda table: table.drop(columns=RV), f"column {RV}: found only"),
        (lambda table: table.iloc[1:], "found an array of shape (2, 1, 2500, 12), expected (1, 1, 2500, 12)"),
    ],
)
def test_what_is_wrong_is_one_line(folder, change, words):
    path = folder / "echonext_metadata_100k.csv"
    change(pd.read_csv(path, dtype=str)).to_csv(path, index=False)
    assert words in line_of(run_here("cohorts.echonext", folder))


def test_absent_arrays_are_one_line(folder):
    (folder / "EchoNext_val_waveforms.npy").unlink()
    assert "EchoNext_val_waveforms.npy: the waveforms cannot be read (No such file" in line_of(
        run_here("cohorts.echonext", folder)
    )
