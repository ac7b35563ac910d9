"""Read one hospital ECG file: XML -> `Recording` (mV, Hz, twelve leads) -> tensor (12, 4096).

    signal = load_ecg("ecgs/0001.xml")          # float32 (12, 4096), mV at 500 Hz
    recording = read_recording("ecgs/0001.xml")  # as the file has it: its own sampling rate and length

The content decides which vendor's form a file has, never its name. Each row of `DIALECTS` is a function that
returns a `Recording`, or None where the file is not of its form, or raises `EcgFileError` where it is but has
a defect; one such function and one row add a dialect. Whatever is wrong with a file is an `EcgFileError`.

Files are not trusted: a DOCTYPE is refused, so that there are neither external entities nor entity expansion,
and size, depth and number of elements are limited.
"""

from __future__ import annotations

import codecs
import math
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

# PyTorch and SciPy take seconds to import, and are therefore imported where they are used: the processes that
# parse a cohort's files then start at once, and need SciPy only for files that are not at 500 Hz.
if TYPE_CHECKING:
    import torch

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
SAMPLING_RATE = 500  # Hz, at rest
N_SAMPLES = 5000  # 10 s, at rest
SECONDS = N_SAMPLES / SAMPLING_RATE
DEFAULT_AMPLITUDE_UNIT = 0.0025  # mV per count where the study hospital's file does not say

MAX_FILE_BYTES = 50_000_000  # a 10 s ECG is 0.1 to 1 MB in any vendor's XML
MAX_ELEMENTS = 200_000  # each costs about 100 bytes of memory, so that 50 MB of "<a/>" would cost gigabytes
MAX_DEPTH = 100
PLAUSIBLE_RATES = (50, 50_000)  # Hz; beyond is a mistake in the file, and resampling could exhaust memory
MAX_MICROVOLTS = np.iinfo(np.int16).max

PathLike = str | os.PathLike

_LEAD_OF = {lead.lower(): lead for lead in LEADS}
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_DIGIT, _MINUS, _SPACE = 1, 2, 3  # 0: none of them
_KINDS = dict.fromkeys(b"0123456789", _DIGIT) | {ord("-"): _MINUS} | dict.fromkeys(b" \t\n\r", _SPACE)
_KIND_OF_BYTE = bytes(_KINDS.get(byte, 0) for byte in range(256))


class EcgFileError(ValueError):
    """An ECG file that cannot be used; the message is one line of bounded length, whatever the file holds.

    Parameters
    ----------
    path : str or path-like
    found, expected : str
        May quote the file: control characters are escaped and long text is cut.
    """

    def __init__(self, path: PathLike, found: str, expected: str):
        self.path, self.found, self.expected = os.fsdecode(path), found, expected
        name = _one_line(self.path[-300:])
        super().__init__(f"{name}: found {_one_line(found)}; expected {_one_line(expected)}")

    def __reduce__(self):
        # By default the message alone is pickled, and the parent process could not rebuild the error from it.
        return EcgFileError, (self.path, self.found, self.expected)


def _one_line(text: str, limit: int = 400) -> str:
    """Return `text` cut to `limit` characters, with whatever could break or disguise a line escaped."""
    characters = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: limit + 1])
    escaped = "".join(characters)
    return escaped if len(escaped) <= limit else escaped[: limit - 1] + "…"


def _quote(text: str) -> str:
    return f"'{_one_line(text, 40)}'"


@dataclass(frozen=True, eq=False)
class Recording:
    """What one file says.

    Attributes
    ----------
    signal : float32 ndarray of shape (12, n_samples), in mV, leads in the order of `LEADS`
    sampling_rate : float, in Hz
    metadata : dict
        "form" is the row of `DIALECTS` that read the file. Never a patient's name or birth date.
    """

    signal: np.ndarray
    sampling_rate: float
    metadata: dict = field(default_factory=dict)


def read_recording(path: PathLike) -> Recording:
    """Read an ECG file as it is: all of its samples, at its own sampling rate, in mV.

    Raises
    ------
    EcgFileError
        Whatever is wrong with the file. At least 10 s of twelve leads are required.
    """
    root_name, root = _parse_xml(_read_bytes(path), path)
    for read_dialect in DIALECTS.values():
        recording = read_dialect(root, path)
        if recording is not None:
            return recording
    raise EcgFileError(
        path,
        f"root element {_one_line(root_name, 40)} without a rhythm of the hospital's form",
        f"an ECG in one of the known forms: {', '.join(DIALECTS)}",
    )


def read_at_rest(path: PathLike) -> np.ndarray:
    """Read an ECG file as the cache stores it: int16 ndarray of shape (12, 5000), in µV at 500 Hz."""
    return signal_at_rest(read_recording(path), path)


def signal_at_rest(recording: Recording, path: PathLike) -> np.ndarray:
    """Return the first 10 s of a recording in microvolts at 500 Hz.

    Parameters
    ----------
    recording : Recording
    path : str or path-like
        The file that it came from, for the error.

    Returns
    -------
    int16 ndarray of shape (12, 5000), in µV, rounded to nearest

    Raises
    ------
    EcgFileError
        Shorter than 10 s, or beyond the ±32.767 mV that int16 holds.
    """
    return np.rint(_ten_seconds(recording, path) * 1000).astype(np.int16)


def load_ecg(path: PathLike, n_samples: int = 4096) -> torch.Tensor:
    """Read an ECG file as the networks see it in evaluation, before normalisation.

    Parameters
    ----------
    path : str or path-like
    n_samples : int, 1 to 5000
        Length of the crop from the centre of the first 10 s.

    Returns
    -------
    float32 tensor of shape (12, n_samples), in mV at 500 Hz

    Raises
    ------
    EcgFileError
        Whatever is wrong with the file.
    ValueError
        `n_samples` out of range.
    """
    import torch

    start = centre_start(n_samples)
    millivolts = _ten_seconds(read_recording(path), path)[:, start : start + n_samples]
    return torch.from_numpy(millivolts.astype(np.float32))


def centre_start(n_samples: int) -> int:
    """Return the first sample of the centre crop of `n_samples` from the 5,000 at rest."""
    if not 1 <= n_samples <= N_SAMPLES:
        raise ValueError(f"n_samples is {n_samples}; expected 1 to {N_SAMPLES} (10 s at {SAMPLING_RATE} Hz)")
    return (N_SAMPLES - n_samples) // 2


def _ten_seconds(recording: Recording, path: PathLike) -> np.ndarray:
    """Return the first 10 s in mV at 500 Hz, float64 (12, 5000), none beyond what int16 microvolts hold."""
    _require_duration(recording.signal.shape[1], recording.sampling_rate, path)
    millivolts = recording.signal.astype(np.float64)
    if recording.sampling_rate != SAMPLING_RATE:
        millivolts = _resample(millivolts, recording.sampling_rate)
    millivolts = millivolts[:, :N_SAMPLES]
    peaks = np.abs(millivolts).max(axis=1)
    lead = int(peaks.argmax())
    if not np.rint(1000 * peaks[lead]) <= MAX_MICROVOLTS:  # so written, NaN fails too
        found = f"{peaks[lead]:.6g} mV in lead {LEADS[lead]}"
        raise EcgFileError(path, found, f"at most {MAX_MICROVOLTS / 1000} mV (is the file's unit right?)")
    return millivolts


def _resample(millivolts: np.ndarray, sampling_rate: float) -> np.ndarray:
    """Return at least the first 10 s, resampled to 500 Hz by a polyphase filter that prevents aliasing."""
    from scipy.signal import resample_poly

    ratio = Fraction(SAMPLING_RATE / sampling_rate).limit_denominator(1000)
    # A second more than 10 s is kept, so that the filter need not extrapolate where the file goes on.
    kept = millivolts[:, : math.ceil((SECONDS + 1) * sampling_rate)]
    # Beyond its ends the signal is continued by its point reflection. SciPy's default, zeros, turns a lead's
    # offset into a step, and its "line" still errs by 10 % of a 10 Hz sine in the first samples.
    return resample_poly(kept, ratio.numerator, ratio.denominator, axis=1, padtype="antireflect")


def _read_bytes(path: PathLike) -> bytes:
    expected = "a readable ECG file"
    try:
        mode = os.stat(path).st_mode
        # Opening a FIFO waits for a writer, and opening a device may do anything: look before opening.
        if not stat.S_ISREG(mode):
            raise EcgFileError(path, f"a {_kind_of_file(mode)}", expected)
        with open(path, "rb") as handle:
            content = handle.read(MAX_FILE_BYTES + 1)
    except EcgFileError:
        raise
    except (OSError, ValueError) as error:  # the latter: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise EcgFileError(path, f"nothing readable ({reason})", expected) from error
    if not content:
        raise EcgFileError(path, "an empty file", expected)
    if len(content) > MAX_FILE_BYTES:
        raise EcgFileError(path, f"more than {MAX_FILE_BYTES:,} bytes", "a 10 s ECG, which is below 1 MB")
    return content


def _kind_of_file(mode: int) -> str:
    kinds = {stat.S_IFDIR: "directory", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")


def _parse_xml(content: bytes, path: PathLike) -> tuple[str, ElementTree.Element]:
    """Return the root's name as the file spells it, and the tree with names in lower case without prefix."""
    reader = _TreeReader(path)
    parser = expat.ParserCreate(_encoding_to_assume(content))
    parser.buffer_text = True
    parser.buffer_size = 1 << 18  # a lead's counts in one piece
    parser.StartDoctypeDeclHandler = reader.refuse_doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.builder.data
    try:
        parser.Parse(content, True)
    except EcgFileError:
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:  # the last two: encodings Python lacks
        beginning = content[:8].decode("latin-1")
        found = f"malformed or incomplete XML ({error}), beginning {_quote(beginning)}"
        raise EcgFileError(path, found, "a complete, well-formed XML file") from error
    return reader.root_name, reader.builder.close()


def _encoding_to_assume(content: bytes) -> str | None:
    """Return the encoding to read with, or None for the one that the file declares."""
    if content.isascii() and b"\0" not in content[:4]:
        return "utf-8"  # the same characters in every encoding that can be meant, and read twice as fast
    if content.startswith((b"<?xml", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return None
    try:
        content.decode()
    except UnicodeDecodeError:
        return "iso-8859-1"  # the hospital's, as nothing is declared and it is not UTF-8
    return None


class _TreeReader:
    """Build an element tree from an untrusted file; names lose their prefix and case, which exports vary."""

    def __init__(self, path: PathLike):
        self.path = path
        self.builder = ElementTree.TreeBuilder()
        self.root_name = ""
        self.depth = self.n_elements = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.root_name = self.root_name or tag
        self.depth += 1
        self.n_elements += 1
        if self.depth > MAX_DEPTH or self.n_elements > MAX_ELEMENTS:
            found = f"more than {MAX_ELEMENTS:,} elements, or {MAX_DEPTH} nested in each other"
            raise EcgFileError(self.path, found, "an ECG")
        self.builder.start(tag.rpartition(":")[2].lower(), self._normalised(attributes))

    def end(self, tag: str) -> None:
        self.depth -= 1
        self.builder.end(tag)

    def refuse_doctype(self, name: str, system_id: str, public_id: str, has_internal_subset: int) -> None:
        # Nothing outside the file is ever fetched, so that only an internal subset could define entities; but
        # the hospital's form has no DOCTYPE at all, and any is refused.
        found = f"a document type declaration (DOCTYPE {_quote(name)})"
        raise EcgFileError(self.path, found, "XML without a DTD")

    def _normalised(self, attributes: dict[str, str]) -> dict[str, str]:
        """Return attributes by lower-case local name; `type` hides `xsi:type`."""
        plain, prefixed = {}, {}
        for name, value in attributes.items():
            prefix, _, local = name.lower().rpartition(":")
            if not prefix and local in plain:
                raise EcgFileError(self.path, f"attribute {_quote(name)} twice in one element", "it once")
            if prefix != "xmlns":
                (prefixed if prefix else plain)[local] = value
        return prefixed | plain


@np.errstate(over="ignore")  # an absurd count or unit becomes infinity, and is refused with a clear error
def _read_hospital(root: ElementTree.Element, path: PathLike) -> Recording | None:
    """Read the study hospital's own form: `rhythm` with one `channel` of counts a lead."""
    rhythms = list(root.iter("rhythm"))
    if not rhythms:
        return None
    channels = _channels_by_lead(rhythms, path)
    rates = {lead: _positive_number(channel, "freq", lead, path) for lead, channel in channels.items()}
    if len(set(rates.values())) > 1:
        found = f"different sampling rates, {_leads_by_value(rates, 'Hz')}"
        raise EcgFileError(path, found, "one freq for all leads")
    millivolts = {}
    for lead, channel in channels.items():
        unit = _positive_number(channel, "amplitude_unit", lead, path, default=DEFAULT_AMPLITUDE_UNIT)
        if len(channel):
            found = f"element {_quote(channel[0].tag)} among the counts of lead {lead}"
            raise EcgFileError(path, found, "counts alone")
        millivolts[lead] = parse_counts(channel.text or "", lead, path) * unit
    return _recording("hospital", millivolts, rates["I"], path)


# One row a form: its name, and the function that reads it. The first that knows a file reads it.
DIALECTS: dict[str, Callable[[ElementTree.Element, PathLike], Recording | None]] = {
    "hospital": _read_hospital,
}


def _channels_by_lead(rhythms: list[ElementTree.Element], path: PathLike) -> dict[str, ElementTree.Element]:
    """Return the channels of the one rhythm with all twelve leads; two such rhythms are refused."""
    candidates = [channels for rhythm in rhythms if (channels := rhythm.findall("channel"))]
    if not candidates:
        found = f"{len(rhythms)} rhythm element(s) without a channel"
        raise EcgFileError(path, found, "a rhythm with one channel a lead")
    complete = [channels for channels in candidates if {_lead(channel) for channel in channels} >= set(LEADS)]
    if len(complete) > 1:
        raise EcgFileError(path, f"{len(complete)} rhythm elements with twelve leads", "one")
    by_lead = {}
    for channel in (complete or candidates)[0]:
        lead = _lead(channel)
        if lead in by_lead:
            raise EcgFileError(path, f"lead {lead} twice", "each lead once")
        if lead is not None:  # what is not one of the twelve, such as V4R, is left out
            by_lead[lead] = channel
    missing = [lead for lead in LEADS if lead not in by_lead]
    if missing:
        raise EcgFileError(path, f"{len(by_lead)} leads, {', '.join(missing)} missing", ", ".join(LEADS))
    return {lead: by_lead[lead] for lead in LEADS}


def _lead(channel: ElementTree.Element) -> str | None:
    return _LEAD_OF.get(channel.get("name", "").strip().lower())


def _positive_number(
    channel: ElementTree.Element, attribute: str, lead: str, path: PathLike, default: float | None = None
) -> float:
    """Return an attribute as a number; the hospital writes a decimal comma or a decimal point."""
    text = channel.get(attribute)
    if text is None and default is not None:
        return default
    if text is None:
        raise EcgFileError(path, f"lead {lead} without {attribute}", f"{attribute} in every channel")
    number = text.strip() if "." in text else text.strip().replace(",", ".")
    value = float(number) if _NUMBER.fullmatch(number) else math.nan
    if not (value > 0 and math.isfinite(value)):
        found = f"{attribute} {_quote(text)} in lead {lead}"
        raise EcgFileError(path, found, f"{attribute} as a finite number above 0")
    return value


def parse_counts(text: str, lead: str, path: PathLike) -> np.ndarray:
    """Return numbers separated by white space as int64 or float64 ndarray of shape (n_samples,).

    `np.fromstring` is fast but careless: it takes "1-2" for two numbers and white space for one,
    and what it does with "1 x 2" depends on NumPy's version. It gets only plain integers.

    Raises
    ------
    EcgFileError
        Names the first token that is not a finite number.
    """
    padded = b" " + text.encode() + b" "
    counts = np.fromstring(padded, np.int64, sep=" ") if _are_plain_integers(padded) else None
    # What 64 bits cannot hold was saturated; float() knows it.
    if counts is None or max(int(counts.max()), -int(counts.min())) >= 1 << 53:
        counts = np.array([_count(token, lead, path) for token in text.split()], np.float64)
    return counts


def _are_plain_integers(padded: bytes) -> bool:
    """Whether all is digits, white space and minus signs, each minus between space and digit."""
    kinds = np.frombuffer(padded.translate(_KIND_OF_BYTE), np.uint8)
    misplaced = (kinds[1:-1] == _MINUS) & ((kinds[:-2] != _SPACE) | (kinds[2:] != _DIGIT))
    return bool(kinds.min() == _DIGIT and not misplaced.any())  # nothing of kind 0, and at least one digit


def _count(token: str, lead: str, path: PathLike) -> float:
    value = float(token) if _NUMBER.fullmatch(token) else math.nan
    if not math.isfinite(value):
        found = f"count {_quote(token)} in lead {lead}"
        raise EcgFileError(path, found, "finite numbers separated by white space")
    return value


def _recording(
    form: str, millivolts: dict[str, np.ndarray], sampling_rate: float, path: PathLike
) -> Recording:
    """Put together what every dialect must give: twelve leads of one length, 10 s or more, finite."""
    lowest, highest = PLAUSIBLE_RATES
    if not lowest <= sampling_rate <= highest:
        raise EcgFileError(path, f"a sampling rate of {sampling_rate:g} Hz", f"{lowest:g} to {highest:g} Hz")
    lengths = {lead: millivolts[lead].size for lead in LEADS}
    if len(set(lengths.values())) > 1:
        found = f"leads of different lengths, {_leads_by_value(lengths, 'samples')}"
        raise EcgFileError(path, found, "as many samples in every lead")
    _require_duration(lengths["I"], sampling_rate, path)
    signal = np.empty((len(LEADS), lengths["I"]), np.float32)
    for row, lead in zip(signal, LEADS, strict=True):
        row[:] = millivolts[lead]
    finite = np.isfinite(signal).all(axis=1)
    if not finite.all():
        found = f"a value that is not finite in lead {LEADS[finite.argmin()]}"
        raise EcgFileError(path, found, "finite values in mV")
    return Recording(signal, sampling_rate, {"form": form})


def _require_duration(n_samples: int, sampling_rate: float, path: PathLike) -> None:
    if n_samples < SECONDS * sampling_rate - 1e-6:
        found = f"{n_samples} samples at {sampling_rate:g} Hz ({n_samples / sampling_rate:.4g} s)"
        raise EcgFileError(path, found, f"at least {SECONDS:g} s")


def _leads_by_value(values: dict[str, float], unit: str) -> str:
    """Return such as "5000 samples in I, II; 4999 samples in V3"."""
    leads_of: dict[float, list[str]] = {}
    for lead, value in values.items():
        leads_of.setdefault(value, []).append(lead)
    return "; ".join(f"{value:g} {unit} in {', '.join(leads)}" for value, leads in leads_of.items())
