"""One file on the disk, read with care: what it is, its bytes, and its XML where it is XML."""

from __future__ import annotations

import os
import stat
from functools import cached_property
from xml.etree.ElementTree import Element

from ecg.formats.other_files import of_another_kind
from ecg.formats.xml_tree import looks_like_xml, parse_xml
from ecg.recording import EcgFileError, PathLike, hindrance

MAX_FILE_BYTES = 50_000_000  # a 10 s ECG is 0.1 to 1 MB in any vendor's format


class EcgFile:
    """What a reader receives.

    Parameters
    ----------
    path : str or path-like

    Raises
    ------
    EcgFileError
        Not a regular file, not readable, empty, or larger than `MAX_FILE_BYTES`.
    """

    def __init__(self, path: PathLike):
        self.path = path
        self.content = read_bytes(path)

    @cached_property
    def root(self) -> Element | None:
        """The XML tree, its names in lower case without prefix, or None for a file that is not XML.

        Raises
        ------
        EcgFileError
            XML that is damaged or not safe.
        """
        return parse_xml(self.content, self.path) if looks_like_xml(self.content) else None


def read_bytes(path: PathLike) -> bytes:
    """Return a file's content; see `EcgFile` for what is refused."""
    expected = "a readable ECG file"
    try:
        mode = os.stat(path).st_mode
        # Opening a FIFO waits for a writer, and opening a device may do anything: look before opening.
        if not stat.S_ISREG(mode):
            raise EcgFileError(path, f"a {_kind_of_file(mode)}", expected)
        with open(path, "rb") as handle:
            content = handle.read(MAX_FILE_BYTES + 1)
    except (OSError, MemoryError) as error:
        raise hindrance(path, error) from error
    except ValueError as error:
        if isinstance(error, EcgFileError):
            raise
        raise EcgFileError(path, f"nothing readable ({error})", expected) from error  # a NUL in the path
    if not content:
        raise EcgFileError(path, "an empty file", expected)
    if len(content) > MAX_FILE_BYTES:
        other = of_another_kind(content)
        raise EcgFileError(
            path,
            f"{other.found if other else 'a file'} of more than {MAX_FILE_BYTES:,} bytes",
            other.expected if other else "a 10 s ECG, which is below 1 MB",
        )
    return content


def _kind_of_file(mode: int) -> str:
    kinds = {stat.S_IFDIR: "directory", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")
