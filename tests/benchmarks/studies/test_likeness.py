"""The benchmark of likeness: its alterations are what they are called, and each has a line."""

import json
import math

import numpy as np
import pytest
from tiny_runs import line_of, make_tiny_cohort, run_folder_of, run_here, tiny, train_here

from benchmarks.studies import likeness
from benchmarks.studies.likeness import ALTERATIONS
from ecg.recording import LEADS
from inference.likeness import ValidationDistances


@pytest.fixture(scope="module")
def signals():
    """Two ECGs of random walks whose limb leads agree with each other, int16 (2, 12, 5000) in µV."""
    walks = np.random.default_rng(0).normal(0, 20, (2, 9, 5000)).cumsum(axis=2)
    return np.rint(likeness._electrodes_to_leads(walks)).astype(np.int16)


def lead(signals, name):
    return signals[:, LEADS.index(name)].astype(int)


def spectrum(signals):
    """Return the power at each frequency, 0 to 250 Hz in steps of 0.1, of all leads together."""
    return (np.abs(np.fft.rfft(signals * np.hanning(signals.shape[2]))) ** 2).sum(axis=(0, 1))


@pytest.mark.parametrize("name", ALTERATIONS)
def test_an_alteration_keeps_shape_and_type_and_leaves_its_input(signals, name):
    before = signals.copy()
    altered = ALTERATIONS[name](signals)
    assert altered.shape == signals.shape and altered.dtype == np.int16
    np.testing.assert_array_equal(signals, before)
    assert np.array_equal(altered, signals) == (name == "as they are")


@pytest.mark.parametrize("name", ALTERATIONS)
def test_limb_leads_agree_but_where_leads_are_shuffled(signals, name):
    altered = ALTERATIONS[name](signals)
    einthoven = np.abs(lead(altered, "I") + lead(altered, "III") - lead(altered, "II")).max()
    goldberger = np.abs(2 * lead(altered, "aVR") + lead(altered, "I") + lead(altered, "II")).max()
    assert (max(einthoven, goldberger) > 25) == (name == "all leads shuffled")  # µV, of rounding, ten times


def test_exchanged_arms_by_hand(signals):
    altered = ALTERATIONS["arm electrodes exchanged"](signals)
    np.testing.assert_array_equal(lead(altered, "I"), -lead(signals, "I"))
    for one, other in (("II", "III"), ("aVR", "aVL"), ("aVF", "aVF"), ("V2", "V2")):
        np.testing.assert_array_equal(lead(altered, one), lead(signals, other))
        np.testing.assert_array_equal(lead(altered, other), lead(signals, one))


def test_leads_of_the_electrodes_by_hand():
    """R, L and F at 1, 2 and 6 mV, V1's electrode at 10: I is 1, II 5, III 4, V1 10 less the mean of 3."""
    potentials = np.array([1, 2, 6, 10, 3, 3, 3, 3, 3.0])[None, :, None]
    expected = [1, 5, 4, -3, -1.5, 4.5, 7, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(likeness._electrodes_to_leads(potentials)[0, :, 0], expected)


def test_hum_is_at_50_hz_and_a_low_pass_takes_high_frequencies(signals):
    hum = spectrum(ALTERATIONS["50 Hz hum added"](signals)) / spectrum(signals)
    assert hum[500] == hum.max() > 100
    kept = spectrum(ALTERATIONS["low-passed at 15 Hz"](signals)) / spectrum(signals)
    assert 0.9 < np.median(kept[10:50]) < 1.1 and np.median(kept[400:500]) < 0.01


def test_wrong_rates_move_a_rhythm():
    """1 Hz becomes 2 where 250 Hz are taken for 500, and a half where 1,000 Hz are."""
    rhythm = np.sin(2 * np.pi * np.arange(5000) / 500) * np.ones((1, 12, 1)) * 1000
    for name, place in (("250 Hz taken for 500", 20), ("1,000 Hz taken for 500", 5)):
        assert spectrum(ALTERATIONS[name](rhythm.astype(np.int16))).argmax() == place


def test_percentiles_by_hand():
    """Distances 1 to 10: the 80 % quantile is 8.2; 9 and 10 lie beyond, by 1.3 on average."""
    validation = ValidationDistances.fit(np.arange(1.0, 11.0))
    found = likeness.percentiles(np.array([0.0, 1.0, 5.5, 8.2, 8.2 + 1.3, validation.limit]), validation)
    assert found == pytest.approx([0, 0, 50, 80, 100 - 20 / math.e, 98])


@pytest.mark.parametrize("n_ecgs", [1, 2, 5])
def test_far_beyond_few_validation_ecgs_is_100_percent(n_ecgs):
    validation = ValidationDistances.fit(np.arange(1.0, n_ecgs + 1))
    assert likeness.percentiles(np.array([1000.0]), validation) == pytest.approx([100])


def test_every_alteration_and_the_other_ecgs_have_a_line(tmp_path, cohort_folder):
    cohort = make_tiny_cohort(tmp_path / "cohort")
    run = run_folder_of(train_here("train_atten.py", *tiny(cohort, "--output-dir", tmp_path / "runs")))
    flags = [run, cohort, "--others", cohort_folder, "--ecgs", 6]
    outcome = run_here("benchmarks.studies.likeness", *flags)
    assert outcome.returncode == 0, outcome.stderr
    head, columns, first, *lines = outcome.stdout.splitlines()
    n_training = json.loads((run / "training_distribution.json").read_text(encoding="utf-8"))["n_ecgs"]
    assert head == f"6 test ECGs, {n_training} training ECGs" and columns.split()[-1] == "median"
    assert first.startswith("as they are ") and "." not in first  # no AUROC
    assert [line[:28].strip() for line in lines] == [*list(ALTERATIONS)[1:], cohort_folder.name]
    shares = {line[:28].strip(): line[28:].replace("%", "").split() for line in lines}
    assert all(len(values) == 6 and 0 <= float(values[4]) <= 1 for values in shares.values())
    assert shares["amplitude x 0.1"][2] == shares["V1 to V6 flat"][0] == "100"
    (run / "training_distribution.json").unlink()
    refusal = line_of(run_here("benchmarks.studies.likeness", run, cohort))
    assert refusal.startswith(f"likeness.py: {run}: found no training_distribution.json")
