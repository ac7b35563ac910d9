"""MUSE, Philips, HL7 aECG and Mortara: the elements and attributes that hold the signal, and no others.

The names of our trees are in lower case; the parsers want them as each format writes them.
"""

from __future__ import annotations

import math
from xml.etree.ElementTree import Element, SubElement, tostring

from ecg.formats.ecg_file import EcgFile
from ecg.formats.signal_only.choice import SignalOnly, rate_of_interval, the_rhythm
from ecg.formats.xml_tree import text_of
from ecg.recording import standard_lead

MUSE_LEAD = {"LeadID", "WaveFormData", "LeadSampleSize", "LeadByteCountTotal", "LeadSampleCountTotal"}
MUSE_LEAD |= {"LeadDataCRC32", "LeadAmplitudeUnitsPerBit", "LeadAmplitudeUnits", "LeadTimeOffset"}
MUSE_LEAD |= {"FirstSampleBaseline", "LeadOffsetFirstSample"}
PHILIPS_SIGNAL = {
    "samplingrate",
    "resolution",
    "signalresolution",
    "acquisitiontype",
    "leadset",
    "signaloffset",
}
PHILIPS_SIGNAL |= {"signalsigned", "numberchannelsallocated", "numberchannelsvalid"}
PHILIPS_WAVEFORMS = {"leadlabels", "numberofleads", "samplespersecond", "durationperchannel", "resolution"}
PHILIPS_WAVEFORMS |= {
    "signaloffset",
    "signalsigned",
    "dataencoding",
    "compressflag",
    "compression",
    "compressmethod",
}
AECG_VALUE = {"head", "increment", "origin", "scale", "digits"}
MORTARA_CHANNEL = {"offset", "bits", "format", "units_per_mv", "encoding", "duration", "sample_freq", "data"}


def muse_signal(file: EcgFile) -> SignalOnly:
    """Keep the waveform of type Rhythm, without the leads that are not among the twelve."""
    warnings: list[str] = []
    waves = [wave for wave in file.root.findall("waveform") if _muse_type(wave) == "rhythm"]
    wave = the_rhythm(waves, lambda wave: map(_muse_lead, wave.findall("leaddata")), _muse_seconds, warnings)
    root = Element("RestingECG")
    _copy(SubElement(root, "TestDemographics"), file.root.find("testdemographics"), {"AcquisitionDevice"})
    if wave is None:
        return SignalOnly(_xml(root))
    kept = SubElement(root, "Waveform")
    _copy(kept, wave, {"WaveformType", "SampleBase", "SampleExponent"})
    others = []
    for data in wave.findall("leaddata"):
        lead = _muse_lead(data)
        if lead is None and text_of(data.find("leadid")):
            others.append(text_of(data.find("leadid")))
            continue
        copy = SubElement(kept, "LeadData")
        _copy(copy, data, MUSE_LEAD)
        for name in copy.iter("LeadID"):
            name.text = lead
    return SignalOnly(_xml(root), None, others, _muse_rate(wave) or None, warnings)


def _muse_type(wave: Element) -> str:
    return (text_of(wave.find("waveformtype")) or "rhythm").lower()


def _muse_lead(data: Element) -> str | None:
    return standard_lead(text_of(data.find("leadid")) or "")


def _muse_rate(wave: Element) -> float:
    """Return the rate, 0 where there is none; an exponent of -1 makes 5000 to 500 Hz."""
    base, exponent = (text_of(wave.find(tag)) or "0" for tag in ("samplebase", "sampleexponent"))
    return _number(f"{base}e{exponent}") or _number(base) * 10.0 ** _number(exponent)


def _muse_seconds(wave: Element) -> float:
    """Return how long a waveform is, from its text: four characters of base64 are three bytes."""
    texts = [_own_text(data) for lead in wave.findall("leaddata") for data in lead.findall("waveformdata")]
    n_bytes = min((len("".join(text.split())) for text in texts), default=0) * 3 / 4
    return n_bytes / 2 / (_muse_rate(wave) or math.inf)


def philips_signal(file: EcgFile) -> SignalOnly:
    """Keep the version, how the signal is described, and `parsedwaveforms`; not the representative beats."""
    root = Element("restingecgdata")
    _copy(
        SubElement(root, "documentinfo"), file.root.find("documentinfo"), {"documenttype", "documentversion"}
    )
    acquisition = file.root.find("dataacquisition")
    machine = None if acquisition is None else acquisition.find("machine")
    signal = None if acquisition is None else acquisition.find("signalcharacteristics")
    kept = SubElement(root, "dataacquisition")
    if machine is not None:
        SubElement(kept, "machine", _only(machine, {"detaildescription"})).text = machine.text
    _copy(SubElement(kept, "signalcharacteristics"), signal, PHILIPS_SIGNAL)
    waveforms = next(file.root.iter("parsedwaveforms"), None)
    if waveforms is None:
        return SignalOnly(_xml(root))
    names = waveforms.get("leadlabels", "").split()
    attributes = _only(waveforms, PHILIPS_WAVEFORMS)
    if names:
        attributes["leadlabels"] = " ".join(standard_lead(name) or name for name in names)
    SubElement(SubElement(root, "waveforms"), "parsedwaveforms", attributes).text = _own_text(waveforms)
    return SignalOnly(_xml(root), sampling_rate=_number(waveforms.get("samplespersecond")) or None)


def aecg_signal(file: EcgFile) -> SignalOnly:
    """Keep the time and the twelve leads of one sequence set of a rhythm series."""
    warnings: list[str] = []
    series = [one for one in file.root.findall("component/series") if _code(one) != "REPRESENTATIVE_BEAT"]
    sets = [(one, sequences) for one in series for sequences in one.findall("component/sequenceset")]
    chosen = the_rhythm(
        sets, lambda pair: map(_aecg_lead, _sequences(pair[1])), lambda pair: _aecg_seconds(pair[1]), warnings
    )
    root = Element("AnnotatedECG")
    if not series:
        return SignalOnly(_xml(root))
    kept = SubElement(SubElement(root, "component"), "series")
    if chosen is None:
        return SignalOnly(_xml(root))
    author = chosen[0].find("author/seriesauthor")
    if author is not None:
        copy = SubElement(SubElement(kept, "author"), "seriesAuthor")
        device = SubElement(copy, "manufacturedSeriesDevice")
        _copy(device, author.find("manufacturedseriesdevice"), {"manufacturerModelName"})
        _copy(SubElement(copy, "manufacturerOrganization"), author.find("manufacturerorganization"), {"name"})
    sequences, rate = SubElement(SubElement(kept, "component"), "sequenceSet"), _aecg_rate(chosen[1])
    others = []
    for sequence in _sequences(chosen[1]):
        code, lead = _code(sequence), _aecg_lead(sequence)
        if lead is None and not code.startswith("TIME_"):
            others.append(code.rpartition("_")[2])
            continue
        copy = SubElement(SubElement(sequences, "component"), "sequence")
        SubElement(copy, "code", {"code": f"MDC_ECG_LEAD_{lead}" if lead else code})
        value = sequence.find("value")
        copy = SubElement(copy, "value")
        for part in () if value is None else value:
            attributes = _only(part, {"value", "unit"})
            if part.tag == "increment" and rate >= 1:  # the parser rounds the rate, and would warn of it
                attributes = {"value": repr(1 / round(rate)), "unit": "s"}
            if part.tag in AECG_VALUE:
                SubElement(copy, part.tag, attributes).text = _own_text(part)
    return SignalOnly(_xml(root), None, others, rate or None, warnings)


def _sequences(sequence_set: Element) -> list[Element]:
    return sequence_set.findall("component/sequence")


def _code(element: Element) -> str:
    code = element.find("code")
    return "" if code is None else code.get("code", "").strip().upper()


def _aecg_lead(sequence: Element) -> str | None:
    code = _code(sequence)
    return standard_lead(code) if "_ECG_LEAD_" in code else None


def _aecg_rate(sequence_set: Element) -> float:
    """Return the rate of the first sequence of times, 0 where it has none."""
    times = (one for one in _sequences(sequence_set) if _code(one).startswith("TIME_"))
    step = next((one.find("value/increment") for one in times), None)
    unit = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}.get(
        "" if step is None else step.get("unit", ""), 0.0
    )
    text = "" if step is None else step.get("value", "").strip()
    return rate_of_interval(_number(text) * unit, _last_digit(text) * unit)


def _aecg_seconds(sequence_set: Element) -> float:
    digits = (one.find("value/digits") for one in _sequences(sequence_set) if _aecg_lead(one))
    lengths = [len((one.text or "").split()) for one in digits if one is not None]
    return min(lengths, default=0) / (_aecg_rate(sequence_set) or math.inf)


def mortara_signal(file: EcgFile) -> SignalOnly:
    """Keep the twelve leads of `CHANNEL`, not `TYPICAL_CYCLE`."""
    root, others = Element("ECG"), []
    source = file.root.find("source")
    if source is not None:
        SubElement(root, "SOURCE", _upper(_only(source, {"manufacturer", "model"})))
    for channel in file.root.findall("channel"):
        lead = standard_lead(channel.get("name", ""))
        if lead is None:
            others.append(channel.get("name", ""))
            continue
        attributes = _upper(_only(channel, MORTARA_CHANNEL))
        SubElement(root, "CHANNEL", {"NAME": lead, **attributes}).text = _own_text(channel)
    rates = {
        _number(channel.get("sample_freq"))
        for channel in file.root.findall("channel")
        if standard_lead(channel.get("name", ""))
    }
    return SignalOnly(_xml(root), None, others, rates.pop() if len(rates) == 1 else None)


def _copy(copy: Element, element: Element | None, names: set[str]) -> None:
    """Add the children of these names, with their text and nothing else."""
    written = {name.lower(): name for name in names}
    for child in () if element is None else element:
        if child.tag in written:
            SubElement(copy, written[child.tag]).text = _own_text(child)


def _only(element: Element, names: set[str]) -> dict[str, str]:
    return {name: value for name, value in element.attrib.items() if name in names}


def _upper(attributes: dict[str, str]) -> dict[str, str]:
    return {name.upper(): value for name, value in attributes.items()}


def _own_text(element: Element) -> str:
    """Return an element's text without that of the elements in it."""
    return "".join([element.text or "", *(child.tail or "" for child in element)])


def _xml(root: Element) -> dict[str, bytes]:
    return {"ecg.xml": tostring(root, "utf-8", xml_declaration=True)}


def _number(text: str | None) -> float:
    """Return a finite number of at least 0, and 0 where there is none: the parser is the one to complain."""
    try:
        value = float((text or "0").replace(",", "."))
    except ValueError:
        return 0.0
    return value if 0 <= value < math.inf else 0.0


def _last_digit(text: str) -> float:
    """Return what a number's last decimal stands for: 0.0001 of "0.0020", 0.001 of "2e-3"."""
    mantissa, _, exponent = text.lower().replace(",", ".").partition("e")
    try:
        return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    except (ValueError, OverflowError):
        return 0.0
