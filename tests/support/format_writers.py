"""Write an ECG in each format that `formats` reads, from counts; as no real file may be in the repository.

    write_muse(path, counts, sampling_rate=250, leads=EIGHT_LEADS)

    PYTHONPATH=. python tests/support/format_writers.py FOLDER    # one ECG in each format, a random walk

Every writer takes `counts`, an integer array of shape (n_leads, n_samples), the `leads` that its rows are,
and what real exports vary. Every file also holds, where the format has them, the data of a patient that must
never appear in an error or in the metadata, and, where the format has one, a median beat that must not be
read.
"""

import argparse
import base64
import binascii
import re
import struct
import zlib
from pathlib import Path

import numpy as np

from ecg.recording import LEADS, N_SAMPLES, standard_lead

FAMILY_NAME, GIVEN_NAME, PATIENT_ID, AGE = "Doe", "Jane", "MRN-4711", 94
BIRTH_DATE = "1931-02-03"
BIRTH_DIGITS = BIRTH_DATE.replace("-", "")
# What no error and no metadata may hold.
PRIVATE = re.compile(rf"{FAMILY_NAME}|{GIVEN_NAME}|MRN|1931|(?<!\d)(?:4711|{AGE})(?!\d)")

# Stored by GE MUSE; the others follow from I and II.
EIGHT_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
MEDIAN = 7777  # the constant that every median beat consists of
N_MEDIAN = 600

# Numbers of leads in SCP-ECG, which DICOM and ISO/IEEE 11073-10102 share.
LEAD_CODES = {"I": 1, "II": 2, "V1": 3, "V2": 4, "V3": 5, "V4": 6, "V5": 7, "V6": 8, "V7": 9, "V3R": 11}
LEAD_CODES |= {"V4R": 12, "III": 61, "aVR": 62, "aVL": 63, "aVF": 64}


def write_text(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))


def base64_of(row, dtype="<i2"):
    return base64.b64encode(np.asarray(row).astype(dtype).tobytes()).decode()


def commas(row, separator=","):
    return separator.join(map(str, np.asarray(row).tolist()))


def write_hospital(
    path, counts, *, sampling_rate=500, leads=LEADS, microvolts_per_count=2.5, encoding="iso-8859-1"
):
    unit = f"{microvolts_per_count / 1000:g}".replace(".", ",")
    channels = "\n".join(
        f'<channel name="{lead}" freq="{sampling_rate}" amplitude_unit="{unit}">{commas(row, " ")}</channel>'
        for lead, row in zip(leads, counts, strict=True)
    )
    patient = (
        f'<patient id="{PATIENT_ID}" name="{FAMILY_NAME}, {GIVEN_NAME}" born="{BIRTH_DATE}" age="{AGE}"/>'
    )
    text = f'<?xml version="1.0" encoding="{encoding}"?>\n<ecg>{patient}<rhythm>{channels}</rhythm></ecg>'
    write_text(path, text, encoding)


def write_cardiosoft(
    path,
    counts,
    *,
    sampling_rate=500,
    leads=LEADS,
    microvolts_per_count=5,
    declaration='<?xml version="1.0" encoding="ISO8859-1" ?>',
    resolution=None,
    separator=",",
    declared=None,
    around=("", ""),
    encoding="iso-8859-1",
):
    """`around` stands before and after StripData; `resolution` and `declared` replace whole elements."""
    if resolution is None:
        resolution = f'<Resolution units="uVperLsb">{microvolts_per_count}</Resolution>'
    if declared is None:
        declared = f"<ChannelSampleCountTotal>{counts.shape[1]}</ChannelSampleCountTotal>"
    waveforms = "\n".join(
        f'<WaveformData lead="{lead}" asizeVT="{len(row)}">{commas(row, separator)}</WaveformData>'
        for lead, row in zip(leads, counts, strict=True)
    )
    medians = "\n".join(
        f'<WaveformData lead="{lead}">{commas([MEDIAN] * 9)}</WaveformData>' for lead in leads
    )
    head = f'<NumberOfLeads>{len(leads)}</NumberOfLeads><SampleRate units="Hz">{sampling_rate}</SampleRate>'
    year, month, day = BIRTH_DATE.split("-")
    text = f"""{declaration}
<CardiologyXML>
<ObservationType>RestECG</ObservationType>
<ClinicalInfo><DeviceInfo><Desc>CardioSoft</Desc><SoftwareVer>V6.73</SoftwareVer></DeviceInfo></ClinicalInfo>
<PatientInfo><PID>{PATIENT_ID}</PID>
<Name><FamilyName>{FAMILY_NAME}</FamilyName><GivenName>{GIVEN_NAME}</GivenName></Name>
<Age units="Years">{AGE}</Age>
<BirthDateTime><Day>{day}</Day><Month>{month}</Month><Year>{year}</Year></BirthDateTime></PatientInfo>
<RestingECGMeasurements><MedianSamples>{head}{resolution}{medians}</MedianSamples></RestingECGMeasurements>
{around[0]}<StripData>{head}
{declared}
{resolution}
{waveforms}
<ArrhythmiaResults><Time units="ms">400</Time></ArrhythmiaResults>
</StripData>{around[1]}
</CardiologyXML>
"""
    write_text(path, text, encoding)


def write_schiller(
    path,
    counts,
    *,
    sampling_rate=500,
    leads=LEADS,
    microvolts_per_count=5,
    root="com.xiriuz.sema.xml.schillerEDI.SchillerEDI",
    attributes="",
    units="UV",
    unit_per_bit=None,
    exponent=1,
    rhythm_type="ECG_RHYTHMS",
    data_type="COMMASEPARATE",
    sample_count=None,
    separator=",",
    encoding="utf-8-sig",
):
    def wavedata(kind, rows, n_samples):
        channels = "\n".join(
            f"<channel><name>{lead}</name><data>{commas(row, separator)}</data>"
            f"<datastype>{data_type}</datastype><samplecount>{n_samples}</samplecount>"
            f"<annotation_lead><name>R_AMPLITUDE</name><value>900</value></annotation_lead></channel>"
            for lead, row in zip(leads, rows, strict=True)
        )
        per_bit = microvolts_per_count if unit_per_bit is None else unit_per_bit
        return f"""<wavedata><type>{kind}</type><resolution>
<samplerate><exponent>{exponent}</exponent><value>{sampling_rate}</value></samplerate>
<yres><unitperbit>{per_bit}</unitperbit><units>{units}</units></yres></resolution>
<channelconfiguration>STANDARD</channelconfiguration>{channels}</wavedata>"""

    median = np.full((len(leads), N_MEDIAN), MEDIAN)
    rhythm = wavedata(rhythm_type, counts, counts.shape[1] if sample_count is None else sample_count)
    text = f"""<?xml version="1.0" encoding="{encoding.removesuffix("-sig").upper()}"?>
<{root} {attributes}>
<patdata><id>{PATIENT_ID}</id><lastname>{FAMILY_NAME}</lastname><firstname>{GIVEN_NAME}</firstname>
<birthdate>{BIRTH_DIGITS}</birthdate><age>{AGE}</age></patdata>
<examdescript><startdatetime><date>20250307</date><time>101500</time></startdatetime></examdescript>
<eventdata><event>{wavedata("ECG_AVERAGES", median, N_MEDIAN)}{rhythm}</event></eventdata>
</{root}>
"""
    write_text(path, text, encoding)


def write_muse(
    path,
    counts,
    *,
    sampling_rate=500,
    leads=EIGHT_LEADS,
    microvolts_per_count=4.88,
    sample_exponent=0,
    units="<LeadAmplitudeUnits>MICROVOLTS</LeadAmplitudeUnits>",
    extra="",
    encoding="iso-8859-1",
):
    """`sampling_rate` is what is meant: `SampleBase` times 10 to the power of `SampleExponent`."""

    def lead_data(lead, row):
        payload = np.asarray(row).astype("<i2").tobytes()
        return f"""<LeadData><LeadByteCountTotal>{len(payload)}</LeadByteCountTotal>
<LeadTimeOffset>0</LeadTimeOffset><LeadSampleCountTotal>{len(row)}</LeadSampleCountTotal>
<LeadAmplitudeUnitsPerBit>{microvolts_per_count}</LeadAmplitudeUnitsPerBit>{units}
<LeadHighLimit>32767</LeadHighLimit><LeadLowLimit>-32768</LeadLowLimit><LeadID>{lead}</LeadID>{extra}
<LeadOffsetFirstSample>0</LeadOffsetFirstSample><FirstSampleBaseline>0</FirstSampleBaseline>
<LeadSampleSize>2</LeadSampleSize><LeadDataCRC32>{zlib.crc32(payload)}</LeadDataCRC32>
<WaveFormData>{base64.encodebytes(payload).decode()}</WaveFormData></LeadData>"""

    def waveform(kind, rows):
        data = "".join(lead_data(lead, row) for lead, row in zip(leads, rows, strict=True))
        return f"""<Waveform><WaveformType>{kind}</WaveformType><NumberofLeads>{len(leads)}</NumberofLeads>
<SampleBase>{sampling_rate / 10**sample_exponent:g}</SampleBase>
<SampleExponent>{sample_exponent}</SampleExponent>{data}</Waveform>"""

    month_first = "-".join([*BIRTH_DATE.split("-")[1:], BIRTH_DATE[:4]])
    text = f"""<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>
<!DOCTYPE RestingECG SYSTEM "restecg.dtd">
<RestingECG><MuseInfo><MuseVersion>9.0.7</MuseVersion></MuseInfo>
<PatientDemographics><PatientID>{PATIENT_ID}</PatientID><PatientAge>{AGE}</PatientAge><AgeUnits>YEARS</AgeUnits>
<DateofBirth>{month_first}</DateofBirth><PatientLastName>{FAMILY_NAME}</PatientLastName>
<PatientFirstName>{GIVEN_NAME}</PatientFirstName></PatientDemographics>
<TestDemographics><AcquisitionDevice>MAC55</AcquisitionDevice></TestDemographics>
{waveform("Median", np.full((len(leads), N_MEDIAN), MEDIAN))}
{waveform("Rhythm", counts)}</RestingECG>
"""
    write_text(path, text, encoding)


def write_philips(
    path,
    counts,
    *,
    sampling_rate=500,
    leads=LEADS,
    microvolts_per_count=5,
    version="1.04",
    compressed=True,
    resolution=None,
    duration=None,
    encoding="utf-16",
):
    """Version 1.03 describes the signal in other elements than 1.04 and 1.04.01 do."""
    payload = xli(counts, leads) if compressed else np.asarray(counts).astype("<i2").tobytes()
    waveform = base64.encodebytes(payload).decode()
    duration = 1000 * counts.shape[1] / sampling_rate if duration is None else duration
    resolution = f"{microvolts_per_count:g}" if resolution is None else resolution
    if version == "1.03":
        parsed = f'compressflag="{compressed}" compressmethod="XLI" durationperchannel="{duration:g}"'
        unit = f"<signalresolution>{resolution}</signalresolution>"
    else:
        parsed = (
            f'compression="{"XLI" if compressed else "Uncompressed"}" numberofleads="{len(leads)}" '
            f'leadlabels="{" ".join(leads)}" durationperchannel="{duration:g}" signalsigned="True" '
            f'samplespersecond="{sampling_rate}" resolution="{resolution}" signaloffset="0"'
        )
        unit = f"<resolution>{resolution}</resolution>"
    median = base64_of([MEDIAN] * N_MEDIAN)
    beats = "".join(
        f'<repbeat leadname="{lead}"><waveform duration="1200">{median}</waveform></repbeat>'
        for lead in leads
    )
    text = f"""<?xml version="1.0" encoding="{encoding}"?>
<restingecgdata xmlns="http://www3.medical.philips.com" status="New" lang="en">
<documentinfo><documentname>{PATIENT_ID}.xml</documentname>
<documenttype>{"SierraECG" if version == "1.03" else "PhilipsECG"}</documenttype>
<documentversion>{version}</documentversion></documentinfo>
<dataacquisition date="2025-03-07" time="10:15:00">
<machine machineid="M1" detaildescription="Philips Medical Products:860306:A.01.02">PageWriter TC70</machine>
<signalcharacteristics><samplingrate>{sampling_rate}</samplingrate>{unit}
<acquisitiontype>STD-12</acquisitiontype><bitspersample>16</bitspersample><signaloffset>0</signaloffset>
<signalsigned>True</signalsigned><numberchannelsallocated>{len(leads)}</numberchannelsallocated>
<numberchannelsvalid>{len(leads)}</numberchannelsvalid></signalcharacteristics></dataacquisition>
<patient><generalpatientdata><patientid>{PATIENT_ID}</patientid><MRN>{PATIENT_ID}</MRN>
<name><lastname>{FAMILY_NAME}</lastname><firstname>{GIVEN_NAME}</firstname></name>
<age><dateofbirth>{BIRTH_DATE}</dateofbirth><years>{AGE}</years></age></generalpatientdata></patient>
<waveforms><parsedwaveforms dataencoding="Base64" {parsed}>{waveform}</parsedwaveforms>
<repbeats dataencoding="Base64" samplespersec="500" resolution="2.5">{beats}</repbeats></waveforms>
</restingecgdata>
"""
    write_text(path, text, encoding)


def xli(counts, leads=LEADS):
    """Compress as Philips does: III, aVR, aVL, aVF as residuals; second differences; LZW codes of 10 bits.

    All LZW codes are those of single bytes; every decoder reads that, as it does shorter ones.
    """
    rows = np.array(counts, np.int32)
    if tuple(map(standard_lead, leads[:6])) == LEADS[:6]:
        one, two, three, right, left, foot = rows[:6].copy()
        rows[2] = two - one - three
        rows[3] = -right - (one + two) // 2
        rows[4] = (one - three) // 2 - left
        rows[5] = (two + three) // 2 - foot
    return b"".join(xli_chunk(row) for row in rows)


def xli_chunk(row):
    differences = 2 * row[1:-1] - row[:-2] - row[2:]
    start = int(differences[0])
    words = np.concatenate([row[:2], differences[1:] + 64, [64]]).astype(">i2").tobytes()
    codes = "".join(f"{byte:010b}" for byte in words[::2] + words[1::2])  # all high bytes, then all low ones
    codes += "0" * (-len(codes) % 8)
    body = int(codes, 2).to_bytes(len(codes) // 8, "big")
    return struct.pack("<ihh", len(body), 0, start) + body


def write_aecg(
    path,
    counts,
    *,
    sampling_rate=500,
    leads=LEADS,
    microvolts_per_count=2.5,
    time_code="TIME_ABSOLUTE",
    increment=None,
    origin_microvolts=0,
    unit="uV",
    scale=None,
    prefix="",
    encoding="utf-8",
):
    """`unit` is that of scale and origin, which are given in microvolts; `prefix` one such as "hl7:"."""
    in_unit = {"uV": 1.0, "mV": 1e-3, "nV": 1e3}.get(unit, 1.0)
    scale = (
        f'<scale value="{microvolts_per_count * in_unit:.10g}" unit="{unit}"/>' if scale is None else scale
    )
    origin = f'<origin value="{origin_microvolts * in_unit:g}" unit="{unit}"/>'
    increment = f'<increment value="{1 / sampling_rate:.10g}" unit="s"/>' if increment is None else increment

    def sequence_set(code, rows):
        head = '<head value="20250307101500"/>' if code == "TIME_ABSOLUTE" else '<head value="0" unit="s"/>'
        kind = "GLIST_TS" if code == "TIME_ABSOLUTE" else "GLIST_PQ"
        time = f'<sequence><code code="{code}"/><value xsi:type="{kind}">{head}{increment}</value></sequence>'
        sequences = [
            f'<sequence><code code="MDC_ECG_LEAD_{lead.upper()}" codeSystem="2.16.840.1.113883.6.24"/>'
            f'<value xsi:type="SLIST_PQ">{origin}{scale}'
            f"<digits>{commas(row, ' ')}</digits></value></sequence>"
            for lead, row in zip(leads, rows, strict=True)
        ]
        inner = "".join(f"<component>{sequence}</component>" for sequence in [time, *sequences])
        return f"<component><sequenceSet>{inner}</sequenceSet></component>"

    beat = sequence_set("TIME_RELATIVE", np.full((len(leads), N_MEDIAN), MEDIAN))
    body = f"""<id root="61d1a24f-b47e-41aa-ae95-f8ac302f4eeb"/>
<componentOf><timepointEvent><componentOf><subjectAssignment><subject><trialSubject>
<id root="1.2" extension="{PATIENT_ID}"/><subjectDemographicPerson>
<name><family>{FAMILY_NAME}</family><given>{GIVEN_NAME}</given></name><birthTime value="{BIRTH_DIGITS}"/>
</subjectDemographicPerson></trialSubject></subject></subjectAssignment></componentOf></timepointEvent>
</componentOf>
<controlVariable><relatedObservation><code code="21612-7"/><value value="{AGE}" unit="a"/>
</relatedObservation></controlVariable><component><series><code code="RHYTHM"/>
<author><seriesAuthor><manufacturedSeriesDevice>
<manufacturerModelName>ELI250</manufacturerModelName></manufacturedSeriesDevice>
<manufacturerOrganization><name>Mortara</name></manufacturerOrganization></seriesAuthor></author>
{sequence_set(time_code, counts)}<derivation><derivedSeries><code code="REPRESENTATIVE_BEAT"/>{beat}
</derivedSeries></derivation></series></component>"""
    if prefix:
        body = body.replace("</", "\0").replace("<", f"<{prefix}").replace("\0", f"</{prefix}")
    namespace = f"xmlns{':' if prefix else ''}{prefix.rstrip(':')}"
    text = f"""<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>
<{prefix}AnnotatedECG {namespace}="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
{body}</{prefix}AnnotatedECG>
"""
    write_text(path, text, encoding)


def write_mortara(
    path,
    counts,
    *,
    sampling_rate=500,
    leads=LEADS,
    microvolts_per_count=2.5,
    units_per_mv=None,
    duration=None,
):
    """`sampling_rate` is one for all leads, or one a lead."""
    per_mv = f'UNITS_PER_MV="{1000 / microvolts_per_count:g}"' if units_per_mv is None else units_per_mv
    rates = np.broadcast_to(sampling_rate, len(leads))
    channels = "\n".join(
        f'<CHANNEL NAME="{lead}" OFFSET="0" BITS="16" FORMAT="SIGNED" {per_mv} ENCODING="BASE64" '
        f'DURATION="{duration or len(row)}" SAMPLE_FREQ="{rate}" DATA="{base64_of(row)}"/>'
        for lead, row, rate in zip(leads, counts, rates, strict=True)
    )
    beats = "".join(
        f'<TYPICAL_CYCLE_CHANNEL NAME="{lead}" DATA="{base64_of([MEDIAN] * N_MEDIAN)}"/>' for lead in leads
    )
    text = f"""<?xml version="1.0" encoding="UTF-8"?>
<ECG ACQUISITION_TIME="20250307101500" AGE="{AGE}" AGE_UNITS="YEARS" VENT_RATE="71">
<SUBJECT LAST_NAME="{FAMILY_NAME}" FIRST_NAME="{GIVEN_NAME}" ID="{PATIENT_ID}" DOB="{BIRTH_DIGITS}"/>
<SOURCE TYPE="RESTING" MANUFACTURER="Mortara Instrument, Inc." MODEL="ELI280"/>
<TYPICAL_CYCLE BITS="16" FORMAT="SIGNED" UNITS_PER_MV="400" DURATION="{N_MEDIAN}" SAMPLE_FREQ="500"
ENCODING="BASE64">{beats}</TYPICAL_CYCLE>
{channels}
</ECG>
"""
    write_text(path, text)


def write_dicom(
    path,
    counts,
    *,
    sampling_rate=500,
    leads=LEADS,
    microvolts_per_count=2.5,
    unit="uV",
    correction=1,
    baseline=0,
    padding=None,
    declared=None,
):
    """`baseline`, in `unit`, is added; `padding` is the count of a missing sample."""
    import pydicom

    dataset = pydicom.Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.9.1.1"  # 12-lead ECG Waveform Storage
    dataset.SOPInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    dataset.Modality = "ECG"
    dataset.PatientName = f"{FAMILY_NAME}^{GIVEN_NAME}"
    dataset.PatientID, dataset.PatientBirthDate, dataset.PatientAge = PATIENT_ID, BIRTH_DIGITS, f"{AGE:03}Y"
    dataset.Manufacturer, dataset.ManufacturerModelName = "Mortara", "ELI280"
    scale = microvolts_per_count / {"uV": 1, "mV": 1000}.get(unit, 1)
    definitions = [dicom_channel(lead, scale, unit, correction, baseline) for lead in leads]
    rhythm = dicom_group("RHYTHM", counts, sampling_rate, definitions, declared)
    if padding is not None:
        rhythm.WaveformPaddingValue = struct.pack("<h", padding)
    beats = np.full((len(leads), N_MEDIAN), MEDIAN)
    median = dicom_group("MEDIAN BEAT", beats, sampling_rate, definitions)
    dataset.WaveformSequence = [rhythm, median]
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)


def dicom_group(label, counts, sampling_rate, definitions, declared=None):
    import pydicom

    group = pydicom.Dataset()
    group.MultiplexGroupLabel, group.WaveformOriginality = label, "ORIGINAL"
    group.NumberOfWaveformChannels = len(counts)
    group.NumberOfWaveformSamples = counts.shape[1] if declared is None else declared
    group.SamplingFrequency = sampling_rate
    group.ChannelDefinitionSequence = definitions
    group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 16, "SS"
    group.WaveformData = np.asarray(counts).T.astype("<i2").tobytes()
    return group


def dicom_channel(lead, sensitivity, unit, correction, baseline):
    import pydicom

    channel = pydicom.Dataset()
    channel.ChannelSourceSequence = [dicom_code(f"2:{LEAD_CODES[lead]}", "MDC", f"Lead {lead}")]
    channel.WaveformBitsStored = 16
    if unit:
        channel.ChannelSensitivity = f"{sensitivity:.10g}"
        channel.ChannelSensitivityUnitsSequence = [dicom_code(unit, "UCUM", unit)]
        channel.ChannelSensitivityCorrectionFactor = f"{correction:g}"
        channel.ChannelBaseline = f"{baseline:g}"
    return channel


def dicom_code(value, scheme, meaning):
    import pydicom

    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def write_scp(
    path,
    counts,
    *,
    sampling_rate=500,
    leads=LEADS,
    microvolts_per_count=5,
    huffman=False,
    starts=1,
    declared=None,
):
    """`huffman`: second differences in the default code, which section 2 then declares."""
    last = np.broadcast_to(starts, len(leads)) + (counts.shape[1] if declared is None else declared) - 1
    ends = zip(np.broadcast_to(starts, len(leads)), last, leads, strict=True)
    tags = [(0, FAMILY_NAME), (1, GIVEN_NAME), (2, PATIENT_ID)]
    section_1 = b"".join(scp_tag(tag, text.encode() + b"\0") for tag, text in tags)
    section_1 += scp_tag(4, struct.pack("<HB", AGE, 1))
    section_1 += scp_tag(5, struct.pack("<HBB", *map(int, BIRTH_DATE.split("-")))) + scp_tag(255, b"")
    section_3 = struct.pack("<BB", len(leads), 4 | len(leads) << 3)
    section_3 += b"".join(struct.pack("<IIB", start, end, LEAD_CODES[lead]) for start, end, lead in ends)
    payloads = [scp_huffman(row) if huffman else row.astype("<i2").tobytes() for row in np.asarray(counts)]
    interval = round(1_000_000 / sampling_rate)
    nanovolts = round(1000 * microvolts_per_count)
    section_6 = scp_samples(nanovolts, interval, 2 if huffman else 0, payloads)
    bodies = {1: section_1, 3: section_3, 6: section_6}
    if huffman:
        bodies[2] = struct.pack("<H", 19999)
    else:
        beat = np.full(N_MEDIAN, MEDIAN, "<i2").tobytes()
        bodies[5] = scp_samples(nanovolts, interval, 0, [beat] * len(leads))
    path.write_bytes(scp_record(bodies))


def scp_record(bodies):
    n_sections = 12
    sections = {number: scp_section(number, body) for number, body in sorted(bodies.items())}
    index, pointers = 7 + 16 + 10 * n_sections, []
    for number in range(1, n_sections):
        length = len(sections.get(number, b""))
        pointers.append(struct.pack("<HII", number, length, index if length else 0))
        index += length
    own = struct.pack("<HII", 0, 16 + 10 * n_sections, 7)
    record = scp_section(0, own + b"".join(pointers)) + b"".join(sections.values())
    record = struct.pack("<I", 6 + len(record)) + record
    return struct.pack("<H", binascii.crc_hqx(record, 0xFFFF)) + record


def scp_section(number, body):
    body += b"\0" * (len(body) % 2)
    reserved = b"SCPECG" if number == 0 else bytes(6)
    section = struct.pack("<HIBB", number, 16 + len(body), 20, 20) + reserved + body
    return struct.pack("<H", binascii.crc_hqx(section, 0xFFFF)) + section


def scp_tag(tag, value):
    return struct.pack("<BH", tag, len(value)) + value


def scp_samples(nanovolts, interval, differences, payloads):
    head = struct.pack("<HHBB", nanovolts, interval, differences, 0)
    return head + b"".join(struct.pack("<H", len(payload)) for payload in payloads) + b"".join(payloads)


def scp_huffman(row):
    differences = np.concatenate([row[:2], row[2:] - 2 * row[1:-1] + row[:-2]])
    bits = "".join(scp_code(value) for value in differences.tolist())
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def scp_code(value):
    """Return the bits of one value in the default Huffman code of EN 1064."""
    if value == 0:
        return "0"
    if abs(value) <= 8:
        return "1" * abs(value) + "0" + ("0" if value > 0 else "1")
    if abs(value) < 128:
        return "1111111110" + f"{value & 0xFF:08b}"
    return "1111111111" + f"{value & 0xFFFF:016b}"


def write_wfdb(
    path,
    counts,
    *,
    sampling_rate=500,
    leads=LEADS,
    microvolts_per_count=2.5,
    gains=None,
    baseline=0,
    declared=None,
    checksums=None,
):
    """Write a header, whatever `path` is called, and beside it the signal file, `path` with suffix .dat.

    `gains`, such as "400(0)/mV", replaces gain, baseline and unit of every lead.
    """
    data_path = path.with_suffix(".dat")
    data_path.write_bytes(np.asarray(counts).T.astype("<i2").tobytes())
    gain = f"{1000 / microvolts_per_count:g}({baseline})/mV" if gains is None else gains
    sums = [int(row.sum()) for row in np.asarray(counts)] if checksums is None else checksums
    n_samples = counts.shape[1] if declared is None else declared
    lines = [f"{path.stem} {len(leads)} {sampling_rate} {n_samples} 10:15:00 07/03/2025"]
    for lead, row, total in zip(leads, counts, sums, strict=True):
        checksum = (total + 32768) % 65536 - 32768
        lines.append(f"{data_path.name} 16 {gain} 16 0 {row[0]} {checksum} 0 {lead}")
    lines += [
        f"# name: {GIVEN_NAME} {FAMILY_NAME}",
        f"# id: {PATIENT_ID}",
        f"# age: {AGE}",
        f"# {BIRTH_DATE}",
    ]
    write_text(path, "\n".join(lines) + "\n")


def write_edf(
    path,
    counts,
    *,
    sampling_rate=500,
    leads=LEADS,
    microvolts_per_count=2.5,
    labels=None,
    unit="uV",
    seconds=None,
    reserved="EDF+C",
    records=None,
    annotations=True,
    extra=(),
):
    """Write an EDF+ in records of 1 s, or in one where that is not whole.

    `extra` are other signals, (label, unit, samples per record).
    """
    whole = counts.shape[1] % sampling_rate == 0
    seconds = seconds or (1 if whole else counts.shape[1] / sampling_rate)
    n = round(sampling_rate * seconds)
    n_records = counts.shape[1] // n
    low, high = (end * microvolts_per_count * {"uV": 1, "mV": 1e-3}.get(unit, 1) for end in (-32768, 32767))
    signals = [(label, unit, n) for label in labels or leads] + list(extra)
    signals += [("EDF Annotations", "", 60)] if annotations else []
    patient = f"{PATIENT_ID} F 03-FEB-1931 {FAMILY_NAME}_{GIVEN_NAME} {AGE}"
    head = (
        f"{0:<8}{patient:<80}{'Startdate 01-JAN-2025 X X X':<80}01.01.2510.15.00{256 * (len(signals) + 1):<8}"
    )
    head += f"{reserved:<44}{n_records if records is None else records:<8}{seconds:<8}{len(signals):<4}"
    columns = [(16, [label for label, _, _ in signals]), (80, [""] * len(signals))]
    columns.append((8, [unit for _, unit, _ in signals]))
    columns += [(8, [f"{end:.8g}"[:8]] * len(signals)) for end in (low, high, -32768, 32767)]
    columns += [(80, [""] * len(signals)), (8, [n for _, _, n in signals]), (32, [""] * len(signals))]
    head += "".join(f"{value:<{width}}" for width, values in columns for value in values)
    blocks = np.asarray(counts)[:, : n_records * n].reshape(len(leads), n_records, n).astype("<i2")
    with open(path, "wb") as handle:
        handle.write(head.encode("latin-1"))
        for record in range(n_records):
            handle.write(blocks[:, record].tobytes())
            handle.write(bytes(2 * sum(n for _, _, n in extra)))
            handle.write(f"+{record * seconds}\x14\x14".encode().ljust(120, b"\0") if annotations else b"")


def write_statement(folder, *, sampling_rate=500, unit="2.5 uV", leads=LEADS, **more):
    """Write `ecg_format.yml`; what is None is left out."""
    leads = leads if leads is None or isinstance(leads, str) else f"[{', '.join(leads)}]"
    stated = {"sampling_rate": sampling_rate, "unit": unit, "leads": leads, **more}
    lines = [f"{key}: {value}" for key, value in stated.items() if value is not None]
    write_text(folder / "ecg_format.yml", "\n".join(lines) + "\n")


def write_csv(path, counts, *, sampling_rate=500, leads=LEADS, microvolts_per_count=2.5):
    """Write columns with the names of their leads, below a comment, and `ecg_format.yml` beside."""
    rows = [",".join(leads), *(commas(row) for row in np.asarray(counts).T)]
    write_text(path, "\n".join([f"# {FAMILY_NAME} {GIVEN_NAME} {PATIENT_ID} {BIRTH_DATE}", *rows, ""]))
    write_statement(path.parent, sampling_rate=sampling_rate, unit=f"{microvolts_per_count} uV", leads=None)


def write_npz(path, counts, *, sampling_rate=500, leads=LEADS, microvolts_per_count=2.5):
    with open(path, "wb") as handle:
        np.savez(
            handle, patient=np.array([FAMILY_NAME, GIVEN_NAME, PATIENT_ID]), ecg=np.asarray(counts, np.int16)
        )
    write_statement(path.parent, sampling_rate=sampling_rate, unit=f"{microvolts_per_count} uV", leads=leads)


def write_matlab(path, counts, *, sampling_rate=500, leads=LEADS, microvolts_per_count=2.5):
    import scipy.io

    with open(path, "wb") as handle:
        patient = f"{FAMILY_NAME} {GIVEN_NAME} {PATIENT_ID}"
        scipy.io.savemat(handle, {"patient": patient, "age": AGE, "val": np.asarray(counts, np.int16)})
    write_statement(path.parent, sampling_rate=sampling_rate, unit=f"{microvolts_per_count} uV", leads=leads)


def write_hdf5(path, counts, *, sampling_rate=500, leads=LEADS, microvolts_per_count=2.5):
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["patient"] = f"{FAMILY_NAME} {GIVEN_NAME} {PATIENT_ID}"
        options = {"chunks": (500, len(leads)), "compression": "gzip", "shuffle": True}
        file.create_dataset("ecg", data=np.asarray(counts, np.int16).T, **options)
    write_statement(path.parent, sampling_rate=sampling_rate, unit=f"{microvolts_per_count} uV", leads=leads)


WRITERS = {
    "GE CardioSoft": write_cardiosoft,
    "Schiller EDI": write_schiller,
    "EDF": write_edf,
    "CSV": write_csv,
    "NumPy": write_npz,
    "MATLAB": write_matlab,
    "HDF5": write_hdf5,
    "GE MUSE": write_muse,
    "Philips": write_philips,
    "HL7 aECG": write_aecg,
    "Mortara ELI": write_mortara,
    "DICOM": write_dicom,
    "SCP-ECG": write_scp,
    "WFDB": write_wfdb,
    "hospital": write_hospital,
}


def write_each_format(folder, seed=0):
    """Write one ECG in each format, 10 s of a random walk at 500 Hz, and return the paths."""
    counts = np.random.default_rng(seed).integers(-10, 11, (len(LEADS), N_SAMPLES)).cumsum(axis=1)
    counts -= counts.mean(axis=1, keepdims=True).astype(int)
    paths = []
    for file_format, write in WRITERS.items():
        leads = EIGHT_LEADS if file_format == "GE MUSE" else LEADS
        suffix = {"WFDB": ".hea", "DICOM": ".dcm", "SCP-ECG": ".scp"}.get(file_format, ".xml")
        path = folder / f"{file_format.replace(' ', '_')}{suffix}"
        write(path, counts[[LEADS.index(lead) for lead in leads]], leads=leads)
        paths.append(path)
    return paths


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    print(*write_each_format(folder), sep="\n")
