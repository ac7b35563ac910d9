"""The check of an installation: it passes here, and finds what is wrong."""

import json
import math
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_runs import line_of, run_here

from benchmarks.installation import check
from benchmarks.installation.check import Check, checks, main, read_expected
from run_folder.run import Run


@pytest.fixture
def golden(tmp_path, monkeypatch):
    """A copy of golden/ that may be damaged."""
    folder = tmp_path / "golden"
    shutil.copytree(check.GOLDEN, folder)
    monkeypatch.setattr(check, "GOLDEN", folder)
    monkeypatch.setattr("sys.argv", ["check.py"])
    return folder


def test_this_installation_passes(golden, capsys):
    assert main() == 0
    printed = capsys.readouterr().out.splitlines()
    assert "21 checks, 0 failed, " in printed[-1]
    assert printed[0].split() == ["check", "found", "expected", "tolerance"]
    assert sum(line.startswith("ok ") for line in printed) == 21
    assert sum(path.stat().st_size for path in golden.iterdir()) < 500_000


def failed(expected=None):
    """Return what fails, and the number of checks."""
    made = list(checks(expected or read_expected()))
    return [one.name for one in made if not one.passed], len(made)


def test_another_head_gives_other_scores(golden, monkeypatch):
    monkeypatch.setattr(check, "explanation_of", lambda *_: {})
    head = load_file(golden / check.HEAD)
    head["head.bias"] = head["head.bias"] + np.float32(0.1)
    save_file(head, golden / check.HEAD)
    assert failed()[0] == ["SHA-256 of golden/head.safetensors", "logit of PE", "score of PE"]


def test_a_sample_off_by_five_microvolts_is_found(golden, monkeypatch):
    monkeypatch.setattr(check, "scores_of", lambda *_: {})
    monkeypatch.setattr(check, "explanation_of", lambda *_: {})
    samples = np.fromfile(golden / "ecg.dat", "<i2")
    samples[1000] += 5
    samples.tofile(golden / "ecg.dat")
    names, _ = failed()
    assert names[0] == "CRC-32 of the signal, read from wfdb"


@pytest.mark.parametrize(
    ("found", "expected", "tolerance", "passed"),
    [(1.0, 1.1, 0.11, True), (1.0, 1.1, 0.09, False), (math.nan, 1.0, 9, False), ("III", "II", None, False)],
)
def test_a_check_passes_within_its_tolerance(found, expected, tolerance, passed):
    one = Check("name", found, expected, tolerance)
    assert one.passed is passed and one.line().startswith("ok" if passed else "FAILED")


def test_the_planted_signs_are_those_measured():
    """What must come out is right, not only what came out once: the simulator says what it planted."""
    signs = read_expected()["signs"]
    generator = np.random.default_rng(check.SEED)
    patient = check.draw_patient(generator, pe=True, signs=check.SIGNS)
    truth = check.simulate_ecg(patient, generator)[1]
    assert signs["heart_rate_bpm"] == pytest.approx(truth["heart_rate_bpm"], abs=1)
    assert signs["s1q3t3"] == 1 and signs["qrs_axis_deg"] > 90


def test_a_damaged_file_is_one_line(golden, capsys):
    (golden / check.EXPECTED).write_text("{")
    with pytest.raises(
        ValueError, match=r"expected\.json: found no readable file, expected that of the repo"
    ):
        main()
    assert json.loads((check.Path(check.__file__).parent / "golden" / check.EXPECTED).read_text())


def test_a_run_whose_trunk_has_changed_is_refused(tmp_path):
    weights = Run(check.TRUNK).read_weights()
    changed = next(name for name in weights if name.startswith("trunk."))
    Run(tmp_path).save_weights(weights | {changed: weights[changed] + 1})
    shutil.copy(check.GOLDEN / "model.json", tmp_path)
    line = line_of(run_here("benchmarks.installation.check", "--write", tmp_path))
    assert f"found {changed} changed, expected the trunk of" in line
    assert "weights cannot be used" in line_of(run_here("benchmarks.installation.check", "--write", "none"))
