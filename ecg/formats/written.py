"""The two forms in which ECGs are written: WFDB, and the study hospital's. Only leads, rate and signal.

    wfdb_files(recording, "ecg-0001")        # {"ecg-0001.hea": …, "ecg-0001.dat": …}, the files' bytes
    hospital_files(recording, "ecg-0001")    # {"ecg-0001.xml": …}

Both hold whole microvolts. What else a `Recording` says of its file (device, format, warnings) is left out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ecg.formats.hospital import hospital_xml
from ecg.recording import LEADS, MILLIVOLTS, EcgFileError, Recording

MAX_WFDB_MV = 32.767  # of format 16 at 1 µV a count; -32,768 means a missing sample
MAX_HOSPITAL_MV = 300.0  # the electrode offset that an electrocardiograph must bear, IEC 60601-2-25


def wfdb_files(recording: Recording, name: str) -> dict[str, bytes]:
    """Return a WFDB header and its signal file (format 16, 1 µV a count), by file name.

    Raises
    ------
    EcgFileError : beyond ±32.767 mV.
    """
    header, signal_file = f"{name}.hea", f"{name}.dat"
    counts = _microvolts(recording, header, MAX_WFDB_MV, "; the form hospital holds more")
    lines = [f"{name} {len(LEADS)} {_rate(recording)} {counts.shape[1]}"]
    for lead, row in zip(LEADS, counts, strict=True):
        checksum = int(row.sum().astype(np.int16))  # the sum modulo 2¹⁶, as WFDB has it
        lines.append(f"{signal_file} 16 1000(0)/mV 16 0 {row[0]} {checksum} 0 {lead}")
    samples = np.ascontiguousarray(counts.T, "<i2").tobytes()
    return {signal_file: samples, header: ("\n".join(lines) + "\n").encode("ascii")}


def hospital_files(recording: Recording, name: str) -> dict[str, bytes]:
    """Return a file of the study hospital's form, 1 µV a count, by its name.

    Raises
    ------
    EcgFileError : beyond ±300 mV.
    """
    file = f"{name}.xml"
    counts = _microvolts(recording, file, MAX_HOSPITAL_MV, " (is the file's unit right?)")
    text = hospital_xml(counts * MILLIVOLTS, sampling_rate=_rate(recording), mv_per_count=MILLIVOLTS)
    return {file: text.encode("iso-8859-1")}


WRITTEN_FORMS: dict[str, Callable[[Recording, str], dict[str, bytes]]] = {
    "wfdb": wfdb_files,
    "hospital": hospital_files,
}


def _rate(recording: Recording) -> float | int:
    """Return the sampling rate in Hz, without a point where it is whole."""
    rate = recording.sampling_rate
    return int(rate) if rate == int(rate) else rate


def _microvolts(recording: Recording, file: str, most: float, hint: str) -> np.ndarray:
    """Return the signal in whole microvolts, int64 (12, n_samples), none beyond ``most`` mV."""
    microvolts = np.rint(recording.signal.astype(np.float64) / MILLIVOLTS)
    peaks = np.abs(microvolts).max(axis=1) * MILLIVOLTS
    lead = int(peaks.argmax())
    if peaks[lead] > most + MILLIVOLTS / 2:
        raise EcgFileError(file, f"{peaks[lead]:.6g} mV in lead {LEADS[lead]}", f"at most {most:g} mV{hint}")
    return microvolts.astype(np.int64)
