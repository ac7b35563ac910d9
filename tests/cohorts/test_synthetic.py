"""The synthetic cohort: what is written is what was planted, and the same seed writes it again."""

import csv
import errno
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from cohorts.synthetic import DISCLAIMER, draw_patients, make_cohort, planted_auroc
from ecg.formats.hospital import hospital_xml
from ecg.recording import LEADS
from ecg.simulation import MV_PER_COUNT, SIGN_RATES, achievable_auroc, draw_patient, simulate_ecg
from runtime.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"n_ecgs": 12, "n_patients": 10, "prevalence": 0.25, "seed": 7}


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
    path.write_text(hospital_xml(signal, comment=DISCLAIMER), encoding="iso-8859-1")
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
    with pytest.raises(UserError, match=f"^{name}: found"):
        make_cohort(tmp_path / "cohort", **(SMALL | {name: value}))
    assert not (tmp_path / "cohort").exists()


def test_prevalence_without_a_positive_patient_is_refused(tmp_path):
    with pytest.raises(UserError, match="prevalence"):
        make_cohort(tmp_path / "cohort", **(SMALL | {"prevalence": 0.01}))
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_used_when_the_same_and_refused_otherwise(labels_table, tmp_path):
    before = labels_table.stat().st_mtime_ns
    assert make_cohort(labels_table.parent, **SMALL) == labels_table
    assert labels_table.stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"found 12 synthetic ECGs.*expected"):
        make_cohort(labels_table.parent, **(SMALL | {"seed": 8}))
    assert make_cohort(tmp_path, **SMALL).is_file()  # an empty folder is filled
    (tmp_path / "demo-0001.xml").unlink()
    with pytest.raises(UserError, match="found 11 synthetic ECGs"):
        make_cohort(tmp_path, **SMALL)


def test_failed_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("cohorts.synthetic.hospital_xml", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make_cohort(tmp_path / "cohort", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told_in_one_line(tmp_path, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError) as refused:
        make_cohort(tmp_path / "cohort", **SMALL)
    assert str(refused.value) == (
        f"{tmp_path / 'cohort'}: the synthetic ECGs cannot be written there (Permission denied); work in "
        "another folder, or name ECGs of your own with --data-dir"
    )


def test_auroc_of_the_planted_signs_by_hand(tmp_path):
    assert np.isnan(planted_auroc(tmp_path))
    none = dict.fromkeys(SIGN_RATES, 0)
    rows = [("a", 1, {"S1Q3T3": 1}), ("b", 1, {}), ("c", 0, {}), ("d", 0, {"sinus_tachycardia": 1})]
    with open(tmp_path / "truth.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, ["file", "PE", *SIGN_RATES])
        writer.writeheader()
        writer.writerows({"file": file, "PE": pe, **none, **signs} for file, pe, signs in rows)
    assert (
        planted_auroc(tmp_path) == 2.5 / 4
    )  # a (ratio 11.7) above c and d; b ties with c, and is below d (4)
    assert planted_auroc(tmp_path, {"a", "c"}) == 1 and np.isnan(planted_auroc(tmp_path, ["a", "b"]))


def test_command_line(tmp_path):
    command = [sys.executable, "-m", "cohorts.synthetic", str(tmp_path / "cohort")]
    made = subprocess.run([*command, "--n-ecgs", "10"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "10 ECGs, 2 with PE" in made.stdout
    assert f"expect: {achievable_auroc():.3f}" in made.stdout
    assert f"these ECGs: {planted_auroc(tmp_path / 'cohort'):.3f}" in made.stdout
    assert DISCLAIMER in made.stdout
    refused = subprocess.run([*command, "--n-ecgs", "20"], cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr.startswith("synthetic.py: ")
    assert refused.stderr.count("\n") == 1
