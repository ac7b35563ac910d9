"""Files that mean harm: each ends in one EcgFileError line, within 2 s and 500 MB.

Run as a script, this file reads every path that it is given in a process of its own, forked after all
imports, and prints what came of it; so a hang, an allocation of gigabytes or a crash is really met, and ends
one case.
"""

import base64
import gzip
import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
import zipfile
import zlib

import numpy as np
import pytest
from format_writers import FAMILY_NAME, GIVEN_NAME, PATIENT_ID, WRITERS, scp_record, scp_samples, xli_chunk
from hostile_numbers import REFUSED_NUMBERS
from tiny_runs import ENVIRONMENT

from xml_loader import EcgFileError, read_at_rest, read_recording

MAX_SECONDS = 2.0  # of the processor, which does not count what other processes take
MAX_MEGABYTES = 500
SECONDS_UNTIL_KILLED = 10
NOBODY = 65534  # root may read every file; this user may not

SUFFIXES = {"DICOM": ".dcm", "SCP-ECG": ".scp", "WFDB": ".hea", "EDF": ".edf", "CSV": ".csv", "NumPy": ".npz"}
SUFFIXES |= {"MATLAB": ".mat", "HDF5": ".h5"}
XML_FORMATS = [file_format for file_format in WRITERS if file_format not in SUFFIXES]
COUNTS = np.random.default_rng(0).integers(-400, 400, (12, 4000))
HUGE = 2**31 - 1


# Files


def write_format(folder, file_format, **options):
    path = folder / f"ecg{SUFFIXES.get(file_format, '.xml')}"
    counts = COUNTS[:8] if file_format == "GE MUSE" else COUNTS
    WRITERS[file_format](path, counts, **options)
    return path


def edited(file_format, pattern, replacement, **options):
    """Return a function that writes a file of a format in which something is replaced, wherever it is."""

    def write(folder):
        path = write_format(folder, file_format, **options)
        content, n = re.subn(pattern, lambda _: replacement, path.read_bytes(), flags=re.DOTALL)
        assert n, f"{pattern} is not in a file of the format {file_format}"
        path.write_bytes(content)
        return path

    return write


def edited_xml(file_format, pattern, replacement):
    """As `edited`, in text, whatever the encoding."""

    def write(folder):
        encoding = {"Philips": "utf-16", "Schiller EDI": "utf-8-sig"}.get(file_format, "utf-8")
        path = write_format(folder, file_format)
        text, n = re.subn(pattern, lambda _: replacement, path.read_text(encoding), flags=re.DOTALL)
        assert n, f"{pattern} is not in a file of the format {file_format}"
        path.write_text(text, encoding)
        return path

    return write


def with_doctype(file_format, subset):
    """Return a function that gives a file's root a DTD with an entity, which the first element then uses."""

    def write(folder):
        encoding = {"Philips": "utf-16", "Schiller EDI": "utf-8-sig"}.get(file_format, "utf-8")
        path = write_format(folder, file_format)
        text = re.sub("<!DOCTYPE[^>]*>", "", path.read_text(encoding))
        head, root, rest = re.match(r"(.*?\?>\s*)<([\w.]+)(.*)", text, re.DOTALL).groups()
        rest = rest.replace(">", ">&c;", 1)
        path.write_text(f"{head}<!DOCTYPE {root} {subset}><{root}{rest}", encoding)
        return path

    return write


def of_bytes(make_content, name="ecg.xml"):
    def write(folder):
        (folder / name).write_bytes(make_content())
        return folder / name

    return write


def cut(file_format, fraction):
    def write(folder):
        path = write_format(folder, file_format)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * fraction)])
        return path

    return write


def fifo(folder):
    os.mkfifo(folder / "ecg.xml")
    return folder / "ecg.xml"


def bound_socket(folder):
    here = os.getcwd()
    os.chdir(folder)  # the path of a socket may have 107 bytes at most
    with socket.socket(socket.AF_UNIX) as endpoint:
        endpoint.bind("ecg.xml")
    os.chdir(here)
    return folder / "ecg.xml"


def symlink_loop(folder):
    os.symlink(folder / "other.xml", folder / "ecg.xml")
    os.symlink(folder / "ecg.xml", folder / "other.xml")
    return folder / "ecg.xml"


def unreadable(folder):
    path = write_format(folder, "hospital")
    path.chmod(0)
    return path


def zip_archive(folder):
    with zipfile.ZipFile(folder / "ecg.xml", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ecg.xml", bytes(10_000_000))
    return folder / "ecg.xml"


def sparse(size, name):
    def write(folder):
        with open(folder / name, "wb") as handle:
            handle.truncate(size)
        return folder / name

    return write


# Philips: LZW makes up to 700 bytes of one code


def xli_bomb(n_codes, n_chunks):
    """Return a Philips file whose payload grows: each code is the last string and a byte more."""
    codes = [65, *range(256, 1023)] + [1022] * n_codes
    bits = "".join(f"{code:010b}" for code in codes)
    body = int(bits + "0" * (-len(bits) % 8), 2).to_bytes(-(-len(bits) // 8), "big")
    payload = (struct.pack("<ihh", len(body), 0, 0) + body) * n_chunks
    return edited_payload(payload)


def edited_payload(payload):
    encoded = base64.encodebytes(payload).decode()
    return edited_xml("Philips", r"(?<=\">)[^<]*(?=</parsedwaveforms>)", encoded)


# DICOM


def dicom(change=lambda dataset: None, name="ExplicitVRLittleEndian"):
    """Return a function that writes a file after `change`, in the transfer syntax of this name."""

    def write(folder):
        import pydicom

        path = write_format(folder, "DICOM")
        dataset = pydicom.dcmread(path)
        change(dataset)
        syntax = getattr(pydicom.uid, name)
        dataset.file_meta.TransferSyntaxUID = syntax
        options = {"implicit_vr": syntax.is_implicit_VR, "little_endian": syntax.is_little_endian}
        pydicom.dcmwrite(path, dataset, enforce_file_format=True, **options)
        return path

    return write


def big_endian(dataset):
    for group in dataset.WaveformSequence:
        group.WaveformData = np.frombuffer(group.WaveformData, "<i2").astype(">i2").tobytes()


def declare_samples(dataset):
    dataset.WaveformSequence[0].NumberOfWaveformSamples = HUGE


def declare_channels(dataset):
    dataset.WaveformSequence[0].NumberOfWaveformChannels = 65_535


def deflated_bomb(folder):
    """A hundred times what is allowed, in half a megabyte; gigabytes need no other code."""
    path = dicom(name="DeflatedExplicitVRLittleEndian")(folder)
    content = path.read_bytes()
    start = 144 + struct.unpack_from("<I", content, 140)[0]
    beginning = zlib.decompress(content[start:], -15)
    compressor = zlib.compressobj(1, zlib.DEFLATED, -15)
    zeros = bytes(100_000_000)
    pieces = [compressor.compress(beginning), *(compressor.compress(zeros) for _ in range(5))]
    path.write_bytes(content[:start] + b"".join(pieces) + compressor.flush())
    return path


def element(group, number, kind, content, length=None):
    head = struct.pack("<HH2s2xI", group, number, kind, len(content) if length is None else length)
    return head + content


def appended(*pieces):
    """Return a function that writes a DICOM file and more elements at its end."""

    def write(folder):
        path = write_format(folder, "DICOM")
        with open(path, "ab") as handle:
            handle.write(b"".join(pieces))
        return path

    return write


ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
OPEN_ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
OPEN_SEQUENCE = element(0x5400, 0x0100, b"SQ", b"", 0xFFFFFFFF)


# SCP-ECG


def scp(change, n_leads=12, **options):
    """Return a function that writes an SCP file from its sections' bodies, after `change`."""

    def write(folder):
        bodies = {
            1: struct.pack("<BH", 255, 0),
            3: struct.pack("<BB", n_leads, 4) + struct.pack("<IIB", 1, 4000, 1) * n_leads,
            6: scp_samples(5000, 2000, 0, [bytes(8000)] * n_leads),
        }
        change(bodies)
        (folder / "ecg.scp").write_bytes(scp_record(bodies))
        return folder / "ecg.scp"

    return write


def scp_leads(n_leads, n_samples):
    return struct.pack("<BB", n_leads, 4) + struct.pack("<IIB", 1, n_samples, 1) * n_leads


def long_huffman_leads(bodies):
    """One bit a sample: megabytes are decoded bit by bit."""
    bodies[2] = struct.pack("<H", 19999)
    bodies[3] = scp_leads(200, 64_000)
    bodies[6] = scp_samples(5000, 2000, 2, [bytes(8000)] * 200)


def long_huffman_beats(bodies):
    bodies[2] = struct.pack("<H", 19999)
    bodies[3] = scp_leads(200, 4000)
    bodies[4] = struct.pack("<HHH", 60_000, 1, 0)
    bodies[5] = scp_samples(5000, 1000, 2, [bytes(8000)] * 200)
    bodies[6] = scp_samples(5000, 2000, 2, [bytes(500)] * 200)


def many_beats_to_add(bodies):
    """Each beat is added to each lead."""
    beats = struct.pack("<HIII", 0, 1, 1, 4000) * 60_000
    bodies[3] = struct.pack("<BB", 200, 5) + scp_leads(200, 4000)[2:]
    bodies[4] = struct.pack("<HHH", 1, 1, 60_000) + beats
    bodies[5] = scp_samples(5000, 1000, 0, [bytes(2)] * 200)
    bodies[6] = scp_samples(5000, 1000, 0, [bytes(8000)] * 200)


def many_pointers(folder):
    size = 16 + 10 * 400_000
    pointers = struct.pack("<HII", 0, size, 7) + struct.pack("<HII", 3, 3000, 7) * 399_999
    content = struct.pack("<HIHHIBB6s", 0, 6 + size, 0, 0, size, 20, 20, b"SCPECG") + pointers
    (folder / "ecg.scp").write_bytes(content)
    return folder / "ecg.scp"


def long_comment(bodies):
    bodies[8] = bytes(20_000_000)


def declare_scp_samples(bodies):
    bodies[3] = scp_leads(12, HUGE)


def scp_length(offset, value):
    def write(folder):
        path = write_format(folder, "SCP-ECG")
        content = bytearray(path.read_bytes())
        struct.pack_into("<I", content, offset, value)
        path.write_bytes(content)
        return path

    return write


# WFDB


def wfdb(record, signal, n_signals=12, signal_file=None):
    """Return a function that writes a header; `signal_file` makes what lies beside it."""

    def write(folder):
        lines = [record, *(f"{signal} 200(0)/mV 16 0 0 0 0 {lead}" for lead in range(n_signals))]
        (folder / "ecg.hea").write_text("\n".join(lines) + "\n")
        if signal_file is not None:
            signal_file(folder)
        return folder / "ecg.hea"

    return write


def fifo_beside(folder):
    os.mkfifo(folder / "ecg.dat")


def many_signal_files(folder):
    lines = ["ecg 100 500 5000", *(f"{n}.dat 16 200(0)/mV 16 0 0 0 0 I" for n in range(100))]
    (folder / "ecg.hea").write_text("\n".join(lines))
    for n in range(100):
        sparse(40_000_000, f"{n}.dat")(folder)
    return folder / "ecg.hea"


def long_header(folder):
    path = write_format(folder, "WFDB")
    path.write_text(path.read_text() + "#\n" * 10_000_000)
    return path


SUBSETS = {
    "billion laughs": "[<!ENTITY a '1 '>"
    + "".join(f"<!ENTITY {'abc'[i]}{j} '{'&a;' * 10}'>" for i in range(3) for j in range(9))
    + "<!ENTITY c '&a0;&b0;&c0;'>]",
    "quadratic blow-up": f"[<!ENTITY a '{'1 ' * 50_000}'><!ENTITY c '{'&a;' * 10_000}'>]",
    "external entity": "[<!ENTITY c SYSTEM 'file:///etc/passwd'>]",
    "parameter entity": "[<!ENTITY % p SYSTEM 'http://127.0.0.1:9/x.dtd'> %p; <!ENTITY c ''>]",
}

STATEMENT = (
    '<component><annotation><code code="MDC_ECG_INTERPRETATION"/><value>{}</value></annotation></component>'
)
STATEMENTS = "".join(STATEMENT.format(n) for n in range(48_000))
STATEMENTS = f"<subjectOf><annotationSet>{STATEMENTS}</annotationSet></subjectOf><derivation>"
DAT = "ecg.dat 16"
REFUSED = {
    **{
        f"{name}, {file_format}": (with_doctype(file_format, subset), "a document type declaration")
        for file_format in XML_FORMATS
        for name, subset in SUBSETS.items()
    },
    **{f"cut in the middle, {file_format}": (cut(file_format, 0.6), "") for file_format in WRITERS},
    **{
        f"NUL bytes, {file_format}": (edited_xml(file_format, "</", "\0</"), "malformed or incomplete XML")
        for file_format in XML_FORMATS
    },
    "NUL bytes alone": (of_bytes(lambda: bytes(1_000_000)), "a file of zeros only"),
    "deep nesting": (of_bytes(lambda: b"<a>" * 2_000_000), "nested in each other"),
    "deep nesting in Philips": (edited_xml("Philips", "<patient>", "<patient>" + "<a>" * 100_000), "nested"),
    "50 MB of elements": (of_bytes(lambda: b"<a>" + b"<b/>" * 12_000_000), ""),
    "millions of attributes": (
        of_bytes(lambda: b"<a " + b" ".join(b'a%d=""' % n for n in range(3_000_000)) + b"/>"),
        "",
    ),
    "50 MB of counts": (
        of_bytes(lambda: b'<a><rhythm><channel name="I" freq="500">' + b"1.5 " * 12_400_000),
        "",
    ),
    "a directory": (lambda folder: folder, "a directory"),
    "a FIFO": (fifo, "a FIFO"),
    "a socket": (bound_socket, "a socket"),
    "a symlink loop": (symlink_loop, "nothing readable"),
    "an unreadable file": (unreadable, "nothing readable (Permission denied)"),
    "a sparse file of 2 GB": (sparse(2**31, "ecg.xml"), "more than 50,000,000 bytes"),
    "a zip archive": (zip_archive, "a zip archive"),
    "gzip": (of_bytes(lambda: gzip.compress(bytes(50_000_000), 1)), "a gzip archive"),
    "base64 cut, GE MUSE": (edited_xml("GE MUSE", r"[^>]{3}</WaveFormData>", "</WaveFormData>"), "Base64"),
    "base64 cut, Philips": (edited_xml("Philips", r".{3}</parsedwaveforms>", "</parsedwaveforms>"), "Base64"),
    "base64 cut, Mortara": (edited_xml("Mortara ELI", r'.{3}"/>\n<CHANNEL', '"/>\n<CHANNEL'), "Base64"),
    "2 GB declared, GE MUSE samples": (
        edited_xml("GE MUSE", r"(?<=CountTotal>)\d+", str(HUGE)),
        f"CountTotal {HUGE}",
    ),
    "2 GB declared, GE MUSE rate": (edited_xml("GE MUSE", r"(?<=SampleExponent>)\d+", "9"), "50000 Hz"),
    "no finite rate, GE MUSE": (edited_xml("GE MUSE", r"(?<=SampleExponent>)\d+", "1e9"), "OverflowError"),
    "2 GB declared, CardioSoft": (
        edited_xml("GE CardioSoft", r"(?<=CountTotal>)\d+", str(HUGE)),
        "as many samples as the file declares",
    ),
    "2 GB declared, Schiller": (
        edited_xml("Schiller EDI", r"(?<=samplecount>)\d+", str(HUGE)),
        "as many samples as the file declares",
    ),
    "2 GB declared, Mortara": (edited_xml("Mortara ELI", r'(?<=DURATION=")\d+', str(HUGE)), "DURATION"),
    "2 GB declared, aECG": (edited_xml("HL7 aECG", r'(?<=increment value=")[^"]+', "1e-9"), "50000 Hz"),
    "48,000 statements of interpretation, aECG": (
        edited_xml("HL7 aECG", "<derivation>", STATEMENTS),
        "statem",
    ),
    "no finite rate, aECG": (edited_xml("HL7 aECG", r'(?<=increment value=")[^"]+', "1e-320"), ""),
    "2 GB declared, Philips duration": (
        edited_xml("Philips", r'(?<=durationperchannel=")\d+', str(HUGE)),
        "expected",
    ),
    "2 GB declared, Philips rate": (edited_xml("Philips", r'(?<=persecond=")\d+', str(HUGE)), ""),
    "2 GB declared, Philips resolution": (edited_xml("Philips", r'(?<=resolution=")\d+', "1e308"), ""),
    "an XLI payload of gigabytes": (xli_bomb(2_000_000, 1), ""),
    "an XLI payload of 32 large chunks": (xli_bomb(10_000, 32), ""),
    "an XLI payload of many chunks": (edited_payload(xli_chunk(np.zeros(4, int)) * 100_000), ""),
    "2 GB declared, DICOM samples": (dicom(declare_samples), "DICOM"),
    "2 GB declared, DICOM channels": (dicom(declare_channels), "DICOM"),
    "2 GB declared, DICOM element": (
        edited("DICOM", rb"(?<=\x10\x00\x10\x00PN).{2}", b"\xff\xff"),
        "DICOM",
    ),
    "bytes swapped, DICOM": (edited("DICOM", rb"1\.2\.840\.10008\.1\.2\.1\0", b"1.2.840.10008.1.2.2\0"), ""),
    "a deflated DICOM bomb": (deflated_bomb, "DICOM"),
    "nested DICOM sequences": (appended((OPEN_SEQUENCE + OPEN_ITEM) * 100_000), "DICOM"),
    "millions of DICOM items": (appended(OPEN_SEQUENCE, ITEM * 5_000_000), "DICOM"),
    "millions of DICOM elements": (
        appended(b"".join(struct.pack("<HH2sH", 0x5401, n, b"LO", 0) for n in range(60_000)) * 90),
        "DICOM",
    ),
    "2 GB declared, SCP section 0": (scp_length(10, 10 * (HUGE // 20) + 6), ""),
    "2 GB declared, SCP section 6": (scp_length(22 + 10 * 6 + 2, HUGE), "SCP-ECG"),
    "SCP with 400,000 pointers to section 3": (many_pointers, "400,000 sections"),
    "SCP of 20 MB": (scp(long_comment), "bytes and 12 sections"),
    "2 GB declared, SCP leads": (scp(declare_scp_samples), "25,769,803,764 samples"),
    "SCP rhythm of 13 million samples": (scp(long_huffman_leads), "12,800,000 samples"),
    "SCP beats of 12 million samples": (scp(long_huffman_beats), "section 5"),
    "SCP with 60,000 beats to add to 200 leads": (scp(many_beats_to_add), "section 4"),
    "2 GB declared, WFDB samples": (wfdb(f"ecg 12 500 {HUGE}", DAT, 12, sparse(100, "ecg.dat")), "samples"),
    "an endless number, WFDB": (wfdb("ecg 12 500 " + "9" * 50_000, DAT, 12, sparse(100, "ecg.dat")), ""),
    "2 GB declared, WFDB signals": (wfdb(f"ecg {HUGE} 500 5000", DAT), "signals"),
    "2 GB declared, WFDB frame": (wfdb("ecg 12 500 5000", f"{DAT}x{HUGE}", 12, sparse(10**6, "ecg.dat")), ""),
    "2 GB declared, WFDB skew": (wfdb("ecg 12 500 5000", f"{DAT}:{HUGE}", 12, sparse(10**6, "ecg.dat")), ""),
    "2 GB declared, WFDB offset": (
        wfdb("ecg 12 500 5000", f"{DAT}+{HUGE}", 12, sparse(10**6, "ecg.dat")),
        "WFDB",
    ),
    "WFDB format of 30,000 letters": (
        wfdb("ecg 1 500 5000", "ecg.dat " + "x" * 30_000, 1, sparse(10**6, "ecg.dat")),
        "a file of the format WFDB",
    ),
    "Philips version of 30,000 letters": (
        edited_xml("Philips", r"(?<=<documentversion>)[^<]*", "9" * 30_000),
        "Philips",
    ),
    "a lead's name of 360 letters": (
        edited_xml("hospital", r"(?<=name=\")[^\"]*", "ecg_lead_" * 40),
        "none of the twelve leads in the rhythm; other channels: 12 of other names",
    ),
    "WFDB null signals": (wfdb("ecg 12 500 4000000", "ecg.dat 0", 12, sparse(100, "ecg.dat")), ""),
    "WFDB header that names /etc/passwd": (wfdb("ecg 12 500 5000", "../../etc/passwd 16"), "beside"),
    "WFDB header that names an absolute path": (wfdb("ecg 12 500 5000", "/etc/passwd 16"), "beside"),
    "WFDB header that names a FIFO": (wfdb("ecg 12 500 5000", DAT, 12, fifo_beside), "a FIFO"),
    "WFDB header that names itself": (wfdb("ecg 12 500 5000", "ecg.hea 16"), "WFDB"),
    "WFDB header that names a sparse file of 2 GB": (
        wfdb("ecg 12 500 0", DAT, 12, sparse(2**31, "ecg.dat")),
        "more than",
    ),
    "WFDB header that names 100 sparse files of 40 MB": (many_signal_files, "bytes"),
    "WFDB header of 20 MB": (long_header, ""),
    **REFUSED_NUMBERS,
}


READ = {
    **{
        file_format: lambda folder, file_format=file_format: write_format(folder, file_format)
        for file_format in WRITERS
    },
    "DICOM, explicit big endian": dicom(big_endian, "ExplicitVRBigEndian"),
    "DICOM, implicit little endian": dicom(name="ImplicitVRLittleEndian"),
    "DICOM, deflated": dicom(name="DeflatedExplicitVRLittleEndian"),
    # Nothing is fetched, so that what the DTD's address is does not matter.
    # pydicom reads what there is of an element that declares more; the samples are all there.
    "2 GB declared, DICOM waveform": edited(
        "DICOM", rb"(?<=\x00\x54\x10\x10OW\0\0).{4}", b"\xf0\xff\xff\x7f"
    ),
    "4 GB declared, DICOM sequence": edited(
        "DICOM", rb"(?<=\x00\x54\x00\x01SQ\0\0).{4}", b"\xf0\xff\xff\xff"
    ),
    # What holds no sample may be of any size.
    "2 GB declared, SCP record": scp_length(2, HUGE),
    "2 GB declared, SCP section 1": scp_length(34, HUGE),
    "GE MUSE with /dev/zero as its DTD": edited_xml("GE MUSE", "restecg.dtd", "file:///dev/zero"),
}


# The measurement


def read_in_a_child(path):
    """Read a file in a fork of this process; return what came of it, or None if it crashed or hung."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reader)
        signal.alarm(SECONDS_UNTIL_KILLED)
        os.write(writer, json.dumps(read_measured(path)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(process, 0)
    return json.loads(answer) if answer else None


def read_measured(path):
    """Return the error's or recording's description, the processor's seconds and the growth in megabytes."""
    if os.path.exists(path) and os.stat(path).st_mode & 0o777 == 0 and os.geteuid() == 0:
        os.setuid(NOBODY)
    resource.setrlimit(resource.RLIMIT_AS, (6_000_000_000, 6_000_000_000))
    before, begin = peak_megabytes(), time.process_time()
    result = {}
    try:
        recording = read_recording(path)
        result["read"] = list(recording.signal.shape)
        result["first"] = recording.signal[0, :5].tolist()
        result["warnings"] = recording.metadata["warnings"]
    except BaseException as error:
        result |= {"kind": type(error).__name__, "message": str(error)}
    seconds, megabytes = time.process_time() - begin, peak_megabytes() - before
    return result | {"seconds": seconds, "megabytes": megabytes}


def peak_megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main():
    import importlib

    import pydicom  # noqa: F401
    import pyfive  # noqa: F401
    import xmltodict  # noqa: F401
    import yaml  # noqa: F401

    for module in (
        "ge_muse_xml",
        "sierra_xml",
        "hl7_aecg",
        "mortara_el250",
        "dicom_waveform",
        "scp_ecg",
        "wfdb",
    ):
        importlib.import_module(f"ecgdatakit.parsing.parsers.{module}")
    paths = json.load(sys.stdin)
    json.dump({name: read_in_a_child(path) for name, path in paths.items()}, sys.stdout)


# The tests


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Return what came of each case: a dict by its name."""
    builders = {name: build for name, (build, _) in REFUSED.items()} | READ
    paths = {}
    root = tmp_path_factory.mktemp("hostile")
    for number, (name, build) in enumerate(builders.items()):
        folder = root / str(number)
        folder.mkdir()
        paths[name] = str(build(folder))
    answer = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(paths),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(answer.stdout)


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_in_one_line_soon_and_with_little_memory(outcomes, name):
    outcome = outcomes[name]
    assert outcome is not None, f"crashed, or was killed after {SECONDS_UNTIL_KILLED} s"
    kind = "EcgAccessError" if name in ("a symlink loop", "an unreadable file") else "EcgFileError"
    assert outcome.get("kind") == kind, outcome
    message = outcome["message"]
    assert message.isprintable() and len(message) < 1300 and "; expected " in message
    assert not any(word in message for word in (FAMILY_NAME, GIVEN_NAME, PATIENT_ID)), message
    assert outcome["seconds"] < MAX_SECONDS and outcome["megabytes"] < MAX_MEGABYTES, outcome
    assert REFUSED[name][1] in message


@pytest.mark.parametrize("name", READ)
def test_is_read_all_the_same(outcomes, name):
    outcome = outcomes[name]
    assert outcome is not None and outcome.get("read") == [12, 4000], outcome
    assert outcome["seconds"] < MAX_SECONDS and outcome["megabytes"] < MAX_MEGABYTES


def test_big_endian_dicom_has_the_same_samples(outcomes):
    assert outcomes["DICOM, explicit big endian"]["first"] == outcomes["DICOM"]["first"]
    assert outcomes["DICOM, explicit big endian"]["first"] == pytest.approx(COUNTS[0, :5] * 0.0025)


def test_byte_swapped_samples_of_muse_are_read_but_do_not_pass_as_an_ecg(tmp_path):
    """No file of MUSE says its byte order: only the checksum, if there is one, and the voltage betray it."""
    path = tmp_path / "ecg.xml"
    swapped = COUNTS[:8].astype("<i2").byteswap()
    WRITERS["GE MUSE"](path, swapped)
    np.testing.assert_allclose(read_recording(path).signal[:2], swapped[:2] * 0.00488, rtol=1e-6)
    assert read_recording(path).metadata["warnings"] == ()
    with pytest.raises(EcgFileError, match=r"at most 32\.767 mV \(is the file's unit right\?\)"):
        read_at_rest(path)
    path.write_text(re.sub(r"(?<=CRC32>)\d+", "1", path.read_text()))
    assert "CRC32 mismatch in lead I (rhythm)" in " ".join(read_recording(path).metadata["warnings"])


if __name__ == "__main__":
    main()
