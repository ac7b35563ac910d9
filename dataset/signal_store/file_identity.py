"""Whether a file is still the one that was read: by its size and times, and by the digest of its content.

The signal of a WFDB header lies in other files, which belong to it; to plain numbers belongs what
`ecg_format.yml` states of them.
"""

import contextlib
import hashlib
import os
from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from ecg.formats import companion_files
from ecg.formats.statement import statement_file
from xml_loader import MAX_FILE_BYTES, EcgFileError


def states_of(data_dir: str | Path, files: Sequence[str]) -> np.ndarray:
    """Return size, modification time and change time (ns) of files, int64 (n_files, 3).

    Those of all files include what is stated for their folder: a changed statement makes each of them stale,
    and its digest then shows whether it depends on it.
    """
    folders: dict[str, _Folder] = {}
    states = []
    for file in files:
        path = os.path.join(data_dir, file)
        folder = os.path.dirname(path)
        if folder not in folders:
            folders[folder] = _Folder(folder)
        states.append(_state_of(path, folders[folder]))
    return np.array(states, np.int64).reshape(-1, 3)


def _state_of(path: str, folder: "_Folder") -> tuple[int, int, int]:
    """Return size, modification time and change time (ns) of a file, and of what is stated for its folder.

    Those of a WFDB header include the files that may hold its signal.
    """
    try:
        states = [os.stat(path), *folder.stated]
    except (OSError, ValueError):  # a name with a zero byte
        return (-1, -1, -1)
    if path[-4:].lower() == ".hea":
        for companion in _signal_files(Path(path), folder):
            with contextlib.suppress(OSError):
                states.append(os.stat(companion))
    return (
        sum(state.st_size for state in states),
        max(state.st_mtime_ns for state in states),
        max(state.st_ctime_ns for state in states),
    )


def digest_of(path: Path) -> str:
    """Return the digest of a file's content, and of the files that belong to it; "" if it is not a file.

    Raises
    ------
    OSError : it cannot be read.
    EcgFileError : a WFDB header does not say which files belong to it.
    """
    content = _content(path)
    if content is None:
        return ""
    digest = hashlib.blake2b(content, digest_size=16)
    for companion in companion_files(path, content):
        digest.update(_content(companion) or b"")
    return digest.hexdigest()


class _Folder:
    """What lies beside the files of a folder, looked at once."""

    def __init__(self, path: str):
        self._path = path

    @cached_property
    def stated(self) -> list[os.stat_result]:
        """The state of what is stated for the folder, if anything is."""
        found = statement_file(os.path.join(self._path, "any file"))
        return [os.stat(found)] if found else []

    @cached_property
    def _names(self) -> list[str]:
        try:
            return sorted(os.listdir(self._path or "."))
        except OSError:
            return []

    def of_record(self, stem: str) -> list[str]:
        """Return the names that are a record's, such as a.dat and a_chest.dat of a, but not ab.dat."""
        places = (bisect_left(self._names, end) for end in (stem, stem + "\U0010ffff"))
        return [name for name in self._names[slice(*places)] if not name[len(stem) :][:1].isalnum()]


def _signal_files(header: Path, folder: _Folder) -> list[Path]:
    """Return the files that may hold the signal of a WFDB header: of its name, or else those it names.

    To open every header at every start would take several times as long as to look what lies beside it.
    """
    beside = [header.with_name(name) for name in folder.of_record(header.stem) if name != header.name]
    if any(path.suffix.lower() in (".dat", ".mat") and path.stem == header.stem for path in beside):
        return beside
    try:
        return companion_files(header, _content(header) or b"")
    except (EcgFileError, OSError):  # the header is refused when it is parsed
        return []


def _content(path: Path) -> bytes | None:
    """Return what a file holds, or None if it is not a file: opening a FIFO would wait forever."""
    if not path.is_file():
        return None
    with open(path, "rb") as handle:
        return handle.read(MAX_FILE_BYTES + 1)  # the readers refuse more
