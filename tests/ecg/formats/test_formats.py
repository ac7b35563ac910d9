"""Every format of ECG file: exact millivolts of what `format_writers` writes; what is unclear is refused."""

import re

import numpy as np
import pytest
from format_writers import EIGHT_LEADS, MEDIAN, PRIVATE, WRITERS

from ecg.formats import FORMATS
from ecg.formats.by_ecgdatakit import _without_quotations
from ecg.formats.ecg_file import EcgFile
from ecg.recording import LEADS, EcgFileError, standard_lead
from xml_loader import read_at_rest, read_recording

MICROVOLTS = {
    "GE CardioSoft": 5,
    "Schiller EDI": 5,
    "GE MUSE": 4.88,
    "Philips": 5,
    "SCP-ECG": 5,
}  # others 2.5
COUNTS = np.random.default_rng(0).integers(-1000, 1000, (15, 8000))
EXTRA_LEADS = ("V3R", "V4R", "V7")
RATES = {250: 2000, 500: 4000, 1000: 8000}  # 8 s, the shortest that is read
by_text = [
    file_format for file_format in FORMATS if file_format not in ("DICOM", "SCP-ECG")
]  # these name a lead by a code


def leads_of(file_format):
    return EIGHT_LEADS if file_format == "GE MUSE" else LEADS


def written(
    folder, file_format, *, leads=None, n_samples=2000, sampling_rate=250, name=None, counts=None, **oddities
):
    """Write counts in a format, and return the path."""
    leads = leads_of(file_format) if leads is None else leads
    path = folder / (name or ("ecg.hea" if file_format == "WFDB" else "ecg.bin"))
    counts = COUNTS[: len(leads), :n_samples] if counts is None else counts
    WRITERS[file_format](path, counts, leads=leads, sampling_rate=sampling_rate, **oddities)
    return path


def millivolts_of(counts, leads, microvolts):
    """Return what a file must be read as: shape (12, n_samples), in mV."""
    rows = {standard_lead(lead): row * (microvolts / 1000) for lead, row in zip(leads, counts, strict=True)}
    one, two = rows["I"], rows["II"]
    derived = {"III": two - one, "aVR": -(one + two) / 2, "aVL": one - two / 2, "aVF": two - one / 2}
    return np.stack([(derived | rows)[lead] for lead in LEADS])


def assert_signal(recording, counts, leads, microvolts, offset=0.0):
    assert recording.signal.dtype == np.float32 and recording.signal.shape == (12, counts.shape[1])
    expected = millivolts_of(counts, leads, microvolts) + offset
    np.testing.assert_allclose(recording.signal, expected, rtol=2e-7, atol=2e-7)
    assert abs(recording.signal).max() < MEDIAN * microvolts / 1000


def assert_reads(path, file_format, n_samples=2000, microvolts=None, leads=None, offset=0.0):
    """Check that a file that `written` wrote gives its counts, and return the recording."""
    leads = leads_of(file_format) if leads is None else leads
    microvolts = MICROVOLTS.get(file_format, 2.5) if microvolts is None else microvolts
    recording = read_recording(path)
    assert_signal(recording, COUNTS[: len(leads), :n_samples], leads, microvolts, offset)
    assert recording.metadata["file_format"] == file_format
    return recording


def assert_anonymous(text):
    assert not PRIVATE.search(text), text


def refusal(path):
    """Return why a file is refused, without its path, and check that nothing in it is the patient's."""
    with pytest.raises(EcgFileError) as caught:
        read_recording(path)
    error = caught.value
    assert str(error).isprintable() and len(str(error)) < 1200
    assert_anonymous(error.found + error.expected)
    return f"found {error.found}; expected {error.expected}"


def edit(path, old, new, count=-1):
    """Replace text in a file that was written, wherever it stands."""
    content = path.read_bytes()
    encoding = "utf-16-le" if content.startswith(b"\xff\xfe") else "latin-1"
    old, new = old.encode(encoding), new.encode(encoding)
    assert old in content
    path.write_bytes(content.replace(old, new, count))
    return path


# What every format gives


def test_every_row_of_formats_is_tested():
    assert WRITERS.keys() == FORMATS.keys()


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("file_format", FORMATS)
def test_counts_times_unit_in_any_order_at_any_rate(tmp_path, file_format, rate):
    leads = tuple(np.random.default_rng(rate).permutation(leads_of(file_format)).tolist())
    path = written(tmp_path, file_format, leads=leads, n_samples=RATES[rate], sampling_rate=rate)
    recording = assert_reads(path, file_format, RATES[rate], leads=leads)
    assert recording.sampling_rate == rate and isinstance(recording.sampling_rate, float)


@pytest.mark.parametrize("file_format", FORMATS)
def test_metadata_without_the_patient(tmp_path, file_format):
    metadata = dict(assert_reads(written(tmp_path, file_format), file_format).metadata)
    assert metadata.pop("microvolts_per_count") == pytest.approx(MICROVOLTS.get(file_format, 2.5))
    assert_anonymous(repr(metadata))
    assert isinstance(metadata.pop("device"), str)
    assert metadata == {
        "file_format": file_format,
        "leads_in_file": len(leads_of(file_format)),
        "derived": ("III", "aVR", "aVL", "aVF") if file_format == "GE MUSE" else (),
        "missing": (),
        "gap_samples": 0,
        "warnings": (),
    }


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_writers_hold_the_patient(tmp_path, file_format):
    content = written(tmp_path, file_format).read_bytes().replace(b"\0", b"").decode("latin-1")
    assert "Doe" in content and "Jane" in content and "MRN-4711" in content


@pytest.mark.parametrize("file_format", FORMATS)
def test_extra_leads_are_left_out(tmp_path, file_format):
    leads = leads_of(file_format) + EXTRA_LEADS
    recording = assert_reads(written(tmp_path, file_format, leads=leads), file_format, leads=leads)
    assert recording.metadata["leads_in_file"] == len(leads)


@pytest.mark.parametrize("file_format", FORMATS)
def test_limb_leads_that_are_missing_are_derived(tmp_path, file_format):
    recording = assert_reads(
        written(tmp_path, file_format, leads=EIGHT_LEADS), file_format, leads=EIGHT_LEADS
    )
    assert recording.metadata["derived"] == ("III", "aVR", "aVL", "aVF")


@pytest.mark.parametrize("file_format", FORMATS)
def test_three_leads_are_refused(tmp_path, file_format):
    message = refusal(written(tmp_path, file_format, leads=("II", "V2", "V5")))
    assert message.startswith("found 3 leads (II, V2, V5), I, III, aVR"), message


@pytest.mark.parametrize("file_format", by_text)
def test_a_lead_of_another_name_is_not_quoted(tmp_path, file_format):
    assert "found 2 leads (II, V5), I," in refusal(written(tmp_path, file_format, leads=("II", "Doe", "V5")))


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_lead_twice_is_refused(tmp_path, file_format):
    assert "found lead V2 twice" in refusal(
        written(tmp_path, file_format, leads=(*leads_of(file_format), "V2"))
    )


@pytest.mark.parametrize("file_format", FORMATS)
def test_less_than_8_s_is_refused(tmp_path, file_format):
    message = refusal(written(tmp_path, file_format, n_samples=1999))
    assert "found 1999 samples at 250 Hz (7.996 s); expected at least 8 s" in message


@pytest.mark.parametrize("file_format", [file_format for file_format in FORMATS if file_format != "WFDB"])
@pytest.mark.parametrize("name", ["ecg", "ecg.hea", "ecg.dat", "ecg.dcm"])
def test_the_content_decides_not_the_name(tmp_path, file_format, name):
    assert_reads(written(tmp_path, file_format, name=name), file_format)


@pytest.mark.parametrize("file_format", by_text)
@pytest.mark.parametrize("spelling", [str.upper, str.lower, " {} ".format])
def test_leads_in_other_spellings(tmp_path, file_format, spelling):
    leads = tuple(map(spelling, leads_of(file_format)))
    assert_reads(written(tmp_path, file_format, leads=leads), file_format, leads=leads)


@pytest.mark.parametrize(
    "file_format", ["GE CardioSoft", "Schiller EDI", "GE MUSE", "Philips", "HL7 aECG", "hospital"]
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks(tmp_path, file_format, encoding):
    declared = {"GE CardioSoft": {"declaration": ""}}.get(file_format, {})
    assert_reads(written(tmp_path, file_format, encoding=encoding, **declared), file_format)


@pytest.mark.parametrize("rate", [100, 250, 360, 1000, 2000])
def test_a_10_hz_sine_keeps_its_amplitude(tmp_path, rate):
    counts = np.rint(1000 * np.sin(2 * np.pi * 10 * np.arange(10 * rate) / rate)).astype(int)
    counts = np.tile(counts, (12, 1))
    path = written(tmp_path, "WFDB", counts=counts, sampling_rate=rate, microvolts_per_count=1)
    amplitude = read_at_rest(path)[:, 500:-500].std(axis=1) * np.sqrt(2)
    np.testing.assert_allclose(amplitude, 1000, rtol=0.01)


# Units

IN_MILLIVOLTS = {
    "GE CardioSoft": {"resolution": '<Resolution units="mVperLsb">0.005</Resolution>'},
    "Schiller EDI": {"units": "mV", "unit_per_bit": "0,005"},
    "GE MUSE": {
        "microvolts_per_count": 0.00488,
        "units": "<LeadAmplitudeUnits>MILLIVOLTS</LeadAmplitudeUnits>",
    },
    "HL7 aECG": {"unit": "mV"},
    "DICOM": {"unit": "mV"},
    "WFDB": {"gains": "0.4/uV"},
}


@pytest.mark.parametrize("file_format", IN_MILLIVOLTS)
def test_other_units(tmp_path, file_format):
    recording = assert_reads(written(tmp_path, file_format, **IN_MILLIVOLTS[file_format]), file_format)
    assert recording.metadata["microvolts_per_count"] == pytest.approx(MICROVOLTS.get(file_format, 2.5))


NO_UNIT = {
    "CardioSoft, no resolution": ("GE CardioSoft", {"resolution": ""}, "no Resolution"),
    "CardioSoft, no unit": (
        "GE CardioSoft",
        {"resolution": "<Resolution>5</Resolution>"},
        "Resolution in ''",
    ),
    "Schiller, no unit": ("Schiller EDI", {"units": ""}, "yres in ''"),
    "Schiller, other unit": ("Schiller EDI", {"units": "LSB"}, "yres in 'LSB'"),
    "Schiller, no value": ("Schiller EDI", {"unit_per_bit": ""}, "'' as unitperbit of yres"),
    "MUSE, no unit": ("GE MUSE", {"units": ""}, "lead 'I' of a GE MUSE file in counts"),
    "MUSE, no value": ("GE MUSE", {"microvolts_per_count": ""}, "lead 'I' of a GE MUSE file in counts"),
    "MUSE, zero": ("GE MUSE", {"microvolts_per_count": 0}, "lead 'I' of a GE MUSE file in 'uV' without"),
    "Philips": ("Philips", {"resolution": ""}, "lead 'I' of a Philips file in counts"),
    "aECG, no unit": ("HL7 aECG", {"unit": ""}, "lead 'I' of a HL7 aECG file in counts"),
    "aECG, no scale": ("HL7 aECG", {"scale": ""}, "lead 'I' of a HL7 aECG file in counts"),
    "aECG, no value": (
        "HL7 aECG",
        {"scale": '<scale unit="uV"/>'},
        "lead 'I' of a HL7 aECG file in 'uV' with",
    ),
    "aECG, comma": ("HL7 aECG", {"scale": '<scale value="2,5" unit="uV"/>'}, "in 'uV' without a resolution"),
    "aECG, zero": ("HL7 aECG", {"scale": '<scale value="0" unit="uV"/>'}, "in 'uV' without a resolution"),
    "aECG, no voltage": ("HL7 aECG", {"unit": "mm[Hg]"}, "lead 'I' of a HL7 aECG file in counts"),
    "Mortara": ("Mortara ELI", {"units_per_mv": ""}, "lead 'I' of a Mortara ELI file in counts"),
    "DICOM": ("DICOM", {"unit": ""}, "lead 'I' of a DICOM file in counts"),
    "DICOM, no voltage": ("DICOM", {"unit": "mm[Hg]"}, "lead 'I' of a DICOM file in counts"),
    "SCP": ("SCP-ECG", {"microvolts_per_count": 0}, "lead 'I' of a SCP-ECG file in counts"),
    "WFDB, no gain": ("WFDB", {"gains": "0"}, "lead 'I' of a WFDB file in counts"),
    "WFDB, no voltage": ("WFDB", {"gains": "400/mmHg"}, "lead 'I' of a WFDB file in 'mmHg'"),
}


@pytest.mark.parametrize(("file_format", "oddity", "message"), NO_UNIT.values(), ids=NO_UNIT)
def test_no_unit_is_guessed(tmp_path, file_format, oddity, message):
    assert message in refusal(written(tmp_path, file_format, **oddity))


def test_a_wfdb_signal_without_unit_is_in_mv_by_definition_and_noted(tmp_path):
    recording = assert_reads(written(tmp_path, "WFDB", gains="400"), "WFDB")
    assert "give no physical unit" in recording.metadata["warnings"][0]


# Lengths, rates and damage

WRONG_LENGTH = {
    "GE CardioSoft": (
        {"declared": "<ChannelSampleCountTotal>2001</ChannelSampleCountTotal>"},
        "found 2000 samples in lead I, '2001' declared; expected as many samples as the file declares",
    ),
    "Schiller EDI": ({"sample_count": 1999}, "found 2000 samples in lead I, '1999' declared"),
    "Philips": ({"duration": 9000}, "Lead I: 2000 samples, 2250 expected"),
    "Mortara ELI": ({"duration": 2001}, "DURATION='…' but DATA holds 2000 samples"),
    "DICOM": ({"declared": 2001}, "Waveform Data has 48000 bytes, expected 48024"),
    "SCP-ECG": ({"declared": 2001}, "lead 1 holds 2000 samples, expected 2001"),
    "WFDB": ({"declared": 2001}, "holds 2000 frames, header declares 2001"),
}


@pytest.mark.parametrize("file_format", WRONG_LENGTH)
def test_a_length_other_than_declared_is_refused(tmp_path, file_format):
    oddity, message = WRONG_LENGTH[file_format]
    assert message in refusal(written(tmp_path, file_format, **oddity)).replace(
        "DURATION=2001", "DURATION='…'"
    )


def test_muse_of_another_length_than_declared_is_refused(tmp_path):
    total = "<LeadSampleCountTotal>{}</LeadSampleCountTotal>".format
    path = edit(written(tmp_path, "GE MUSE"), total(2000), total(2001))
    assert "LeadSampleCountTotal 2001 but 2000 samples decoded" in refusal(path)


def test_different_rates_are_refused_but_not_those_of_extra_leads(tmp_path):
    leads = (*LEADS, "V7")
    path = written(tmp_path, "Mortara ELI", leads=leads, sampling_rate=[250] * 12 + [125])
    assert_reads(path, "Mortara ELI", leads=leads)
    path = written(tmp_path, "Mortara ELI", sampling_rate=[250] * 11 + [500])
    assert "found different rates, 250 Hz in I, II" in refusal(path)
    assert "500 Hz in V6; expected one rate for all leads" in refusal(path)


def test_extra_signals_may_have_any_unit(tmp_path):
    path = written(tmp_path, "WFDB", leads=(*LEADS, "ABP"))
    lines = path.read_text().splitlines()
    lines[13] = lines[13].replace("400(0)/mV", "12.5(0)/mmHg")
    path.write_text("\n".join(lines))
    assert assert_reads(path, "WFDB", leads=(*LEADS, "ABP")).metadata["microvolts_per_count"] == 2.5


@pytest.mark.parametrize("file_format", ["GE MUSE", "Philips", "Mortara ELI"])
@pytest.mark.parametrize("n_cut", [1, 4, 1000])
def test_truncated_base64_is_refused(tmp_path, file_format, n_cut):
    path = written(tmp_path, file_format)
    content = path.read_bytes()
    text = content.decode("utf-16" if file_format == "Philips" else "utf-8")
    longest = max(re.findall(r"[A-Za-z0-9+/=\n]{2000,}", text), key=len)
    cut = longest.rstrip().rstrip("=")[:-n_cut]
    path.write_text(text.replace(longest, cut).replace("utf-16", "utf-8"))
    assert f"found a file of the format {file_format} that is damaged" in refusal(path)


@pytest.mark.parametrize("file_format", FORMATS)
def test_damage_is_one_error_without_the_patient(tmp_path, file_format):
    generator = np.random.default_rng(2)  # which leaves no "94", the patient's age, alone among the counts
    path = written(tmp_path, file_format)
    original = np.frombuffer(path.read_bytes(), np.uint8)
    for quarters in (1, 2, 3):
        path.write_bytes(original[: quarters * original.size // 4].tobytes())
        refusal(path)
    for _ in range(10):  # in the first 3,000 bytes, where the patient's data are
        damaged = original.copy()
        damaged[generator.integers(0, min(3000, damaged.size), 3)] = generator.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        try:
            assert_anonymous(repr(read_recording(path).metadata))
        except EcgFileError as error:
            assert_anonymous(error.found + error.expected)


@pytest.mark.parametrize(
    "message",
    [
        "Invalid value for VR DA: '1931-02-03'.",
        "can't decode 'Doe'",
        "a name such as \"Doe's\" isn't read",
        "b'Doe' and ['Jane', \"4711\"]",
        "'Do\\'e, Jane' in 'Doe",
        "could not convert string to float: np.str_('Doe')",
    ],
)
def test_what_a_package_quotes_is_taken_out(tmp_path, message):
    path = tmp_path / "a"
    path.write_bytes(b"a")
    assert_anonymous(_without_quotations(f"{path}: {message}", EcgFile(path)))


def test_the_copy_that_a_parser_got_is_called_the_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"a")
    assert _without_quotations("/tmp/ecg-x7/ecg.xml is damaged: a lead of ecg.scp", EcgFile(path)) == (
        "the file is damaged: a lead of the file"
    )


# Missing samples

MISSING = {"DICOM": {"padding": -32768}, "WFDB": {}}  # the count -32768 is WFDB's own


@pytest.mark.parametrize("file_format", MISSING)
def test_gaps_up_to_50_ms_are_interpolated(tmp_path, file_format):
    counts = COUNTS[:12, :4000].copy()
    counts[7, 100:125] = counts[2, -3:] = -32768
    path = written(tmp_path, file_format, counts=counts, sampling_rate=500, **MISSING[file_format])
    recording = read_recording(path)
    assert recording.metadata["gap_samples"] == 28 and recording.metadata["warnings"] == ()
    counts[7, 100:125] = -32768
    expected = counts * 0.0025
    expected[7, 99:126] = np.linspace(expected[7, 99], expected[7, 125], 27)
    expected[2, -3:] = expected[2, -4]
    np.testing.assert_allclose(recording.signal, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("file_format", MISSING)
def test_longer_gaps_are_refused(tmp_path, file_format):
    counts = COUNTS[:12, :4000].copy()
    counts[7, 100:126] = -32768
    path = written(tmp_path, file_format, counts=counts, sampling_rate=500, **MISSING[file_format])
    assert refusal(path) == (
        "found 26 consecutive samples missing in lead V2; expected gaps of at most 50 ms (25 samples)"
    )


def test_nan_in_an_aecg_is_a_missing_sample(tmp_path):
    path = written(tmp_path, "HL7 aECG")
    edit(path, f"<digits>{COUNTS[3, 0]} {COUNTS[3, 1]} ", f"<digits>{COUNTS[3, 0]} NaN ")
    assert read_recording(path).metadata["gap_samples"] == 1


# GE CardioSoft

CARDIOSOFT = {
    "other resolution": {"resolution": '<Resolution units="uVperLsb">4.88</Resolution>'},
    "decimal comma": {"resolution": '<Resolution units=" UVperLSB"> 4,88 </Resolution>'},
    "micro sign": {"resolution": '<Resolution units="µVperLsb">4.88</Resolution>'},
    "volts in other resolution": {"resolution": '<Resolution units="VperLsb">0.00000488</Resolution>'},
    "newlines in the list": {"separator": ",\n\t\t"},
    "blanks in the list": {"separator": " , "},
    "no declared length": {"declared": ""},
    "empty declared length": {"declared": "<ChannelSampleCountTotal/>"},
    "declared with zeros": {"declared": "<ChannelSampleCountTotal> 02000 </ChannelSampleCountTotal>"},
    "strip in another element": {"around": ("<Page><Strips>", "</Strips></Page>")},
    "empty full disclosure": {"around": ("<FullDisclosure/>", "")},
    "full disclosure": {
        "around": (
            "<FullDisclosure><SampleRate>100</SampleRate><LeadOrder>I,II</LeadOrder>"
            "<FullDisclosureData><SampleCountTotal>4</SampleCountTotal>1,2,3,4,</FullDisclosureData>"
            "</FullDisclosure>",
            "",
        )
    },
    "an empty strip": {"around": ("<StripData><Time/></StripData>", "")},
    "a strip of one lead": {
        "around": ('<StripData><WaveformData lead="II">1,2</WaveformData></StripData>', "")
    },
    "declared in UTF-8": {"declaration": "<?xml version='1.0' encoding='UTF-8'?>", "encoding": "utf-8"},
    "not declared": {"declaration": ""},
}


@pytest.mark.parametrize("oddity", CARDIOSOFT.values(), ids=CARDIOSOFT)
def test_cardiosoft_files_of_other_versions(tmp_path, oddity):
    microvolts = 4.88 if "resolution" in oddity else 5
    assert_reads(written(tmp_path, "GE CardioSoft", **oddity), "GE CardioSoft", microvolts=microvolts)


def test_cardiosoft_names_in_another_case_with_a_prefix(tmp_path):
    path = edit(written(tmp_path, "GE CardioSoft"), "CardiologyXML>", "ge:cardiologyxml>")
    edit(path, "<ge:cardiologyxml>", '<ge:cardiologyxml xmlns:ge="urn:ge">', 1)
    for name in ("StripData", "WaveformData", "SampleRate"):
        edit(edit(path, f"<{name}", f"<ge:{name.upper()}"), f"</{name}", f"</ge:{name.upper()}")
    assert_reads(path, "GE CardioSoft")


@pytest.mark.parametrize("new", ["<!-- a remark -->{}", "+{}", "\n{}", "{}.0", "<![CDATA[{}]]>"])
def test_cardiosoft_counts_in_other_spellings(tmp_path, new):
    path = written(tmp_path, "GE CardioSoft", counts=abs(COUNTS[:12, :2000]))
    edit(path, f",{abs(COUNTS[5, 7])},", f",{new.format(abs(COUNTS[5, 7]))},")
    assert_signal(read_recording(path), abs(COUNTS[:12, :2000]), LEADS, 5)


def test_a_comma_may_end_a_list(tmp_path):
    path = edit(written(tmp_path, "GE CardioSoft"), "</WaveformData>", ",\n</WaveformData>")
    assert_reads(path, "GE CardioSoft")


def test_cardiosoft_in_latin_1(tmp_path):
    path = edit(written(tmp_path, "GE CardioSoft"), "<GivenName>", "<GivenName>M\xfcller")
    assert_reads(path, "GE CardioSoft")


BAD_CARDIOSOFT = {
    "median alone": ("StripData>", "NoStripData>", "0 StripData with WaveformData; expected one"),
    "kHz": ('units="Hz">250', 'units="kHz">250', "SampleRate in 'kHz'; expected Hz"),
    "no rate": ('<SampleRate units="Hz">250</SampleRate>', "", "no SampleRate"),
    "a unit alone": (
        "uVperLsb",
        "uV",
        "Resolution in 'uV'; expected nVperLsb, uVperLsb, mVperLsb or VperLsb",
    ),
    "element in the list": (
        "</WaveformData>",
        "<gap/></WaveformData>",
        "element 'gap' among the counts of lead I",
    ),
    "two commas": ("</WaveformData>", ",,</WaveformData>", "'' between two commas in lead I"),
    "no comma": ("</WaveformData>", " 5</WaveformData>", "' between two commas in lead I"),
    "a word": ("</WaveformData>", "x</WaveformData>", "x' in lead I; expected finite numbers"),
    "negative": (">5</Resolution>", ">-5</Resolution>", "'-5' as Resolution"),
    "absurd": (">5</Resolution>", ">1e305</Resolution>", "not finite"),
}


@pytest.mark.parametrize(("old", "new", "message"), BAD_CARDIOSOFT.values(), ids=BAD_CARDIOSOFT)
def test_cardiosoft_files_that_are_unclear(tmp_path, old, new, message):
    assert message in refusal(edit(written(tmp_path, "GE CardioSoft"), old, new))


# Schiller

SCHILLER = {
    "namespace": {"attributes": 'xmlns="urn:schiller"'},
    "prefix": {"root": "s:com.xiriuz.sema.xml.schillerEDI.SchillerEDI", "attributes": 'xmlns:s="urn:s"'},
    "other package": {"root": "com.schiller.SchillerEDI"},
    "no mark": {"encoding": "utf-8"},
    "nanovolts": {"units": "nV", "unit_per_bit": 5000},
    "decimal comma": {"unit_per_bit": "5,0"},
    "newlines": {"separator": ",\n "},
    "lower case": {"rhythm_type": "ecg_rhythms", "data_type": "commaseparate"},
    "no data type": {"data_type": ""},
    "no sample count": {"sample_count": ""},
    "no exponent": {"exponent": ""},
}


@pytest.mark.parametrize("oddity", SCHILLER.values(), ids=SCHILLER)
def test_schiller_files_of_other_versions(tmp_path, oddity):
    assert_reads(written(tmp_path, "Schiller EDI", **oddity), "Schiller EDI")


def test_schiller_with_4998_samples(tmp_path):
    path = written(tmp_path, "Schiller EDI", n_samples=4998, sampling_rate=500)
    assert_reads(path, "Schiller EDI", 4998)
    at_rest = read_at_rest(path)
    np.testing.assert_array_equal(at_rest[:, 1:-1], 5 * COUNTS[:12, :4998])  # 10 s, padded at both ends


def test_of_two_schiller_rhythms_the_one_with_all_leads_is_read(tmp_path):
    path = written(tmp_path, "Schiller EDI")
    strip = "<wavedata><type>ECG_RHYTHMS</type><channel><name>II</name><data>1,2</data></channel></wavedata>"
    assert_reads(edit(path, "<event>", f"<event>{strip}"), "Schiller EDI")
    assert_reads(edit(path, "ECG_AVERAGES", "ECG_RHYTHMS"), "Schiller EDI")  # of 2.4 s


BAD_SCHILLER = {
    "averages alone": ({"rhythm_type": "ECG_AVERAGES"}, "0 wavedata of type ECG_RHYTHMS; expected one"),
    "other data type": ({"data_type": "BASE64"}, "datastype 'BASE64' in lead I; expected COMMASEPARATE"),
    "other exponent": ({"exponent": 2}, "'2' as exponent of the samplerate; expected 1"),
    "no exponent known": ({"exponent": 0}, "'0' as exponent of the samplerate; expected 1"),
    "no rate": ({"sampling_rate": ""}, "'' as samplerate"),
}


@pytest.mark.parametrize(("oddity", "message"), BAD_SCHILLER.values(), ids=BAD_SCHILLER)
def test_schiller_files_that_are_unclear(tmp_path, oddity, message):
    assert message in refusal(written(tmp_path, "Schiller EDI", **oddity))


@pytest.mark.parametrize("tag", ["resolution", "data"])
def test_schiller_without_an_element(tmp_path, tag):
    path = edit(written(tmp_path, "Schiller EDI"), f"<{tag}>", f"<no_{tag}>")
    edit(path, f"</{tag}>", f"</no_{tag}>")
    expected = {"resolution": "no resolution in the rhythm", "data": "no counts of lead I"}
    assert expected[tag] in refusal(path)


def test_devices_of_cardiosoft_and_schiller(tmp_path):
    assert read_recording(written(tmp_path, "GE CardioSoft")).metadata["device"] == "CardioSoft"
    path = written(tmp_path, "Schiller EDI")
    hardware = "<hardware><vendor>SCHILLER</vendor><model>AT-102</model></hardware>"
    edit(path, "<examdescript>", f"<examdescript><aquiringdevice>{hardware}</aquiringdevice>")
    assert read_recording(path).metadata["device"] == "SCHILLER AT-102"


# GE MUSE


@pytest.mark.parametrize("exponent", [-1, 1, 2])
def test_muse_sample_exponent(tmp_path, exponent):
    path = written(tmp_path, "GE MUSE", n_samples=4000, sampling_rate=500, sample_exponent=exponent)
    assert assert_reads(path, "GE MUSE", 4000).sampling_rate == 500


def test_muse_with_a_wrong_checksum_is_noted(tmp_path):
    path = written(tmp_path, "GE MUSE")
    path.write_text(re.sub("(?<=CRC32>)[0-9]+", "1", path.read_text()))
    warnings = assert_reads(path, "GE MUSE").metadata["warnings"]
    assert "CRC32 mismatch in lead I (rhythm) of the file" in warnings


def test_muse_leads_that_begin_at_different_times_are_refused(tmp_path):
    path = edit(written(tmp_path, "GE MUSE"), "<LeadTimeOffset>0", "<LeadTimeOffset>2500", 12)
    assert "found leads that begin at different times; expected simultaneous leads" in refusal(path)


def test_muse_with_an_internal_dtd_is_refused(tmp_path):
    path = edit(written(tmp_path, "GE MUSE"), 'SYSTEM "restecg.dtd"', '[<!ENTITY a "Doe">]')
    assert "a document type declaration (DOCTYPE 'RestingECG')" in refusal(path)


# Philips


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("version", ["1.03", "1.04", "1.04.01"])
def test_philips_versions(tmp_path, version, compressed):
    path = written(tmp_path, "Philips", version=version, compressed=compressed, encoding="utf-8")
    assert_reads(path, "Philips")


def test_philips_of_11_s(tmp_path):
    path = written(tmp_path, "Philips", n_samples=5500, sampling_rate=500)
    assert_reads(path, "Philips", 5500)
    np.testing.assert_array_equal(read_at_rest(path), 5 * COUNTS[:12, :5000])


def test_philips_of_an_unknown_version_is_refused(tmp_path):
    message = refusal(written(tmp_path, "Philips", version="9.0"))
    assert "found a file of the format Philips that is not supported" in message


def test_philips_with_a_character_among_its_base64_is_refused(tmp_path):
    path = written(tmp_path, "Philips", encoding="utf-8")
    path.write_text(path.read_text().replace("</parsedwaveforms>", "é</parsedwaveforms>"), "utf-8")
    assert "found a file of the format Philips that" in refusal(path)


# HL7 aECG

AECG = {
    "relative time": {"time_code": "TIME_RELATIVE"},
    "milliseconds": {"increment": '<increment value="4" unit="ms"/>'},
    "microseconds": {"increment": '<increment value="4000" unit="us"/>'},
    "nanovolts": {"unit": "nV"},
    "prefix": {"prefix": "hl7:"},
}


@pytest.mark.parametrize("oddity", AECG.values(), ids=AECG)
def test_aecg_files_of_other_makers(tmp_path, oddity):
    assert assert_reads(written(tmp_path, "HL7 aECG", **oddity), "HL7 aECG").sampling_rate == 250


@pytest.mark.parametrize("unit", ["uV", "mV"])
def test_aecg_origin_is_added(tmp_path, unit):
    path = written(tmp_path, "HL7 aECG", origin_microvolts=-120, unit=unit)
    assert_reads(path, "HL7 aECG", offset=-0.12)


@pytest.mark.parametrize("increment", ["", '<increment value="4"/>', '<increment value="0" unit="s"/>'])
def test_aecg_without_a_time_increment_is_refused(tmp_path, increment):
    message = refusal(written(tmp_path, "HL7 aECG", increment=increment))
    assert "increment" in message and "damaged" in message


def test_aecg_with_a_word_among_its_digits_does_not_quote_it(tmp_path):
    path = edit(written(tmp_path, "HL7 aECG"), "<digits>", "<digits>Doe ")
    assert "Invalid digits in lead MDC_ECG_LEAD_I" in refusal(path)


# DICOM


def test_dicom_sensitivity_correction_and_baseline(tmp_path):
    path = written(tmp_path, "DICOM", correction=1.25, baseline=300)
    recording = assert_reads(path, "DICOM", microvolts=3.125, offset=0.3)
    assert recording.metadata["microvolts_per_count"] == pytest.approx(3.125)


def test_dicom_that_declares_0_a_missing_sample_has_none(tmp_path):
    counts = COUNTS[:12, :2000].copy()
    counts[3, 500:600] = 0
    recording = read_recording(written(tmp_path, "DICOM", counts=counts, padding=0))
    assert_signal(recording, counts, LEADS, 2.5)
    assert recording.metadata["gap_samples"] == 0
    assert "0 is declared to mean a missing sample" in recording.metadata["warnings"][0]


@pytest.mark.parametrize("value", ["03.02.19", "Doe^Jane", "19319999"])
def test_dicom_with_a_wrong_birth_date_does_not_quote_it(tmp_path, value):
    import pydicom

    path = written(tmp_path, "DICOM")
    dataset = pydicom.dcmread(path)
    dataset.add_new("PatientBirthDate", "LO", value)
    dataset.save_as(path)
    path.write_bytes(path.read_bytes().replace(b"\x10\x00\x30\x00LO", b"\x10\x00\x30\x00DA"))
    assert_anonymous(repr(assert_reads(path, "DICOM").metadata))


def test_dicom_without_a_waveform_is_refused(tmp_path):
    import pydicom

    path = written(tmp_path, "DICOM")
    dataset = pydicom.dcmread(path)
    del dataset.WaveformSequence
    dataset.save_as(path)
    assert "no usable Waveform Sequence" in refusal(path)
    path = written(tmp_path, "DICOM")
    dataset = pydicom.dcmread(path)
    del dataset.WaveformSequence[0]
    dataset.save_as(path)
    assert "found a file of the format DICOM without a rhythm" in refusal(path)


# SCP-ECG


def test_scp_in_the_default_huffman_code(tmp_path):
    assert_reads(written(tmp_path, "SCP-ECG", huffman=True), "SCP-ECG")


def test_scp_with_a_wrong_checksum_of_what_is_read_is_noted(tmp_path):
    path = written(tmp_path, "SCP-ECG")
    content = bytearray(path.read_bytes())
    content[content.index(b"\x06\0", 200) - 2] ^= 1  # of section 6
    path.write_bytes(bytes(content))
    assert assert_reads(path, "SCP-ECG").metadata["warnings"] == ("SCP-ECG CRC mismatch in: Section 6",)


def test_scp_leads_that_begin_at_different_times_are_refused(tmp_path):
    assert_reads(written(tmp_path, "SCP-ECG", starts=251), "SCP-ECG")
    path = written(tmp_path, "SCP-ECG", starts=[1] * 6 + [2501] * 6)
    assert "found leads that begin at different times; expected simultaneous leads" in refusal(path)


# WFDB


def test_wfdb_baseline_and_wrong_checksum(tmp_path):
    path = written(tmp_path, "WFDB", baseline=40, checksums=[0] * 12)
    recording = assert_reads(path, "WFDB", offset=-0.1)
    assert recording.metadata["warnings"][0].startswith("WFDB checksum mismatch for signals")


def test_a_wfdb_header_under_another_name_is_refused(tmp_path):
    written(tmp_path, "WFDB").rename(tmp_path / "ecg.txt")
    message = refusal(tmp_path / "ecg.txt")
    assert message == "found a WFDB header under another name; expected a name that ends in .hea"


BAD_WFDB = {
    "segments": ("ecg 12", "ecg/2 12", "found a WFDB record of several segments"),
    "elsewhere": ("ecg.dat", "../ecg.dat", "found a signal file that is not beside the header"),
    "no signal file": ("ecg.dat", "other.dat", "in place of its signal file other.dat"),
    "absurd length": ("250 2000", "250 999999999", "found a declared length of 999,999,999 samples"),
    "too few lines": ("ecg 12", "ecg 99", "of 99 signals described"),
    "other format": (".dat 16", ".dat 516", "not supported (WFDB format 516 (FLAC) is not supported)"),
}


@pytest.mark.parametrize(("old", "new", "message"), BAD_WFDB.values(), ids=BAD_WFDB)
def test_wfdb_headers_that_are_refused(tmp_path, old, new, message):
    assert message in refusal(edit(written(tmp_path, "WFDB"), old, new))


# Mortara and the hospital's format, which both may have the root `ECG`


def test_mortara_in_milliseconds(tmp_path):
    assert_reads(written(tmp_path, "Mortara ELI", duration=8000), "Mortara ELI")


def test_the_hospital_may_have_the_root_ecg(tmp_path):
    path = edit(edit(written(tmp_path, "hospital"), "<ecg>", "<ECG>"), "</ecg>", "</ECG>")
    assert_reads(path, "hospital")
