"""Which files of a folder may be ECGs, and which lie beside them: what is left out is counted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from ecg.formats.edf import is_edf
from ecg.formats.hdf5 import is_hdf5
from ecg.formats.matlab import is_matlab
from ecg.formats.number_table import begins_as_ecg_table
from ecg.formats.numpy_arrays import is_numpy
from ecg.recording import PathLike

# Endings of what lies beside ECGs. They prove nothing: what begins as an ECG does is one.
TEXTS = {
    "txt",
    "md",
    "rst",
    "rtf",
    "log",
    "json",
    "yml",
    "yaml",
    "toml",
    "cfg",
    "ini",
    "bak",
    "old",
    "tmp",
    "orig",
}
TABLES = {"csv", "tsv", "xls", "xlsx", "xlsm", "ods", "db", "sqlite", "parquet"}
DOCUMENTS = {
    "doc",
    "docx",
    "odt",
    "ppt",
    "pptx",
    "pdf",
    "html",
    "htm",
    "dtd",
    "xsd",
    "xsl",
    "xslt",
    "css",
    "js",
}
PICTURES = {"png", "jpg", "jpeg", "gif", "bmp", "tif", "tiff", "webp", "svg", "heic", "mp4", "avi", "mov"}
PROGRAMS = {"py", "pyc", "ipynb", "r", "m", "sh", "bat", "ps1", "exe", "dll"}
LEFT_BY_SYSTEMS = {"lnk", "url", "webloc", "lock", "part", "partial", "crdownload", "gz", "torrent"}
CHECKSUMS = {"md5", "sha1", "sha256", "sha512", "asc", "sig"}
BESIDE = TEXTS | TABLES | DOCUMENTS | PICTURES | PROGRAMS | LEFT_BY_SYSTEMS | CHECKSUMS
# Folders that a system or a program keeps to itself, as it does those that begin with a dot.
SYSTEM_FOLDERS = {
    "__macosx",
    "@eadir",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "__pycache__",
}

LEFT_OUT = (".", "~$", "Icon\r")  # how names begin: hidden, open in Office, a folder's icon on macOS

_SNIFFED = 65_536  # bytes; a patient's data come before the waveforms
_ECG_XML = re.compile(
    rb"<(?:[\w.-]+:)?(?:restingecg|restingecgdata|cardiologyxml|annotatedecg|rhythm|[\w.-]*schilleredi)[\s>/]"
)
_MORTARA_ROOT = re.compile(rb"<(?:[\w.-]+:)?ecg[\s>]")
_MORTARA_CHANNEL = re.compile(rb"<(?:[\w.-]+:)?channel[\s>]")


def find_files(paths: Iterable[PathLike]) -> tuple[list[Path], list[Path], list[str]]:
    """Return the files that may be ECGs: those named, and all in the folders named, at any depth.

    Links to folders are followed; a folder that several ways lead to is entered once, so that loops end.

    Parameters
    ----------
    paths : files and folders

    Returns
    -------
    files : sorted within each folder, each once
    left_out : files in the folders that lie beside ECGs: hidden ones, those of systems and programs, texts,
        tables and pictures that do not begin as an ECG does, and those with the same stem as a WFDB header
        beside it, such as its signal file
    problems : one line for each folder that cannot be listed, or has no ECG
    """
    files, left_out, problems = [], [], []
    for path in map(Path, paths):
        if not path.is_dir():
            files.append(path)
            continue
        inside, unlisted = _files_inside(path)
        problems += unlisted
        headers = {file.with_suffix("") for file in inside if file.suffix.lower() == ".hea"}
        candidates = [file for file in inside if _may_be_an_ecg(file, path, headers)]
        left_out += sorted(set(inside) - set(candidates))
        files += candidates
        if not candidates and not unlisted:
            problems.append(f"{path}: found no ECG file in the folder; expected at least one")
    return list(dict.fromkeys(files)), left_out, problems


def begins_as_ecg(path: Path) -> bool:
    """Whether a file begins as only ECGs do: XML of a known root, a format's signature, a table of leads."""
    try:
        if not path.is_file():  # opening a FIFO waits for a writer
            return False
        with open(path, "rb") as handle:
            beginning = handle.read(_SNIFFED)
    except OSError:
        return False
    if beginning[128:132] == b"DICM" or beginning[16:22] == b"SCPECG":
        return True
    if any(is_known(beginning) for is_known in (is_edf, is_numpy, is_matlab, is_hdf5)):
        return True
    text = beginning.replace(b"\0", b"").lower()  # UTF-16 is read as well as any other encoding
    return (b"<" in text[:1000] and _is_ecg_xml(text)) or begins_as_ecg_table(path, beginning)


def _is_ecg_xml(text: bytes) -> bool:
    """Whether XML, in lower case, has an element that only ECGs have."""
    if _ECG_XML.search(text):
        return True
    root = _MORTARA_ROOT.search(text)
    return root is not None and _MORTARA_CHANNEL.search(text, root.end()) is not None


def _files_inside(folder: Path) -> tuple[list[Path], list[str]]:
    """Return all files in a folder, sorted, and a line for each folder that cannot be listed.

    Folders come before links to folders, so that a file has the name that it has without them.
    """
    files, problems, entered = [], [], set()
    folders, links = [folder], []
    while folders or links:
        here = folders.pop() if folders else links.pop(0)
        try:
            state = os.stat(here)
            if (state.st_dev, state.st_ino) in entered:
                continue
            entered.add((state.st_dev, state.st_ino))
            for entry in sorted(os.scandir(here), key=lambda entry: entry.name):
                path = here / entry.name
                if path.is_dir():
                    (links if entry.is_symlink() else folders).append(path)
                else:
                    files.append(path)
        except OSError as error:
            found = f"found a folder that cannot be listed ({error.strerror})"
            problems.append(f"{here}: {found}; expected one that may be read, on a disk that answers")
    return sorted(files), problems


def _may_be_an_ecg(file: Path, folder: Path, headers: set[Path]) -> bool:
    """Whether a file is to be read: by its place and, where its ending proves nothing, by what it holds."""
    suffix = file.suffix.lower().removeprefix(".")
    around = [part.lower() for part in file.relative_to(folder).parts[:-1]]
    if file.name.startswith(LEFT_OUT) or any(part[0] == "." or part in SYSTEM_FOLDERS for part in around):
        return False
    if suffix == "hea":
        return True
    if file.with_suffix("") in headers:
        return False
    return begins_as_ecg(file) if suffix in BESIDE or _is_plain_text(file, suffix) else True


def _is_plain_text(file: Path, suffix: str) -> bool:
    """Whether a file without an ending is a text that is no XML, such as RECORDS, LICENSE or SHA256SUMS."""
    if suffix or not file.is_file():
        return False
    try:
        with open(file, "rb") as handle:
            beginning = handle.read(_SNIFFED)
    except OSError:
        return False
    printable = beginning.translate(None, bytes(range(32, 256)) + b"\t\r\n\f") == b""
    return bool(beginning) and printable and beginning.lstrip()[:1] != b"<"
