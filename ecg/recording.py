"""`Recording`, what every file format is read into, and `EcgFileError`, for files that cannot be read.

Every reader in ``formats/`` ends in ``assemble``, which brings lead names, missing leads, gaps and lengths to
the one contract; no reader does any of that by itself.
"""

from __future__ import annotations

import errno
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
RECORDED_LEADS = frozenset(LEADS) - {"III", "aVR", "aVL", "aVF"}  # these follow from I and II
SAMPLING_RATE = 500  # Hz, of a signal at rest and of all that models see
N_SAMPLES = 5000  # 10 s, at rest
MILLIVOLTS = 1e-3  # mV per microvolt, the unit at rest
MIN_SECONDS = 8.0  # shorter recordings are refused, unless `at_least` says otherwise
LEAST_SECONDS = 3.0  # and always what is shorter than this: it may be a median beat
LEAST_LEADS = 6  # of twelve; training that drops each with probability 0.2 shows fewer in 4 of 1,000 ECGs
PULSE_MILLIVOLTS, PULSE_SECONDS = (0.4, 2.1), (0.05, 0.6)  # of calibration; 1 mV for 0.2 s is usual
FLANK_SECONDS = 0.05  # of a pulse, in which it leaves or reaches its level; cut off with it
MAX_GAP_SECONDS = 0.05  # of missing samples that are interpolated; a longer gap could hide a QRS complex
PLAUSIBLE_RATES = (50, 50_000)  # Hz; beyond is a mistake in the file, and resampling could exhaust memory
MAX_SAMPLES = 50_000_000  # all leads together; an ECG of 10 s has 60,000, one of an hour at 1 kHz 43 million

PathLike = str | os.PathLike

_LIMB = {"i": "I", "ii": "II", "iii": "III", "1": "I", "2": "II", "3": "III"}
MAX_LEAD_NAME = 60  # characters; a longer one names no lead
# What stands before or after a lead's name: a nomenclature, the word for lead in other languages, a unit.
# No text is one of these in two ways but by the word before "ecg_lead", so that a search stays short.
_NOMENCLATURE = r"(?:ecg|ekg)[_ ](?:lead|elec[_ ]potl)"
_BEFORE = (
    rf"(?:(?:[a-z]+[_ ])?{_NOMENCLATURE}|lead|(?!{_NOMENCLATURE})(?:ecg|ekg)|ableitung|abl|d[eé]rivation|"
    r"derivaci[oó]n|deriva[cç][aã]o|derivazione|afleiding|отведение|第|导联|導聯|誘導)"
)
_AFTER = r"(?:lead|导联|導聯|誘導|[\[(](?:[nuμm]?v)[\])]|,? ?[nuμm]v)"
_LEAD_NAME = re.compile(
    rf"(?:{_BEFORE}(?:-|[ _.:]*))*"  # "Lead -aVR" is not aVR
    r"(?:(?:[dl][ _.-]?)?(?P<limb>i{1,3})|[dl][ _.-]?(?P<number>[123])|"
    r"a[ _.-]?v[ _.-]?(?P<augmented>[rlf])|[vc][ _.-]?0?(?P<chest>[1-6]))"
    rf"[ _]*{_AFTER}?"
)
_NUMBERED_LIMB_LEAD = re.compile(r"lead[ _-]?(?P<number>[123])")
# Names of other leads that an error may quote: a patient's name does not look so.
_LIKE_A_LEAD = re.compile(r"(?:[A-Za-z]{0,4}[ _.-]?[0-9]{1,2}[A-Za-z]?|-?aV[RLF]|ML[IV]+|[XYZ])")


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
        return type(self), (self.path, self.found, self.expected)


class EcgAccessError(EcgFileError):
    """An ECG file that could not be read for a reason that does not lie in it, and that can be mended.

    A package that is not installed, a permission, an input/output error, too many open files, no memory: it
    says nothing about the file, and must not be remembered as a verdict on it.
    """


def hindrance(path: PathLike, error: BaseException) -> EcgAccessError | None:
    """Return the `EcgAccessError` that an error from outside the file is, or None where it is another."""
    if isinstance(error, ImportError):
        package = (error.name or "ecgdatakit[dicom]").partition(".")[0]
        found = f"no package {package} that can be imported, which its format needs"
        return EcgAccessError(path, found, f"it installed: pip install {package}")
    if isinstance(error, MemoryError):
        return EcgAccessError(path, "no memory left to read it", "more memory, or fewer readers: --workers 1")
    if isinstance(error, OSError):
        reason = error.strerror or type(error).__name__
        return EcgAccessError(path, f"nothing readable ({reason})", _MENDED.get(error.errno, _MENDED[None]))
    return None


# What has to be so that a file can be read, by the number of the error.
_MENDED = {
    None: "a readable ECG file: once the cause is mended, start again",
    errno.ENOENT: "a file that is there, and a link that leads to one",
    errno.EACCES: "permission to read it (chmod, or another account)",
    errno.EPERM: "permission to read it (chmod, or another account)",
    errno.EIO: "a disk or network share that answers: check it, and start again",
    errno.ESTALE: "a disk or network share that answers: check it, and start again",
    errno.EMFILE: "fewer open files, or a higher limit (ulimit -n), or --workers 1",
    errno.ENFILE: "fewer open files on this computer",
    errno.ENOMEM: "more memory, or fewer readers: --workers 1",
    errno.ENOSPC: "room in the folder of temporary files (TMPDIR)",
    errno.ELOOP: "a link that leads to a file",
}


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
        derived : the limb leads that were computed from two others because the file lacks them.
        missing : the leads that the file lacks and that do not follow from others; zeros in `signal`.
        gap_samples : missing samples that were interpolated, over all leads.
        warnings : sentences about what the reader could not take at its word, such as a wrong checksum.
        Never a patient's name, identifier or birth date.
    """

    signal: np.ndarray
    sampling_rate: float
    metadata: dict = field(default_factory=dict)


def standard_lead(name: str) -> str | None:
    """Return the lead that a name means in any usual spelling, or None.

    "MDC_ECG_LEAD_AVR", "avr", "aV-R" and "Lead aVR" are aVR; "DII", "D2", "Ⅱ" and "Derivación II" are II.
    What is another signal, such as -aVR, V4R, MLII or the difference "I-II", is no standard lead.
    """
    name = name.strip()
    if len(name) > MAX_LEAD_NAME:
        return None
    name = unicodedata.normalize("NFKC", name).strip().casefold()
    match = _LEAD_NAME.fullmatch(name) or _NUMBERED_LIMB_LEAD.fullmatch(name)
    if match is None:
        return None
    parts = match.groupdict()
    if limb := parts.get("limb") or parts.get("number"):
        return _LIMB[limb]
    return f"aV{parts['augmented'].upper()}" if parts["augmented"] else f"V{parts['chest']}"


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

    Where `at_least` accepts fewer leads, those that are missing are zeros.

    Parameters
    ----------
    file_format : str
    channels : pairs of a name as the file has it and an ndarray of shape (n_samples,), in mV
        NaN is a missing sample. What is not one of the twelve leads is left out. III, aVR, aVL
        and aVF are derived from I and II where they are missing.
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
    millivolts = _without_calibration(_by_lead(channels, path), sampling_rate)
    derived = _derive_limb_leads(millivolts)
    missing = tuple(lead for lead in LEADS if lead not in millivolts)
    if len(missing) > len(LEADS) - _accepted.get().leads:
        others = besides([name for name, _ in channels if standard_lead(name) is None])
        raise _missing_leads(missing, others, path)
    n_samples = _common_length(millivolts, sampling_rate, path)
    millivolts.update({lead: np.zeros(n_samples) for lead in missing})
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
        "missing": missing,
        "gap_samples": gap_samples,
        "warnings": tuple(one_line(warning, 200) for warning in warnings),
    }
    return Recording(signal, float(sampling_rate), metadata)


def besides(names: list[str]) -> str:
    """Return what other channels a file has, for an error; only names that can be nothing but a lead's."""
    if not names:
        return ""
    shown = [one_line(name.strip(), 12) for name in names if _LIKE_A_LEAD.fullmatch(name.strip())][:12]
    unnamed = len(names) - len(shown)
    words = [*shown, f"{unnamed} of {'other names' if unnamed > 1 else 'another name'}"] if unnamed else shown
    return f"; other channels: {', '.join(words)}"


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


def _without_calibration(millivolts: dict[str, np.ndarray], sampling_rate: float) -> dict[str, np.ndarray]:
    """Return the leads without the first or last second, where a calibration pulse reaches into it.

    Philips stores one in the eleventh second. It is the same in every lead, which no ECG can be: by
    Einthoven's law I, II and III are equal only where they are 0. What is left has whole seconds where the
    pulse comes after them, and ends or begins beside it otherwise. Of 10 s or less nothing is cut off.
    """
    recorded = [millivolts[lead] for lead in LEADS if lead in RECORDED_LEADS and lead in millivolts]
    n_samples = {len(row) for row in millivolts.values()}
    if len(recorded) < 3 or len(n_samples) > 1 or min(n_samples) <= 10 * sampling_rate:
        return millivolts
    length, second = n_samples.pop(), round(sampling_rate)
    flank, longest = (round(seconds * sampling_rate) for seconds in (FLANK_SECONDS, PULSE_SECONDS[1]))
    reach = second + longest + 1  # so that a run of samples that is longer than a pulse is seen to be
    before = length - reach
    last = _pulses([row[before:] for row in recorded], sampling_rate)
    first = _pulses([row[:reach] for row in recorded], sampling_rate)
    if starts := [before + start for start, stop in last if before + stop > length - second]:
        whole = int((length - 1) / sampling_rate) * second
        cut = slice(0, whole if starts[0] >= whole else min(starts[0] - flank, length - second))
    elif stops := [stop for start, stop in first if start < second]:
        cut = slice(second if stops[-1] <= second else stops[-1] + flank, None)
    else:
        return millivolts
    return {lead: row[cut] for lead, row in millivolts.items()}


def _pulses(recorded: list[np.ndarray], sampling_rate: float) -> list[tuple[int, int]]:
    """Return where all leads, in mV, are at one level of ``PULSE_MILLIVOLTS`` for as long as a pulse lasts.

    Returns
    -------
    list of (int, int)
        The first sample of each pulse and the first after it, in order.
    """
    rows = np.stack(recorded)
    level = rows.mean(axis=0)
    lowest, highest = PULSE_MILLIVOLTS
    alike = np.ptp(rows, axis=0) <= 0.02 * abs(level)
    edges = np.diff((alike & (level >= lowest) & (level <= highest)).astype(np.int8), prepend=0, append=0)
    shortest, longest = (seconds * sampling_rate for seconds in PULSE_SECONDS)
    runs = zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True)
    return [(start, stop) for start, stop in runs if shortest <= stop - start <= longest]


def _derive_limb_leads(millivolts: dict[str, np.ndarray]) -> tuple[str, ...]:
    """Add those of III, aVR, aVL, aVF that are missing, by Einthoven's and Goldberger's equations.

    Where fewer than twelve leads are accepted, I and II too, from two other limb leads.
    """
    known = [lead for lead in ("I", "II", *_FROM_I_AND_II) if lead in millivolts][:2]
    follow = known == ["I", "II"] or _accepted.get().leads < len(LEADS)
    if not follow or len(known) < 2 or len({len(millivolts[lead]) for lead in known}) > 1:
        return ()
    shares = np.array([_SHARES[lead] for lead in known])  # the two known leads = shares @ (I, II)
    rows = np.stack([np.asarray(millivolts[lead], np.float64) for lead in known])
    one_and_two = rows if known == ["I", "II"] else np.linalg.inv(shares) @ rows
    derived = tuple(lead for lead in LEADS if lead in _SHARES and lead not in millivolts)
    millivolts.update({lead: np.asarray(_SHARES[lead]) @ one_and_two for lead in derived})
    return derived


# Of I and II in each limb lead
_FROM_I_AND_II = {"III": (-1.0, 1.0), "aVR": (-0.5, -0.5), "aVL": (1.0, -0.5), "aVF": (-0.5, 1.0)}
_SHARES = {"I": (1.0, 0.0), "II": (0.0, 1.0), **_FROM_I_AND_II}


class _Accepted(NamedTuple):
    """What a recording must have at least: seconds, and leads of the twelve, computed ones included."""

    seconds: float = MIN_SECONDS
    leads: int = len(LEADS)


# Ten readers would otherwise pass it on, unused, from the opening of a file to `assemble`
_USUAL = _Accepted()
_accepted: ContextVar[_Accepted] = ContextVar("accepted", default=_USUAL)


@contextmanager
def at_least(seconds: float = MIN_SECONDS, leads: int = len(LEADS)) -> Iterator[None]:
    """Accept recordings of this length, in s, and of so many leads, or more, from `assemble`."""
    token = _accepted.set(_Accepted(max(seconds, LEAST_SECONDS), max(leads, LEAST_LEADS)))
    try:
        yield
    finally:
        _accepted.reset(token)


def _missing_leads(missing: tuple[str, ...], others: str, path: PathLike) -> EcgFileError:
    """Return the error of a recording without some leads."""
    present = [lead for lead in LEADS if lead not in missing]
    found = f"{len(present)} leads ({', '.join(present)}), {', '.join(missing)} missing{others}"
    least = f"at least {n_leads} of " if (n_leads := _accepted.get().leads) < len(LEADS) else ""
    return EcgFileError(path, found, f"{least}{', '.join(LEADS)}")


def _common_length(millivolts: dict[str, np.ndarray], sampling_rate: float, path: PathLike) -> int:
    """Return how many samples each lead has; refuse different lengths, too few and too many."""
    lengths = {lead: len(millivolts[lead]) for lead in LEADS if lead in millivolts}
    if len(set(lengths.values())) > 1:
        found = f"leads of different lengths, {by_value(lengths, 'samples')}"
        raise EcgFileError(path, found, "as many samples in every lead")
    n_samples, least = next(iter(lengths.values())), _accepted.get().seconds
    if n_samples < least * sampling_rate - 1e-6:
        found = f"{n_samples} samples at {sampling_rate:g} Hz ({n_samples / sampling_rate:.4g} s)"
        raise EcgFileError(path, found, f"at least {least:g} s")
    if n_samples * len(LEADS) > MAX_SAMPLES:
        raise EcgFileError(path, f"{n_samples:,} samples per lead", f"at most {MAX_SAMPLES // len(LEADS):,}")
    return n_samples


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
