"""The study hospital's own format, read and written: `rhythm` with one `channel` of counts for each lead."""

from __future__ import annotations

from xml.etree.ElementTree import Element

import numpy as np

from ecg.formats.ecg_file import EcgFile
from ecg.formats.numbers import parse_counts, positive_number
from ecg.formats.xml_tree import complete_or_only, seconds_of_counts
from ecg.recording import (
    LEADS,
    SAMPLING_RATE,
    EcgFileError,
    PathLike,
    Recording,
    assemble,
    besides,
    by_value,
    quote,
    standard_lead,
)

DEFAULT_AMPLITUDE_UNIT = "0.0025"  # mV per count where the file has none


@np.errstate(over="ignore")  # an absurd count or unit becomes infinity, and is refused with a clear error
def read_hospital(file: EcgFile) -> Recording | None:
    """Read a file of any root that has a `rhythm` element; counts are separated by white space."""
    rhythms = [] if file.root is None else list(file.root.iter("rhythm"))
    if not rhythms:
        return None
    channels, rates, units = [], {}, {}
    for channel in _rhythm(rhythms, file.path).findall("channel"):
        name = channel.get("name", "")
        lead = standard_lead(name)
        if lead is None:  # what is not one of the twelve, such as V4R, is left out with all that it holds
            channels.append((name, np.empty(0)))
            continue
        rates[lead] = positive_number(channel.get("freq"), f"freq in lead {lead}", file.path)
        unit = channel.get("amplitude_unit", DEFAULT_AMPLITUDE_UNIT)
        units[lead] = positive_number(unit, f"amplitude_unit in lead {lead}", file.path)
        if len(channel):
            found = f"element {quote(channel[0].tag)} among the counts of lead {lead}"
            raise EcgFileError(file.path, found, "only counts")
        channels.append((name, parse_counts(channel.text or "", lead, file.path) * units[lead]))
    if len(set(rates.values())) > 1:
        found = f"different sampling rates, {by_value(rates, 'Hz')}"
        raise EcgFileError(file.path, found, "one freq for all leads")
    if not rates:
        found = f"none of the twelve leads in the rhythm{besides([name for name, _ in channels])}"
        raise EcgFileError(file.path, found, ", ".join(LEADS))
    return assemble(
        "hospital",
        channels,
        next(iter(rates.values())),
        file.path,
        microvolts_per_count=1000 * units[next(iter(units))] if len(set(units.values())) == 1 else None,
    )


def _rhythm(rhythms: list[Element], path: PathLike) -> Element:
    """Return the one rhythm with all leads, or the only one with channels."""
    candidates = [rhythm for rhythm in rhythms if rhythm.find("channel") is not None]
    if not candidates:
        found = f"{len(rhythms)} rhythm element(s) without a channel"
        raise EcgFileError(path, found, "a rhythm with one channel per lead")
    return complete_or_only(candidates, _leads, _seconds, "rhythm elements", path)


def _leads(rhythm: Element) -> set[str | None]:
    return {standard_lead(channel.get("name", "")) for channel in rhythm.findall("channel")}


def _seconds(rhythm: Element) -> float:
    channels = rhythm.findall("channel")
    return seconds_of_counts((channel.text for channel in channels), None, channels[0].get("freq"))


def hospital_xml(
    signal: np.ndarray,
    *,
    sampling_rate: float = SAMPLING_RATE,
    mv_per_count: float = float(DEFAULT_AMPLITUDE_UNIT),
    comment: str = "",
) -> str:
    """Return one ECG, (12, n_samples) in mV, as the text of a file, to be encoded as ISO-8859-1."""
    counts = np.rint(signal / mv_per_count).astype(int)
    # Looking the digits up is five times as fast as str() on each of the 60,000 samples.
    digits = np.array([str(count) for count in range(counts.min(), counts.max() + 1)], dtype=object)
    attributes = f'freq="{sampling_rate}" amplitude_unit="{mv_per_count}"'.replace(".", ",")
    channels = "\n".join(
        f'    <channel name="{lead}" {attributes}>{" ".join(digits[row - counts.min()].tolist())}</channel>'
        for lead, row in zip(LEADS, counts, strict=True)
    )
    head = '<?xml version="1.0" encoding="ISO-8859-1"?>\n' + (f"<!-- {comment} -->\n" if comment else "")
    return f"{head}<ecg>\n  <rhythm>\n{channels}\n  </rhythm>\n</ecg>\n"
