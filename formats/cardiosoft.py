"""GE CardioSoft and CASE: root `CardiologyXML`, rhythm in `StripData` as comma-separated integers."""

from __future__ import annotations

from formats.ecg_file import EcgFile
from formats.numbers import parse_comma_separated, positive_number
from formats.xml_tree import text_of
from recording import EcgFileError, Recording, assemble, quote

MICROVOLTS = {"uvperlsb": 1.0, "mvperlsb": 1000.0}  # per unit of `Resolution`, by its attribute `units`


def read_cardiosoft(file: EcgFile) -> Recording | None:
    """Read the first `StripData`; `MedianSamples`, which has the same children, is not the rhythm."""
    if file.root is None or file.root.tag != "cardiologyxml":
        return None
    strips = [strip for strip in file.root.iter("stripdata") if strip.find("waveformdata") is not None]
    if len(strips) != 1:
        raise EcgFileError(file.path, f"{len(strips)} StripData with WaveformData", "one")
    strip = strips[0]
    rate = strip.find("samplerate")
    if rate is not None and rate.get("units", "Hz").strip().lower() != "hz":
        raise EcgFileError(file.path, f"SampleRate in {quote(rate.get('units', ''))}", "Hz")
    resolution = strip.find("resolution")
    unit = "" if resolution is None else resolution.get("units", "uVperLsb").strip().lower()
    if resolution is not None and unit not in MICROVOLTS:
        raise EcgFileError(file.path, f"Resolution in {quote(unit)}", "uVperLsb or mVperLsb")
    microvolts = positive_number(text_of(resolution), "Resolution", file.path) * MICROVOLTS[unit]
    declared = text_of(strip.find("channelsamplecounttotal"))
    channels = []
    for waveform in strip.findall("waveformdata"):
        name = waveform.get("lead", "")
        counts = parse_comma_separated(text_of(waveform) or "", name, file.path)
        if declared is not None and declared != str(len(counts)):
            found = f"{len(counts)} samples in lead {quote(name)}, ChannelSampleCountTotal {quote(declared)}"
            raise EcgFileError(file.path, found, "as many samples as the file declares")
        channels.append((name, counts * microvolts / 1000))
    return assemble(
        "GE CardioSoft",
        channels,
        positive_number(text_of(rate), "SampleRate", file.path),
        file.path,
        device=" ".join(text_of(file.root.find(f".//{tag}")) or "" for tag in ("manufacturer", "model")),
        microvolts_per_count=microvolts,
    )
