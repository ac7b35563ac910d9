"""Files that appear whole or not at all."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a file beside ``path``, bring it to the disk, and rename it.

    If anything goes wrong, such as a full disk or a kill, ``path`` stays as it was. Its permissions are those
    that the umask gives a new file, even where ``write`` would choose others.
    """
    aside = path.with_name(f".{path.name}.partial")
    try:
        aside.unlink(missing_ok=True)
        aside.touch()
        permissions = stat.S_IMODE(aside.stat().st_mode)
        write(aside)
        aside.chmod(permissions)  # safetensors puts a file there that only its owner may read
        with open(aside, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
