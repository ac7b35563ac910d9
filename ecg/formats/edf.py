"""EDF and EDF+, the European Data Format (Kemp 1992 and 2003): a header of text, then records of int16.

The header is a table of fixed width, and is read here with the checks that a file from anywhere needs; date,
time, patient and what a signal does not need are not read. https://www.edfplus.info/specs/edf.html
"""

from __future__ import annotations

import re

import numpy as np

from ecg.formats.ecg_file import EcgFile
from ecg.formats.numbers import MICROVOLTS, finite_number, positive_number
from ecg.recording import (
    EcgFileError,
    PathLike,
    Recording,
    assemble,
    by_value,
    one_line,
    quote,
    standard_lead,
)

MAX_SIGNALS = 1000
MAX_EDF_SAMPLES = 7_500_000  # 12 leads at 500 Hz for 20 min
_VERSION = b"0       "
# The fields of a signal and their widths; each stands for all signals before the next begins.
_FIELDS = {"label": 16, "transducer": 80, "unit": 8, "physical minimum": 8, "physical maximum": 8}
_FIELDS |= {"digital minimum": 8, "digital maximum": 8, "prefiltering": 80, "samples": 8, "reserved": 32}
_LABEL = re.compile(r"^(?:ECG|EKG)[ _-]*(?=\S)|[ _-]*\bREF$", re.IGNORECASE)


@np.errstate(over="ignore", invalid="ignore")  # an absurd unit becomes infinity, and is refused
def read_edf(file: EcgFile) -> Recording | None:
    """Version 0 and a header length that fits; all signals that are one of the twelve leads."""
    if not is_edf(file.content):
        return None
    path, signals = file.path, _signals(file)
    record = sum(signal["n"] for signal in signals)  # samples
    n_records = _n_records(file, len(signals), record)
    duration = positive_number(_text(file.content, 244, 8), "duration of a record", path)
    start, channels, rates, units = 256 * (len(signals) + 1), [], {}, {}
    ours = [signal for signal in signals if standard_lead(signal["lead"])]
    if sum(signal["n"] for signal in ours) * n_records > MAX_EDF_SAMPLES:
        raise EcgFileError(path, "an EDF of hours", f"at most {MAX_EDF_SAMPLES:,} samples of the leads")
    samples = np.frombuffer(file.content, "<i2", n_records * record, start).reshape(n_records, record)
    for signal in signals:
        if signal not in ours:
            if signal["label"].lower() != "edf annotations":
                channels.append((signal["lead"], np.empty(0)))
            continue
        lead, counts = signal["lead"], samples[:, signal["first"] : signal["first"] + signal["n"]].ravel()
        rates[lead] = signal["n"] / duration
        units[lead], offset = _scale(signal, path)
        channels.append((lead, (counts * units[lead] + offset) / 1000))
    if not ours:
        names = ", ".join(quote(signal["label"]) for signal in signals[:12])
        raise EcgFileError(path, f"an EDF of the signals {names}", "the leads of a 12-lead ECG")
    if len(set(rates.values())) > 1:
        raise EcgFileError(path, f"different rates, {by_value(rates, 'Hz')}", "one rate for all leads")
    resolution = next(iter(units.values())) if len(set(units.values())) == 1 else None
    return assemble("EDF", channels, next(iter(rates.values())), path, microvolts_per_count=resolution)


def is_edf(content: bytes) -> bool:
    """Whether a file is an EDF: version 0, and a header length and a number of signals that are numbers."""
    length, n_signals = (content[start : start + size].strip() for start, size in ((184, 8), (252, 4)))
    known = content.startswith(_VERSION) and length.isdigit() and n_signals.isdigit()
    return known and int(length) % 256 == 0


def _signals(file: EcgFile) -> list[dict]:
    """Return each signal's fields, its lead's name, and where its samples begin in a record."""
    content, path, n_signals = file.content, file.path, int(file.content[252:256])
    if content[192:197] == b"EDF+D":
        raise EcgFileError(path, "a discontinuous EDF+ (EDF+D)", "a continuous one")
    if not 1 <= n_signals <= MAX_SIGNALS:
        raise EcgFileError(path, f"an EDF of {n_signals:,} signals", f"1 to {MAX_SIGNALS:,}")
    if int(content[184:192]) != 256 * (n_signals + 1) or len(content) < 256 * (n_signals + 1):
        found = f"an EDF header of {len(content[: int(content[184:192])]):,} bytes for {n_signals} signals"
        raise EcgFileError(path, found, f"{256 * (n_signals + 1):,}: a complete file")
    columns, start = {}, 256
    for name, width in _FIELDS.items():
        columns[name] = [_text(content, start + width * number, width) for number in range(n_signals)]
        start += width * n_signals
    signals, first = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], 0
    for signal in signals:
        if not signal["samples"].isdecimal():
            found = f"{quote(signal['samples'])} samples of {quote(signal['label'])} in a record"
            raise EcgFileError(path, found, "a whole number")
        signal |= {
            "n": int(signal["samples"]),
            "first": first,
            "lead": _LABEL.sub("", signal["label"]).strip(),
        }
        first += signal["n"]
    return signals


def _n_records(file: EcgFile, n_signals: int, record: int) -> int:
    """Return how many records there are; -1 in the header leaves it to the file's length."""
    declared = _text(file.content, 236, 8)
    there = (len(file.content) - 256 * (n_signals + 1)) // (2 * record) if record else 0
    if declared == "-1":
        return there
    if not declared.isdecimal() or int(declared) == 0:
        raise EcgFileError(file.path, f"{quote(declared)} records in an EDF", "at least one")
    if int(declared) > there:
        found = f"{there:,} of {int(declared):,} records that the EDF declares"
        raise EcgFileError(file.path, found, "a complete file")
    return int(declared)


def _scale(signal: dict, path: PathLike) -> tuple[float, float]:
    """Return µV per count of a signal, and the µV of count 0."""
    unit = MICROVOLTS.get(signal["unit"].lower())
    if unit is None:
        found = f"lead {quote(signal['label'])} in {quote(signal['unit']) if signal['unit'] else 'no unit'}"
        raise EcgFileError(path, found, "nV, uV, mV or V")
    ends = [f"{kind} {end}" for kind in ("physical", "digital") for end in ("minimum", "maximum")]
    low, high, least, most = (
        finite_number(signal[end], f"{end} of lead {one_line(signal['lead'], 16)}", path) for end in ends
    )
    if low == high or least == most:
        found = f"a range of no width, {low:g} to {high:g} for {least:g} to {most:g}"
        raise EcgFileError(path, f"{found}, in lead {quote(signal['lead'])}", "two different ends")
    per_count = (high - low) / (most - least) * unit
    return per_count, low * unit - least * per_count


def _text(content: bytes, start: int, width: int) -> str:
    return content[start : start + width].decode("latin-1").strip(" \0")
