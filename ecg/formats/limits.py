"""What a file may cost ecgdatakit's decoders, checked before they get it.

They decode Philips and SCP-ECG value by value in Python, make an object of each DICOM element, and inflate
what is compressed without a limit. A 10 s ECG needs a hundredth of what is granted here: 2 s and 500 MB.
"""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from ecg.formats.ecg_file import EcgFile
from ecg.recording import EcgFileError

MAX_DICOM_BYTES = 5_000_000  # inflated; 12 leads of 16 bits at 1 kHz for 200 s
MAX_DICOM_ITEMS = 20_000  # of sequences; a channel has about ten
MAX_SCP_BYTES = 5_000_000  # all sections
MAX_SCP_SECTION = {4: 20_000, 5: 200_000, 6: 2_000_000}  # bytes, of: beats, their mean, rhythm
MAX_SCP_POINTERS = 1000  # twelve sections are in the standard
MAX_DECODED_SAMPLES = 1_000_000  # all leads together; they take about 0.7 s
MAX_AECG_STATEMENTS = 1000  # each is compared with all others
MAX_XLI_BYTES = 2_000_000
MAX_XLI_CHUNKS = 64  # one per lead

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_LONG_VALUES = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_LAST_LZW_CODE = 1022  # of 10 bits; 1023 ends a chunk


def check_limits(file: EcgFile, file_format: str) -> None:
    """Refuse a file that would take the decoder of its format minutes or gigabytes.

    Raises
    ------
    EcgFileError
    """
    if file_format in _CHECKS:
        _CHECKS[file_format](file)


def _check_dicom(file: EcgFile) -> None:
    content = _inflated(file) if _DEFLATED in file.content[:2000] else file.content
    if len(content) > MAX_DICOM_BYTES:
        found = f"a DICOM file of more than {MAX_DICOM_BYTES:,} bytes"
        raise EcgFileError(file.path, found, "an ECG of some minutes at most")
    n_items = max(content.count(tag) for tag in (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00"))
    if n_items > MAX_DICOM_ITEMS:
        raise EcgFileError(file.path, f"{n_items:,} items in DICOM sequences", f"at most {MAX_DICOM_ITEMS:,}")


def _inflated(file: EcgFile) -> bytes:
    """Return the beginning of what a deflated DICOM file expands to, and a byte more than is allowed."""
    content, position = file.content, 132
    # Group 2, which is not deflated: tag, value representation, length, value.
    while content[position : position + 2] == b"\2\0" and position + 12 <= len(content):
        if content[position + 4 : position + 6] in _LONG_VALUES:
            position += 12 + struct.unpack_from("<I", content, position + 8)[0]
        else:
            position += 8 + struct.unpack_from("<H", content, position + 6)[0]
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(content[position:], MAX_DICOM_BYTES + 1)
    except zlib.error as error:
        raise EcgFileError(file.path, "a deflated DICOM file that is damaged", "a complete file") from error


def _check_scp(file: EcgFile) -> None:
    """Check the lengths of sections and the samples that section 3 declares, from section 0's pointers."""
    (length,) = struct.unpack_from("<I", file.content, 10)
    pointers = file.content[22 : 6 + length]
    if len(file.content) > MAX_SCP_BYTES or len(pointers) > 10 * MAX_SCP_POINTERS:
        found = f"an SCP-ECG file of {len(file.content):,} bytes and {len(pointers) // 10:,} sections"
        raise EcgFileError(file.path, found, f"at most {MAX_SCP_BYTES:,} and {MAX_SCP_POINTERS:,}")
    for number, size, index in struct.iter_unpack("<HII", pointers[: len(pointers) // 10 * 10]):
        if size > MAX_SCP_SECTION.get(number, size):
            found = f"section {number} of SCP-ECG with {size:,} bytes"
            raise EcgFileError(file.path, found, f"at most {MAX_SCP_SECTION[number]:,}")
        if number == 3:
            # A header of 16 bytes, the number of leads, flags, the leads.
            n_leads = (file.content[index + 15 : index + 16] or b"\0")[0]
            leads = file.content[index + 17 : index + 17 + 9 * n_leads]
            ranges = struct.iter_unpack("<IIB", leads[: len(leads) // 9 * 9])
            _check_samples(sum(max(0, end - start + 1) for start, end, _ in ranges), file)


def _check_aecg(file: EcgFile) -> None:
    codes = [code.get("code", "").upper() for code in file.root.iter("code")]
    n_statements = sum(code.startswith("MDC_ECG_INTERPRETATION") for code in codes)
    if n_statements > MAX_AECG_STATEMENTS:
        found = f"{n_statements:,} statements of interpretation"
        raise EcgFileError(file.path, found, f"at most {MAX_AECG_STATEMENTS:,}")


def _check_philips(file: EcgFile) -> None:
    """Walk through the payload that is compressed by XLI, without decoding it."""
    for waveforms in file.root.iter("parsedwaveforms"):
        methods = {waveforms.get(name, "").upper() for name in ("compression", "compressmethod")}
        if "XLI" not in methods:
            continue
        try:
            payload = base64.b64decode("".join("".join(waveforms.itertext()).split()))
        except ValueError:  # characters that are not ASCII, or not base64
            continue  # the decoder refuses it
        if len(payload) > MAX_XLI_BYTES:
            found = f"{len(payload):,} bytes of compressed waveforms"
            raise EcgFileError(file.path, found, f"at most {MAX_XLI_BYTES:,}")
        _check_samples(_xli_bytes(payload, file) // 2, file)


def _xli_bytes(payload: bytes, file: EcgFile) -> int:
    """Return how many bytes the chunks of an XLI payload expand to."""
    n_bytes = n_chunks = position = 0
    while position + 8 <= len(payload):
        (size,) = struct.unpack_from("<i", payload, position)
        if not 0 < size <= len(payload) - position - 8:
            break  # the decoder refuses it here
        n_bytes += _lzw_bytes(payload[position + 8 : position + 8 + size])
        n_chunks += 1
        position += 8 + size
        if n_chunks > MAX_XLI_CHUNKS:
            found = f"compressed waveforms in more than {MAX_XLI_CHUNKS} chunks"
            raise EcgFileError(file.path, found, "one for each lead")
    return n_bytes


def _lzw_bytes(chunk: bytes) -> int:
    """Return how many bytes LZW codes of 10 bits stand for; each new string is a byte longer."""
    bits = np.unpackbits(np.frombuffer(chunk, np.uint8))
    codes = bits[: bits.size // 10 * 10].reshape(-1, 10) @ (1 << np.arange(9, -1, -1, dtype=np.uint16))
    ends = np.flatnonzero(codes > _LAST_LZW_CODE)
    codes = codes[: ends[0]] if ends.size else codes
    lengths = np.zeros(_LAST_LZW_CODE + 1, np.int64)
    lengths[:256] = 1
    previous = n_bytes = n_read = 0
    new_codes = iter(range(256, _LAST_LZW_CODE + 1))
    for code in codes[: _LAST_LZW_CODE - 254].tolist():  # the first adds none; then the table is full
        n = int(lengths[code]) or previous + 1
        lengths[code] = n
        if previous:
            lengths[next(new_codes)] = previous + 1
        previous, n_bytes, n_read = n, n_bytes + n, n_read + 1
    return n_bytes + int(lengths[codes[n_read:]].sum())


def _check_samples(n_samples: int, file: EcgFile) -> None:
    if n_samples > MAX_DECODED_SAMPLES:
        found = f"a file that declares or expands to {n_samples:,} samples"
        raise EcgFileError(file.path, found, f"at most {MAX_DECODED_SAMPLES:,} in all")


_CHECKS = {
    "DICOM": _check_dicom,
    "SCP-ECG": _check_scp,
    "HL7 aECG": _check_aecg,
    "Philips": _check_philips,
}
