"""Files that appear whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a file beside ``path``, bring it to the disk, and rename it.

    Whatever goes wrong, a full disk or a kill, ``path`` is as it was before, or is not there.
    """
    aside = path.with_name(f".{path.name}.partial")
    try:
        write(aside)
        with open(aside, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
