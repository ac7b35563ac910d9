"""Numbers as XML exports write them, checked to the last character."""

from __future__ import annotations

import math
import re
from xml.etree.ElementTree import Element

import numpy as np

from ecg.recording import EcgFileError, PathLike, quote

# Microvolts of the units, in lower case; the micro sign has two codes.
MICROVOLTS = {
    "nv": 1e-3,
    "uv": 1.0,
    "\N{MICRO SIGN}v": 1.0,
    "\N{GREEK SMALL LETTER MU}v": 1.0,
    "mv": 1e3,
    "v": 1e6,
}

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_DIGIT, _MINUS, _SPACE = 1, 2, 3  # 0: none of them
_KINDS = dict.fromkeys(b"0123456789", _DIGIT) | {ord("-"): _MINUS} | dict.fromkeys(b" \t\n\r", _SPACE)
_KIND_OF_BYTE = bytes(_KINDS.get(byte, 0) for byte in range(256))


def positive_number(text: str | None, what: str, path: PathLike) -> float:
    """Return a finite number above 0, with a decimal comma or a decimal point.

    Parameters
    ----------
    text : str or None
        None where the file has no such value.
    what : str
        Its name, for errors, such as "freq in lead V1".
    path : str or path-like

    Raises
    ------
    EcgFileError
        Absent, not a number, not finite, or not above 0.
    """
    expected = "a finite number above 0"
    if text is None:
        raise EcgFileError(path, f"no {what}", expected)
    value = number_or_nan(text)
    if not (value > 0 and math.isfinite(value)):
        raise EcgFileError(path, f"{quote(text)} as {what}", expected)
    return value


def finite_number(text: str, what: str, path: PathLike) -> float:
    """Return a finite number of either sign; otherwise as `positive_number`."""
    value = number_or_nan(text)
    if not math.isfinite(value):
        raise EcgFileError(path, f"{quote(text)} as {what}", "a finite number")
    return value


def number_or_nan(text: str) -> float:
    """Return the number that a text is, with a decimal comma or a decimal point, or NaN."""
    number = text.strip() if "." in text else text.strip().replace(",", ".")
    return float(number) if _NUMBER.fullmatch(number) else math.nan


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
    # What 64 bits cannot hold was saturated; float() reads it.
    if counts is None or max(int(counts.max()), -int(counts.min())) >= 1 << 53:
        counts = np.array([_count(token, lead, path) for token in text.split()], np.float64)
    return counts


def parse_comma_separated(text: str, lead: str, path: PathLike) -> np.ndarray:
    """Return numbers separated by commas, as `parse_counts` does; a comma may end the list.

    Raises
    ------
    EcgFileError
        Nothing between two commas, two numbers without a comma, or a token that is not a finite number.
    """
    tokens = text.strip().removesuffix(",").split(",")
    for token in tokens:
        if len(token.split()) != 1 and text.strip():
            raise EcgFileError(
                path, f"{quote(token)} between two commas in lead {lead}", "one number between two commas"
            )
    return parse_counts(" ".join(tokens), lead, path)


def counts_of(element: Element | None, declared: str | None, lead: str, path: PathLike) -> np.ndarray:
    """Return the comma-separated counts in an element; as many as `declared`, unless that is None or empty.

    Raises
    ------
    EcgFileError
        No such element, others in it, a different number of counts, or as `parse_comma_separated`.
    """
    if element is None or len(element):
        found = "no counts" if element is None else f"element {quote(element[0].tag)} among the counts"
        raise EcgFileError(path, f"{found} of lead {lead}", "only counts")
    counts = parse_comma_separated(element.text or "", lead, path)
    if declared and declared.lstrip("0") != str(len(counts)):
        found = f"{len(counts)} samples in lead {lead}, {quote(declared)} declared"
        raise EcgFileError(path, found, "as many samples as the file declares")
    return counts


def _are_plain_integers(padded: bytes) -> bool:
    """Whether all is digits, white space and minus signs, each minus between space and digit."""
    kinds = np.frombuffer(padded.translate(_KIND_OF_BYTE), np.uint8)
    misplaced = (kinds[1:-1] == _MINUS) & ((kinds[:-2] != _SPACE) | (kinds[2:] != _DIGIT))
    return bool(kinds.min() == _DIGIT and not misplaced.any())  # nothing of kind 0, and at least one digit


def _count(token: str, lead: str, path: PathLike) -> float:
    value = float(token) if _NUMBER.fullmatch(token) else math.nan
    if not math.isfinite(value):
        found = f"count {quote(token)} in lead {lead}"
        raise EcgFileError(path, found, "finite numbers")
    return value
