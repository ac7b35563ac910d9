"""A de-identified copy holds the signal and nothing else; a WFDB header is read by the package wfdb too."""

import re

import numpy as np
import pytest
import wfdb
from format_writers import (
    AGE,
    BIRTH_DATE,
    BIRTH_DIGITS,
    EIGHT_LEADS,
    FAMILY_NAME,
    GIVEN_NAME,
    PATIENT_ID,
    WRITERS,
)

from dataset.deidentified import check_place, deidentify
from ecg.formats.written import WRITTEN_FORMS, hospital_files
from ecg.recording import LEADS, EcgFileError, Recording
from runtime.errors import UserError
from xml_loader import read_recording

WORDS = {"wfdb": {"ecg", "hea", "dat", "mV", *LEADS}}
WORDS["hospital"] = {"ecg", "xml", "version", "encoding", "ISO", "rhythm", "channel", "name", "freq"}
WORDS["hospital"] |= {"amplitude_unit", *LEADS}
PRIVATE = (
    FAMILY_NAME,
    GIVEN_NAME,
    PATIENT_ID,
    BIRTH_DATE,
    BIRTH_DIGITS,
    "4711",
    "1931",
    "10:15",
    "07/03/2025",
)


def written(folder):
    """Write a file of each format, its name being the patient's."""
    folder.mkdir()
    walk = np.random.default_rng(1).integers(-9, 10, (12, 5000)).cumsum(axis=1)
    files = []
    for file_format, write in WRITERS.items():
        leads = EIGHT_LEADS if file_format == "GE MUSE" else LEADS
        suffix = {"WFDB": "hea", "DICOM": "dcm", "SCP-ECG": "scp"}.get(file_format, "xml")
        file = (
            folder
            / f"{FAMILY_NAME}_{GIVEN_NAME}_{PATIENT_ID}_{BIRTH_DATE}_{file_format[:5].strip()}.{suffix}"
        )
        write(file, walk[[LEADS.index(lead) for lead in leads]], leads=leads)
        files.append(file)
    return files


def encodings(text):
    return [text.encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be")] + [
        text.lower().encode(),
        text.upper().encode(),
    ]


@pytest.mark.parametrize("form", WRITTEN_FORMS)
def test_nothing_of_the_patient_is_in_a_copy(tmp_path, form):
    files = written(tmp_path / FAMILY_NAME)
    sources = b"".join(file.read_bytes() for file in (tmp_path / FAMILY_NAME).iterdir())
    assert sum(part in sources for text in PRIVATE for part in encodings(text)) >= len(PRIVATE)
    copies = list(deidentify(files, tmp_path / "out", form))
    assert [file for file, _ in copies] == files
    everything = list((tmp_path / "out").iterdir())
    assert len(everything) == len(files) * {"wfdb": 2, "hospital": 1}[form]
    for file in everything:
        content = file.read_bytes()
        for text in PRIVATE:
            found = [part for part in encodings(text) if part in file.name.encode()]
            # A number of four or eight digits may be a voltage: in the signal it must stand between spaces.
            if not text.isdigit():
                found += [part for part in encodings(text) if part in content]
            assert not found, (file.name, text)
        if file.suffix != ".dat":  # which holds samples alone, as the next test says
            words = set(re.findall(r"[A-Za-z_]\w*", content.decode("iso-8859-1")))
            assert words <= WORDS[form], words
            outside = re.sub(r">[-0-9 ]*<", "><", content.decode("iso-8859-1"))
            numbers = set(re.findall(r"\d+", outside)) if form == "hospital" else set()
            assert not numbers & {str(AGE), "4711", "1931", BIRTH_DIGITS}
            assert numbers <= {"1", "0", "8859", "2", "3", "4", "5", "6", "500", "001"}


@pytest.mark.parametrize("form", WRITTEN_FORMS)
def test_the_signal_is_the_same_to_a_microvolt(tmp_path, form):
    for file, name in deidentify(written(tmp_path / "in"), tmp_path / "out", form):
        one, other = read_recording(file), read_recording(tmp_path / "out" / name)
        assert one.sampling_rate == other.sampling_rate
        np.testing.assert_allclose(other.signal, one.signal, rtol=0, atol=0.000501)  # half a µV, and float32
        assert other.metadata["microvolts_per_count"] == pytest.approx(1)
        assert other.metadata["device"].strip() == "" and not other.metadata["warnings"]


def test_a_short_recording_is_copied_as_it_is_where_one_is_accepted(tmp_path):
    signal = np.random.default_rng(2).normal(size=(12, 2750)).astype(np.float32)  # 5.5 s
    (tmp_path / "short.xml").write_bytes(hospital_files(Recording(signal, 500), "short")["short.xml"])
    [(_, refused)] = deidentify([tmp_path / "short.xml"], tmp_path / "none", "wfdb")
    assert isinstance(refused, EcgFileError) and "8 s" in refused.expected
    [(_, name)] = deidentify([tmp_path / "short.xml"], tmp_path / "out", "wfdb", min_seconds=5)
    copy = read_recording(tmp_path / "out" / name, min_seconds=5)
    np.testing.assert_allclose(copy.signal, signal, rtol=0, atol=0.000501)


@pytest.mark.parametrize("rate", [500.0, 360.0, 499.97])
def test_wfdb_reads_the_copy(tmp_path, rate):
    signal = (np.random.default_rng(0).normal(size=(12, 5100)) * 3).astype(np.float32)
    signal[3, 5] = -32.767
    for name, content in WRITTEN_FORMS["wfdb"](Recording(signal, rate), "ecg-0001").items():
        (tmp_path / name).write_bytes(content)
    record = wfdb.rdrecord(str(tmp_path / "ecg-0001"))
    assert record.fs == rate and record.sig_name == list(LEADS) and record.comments == []
    np.testing.assert_allclose(record.p_signal.T, signal, rtol=0, atol=0.000501)
    counts = np.rint(1000 * signal.astype(float)).astype(int)
    assert [checksum % 65536 for checksum in record.checksum] == [int(row.sum()) % 65536 for row in counts]


def test_what_cannot_be_written_is_one_line_and_the_others_are_written(tmp_path):
    (tmp_path / "broken.xml").write_text("<ecg>")
    beyond = Recording(np.full((12, 5000), 40.0, np.float32), 500.0)
    (tmp_path / "beyond.xml").write_bytes(WRITTEN_FORMS["hospital"](beyond, "x")["x.xml"])
    files = [tmp_path / "broken.xml", tmp_path / "beyond.xml"]
    (_, broken), (_, large) = deidentify(files, tmp_path / "out", "wfdb")
    assert broken.found.startswith("malformed")
    assert (large.found, large.expected[:19]) == ("40 mV in lead I", "at most 32.767 mV; ")
    (_, broken), (_, name) = deidentify(files, tmp_path / "other", "hospital")
    assert name == "ecg-0002.xml"
    np.testing.assert_array_equal(read_recording(tmp_path / "other" / name).signal, beyond.signal)
    too_much = Recording(np.full((12, 5000), -301.0, np.float32), 500.0)
    with pytest.raises(EcgFileError, match="found 301 mV in lead I; expected at most 300 mV"):
        WRITTEN_FORMS["hospital"](too_much, "x")


def test_the_folder_of_the_ecgs_is_refused(tmp_path):
    source = tmp_path / "ecgs"
    source.mkdir()
    file = source / "a.xml"
    file.write_text("x")
    for sources, folder in (
        ([source], source),
        ([source], source / "new" / "deeper"),
        ([file], source),
        ([file], tmp_path / "new" / ".." / "ecgs"),
    ):
        with pytest.raises(UserError, match=r"found the folder of the ECGs .*, expected one outside it"):
            check_place(sources, folder)
    check_place([file], source / "new")
    check_place([source], tmp_path / "new")
    with pytest.raises(UserError, match="expected an absent or an empty folder"):
        check_place([tmp_path / "other.xml", source], tmp_path.parent)
