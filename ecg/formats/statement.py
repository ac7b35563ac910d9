"""`ecg_format.yml`: what files of plain numbers do not say themselves, stated once for all files of a folder.

    sampling_rate: 500        # Hz
    unit: mV                  # nV, uV, mV or V; of counts what one is, such as 4.88 uV
    leads: standard           # I, II, III, aVR, aVL, aVF, V1 to V6; or a list of names, one per column or row
    variable: ecg             # which array of a MAT, NPZ or HDF5 file that holds several

It counts for the folders below, too, up to the next such file. `leads` is not needed where a file names
them, nor `unit` where its column names have one.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecg.formats.ecg_file import read_bytes
from ecg.formats.numbers import MICROVOLTS, number_or_nan
from ecg.recording import LEADS, EcgFileError, PathLike, quote

STATEMENT_FILE = "ecg_format.yml"
MAX_STATEMENT_BYTES = 10_000
KEYS = ("sampling_rate", "unit", "leads", "variable")
_UNIT = re.compile(r"(?P<number>[0-9.,eE+-]+)?\s*(?P<unit>[a-zµμ]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Statement:
    """What is stated about the files of a folder.

    Attributes
    ----------
    sampling_rate : float, in Hz
    microvolts : float or None
        What a number 1 is; None where the unit is not stated.
    leads : tuple of str, or None where they are not stated
        One name per column or row; what is not a lead is left out.
    variable : str or None
        The name of the array.
    """

    sampling_rate: float
    microvolts: float | None = None
    leads: tuple[str, ...] | None = None
    variable: str | None = None


def statement_file(path: PathLike) -> Path | None:
    """Return the `ecg_format.yml` in the folder of a file, or else in the nearest folder above it."""
    folder = os.path.dirname(os.path.abspath(path))
    while True:
        found = os.path.join(folder, STATEMENT_FILE)
        if os.path.isfile(found):
            return Path(found)
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above


def statement_for(path: PathLike, what: str) -> Statement:
    """Return what is stated about a file.

    Parameters
    ----------
    path : str or path-like
    what : str
        What the file is, for the error.

    Raises
    ------
    EcgFileError
        Nothing is, or something that is wrong.
    """
    found = statement_file(path)
    if found is None:
        raise EcgFileError(
            path,
            f"{what}, without a statement of its sampling rate and unit",
            f"a file {STATEMENT_FILE} beside it or in a folder above, with the lines "
            "'sampling_rate: 500', 'unit: mV' and, where the file names no leads, 'leads: standard'",
        )
    stated = _mapping(found, path)
    if unknown := [key for key in stated if key not in KEYS]:
        found_key = quote(unknown[0]) if isinstance(unknown[0], str) else "a key that is not a word"
        raise EcgFileError(path, f"{found_key} in {found}", f"only {', '.join(KEYS)}")
    return Statement(
        _sampling_rate(stated.get("sampling_rate"), found, path),
        None if stated.get("unit") is None else microvolts_of(stated["unit"], f"unit of {found}", path),
        _leads(stated.get("leads"), found, path),
        None if stated.get("variable") is None else str(_scalar(stated["variable"])),
    )


def microvolts_of(unit: Any, what: str, path: PathLike) -> float:
    """Return how many microvolts a unit such as "mV" or "4.88 uV" is."""
    match = _UNIT.fullmatch(_scalar(unit).strip())
    number = number_or_nan(match["number"] or "1") if match else 0.0
    if not (match and match["unit"].lower() in MICROVOLTS and 0 < number < 1e12):
        raise EcgFileError(path, f"{quote(_scalar(unit))} as {what}", "nV, uV, mV or V, or such as 4.88 uV")
    return number * MICROVOLTS[match["unit"].lower()]


def _mapping(found: Path, path: PathLike) -> dict:
    import yaml

    content = read_bytes(found)
    expected = f"lines such as 'sampling_rate: 500'; keys {', '.join(KEYS)}"
    # An alias within aliases expands without end; four keys need none.
    if len(content) > MAX_STATEMENT_BYTES or b"&" in content or b"*" in content:
        raise EcgFileError(
            path, f"{found} with anchors or of more than {MAX_STATEMENT_BYTES:,} bytes", expected
        )
    try:
        stated = yaml.safe_load(content.decode("utf-8-sig"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        at = "" if line is None else f" in line {line + 1}"
        raise EcgFileError(path, f"{found} that is not YAML{at}", expected) from error
    if not isinstance(stated, dict):
        raise EcgFileError(path, f"{found} without keys", expected)
    return stated


def _sampling_rate(value: Any, found: Path, path: PathLike) -> float:
    text = _scalar(value).strip()
    rate = number_or_nan(re.sub(r"\s*hz$", "", text, flags=re.IGNORECASE))
    if value is None or not 0 < rate < float("inf"):
        stated = "no sampling_rate" if value is None else f"{quote(text)} as sampling_rate"
        raise EcgFileError(path, f"{stated} in {found}", "a number above 0, in Hz")
    return rate


def _leads(value: Any, found: Path, path: PathLike) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        value = list(LEADS) if value.strip().lower() == "standard" else re.split(r"[,;\s]+", value.strip())
    if not isinstance(value, list) or len(value) < 2:
        raise EcgFileError(path, f"leads of another kind in {found}", "standard, or a list of names")
    return tuple(_scalar(name) for name in value)


def _scalar(value: Any) -> str:
    return "a list" if isinstance(value, (list, dict, set)) else str(value)
