"""Schiller EDI: root `...SchillerEDI`, the `wavedata` of type ECG_RHYTHMS as comma-separated integers."""

from __future__ import annotations

from xml.etree.ElementTree import Element

import numpy as np

from ecg.formats.ecg_file import EcgFile
from ecg.formats.numbers import MICROVOLTS, counts_of, positive_number
from ecg.formats.xml_tree import complete_or_only, seconds_of_counts, text_of
from ecg.recording import EcgFileError, PathLike, Recording, assemble, quote, standard_lead

RHYTHM = "ECG_RHYTHMS"


@np.errstate(over="ignore")  # an absurd resolution becomes infinity, and is refused with a clear error
def read_schiller(file: EcgFile) -> Recording | None:
    """Read the rhythm, not ECG_AVERAGES, which has the same children."""
    if file.root is None or not file.root.tag.endswith("schilleredi"):
        return None
    rhythm = _rhythm(file.root, file.path)
    resolution = rhythm.find("resolution")
    if resolution is None:
        raise EcgFileError(file.path, "no resolution in the rhythm", "a samplerate and a yres")
    rate = _sampling_rate(resolution, file.path)
    microvolts = _microvolts_per_count(resolution, file.path)
    channels = []
    for channel in rhythm.findall("channel"):
        name = text_of(channel.find("name")) or ""
        lead = standard_lead(name)
        counts = np.empty(0) if lead is None else _counts(channel, lead, file.path)
        channels.append((name, counts * (microvolts / 1000)))
    hardware = (text_of(file.root.find(f".//aquiringdevice/hardware/{tag}")) for tag in ("vendor", "model"))
    return assemble(
        "Schiller EDI",
        channels,
        rate,
        file.path,
        device=" ".join(text or "" for text in hardware),
        microvolts_per_count=microvolts,
    )


def _rhythm(root: Element, path: PathLike) -> Element:
    """Return the one rhythm with all leads, or the only rhythm there is."""
    rhythms = [wave for wave in root.iter("wavedata") if (text_of(wave.find("type")) or "").upper() == RHYTHM]
    return complete_or_only(rhythms, _leads, _seconds, f"wavedata of type {RHYTHM}", path)


def _leads(rhythm: Element) -> set[str | None]:
    return {standard_lead(text_of(channel.find("name")) or "") for channel in rhythm.findall("channel")}


def _seconds(rhythm: Element) -> float:
    texts = (text_of(channel.find("data")) for channel in rhythm.findall("channel"))
    return seconds_of_counts(texts, ",", text_of(rhythm.find("resolution/samplerate/value")))


def _sampling_rate(resolution: Element, path: PathLike) -> float:
    exponent = text_of(resolution.find("samplerate/exponent"))
    if exponent not in (None, "", "1"):
        # Every known file has 1; whether it is a power of the value or of ten is not documented.
        raise EcgFileError(path, f"{quote(exponent)} as exponent of the samplerate", "1")
    return positive_number(text_of(resolution.find("samplerate/value")), "samplerate", path)


def _microvolts_per_count(resolution: Element, path: PathLike) -> float:
    per_bit = positive_number(text_of(resolution.find("yres/unitperbit")), "unitperbit of yres", path)
    unit = text_of(resolution.find("yres/units")) or ""
    if unit.lower() not in MICROVOLTS:
        raise EcgFileError(path, f"yres in {quote(unit)}", "NV, UV, MV or V")
    return per_bit * MICROVOLTS[unit.lower()]


def _counts(channel: Element, lead: str, path: PathLike) -> np.ndarray:
    kind = text_of(channel.find("datastype"))
    if kind and kind.upper() != "COMMASEPARATE":
        raise EcgFileError(path, f"datastype {quote(kind)} in lead {lead}", "COMMASEPARATE")
    return counts_of(channel.find("data"), text_of(channel.find("samplecount")), lead, path)
