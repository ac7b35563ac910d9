"""GE CardioSoft and CASE: root `CardiologyXML`, rhythm in `StripData` as comma-separated integers."""

from __future__ import annotations

from xml.etree.ElementTree import Element

import numpy as np

from ecg.formats.ecg_file import EcgFile
from ecg.formats.numbers import MICROVOLTS, counts_of, positive_number
from ecg.formats.xml_tree import complete_or_only, seconds_of_counts, text_of
from ecg.recording import EcgFileError, PathLike, Recording, assemble, quote, standard_lead

_PER_COUNT = "perlsb"  # behind the unit of `Resolution`, such as uVperLsb


@np.errstate(over="ignore")  # an absurd resolution becomes infinity, and is refused with a clear error
def read_cardiosoft(file: EcgFile) -> Recording | None:
    """Read the `StripData`; `MedianSamples` has the same children, and `FullDisclosure` is interleaved."""
    if file.root is None or file.root.tag != "cardiologyxml":
        return None
    strip = _strip(file.root, file.path)
    rate = strip.find("samplerate")
    if rate is not None and rate.get("units", "Hz").strip().lower() != "hz":
        raise EcgFileError(file.path, f"SampleRate in {quote(rate.get('units', ''))}", "Hz")
    microvolts = _microvolts_per_count(strip.find("resolution"), file.path)
    declared = text_of(strip.find("channelsamplecounttotal"))
    channels = []
    for waveform in strip.findall("waveformdata"):
        name = waveform.get("lead", "")
        lead = standard_lead(name)
        counts = np.empty(0) if lead is None else counts_of(waveform, declared, lead, file.path)
        channels.append((name, counts * (microvolts / 1000)))
    return assemble(
        "GE CardioSoft",
        channels,
        positive_number(text_of(rate), "SampleRate", file.path),
        file.path,
        device=text_of(file.root.find(".//deviceinfo/desc")) or "",
        microvolts_per_count=microvolts,
    )


def _strip(root: Element, path: PathLike) -> Element:
    """Return the one strip with all leads, or the only strip there is."""
    strips = [strip for strip in root.iter("stripdata") if strip.find("waveformdata") is not None]
    return complete_or_only(strips, _leads, _seconds, "StripData with WaveformData", path)


def _leads(strip: Element) -> set[str | None]:
    return {standard_lead(waveform.get("lead", "")) for waveform in strip.findall("waveformdata")}


def _seconds(strip: Element) -> float:
    texts = (waveform.text for waveform in strip.findall("waveformdata"))
    return seconds_of_counts(texts, ",", text_of(strip.find("samplerate")))


def _microvolts_per_count(resolution: Element | None, path: PathLike) -> float:
    value = positive_number(text_of(resolution), "Resolution", path)
    units = resolution.get("units", "").strip()
    microvolts = MICROVOLTS.get(units.lower().removesuffix(_PER_COUNT))
    if microvolts is None or not units.lower().endswith(_PER_COUNT):
        raise EcgFileError(path, f"Resolution in {quote(units)}", "nVperLsb, uVperLsb, mVperLsb or VperLsb")
    return value * microvolts
