"""Recordings that lack leads: refused, unless --min-leads accepts them, for models of lead dropout alone."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_runs import line_of, make_tiny_cohort, run_folder_of, run_here, tiny, train_here

from dataset.decoding import decode
from ecg.duplicates import near_duplicates
from ecg.formats.hospital import hospital_xml
from ecg.quality import judge, missing_leads
from ecg.recording import LEADS, assemble
from hyperparameters.declaration import Hyperparameters
from inference.scoring import Scorer
from reporting.figures import ecg_paper
from reporting.words import data_facts
from xml_loader import EcgFileError, at_least, read_recording

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


# Training and evaluation


@pytest.fixture(scope="module")
def lacking(tmp_path_factory):
    """A cohort of 24 ECGs, of which two lack V3 and V4, and one has limb leads alone."""
    folder = make_tiny_cohort(tmp_path_factory.mktemp("lacking") / "ecgs")
    for number in (3, 9):
        without(folder / f"demo-000{number}.xml", ["V3", "V4"], folder / f"demo-000{number}.xml")
    without(folder / "demo-0005.xml", CHEST, folder / "demo-0005.xml")
    return folder


def test_a_run_accepts_them_says_so_and_predict_follows_it(lacking, tmp_path):
    flags = ("--output-dir", tmp_path / "runs", "--cache-dir", tmp_path / "cache", "--lead-drop", 0.5)
    outcome = run_here("train_atten.py", *tiny(lacking, *flags, "--min-leads", 8, "--ecg-signs", "true"))
    run = run_folder_of(outcome)
    assert "23 read, 1 rejected" in outcome.stdout and "missing leads 2" in outcome.stdout
    (rejected,) = pd.read_csv(run / "rejected.csv").itertuples()
    assert rejected.file == "demo-0005.xml" and "found 6 leads" in rejected.reason
    quality = pd.read_csv(run / "quality.csv")
    found = quality[quality["check"] == "missing leads"]
    assert sorted(found["file"]) == ["demo-0003.xml", "demo-0009.xml"] and set(found["verdict"]) == {"warn"}
    assert json.loads((run / "model.json").read_text())["min_leads"] == 8
    page = re.sub(r"\s+", " ", (run / "report.html").read_text(encoding="utf-8"))
    assert "Recordings of 8 or more of the twelve leads were accepted (--min-leads)." in page
    scored = run_here("predict.py", run, lacking / "demo-0003.xml")
    assert scored.returncode == 0 and "leads V3, V4 missing in the file" in scored.stdout
    assert "cannot be measured: ecg:t_in_v3_mv, ecg:t_in_v4_mv" in scored.stdout
    refused = run_here("predict.py", run, lacking / "demo-0003.xml", "--min-leads", 12)
    assert refused.returncode == 1 and "V3, V4 missing; expected I, II, III" in refused.stderr


def test_training_on_them_without_lead_dropout_is_refused(lacking):
    line = line_of(train_here("train_atten.py", *tiny(lacking, "--min-leads", 8)), status=2)
    assert "min_leads: found 8 without lead dropout, expected --lead-drop, such as 0.5" in line
    flags = ("--min-leads", 8, "--lead-drop", 0.5, "--augmentation", "none")
    line = line_of(train_here("train_atten.py", *tiny(lacking, *flags)), status=2)
    assert "min_leads: found 8 without lead dropout" in line
    line = line_of(train_here("train_atten.py", *tiny(lacking, "--min-leads", 3)), status=2)
    assert "min_leads: found 3, expected a whole number from 6 to 12" in line


def test_another_cohort_is_scored_with_them_and_the_page_says_so(places, lacking, tmp_path):
    table = pd.read_csv(lacking / "labels.csv")
    table["patient_id"] = "other-" + table["patient_id"]
    generator = np.random.default_rng(1)  # another cohort: no ECG of those that trained the runs
    for file in table["file"]:
        recording = read_recording(lacking / file, min_leads=6)
        noise = generator.normal(0, 0.05, recording.signal.shape)
        text = hospital_xml(recording.signal[:, ::-1] + noise)
        (tmp_path / file).write_text(text, encoding="iso-8859-1")
        if recording.metadata["missing"]:
            without(tmp_path / file, recording.metadata["missing"], tmp_path / file)
    table.to_csv(tmp_path / "labels.csv", index=False)
    flags = ("--cohort", tmp_path, "--no-signs", "--output-dir", tmp_path / "out")
    outcome = run_here("evaluate.py", places / "dropped", *flags, "--min-leads", 6)
    assert outcome.returncode == 0, outcome.stderr
    said = "3 of 24 ECGs lack leads, which the models see as zeros: V1 in 1, V2 in 1, V3 in 3, V4 in 3"
    assert f"leads       {said}" in outcome.stdout
    page = next((tmp_path / "out").glob("*/report.html")).read_text(encoding="utf-8")
    assert said in page
    outcome = run_here("evaluate.py", places / "dropped", *flags)
    assert "24 files: 21 read, 3 rejected" in outcome.stdout and "lack leads" not in outcome.stdout
    line = line_of(run_here("evaluate.py", places / "whole", *flags, "--min-leads", 6))
    assert f"--min-leads: found {places / 'whole'}, trained without lead dropout" in line
    line = line_of(run_here("evaluate.py", places / "whole", "--min-leads", 6), status=2)
    assert "--min-leads: found no --cohort, expected the folder of the ECGs" in line


# Before a training


@pytest.fixture
def drawn(monkeypatch):
    """Collect which leads of each ECG on paper are called missing, of three ECGs on a page at most."""
    found, draw_ecg = [], ecg_paper.draw_ecg

    def draw(*arguments, missing=(), **named):
        found.append(missing)
        return draw_ecg(*arguments, missing=missing, **named)

    for module in ("reporting.figures.ecg_paper", "reporting.pages.data_page"):
        monkeypatch.setattr(f"{module}.draw_ecg", draw)
    monkeypatch.setattr(data_facts, "N_DRAWN", 3)
    return found


def test_the_files_are_refused_before_a_training_or_read_with_a_warning(lacking, drawn, tmp_path):
    files = [lacking / f"demo-000{number}.xml" for number in (3, 4, 5)]
    outcome = run_here("inspect_ecgs.py", *files, "--csv", tmp_path / "files.csv")
    assert outcome.returncode == 1
    table = pd.read_csv(tmp_path / "files.csv")
    assert table["verdict"].tolist() == ["refused", "ok", "refused"]
    assert "V3, V4 missing; expected I, II, III" in table["findings"][0]
    flags = ("--csv", tmp_path / "files.csv", "--plot", tmp_path / "pictures")
    outcome = run_here("inspect_ecgs.py", *files, "--min-leads", 10, *flags)
    table = pd.read_csv(tmp_path / "files.csv")
    assert outcome.returncode == 1 and table["verdict"].tolist() == ["warn", "ok", "refused"]
    assert table["leads"][0] == 10
    assert "leads V3, V4 missing in the file: the model sees zeros there" in table["findings"][0]
    assert "expected at least 10 of I, II, III" in table["findings"][2]
    assert drawn == [("V3", "V4"), ()]


def test_the_page_before_a_training_says_who_lacks_leads(lacking, drawn, tmp_path):
    page = tmp_path / "page.html"
    outcome = run_here("inspect_ecgs.py", lacking, "--min-leads", 6, "--report", page)
    assert outcome.returncode == 0, outcome.stdout
    said = "3 of 24 ECGs lack leads, which the models see as zeros: V1 in 1, V2 in 1, V3 in 3, V4 in 3"
    assert said in page.read_text(encoding="utf-8")
    assert drawn == [("V3", "V4"), CHEST, ("V3", "V4")]  # those with a warning come first


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--min-leads", 5), "--min-leads: found 5, expected a whole number from 6 to 12"),
        (("--min-leads", 6, "--deidentify", "OUT"), "or --min-leads beside it, expected it alone"),
    ],
)
def test_a_wrong_number_of_leads_is_one_line_before_a_training(lacking, flags, words):
    assert words in line_of(run_here("inspect_ecgs.py", lacking, *flags), status=2)
