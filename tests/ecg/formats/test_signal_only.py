"""Only what the signal needs decides: dates, names, comments and median beats may be anything.

What is expected is what the writers were given, or what an independent reader makes of the file.
"""

import math
import re
import struct

import numpy as np
import pytest
from format_writers import (
    EIGHT_LEADS,
    N_MEDIAN,
    WRITERS,
    dicom_channel,
    dicom_code,
    scp_record,
    scp_samples,
    scp_tag,
    write_text,
)

from ecg.formats.signal_only.choice import rate_of_interval, the_rhythm
from ecg.recording import LEADS, EcgFileError, standard_lead
from xml_loader import read_recording

COUNTS = np.random.default_rng(0).integers(-1000, 1000, (12, 4000))  # 8 s at 500 Hz
FLOAT32 = {"rtol": 2e-7, "atol": 2e-7}


def written(folder, file_format, *, leads=LEADS, counts=COUNTS, **oddities):
    path = folder / ("ecg.hea" if file_format == "WFDB" else "ecg.bin")
    options = {"sampling_rate": 500, "microvolts_per_count": 5} | oddities
    WRITERS[file_format](path, counts[: len(leads)], leads=leads, **options)
    return path


def replaced(path, pattern, replacement):
    """Replace bytes in a file; a file of UTF-16 is left in UTF-8."""
    content = path.read_bytes()
    if content.startswith(b"\xff\xfe"):
        content = content.decode("utf-16").replace("utf-16", "utf-8").encode()
    content, n = re.subn(pattern, lambda _: replacement, content, flags=re.DOTALL)
    assert n, f"{pattern} is not in the file"
    path.write_bytes(content)
    return path


def assert_reads(path, counts=COUNTS, warnings=()):
    recording = read_recording(path)
    np.testing.assert_allclose(recording.signal, counts * 0.005, **FLOAT32)
    assert recording.metadata["warnings"] == warnings
    return recording


# What is not read never decides, and nobody is warned of it

TIMES_OF_WFDB = [
    b"12-May-2020 12:33:59",  # the PhysioNet/CinC Challenges 2020 and 2021
    b"12:33:59 31/02/2020",
    b"25:61:00 01/01/1900",
    b"2020-05-12T12:33:59Z",
    b"unknown",
    b"12:33:59 12/05/2020 and more",
]


@pytest.mark.parametrize("time", TIMES_OF_WFDB)
def test_date_and_time_of_a_wfdb_header(tmp_path, time):
    assert_reads(replaced(written(tmp_path, "WFDB"), rb"10:15:00 07/03/2025", time))


BEAT = rb'<derivedSeries><code code="REPRESENTATIVE_BEAT"/>'
HEART_RATE = (
    b'<subjectOf><annotationSet><component><annotation><code code="MDC_ECG_HEART_RATE"/>'
    b'<value value="70" unit="1/fortnight"/></annotation></component></annotationSet></subjectOf>'
)
TIMES = rb'<component><sequence><code code="TIME'
PRESSURE = (
    b'<component><sequence><code code="PRESSURE"/><value><digits>a</digits></value></sequence></component>'
)
NOT_READ = {
    "WFDB": {
        "a name in Latin-1": (rb"Jane", b"Jos\xe9"),
        "no whole resolution": (rb"/mV 16 ", b"/mV 16.0 "),
        "no resolution": (rb"/mV 16 ", b"/mV - "),
        "no zero beside a baseline": (rb"/mV 16 0 ", b"/mV 16 x "),
        "no first sample": (rb"(?<=/mV 16 0 )-?\d+", b"x"),
        "no checksum": (rb"(?<=/mV 16 0 )(-?\d+) -?\d+", b"0 n/a"),
    },
    "GE MUSE": {
        "a wrong checksum of the median": (rb"(?<=CRC32>)\d+", b"1"),
        "a median without a rate": (rb"(?<=<SampleBase>)500", b"x"),
        "a median without base64": (rb"<WaveFormData>[^<]*", b"<WaveFormData>?"),
        "no date": (rb"02-03-1931", b"x-y"),
        "an absurd age": (rb"(?<=<PatientAge>)94", b"9e999"),
    },
    "Philips": {
        "beats without a rate": (rb' samplespersec="500" resolution="2.5"', b""),
        "beats in another encoding": (rb'<repbeats dataencoding="Base64"', b'<repbeats dataencoding="x"'),
        "an absurd age": (rb"<years>94", b"<years>ninety"),
    },
    "HL7 aECG": {
        "a heart rate in an odd unit": (rb"<derivation>", HEART_RATE + b"<derivation>"),
        "a derived series of no kind": (BEAT, b"<derivedSeries>"),
        "no date": (rb'<head value="20250307101500"/>', b'<head value="yesterday"/>'),
        "a sequence of pressures": (TIMES, PRESSURE + TIMES),
    },
    "Mortara ELI": {
        "a typical cycle in 8 bits": (rb'<TYPICAL_CYCLE BITS="16"', b'<TYPICAL_CYCLE BITS="8"'),
        "a typical cycle without a rate": (rb'SAMPLE_FREQ="500"\nENCODING', b"ENCODING"),
        "an odd date": (rb'DOB="19310203"', b'DOB="?"'),
    },
    "SCP-ECG": {
        "a changed name": (rb"Jane", b"Joan"),  # its checksum is wrong now
        "a tag that overruns": (rb"\x02\x09\x00MRN", b"\x02\xff\xffMRN"),
        "a changed median beat": (rb"\x61\x1e\x61\x1e", b"\x61\x1e\x61\x1f"),
    },
    "DICOM": {
        "an odd birth date": (rb"19310203", b"1931.2.3"),
        "an odd age": (rb"094Y", b"old "),
        "a name in no known characters": (rb"Doe\^Jane", b"D\xff\xfe^Jane"),
    },
}


@pytest.mark.parametrize(
    ("file_format", "change"), [(name, change) for name, changes in NOT_READ.items() for change in changes]
)
def test_what_is_not_read_never_decides(tmp_path, file_format, change):
    path = written(tmp_path, file_format)
    pattern, replacement = NOT_READ[file_format][change]
    if file_format == "GE MUSE":  # only the median, which comes first
        content = path.read_bytes()
        end = content.index(b"<WaveformType>Rhythm")
        head, n = re.subn(pattern, lambda _: replacement, content[:end], flags=re.DOTALL)
        assert n
        path.write_bytes(head + content[end:])
    else:
        replaced(path, pattern, replacement)
    assert_reads(path)


def test_a_wrong_checksum_of_the_rhythm_is_noted(tmp_path):
    path = written(tmp_path, "GE MUSE")
    head, rhythm = path.read_bytes().split(b"<WaveformType>Rhythm")
    path.write_bytes(head + b"<WaveformType>Rhythm" + re.sub(rb"(?<=CRC32>)\d+", b"1", rhythm, count=1))
    assert_reads(path, warnings=("CRC32 mismatch in lead I (rhythm) of the file",))


def test_leads_that_are_left_out_may_be_damaged(tmp_path):
    leads = (*EIGHT_LEADS, "V4R")
    path = written(tmp_path, "GE MUSE", leads=leads, counts=COUNTS)
    head, _, last = path.read_bytes().rpartition(b"<LeadDataCRC32>")
    path.write_bytes(head + b"<LeadDataCRC32>" + re.sub(rb"^\d+", b"1", last))
    recording = read_recording(path)
    assert recording.metadata["warnings"] == () and recording.metadata["leads_in_file"] == 9
    np.testing.assert_allclose(recording.signal[:2], COUNTS[:2] * 0.005, **FLOAT32)


def test_a_wfdb_signal_file_without_one_of_the_twelve_leads_may_be_lost(tmp_path):
    path = written(tmp_path, "WFDB")
    header = path.read_text().replace("ecg 12 ", "ecg 13 ")
    path.write_text(header.replace("# name", "pressure.dat 16 10/mmHg 16 0 0 0 0 ABP\n# name"))
    assert assert_reads(path).metadata["leads_in_file"] == 12


# The encoding of a name


NAMES = {
    "Latin-1 under UTF-8": ("utf-8", "Müller".encode("latin-1")),
    "Latin-1 under nothing": (None, "Müller".encode("latin-1")),
    "GB2312": ("gb2312", "王".encode("gb2312")),
    "GB18030 under GB2312": ("GB2312", "\U00020000".encode("gb18030")),
    "GBK cut in a character": ("gbk", "王".encode("gbk")[:1]),
    "Shift-JIS": ("Shift_JIS", "髙橋".encode("cp932")),
    "EUC-KR": ("euc-kr", "김".encode("cp949")),
    "Big5": ("big5", "陳".encode("big5")),
    "EUC-JP": ("euc-jp", "橋".encode("euc-jp")),
    "Windows-1251": ("windows-1251", "Иванов".encode("cp1251")),
    "Windows-1252 under ASCII": ("us-ascii", "O’Neill".encode("cp1252")),
    "UTF-8 under UTF-16": ("utf-16", "Müller".encode()),
    "UTF-8 under an unknown one": ("x-hospital", "Müller".encode()),
    "a control character": ("utf-8", b"M\x0bller"),
    "a bare ampersand": ("utf-8", b"Smith & Sons"),
    "an entity of HTML": ("utf-8", b"M&uuml;ller"),
}


@pytest.mark.parametrize(
    "file_format", ["hospital", "GE CardioSoft", "GE MUSE", "Schiller EDI", "HL7 aECG", "Mortara ELI"]
)
@pytest.mark.parametrize(("declared", "name"), NAMES.values(), ids=NAMES)
def test_the_encoding_of_a_name_never_decides(tmp_path, file_format, declared, name):
    path = written(tmp_path, file_format, **({"encoding": "utf-8"} if file_format == "Schiller EDI" else {}))
    replaced(
        path,
        rb"^<\?xml.*?\?>",
        b"" if declared is None else b'<?xml version="1.0" encoding="%b"?>' % declared.encode(),
    )
    assert_reads(replaced(path, rb"Doe", name))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark(tmp_path, encoding):
    assert_reads(written(tmp_path, "Philips", encoding=encoding))


def test_a_dtd_that_is_only_named(tmp_path):
    path = written(tmp_path, "hospital")
    assert_reads(replaced(path, rb"<ecg>", b'<!DOCTYPE ecg SYSTEM "http://127.0.0.1:9/ecg.dtd">\n<ecg>'))


# Which of several rhythms is read: the one that has most of the leads and is the longest


def two_rhythms(folder, file_format):
    """Return a path, and the texts of a file with 8 s and of one with 1.2 s."""
    path = written(folder, file_format)
    long = path.read_text()
    WRITERS[file_format](path, COUNTS[:, :N_MEDIAN], sampling_rate=500, leads=LEADS, microvolts_per_count=5)
    return path, long, path.read_text()


def between(text, start, end):
    return re.search(f"{start}.*{end}", text, re.DOTALL)[0]


@pytest.mark.parametrize("second", [False, True])
def test_muse_with_two_rhythms(tmp_path, second):
    path, long, short = two_rhythms(tmp_path, "GE MUSE")
    rhythm = between(short, "<Waveform><WaveformType>Rhythm", "</Waveform>")
    mark = "</RestingECG>" if second else "<Waveform><WaveformType>Rhythm"
    write_text(path, long.replace(mark, rhythm + mark, 1))
    assert_reads(path)


@pytest.mark.parametrize("element", ["series", "sequenceSet"])
def test_aecg_with_two_rhythms(tmp_path, element):
    path, long, short = two_rhythms(tmp_path, "HL7 aECG")
    start = f"<component><{element}>"
    rhythm = between(short.split("<derivation>")[0], start, "</sequenceSet></component>")
    rhythm += "</series></component>" if element == "series" else ""
    write_text(path, long.replace(start, rhythm + start, 1))
    assert_reads(path)


STRIPS = {
    "GE CardioSoft": ("<StripData>", "</StripData>", "2 StripData with WaveformData with 12 leads"),
    "Schiller EDI": (
        "<wavedata><type>ECG_RHYTHMS",
        "</wavedata>",
        "2 wavedata of type ECG_RHYTHMS with 12 leads",
    ),
    "hospital": ("<rhythm>", "</rhythm>", "2 rhythm elements with 12 leads"),
}


@pytest.mark.parametrize("file_format", STRIPS)
def test_of_two_strips_the_one_that_is_long_enough(tmp_path, file_format):
    start, end, message = STRIPS[file_format]
    path = written(tmp_path, file_format)
    encoding = {"Schiller EDI": "utf-8-sig"}.get(file_format, "iso-8859-1")
    long = path.read_text(encoding)
    counts = COUNTS[:, :N_MEDIAN]
    WRITERS[file_format](path, counts, sampling_rate=500, leads=LEADS, microvolts_per_count=5)
    short = between(path.read_text(encoding), start, end)
    write_text(path, long.replace(start, short + start, 1), encoding)
    assert_reads(path)
    write_text(path, long.replace(start, between(long, start, end) + start, 1), encoding)
    with pytest.raises(EcgFileError, match=message):  # which of them is meant is not known
        read_recording(path)


def test_two_rhythms_that_would_both_do_are_noted(tmp_path):
    path = written(tmp_path, "GE MUSE")
    text = path.read_text()
    rhythm = between(text, "<Waveform><WaveformType>Rhythm", "</Waveform>")
    write_text(path, text.replace("</RestingECG>", rhythm + "</RestingECG>"))
    assert_reads(path, warnings=("2 rhythms of 8 s or more are in the file; the longest is read",))


def test_a_rhythm_with_fewer_leads_is_not_chosen_for_its_length():
    candidates = [({"I", "II"}, 60.0), (set(LEADS), 10.0), (set(LEADS), 1.2), (set(EIGHT_LEADS), 9.0)]
    warnings = []
    chosen = the_rhythm(candidates, lambda one: one[0], lambda one: one[1], warnings)
    assert chosen == (set(LEADS), 10.0) and warnings == [
        "2 rhythms of 8 s or more are in the file; the longest is read"
    ]
    assert the_rhythm([], set, len, warnings) is None


DICOM_LABELS = {
    "no labels": (None, None),
    "both alike": ("ECG", "ECG"),
    "exchanged": ("RHYTHM", "MEDIAN BEAT"),
    "as usual": ("MEDIAN BEAT", "RHYTHM"),
}


@pytest.mark.parametrize("labels", DICOM_LABELS.values(), ids=DICOM_LABELS)
def test_the_group_of_dicom_by_what_it_holds(tmp_path, labels):
    pydicom = pytest.importorskip("pydicom")
    path = written(tmp_path, "DICOM")
    dataset = pydicom.dcmread(path)
    rhythm, beat = dataset.WaveformSequence
    dataset.WaveformSequence = [beat, rhythm]
    for group, label in zip(dataset.WaveformSequence, labels, strict=True):
        del group.MultiplexGroupLabel
        if label:
            group.MultiplexGroupLabel = label
    dataset.save_as(path)
    assert_reads(path)


SOURCES = {
    "numbers of SCP-ECG": lambda number, lead: (f"5.6.3-9-{number}", "SCPECG", "x"),
    "with the partition": lambda number, lead: (str((2 << 16) + number), "MDC", "x"),
    "names": lambda number, lead: (f"MDC_ECG_LEAD_{lead.upper()}", "MDC", "x"),
    "in words": lambda number, lead: ("99", "99LOCAL", f"Lead {lead} (12-lead)"),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_the_leads_of_dicom_in_any_code(tmp_path, source):
    from format_writers import LEAD_CODES

    pydicom = pytest.importorskip("pydicom")
    path = written(tmp_path, "DICOM")
    dataset = pydicom.dcmread(path)
    for lead, channel in zip(LEADS, dataset.WaveformSequence[0].ChannelDefinitionSequence, strict=True):
        channel.ChannelSourceSequence = [dicom_code(*source(LEAD_CODES[lead], lead))]
    dataset.save_as(path)
    assert_reads(path)


SKEWS = {
    "sampled in turn": ("ChannelSampleSkew", [n / 12 for n in range(12)], True),
    "in turn, in seconds": ("ChannelTimeSkew", [n / 12 / 500 for n in range(12)], True),
    "all alike": ("ChannelSampleSkew", [50] * 12, True),
    "of two samples": ("ChannelSampleSkew", [0] * 11 + [2], False),
    "of 4 ms": ("ChannelTimeSkew", [0] * 11 + [0.004], False),
    "one after another": ("ChannelSampleSkew", range(0, 1200, 100), False),
}


@pytest.mark.parametrize(("name", "skews", "simultaneous"), SKEWS.values(), ids=SKEWS)
def test_leads_of_dicom_begin_together(tmp_path, name, skews, simultaneous):
    pydicom = pytest.importorskip("pydicom")
    path = written(tmp_path, "DICOM")
    dataset = pydicom.dcmread(path)
    for skew, channel in zip(skews, dataset.WaveformSequence[0].ChannelDefinitionSequence, strict=True):
        setattr(channel, name, f"{skew:.8g}")
    dataset.save_as(path)
    if simultaneous:
        assert_reads(path)
    else:
        with pytest.raises(EcgFileError, match="found leads that begin at different times; expected simul"):
            read_recording(path)


def test_the_leads_of_dicom_by_their_labels(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    path = written(tmp_path, "DICOM")
    dataset = pydicom.dcmread(path)
    channels = [dicom_channel("I", 5, "uV", 1, 0) for _ in LEADS]
    for lead, channel in zip(LEADS, channels, strict=True):
        del channel.ChannelSourceSequence
        channel.ChannelLabel = f"D{lead}" if set(lead) == {"I"} else lead
    dataset.WaveformSequence[0].ChannelDefinitionSequence = channels
    dataset.save_as(path)
    assert_reads(path)


# SCP-ECG whose samples are counted from 0


def scp_file(path, first, last, *, name=b"Doe"):
    """Write 12 leads, uncompressed, whose section 3 has these first and last samples; hand-made bytes."""
    codes = [1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8]
    three = struct.pack("<BB", 12, 4 | 12 << 3) + b"".join(
        struct.pack("<IIB", first, last, code) for code in codes
    )
    six = scp_samples(5000, 2000, 0, [row.astype("<i2").tobytes() for row in COUNTS])
    path.write_bytes(scp_record({1: scp_tag(0, name + b"\0") + scp_tag(255, b""), 3: three, 6: six}))
    return path


@pytest.mark.parametrize(("first", "last"), [(1, 4000), (0, 3999), (0, 4000), (501, 4500)])
def test_scp_that_counts_from_0(tmp_path, first, last):
    assert_reads(scp_file(tmp_path / "ecg.scp", first, last))


def test_scp_that_declares_more_than_it_has_is_refused(tmp_path):
    with pytest.raises(EcgFileError, match="lead 1 holds 4000 samples, expected 4001"):
        read_recording(scp_file(tmp_path / "ecg.scp", 1, 4001))


def test_scp_keeps_its_device(tmp_path):
    path = scp_file(tmp_path / "ecg.scp", 1, 4000)
    device = (
        struct.pack("<HHHBB6sBBBBBB", 0, 0, 0, 0, 9, b"ECG-9\0", 20, 0xD0, 1, 0, 0, 0).ljust(36, b"\0")
        + b"\0" * 5
    )
    section_1 = scp_tag(2, b"MRN-4711\0") + scp_tag(14, device) + scp_tag(255, b"")
    six = scp_samples(5000, 2000, 0, [row.astype("<i2").tobytes() for row in COUNTS])
    three = path.read_bytes()
    three = struct.pack("<BB", 12, 4 | 12 << 3) + b"".join(
        struct.pack("<IIB", 1, 4000, code) for code in [1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8]
    )
    path.write_bytes(scp_record({1: section_1, 3: three, 6: six}))
    assert assert_reads(path).metadata["device"] == "Nihon Kohden ECG-9"


# Independent readers


def scp_millivolts(content):
    """Read an uncompressed SCP-ECG file by EN 1064: section 0 points to 3 (leads) and 6 (samples)."""
    places = {number: index - 1 for number, _, index in struct.iter_unpack("<HII", content[22:142])}
    three, six = places[3] + 16, places[6] + 16
    n_leads = content[three]
    nanovolts, microseconds = struct.unpack_from("<HH", content, six)
    sizes = struct.unpack_from(f"<{n_leads}H", content, six + 6)
    start, rows = six + 6 + 2 * n_leads, {}
    for number, size in enumerate(sizes):
        rows[content[three + 2 + 9 * number + 8]] = (
            np.frombuffer(content, "<i2", size // 2, start) * float(nanovolts) * 1e-6
        )
        start += size
    return np.stack([rows[code] for code in (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8)]), 1e6 / microseconds


@pytest.mark.parametrize("microvolts", [2.5, 4.88, 1])
def test_scp_against_a_reader_of_the_standard(tmp_path, microvolts):
    path = written(tmp_path, "SCP-ECG", leads=LEADS[::-1], counts=COUNTS, microvolts_per_count=microvolts)
    millivolts, rate = scp_millivolts(path.read_bytes())
    recording = read_recording(path)
    np.testing.assert_allclose(recording.signal, millivolts, **FLOAT32)
    assert recording.sampling_rate == rate


@pytest.mark.parametrize("unit", ["uV", "mV"])
def test_dicom_against_pydicom(tmp_path, unit):
    pydicom = pytest.importorskip("pydicom")
    path = written(tmp_path, "DICOM", leads=LEADS[::-1], unit=unit, correction=1.25, baseline=0.125)
    dataset = pydicom.dcmread(path)
    channels = dataset.WaveformSequence[0].ChannelDefinitionSequence
    names = [channel.ChannelSourceSequence[0].CodeMeaning.removeprefix("Lead ") for channel in channels]
    rows = dict(zip(names, dataset.waveform_array(0).T / {"uV": 1000, "mV": 1}[unit], strict=True))
    np.testing.assert_allclose(
        read_recording(path).signal, np.stack([rows[lead] for lead in LEADS]), **FLOAT32
    )


@pytest.mark.parametrize("gains", ["1000/mV", "204.7(-17)/mV", "0.4(3)/uV"])
def test_wfdb_against_wfdb(tmp_path, gains):
    wfdb = pytest.importorskip("wfdb")
    path = written(tmp_path, "WFDB", leads=LEADS[::-1], gains=gains, sampling_rate=499.5)
    record = wfdb.rdrecord(str(path.with_suffix("")))
    scale = {"mV": 1.0, "uV": 1e-3}[record.units[0]]
    rows = dict(zip(record.sig_name, record.p_signal.T * scale, strict=True))
    recording = read_recording(path)
    np.testing.assert_allclose(
        recording.signal, np.stack([rows[lead] for lead in LEADS]), rtol=4e-7, atol=4e-7
    )
    assert recording.sampling_rate == record.fs == 499.5


# Rates as precise as the file has them

RATES = {
    "WFDB": ("WFDB", {"sampling_rate": 499.7}, 499.7),
    "GE MUSE": ("GE MUSE", {"sampling_rate": 499.5, "sample_exponent": -1}, 499.5),
    "Mortara ELI": ("Mortara ELI", {"sampling_rate": 499.5}, 499.5),
    "DICOM": ("DICOM", {"sampling_rate": 499.8}, 499.8),
    "CardioSoft": ("GE CardioSoft", {"sampling_rate": 499.5}, 499.5),
    "hospital": ("hospital", {"sampling_rate": "499,5"}, 499.5),
    "aECG": ("HL7 aECG", {"increment": '<increment value="0.0020013" unit="s"/>'}, 1 / 0.0020013),
    "aECG of 240 Hz": ("HL7 aECG", {"increment": '<increment value="0.004167" unit="s"/>'}, 240),
    "aECG in ms": ("HL7 aECG", {"increment": '<increment value="2.001" unit="ms"/>'}, 1000 / 2.001),
    "SCP-ECG of 256 Hz": ("SCP-ECG", {"sampling_rate": 256}, 256),  # 3906 µs
    "SCP-ECG of 2001 µs": ("SCP-ECG", {"sampling_rate": 1e6 / 2001}, 1e6 / 2001),
}


@pytest.mark.parametrize(("file_format", "oddity", "rate"), RATES.values(), ids=RATES)
def test_rates_that_are_not_whole(tmp_path, file_format, oddity, rate):
    assert assert_reads(written(tmp_path, file_format, **oddity)).sampling_rate == pytest.approx(
        rate, rel=1e-12
    )


@pytest.mark.parametrize(
    ("seconds", "precision", "rate"),
    [
        (0.002, 1e-3, 500),
        (0.0039, 1e-4, 256),
        (0.003906, 1e-6, 256),
        (0.0020013, 1e-7, 1 / 0.0020013),
        (0, 1e-6, 0),
    ],
)
def test_rate_of_interval(seconds, precision, rate):
    assert rate_of_interval(seconds, precision) == pytest.approx(rate, rel=1e-12)
    assert rate_of_interval(math.inf, 1.0) == 0


# Lead names

SPELLINGS = {
    "I": "DI|D1|d-i|Lead_I|Lead 1|LEAD I|MDC_ECG_LEAD_I|MINDRAY_ECG_LEAD_I|ECG I|EKG_I|Ⅰ|Ableitung I|LI|"
    "Lead-I|Derivación I|Derivação DI|第I誘導|I导联|I (mV)|I[µV]| i ",
    "III": "DIII|D3|Lead III|Ⅲ|iii|LIII",
    "aVR": "AVR|avr|aV-R|a VR|aV_R|Lead aVR|MDC_ECG_LEAD_AVR|ECG Lead AVR",
    "V1": "v1|V01|V-1|V 1|V_1|C1|Ｖ１|Lead_V1|ECG V1|V1 uV",
    None: "-aVR|−aVR|MDC_ECG_LEAD_AVRNEG|MDC_ECG_LEAD_-AVR|Lead -aVR|aVRneg|I-II|V1-V2|MLII|V4R|V7|V10|X|1|"
    "VR|IIII|D4||Doe|II_2|I cal|I-cal",
}


@pytest.mark.parametrize(
    ("lead", "name"), [(lead, name) for lead, names in SPELLINGS.items() for name in names.split("|")]
)
def test_spellings(lead, name):
    assert standard_lead(name) == lead


ROMANCE = ("DI", "DII", "DIII", *LEADS[3:])
by_text = [name for name in WRITERS if name not in ("DICOM", "SCP-ECG")]


@pytest.mark.parametrize("file_format", by_text)
@pytest.mark.parametrize("prefix", ["", "Lead_"])
def test_limb_leads_as_romance_languages_write_them(tmp_path, file_format, prefix):
    names = ROMANCE if not prefix else tuple(f"{prefix}{lead}" for lead in LEADS)
    assert_reads(written(tmp_path, file_format, leads=names))


@pytest.mark.parametrize("file_format", ["hospital", "WFDB", "HL7 aECG", "GE MUSE", "GE CardioSoft"])
def test_minus_avr_is_another_lead(tmp_path, file_format):
    """It is the negative of aVR, which follows from I and II."""
    leads = tuple("-aVR" if lead == "aVR" else lead for lead in LEADS)
    recording = read_recording(written(tmp_path, file_format, leads=leads))
    assert recording.metadata["derived"] == ("aVR",)
    np.testing.assert_allclose(recording.signal[3], -(COUNTS[0] + COUNTS[1]) / 2 * 0.005, **FLOAT32)


def test_the_message_names_what_is_there(tmp_path):
    path = written(tmp_path, "hospital", leads=("I", "MLII", "V4R", "CH_4", "Doe", "Jane", *LEADS[6:]))
    with pytest.raises(EcgFileError) as caught:
        read_recording(path)
    assert caught.value.found == (
        "7 leads (I, V1, V2, V3, V4, V5, V6), II, III, aVR, aVL, aVF missing; "
        "other channels: MLII, V4R, CH_4, 2 of other names"
    )
    for file_format in ("WFDB", "hospital"):
        path = written(tmp_path, file_format, leads=tuple(f"CH{n}" for n in range(12)))
        with pytest.raises(EcgFileError, match=r"other channels: CH0, CH1, .*CH11; expected"):
            read_recording(path)


# The calibration pulse


def with_pulse(at_end=True, millivolts=1.0, rate=500):
    """Return 10 s of counts of 5 µV, and these with a second that has a pulse of 0.2 s in every lead."""
    ecg = np.random.default_rng(3).integers(-200, 200, (12, 10 * rate))
    second = np.zeros((12, rate), int)
    second[:, int(0.7 * rate) : int(0.9 * rate)] = round(millivolts * 200)
    return ecg, np.concatenate([ecg, second] if at_end else [second, ecg], axis=1)


@pytest.mark.parametrize("file_format", ["Philips", "hospital", "WFDB", "SCP-ECG", "DICOM"])
@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("millivolts", [1.0, 0.5])
def test_the_second_with_a_calibration_pulse_is_cut_off(tmp_path, file_format, at_end, millivolts):
    ecg, counts = with_pulse(at_end, millivolts)
    assert_reads(written(tmp_path, file_format, counts=counts), ecg)


# Samples at 500 Hz: of the recording, where the pulse begins, and what is left: from, to.
PLACES = {
    "in a last second that begins before 10 s": (5200, 4750, 0, 4700),
    "in the same, after 10 s": (5200, 5020, 0, 5000),
    "across the beginning of the last second": (5400, 4850, 0, 4825),
    "across the end of the first second": (6000, 450, 575, 6000),
    "in the first second": (5200, 350, 500, 5200),
    "in the first of 10 s": (5000, 350, 0, 5000),
    "in the middle": (6000, 3000, 0, 6000),
}


@pytest.mark.parametrize(("length", "start", "first", "last"), PLACES.values(), ids=PLACES)
def test_nothing_is_left_of_a_pulse_that_is_cut_off(tmp_path, length, start, first, last):
    counts = np.random.default_rng(3).integers(-200, 200, (12, length))
    counts[:, start : start + 100] = 200
    assert_reads(written(tmp_path, "hospital", counts=counts), counts[:, first:last])


def test_a_level_that_lasts_longer_than_a_pulse_stays(tmp_path):
    counts = np.random.default_rng(3).integers(-200, 200, (12, 5500))
    counts[:, 4750:5100] = 200  # 0.7 s
    assert_reads(written(tmp_path, "hospital", counts=counts), counts)


def test_where_iii_and_avr_are_computed_the_pulse_is_found_in_the_others(tmp_path):
    ecg, counts = with_pulse()
    recording = read_recording(written(tmp_path, "GE MUSE", leads=EIGHT_LEADS, counts=counts))
    assert recording.signal.shape == (12, 5000)
    np.testing.assert_allclose(recording.signal[:2], ecg[:2] * 0.005, **FLOAT32)


def test_what_is_no_pulse_stays(tmp_path):
    ecg, counts = with_pulse()
    assert_reads(written(tmp_path, "Philips", counts=ecg), ecg)  # 10 s without one
    eleven = np.concatenate([ecg, ecg[:, :500]], axis=1)  # 11 s of ECG
    assert_reads(written(tmp_path, "Philips", counts=eleven), eleven)
    flat = np.concatenate([ecg, np.zeros((12, 500), int)], axis=1)  # the electrodes are off
    assert_reads(written(tmp_path, "Philips", counts=flat), flat)
    counts[7, 5350:5450] += 40  # V2 is another: 1.2 mV
    assert_reads(written(tmp_path, "Philips", counts=counts), counts)
