"""`Recording`, what every file format is read into, and `EcgFileError`, for files that cannot be read.

Every reader in ``formats/`` ends in ``assemble``, which brings lead names, missing leads, gaps and lengths to
the one contract; no reader does any of that by itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
RECORDED_LEADS = frozenset(LEADS) - {"III", "aVR", "aVL", "aVF"}  # these follow from I and II
SAMPLING_RATE = 500  # Hz, of a signal at rest and of all that models see
N_SAMPLES = 5000  # 10 s, at rest
MILLIVOLTS = 1e-3  # mV per microvolt, the unit at rest
MIN_SECONDS = 8.0  # shorter recordings are refused
MAX_GAP_SECONDS = 0.05  # of missing samples that are interpolated; a longer gap could hide a QRS complex
PLAUSIBLE_RATES = (50, 50_000)  # Hz; beyond is a mistake in the file, and resampling could exhaust memory
MAX_SAMPLES = 50_000_000  # all leads together; an ECG of 10 s has 60,000, one of an hour at 1 kHz 43 million

PathLike = str | os.PathLike

_STANDARD_LEADS = {lead.lower(): lead for lead in LEADS}
_LEAD_PREFIX = re.compile(r"(?:mdc_ecg_lead_|(?:ecg )?lead |ecg )", re.IGNORECASE)


class EcgFileError(ValueError):
    """An ECG file that cannot be used; the message is one line of bounded length for any content.

    Parameters
    ----------
    path : str or path-like
    found, expected : str
        May quote the file: control characters are escaped and long text is cut.
    """

    def __init__(self, path: PathLike, found: str, expected: str):
        self.path, self.found, self.expected = os.fsdecode(path), found, expected
        name = one_line(self.path[-300:])
        super().__init__(f"{name}: found {one_line(found)}; expected {one_line(expected)}")

    def __reduce__(self):
        # By default only the message is pickled, and the parent process could not rebuild the error from it.
        return EcgFileError, (self.path, self.found, self.expected)


def one_line(text: str, limit: int = 400) -> str:
    """Return `text` cut to `limit` characters, with all escaped that could break or disguise a line."""
    characters = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: limit + 1])
    escaped = "".join(characters)
    return escaped if len(escaped) <= limit else escaped[: limit - 1] + "…"


def quote(text: str) -> str:
    """Return the beginning of a file's own words, for an error."""
    return f"'{one_line(text, 40)}'"


@dataclass(frozen=True, eq=False)
class Recording:
    """What one file contains.

    Attributes
    ----------
    signal : float32 ndarray of shape (12, n_samples), in mV, finite, leads in the order of `LEADS`
    sampling_rate : float, in Hz
    metadata : dict
        file_format : the row of `formats.FORMATS` that read the file.
        device : maker and model of the electrocardiograph, or "".
        microvolts_per_count : resolution of the file, or None where it has none or several.
        leads_in_file : how many channels the file has; what is not among `LEADS` is left out.
        derived : the limb leads that were computed from I and II because the file lacks them.
        gap_samples : missing samples that were interpolated, over all leads.
        warnings : sentences about what the reader could not take at its word, such as a wrong checksum.
        Never a patient's name, identifier or birth date.
    """

    signal: np.ndarray
    sampling_rate: float
    metadata: dict = field(default_factory=dict)


def standard_lead(name: str) -> str | None:
    """Return the lead that a name means, or None: "MDC_ECG_LEAD_AVR", "avr" and "Lead aVR" are aVR."""
    return _STANDARD_LEADS.get(_LEAD_PREFIX.sub("", name.strip(), count=1).strip().lower())


@np.errstate(over="ignore", invalid="ignore")  # what becomes infinite or NaN is refused with a clear error
def assemble(
    file_format: str,
    channels: Iterable[tuple[str, np.ndarray]],
    sampling_rate: float,
    path: PathLike,
    *,
    device: str = "",
    microvolts_per_count: float | None = None,
    warnings: Iterable[str] = (),
) -> Recording:
    """Put together what every format must give: twelve leads of one length, 8 s or more, finite.

    Parameters
    ----------
    file_format : str
    channels : pairs of a name as the file has it and an ndarray of shape (n_samples,), in mV
        NaN is a missing sample. What is not one of the twelve leads is left out. III, aVR, aVL
        and aVF are derived where they are missing.
    sampling_rate : float, in Hz
    path : str or path-like
        For errors.
    device, microvolts_per_count, warnings
        See `Recording`.

    Raises
    ------
    EcgFileError
        A lead is missing or occurs twice, lengths differ, too short, too long, a gap too long, not finite.
    """
    lowest, highest = PLAUSIBLE_RATES
    if not lowest <= sampling_rate <= highest:
        raise EcgFileError(path, f"a sampling rate of {sampling_rate:g} Hz", f"{lowest:g} to {highest:g} Hz")
    channels = list(channels)
    millivolts = _by_lead(channels, path)
    derived = _derive_limb_leads(millivolts)
    missing = [lead for lead in LEADS if lead not in millivolts]
    if missing:
        present = [lead for lead in LEADS if lead in millivolts]
        found = f"{len(present)} leads ({', '.join(present)}), {', '.join(missing)} missing"
        raise EcgFileError(path, found, ", ".join(LEADS))
    _check_lengths(millivolts, sampling_rate, path)
    signal = np.stack([np.asarray(millivolts[lead]) for lead in LEADS]).astype(np.float32)
    gap_samples = _fill_gaps(signal, sampling_rate, path)
    finite = np.isfinite(signal).all(axis=1)
    if not finite.all():
        found = f"a value that is not finite in lead {LEADS[finite.argmin()]}"
        raise EcgFileError(path, found, "finite values in mV")
    metadata = {
        "file_format": file_format,
        "device": one_line(" ".join(device.split()), 60),
        "microvolts_per_count": microvolts_per_count,
        "leads_in_file": len(channels),
        "derived": derived,
        "gap_samples": gap_samples,
        "warnings": tuple(one_line(warning, 200) for warning in warnings),
    }
    return Recording(signal, float(sampling_rate), metadata)


def by_value(values: Mapping[str, float], unit: str) -> str:
    """Return text such as "5000 samples in I, II; 4999 samples in V3"."""
    leads_by_value: dict[float, list[str]] = {}
    for lead, value in values.items():
        leads_by_value.setdefault(value, []).append(lead)
    return "; ".join(f"{value:g} {unit} in {', '.join(leads)}" for value, leads in leads_by_value.items())


def _by_lead(channels: list[tuple[str, np.ndarray]], path: PathLike) -> dict[str, np.ndarray]:
    millivolts = {}
    for name, values in channels:
        lead = standard_lead(name)
        if lead in millivolts:
            raise EcgFileError(path, f"lead {lead} twice", "each lead once")
        if lead is not None:
            millivolts[lead] = values
    return millivolts


def _derive_limb_leads(millivolts: dict[str, np.ndarray]) -> tuple[str, ...]:
    """Add those of III, aVR, aVL, aVF that are missing, by Einthoven's and Goldberger's equations."""
    if not {"I", "II"} <= millivolts.keys() or len(millivolts["I"]) != len(millivolts["II"]):
        return ()
    one, two = (np.asarray(millivolts[lead], np.float64) for lead in ("I", "II"))
    equations = {"III": two - one, "aVR": -(one + two) / 2, "aVL": one - two / 2, "aVF": two - one / 2}
    derived = tuple(lead for lead in equations if lead not in millivolts)
    millivolts.update({lead: equations[lead] for lead in derived})
    return derived


def _check_lengths(millivolts: dict[str, np.ndarray], sampling_rate: float, path: PathLike) -> None:
    lengths = {lead: len(millivolts[lead]) for lead in LEADS}
    if len(set(lengths.values())) > 1:
        found = f"leads of different lengths, {by_value(lengths, 'samples')}"
        raise EcgFileError(path, found, "as many samples in every lead")
    n_samples = lengths["I"]
    if n_samples < MIN_SECONDS * sampling_rate - 1e-6:
        found = f"{n_samples} samples at {sampling_rate:g} Hz ({n_samples / sampling_rate:.4g} s)"
        raise EcgFileError(path, found, f"at least {MIN_SECONDS:g} s")
    if n_samples * len(LEADS) > MAX_SAMPLES:
        raise EcgFileError(path, f"{n_samples:,} samples per lead", f"at most {MAX_SAMPLES // len(LEADS):,}")


def _fill_gaps(signal: np.ndarray, sampling_rate: float, path: PathLike) -> int:
    """Interpolate runs of NaN in place, those at an end from the nearest value; return their number."""
    longest = max(1, int(MAX_GAP_SECONDS * sampling_rate))
    n_filled = 0
    for lead, row in zip(LEADS, signal, strict=True):
        missing = np.isnan(row)
        if not missing.any():
            continue
        edges = np.diff(missing.astype(np.int8), prepend=0, append=0)
        lengths = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
        if lengths.max() > longest:
            found = f"{lengths.max()} consecutive samples missing in lead {lead}"
            expected = f"gaps of at most {MAX_GAP_SECONDS * 1000:g} ms ({longest} samples)"
            raise EcgFileError(path, found, expected)
        row[missing] = np.interp(np.flatnonzero(missing), np.flatnonzero(~missing), row[~missing])
        n_filled += int(missing.sum())
    return n_filled
