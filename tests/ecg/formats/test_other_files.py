"""A file that is not an ECG is named as what it is, with what to do, and never by its bytes."""

import gzip
import io
import pickle
import tarfile
import zipfile

import numpy as np
import pytest

from ecg.formats.ecg_file import MAX_FILE_BYTES
from ecg.recording import EcgFileError
from xml_loader import read_recording


def zipped(*names):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
    return stream.getvalue()


def tarred():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("ecg.xml"))
    return stream.getvalue()


KINDS = {
    "a PDF": b"%PDF-1.7\n",
    "a PNG picture": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "a JPEG picture": b"\xff\xd8\xff\xe0\0\x10JFIF",
    "a TIFF picture": b"II*\0\x08\0\0\0",
    "a gzip archive": gzip.compress(b"<ecg/>"),
    "a 7z archive": b"7z\xbc\xaf\x27\x1c\0\x04",
    "a RAR archive": b"Rar!\x1a\x07\x01\0",
    "a tar archive": tarred(),
    "a zip archive": zipped("ecg.xml"),
    "an Excel workbook": zipped("[Content_Types].xml", "xl/workbook.xml"),
    "a Word document": zipped("[Content_Types].xml", "word/document.xml"),
    "an old Office file": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    "a video": b"\x1aE\xdf\xa3",
    "a video or HEIC picture": b"\0\0\0\x18ftypmp42",
    "an HTML page": b"\n<!DOCTYPE html>\n<html><body><br>not closed",
    "a Python pickle, which is never loaded": pickle.dumps(np.zeros((12, 5000))),
    "a PyTorch file": zipped("ecg/data.pkl"),
    "a text without twelve columns or rows of numbers": b"Dear colleague,\nplease find enclosed\n",
    "JSON without twelve columns": b'{"I": [1, 2, 3]}',
    "a file of zeros only": bytes(5000),
    "an empty file": b"",
    "a binary file of no format that is known": bytes(range(1, 30)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_named_as_what_it_is(tmp_path, kind):
    path = tmp_path / "ecg.xml"
    path.write_bytes(KINDS[kind])
    with pytest.raises(EcgFileError) as caught:
        read_recording(path)
    assert caught.value.found.startswith(kind) and "byte" not in str(caught.value)


def test_what_is_too_large_is_named_too(tmp_path):
    path = tmp_path / "ecg.dat"
    with open(path, "wb") as handle:
        handle.write(b"%PDF-1.7\n")
        handle.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(
        EcgFileError, match=r"found a PDF of more than 50,000,000 bytes; expected the ECG itself"
    ):
        read_recording(path)
