"""The page about files before training: its counts, and that it holds all it shows; drawn by a browser."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from format_writers import PRIVATE, write_muse
from headless_chromium import check_page
from tiny_runs import line_of, run_here

from ecg.formats.hospital import hospital_xml
from reporting.figures.curves import draw_histogram
from reporting.words import data_facts
from xml_loader import read_recording


@pytest.fixture(scope="module")
def messy(cohort_folder, tmp_path_factory):
    """The page of 15 files: 12 of a cohort (one is flat), one copied, one broken, one not in the table."""
    folder = tmp_path_factory.mktemp("messy") / "ecgs"
    shutil.copytree(cohort_folder, folder)
    table = pd.read_csv(folder / "labels.csv", dtype=str)
    (folder / "broken.xml").write_text("<ecg>", encoding="utf-8")
    shutil.copy(folder / "demo-0001.xml", folder / "again.xml")
    signal = read_recording(folder / "demo-0002.xml").signal.copy()
    write_muse(
        folder / "other.xml", np.roll(np.rint(signal[[0, 1, *range(6, 12)]] * 200).astype(int), 1700, axis=1)
    )
    signal[8] = 0
    (folder / "demo-0002.xml").write_text(hospital_xml(signal), encoding="iso-8859-1")
    extra = table.iloc[:2].assign(
        file=["broken.xml", "./again.xml"], patient_id=["p98", table["patient_id"][0]]
    )
    table = pd.concat([table, extra], ignore_index=True).assign(comment="seen by Doe")
    table.loc[2:4, "age"] = ""
    table.loc[5, "PE"] = ""
    table.to_csv(folder / "labels.csv", index=False)
    page = folder.parent / "page.html"
    outcome = run_here("inspect_ecgs.py", folder, "--report", page)
    assert outcome.returncode == 1 and outcome.stdout.endswith(f"report      {page}\n"), outcome
    return folder, page, table


def words_of(page):
    text = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(text.split())


def test_the_counts_are_those_of_files_and_table(messy):
    _, page, table = messy
    words = words_of(page)
    used = table[~table["file"].isin(["broken.xml", "demo-0002.xml"]) & (table["PE"] != "")]
    n_pe = (used["PE"] == "1").sum()
    assert len(used) == 11
    assert f"11 ECGs can be used, 3 files cannot. PE: {n_pe} of 11 ECGs ({100 * n_pe / 11:.1f} %)." in words
    assert "files 15 14 can be read" in words
    assert f"patients {used['patient_id'].nunique()} of the usable ECGs" in words
    assert "14 files named by labels.csv" in words
    assert "1 further file of the folder is not named by labels.csv" in words
    for reason in (
        "1 × malformed or incomplete XML",
        "1 × quality check: flat lead",
        "1 × no label is known",
    ):
        assert reason in words
    assert "demo-0002.xml rejected by a check lead V3 flat for 10 s (refused beyond 5 s)" in words
    assert "broken.xml cannot be read found malformed or incomplete XML" in words
    assert re.search(r"hospital not named 500 10 12 2\.5 13 GE MUSE MAC55 500 10 8 4\.88 1 ", words)
    assert "again.xml, demo-0001.xml" in words
    assert f"age missing {used['age'].eq('').sum()}" in words
    assert f"age 3 ({100 * 3 / 14:.1f} %) numbers: median" in words
    assert "comment 0 1 different" in words and "A training would stop" not in words
    assert "10 ECGs on paper" in words and "verdict: reject; lead V3 flat" in words


def test_nothing_of_a_patient_is_on_the_page(messy):
    folder, page, table = messy
    text = page.read_text(encoding="utf-8")
    assert PRIVATE.search((folder / "other.xml").read_text(encoding="iso-8859-1"))
    assert not PRIVATE.search(words_of(page))
    assert not [patient for patient in set(table["patient_id"]) if patient in words_of(page)]
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", text)


@pytest.mark.parametrize("width", [1200, 390])
def test_a_browser_shows_it(browser, messy, width):
    _, page, _ = messy
    check_page(browser, page, width, n_pictures=12)


def test_a_table_that_would_stop_a_training_is_said_and_the_files_are_shown(messy, tmp_path, monkeypatch):
    monkeypatch.setattr(data_facts, "N_DRAWN", 1)  # an ECG takes a third of a second
    folder, _, table = messy
    for column, value, words in (
        ("file", "gone.xml", "line 2: file gone.xml is not in "),
        ("PE", "2", "found no column of 0 and 1"),
    ):
        wrong = table.copy()
        wrong.loc[0, column] = value
        wrong.to_csv(tmp_path / "wrong.csv", index=False)
        flags = ("--report", tmp_path / "page.html", "--labels", tmp_path / "wrong.csv")
        outcome = run_here("inspect_ecgs.py", folder, *flags)
        assert outcome.returncode == 1 and words in outcome.stdout
        page = words_of(tmp_path / "page.html")
        assert (
            "A training would stop at once" in page
            and words in page
            and "14 files named by wrong.csv" in page
        )


def test_files_without_a_table_and_files_that_cannot_be_read_have_a_page(messy, tmp_path):
    folder, _, _ = messy
    page = tmp_path / "page.html"
    assert run_here("inspect_ecgs.py", folder / "demo-0001.xml", "--report", page).returncode == 0
    assert "1 ECG can be used, 0 files cannot." in words_of(page)
    assert "No labels table was given" in words_of(page)
    flags = ("--report", page, "--label-columns", "PE")
    outcome = run_here("inspect_ecgs.py", folder / "demo-0001.xml", *flags)  # the file is good, the table not
    assert outcome.returncode == 1 and "--label-columns: found no table" in outcome.stdout
    assert run_here("inspect_ecgs.py", folder / "broken.xml", "--report", page).returncode == 1
    assert "0 ECGs can be used, 1 file cannot." in words_of(page) and "No file could be read." in words_of(
        page
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--report", "page.pdf"], "--report: found page.pdf, expected a page that ends in .html"),
        (["--report", "none/page.html"], "--report: none/page.html: found no folder none"),
        (["--report", "page.html", "--labels", "none.csv"], "--labels: found no file none.csv"),
        (["--labels", "labels.csv"], "found no --report"),
    ],
)
def test_wrong_flags_are_one_line(flags, words):
    assert words in line_of(run_here("inspect_ecgs.py", ".", *flags), status=2)


def test_a_histogram_has_shares_of_each_group_and_what_is_beyond_at_its_end():
    groups = {"a": np.array([1.0, 1.5, 2.5, np.nan]), "b": np.array([-9.0, 99.0])}
    figure = draw_histogram(groups, np.array([0.0, 1.0, 2.0, 3.0]), "x", limits=(0.5,))
    steps = [patch.get_data().values.tolist() for patch in figure.axes[0].patches]
    assert steps[::2] == [[0, pytest.approx(2 / 3), pytest.approx(1 / 3)], [0.5, 0, 0.5]]
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ["a (3)", "b (2)", "refused beyond"]


def test_the_path_of_the_page_is_absent_after_a_failure(tmp_path):
    assert run_here("inspect_ecgs.py", tmp_path, "--report", tmp_path / "page.html").returncode == 1
    assert not Path(tmp_path / "page.html").exists()
