"""Reading the hospital's XML: exact millivolts, tolerance of what varies, a clear line for each defect."""

import os
import pickle
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from ecg.formats.numbers import parse_counts
from ecg.formats.xml_tree import MAX_DEPTH, MAX_ELEMENTS
from xml_loader import (
    LEADS,
    N_SAMPLES,
    EcgFileError,
    Recording,
    bring_to_rest,
    centre_start,
    load_ecg,
    read_at_rest,
    read_recording,
)

DECLARATION = '<?xml version="1.0" encoding="ISO-8859-1"?>\n'


@pytest.fixture
def counts():
    """Integers of one to four digits, both signs: shape (12, 5000)."""
    return np.random.default_rng(0).integers(-4000, 4000, (12, N_SAMPLES))


def channel_xml(lead, counts, freq="500", unit="0,001", separator=" "):
    attributes = f'name="{lead}"'
    attributes += "" if freq is None else f' freq="{freq}"'
    attributes += "" if unit is None else f' amplitude_unit="{unit}"'
    text = counts if isinstance(counts, str) else separator.join(map(str, np.asarray(counts).tolist()))
    return f"<channel {attributes}>{text}</channel>"


def channels_xml(counts, leads=LEADS, **attributes):
    return [channel_xml(lead, row, **attributes) for lead, row in zip(leads, counts, strict=True)]


def ecg_xml(channels, declaration=DECLARATION):
    return declaration + "<ecg>\n<rhythm>\n" + "\n".join(channels) + "\n</rhythm>\n</ecg>\n"


@pytest.fixture
def write(tmp_path):
    """Return a function that writes text (as ISO-8859-1) or bytes to a file and gives its path."""

    def write_file(content, name="ecg.xml"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("iso-8859-1"))
        return path

    return write_file


def message_of(path, read=read_recording):
    """Return the error's message, after checking that it is one bounded line that names the file."""
    with pytest.raises(EcgFileError) as caught:
        read(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and message.isprintable() and len(message) < 1300
    assert Path(path).name[-50:] in message and "found " in message and "; expected " in message
    return message


# What is read


@pytest.mark.parametrize(
    ("unit", "millivolts"),
    [("0,0025", 0.0025), ("0.0025", 0.0025), (None, 0.0025), ("0,001", 0.001), ("1e-3", 0.001), (" 1 ", 1.0)],
)
def test_counts_are_read_back_times_their_unit(write, counts, unit, millivolts):
    recording = read_recording(write(ecg_xml(channels_xml(counts, unit=unit))))
    assert recording.signal.dtype == np.float32 and recording.signal.shape == (12, N_SAMPLES)
    np.testing.assert_array_equal(recording.signal, (counts * millivolts).astype(np.float32))
    assert recording.sampling_rate == 500.0 and isinstance(recording.sampling_rate, float)
    assert recording.metadata["file_format"] == "hospital"
    assert recording.metadata["microvolts_per_count"] == pytest.approx(1000 * millivolts)


def test_each_lead_has_its_own_unit(write, counts):
    units = [f"0,00{i + 1}" for i in range(9)] + ["0.01", "0.02", "0.03"]
    channels = [
        channel_xml(lead, row, unit=unit) for lead, row, unit in zip(LEADS, counts, units, strict=True)
    ]
    millivolts = counts * np.array([[float(unit.replace(",", "."))] for unit in units])
    signal = read_recording(write(ecg_xml(channels))).signal
    np.testing.assert_array_equal(signal, millivolts.astype(np.float32))


@pytest.mark.parametrize(
    "encoding", ["iso-8859-1", "iso-8859-15", "windows-1252", "utf-8", "utf-8-sig", "utf-16"]
)
def test_encodings(write, counts, encoding):
    declared = encoding.removesuffix("-sig")
    text = ecg_xml(channels_xml(counts), f'<?xml version="1.0" encoding="{declared}"?>')
    text = text.replace("<ecg>", "<ecg><patient>Müller</patient>")
    signal = read_recording(write(text.encode(encoding))).signal
    np.testing.assert_array_equal(signal, (counts * 0.001).astype(np.float32))


@pytest.mark.parametrize("encoding", ["iso-8859-1", "utf-8", "utf-16"])
def test_undeclared_encoding(write, counts, encoding):
    text = ecg_xml(channels_xml(counts), declaration="").replace("<ecg>", "<ecg><patient>Müller</patient>")
    assert read_recording(write(text.encode(encoding))).signal.shape == (12, N_SAMPLES)


def test_no_patient_in_metadata(write, counts):
    text = ecg_xml(channels_xml(counts)).replace("<ecg>", '<ecg name="Doe"><birthdate>1950</birthdate>')
    assert read_recording(write(text)).metadata == {
        "file_format": "hospital",
        "device": "",
        "microvolts_per_count": 1.0,
        "leads_in_file": 12,
        "derived": (),
        "missing": (),
        "gap_samples": 0,
        "warnings": (),
    }


def test_names_in_any_case_and_with_a_prefix(write, counts):
    text = ecg_xml(channels_xml(counts, leads=[lead.upper() for lead in LEADS]))
    for name in ("rhythm", "channel"):
        text = text.replace(f"<{name}", f"<e:{name.capitalize()}").replace(
            f"</{name}", f"</e:{name.capitalize()}"
        )
    text = (
        text.replace("name=", "NAME=").replace("freq=", "Freq=").replace("amplitude_unit", "Amplitude_Unit")
    )
    text = text.replace("<ecg>", '<ecg xmlns:e="urn:ecg">')
    signal = read_recording(write(text)).signal
    np.testing.assert_array_equal(signal, (counts * 0.001).astype(np.float32))


def test_any_order_and_extra_leads_and_elements(write, counts):
    channels = channels_xml(counts)[::-1]
    channels.insert(3, channel_xml("V4R", "not a number"))
    channels.insert(5, "<note>none</note>")
    signal = read_recording(write(ecg_xml(channels))).signal
    np.testing.assert_array_equal(signal, (counts * 0.001).astype(np.float32))


@pytest.mark.parametrize("separator", ["\n", "\t", "  \r\n\t ", "\xa0", " \xa0"])
def test_white_space(write, counts, separator):
    channels = channels_xml(counts, separator=separator)
    channels = [channel.replace(">", f">{separator}", 1) for channel in channels]
    signal = read_recording(write(ecg_xml(channels))).signal
    np.testing.assert_array_equal(signal, (counts * 0.001).astype(np.float32))


def test_decimal_counts(write, counts):
    signal = read_recording(write(ecg_xml(channels_xml(counts / 8)))).signal
    np.testing.assert_array_equal(signal, (counts / 8 * 0.001).astype(np.float32))


def test_rhythm_may_be_the_root_or_deep(write, counts):
    rhythm = "<rhythm>" + "".join(channels_xml(counts)) + "</rhythm>"
    for text in (rhythm, f"<a><b><c>{rhythm}</c></b></a>"):
        assert read_recording(write(text)).signal.shape == (12, N_SAMPLES)


def test_the_rhythm_with_twelve_leads_is_taken(write, counts):
    other = "<rhythm>" + channel_xml("II", "1 2 3") + "</rhythm>"
    text = ecg_xml(channels_xml(counts)).replace("<ecg>", f"<ecg><rhythm>Sinus rhythm</rhythm>{other}")
    signal = read_recording(write(text)).signal
    np.testing.assert_array_equal(signal, (counts * 0.001).astype(np.float32))


def test_the_name_of_the_file_does_not_matter(write, counts):
    assert read_recording(write(ecg_xml(channels_xml(counts)), "ecg.dcm")).signal.shape == (12, N_SAMPLES)


# Counts


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", []),
        (" \n", []),
        ("7", [7]),
        ("-7 007 -0 +5", [-7, 7, 0, 5]),
        (" \n-7\t\t007 -0  \n ", [-7, 7, 0]),
        ("1.5 -.5 2. 1e3", [1.5, -0.5, 2, 1000]),
        ("99999999999999999999 1", [1e20, 1]),
        ("-9223372036854775808 1", [-(2.0**63), 1]),
    ],
)
def test_parse_counts(text, values):
    np.testing.assert_array_equal(parse_counts(text, "I", "a.xml"), values)


BAD_TOKENS = [
    "x",
    "-",
    "--1",
    "1-2",
    "1-",
    "1,5",
    "1.2.3",
    "0x10",
    "1_0",
    "nan",
    "-inf",
    "1e999",
    "٣",
    "1;",
    "\x01",
]


@pytest.mark.parametrize("token", BAD_TOKENS)
@pytest.mark.parametrize("before", ["", "1 ", "1.5 "])
@pytest.mark.parametrize("after", ["", " 2"])
@pytest.mark.filterwarnings("error")
def test_parse_counts_names_what_is_not_a_count(token, before, after):
    with pytest.raises(EcgFileError, match="in lead V2; expected finite numbers") as caught:
        parse_counts(before + token + after, "V2", "a.xml")
    assert f"count '{token}'" in str(caught.value) or token == "\x01"


# At rest, and as a tensor


def sine(frequency, sampling_rate, seconds=10.0):
    time = np.arange(round(seconds * sampling_rate)) / sampling_rate
    return np.tile(np.sin(2 * np.pi * frequency * time), (12, 1)).astype(np.float32)


@pytest.mark.parametrize("rate", [100, 240, 250, 977, 1000, 2000])
@pytest.mark.parametrize("seconds", [10, 12.5])
def test_resampling_keeps_a_10_hz_sine(rate, seconds):
    at_rest = bring_to_rest(Recording(sine(10, rate, seconds) + 1, float(rate)), "a.xml").signal
    assert at_rest.dtype == np.int16 and at_rest.shape == (12, N_SAMPLES) and at_rest.flags.c_contiguous
    expected = 1000 * (sine(10, 500) + 1)
    inner = slice(100, -100)  # 0.2 s at each end, where the filter has to extrapolate
    np.testing.assert_allclose(at_rest[:, inner], expected[:, inner], atol=10)
    assert abs(at_rest[:, 10:-10] - expected[:, 10:-10]).max() < (60 if rate >= 240 else 200)


@pytest.mark.parametrize("rate", [500.2, 499.9, 250.05, 1000.3])
def test_a_rate_that_is_close_to_another_is_not_taken_for_it(rate):
    at_rest = bring_to_rest(Recording(sine(10, rate, 10.5), rate), "a.xml").signal
    inner = slice(100, -100)
    np.testing.assert_allclose(at_rest[:, inner], 1000 * sine(10, 500)[:, inner], atol=40)  # 0.6 ms are 40 µV


def test_resampling_removes_what_would_alias():
    at_rest = bring_to_rest(Recording(sine(400, 1000), 1000.0), "a.xml").signal
    amplitude = at_rest[:, 100:-100].std() * np.sqrt(2) / 1000
    assert amplitude < 0.01  # 40 dB below 1 mV


def test_longer_recordings_give_their_first_10_s(write, counts):
    longer = np.concatenate([counts, counts[:, :500] + 1], axis=1)
    path = write(ecg_xml(channels_xml(longer)))
    assert read_recording(path).signal.shape == (12, 5500)
    np.testing.assert_array_equal(read_at_rest(path), counts)


def test_at_rest_is_rounded_to_nearest():
    signal = np.zeros((12, N_SAMPLES), np.float32)
    signal[0, :6] = [0.0014, 0.0016, -0.0014, -0.0016, 32.767, -32.767]
    at_rest = bring_to_rest(Recording(signal, 500.0), "a.xml").signal
    assert at_rest[0, :6].tolist() == [1, 2, -1, -2, 32767, -32767]


@pytest.mark.parametrize("millivolts", [32.7676, -32.768, 1e30, np.nan, np.inf])
def test_beyond_int16_is_refused(millivolts):
    signal = np.zeros((12, N_SAMPLES), np.float32)
    signal[7, 17] = millivolts
    with pytest.raises(EcgFileError, match=r"a\.xml: found .* mV in lead V2; expected at most 32\.767 mV"):
        bring_to_rest(Recording(signal, 500.0), "a.xml")


def test_8_s_are_padded_at_both_ends_and_less_is_refused():
    for n_samples, padded in ((8000, (500, 500)), (9997, (0, 1)), (10_000, (0, 0))):
        rest = bring_to_rest(Recording(sine(10, 1000, 10)[:, :n_samples] + 1, 1000.0), "a.xml")
        assert rest.signal.shape == (12, N_SAMPLES) and rest.padded == padded
        before, after = padded
        assert (rest.signal[:, :before] == rest.signal[:, before : before + 1]).all()
        inner = rest.signal[:, before + 100 : N_SAMPLES - after - 100]
        expected = 1000 * (sine(10, 500) + 1)[:, 100 : 100 + inner.shape[1]]
        np.testing.assert_allclose(inner, expected, atol=10)
    with pytest.raises(EcgFileError, match=r"found 7.999 s at 1000 Hz; expected at least 8 s"):
        bring_to_rest(Recording(sine(10, 1000)[:, :7999], 1000.0), "a.xml")


def test_a_window_of_10_s_can_begin_later():
    signal = np.tile(np.arange(15_000, dtype=np.float32) / 1000, (12, 1))
    rest = bring_to_rest(Recording(signal, 500.0), "a.xml", window_start=12.5)
    assert rest.signal[0, 0] == 6250 and rest.signal[0, -1] == 11_249 and rest.padded == (0, 0)
    assert bring_to_rest(Recording(signal, 500.0), "a.xml", window_start=21).padded == (250, 250)
    with pytest.raises(EcgFileError, match="found 30 s at 500 Hz; expected at least 8 s from second 23 on"):
        bring_to_rest(Recording(signal, 500.0), "a.xml", window_start=23)


@pytest.mark.parametrize("n_samples", [1, 4096, 4097, 5000])
def test_load_ecg_crops_the_centre(write, counts, n_samples):
    signal = load_ecg(write(ecg_xml(channels_xml(counts))), n_samples)
    assert signal.dtype == torch.float32 and signal.shape == (12, n_samples)
    start = (5000 - n_samples) // 2
    assert centre_start(n_samples) == start
    expected = counts[:, start : start + n_samples].astype(np.float32) / 1000
    np.testing.assert_array_equal(signal.numpy(), expected)


def test_load_ecg_has_4096_samples_by_default(write, counts):
    assert load_ecg(str(write(ecg_xml(channels_xml(counts))))).shape == (12, 4096)


@pytest.mark.parametrize("n_samples", [0, -1, 5001])
def test_a_crop_out_of_range_is_refused(n_samples):
    with pytest.raises(ValueError, match=f"n_samples is {n_samples}; expected 1 to 5000"):
        load_ecg("a.xml", n_samples)


# Defects of the format


def with_lead(counts, lead, row=None, **attributes):
    """Return the channels with one of them written anew, from other counts (or text) or attributes."""
    row = counts[LEADS.index(lead)] if row is None else row
    channels = channels_xml(counts)
    channels[LEADS.index(lead)] = channel_xml(lead, row, **attributes)
    return channels


def test_missing_leads(write, counts):
    channels = channels_xml(counts)
    message = message_of(write(ecg_xml(channels[:8] + channels[9:])))
    present = ", ".join(lead for lead in LEADS if lead != "V3")
    assert message.endswith(f"found 11 leads ({present}), V3 missing; expected {', '.join(LEADS)}")
    assert "found 1 leads (I), II, III, aVR" in message_of(write(ecg_xml(channels[:1])))


def test_limb_leads_that_are_missing_are_derived(write, counts):
    channels = channels_xml(counts)
    recording = read_recording(write(ecg_xml(channels[:2] + channels[6:])))
    one, two = counts[:2] * 0.001
    expected = [two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    np.testing.assert_allclose(recording.signal[2:6], expected, atol=1e-6)
    assert recording.metadata["derived"] == ("III", "aVR", "aVL", "aVF")
    recording = read_recording(write(ecg_xml(channels[:3] + channels[4:])))
    np.testing.assert_allclose(recording.signal[3], expected[1], atol=1e-6)
    assert recording.metadata["derived"] == ("aVR",)


def test_duplicate_lead(write, counts):
    channels = [*channels_xml(counts), channel_xml("v3", counts[0])]
    assert "found lead V3 twice; expected each lead once" in message_of(write(ecg_xml(channels)))


def test_count_that_is_no_number(write, counts):
    channels = with_lead(counts, "V2", row="1 2 abc 4")
    assert "found count 'abc' in lead V2; expected finite numbers" in message_of(write(ecg_xml(channels)))


@pytest.mark.parametrize("token", ["NaN", "inf", "-Infinity"])
def test_count_that_is_not_finite(write, counts, token):
    channels = with_lead(counts, "aVR", row=f"1 {token} 3")
    assert f"found count '{token}' in lead aVR" in message_of(write(ecg_xml(channels)))


def test_count_that_overflows(write, counts):
    channels = with_lead(counts, "aVR", row=" ".join(["1e300"] * N_SAMPLES), unit="1e300")
    assert "not finite in lead aVR; expected finite values" in message_of(write(ecg_xml(channels)))


def test_element_among_the_counts(write, counts):
    channels = with_lead(counts, "V6", row="1 2 <gap/> 3")
    assert "found element 'gap' among the counts of lead V6" in message_of(write(ecg_xml(channels)))


def test_unequal_lengths(write, counts):
    channels = with_lead(counts, "V3", row=counts[8, :-1])
    message = message_of(write(ecg_xml(channels)))
    assert "5000 samples in I, II" in message and "4999 samples in V3; expected as many" in message


def test_different_rates(write, counts):
    message = message_of(write(ecg_xml(with_lead(counts, "V1", freq="1000"))))
    assert "500 Hz in I, II" in message and "1000 Hz in V1; expected one freq" in message


@pytest.mark.parametrize("value", ["0", "-500", "nan", "inf", "1e999", "abc", "", "1.000,5", "500 Hz"])
@pytest.mark.parametrize("attribute", ["freq", "amplitude_unit"])
def test_bad_rate_or_unit(write, counts, attribute, value):
    channels = with_lead(counts, "aVF", **{attribute.removeprefix("amplitude_"): value})
    message = message_of(write(ecg_xml(channels)))
    assert f"found '{value}' as {attribute} in lead aVF; expected a finite number above 0" in message


def test_missing_rate(write, counts):
    assert "found no freq in lead II" in message_of(write(ecg_xml(with_lead(counts, "II", freq=None))))


@pytest.mark.parametrize("rate", ["1e-300", "5", "1e9"])
def test_implausible_rate(write, counts, rate):
    message = message_of(write(ecg_xml(channels_xml(counts, freq=rate))))
    assert "found a sampling rate of" in message and "expected 50 to 50000 Hz" in message


@pytest.mark.parametrize(("n_samples", "rate"), [(3999, 500), (5000, 1000), (0, 500)])
def test_too_short(write, counts, n_samples, rate):
    path = write(ecg_xml(channels_xml(counts[:, :n_samples], freq=rate)))
    for read in (read_recording, load_ecg):
        message = message_of(path, read)
        assert f"found {n_samples} samples at {rate} Hz" in message and "expected at least 8 s" in message


def test_no_channel(write):
    assert "1 rhythm element(s) without a channel" in message_of(write(ecg_xml([])))


@pytest.mark.parametrize("left_out", [(), ("III", "aVR", "aVL", "aVF")])
def test_two_rhythms_with_all_leads(write, counts, left_out):
    channels = [text for lead, text in zip(LEADS, channels_xml(counts), strict=True) if lead not in left_out]
    rhythm = "<rhythm>" + "".join(channels) + "</rhythm>"
    message = message_of(write(f"<ecg>{rhythm}{rhythm}</ecg>"))
    assert "found 2 rhythm elements with 12 leads; expected one" in message


def test_attribute_twice_in_different_case(write, counts):
    text = ecg_xml(channels_xml(counts)).replace('name="I"', 'name="I" Name="V1"')
    assert "attribute 'Name' twice" in message_of(write(text))


def test_unknown_roots_are_refused(write):
    message = message_of(write("<book><WaveformType>Rhythm</WaveformType></book>"))
    assert "found root element 'book' without a rhythm of the hospital's format; expected" in message


# Files that are no ECG


def test_truncated_file(write, counts):
    text = ecg_xml(channels_xml(counts))
    for end in (10, 60, 1000, len(text) // 2, len(text) - 3):
        assert "found malformed or incomplete XML" in message_of(write(text[:end]))


@pytest.mark.parametrize(
    "content",
    [
        b"<ecg>\0</ecg>",
        b"\xff\xfe<\0",
        b"<ecg></rhythm>",
        b"\n <",
    ],
)
def test_malformed_xml(write, content):
    assert "found malformed or incomplete XML" in message_of(write(content))


@pytest.mark.parametrize(
    "content, found",
    [
        (b"plain text", "a text without twelve columns or rows of numbers"),
        (b"12\n34", "a text without twelve columns or rows of numbers"),
        (b"\n", "a text without twelve columns or rows of numbers"),
        (b"\0" * 1000, "a file of zeros only"),
        (bytes(range(256)) * 40, "a binary file of no format that is known"),
    ],
)
def test_no_known_format(write, content, found):
    assert f"found {found}; expected" in message_of(write(content))


def test_random_damage_is_always_an_ecg_file_error(write, counts):
    generator = np.random.default_rng(1)
    original = np.frombuffer(ecg_xml(channels_xml(counts[:, :20])).encode(), np.uint8)
    for _ in range(200):
        damaged = original.copy()
        damaged[generator.integers(0, damaged.size, 3)] = generator.integers(0, 256, 3)
        message_of(write(damaged.tobytes()))


def test_zip_under_the_name_of_xml(tmp_path, write):
    with zipfile.ZipFile(tmp_path / "ecg.xml", "w") as archive:
        archive.writestr("a.txt", "a")
    assert "found a zip archive; expected" in message_of(tmp_path / "ecg.xml")


@pytest.mark.parametrize(
    "encoding", ["bogus", "utf-7", "zlib", "rot13", "idna", "utf-16", "cp037", "x" * 2000]
)
def test_impossible_encodings(write, encoding):
    message_of(write(f'<?xml version="1.0" encoding="{encoding}"?><ecg>é</ecg>'))


def test_empty_and_huge_files(write, tmp_path):
    assert "found an empty file; expected" in message_of(write(b""))
    with open(tmp_path / "huge.xml", "wb") as handle:
        handle.truncate(60_000_000)  # sparse
    assert "found a file of more than 50,000,000 bytes" in message_of(tmp_path / "huge.xml")


def test_deep_and_numerous_elements(write):
    assert "nested in each other" in message_of(write("<a>" * 1_000_000))
    assert "without a rhythm" in message_of(write("<a>" * MAX_DEPTH + "</a>" * MAX_DEPTH))
    assert "more than 200,000 elements" in message_of(write("<a>" + "<b/>" * MAX_ELEMENTS + "</a>"))


def test_missing_file_and_directory(tmp_path):
    assert "found nothing readable (No such file" in message_of(tmp_path / "none.xml")
    assert "found a directory; expected a readable" in message_of(tmp_path)
    with pytest.raises(EcgFileError, match="nothing readable"):
        read_recording("a\0b.xml")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFO on this system")
def test_fifo_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "fifo.xml")
    messages = []
    thread = threading.Thread(target=lambda: messages.append(message_of(tmp_path / "fifo.xml")), daemon=True)
    thread.start()
    thread.join(timeout=10)
    assert messages and "found a FIFO; expected" in messages[0]


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no /dev/zero on this system")
def test_device():
    assert "found a device; expected" in message_of("/dev/zero")


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may read every file")
def test_unreadable_file(write):
    path = write(b"<ecg/>")
    path.chmod(0)
    assert "found nothing readable (Permission denied)" in message_of(path)


DOCTYPES = {
    "billion laughs": '[<!ENTITY a "1 "><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]',
    "external entity": '[<!ENTITY c SYSTEM "file:///etc/passwd">]',
    "parameter entity": '[<!ENTITY % c SYSTEM "http://127.0.0.1:9/x.dtd"> %c;]',
}


@pytest.mark.parametrize("doctype", DOCTYPES.values(), ids=DOCTYPES.keys())
def test_doctype_is_refused(write, counts, doctype):
    text = ecg_xml(with_lead(counts, "I", row="&c;"), DECLARATION + f"<!DOCTYPE ecg {doctype}>")
    assert (
        "found a document type declaration (DOCTYPE 'ecg'); expected XML without a DTD in it"
        in message_of(write(text))
    )


def test_undefined_entity(write, counts):
    message = message_of(write(ecg_xml(with_lead(counts, "I", row="1 &c; 2"))))
    assert "found count '&c;' in lead I; expected finite numbers" in message


# The error itself


def test_error_survives_a_process_boundary():
    error = EcgFileError("ecgs/a.xml", "11 leads, V3 missing", "I, II")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is EcgFileError and isinstance(copy, ValueError)
    assert str(copy) == str(error) == "ecgs/a.xml: found 11 leads, V3 missing; expected I, II"
    assert (copy.path, copy.found, copy.expected) == (error.path, error.found, error.expected)


def test_error_is_one_line_whatever_it_quotes(write, counts):
    hostile = "a\nb\r\x1b[31m\u2028\u202e\x85" + "x" * 10_000
    message = str(EcgFileError(hostile + "ecg.xml", hostile, hostile))
    assert message.isprintable() and len(message) < 1300
    message = message_of(write(ecg_xml(with_lead(counts, "I", row="x" * 1_000_000))))
    assert len(message) < 400
    undecodable = os.fsdecode(b"\xff.xml")
    assert str(EcgFileError(undecodable, "", "")).encode()


# Real ECGs


@pytest.mark.skipif(not os.environ.get("ECG_REAL_DATA"), reason="ECG_REAL_DATA is not set")
def test_real_ecgs():
    paths = sorted(Path(os.environ["ECG_REAL_DATA"], "ptbxl").glob("*.xml"))[:50]
    assert paths, "no ptbxl/*.xml in ECG_REAL_DATA"
    for path in paths:
        recording = read_recording(path)
        assert recording.signal.shape == (12, N_SAMPLES) and recording.sampling_rate == 500
        lead_i, lead_ii, lead_iii = recording.signal[:3]
        assert np.abs(lead_i + lead_iii - lead_ii).max() < 0.005  # Einthoven: II = I + III, within 5 µV
        np.testing.assert_allclose(read_at_rest(path) / 1000, recording.signal, atol=1e-6)
