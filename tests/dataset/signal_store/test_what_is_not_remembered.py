"""What the environment caused is told, and tried again; what the file itself caused is remembered."""

import errno
import importlib
import os
import shutil
import sys

import numpy as np
import pytest
from format_writers import WRITERS

from dataset.decoding import decode
from dataset.signal_store import reading
from dataset.signal_store.cache_index import NO_ROW
from dataset.signal_store.signal_cache import cached_signals
from ecg.formats import by_ecgdatakit, ecg_file, hospital
from ecg.formats.signal_only import dicom, scp
from ecg.recording import LEADS, EcgAccessError
from xml_loader import read_recording

COUNTS = np.random.default_rng(0).integers(-200, 200, (12, 5000))


def one_ecg(folder, file_format):
    folder.mkdir(exist_ok=True)
    path = folder / {"DICOM": "ecg.dcm", "WFDB": "ecg.hea", "SCP-ECG": "ecg.scp"}.get(file_format, "ecg.xml")
    WRITERS[file_format](path, COUNTS, leads=LEADS)
    return path


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


def without_package(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed


def without_parsers(monkeypatch):
    missing = ImportError("no module", name="ecgdatakit.parsing")
    monkeypatch.setattr(importlib, "import_module", failing(missing))


def disk_fails(code):
    def fail_second_time(monkeypatch):
        """The content is read twice: for its digest, and by the reader; the disk fails in between."""
        error = OSError(code, os.strerror(code))
        monkeypatch.setattr(ecg_file, "open", failing(error), raising=False)

    return fail_second_time


def no_memory(module, name):
    return lambda monkeypatch: monkeypatch.setattr(module, name, failing(MemoryError()))


def no_room_for_temporary_files(monkeypatch):
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(by_ecgdatakit.tempfile, "TemporaryDirectory", failing(error))


CAUSES = {
    "no pydicom": ("DICOM", lambda patch: without_package(patch, "pydicom"), "pip install pydicom"),
    "no ecgdatakit": ("SCP-ECG", without_parsers, "pip install ecgdatakit"),
    "input/output error": (
        "hospital",
        disk_fails(errno.EIO),
        "error); expected a disk or network share",
    ),
    "stale network share": (
        "WFDB",
        disk_fails(errno.ESTALE),
        "expected a disk or network share that answers",
    ),
    "too many open files": ("GE CardioSoft", disk_fails(errno.EMFILE), "ulimit -n"),
    "permission": ("hospital", disk_fails(errno.EACCES), "expected permission to read it"),
    "no memory for DICOM": ("DICOM", no_memory(dicom, "_parts"), "no memory left"),
    "no memory for SCP-ECG": ("SCP-ECG", no_memory(scp, "_record"), "more memory, or fewer readers"),
    "no memory for a count": ("hospital", no_memory(hospital, "parse_counts"), "no memory left to read it"),
    "no room": ("HL7 aECG", no_room_for_temporary_files, "room in the folder of temporary files (TMPDIR)"),
}


@pytest.mark.parametrize(("file_format", "hinder", "words"), CAUSES.values(), ids=CAUSES)
def test_what_the_environment_caused_is_not_remembered(tmp_path, monkeypatch, file_format, hinder, words):
    path = one_ecg(tmp_path / "ecgs", file_format)

    def read():
        return cached_signals(path.parent, [path.name], cache_dir=tmp_path / "cache", workers=1)

    with monkeypatch.context() as hindered:
        hinder(hindered)
        with pytest.raises(EcgAccessError) as caught:
            read_recording(path)
        entry = read().entries.loc[0]
    assert entry["row"] == NO_ROW and words in entry["rejected"] and len(entry["rejected"].splitlines()) == 1
    assert str(caught.value) == entry["rejected"]
    mended = read()
    assert mended.entries.loc[0, "rejected"] == "" and mended.n_parsed == 1
    assert read().n_parsed == 0


def test_a_file_that_is_replaced_while_it_is_read_gives_no_other_its_signal(
    write_ecgs, tmp_path, monkeypatch
):
    folder = write_ecgs(["a.xml", "b.xml", "new.xml"])
    shutil.copy(folder / "b.xml", folder / "a.xml")

    def read():
        return cached_signals(folder, ["a.xml", "b.xml"], cache_dir=tmp_path / "cache", workers=1)

    def decode_what_was_replaced(path, *window):
        if path.name == "a.xml":
            shutil.copy(folder / "new.xml", path)
        return decode(path, *window)

    with monkeypatch.context() as exporting:
        exporting.setattr(reading, "decode", decode_what_was_replaced)
        a, b = read().entries.itertuples()
    assert a.row == NO_ROW and b.rejected == ""
    assert a.rejected == (
        f"{folder / 'a.xml'}: found a file that was changed while it was read; "
        "expected one that no program writes just now"
    )
    cached = read()
    assert cached.n_parsed == 1 and read().n_parsed == 0
    for entry in cached.entries.itertuples():
        np.testing.assert_array_equal(cached.signals[entry.row], decode(folder / entry.file)[1])


def test_a_refusal_for_a_file_beside_it_is_not_remembered(tmp_path):
    folder, header = tmp_path / "ecgs", tmp_path / "ecgs" / "ecg.hea"
    folder.mkdir()
    WRITERS["MATLAB"](folder / "ecg.mat", COUNTS, leads=LEADS)
    header.touch()

    def read():
        return cached_signals(folder, ["ecg.mat"], cache_dir=tmp_path / "cache", workers=1).entries.loc[0]

    assert "the signal file of a WFDB header, ecg.hea" in read()["rejected"]
    header.unlink()
    assert read()["rejected"] == ""


def test_what_the_file_caused_is_remembered(tmp_path):
    path = one_ecg(tmp_path / "ecgs", "hospital")
    path.write_bytes(path.read_bytes()[:-100])
    for n_parsed in (1, 0):
        read = cached_signals(path.parent, [path.name], cache_dir=tmp_path / "cache", workers=1)
        assert read.n_parsed == n_parsed and "malformed or incomplete XML" in read.entries.loc[0, "rejected"]
