"""Schiller EDI: root `...SchillerEDI`, the `wavedata` of type ECG_RHYTHMS as comma-separated integers."""

from __future__ import annotations

from formats.ecg_file import EcgFile
from formats.numbers import parse_comma_separated, positive_number
from formats.xml_tree import text_of
from recording import EcgFileError, Recording, assemble, quote

MICROVOLTS = {"nv": 1e-3, "uv": 1.0, "mv": 1000.0}  # per unit of `unitperbit`, by `units`


def read_schiller(file: EcgFile) -> Recording | None:
    """Read the rhythm; ECG_AVERAGES, which has the same children, is not it."""
    if file.root is None or not file.root.tag.endswith("schilleredi"):
        return None
    rhythms = [wave for wave in file.root.iter("wavedata") if text_of(wave.find("type")) == "ECG_RHYTHMS"]
    if len(rhythms) != 1:
        raise EcgFileError(file.path, f"{len(rhythms)} wavedata of type ECG_RHYTHMS", "one")
    rhythm = rhythms[0]
    rate = positive_number(text_of(rhythm.find("resolution/samplerate/value")), "samplerate", file.path)
    unit = text_of(rhythm.find("resolution/yres/units")) or "nothing"
    if unit.lower() not in MICROVOLTS:
        raise EcgFileError(file.path, f"yres in {quote(unit)}", "UV, MV or NV")
    per_bit = positive_number(text_of(rhythm.find("resolution/yres/unitperbit")), "unitperbit", file.path)
    microvolts = per_bit * MICROVOLTS[unit.lower()]
    channels = []
    for channel in rhythm.iter("channel"):
        name, kind = (text_of(channel.find(tag)) or "" for tag in ("name", "datastype"))
        if kind and kind != "COMMASEPARATE":
            raise EcgFileError(file.path, f"datastype {quote(kind)} in lead {quote(name)}", "COMMASEPARATE")
        counts = parse_comma_separated(text_of(channel.find("data")) or "", name, file.path)
        declared = text_of(channel.find("samplecount"))
        if declared is not None and declared != str(len(counts)):
            found = f"{len(counts)} samples in lead {quote(name)}, samplecount {quote(declared)}"
            raise EcgFileError(file.path, found, "as many samples as the file declares")
        channels.append((name, counts * microvolts / 1000))
    return assemble("Schiller EDI", channels, rate, file.path, microvolts_per_count=microvolts)
