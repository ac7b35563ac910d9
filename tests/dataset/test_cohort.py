"""A cohort has what its files and table say; no patient is in two parts."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from one_line import failure_of

from dataset.cohort import _duplicates, read_cohort
from dataset.pseudonyms import KEY_FILE, pseudonymise
from dataset.signal_store.cache_index import NO_ROW
from dataset.splits import make_folds
from ecg.formats.hospital import hospital_xml
from hyperparameters.declaration import Hyperparameters
from runtime.errors import UserError
from xml_loader import read_at_rest, read_recording


@pytest.fixture
def table_of(tmp_path):
    """Return a function that writes a labels table and gives its path."""

    def write(content):
        path = tmp_path / "labels.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


# Cohorts


@pytest.fixture
def read(tmp_path):
    """Return `read_cohort` with a cache of the test's own."""
    defaults = Hyperparameters()
    options = {
        **defaults.group("cohort"),
        "cache_dir": str(tmp_path / "cache"),
        "workers": 1,
        "quality": {**defaults.group("quality"), "quality_checks": False},
    }
    return lambda folder, **others: read_cohort(**{**options, "data_dir": str(folder), **others})


def write_labels(folder, text):
    (folder / "labels.csv").write_text(text)
    return folder / "labels.csv"


def test_cohort(read, cohort_folder):
    cohort = read(cohort_folder)
    expected = pd.read_csv(cohort_folder / "labels.csv")
    assert list(cohort.table["file"]) == list(expected["file"])
    hashes = pseudonymise(expected["patient_id"].astype(str), cohort_folder / KEY_FILE)
    assert list(cohort.table["patient_id"]) == list(hashes)
    assert list(cohort.table.index) == list(range(12))
    np.testing.assert_array_equal(cohort.targets, expected[["PE"]].to_numpy(np.float32))
    assert cohort.targets.dtype == np.float32 and cohort.targets.shape == (12, 1)
    assert cohort.label_names == ("PE",) and not cohort.reading.patients_assumed
    assert cohort.reading.n_parsed == 12 and len(cohort.reading.rejected) == 0
    assert cohort.table["digest"].nunique() == 12
    assert read(cohort_folder).reading.n_parsed == 0


def test_signals_belong_to_their_files(read, cohort_folder):
    cohort = read(cohort_folder)
    for ecg, file in enumerate(cohort.table["file"]):
        np.testing.assert_array_equal(cohort.signals.read([ecg])[0], read_at_rest(cohort_folder / file))
    assert list(cohort.signals.files) == list(cohort.table["file"])


def test_rejected_files_are_counted_with_their_reason(read, write_ecgs):
    folder = write_ecgs(["a.xml", "b.xml", "c.xml", "d.xml"])
    (folder / "b.xml").write_bytes(b"")
    (folder / "d.xml").write_bytes(b"<html/>")
    write_labels(folder, "a.xml;1\nb.xml;1\nc.xml;0\nd.xml;0\n")
    for _ in range(2):  # from the files, then from the cache
        cohort = read(folder)
        assert list(cohort.reading.rejected["file"]) == ["b.xml", "d.xml"]
        first, second = cohort.reading.rejected["reason"]
        assert first.startswith(f"{folder / 'b.xml'}: found an empty file; expected")
        assert second.startswith(f"{folder / 'd.xml'}: found an HTML page; expected")
        assert list(cohort.table["file"]) == ["a.xml", "c.xml"]
        assert cohort.targets.tolist() == [[1], [0]]
        assert len(cohort.signals) == 2 and NO_ROW not in cohort.signals.rows
        assert cohort.reading.patients_assumed


def test_table_elsewhere_and_several_labels(read, write_ecgs, table_of):
    folder = write_ecgs(["a.xml", "b.xml"])
    table = table_of("file,PE,MI,patient_id\nb.xml,1,0,p1\na.xml,1,1,p2\n")
    cohort = read(folder, labels=str(table), label_columns=["MI", "PE"])
    assert cohort.label_names == ("MI", "PE")
    assert cohort.targets.tolist() == [[0, 1], [1, 1]]
    hashes = pseudonymise(pd.Series(["p1", "p2"]), table.with_name(KEY_FILE))
    assert list(cohort.table["patient_id"]) == list(hashes) and not cohort.reading.patients_assumed


def test_no_such_folder(read, tmp_path):
    folder = tmp_path / "nowhere"
    assert failure_of(read, folder) == (
        f"{folder}: found no such folder, expected the folder of the ECG files"
    )


def test_folder_without_a_table(read, write_ecgs):
    folder = write_ecgs(["a.xml"])
    assert failure_of(read, folder) == (
        f"{folder / 'labels.csv'}: the labels table cannot be read (No such file or directory)"
    )


@pytest.mark.parametrize("absent", ["x.xml", "x" * 300])
def test_missing_files(read, write_ecgs, absent):
    folder = write_ecgs(["a.xml", "b.xml"])
    table = write_labels(folder, f"file,PE\na.xml,1\n{absent},0\nb.xml,1\n")
    assert failure_of(read, folder) == f"{table} line 3: file {absent} is not in {folder}"
    write_labels(folder, f"{absent};1\na.xml;1\ny.xml;0\nz.xml;0\n")
    assert failure_of(read, folder) == f"{table} line 1: file {absent} is not in {folder} (and 2 more)"


def test_no_file_can_be_read(read, write_ecgs):
    folder = write_ecgs([])
    (folder / "a.xml").write_bytes(b"")
    (folder / "b.xml").write_bytes(b"")
    write_labels(folder, "a.xml;1\nb.xml;0\n")
    message = failure_of(read, folder)
    assert message.startswith(
        f"{folder}: none of the 2 files can be used; {folder / 'a.xml'}: found an empty"
    )
    listed = pd.read_csv(message.removesuffix(")").rpartition("(all reasons: ")[2])
    assert listed["file"].tolist() == ["a.xml", "b.xml"]


# Quality and duplicates


@pytest.fixture
def judged(read, cohort_folder, tmp_path):
    """Return a function that changes the millivolts of some files of a copy of the cohort, and reads it."""

    def read_changed(**changes):
        folder = tmp_path / "changed"
        shutil.copytree(cohort_folder, folder)
        for name, change in changes.items():
            path = folder / f"{name.replace('_', '-')}.xml"
            path.write_text(hospital_xml(change(read_recording(path).signal.copy())), encoding="iso-8859-1")
        return read(folder, quality=Hyperparameters().group("quality"))

    return read_changed


def without_v3(signal):
    signal[8] = 0
    return signal


def test_an_unusable_ecg_is_left_out_and_said(judged):
    cohort = judged(demo_0003=without_v3, demo_0005=lambda signal: signal / 100)
    assert list(cohort.reading.rejected["file"]) == ["demo-0003.xml", "demo-0005.xml"]
    assert cohort.reading.rejected["reason"][0] == "lead V3 flat for 10 s (refused beyond 5 s)"
    assert "median of the leads (refused outside 0.05 to 20 mV)" in cohort.reading.rejected["reason"][1]
    assert len(cohort.table) == len(cohort.signals) == len(cohort.targets) == len(cohort.measurements) == 10
    assert set(cohort.reading.findings["verdict"]) == {"reject"}
    for ecg, file in enumerate(cohort.table["file"]):
        assert file not in set(cohort.reading.rejected["file"])
        assert (np.abs(cohort.signals.read([ecg])[0]).max(axis=1) > 100).all()


def test_rejections_are_listed_before_anything_else_can_fail(judged):
    cohort = judged(demo_0003=without_v3, demo_0005=lambda signal: signal / 100)
    assert pd.read_csv(cohort.reading.rejected_list)["file"].tolist() == ["demo-0003.xml", "demo-0005.xml"]
    cohort = replace(cohort, targets=np.zeros_like(cohort.targets))  # the split will find no example of PE
    fractions = {"validation_fraction": 0.2, "test_fraction": 0.2}
    message = failure_of(lambda: make_folds(cohort, **fractions, folds=0, repeats=1, seed=0))
    assert message.startswith("label PE: found 0 positive and")
    assert message.endswith(
        f"; 2 of 12 files had been rejected before ({cohort.reading.rejected_list}), the first: "
        "demo-0003.xml: lead V3 flat for 10 s (refused beyond 5 s)"
    )


def test_the_list_of_an_earlier_reading_does_not_stay(judged, read, tmp_path, cohort_folder):
    listed = judged(demo_0003=without_v3).reading.rejected_list
    assert listed.is_file()
    assert read(tmp_path / "changed").reading.rejected_list is None  # nothing is judged: all are kept
    assert not listed.exists() and read(cohort_folder).rejections == ""


def test_folders_of_one_name_do_not_share_a_list(read, write_ecgs, tmp_path):
    lists = []
    for place, rejected in (("one", "b.xml"), ("other", "c.xml")):
        folder = shutil.copytree(write_ecgs(["a.xml"]), tmp_path / place / "ecgs")
        (folder / rejected).write_text("<x/>")
        write_labels(folder, f"file,PE\na.xml,1\n{rejected},0\n")
        lists.append(read(folder).reading.rejected_list)
    assert [pd.read_csv(listed)["file"].tolist() for listed in lists] == [["b.xml"], ["c.xml"]]


def test_without_checks_all_are_kept(judged, read, tmp_path):
    judged(demo_0003=without_v3)
    cohort = read(tmp_path / "changed")
    assert len(cohort.table) == 12 and cohort.reading.findings.empty and cohort.reading.rejected.empty


def test_no_ecg_is_usable(judged, read, cohort_folder):
    limits = {**Hyperparameters().group("quality"), "min_qrs_mv": 19.0}
    message = failure_of(read, cohort_folder, quality=limits)
    assert message.startswith(f"{cohort_folder}: none of the 12 files can be used; QRS of ")


def test_the_same_ecg_in_two_files_is_found_by_its_waveform(judged, cohort_folder):
    """The first two demo ECGs are of other patients; a copy differs in its counts by rounding."""
    first = read_recording(cohort_folder / "demo-0001.xml").signal
    cohort = judged(demo_0002=lambda signal: np.round(first / 0.005) * 0.005)
    same = cohort.table.set_index("file")["same_ecg"]
    assert same["demo-0001.xml"] == same["demo-0002.xml"] and same.nunique() == 11
    findings = cohort.reading.findings
    assert list(findings["check"]) == ["duplicate", "duplicate"]
    assert list(findings["verdict"]) == ["warn", "warn"]
    assert findings["finding"].iloc[0].startswith("the same ECG as demo-0002.xml, of another patient")
    assert findings["finding"].iloc[1].startswith("the same ECG as demo-0001.xml, of another patient")


def test_each_of_two_pairs_of_files_names_its_own_other():
    table = pd.DataFrame({"file": ["a1", "b1", "b2", "a2"], "same_ecg": [7, 3, 3, 7]})
    table["patient_id"], table["PE"] = ["p", "q", "q", "p"], [1, 0, 1, 1]
    found = _duplicates(table, ["PE"]).sort_values("ecg")
    assert found["finding"].tolist() == [
        "the same ECG as a2",
        "the same ECG as b2, another PE",
        "the same ECG as b1, another PE",
        "the same ECG as a1",
    ]
    assert found["verdict"].tolist() == ["note", "warn", "warn", "note"]


def test_a_damaged_signal_is_named_however_it_is_read(read, cohort_folder):
    cohort = read(cohort_folder)
    signals = cohort.signals
    np.testing.assert_array_equal(signals.read([4, 2]), signals.memmap[signals.rows[[4, 2]]])
    with open(signals.memmap.filename, "r+b") as file:
        file.seek(int(signals.rows[2]) * 120_000 + 60_000)
        file.write(b"\xff\x7f")
    signals.read([4])
    with pytest.raises(UserError, match=r"the signal of demo-0003.xml is damaged"):
        signals.read([4, 2])


# Unknown labels


def test_ecgs_of_which_no_label_is_known_are_left_out_and_said(read, write_ecgs):
    folder = write_ecgs(["a.xml", "b.xml", "c.xml"])
    write_labels(folder, "file,PE,MI\na.xml,1,0\nb.xml,,\nc.xml,,1\n")
    cohort = read(folder, label_columns=["PE", "MI"])
    assert list(cohort.table["file"]) == ["a.xml", "c.xml"]
    np.testing.assert_array_equal(cohort.targets, [[1, 0], [np.nan, 1]])
    assert cohort.reading.rejected[["file", "reason"]].to_numpy().tolist() == [["b.xml", "no label is known"]]


def test_rejected_files_have_their_sex_and_labels(read, write_ecgs):
    folder = write_ecgs(["a.xml", "b.xml", "c.xml"])
    for name in "de":
        (folder / f"{name}.xml").write_text("not an ECG")
    rows = "a.xml,f,1,0\nb.xml,M,,\nc.xml,M,,1\nd.xml,male,1,\ne.xml,,0,1\n"
    write_labels(folder, "file,sex,PE,MI\n" + rows)
    rejected = read(folder, label_columns=["PE", "MI"]).reading.rejected.drop(columns="reason")
    assert rejected.to_csv(index=False) == "file,sex,PE,MI\nb.xml,M,,\nd.xml,M,1,\ne.xml,,0,1\n"


def test_a_table_without_any_label_is_one_line(read, write_ecgs):
    folder = write_ecgs(["a.xml"])
    write_labels(folder, "file,PE\na.xml,\n")
    assert "none of the 1 files can be used; no label is known" in failure_of(lambda: read(folder))
