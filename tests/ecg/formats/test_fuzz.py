"""Damaged files of every format: 300 at random; and that the fuzzer notices a reader that is wrong."""

import re
import subprocess
import sys
import time
from pathlib import Path

import fuzz
import numpy as np
import pytest
from tiny_runs import ENVIRONMENT

import xml_loader
from ecg.formats import FORMATS
from ecg.recording import EcgFileError, Recording


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    return fuzz.written_originals(tmp_path_factory.mktemp("originals"))


def test_there_is_an_original_of_each_format(originals):
    assert {original.file_format.split(",")[0] for original in originals} == set(FORMATS)


def test_damaged_files_are_read_or_refused(originals, tmp_path):
    outcomes, failures = fuzz.fuzz(originals, 300, seed=0, seconds=2, kept=tmp_path)
    assert not failures, "\n".join(failures)
    assert outcomes.total() == 300
    refused = sum(n for (_, outcome), n in outcomes.items() if outcome == "refused")
    assert 100 < refused < 290  # most damage is noticed, but some changes nothing that matters


def test_a_case_depends_on_the_seed_and_its_number_alone(originals):
    def damaged(case, seed=3):
        return fuzz.damage(originals[0].files, np.random.default_rng([seed, case]))

    assert damaged(5) == damaged(5)
    assert damaged(5) != damaged(6) and damaged(5) != damaged(5, seed=4)


def raise_key_error(path):
    raise KeyError("rhythm")


def take_forever(path):
    while True:
        time.sleep(0.001)


def name_the_patient(path):
    raise EcgFileError(path, f"lead '{fuzz.FAMILY_NAME}'", "a lead")


def give(signal, rate=500.0):
    return lambda path: Recording(signal, rate, {"warnings": ()})


WRONG_READERS = {
    "another exception": (raise_key_error, "KeyError: 'rhythm'"),
    "too slow": (take_forever, "TooSlow: more than 0.02 s"),
    "patient": (name_the_patient, "the patient is named"),
    "11 leads": (give(np.zeros((11, 5000), np.float32)), r"float32 \(11, 5000\)"),
    "float64": (give(np.zeros((12, 5000))), r"float64 \(12, 5000\)"),
    "too short": (give(np.zeros((12, 3999), np.float32)), "3999 samples at 500.0 Hz"),
    "NaN": (give(np.full((12, 5000), np.nan, np.float32)), "not finite"),
}


@pytest.mark.parametrize("name", WRONG_READERS)
def test_a_wrong_reader_is_noticed_and_the_file_kept(originals, tmp_path, monkeypatch, name):
    reader, message = WRONG_READERS[name]
    monkeypatch.setattr(xml_loader, "read_recording", reader)
    outcomes, failures = fuzz.fuzz(originals, 2, seed=7, seconds=0.02, kept=tmp_path)
    assert len(failures) == 2 and sum(n for (_, outcome), n in outcomes.items() if outcome == "failed") == 2
    assert re.search(message, failures[1]) and failures[1].startswith("seed 7, case 1, ")
    assert any((tmp_path / "7_1").iterdir())


def test_a_reader_with_a_defect_refuses_the_file_and_is_noticed(originals, tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, next(iter(FORMATS)), raise_key_error)
    path = tmp_path / "ecg.xml"
    path.write_text("<a/>")
    with pytest.raises(
        EcgFileError, match=r"the reader of the format GE CardioSoft cannot decode \(KeyError\)"
    ):
        xml_loader.read_recording(path)
    _, failures = fuzz.fuzz(originals, 1, seed=7, seconds=2, kept=tmp_path)
    assert "a defect: " in failures[0]


def test_another_ecg_is_counted(originals, tmp_path, monkeypatch):
    monkeypatch.setattr(xml_loader, "read_recording", give(np.ones((12, 5000), np.float32)))
    outcomes, failures = fuzz.fuzz(originals[:1], 5, seed=0, seconds=2, kept=tmp_path)
    assert not failures and outcomes == {(originals[0].file_format, "another ECG"): 5}


def test_the_command_prints_a_table():
    script = Path(fuzz.__file__)
    run = subprocess.run(
        [sys.executable, script, "--cases", "20", "--seed", "1"],
        capture_output=True,
        text=True,
        env={name: value for name, value in ENVIRONMENT.items() if name != "ECG_REAL_DATA"},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    header, *rows = run.stdout.strip().splitlines()
    assert header.split()[:3] == ["format", "cases", "read"]
    assert sum(int(re.split(r"  +", row)[1]) for row in rows) == 20
