"""The synthetic cohort: what is written is what was planted, and the same seed writes it again."""

import csv
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import find_peaks
from sklearn.metrics import roc_auc_score

from ecg.simulation import (
    DISCLAIMER,
    LEADS,
    MV_PER_COUNT,
    SAMPLING_RATE,
    SIGN_RATES,
    achievable_auroc,
    draw_patient,
    draw_patients,
    hospital_xml,
    make_cohort,
    simulate_ecg,
)

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"n_ecgs": 12, "n_patients": 10, "prevalence": 0.25, "seed": 7}
NO_SIGN = dict.fromkeys(SIGN_RATES, 0)


@pytest.fixture(scope="module")
def labels_table(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("synthetic") / "cohort", **SMALL)


def read_rows(path):
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def read_counts(path):
    channels = list(ElementTree.parse(path).iter("channel"))
    assert [channel.get("name") for channel in channels] == list(LEADS)
    assert {(channel.get("freq"), channel.get("amplitude_unit")) for channel in channels} == {
        ("500", "0,0025")
    }
    return np.array([[int(count) for count in channel.text.split()] for channel in channels])


def simulate_many(sign, n=25, **options):
    """Return signals (n, 12, 5000) and truths of patients with only this sign, or with none."""
    generator = np.random.default_rng(3)
    signs = NO_SIGN | ({sign: 1} if sign else {})
    patients = [draw_patient(generator, pe=False, signs=signs) for _ in range(n)]
    signals, truths = zip(*(simulate_ecg(patient, generator, **options) for patient in patients), strict=True)
    return np.array(signals), truths


def r_peaks(signal):
    """Find R peaks independently of the truth: where the leads together change fastest."""
    speed = np.convolve(np.abs(np.diff(signal, axis=1)).sum(axis=0), np.ones(25), mode="same")
    return find_peaks(speed, distance=0.3 * SAMPLING_RATE, height=0.4 * np.quantile(speed, 0.995))[0]


def test_same_seed_gives_identical_files_and_another_seed_others(labels_table, tmp_path):
    again = make_cohort(tmp_path / "again", **SMALL)
    other = make_cohort(tmp_path / "other", **(SMALL | {"seed": 8}))
    files = sorted(path.name for path in labels_table.parent.iterdir())
    assert files == sorted(path.name for path in again.parent.iterdir())
    for name in files:
        assert (labels_table.parent / name).read_bytes() == (again.parent / name).read_bytes()
    assert labels_table.read_bytes() != other.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "other"]  # nothing half made remains


def test_files_hold_twelve_leads_that_obey_einthoven_and_goldberger(labels_table):
    for row in read_rows(labels_table):
        counts = read_counts(labels_table.parent / row["file"])
        assert counts.shape == (12, 5000)
        one, two, three, avr, avl, avf = counts[:6]
        np.testing.assert_array_equal(three, two - one)
        np.testing.assert_array_equal(2 * avr, -(one + two))
        np.testing.assert_array_equal(2 * avl, 2 * one - two)
        np.testing.assert_array_equal(2 * avf, 2 * two - one)


def test_signal_in_memory_is_the_one_in_the_file(tmp_path):
    generator = np.random.default_rng(0)
    signal, _ = simulate_ecg(draw_patient(generator, pe=True), generator)
    path = tmp_path / "demo.xml"
    path.write_text(hospital_xml(signal), encoding="iso-8859-1")
    np.testing.assert_allclose(read_counts(path) * MV_PER_COUNT, signal, atol=1e-12)
    assert DISCLAIMER in path.read_text(encoding="iso-8859-1")


def test_tables_have_the_patients_and_the_prevalence_asked_for(labels_table):
    rows, truths = read_rows(labels_table), read_rows(labels_table.with_name("truth.csv"))
    assert list(rows[0]) == ["file", "patient_id", "age", "sex", "PE"]
    assert [row["file"] for row in rows] == [truth["file"] for truth in truths]
    assert len(rows) == 12
    assert len({row["patient_id"] for row in rows}) == 10
    assert len({(row["patient_id"], row["age"], row["sex"], row["PE"]) for row in rows}) == 10
    assert sum(row["PE"] == "1" for row in rows) == 3
    assert all(row["sex"] in "FM" and 18 <= int(row["age"]) <= 100 for row in rows)


def test_a_patient_keeps_signs_and_axis_but_not_the_noise(labels_table):
    rows, truths = read_rows(labels_table), read_rows(labels_table.with_name("truth.csv"))
    patients = [row["patient_id"] for row in rows]
    first = next(i for i in range(11) if patients[i] == patients[i + 1])
    shared = ["PE", *SIGN_RATES, "qrs_axis_deg", "qrs_ms", "pr_ms"]
    assert [truths[first][name] for name in shared] == [truths[first + 1][name] for name in shared]
    assert truths[first]["heart_rate_bpm"] != truths[first + 1]["heart_rate_bpm"]


def test_signs_have_the_rates_of_the_table():
    generator = np.random.default_rng(1)
    patients = [patient for patient, _ in draw_patients(generator, 4000, 4000, 0.5)]
    for sign, rates in SIGN_RATES.items():
        for pe, rate in zip((1, 0), rates, strict=True):
            present = [patient.signs[sign] for patient in patients if pe == patient.PE]
            assert len(present) == 2000
            assert abs(np.mean(present) - rate) < 4 * np.sqrt(rate * (1 - rate) / 2000), (sign, pe)


def test_default_prevalence_is_met_to_the_ecg():
    patients = draw_patients(np.random.default_rng(42), 300, 270, 0.15)
    assert (len(patients), sum(count for _, count in patients)) == (270, 300)
    assert sum(count for patient, count in patients if patient.PE) == 45


def test_achievable_auroc_of_one_sign_by_hand():
    # One sign with sensitivity 0.6 and specificity 0.9 is one point of the ROC: (0.6 + 0.9) / 2.
    assert achievable_auroc({"sign": (0.6, 0.1)}) == pytest.approx(0.75)
    assert achievable_auroc({"useless": (0.3, 0.3)}) == pytest.approx(0.5)


def test_achievable_auroc_agrees_with_a_large_sample():
    generator = np.random.default_rng(2)
    rates = np.array(list(SIGN_RATES.values()))
    y_true = np.repeat([1, 0], 50_000)
    signs = generator.random((100_000, len(rates))) < rates.T[1 - y_true]
    ratios = np.where(signs, rates[:, 0] / rates[:, 1], (1 - rates[:, 0]) / (1 - rates[:, 1]))
    assert roc_auc_score(y_true, np.log(ratios).sum(axis=1)) == pytest.approx(achievable_auroc(), abs=0.01)
    assert 0.87 < achievable_auroc() < 0.93


@pytest.mark.parametrize("sign", [None, "sinus_tachycardia", "incomplete_RBBB"])
def test_heart_rate_agrees_with_counted_peaks(sign):
    signals, truths = simulate_many(sign, n=12)
    for signal, truth in zip(signals, truths, strict=True):
        counted = 60 * SAMPLING_RATE / np.diff(r_peaks(signal)).mean()
        assert counted == pytest.approx(truth["heart_rate_bpm"], rel=0.02)
        assert (truth["heart_rate_bpm"] > 100) == (sign == "sinus_tachycardia")


def beats_without_noise(sign):
    """Return a beat a patient, (n, 12, 450), and the truths.

    The isoelectric line is at zero and the largest deflection, R or S, at sample 150.
    """
    signals, truths = simulate_many(sign, noise=0)
    beats = []
    for signal in signals:
        peak = next(peak for peak in r_peaks(signal) if peak > 200)
        peak += np.argmax(np.ptp(signal[:, peak - 15 : peak + 16], axis=0)) - 15
        beat = signal[:, peak - 150 : peak + 300]
        beats.append(beat - beat[:, 18:24].mean(axis=1, keepdims=True))  # before P, 260 ms before R
    return np.array(beats), truths


def net_axis(beats):
    """Measure the QRS axis in degrees from the net areas in I and aVF."""
    areas = beats[:, [LEADS.index("I"), LEADS.index("aVF")], 112:185].sum(axis=2)
    return np.degrees(np.arctan2(2 / np.sqrt(3) * areas[:, 1], areas[:, 0]))


def test_planted_signs_are_visible_in_the_leads():
    lead = {name: index for index, name in enumerate(LEADS)}
    normal, _ = beats_without_noise(None)
    s1q3t3, truths = beats_without_noise("S1Q3T3")
    qrs, t_wave = slice(125, 185), slice(220, 350)
    assert normal[:, lead["I"], qrs].min(axis=1).mean() > -0.2
    assert np.all(s1q3t3[:, lead["I"], qrs].min(axis=1) < -0.2)
    assert np.all(s1q3t3[:, lead["III"], 125:152].min(axis=1) < -0.15)
    assert s1q3t3[:, lead["III"], t_wave].mean() < -0.02 < 0.02 < normal[:, lead["III"], t_wave].mean()
    assert all(truth["t_in_iii_mv"] < -0.05 for truth in truths)

    late = slice(165, 180)  # 30 to 60 ms after R
    incomplete_rbbb, _ = beats_without_noise("incomplete_RBBB")
    assert normal[:, lead["V1"], late].max(axis=1).mean() < 0.1
    assert np.all(incomplete_rbbb[:, lead["V1"], late].max(axis=1) > 0.15)

    inverted, _ = beats_without_noise("T_inversion_V1_V4")
    for name in ("V1", "V2", "V3", "V4"):
        assert np.all(inverted[:, lead[name], t_wave].mean(axis=1) < 0), name
    assert np.all(normal[:, lead["V2"], t_wave].mean(axis=1) > 0)


@pytest.mark.parametrize("sign", [None, "right_axis", "S1Q3T3"])
def test_axis_measured_in_the_limb_leads_is_the_planted_one(sign):
    beats, truths = beats_without_noise(sign)
    planted = np.array([truth["qrs_axis_deg"] for truth in truths])
    assert np.max(np.abs(net_axis(beats) - planted)) < 10
    assert np.all(planted > 90) if sign == "right_axis" else np.all(planted < 90)


def test_amplitudes_and_intervals_are_those_of_adults():
    beats, truths = beats_without_noise(None)
    v5 = beats[:, LEADS.index("V5")]
    assert 1.0 < np.median(v5[:, 125:185].max(axis=1)) < 1.6
    assert 0.05 < np.median(beats[:, LEADS.index("II"), 60:115].max(axis=1)) < 0.2
    assert 0.15 < np.median(v5[:, 220:350].max(axis=1)) < 0.5
    r_by_lead = np.median(beats[:, 6:10, 125:185].max(axis=2), axis=0)
    assert np.all(np.diff(r_by_lead) > -0.1)  # R grows from V1 to V4
    assert r_by_lead[3] > 2 * r_by_lead[0]
    for name, low, high in (("pr_ms", 110, 200), ("qrs_ms", 75, 102), ("qt_ms", 300, 470)):
        assert all(low <= truth[name] <= high for truth in truths), name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_ecgs", 9),
        ("n_patients", 1),
        ("n_ecgs", 12.0),
        ("prevalence", 0.0),
        ("prevalence", 1.2),
        ("seed", -1),
    ],
)
def test_argument_out_of_range_is_named(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"^{name}: found"):
        make_cohort(tmp_path / "cohort", **(SMALL | {name: value}))
    assert not (tmp_path / "cohort").exists()


def test_prevalence_without_a_positive_patient_and_unknown_sign_are_refused(tmp_path):
    with pytest.raises(ValueError, match="prevalence"):
        make_cohort(tmp_path / "cohort", **(SMALL | {"prevalence": 0.01}))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="signs"):
        draw_patient(np.random.default_rng(0), pe=True, signs={"S1Q3": 1})


def test_existing_folder_is_used_when_the_same_and_refused_otherwise(labels_table, tmp_path):
    before = labels_table.stat().st_mtime_ns
    assert make_cohort(labels_table.parent, **SMALL) == labels_table
    assert labels_table.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"found 12 synthetic ECGs.*expected"):
        make_cohort(labels_table.parent, **(SMALL | {"seed": 8}))
    assert make_cohort(tmp_path, **SMALL).is_file()  # an empty folder is filled
    (tmp_path / "demo-0001.xml").unlink()
    with pytest.raises(ValueError, match="found 11 synthetic ECGs"):
        make_cohort(tmp_path, **SMALL)


def test_failed_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("ecg.simulation.hospital_xml", lambda signal: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make_cohort(tmp_path / "cohort", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_command_line(tmp_path):
    command = [sys.executable, "-m", "ecg.simulation", str(tmp_path / "cohort")]
    made = subprocess.run([*command, "--n-ecgs", "10"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "10 ECGs, 2 with PE" in made.stdout
    assert f"{achievable_auroc():.3f}" in made.stdout
    assert DISCLAIMER in made.stdout
    refused = subprocess.run([*command, "--n-ecgs", "20"], cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ")
    assert refused.stderr.count("\n") == 1
