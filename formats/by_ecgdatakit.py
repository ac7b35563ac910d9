"""The forms that the package `ecgdatakit` decodes: MUSE, Philips, HL7 aECG, Mortara, DICOM, SCP-ECG, WFDB.

The form is found here, from the content that was checked; the package then reads the file by the parser of
that form. What it raises or warns about becomes one line without the file's own words, which could be a name.
"""

from __future__ import annotations

import importlib
import re
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from formats.ecg_file import EcgFile
from recording import MAX_SAMPLES, EcgFileError, Recording, assemble, by_value

MICROVOLTS = {"nV": 1e-3, "uV": 1.0, "mV": 1e3, "V": 1e6}
_REPEATED = re.compile(r"(.+)_[0-9]+")  # ecgdatakit calls a lead that is there twice "II" and "II_2"
_QUOTATION = re.compile(r"'[^']*'|\"[^\"]*\"")
_WFDB_RECORD = re.compile(
    r"(?P<name>[\w.-]+)(?P<segments>/[0-9]+)? +(?P<n_signals>[0-9]+)"
    r"(?: +[0-9.eE+-]+(?:/[0-9.eE+-]+(?:\([0-9.eE+-]+\))?)?(?: +(?P<n_samples>[0-9]+)(?: .*)?)?)?"
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
    known = known and next(file.root.iter("rhythm"), None) is None  # that is the study hospital's form
    return _decode(file, "Mortara ELI", "mortara_el250", "MortaraEL250Parser") if known else None


def read_dicom(file: EcgFile) -> Recording | None:
    """DICOM waveform storage: the rhythm's multiplex group."""
    known = file.content[128:132] == b"DICM"
    return _decode(file, "DICOM", "dicom_waveform", "DICOMWaveformParser") if known else None


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
    if wfdb_signal_files(file.path, file.content) is None:
        return None
    return _decode(file, "WFDB", "wfdb", "WFDBParser")


def wfdb_signal_files(path, content: bytes) -> list[Path] | None:
    """Return the signal files that a WFDB header names, or None where the content is no such header.

    Raises
    ------
    EcgFileError
        Several segments, a signal file that is not in the header's folder, or absurd sizes.
    """
    lines = [line.strip() for line in content[:100_000].decode("latin-1").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    record = _WFDB_RECORD.fullmatch(lines[0]) if lines else None
    if record is None:
        return None
    if record["segments"]:
        raise EcgFileError(path, "a WFDB record of several segments", "a record of one segment")
    n_signals, n_samples = int(record["n_signals"]), int(record["n_samples"] or 0)
    if n_signals * n_samples > MAX_SAMPLES or n_signals > 1000:
        found = f"a declared length of {n_samples:,} samples of {n_signals:,} signals"
        raise EcgFileError(path, found, f"at most {MAX_SAMPLES:,} in all")
    names = [line.split()[0] for line in lines[1 : 1 + n_signals]]
    if len(names) < n_signals or n_signals == 0:
        raise EcgFileError(path, f"{len(names)} of {n_signals} signals described", "a line for each signal")
    if any("/" in name or "\\" in name or name in ("~", ".", "..") for name in names):
        raise EcgFileError(path, "a signal file that is not beside the header", "names without a folder")
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


def _decode(file: EcgFile, form: str, module: str, parser: str) -> Recording:
    """Let one parser of ecgdatakit read the file, and bring what it gives to our contract."""
    try:
        parser_class = getattr(importlib.import_module(f"ecgdatakit.parsing.parsers.{module}"), parser)
    except ImportError as error:
        expected = f"the package that reads it: pip install {error.name or 'ecgdatakit'}"
        raise EcgFileError(file.path, f"a file of the form {form}", expected) from error
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        record = _run(parser_class, file, form)
        channels, rates = [], {}
        for lead in record.leads:
            channels.append((lead.label, _millivolts(lead, form, file)))
            rates[_REPEATED.sub(r"\1", lead.label)] = float(lead.sampling_rate)
    if not channels:
        raise EcgFileError(file.path, f"a file of the form {form} without a rhythm", "a rhythm of 12 leads")
    if len(set(rates.values())) > 1:
        raise EcgFileError(file.path, f"different rates, {by_value(rates, 'Hz')}", "one rate for all leads")
    device = record.recording.device
    return assemble(
        form,
        [(_REPEATED.sub(r"\1", label), millivolts) for label, millivolts in channels],
        next(iter(rates.values())),
        file.path,
        device=f"{device.manufacturer} {device.model}",
        microvolts_per_count=_resolution(record.leads),
        warnings=dict.fromkeys(_without_quotations(str(entry.message), file) for entry in caught),
    )


def _run(parser_class: type, file: EcgFile, form: str):
    """Return ecgdatakit's record; whatever a parser raises on a damaged file is one EcgFileError."""
    from ecgdatakit.exceptions import ECGDataKitError

    try:
        return parser_class().parse(Path(file.path))
    except ImportError as error:
        expected = f"the package that reads it: pip install {error.name or 'ecgdatakit[dicom]'}"
        raise EcgFileError(file.path, f"a file of the form {form}", expected) from error
    except ECGDataKitError as error:
        found = f"a file of the form {form} that is damaged ({_without_quotations(str(error), file)})"
    except (Exception, RecursionError) as error:
        found = f"a file of the form {form} that cannot be decoded ({type(error).__name__})"
    raise EcgFileError(file.path, found, f"a complete {form} file")


def _millivolts(lead, form: str, file: EcgFile) -> np.ndarray:
    """Return a lead's samples in mV; a unit that is missing or no voltage is an error, never a guess."""
    from ecgdatakit.exceptions import ECGDataKitError

    try:
        return np.asarray(lead.to_physical().convert_units("mV").samples, np.float64)
    except (ECGDataKitError, ValueError) as error:
        found = f"lead {lead.label} of a {form} file in {lead.resolution_unit or lead.units or 'counts'}"
        raise EcgFileError(file.path, found, "a resolution in nV, uV, mV or V") from error


def _resolution(leads: list) -> float | None:
    """Return the microvolts per count that all leads share, or None."""
    resolutions = {lead.resolution * MICROVOLTS.get(lead.resolution_unit, np.nan) for lead in leads}
    return resolutions.pop() if len(resolutions) == 1 and np.isfinite(min(resolutions)) else None


def _without_quotations(message: str, file: EcgFile) -> str:
    """Return a message of the package without the path, which stands before it, and what it quotes."""
    message = message.replace(str(file.path), "the file").replace(Path(file.path).name, "the file")
    return _QUOTATION.sub("'…'", " ".join(message.split()))[:200]
