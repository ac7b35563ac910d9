"""WFDB: what describes the samples, of the signal files those with one of the twelve leads."""

from __future__ import annotations

import re

from ecg.formats.ecg_file import EcgFile
from ecg.formats.signal_only.choice import SignalOnly
from ecg.recording import standard_lead

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
FIRST_DIFFERENCES = "8"  # the storage format that needs the initial value


def wfdb_signal(file: EcgFile, signal_files: dict[str, bytes]) -> SignalOnly:
    """Keep rate and length of the record, and file, format, gain and zero of each signal that is read.

    Parameters
    ----------
    signal_files : contents by the names that the header has; the signals of no other are kept.
    """
    record, *lines = header_lines(file.content)
    number_of = {name: number for number, name in enumerate(signal_files)}
    signals = [line.split(None, 8) for line in lines if line.split()[0] in number_of]
    header = [" ".join(["ecg", str(len(signals)), *record.split()[2:4]])]
    for name, *fields in signals:
        header.append(" ".join([f"{number_of[name]}.dat", *_needed(fields)]))
    files = {"ecg.hea": ("\n".join(header) + "\n").encode()}
    files |= {f"{number_of[name]}.dat": content for name, content in signal_files.items()}
    return SignalOnly(files, names=[fields[8] if len(fields) == 9 else "" for fields in signals])


def files_of_the_twelve(content: bytes) -> set[str]:
    """Return the names of the files that hold one of the twelve leads; of all where none does."""
    signals = [line.split(None, 8) for line in header_lines(content)[1:]]
    ours = {fields[0] for fields in signals if len(fields) == 9 and standard_lead(fields[8])}
    return ours or {fields[0] for fields in signals}


def header_lines(content: bytes) -> list[str]:
    """Return the lines of a header that are no comments: that of the record, then one per signal."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    record = lines[0].split() if lines else []
    n_signals = int(record[1]) if len(record) > 1 and record[1].isdecimal() else 0
    return lines[: 1 + n_signals]


def _needed(fields: list[str]) -> list[str]:
    """Return format, gain, resolution, zero, first sample and checksum, as far as they are there and of use.

    The resolution in bits is of none, nor is the zero where the gain has a baseline, nor the first sample but
    for differences. A checksum is kept of a lead of ours, where it is a number.
    """
    storage, gain, _, zero, first, checksum = [*fields, *[""] * 6][:6]
    if not gain:
        return fields[:1]
    if "(" in gain and not _WHOLE.fullmatch(zero):
        zero = "0"
    if storage.partition("x")[0] != FIRST_DIFFERENCES and not _WHOLE.fullmatch(first):
        first = "0"
    ours = len(fields) == 8 and standard_lead(fields[7])
    return [
        storage,
        gain,
        "0",
        zero or "0",
        first,
        *([checksum] if ours and _WHOLE.fullmatch(checksum) else []),
    ]
