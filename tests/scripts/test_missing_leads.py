"""Recordings that lack leads: refused, unless --min-leads accepts them, for models of lead dropout alone."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_runs import line_of, make_tiny_cohort, run_folder_of, run_here, tiny, train_here

from dataset.decoding import decode
from ecg.duplicates import near_duplicates
from ecg.quality import judge, missing_leads
from ecg.recording import LEADS, assemble
from hyperparameters.declaration import Hyperparameters
from inference.scoring import Scorer
from xml_loader import EcgFileError, at_least

CHEST = LEADS[6:]
LIMITS = Hyperparameters().group("quality")
LIMITS = {name: value for name, value in LIMITS.items() if name != "quality_checks"}


def without(path, leads, to):
    """Write a copy of a hospital file without some leads, and return its path."""
    text = path.read_text(encoding="iso-8859-1")
    for lead in leads:
        text, n = re.subn(rf' *<channel name="{lead}" .*?</channel>\n', "", text, flags=re.DOTALL)
        assert n == 1
    to.write_text(text, encoding="iso-8859-1")
    return to


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A cohort, a run that was trained with lead dropout, one without, and files that lack leads."""
    places = tmp_path_factory.mktemp("places")
    cohort = make_tiny_cohort(places / "ecgs")
    flags = ("--cache-dir", places / "cache", "--output-dir", places / "runs")
    for name, dropout in (("dropped", 0.5), ("whole", 0)):
        outcome = train_here("train_atten.py", *tiny(cohort, *flags, "--lead-drop", dropout))
        run_folder_of(outcome).rename(places / name)
    whole = cohort / "demo-0003.xml"
    without(whole, ["V3", "V4"], places / "no-v3-v4.xml")
    without(whole, ["III", "aVR", "aVL", "aVF"], places / "eight.xml")
    without(whole, ["I", "II", "III", "aVR", "aVL", "aVF"], places / "chest.xml")
    without(whole, CHEST, places / "limbs.xml")
    without(whole, [*CHEST, "II", "III", "aVR", "aVL", "aVF"], places / "one.xml")
    return places


# Reading


def channels(**millivolts):
    return [(lead, np.full(5000, value)) for lead, value in millivolts.items()]


def read(accepted, **millivolts):
    with at_least(leads=accepted):
        return assemble("test", channels(**millivolts), 500, "a.xml")


def test_limb_leads_follow_from_any_two_and_the_rest_is_zeros():
    """II 1.0, aVF 0.4: III = 2 aVF - II = -0.2, I = II - III = 1.2, aVR = -(I + II) / 2, aVL = I - II / 2."""
    found = read(6, II=1.0, aVF=0.4, V2=0.3, V6=-0.5)
    expected = {"I": 1.2, "II": 1.0, "III": -0.2, "aVR": -1.1, "aVL": 0.7, "aVF": 0.4, "V2": 0.3, "V6": -0.5}
    np.testing.assert_allclose(found.signal[:, 7], [expected.get(lead, 0) for lead in LEADS], atol=1e-6)
    assert found.metadata["derived"] == ("I", "III", "aVR", "aVL")
    assert found.metadata["missing"] == ("V1", "V3", "V4", "V5")


def test_from_one_limb_lead_nothing_follows():
    found = read(7, II=1.0, **dict.fromkeys(CHEST, 0.1))
    assert found.metadata["missing"] == ("I", "III", "aVR", "aVL", "aVF") and not found.metadata["derived"]
    assert not found.signal[[0, 2, 3, 4, 5]].any() and (found.signal[1] == 1).all()


@pytest.mark.parametrize(
    ("accepted", "leads", "message"),
    [
        (12, ("I", "II", *CHEST[1:]), r"found 11 leads \(I, .*\), V1 missing; expected I, II, III"),
        (11, ("I", "II", *CHEST[2:]), r"found 10 leads \(I, .*\), V1, V2 missing; expected at least 11 of I"),
        (6, ("II", *CHEST[2:]), "found 5 leads .*; expected at least 6 of I, II"),
        (2, ("II", *CHEST[2:]), "found 5 leads .*; expected at least 6 of I, II"),  # never fewer than six
        (12, ("II", "III", *CHEST), "I, aVR, aVL, aVF missing; expected I, II, III"),  # as it always was
    ],
)
def test_fewer_leads_than_accepted_are_refused(accepted, leads, message):
    with pytest.raises(EcgFileError, match=message):
        read(accepted, **dict.fromkeys(leads, 0.1))


def test_leads_that_are_there_must_still_agree_in_length():
    with at_least(leads=6), pytest.raises(EcgFileError, match=r"5000 samples in .*; 4999 samples in V6"):
        assemble("test", [*channels(I=1, II=1), ("V6", np.zeros(4999))], 500, "a.xml")


def test_what_is_not_recorded_is_zeros_at_rest_and_not_measured(places):
    _, signal, measurement = decode(places / "no-v3-v4.xml", 0, 8, 10)
    _, whole, of_whole = decode(places / "ecgs" / "demo-0003.xml")
    assert missing_leads(measurement) == ("V3", "V4") and missing_leads(of_whole) == ()
    assert not signal[8:10].any()
    kept = [number for number in range(12) if number not in (8, 9)]
    np.testing.assert_array_equal(signal[kept], whole[kept])
    assert measurement["qrs_mv"] == np.median(of_whole["lead_qrs_mv"][kept])
    findings = judge(np.array([measurement]), **LIMITS)
    expected = judge(np.array([of_whole]), **LIMITS)
    assert set(findings["check"]) - set(expected["check"]) == {"missing leads"}  # no flat lead above all
    (row,) = findings[findings["check"] == "missing leads"].itertuples()
    assert row.verdict == "warn"
    assert row.finding == "leads V3, V4 missing in the file: the model sees zeros there"


def test_without_limb_leads_nothing_is_judged_of_them(places):
    _, _, measurement = decode(places / "chest.xml", 0, 8, 6)
    assert measurement["einthoven"] == measurement["goldberger"] == measurement["reversal"] == 0
    assert set(judge(np.array([measurement]), **LIMITS)["check"]) == {"missing leads"}


def test_two_copies_that_lack_the_same_leads_are_one_ecg(places):
    ecgs = [decode(places / "no-v3-v4.xml", 0, 8, 10) for _ in range(2)]
    ecgs += [decode(places / "ecgs" / f"demo-000{number}.xml") for number in (5, 6)]
    noisy = ecgs[1][1] + np.where(ecgs[1][1].any(axis=1), 2, 0).astype(np.int16)[:, None]
    measurements = np.array([measurement for *_, measurement in ecgs])
    measurements["waveform"][1] += 1
    signals = np.stack([ecgs[0][1], noisy, ecgs[2][1], ecgs[3][1]])
    assert near_duplicates(signals, np.arange(4), measurements).tolist() == [0, 0, 1, 2]


# Prediction


def test_a_score_is_that_of_the_ecg_with_those_leads_dropped(places):
    file = places / "no-v3-v4.xml"
    output = places / "scores.csv"
    outcome = run_here("predict.py", places / "dropped", file, "--min-leads", 10, "--output", output)
    assert outcome.returncode == 0, outcome.stderr
    said = "leads V3, V4 missing in the file: the model sees zeros there"
    assert re.search(rf"^doubtful    {file}: .*{said}", outcome.stdout, re.MULTILINE)
    (row,) = pd.read_csv(output).itertuples()
    assert said in row.warnings
    _, signal, _ = decode(places / "ecgs" / "demo-0003.xml")
    signal[8:10] = 0  # as data_augmentation.drop_leads does, in mV, before normalisation
    scorer = Scorer.load(places / "dropped", torch.device("cpu"))
    assert row.score_PE == pytest.approx(scorer.score(signal[None])[0, 0], abs=1e-6)


@pytest.mark.parametrize(("file", "missing"), [("eight", ()), ("limbs", CHEST), ("chest", LEADS[:6])])
def test_any_leads_from_six_on_are_scored(places, file, missing):
    outcome = run_here("predict.py", places / "dropped", places / f"{file}.xml", "--min-leads", 6)
    assert outcome.returncode == 0 and "1 ECG scored" in outcome.stdout
    assert ("missing in the file" in outcome.stdout) == bool(missing)
    assert not missing or f"leads {', '.join(missing)} missing in the file" in outcome.stdout
    assert "flat" not in outcome.stdout


def test_the_page_shows_no_flat_line_where_nothing_was_recorded(places):
    page = places / "page.html"
    flags = ("--min-leads", 6, "--report", page)
    outcome = run_here("predict.py", places / "dropped", places / "no-v3-v4.xml", *flags)
    assert outcome.returncode == 0, outcome.stderr
    text = page.read_text(encoding="utf-8")
    assert "leads V3, V4 missing in the file: the model sees zeros there" in text
    assert "12-lead ECG without V3, V4, 10 s" in text
    outcome = run_here("predict.py", places / "dropped", places / "chest.xml", *flags)
    assert outcome.returncode == 0 and "12-lead ECG without I, II, III, aVR, aVL, aVF" in page.read_text()


def test_others_are_refused_in_one_line(places):
    file = places / "no-v3-v4.xml"
    outcome = run_here("predict.py", places / "dropped", file)  # off unless asked for
    assert outcome.returncode == 1 and "V3, V4 missing; expected I, II, III" in outcome.stderr
    outcome = run_here("predict.py", places / "dropped", file, "--min-leads", 11)
    assert outcome.returncode == 1 and "expected at least 11 of I, II, III" in outcome.stderr
    outcome = run_here("predict.py", places / "dropped", places / "one.xml", "--min-leads", 6)
    assert outcome.returncode == 1 and "found 1 leads (I)" in outcome.stderr
    line = line_of(run_here("predict.py", places / "whole", file, "--min-leads", 10))
    assert f"--min-leads: found {places / 'whole'}, trained without lead dropout, expected" in line
    line = line_of(run_here("predict.py", places / "dropped", file, "--min-leads", 5), status=2)
    assert "--min-leads: found 5, expected a whole number from 6 to 12" in line
    outcome = run_here("predict.py", places / "whole", places / "ecgs" / "demo-0003.xml", "--min-leads", 12)
    assert outcome.returncode == 0  # that is what any model takes
