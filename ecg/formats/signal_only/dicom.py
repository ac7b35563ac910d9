"""DICOM: one multiplex group, with the definitions of its channels."""

from __future__ import annotations

import math
import re
from io import BytesIO
from typing import TYPE_CHECKING

from ecg.formats.ecg_file import EcgFile
from ecg.formats.signal_only.choice import SignalOnly, the_rhythm
from ecg.recording import MIN_SECONDS, EcgFileError, standard_lead

if TYPE_CHECKING:
    from pydicom import Dataset

READ = ["WaveformSequence", "Manufacturer", "ManufacturerModelName"]
GROUP = ["NumberOfWaveformChannels", "NumberOfWaveformSamples", "SamplingFrequency", "WaveformBitsAllocated"]
GROUP += ["WaveformSampleInterpretation", "WaveformPaddingValue", "WaveformData"]
CHANNEL = ["ChannelSensitivity", "ChannelSensitivityUnitsSequence", "ChannelSensitivityCorrectionFactor"]
CHANNEL += ["ChannelBaseline"]
BEATS = ("MEDIAN", "REPRESENTATIVE", "AVERAGE")  # in the label of a group that is no rhythm
ECG_STORAGE = "1.2.840.10008.5.1.4.1.1.9.1.1"
LEAD_OF_CODE = {1: "I", 2: "II", 61: "III", 62: "aVR", 63: "aVL", 64: "aVF"}
LEAD_OF_CODE |= {number + 2: f"V{number}" for number in range(1, 7)}
# "2:1" (MDC), "5.6.3-9-1" (SCPECG), and the first without its partition, 2 x 65536 + 1.
_CODE = re.compile(r"(?:2:|5\.6\.3-9-)?([0-9]{1,6})")
_PARTITION = 2 << 16


def dicom_signal(file: EcgFile) -> SignalOnly:
    """Keep the group with the most of the twelve leads and, of these, the longest: labels are optional."""
    import pydicom

    dataset = pydicom.dcmread(BytesIO(file.content), specific_tags=READ)
    little_endian = dataset.original_encoding[1] is not False
    warnings: list[str] = []
    groups = [group for group in dataset.get("WaveformSequence") or [] if not _is_beat(group)]
    chosen = the_rhythm(groups, lambda group: map(_lead, _channels(group)), _seconds, warnings)
    if chosen is not None and _most_skew(chosen) > 1:
        raise EcgFileError(file.path, "leads that begin at different times", "simultaneous leads")
    copy = _parts(dataset, [name for name in READ if name != "WaveformSequence"])
    if chosen is None and dataset.get("WaveformSequence"):
        raise EcgFileError(file.path, "a file of the format DICOM without a rhythm", "a rhythm of 12 leads")
    if chosen is not None:
        group = _parts(chosen, GROUP)
        group.ChannelDefinitionSequence = [_channel(channel) for channel in _channels(chosen)]
        copy.WaveformSequence = [group]
    copy.SOPClassUID, copy.SOPInstanceUID = ECG_STORAGE, f"{ECG_STORAGE}.1"
    copy.file_meta = pydicom.dataset.FileMetaDataset()
    syntax = pydicom.uid.ExplicitVRLittleEndian if little_endian else pydicom.uid.ExplicitVRBigEndian
    copy.file_meta.TransferSyntaxUID = syntax
    buffer = BytesIO()
    copy.save_as(buffer, enforce_file_format=True)
    rate = None if chosen is None else _number(chosen.get("SamplingFrequency"))
    names = (
        None if chosen is None else [_lead(one) or "/".join(_names(one)[-1:]) for one in _channels(chosen)]
    )
    return SignalOnly({"ecg.dcm": buffer.getvalue()}, names, (), rate, warnings)


def _parts(dataset: Dataset, names: list[str]) -> Dataset:
    import pydicom

    copy = pydicom.Dataset()
    for name in names:
        if name in dataset:
            copy[name] = dataset[name]
    return copy


def _channels(group: Dataset) -> list[Dataset]:
    return list(group.get("ChannelDefinitionSequence") or [])


def _channel(channel: Dataset) -> Dataset:
    import pydicom

    copy = _parts(channel, CHANNEL)
    copy.ChannelLabel = _lead(channel) or next(iter(_names(channel)), "other")[:16]
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "0", "L", copy.ChannelLabel
    copy.ChannelSourceSequence = [code]
    return copy


def _lead(channel: Dataset) -> str | None:
    """Return the lead that a channel's source has as a code or in words or, failing these, its label."""
    return next(filter(None, map(_lead_of_name, _names(channel))), None)


def _names(channel: Dataset) -> list[str]:
    sources = channel.get("ChannelSourceSequence") or []
    names = [str(code.get(key) or "") for code in sources[:1] for key in ("CodeValue", "LongCodeValue")]
    names += [re.split(r"[,(]", str(code.get("CodeMeaning") or ""))[0] for code in sources[:1]]
    return [name.strip() for name in [*names, str(channel.get("ChannelLabel") or "")] if name.strip()]


def _lead_of_name(name: str) -> str | None:
    code = _CODE.fullmatch(name)
    number = int(code[1]) if code else 0
    return LEAD_OF_CODE.get(number - _PARTITION if number > _PARTITION else number) or standard_lead(name)


def _is_beat(group: Dataset) -> bool:
    label = str(group.get("MultiplexGroupLabel") or "").upper()
    return any(word in label for word in BEATS) and _seconds(group) < MIN_SECONDS


def _most_skew(group: Dataset) -> float:
    """Return by how many samples two of the leads begin apart; devices that sample in turn have below one."""
    rate = _number(group.get("SamplingFrequency"))
    leads = [channel for channel in _channels(group) if _lead(channel)]
    apart = []
    for name, samples in (("ChannelSampleSkew", 1.0), ("ChannelTimeSkew", rate)):  # in samples, in s
        skews = [samples * _skew(lead, name) for lead in leads]
        apart.append(max(skews, default=0.0) - min(skews, default=0.0))
    return max(apart)


def _skew(channel: Dataset, name: str) -> float:
    try:
        return float(channel.get(name) or 0)
    except (TypeError, ValueError):  # several numbers, or none
        return 0.0


def _seconds(group: Dataset) -> float:
    return _number(group.get("NumberOfWaveformSamples")) / (
        _number(group.get("SamplingFrequency")) or math.inf
    )


def _number(value: object) -> float:
    try:
        number = float(str(value))
    except ValueError:
        return 0.0
    return number if 0 <= number < math.inf else 0.0
