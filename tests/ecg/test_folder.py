"""Which files of a folder are read, which lie beside ECGs; none is lost in between."""

import os
import stat
import time

import numpy as np
import pytest
from format_writers import EIGHT_LEADS, WRITERS

from ecg.folder import begins_as_ecg, find_files
from ecg.recording import LEADS

COUNTS = np.zeros((12, 4000), int)


def names_in(folder, files):
    return [file.relative_to(folder).as_posix() for file in files]


def write(folder, *names, content=b"x\0"):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def test_files_of_a_folder(tmp_path):
    write(tmp_path, "b.xml", "a.XML", "sub/c.dcm", "sub/d.hea", "sub/d.dat", "sub/d.atr", "noname", "e.dat")
    write(tmp_path, "labels.csv", "sub/README.md", ".hidden.xml")
    absent = tmp_path / "absent.xml"
    files, left_out, problems = find_files([tmp_path / "b.xml", tmp_path, absent])
    expected = ["b.xml", "a.XML", "e.dat", "noname", "sub/c.dcm", "sub/d.hea", "absent.xml"]
    assert names_in(tmp_path, files) == expected
    assert names_in(tmp_path, left_out) == [
        ".hidden.xml",
        "labels.csv",
        "sub/README.md",
        "sub/d.atr",
        "sub/d.dat",
    ]
    assert problems == []  # what is not there is refused when it is read
    (tmp_path / "empty").mkdir()
    _, _, problems = find_files([tmp_path / "empty"])
    assert problems == [f"{tmp_path / 'empty'}: found no ECG file in the folder; expected at least one"]


@pytest.mark.parametrize(
    "beginning", [b"<ecg ", b"<a:ecg><channe ", b"<schiller", b"<a.", b"a:", b"<rhythm."]
)
def test_what_a_text_is_is_seen_soon(tmp_path, beginning):
    write(tmp_path, "a.txt", content=b"<" + beginning * (65_000 // len(beginning)))
    begin = time.process_time()
    assert not begins_as_ecg(tmp_path / "a.txt")
    assert time.process_time() - begin < 1


BESIDE = ["Thumbs.db", "ehthumbs.db", "desktop.ini", "Desktop.INI", ".DS_Store", "._a.xml", "SHA256SUMS.txt"]
BESIDE += ["Icon\r"]
BESIDE += ["~$labels.xlsx", "notes.docx", "export.lnk", "a.xml.part", "labels.xls", "scan.pdf", "a.sha256"]
BESIDE += [
    "__MACOSX/a.xml",
    "@eaDir/a.xml",
    ".ipynb_checkpoints/a.xml",
    "$RECYCLE.BIN/a.xml",
    ".Trash/b/a.dcm",
]
TEXTS = ["RECORDS", "ANNOTATORS", "LICENSE", "SHA256SUMS", "README", "sub/RECORDS"]


@pytest.mark.parametrize("name", BESIDE + TEXTS)
def test_what_lies_beside_ecgs(tmp_path, name):
    write(
        tmp_path, name, content="records100/é\n".encode("latin-1") if name in TEXTS else b"\xd0\xcf\x11\xe0"
    )
    write(tmp_path, "a.xml")
    files, left_out, problems = find_files([tmp_path])
    assert names_in(tmp_path, files) == ["a.xml"] and names_in(tmp_path, left_out) == [name]
    assert problems == []


def test_hidden_is_what_is_hidden_below_the_folder_that_was_named(tmp_path):
    write(tmp_path, ".data/a.xml")
    assert names_in(tmp_path, find_files([tmp_path / ".data"])[0]) == [".data/a.xml"]


CARRIERS = ["export.txt", "export.bak", "export.csv", "export.html", "export.old", "export.db", "export"]


@pytest.mark.parametrize("file_format", [name for name in WRITERS if name != "WFDB"])
def test_the_content_decides_not_the_ending(tmp_path, file_format):
    leads = EIGHT_LEADS if file_format == "GE MUSE" else LEADS
    for name in CARRIERS:
        WRITERS[file_format](tmp_path / name, COUNTS[: len(leads)], leads=leads)
    files, left_out, _ = find_files([tmp_path])
    assert sorted(file.name for file in files) == sorted(CARRIERS)
    assert {file.name for file in left_out} <= {"ecg_format.yml"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig", "gb18030"])
def test_the_encoding_does_not_hide_an_ecg(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes("<?xml version='1.0'?>\n<!-- 王 -->\n<RestingECG>".encode(encoding))
    assert begins_as_ecg(tmp_path / "a.txt")


@pytest.mark.parametrize("content", [b"", b"<html><body>restingecg", b"rhythm", b"%PDF-1.7", b"a;b\n1;2\n"])
def test_what_does_not_begin_as_an_ecg(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    assert not begins_as_ecg(tmp_path / "a.txt")


ROW = ",".join(["0.1"] * 12)
TABLES = {
    "leads above": (",".join(LEADS) + f"\n{ROW}\n{ROW}\n", True),
    "leads beside": ("".join(f"{lead};{'1;' * 500}\n" for lead in LEADS), True),
    "twelve columns": (f"{ROW}\n" * 500, True),
    "twelve rows": (" ".join(["-3"] * 5000) + "\n", True),
    "one row per patient": ("id,age,rate,PR,QRS,QT,P,T,axis\n" + "1,2,3,4,5,6,7,8,9\n" * 50, False),
    "labels": ("file;patient_id;PE\n1.csv;17;0\n", False),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_ecgs_and_other_tables(tmp_path, name):
    text, is_ecg = TABLES[name]
    (tmp_path / "a.csv").write_text(text)
    (tmp_path / "a.xml").write_text("<ecg><rhythm/></ecg>")
    files, left_out, _ = find_files([tmp_path])
    assert names_in(tmp_path, files) == (["a.csv", "a.xml"] if is_ecg else ["a.xml"])
    assert names_in(tmp_path, left_out) == ([] if is_ecg else ["a.csv"])


def test_a_statement_makes_tables_of_numbers_ecgs(tmp_path):
    write(tmp_path, "a.csv", content=b"1,2,3,4,5,6,7,8,9,10,11,12,13\n" * 50)
    assert find_files([tmp_path])[0] == []
    write(tmp_path, "ecg_format.yml", content=b"sampling_rate: 500")
    assert names_in(tmp_path, find_files([tmp_path])[0]) == ["a.csv"]


# Links


def test_links_to_folders_are_followed(tmp_path):
    write(tmp_path, "store/2023/0001.xml", "store/2023/sub/0002.xml", "other/0003.xml", "ecgs/a.xml")
    ecgs = tmp_path / "ecgs"
    os.symlink("../store/2023", ecgs / "2023")
    os.symlink(tmp_path / "other", ecgs / "2024", target_is_directory=True)
    os.symlink("../store/2023/0001.xml", ecgs / "b.xml")
    files, left_out, problems = find_files([ecgs])
    assert names_in(ecgs, files) == ["2023/0001.xml", "2023/sub/0002.xml", "2024/0003.xml", "a.xml", "b.xml"]
    assert left_out == problems == []


def test_loops_end_and_each_folder_is_entered_once(tmp_path):
    write(tmp_path, "z/1.xml", "z/deep/2.xml")
    os.symlink("..", tmp_path / "z" / "deep" / "up")
    os.symlink(tmp_path, tmp_path / "z" / "deep" / "root")
    os.symlink("z", tmp_path / "a")  # comes first in the alphabet, and yet the files keep their own names
    os.symlink("self", tmp_path / "self")
    files, left_out, problems = find_files([tmp_path])
    assert names_in(tmp_path, files) == [
        "self",
        "z/1.xml",
        "z/deep/2.xml",
    ]  # "self" is refused when it is read
    assert left_out == problems == []


def test_a_link_that_leads_nowhere_is_not_lost(tmp_path):
    write(tmp_path, "a.xml")
    os.symlink("gone.xml", tmp_path / "b.xml")
    os.symlink("gone", tmp_path / "c")
    assert names_in(tmp_path, find_files([tmp_path])[0]) == ["a.xml", "b.xml", "c"]


def test_a_folder_that_cannot_be_listed_is_told(tmp_path, monkeypatch):
    write(tmp_path, "a.xml", "locked/b.xml")
    scandir = os.scandir

    def deny(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    files, _, problems = find_files([tmp_path])
    assert names_in(tmp_path, files) == ["a.xml"]
    assert problems == [
        f"{tmp_path / 'locked'}: found a folder that cannot be listed (Permission denied); "
        "expected one that may be read, on a disk that answers"
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFO on this system")
def test_a_fifo_is_listed_and_not_opened(tmp_path):
    for name in ("a", "b.txt"):
        os.mkfifo(tmp_path / name)
        assert stat.S_ISFIFO(os.stat(tmp_path / name).st_mode)
    assert names_in(tmp_path, find_files([tmp_path])[0]) == ["a"]
