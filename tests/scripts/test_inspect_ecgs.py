"""Each file gets a line with its format and verdict, and a picture; nothing of a patient is shown."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from format_writers import EIGHT_LEADS, FAMILY_NAME, PRIVATE, WRITERS, write_hospital
from PIL import Image
from tiny_runs import ENVIRONMENT, ROOT, line_of, make_tiny_cohort, run_as_user, run_here

from xml_loader import LEADS, read_recording

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return make_tiny_cohort(tmp_path_factory.mktemp("tiny") / "ecgs")


@pytest.fixture(scope="module")
def counts(cohort):
    """The counts of one synthetic ECG at 2.5 µV a count."""
    return np.rint(read_recording(cohort / "demo-0001.xml").signal / 0.0025).astype(int)


@pytest.fixture
def folder(counts, tmp_path):
    """A folder with an ECG of each format: one recording, rolled so far that none equals another."""
    folder = tmp_path / "exports"
    folder.mkdir()
    for number, (file_format, write) in enumerate(WRITERS.items()):
        suffix = {"WFDB": "hea", "DICOM": "dcm", "SCP-ECG": "scp", "CSV": "csv"}.get(file_format, "xml")
        part = np.roll(counts, -1000 - 150 * number, axis=1) if number else counts
        leads = EIGHT_LEADS if file_format == "GE MUSE" else LEADS
        rows = part[[LEADS.index(lead) for lead in leads]]
        write(
            folder / f"{file_format.replace(' ', '_')}.{suffix}", rows, leads=leads, microvolts_per_count=2.5
        )
    return folder


def table_of(outcome, path):
    assert "Traceback" not in outcome.stderr
    return pd.read_csv(path).set_index("file")


def test_every_format_is_read_and_named(folder, tmp_path):
    outcome = run_here("inspect_ecgs.py", folder, "--csv", tmp_path / "table.csv")
    table = pd.read_csv(tmp_path / "table.csv")
    assert outcome.returncode == 0, outcome.stdout
    assert sorted(table["format"]) == sorted(WRITERS)
    assert (table["Hz"] == 500).all() and (table["seconds"] >= 10).all()
    assert set(table["verdict"]) <= {"ok", "note"}
    for file_format in WRITERS:
        assert re.search(
            rf"^{file_format.replace(' ', '_')}\.\w+ +{file_format} .* 500 +10 ", outcome.stdout, re.MULTILINE
        )
    assert f"{len(WRITERS)} files: " in outcome.stdout and "verdicts: ok" in outcome.stdout
    assert "2 files of the folders left out, as not ECGs: .dat 1, .yml 1" in outcome.stdout


def test_nothing_of_the_patient_is_shown(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("reporting.figures.ecg_paper.DOTS_PER_INCH", 50)  # sooner drawn than 254
    pictures = tmp_path / "pictures"
    outcome = run_here("inspect_ecgs.py", folder, "--csv", tmp_path / "table.csv", "--plot", pictures)
    assert any(FAMILY_NAME.encode() in file.read_bytes() for file in folder.iterdir())
    for text in (outcome.stdout, outcome.stderr, (tmp_path / "table.csv").read_text(encoding="utf-8")):
        assert not PRIVATE.search(text)
    assert len(list(pictures.iterdir())) == len(WRITERS)
    assert all(file.read_bytes().startswith(PNG) for file in pictures.iterdir())
    # What is drawn on the picture is tested in test_ecg_paper.py; here, what its file says besides.
    assert not any(PRIVATE.search(f"{file.name} {Image.open(file).info}") for file in pictures.iterdir())


def test_what_is_wrong_is_said(cohort, counts, tmp_path):
    flat, short = counts.copy(), counts[:, :4500]
    flat[8] = 3
    write_hospital(tmp_path / "flat.xml", flat)
    write_hospital(tmp_path / "short.xml", short)
    write_hospital(tmp_path / "small.xml", counts, microvolts_per_count=0.025)
    (tmp_path / "broken.xml").write_text("<ecg>", encoding="utf-8")
    shutil.copy(cohort / "demo-0002.xml", tmp_path / "good.xml")
    shutil.copy(cohort / "demo-0002.xml", tmp_path / "again.xml")
    outcome = run_as_user("inspect_ecgs.py", ".", "none.xml", "--csv", "table.csv", cwd=tmp_path)
    assert outcome.returncode == 1 and outcome.stderr == ""
    table = pd.read_csv(tmp_path / "table.csv", index_col="file")
    assert table["verdict"].to_dict() == {
        "again.xml": "ok",
        "broken.xml": "refused",
        "flat.xml": "reject",
        "good.xml": "ok",
        "none.xml": "refused",
        "short.xml": "warn",
        "small.xml": "reject",
    }
    assert table.loc["flat.xml", "findings"] == "lead V3 flat for 10 s (refused beyond 5 s)"
    assert table.loc["short.xml", "findings"] == "1 s added to a recording of 9 s"
    assert "mV, median of the leads (refused outside 0.05 to 20 mV)" in table.loc["small.xml", "findings"]
    assert table.loc["broken.xml", "findings"].startswith("found malformed or incomplete XML")
    assert "the same ECG: again.xml, good.xml" in outcome.stdout
    assert "7 files: hospital 5, refused 2" in outcome.stdout
    assert "verdicts: ok 2, warn 1, reject 2, refused 2" in outcome.stdout


def test_a_limit_is_a_flag(cohort, counts, tmp_path):
    flat = counts.copy()
    flat[8, :1600] = 3  # 3.2 s
    write_hospital(tmp_path / "flat.xml", flat)
    assert run_here("inspect_ecgs.py", tmp_path).returncode == 0
    outcome = run_here("inspect_ecgs.py", tmp_path, "--max-flat-seconds", 3)
    assert outcome.returncode == 1 and "lead V3 flat for 3.2 s (refused beyond 3 s)" in outcome.stdout


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--max-flat-seconds", "-1", "found -1, expected a number from 0 on"),
        ("--max-flat-seconds", "x", "found x, expected a number from 0 on"),
        ("--min-seconds", "2", "found 2, expected a number from 3 to 10"),
        ("--unknown", "1", "unrecognized arguments"),
    ],
)
def test_wrong_flags_are_named(tmp_path, flag, value, said):
    outcome = run_here("inspect_ecgs.py", tmp_path, flag, value)
    line = line_of(outcome, status=2)
    assert line.startswith("inspect_ecgs.py: ") and flag in line and said in line


def test_an_empty_folder_is_one_line_and_gives_no_table(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    outcome = run_here("inspect_ecgs.py", folder, "--csv", tmp_path / "table.csv")
    assert outcome.returncode == 1 and outcome.stdout.count("\n") == 1
    assert "found no ECG file in the folder" in outcome.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_place_that_cannot_be_written_to_is_one_line(tmp_path):
    line = line_of(run_here("inspect_ecgs.py", tmp_path, "--csv", tmp_path / "none" / "t.csv"), status=2)
    assert f"--csv: {tmp_path / 'none' / 't.csv'}: found no folder" in line
    (tmp_path / "page.html").mkdir()
    for flag, folder in (("--csv", tmp_path), ("--report", tmp_path / "page.html")):
        line = line_of(run_here("inspect_ecgs.py", tmp_path, flag, folder), status=2)
        assert f"{flag}: {folder}: found a folder, expected the name of a file to write" in line
    (tmp_path / "file").write_text("")
    for place, reason in ((tmp_path / "file", "File exists"), ("/proc/zz", "No such file or directory")):
        line = line_of(run_here("inspect_ecgs.py", tmp_path, "--plot", place), status=2)
        assert f"--plot: {place}: cannot be made ({reason}), expected a folder" in line


def test_it_starts_without_what_only_models_need():
    program = "import sys, inspect_ecgs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60).returncode == 0


def test_copies_without_the_patient_are_written_and_counted(folder, counts, tmp_path):
    (folder / "Doe.xml").write_text("<ecg>", encoding="utf-8")
    write_hospital(folder / "short.xml", counts[:, 500:3500])
    outcome = run_here("inspect_ecgs.py", folder, "--deidentify", tmp_path / "out", "--min-seconds", 6)
    assert outcome.returncode == 1 and outcome.stderr == ""
    assert "Doe.xml: not written: found malformed or incomplete XML" in outcome.stdout
    assert outcome.stdout.endswith(f"\n{len(WRITERS) + 1} ECGs written, 1 file not\n")
    assert re.search(r"out/ecg-\d{4}\.hea  is SCP-ECG\.scp$", outcome.stdout, re.MULTILINE)
    assert run_here("inspect_ecgs.py", tmp_path / "out", "--min-seconds", 6).returncode == 0
    again = run_here("inspect_ecgs.py", folder, "--deidentify", tmp_path / "out")
    assert "expected an absent or an empty folder" in line_of(again)
    inside = run_here("inspect_ecgs.py", folder, "--deidentify", folder / "out")
    assert "expected one outside it" in line_of(inside) and not (folder / "out").exists()
    both = run_here("inspect_ecgs.py", folder, "--deidentify", tmp_path / "new", "--csv", "t.csv")
    assert "--deidentify: found --csv, --plot, --report or --min-leads beside it" in line_of(both, status=2)


def test_a_place_that_is_not_there_is_one_line_and_no_page(tmp_path):
    outcome = run_here("inspect_ecgs.py", tmp_path / "ecgs", "--report", tmp_path / "page.html")
    assert line_of(outcome).endswith("ecgs: found no such file or folder, expected ECGs, or a folder of them")
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_not_utf_8(cohort, tmp_path):
    """As a share or an archive of Windows leaves it; Python holds its bytes as surrogates."""
    folder = tmp_path / "ecgs"
    folder.mkdir()
    shutil.copy(cohort / "demo-0002.xml", folder / "a.xml")
    shutil.copy(cohort / "demo-0003.xml", os.fsdecode(os.fsencode(folder) + b"/Jos\xe9.xml"))
    pictures, table = tmp_path / "pictures", tmp_path / "table.csv"
    outcome = run_as_user("inspect_ecgs.py", "ecgs", "--csv", table, "--plot", pictures, cwd=tmp_path)
    assert outcome.returncode == 0 and outcome.stderr == ""
    assert re.search(r"^Jos\\udce9.xml +hospital ", outcome.stdout, re.MULTILINE)
    assert pd.read_csv(table)["file"].tolist() == [r"ecgs/Jos\udce9.xml", "ecgs/a.xml"]
    assert {path.name for path in pictures.iterdir()} == {r"Jos\udce9.xml.png", "a.xml.png"}


def test_each_file_has_a_picture_of_its_own(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("reporting.figures.ecg_paper.DOTS_PER_INCH", 20)  # sooner drawn than 254
    for number, name in enumerate(("a/b.xml", "a_b.xml", "c/b.xml"), start=2):
        (tmp_path / "ecgs" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(cohort / f"demo-000{number}.xml", tmp_path / "ecgs" / name)
    pictures = tmp_path / "pictures"
    assert run_here("inspect_ecgs.py", tmp_path / "ecgs", "--plot", pictures).returncode == 0
    found = {path.relative_to(pictures).as_posix() for path in pictures.rglob("*.png")}
    assert found == {"a/b.xml.png", "a_b.xml.png", "c/b.xml.png"}


def test_output_on_another_code_page(cohort, tmp_path):
    shutil.copy(cohort / "demo-0002.xml", tmp_path / "a.xml")
    words = [sys.executable, str(ROOT / "inspect_ecgs.py"), "a.xml", "--csv", "table.csv"]
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": "cp932"}
    outcome = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, timeout=60)
    assert outcome.returncode == 0 and b" uV/count " in outcome.stdout and outcome.stderr == b""
    assert "µV/count" in (tmp_path / "table.csv").read_text(encoding="utf-8")
