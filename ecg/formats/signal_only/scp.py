"""SCP-ECG (EN 1064): the sections that the rhythm needs, of section 1 only the device."""

from __future__ import annotations

import binascii
import struct

from ecg.formats.ecg_file import EcgFile
from ecg.formats.signal_only.choice import SignalOnly, rate_of_interval

HEADER = 16  # bytes of each section: CRC, number, length, two versions, six reserved
DEVICE = 14  # its tag in section 1
END = 255
BEATS_SUBTRACTED = 1  # a flag of section 3
RHYTHM = (2, 3, 6)  # Huffman tables, leads, samples
BEATS = (4, 5)  # where they are, and their mean: only where it was subtracted, or the rest is decimated


def scp_signal(file: EcgFile) -> SignalOnly:
    """Keep sections 1 to 6 as far as the rhythm needs them; a file without them stays as it is.

    A checksum that was wrong stays wrong, as far as it is one of a section that is kept.
    """
    sections = _sections(file.content)
    three, six = (sections.get(number, b"")[HEADER:] for number in (3, 6))
    if len(three) < 2 or len(six) < 6:
        return SignalOnly({"ecg.scp": file.content})
    subtracted = bool(three[1] & BEATS_SUBTRACTED)
    wanted = RHYTHM + (BEATS if subtracted or six[5] else ())
    kept = {number: section for number, section in sections.items() if number in wanted}
    if not subtracted:  # the positions of the beats would have to be moved too
        kept[3] = _with_body(sections[3], _from_one(three, six, compressed=2 in sections))
    device = _device(sections.get(1, b"")[HEADER:])
    if device:
        kept[1] = _with_body(sections[1][:HEADER].ljust(HEADER, b"\0"), device, renew=True)
    (microseconds,) = struct.unpack_from("<H", six, 2)
    rate = rate_of_interval(microseconds * 1e-6, 1e-6)
    return SignalOnly({"ecg.scp": _record(file.content, kept)}, sampling_rate=rate or None)


def _sections(content: bytes) -> dict[int, bytes]:
    """Return the sections 1 to 6 that section 0 points to, as far as they are in the file."""
    (length,) = struct.unpack_from("<I", content, 10)
    pointers = content[6 + HEADER : 6 + length]
    sections = {}
    for number, size, index in struct.iter_unpack("<HII", pointers[: len(pointers) // 10 * 10]):
        section = content[index - 1 : index - 1 + size] if index else b""
        if number in (1, *RHYTHM, *BEATS) and HEADER <= size == len(section):
            sections[number] = section
    return sections


def _from_one(three: bytes, six: bytes, *, compressed: bool) -> bytes:
    """Return section 3 with samples that are counted from 1, where a writer counts them from 0.

    How many there are is what matters: all leads begin together. "0 to 5000" is meant for 5,000 samples where
    the section of the rhythm has so many.
    """
    n_leads = three[0]
    if len(three) < 2 + 9 * n_leads or len(six) < 6 + 2 * n_leads:
        return three
    ranges = [struct.unpack_from("<IIB", three, 2 + 9 * number) for number in range(n_leads)]
    if not n_leads or min(start for start, _, _ in ranges) != 0:
        return three
    sizes = struct.unpack_from(f"<{n_leads}H", six, 6)
    leads = b""
    for (start, end, code), size in zip(ranges, sizes, strict=True):
        one_more = not compressed and start == 0 and size == 2 * end
        leads += struct.pack("<IIB", start + 1, min(end + (not one_more), 0xFFFFFFFF), code)
    return three[:2] + leads + three[2 + 9 * n_leads :]


def _device(body: bytes) -> bytes:
    """Return section 1 with no other tag than that of the acquiring device, or nothing where it has none."""
    position = 0
    while position + 3 <= len(body) and body[position] != END:
        tag, length = struct.unpack_from("<BH", body, position)
        position += 3 + length
        if tag == DEVICE and position <= len(body):
            return body[position - 3 - length : position] + struct.pack("<BH", END, 0)
    return b""


def _with_body(section: bytes, body: bytes, *, renew: bool = False) -> bytes:
    """Return a section with another body; its checksum is renewed where it was right."""
    if section[HEADER:] == body:
        return section
    renew = renew or section[:2] == _crc(section[2:])
    head = struct.pack("<I", HEADER + len(body) + len(body) % 2)
    changed = section[2:4] + head + section[8:HEADER] + body + bytes(len(body) % 2)
    return (_crc(changed) if renew else section[:2]) + changed


def _record(content: bytes, sections: dict[int, bytes]) -> bytes:
    """Return a record of these sections; section 0 keeps the versions that it has."""
    index, pointers = 7 + HEADER + 10 * (len(sections) + 1), b""
    for number, section in sorted(sections.items()):
        pointers += struct.pack("<HII", number, len(section), index)
        index += len(section)
    length = HEADER + 10 * (len(sections) + 1)
    zero = struct.pack("<HI", 0, length) + content[14:22] + struct.pack("<HII", 0, length, 7) + pointers
    rest = _crc(zero) + zero + b"".join(section for _, section in sorted(sections.items()))
    record = struct.pack("<I", 6 + len(rest)) + rest
    return _crc(record) + record


def _crc(content: bytes) -> bytes:
    return struct.pack("<H", binascii.crc_hqx(content, 0xFFFF))
