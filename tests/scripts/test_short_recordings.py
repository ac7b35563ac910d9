"""Recordings below 8 s: refused, unless --min-seconds accepts them; then padded, and said everywhere."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from tiny_runs import line_of, make_tiny_cohort, run_folder_of, run_here, tiny

from ecg.formats.hospital import hospital_xml
from xml_loader import EcgFileError, bring_to_rest, read_recording


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """24 ECGs, of which two were cut to 6 s."""
    folder = make_tiny_cohort(tmp_path_factory.mktemp("short") / "ecgs")
    for file in ("demo-0003.xml", "demo-0009.xml"):
        signal = read_recording(folder / file).signal[:, :3000]
        (folder / file).write_text(hospital_xml(signal), encoding="iso-8859-1")
    return folder


def test_a_short_recording_is_read_only_if_asked_for_and_padded_on_both_sides(cohort):
    path = cohort / "demo-0003.xml"
    for accepted in ((), (6.5,)):
        with pytest.raises(
            EcgFileError, match=r"3000 samples at 500 Hz \(6 s\); expected at least (8|6.5) s"
        ):
            read_recording(path, *accepted)
    recording = read_recording(path, 5)
    with pytest.raises(EcgFileError, match=r"found 6 s at 500 Hz; expected at least 8 s"):
        bring_to_rest(recording, path)
    rest = bring_to_rest(recording, path, min_seconds=5)
    assert rest.padded == (1000, 1000)
    np.testing.assert_array_equal(rest.signal[:, :1000], np.repeat(rest.signal[:, 1000:1001], 1000, axis=1))
    np.testing.assert_array_equal(rest.signal[:, 1000:4000], np.rint(recording.signal.astype(float) * 1000))
    with pytest.raises(EcgFileError, match="at least 8 s"):
        read_recording(path)  # the wish of one call is not that of the next


def test_a_run_with_short_recordings_says_so_and_predict_follows_it(cohort, tmp_path):
    flags = ("--output-dir", tmp_path / "runs", "--cache-dir", tmp_path / "cache")
    outcome = run_here("train_atten.py", *tiny(cohort, *flags, "--min-seconds", 5))
    run = run_folder_of(outcome)
    assert "24 read, 0 rejected" in outcome.stdout
    quality = pd.read_csv(run / "quality.csv")
    padded = quality[quality["check"] == "padded"]
    assert sorted(padded["file"]) == ["demo-0003.xml", "demo-0009.xml"]
    assert set(padded["finding"]) == {"4 s added to a recording of 6 s"}
    assert json.loads((run / "model.json").read_text())["min_seconds"] == 5
    page = re.sub(r"\s+", " ", (run / "report.html").read_text(encoding="utf-8"))
    assert "Recordings of 5 s or more were accepted (--min-seconds) in place of 8 s." in page
    assert "a short one, of 5 s at least, is padded to 10 s." in page
    short = cohort / "demo-0003.xml"
    scored = run_here("predict.py", run, short)
    assert scored.returncode == 0 and "4 s added to a recording of 6 s" in scored.stdout
    refused = run_here("predict.py", run, short, "--min-seconds", 7)
    assert refused.returncode == 1 and "expected at least 7 s" in refused.stderr
    wrong = run_here("predict.py", run, short, "--min-seconds", 1)
    assert "--min-seconds: found 1, expected a number from 3 to 10" in line_of(wrong, status=2)


def test_without_the_flag_short_recordings_are_left_out(cohort, tmp_path):
    outcome = run_here("inspect_ecgs.py", cohort)
    assert outcome.returncode == 1 and "refused 2" in outcome.stdout
    outcome = run_here("inspect_ecgs.py", cohort, "--min-seconds", 5)
    assert outcome.returncode == 0 and "4 s added to a recording of 6 s" in outcome.stdout
    line = line_of(run_here("train_atten.py", *tiny(cohort, "--min-seconds", 2)), status=2)
    assert "min_seconds" in line and "a number from 3 to 10" in line
