"""The formats that the package `ecgdatakit` decodes: MUSE, Philips, HL7 aECG, Mortara, DICOM, SCP-ECG, WFDB.

The format is found here, from the checked content; the package's parser for it then reads a copy with only
what the signal needs (`signal_only`). What it raises or warns about becomes one line without the file's own
words.
"""

from __future__ import annotations

import importlib
import os
import re
import struct
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ecg.formats.ecg_file import EcgFile, read_bytes
from ecg.formats.limits import check_limits
from ecg.formats.numbers import MICROVOLTS
from ecg.formats.signal_only.choice import SignalOnly
from ecg.formats.signal_only.dicom import dicom_signal
from ecg.formats.signal_only.scp import scp_signal
from ecg.formats.signal_only.wfdb import files_of_the_twelve, wfdb_signal
from ecg.formats.signal_only.xml import aecg_signal, mortara_signal, muse_signal, philips_signal
from ecg.recording import (
    MAX_SAMPLES,
    EcgFileError,
    Recording,
    assemble,
    besides,
    by_value,
    hindrance,
    quote,
    standard_lead,
)

MAX_WFDB_BYTES = 15_000_000  # 12 leads of 16 bits at 500 Hz for 20 min
MAX_WFDB_HEADER_BYTES = 100_000
_REPEATED = re.compile(r"(.+)_[0-9]+")  # ecgdatakit calls a lead that occurs twice "II" and "II_2"
# What `repr` quotes, with its escapes. An apostrophe within a word quotes nothing; an open end is cut off.
_QUOTATION = re.compile(r"""(?<![^\W_b])b?(?:'(?:[^'\\]|\\.)*(?:'|$)|"(?:[^"\\]|\\.)*(?:"|$))""")
_COPY = re.compile(r"(?:\becg-\w{1,20}[/\\])?\becg\.(?:xml|dcm|scp|hea)\b")  # a copy of `signal_only`
_MESSAGE = 1000  # characters of a message that are looked at; it may quote the whole of the file
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
    known = _root(file) == "restingecg"
    return _decode(file, "GE MUSE", "ge_muse_xml", "GEMuseXMLParser", muse_signal) if known else None


def read_philips(file: EcgFile) -> Recording | None:
    """Root `restingecgdata`, versions 1.03 to 1.04.01; XLI-compressed base64."""
    known = _root(file) == "restingecgdata"
    return _decode(file, "Philips", "sierra_xml", "SierraXMLParser", philips_signal) if known else None


def read_aecg(file: EcgFile) -> Recording | None:
    """Root `AnnotatedECG`; the rhythm series, never the representative beat."""
    known = _root(file) == "annotatedecg"
    return _decode(file, "HL7 aECG", "hl7_aecg", "HL7aECGParser", aecg_signal) if known else None


def read_mortara(file: EcgFile) -> Recording | None:
    """Root `ECG` with `CHANNEL` elements of base64."""
    known = _root(file) == "ecg" and next(file.root.iter("channel"), None) is not None
    known = known and next(file.root.iter("rhythm"), None) is None  # that is the study hospital's format
    return (
        _decode(file, "Mortara ELI", "mortara_el250", "MortaraEL250Parser", mortara_signal) if known else None
    )


def read_dicom(file: EcgFile) -> Recording | None:
    """DICOM waveform storage: the rhythm's multiplex group."""
    known = file.content[128:132] == b"DICM"
    if not known:
        return None
    return _decode(file, "DICOM", "dicom_waveform", "DICOMWaveformParser", dicom_signal, _keep_zeros)


def read_scp(file: EcgFile) -> Recording | None:
    """SCP-ECG (EN 1064): section 0 comes first, has a whole number of pointers, and begins at byte 7."""
    content = file.content
    if len(content) < 32:
        return None
    size, section, length = struct.unpack_from("<I2xHI", content, 2)
    known = section == 0 and length >= 26 and (length - 16) % 10 == 0 and size >= 6 + length
    known = known and struct.unpack_from("<H4xI", content, 22) == (0, 7)
    return _decode(file, "SCP-ECG", "scp_ecg", "SCPECGParser", scp_signal) if known else None


def read_wfdb(file: EcgFile) -> Recording | None:
    """WFDB: a header (.hea) of one segment, its signal files beside it."""
    signal_files = wfdb_signal_files(file.path, file.content)
    if signal_files is None:
        return None
    if Path(file.path).suffix.lower() != ".hea":  # ecgdatakit would read the file of that name instead
        raise EcgFileError(file.path, "a WFDB header under another name", "a name that ends in .hea")
    names, contents = files_of_the_twelve(file.content), {}
    for signal_file in (path for path in signal_files if path.name in names):
        try:
            contents[signal_file.name] = read_bytes(as_it_lies(signal_file))
        except EcgFileError as error:
            found = f"{error.found} in place of its signal file {signal_file.name}"
            raise type(error)(file.path, found, error.expected) from error
        if sum(map(len, contents.values())) > MAX_WFDB_BYTES:
            found = f"signal files of more than {MAX_WFDB_BYTES:,} bytes in all"
            raise EcgFileError(file.path, found, "an ECG of some minutes at most")
    signal_of = partial(wfdb_signal, signal_files=contents)
    return _decode(file, "WFDB", "wfdb", "WFDBParser", signal_of, _finish_wfdb)


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


def as_it_lies(path: Path) -> Path:
    """Return the path of the one file whose name differs in capitals at most, or the path as it is.

    Headers from systems that do not tell capitals apart name ``r.dat`` where ``R.DAT`` lies beside them.
    """
    if path.exists():
        return path
    try:
        alike = [name for name in os.listdir(path.parent) if name.casefold() == path.name.casefold()]
    except OSError:
        return path
    return path.with_name(alike[0]) if len(alike) == 1 else path


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
    file: EcgFile,
    file_format: str,
    module: str,
    parser: str,
    signal_of: Callable[[EcgFile], SignalOnly],
    correct: Callable | None = None,
) -> Recording:
    """Let one parser of ecgdatakit read the signal, `correct` the record, and bring it to our contract."""
    check_limits(file, file_format)
    try:
        parser_class = getattr(importlib.import_module(f"ecgdatakit.parsing.parsers.{module}"), parser)
    except ImportError as error:
        raise hindrance(file.path, error) from error
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        signal, record = _run(parser_class, file, file_format, signal_of, correct)
        labels = [_REPEATED.sub(r"\1", lead.label) for lead in record.leads]
        # A damaged file may describe more or fewer channels than it has.
        names = [*(signal.names or []), *labels[len(signal.names or []) :]][: len(labels)]
        # What is not one of the twelve, such as V4R or a pressure, is left out, in any unit and at any rate.
        ours = {name: lead for name, lead in zip(names, record.leads, strict=True) if standard_lead(name)}
        for name, lead in zip(names, record.leads, strict=True):
            lead.label = name  # in the words of the file, for errors
        channels = [
            (name, _millivolts(lead, file_format, file) if name in ours else np.empty(0))
            for name, lead in zip(names, record.leads, strict=True)
        ]
        channels += [(name, np.empty(0)) for name in signal.other_leads]
    rate = _common_rate(ours, [name for name, _ in channels], file_format, file)
    device = record.recording.device
    messages = [*signal.warnings, *(_without_quotations(str(entry.message), file) for entry in caught)]
    return assemble(
        file_format,
        channels,
        signal.sampling_rate or rate,
        file.path,
        device=f"{device.manufacturer} {device.model}",
        microvolts_per_count=_resolution(list(ours.values())),
        warnings=dict.fromkeys(messages),
    )


def _run(
    parser_class: type,
    file: EcgFile,
    file_format: str,
    signal_of: Callable[[EcgFile], SignalOnly],
    correct: Callable | None,
) -> tuple[SignalOnly, Any]:
    """Return what the parser got, and its record; everything that it raises is one EcgFileError.

    The parsers read from the disk: they get a folder of temporary files, which is gone afterwards.
    """
    from ecgdatakit.exceptions import ECGDataKitError, UnsupportedFormatError

    try:
        signal = signal_of(file)
        with tempfile.TemporaryDirectory(prefix="ecg-") as folder:
            for name, content in signal.files.items():
                Path(folder, name).write_bytes(content)
            record = parser_class().parse(Path(folder, next(iter(signal.files))))
            if correct is not None:
                correct(record)
        return signal, record
    except EcgFileError:
        raise
    except (ImportError, MemoryError, OSError) as error:
        raise hindrance(file.path, error) from error
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


def _finish_wfdb(record) -> None:
    """Make missing samples NaN, which ecgdatakit only counts, and rates exact, which it rounds."""
    for lead, signal in zip(record.leads, record.raw_metadata["signal_specs"], strict=True):
        if signal["fmt"] in _WFDB_MISSING:
            lead.samples = np.where(lead.samples == _WFDB_MISSING[signal["fmt"]], np.nan, lead.samples)
        lead.sampling_rate = record.raw_metadata["sampling_frequency"] * signal["samples_per_frame"]


def _common_rate(leads: dict, names: Sequence[str], file_format: str, file: EcgFile) -> float:
    """Return the sampling rate that the leads, by name, share; they must begin together, too."""
    if not leads:
        found = f"a file of the format {file_format} without a rhythm{besides(names)}"
        raise EcgFileError(file.path, found, "a rhythm of 12 leads")
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
    resolutions = {lead.resolution * MICROVOLTS.get(lead.resolution_unit.lower(), np.nan) for lead in leads}
    return resolutions.pop() if len(resolutions) == 1 and np.isfinite(min(resolutions)) else None


def _without_quotations(message: str, file: EcgFile) -> str:
    """Return a message of the package without the path in it and without what it quotes."""
    message = message.replace(str(file.path), "the file").replace(tempfile.gettempdir() + os.sep, "")
    message = _COPY.sub("the file", " ".join(message.split())[:_MESSAGE])
    return _QUOTATION.sub("'…'", message)[:200]
