"""The formats that the package `ecgdatakit` decodes: MUSE, Philips, HL7 aECG, Mortara, DICOM, SCP-ECG, WFDB.

The format is found here, from the checked content; the package then reads the file with that format's parser.
What it raises or warns about becomes one line without the file's own words, which could be a name.
"""

from __future__ import annotations

import importlib
import re
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ecg.formats.ecg_file import EcgFile, read_bytes
from ecg.formats.limits import check_limits
from ecg.recording import MAX_SAMPLES, EcgFileError, Recording, assemble, by_value, quote, standard_lead

MAX_WFDB_BYTES = 15_000_000  # 12 leads of 16 bits at 500 Hz for 20 min
MAX_WFDB_HEADER_BYTES = 100_000
MICROVOLTS = {"nV": 1e-3, "uV": 1.0, "mV": 1e3, "V": 1e6}
_REPEATED = re.compile(r"(.+)_[0-9]+")  # ecgdatakit calls a lead that occurs twice "II" and "II_2"
# What `repr` quotes, with its escapes. An apostrophe within a word quotes nothing; an open end is cut off.
_QUOTATION = re.compile(r"""(?<![^\W_b])b?(?:'(?:[^'\\]|\\.)*(?:'|$)|"(?:[^"\\]|\\.)*(?:"|$))""")
# What the storage formats of WFDB reserve for a missing sample: the lowest number that each can hold.
_WFDB_MISSING = {80: -128, 310: -512, 311: -512, 212: -2048, 24: -(1 << 23), 32: -(1 << 31)}
_WFDB_MISSING |= dict.fromkeys((16, 61, 160), -32768)
_WFDB_NULL = re.compile(r"\S+\s+0+(?!\d)")
_WFDB_RECORD = re.compile(
    r"(?P<name>[\w.-]+)(?P<segments>/[0-9]+)? +(?P<n_signals>[0-9]{1,12})"
    r"(?: +[0-9.eE+-]+(?:/[0-9.eE+-]+(?:\([0-9.eE+-]+\))?)?(?: +(?P<n_samples>[0-9]{1,12})(?: .*)?)?)?"
)


def read_muse(file: EcgFile) -> Recording | None:
    """Root `RestingECG`; the waveform of type Rhythm, little-endian int16 in base64."""
    return _decode(file, "GE MUSE", "ge_muse_xml", "GEMuseXMLParser") if _root(file) == "restingecg" else None


def read_philips(file: EcgFile) -> Recording | None:
    """Root `restingecgdata`, versions 1.03 to 1.04.01; XLI-compressed base64."""
    known = _root(file) == "restingecgdata"
    return _decode(file, "Philips", "sierra_xml", "SierraXMLParser") if known else None


def read_aecg(file: EcgFile) -> Recording | None:
    """Root `AnnotatedECG`; the rhythm series, never the representative beat."""
    return _decode(file, "HL7 aECG", "hl7_aecg", "HL7aECGParser") if _root(file) == "annotatedecg" else None


def read_mortara(file: EcgFile) -> Recording | None:
    """Root `ECG` with `CHANNEL` elements of base64."""
    known = _root(file) == "ecg" and next(file.root.iter("channel"), None) is not None
    known = known and next(file.root.iter("rhythm"), None) is None  # that is the study hospital's format
    return _decode(file, "Mortara ELI", "mortara_el250", "MortaraEL250Parser") if known else None


def read_dicom(file: EcgFile) -> Recording | None:
    """DICOM waveform storage: the rhythm's multiplex group."""
    known = file.content[128:132] == b"DICM"
    return _decode(file, "DICOM", "dicom_waveform", "DICOMWaveformParser", _keep_zeros) if known else None


def read_scp(file: EcgFile) -> Recording | None:
    """SCP-ECG (EN 1064): section 0 comes first, has a whole number of pointers, and begins at byte 7."""
    content = file.content
    if len(content) < 32:
        return None
    size, section, length = struct.unpack_from("<I2xHI", content, 2)
    known = section == 0 and length >= 26 and (length - 16) % 10 == 0 and size >= 6 + length
    known = known and struct.unpack_from("<H4xI", content, 22) == (0, 7)
    return _decode(file, "SCP-ECG", "scp_ecg", "SCPECGParser") if known else None


def read_wfdb(file: EcgFile) -> Recording | None:
    """WFDB: a header (.hea) of one segment, its signal files beside it."""
    signal_files = wfdb_signal_files(file.path, file.content)
    if signal_files is None:
        return None
    if Path(file.path).suffix.lower() != ".hea":  # ecgdatakit would read the file of that name instead
        raise EcgFileError(file.path, "a WFDB header under another name", "a name that ends in .hea")
    n_bytes = 0
    for signal_file in signal_files:
        try:
            n_bytes += len(read_bytes(signal_file))
        except EcgFileError as error:
            found = f"{error.found} in place of its signal file {signal_file.name}"
            raise EcgFileError(file.path, found, error.expected) from error
        if n_bytes > MAX_WFDB_BYTES:
            found = f"signal files of more than {MAX_WFDB_BYTES:,} bytes in all"
            raise EcgFileError(file.path, found, "an ECG of some minutes at most")
    return _decode(file, "WFDB", "wfdb", "WFDBParser", _mark_missing_samples)


def wfdb_signal_files(path, content: bytes) -> list[Path] | None:
    """Return the signal files that a WFDB header names, or None where the content is not such a header.

    Raises
    ------
    EcgFileError
        Several segments, a signal file that is not in the header's folder, or absurd sizes.
    """
    if content[:1] in (b"<", b"\0", b"\xef", b"\xff", b"\xfe"):  # XML and binary formats, without a search
        return None
    lines = [line.strip() for line in content[:MAX_WFDB_HEADER_BYTES].decode("latin-1").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    record = _WFDB_RECORD.fullmatch(lines[0]) if lines else None
    if record is None:
        return None
    if record["segments"]:
        raise EcgFileError(path, "a WFDB record of several segments", "a record of one segment")
    if len(content) > MAX_WFDB_HEADER_BYTES:
        found = f"a WFDB header of {len(content):,} bytes"
        raise EcgFileError(path, found, f"at most {MAX_WFDB_HEADER_BYTES:,}")
    n_signals, n_samples = int(record["n_signals"]), int(record["n_samples"] or 0)
    if n_signals * n_samples > MAX_SAMPLES or n_signals > 1000:
        found = f"a declared length of {n_samples:,} samples of {n_signals:,} signals"
        raise EcgFileError(path, found, f"at most {MAX_SAMPLES:,} in all")
    names = [line.split()[0] for line in lines[1 : 1 + n_signals]]
    if len(names) < n_signals or n_signals == 0:
        raise EcgFileError(path, f"{len(names)} of {n_signals} signals described", "a line for each signal")
    if any("/" in name or "\\" in name or name in ("~", ".", "..") for name in names):
        raise EcgFileError(path, "a signal file that is not beside the header", "names without a folder")
    if any(_WFDB_NULL.match(line) for line in lines[1 : 1 + n_signals]):  # of any length, without a file
        raise EcgFileError(path, "a signal of format 0, which has no samples", "signals that are stored")
    return [Path(path).parent / name for name in dict.fromkeys(names)]


# The rows for `formats.FORMATS`, in the order in which they are tried.
READERS: dict[str, Callable[[EcgFile], Recording | None]] = {
    "GE MUSE": read_muse,
    "Philips": read_philips,
    "HL7 aECG": read_aecg,
    "Mortara ELI": read_mortara,
    "DICOM": read_dicom,
    "SCP-ECG": read_scp,
    "WFDB": read_wfdb,
}


def _root(file: EcgFile) -> str:
    return "" if file.root is None else file.root.tag


def _decode(
    file: EcgFile, file_format: str, module: str, parser: str, correct: Callable | None = None
) -> Recording:
    """Let one parser of ecgdatakit read the file, `correct` the record, and bring it to our contract."""
    check_limits(file, file_format)
    try:
        parser_class = getattr(importlib.import_module(f"ecgdatakit.parsing.parsers.{module}"), parser)
    except ImportError as error:
        expected = f"the package that reads it: pip install {error.name or 'ecgdatakit'}"
        raise EcgFileError(file.path, f"a file of the format {file_format}", expected) from error
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        record = _run(parser_class, file, file_format, correct)
        names = [_REPEATED.sub(r"\1", lead.label) for lead in record.leads]
        # What is not one of the twelve, such as V4R or a pressure, is left out, in any unit and at any rate.
        ours = {name: lead for name, lead in zip(names, record.leads, strict=True) if standard_lead(name)}
        channels = [
            (name, _millivolts(lead, file_format, file) if name in ours else np.empty(0))
            for name, lead in zip(names, record.leads, strict=True)
        ]
    device = record.recording.device
    return assemble(
        file_format,
        channels,
        _common_rate(ours, file_format, file),
        file.path,
        device=f"{device.manufacturer} {device.model}",
        microvolts_per_count=_resolution(list(ours.values())),
        warnings=dict.fromkeys(_without_quotations(str(entry.message), file) for entry in caught),
    )


def _run(parser_class: type, file: EcgFile, file_format: str, correct: Callable | None):
    """Return ecgdatakit's record; everything that a parser raises on a damaged file is one EcgFileError."""
    from ecgdatakit.exceptions import ECGDataKitError, UnsupportedFormatError

    try:
        record = parser_class().parse(Path(file.path))
        if correct is not None:
            correct(record)
        return record
    except ImportError as error:
        expected = f"the package that reads it: pip install {error.name or 'ecgdatakit[dicom]'}"
        raise EcgFileError(file.path, f"a file of the format {file_format}", expected) from error
    except ECGDataKitError as error:
        defect = "not supported" if isinstance(error, UnsupportedFormatError) else "damaged"
        words = _without_quotations(str(error), file)
        found = f"a file of the format {file_format} that is {defect} ({words})"
    except (Exception, RecursionError) as error:
        found = f"a file of the format {file_format} that cannot be decoded ({type(error).__name__})"
    raise EcgFileError(file.path, found, f"a complete {file_format} file of a version that is known")


def _keep_zeros(record) -> None:
    """Make samples 0 again where a DICOM file declares 0 as the value of missing samples, as exports do.

    Taken at its word, such a file lacks a sample at each zero crossing; the same ECG as HL7 aECG has 0 there.
    """
    import pydicom

    dataset = pydicom.dcmread(record.raw_metadata["filepath"], specific_tags=["WaveformSequence"])
    signed = [group for group in dataset.WaveformSequence if group.WaveformSampleInterpretation[:1] == "S"]
    if any(group.get("WaveformPaddingValue") in (b"\0", b"\0\0", bytes(4)) for group in signed):
        warnings.warn("0 is declared to mean a missing sample, and was taken for a voltage", stacklevel=2)
        for lead in record.leads:
            lead.samples = np.nan_to_num(lead.samples, nan=0.0)


def _mark_missing_samples(record) -> None:
    """Make the missing samples of a WFDB record NaN; ecgdatakit only counts them."""
    for lead, signal in zip(record.leads, record.raw_metadata["signal_specs"], strict=True):
        if signal["fmt"] in _WFDB_MISSING:
            lead.samples = np.where(lead.samples == _WFDB_MISSING[signal["fmt"]], np.nan, lead.samples)


def _common_rate(leads: dict, file_format: str, file: EcgFile) -> float:
    """Return the sampling rate that the leads, by name, share; they must begin together, too."""
    if not leads:
        raise EcgFileError(
            file.path, f"a file of the format {file_format} without a rhythm", "a rhythm of 12 leads"
        )
    # SCP-ECG and GE MUSE have leads that were recorded one after another; ecgdatakit only notes it.
    starts = {
        tuple(lead.annotations.get(key) for key in ("start_sample", "LeadTimeOffset"))
        for lead in leads.values()
    }
    if len(starts) > 1:
        raise EcgFileError(file.path, "leads that begin at different times", "simultaneous leads")
    rates = {name: float(lead.sampling_rate) for name, lead in leads.items()}
    if len(set(rates.values())) > 1:
        raise EcgFileError(file.path, f"different rates, {by_value(rates, 'Hz')}", "one rate for all leads")
    return next(iter(rates.values()))


def _millivolts(lead, file_format: str, file: EcgFile) -> np.ndarray:
    """Return a lead's samples in mV; a unit that is missing or not a voltage is an error, never a guess."""
    from ecgdatakit.exceptions import ECGDataKitError

    unit = quote(lead.resolution_unit) if lead.resolution_unit else "counts"
    found = f"lead {quote(lead.label)} of a {file_format} file in {unit}"
    expected = "a resolution in nV, uV, mV or V"
    if lead.adc_resolution == 0:  # as in the file; where it is missing, `resolution` may have a default
        raise EcgFileError(file.path, f"{found} without a resolution", expected)
    try:
        return np.asarray(lead.to_physical().convert_units("mV").samples, np.float64)
    except (ECGDataKitError, ValueError) as error:
        raise EcgFileError(file.path, found, expected) from error


def _resolution(leads: list) -> float | None:
    """Return the microvolts per count that all leads share, or None."""
    resolutions = {lead.resolution * MICROVOLTS.get(lead.resolution_unit, np.nan) for lead in leads}
    return resolutions.pop() if len(resolutions) == 1 and np.isfinite(min(resolutions)) else None


def _without_quotations(message: str, file: EcgFile) -> str:
    """Return a message of the package without the path before it and without what it quotes."""
    name = rf"(?<!\w){re.escape(Path(file.path).name)}(?!\w)"
    message = re.sub(name, "the file", message.replace(str(file.path), "the file"))
    return _QUOTATION.sub("'…'", " ".join(message.split()))[:200]
