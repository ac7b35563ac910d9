"""Files that appear whole or not at all."""

import contextlib
import csv
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from runtime.code_pages import as_utf8
from runtime.errors import UserError, reason

if TYPE_CHECKING:
    import pandas as pd


def check_folder_of(path: Path) -> None:
    """Raise a UserError where the folder is missing in which a file or a folder is to be written."""
    if not path.parent.is_dir():
        raise UserError(f"{path}: found no folder {path.parent}, expected one to write to")


def check_file_to_write(path: Path) -> None:
    """Raise a UserError where a file cannot be written: its folder is missing, or it is a folder itself."""
    check_folder_of(path)
    if path.is_dir():
        raise UserError(f"{path}: found a folder, expected the name of a file to write")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise a UserError that names the path, where what is to be there cannot be written in this context."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({reason(error)})") from None


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a file beside ``path``, bring it to the disk, and rename it; see `written_whole`."""
    with written_whole(path) as aside:
        write(aside)


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a file beside ``path`` to fill; at the end bring it to the disk, and rename it.

    If anything goes wrong, such as a full disk or a kill, ``path`` stays as it was. Its permissions are those
    that the umask gives a new file, even where a writer would choose others.
    """
    aside = path.with_name(f".{path.name}.partial")
    try:
        aside.unlink(missing_ok=True)
        aside.touch()
        permissions = stat.S_IMODE(aside.stat().st_mode)
        yield aside
        with contextlib.suppress(OSError):  # some drives have no permissions
            aside.chmod(permissions)  # safetensors puts a file there that only its owner may read
        with open(aside, "rb") as handle:
            _bring_to_disk(handle)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _bring_to_disk(handle: IO[bytes]) -> None:
    """Wait until a file is on the disk, where the file system knows how."""
    try:
        os.fsync(handle.fileno())
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise


def write_text_atomically(path: Path, text: str) -> None:
    """Write text as ``write_atomically`` does, in UTF-8 on every system, whatever the names in it hold."""
    write_atomically(path, lambda aside: aside.write_bytes(as_utf8(text).encode("utf-8")))


def csv_text(table: "pd.DataFrame", **options: Any) -> str:
    """Return a table as CSV without its index, to be written; ``options`` are those of ``to_csv``.

    Python leaves a carriage return in a file's name unquoted, which ends the line for whoever reads it.
    """
    text = table.to_csv(index=False, lineterminator="\n", **options)
    if "\r" in text:
        text = table.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC, **options)
    return text
