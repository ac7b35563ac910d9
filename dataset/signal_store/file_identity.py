"""Whether a file is still the one that was read: by its size and times, and by the digest of its content.

The signal of a WFDB header lies in other files, which belong to it; to plain numbers belongs what
`ecg_format.yml` states of them.
"""

import contextlib
import hashlib
import os
from collections.abc import Sequence
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
    stated: dict[str, list[os.stat_result]] = {}  # by folder
    states = []
    for file in files:
        path = os.path.join(data_dir, file)
        folder = os.path.dirname(path)
        if folder not in stated:
            found = statement_file(path)
            stated[folder] = [os.stat(found)] if found else []
        states.append(state_of(path, stated[folder]))
    return np.array(states, np.int64).reshape(-1, 3)


def state_of(path: str, stated: Sequence[os.stat_result] = ()) -> tuple[int, int, int]:
    """Return size, modification time and change time (ns) of a file, and of what is stated for its folder.

    Those of a WFDB header include its signal files: those of the same name, or else those that it names.
    """
    try:
        states = [os.stat(path), *stated]
    except (OSError, ValueError):  # a name with a zero byte
        return (-1, -1, -1)
    if path[-4:].lower() == ".hea":
        for companion in _signal_files(Path(path)):
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


def _signal_files(header: Path) -> list[Path]:
    """Return the files that hold the signal of a WFDB header, as far as it names them."""
    usual = [header.with_suffix(suffix) for suffix in (".dat", ".mat", ".DAT", ".MAT")]
    if any(path.exists() for path in usual):
        return usual
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
