"""A folder that one process works in: a lock, which the system releases when that process ends or dies."""

import json
import os
import platform
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from runtime.errors import UserError, reason

LOCK_FILE = ".lock"
_held: dict[Path, IO[str]] = {}


def hold(folder: Path, what: str) -> None:
    """Hold a folder until `release_all` or the end of this process; nothing where this process holds it.

    Where the file system knows no such locks, a line says so; Windows has none.

    Parameters
    ----------
    what : what another process would be doing there: "training this run"

    Raises
    ------
    UserError : another process holds it, and is named; or the folder cannot be written.
    """
    try:
        import fcntl
    except ImportError:
        return
    path = folder.resolve() / LOCK_FILE
    while path not in _held:
        try:
            handle = open(path, "a+", encoding="utf-8")  # noqa: SIM115, it stays open
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be written ({reason(error)}), expected a folder to go on in"
            ) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with handle:
                found = f"found another process that is {what} ({_holder(handle)})"
            raise UserError(f"{folder}: {found}; wait until it has ended, or stop it") from None
        except OSError as error:  # ENOLCK, ENOSYS: some network file systems
            handle.close()
            print(f"note        {folder} cannot be locked ({reason(error)}): let one process work there")
            return
        if _is_at(path, handle):
            _write_holder(handle)
            _held[path] = handle
        else:  # the one that held it before has just removed it
            handle.close()


def release_all() -> None:
    """Release the folders that this process holds."""
    while _held:
        path, handle = _held.popitem()
        path.unlink(missing_ok=True)
        handle.close()


def _is_at(path: Path, handle: IO[str]) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _write_holder(handle: IO[str]) -> None:
    handle.truncate(0)
    since = datetime.now().isoformat(sep=" ", timespec="seconds")
    json.dump({"process": os.getpid(), "computer": platform.node(), "since": since}, handle)
    handle.flush()


def _holder(handle: IO[str]) -> str:
    """Return who holds a lock, as the holder wrote it."""
    handle.seek(0)
    try:
        values: dict[str, Any] = json.load(handle)
        return f"process {values['process']} on {values['computer']}, since {values['since']}"
    except (ValueError, KeyError, TypeError):
        return "it has not written which"
