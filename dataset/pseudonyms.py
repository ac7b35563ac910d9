"""Pseudonyms: a keyed hash stands for each patient in all that a run leaves behind."""

import contextlib
import hmac
import os
import secrets
import time
from pathlib import Path

import pandas as pd

from runtime.errors import UserError

KEY_FILE = "patient_key.txt"  # beside the labels table
PATIENCE = 100  # times 10 ms, while a key is being written


def pseudonymise(patient_ids: pd.Series, key_file: Path) -> pd.Series:
    """Return a keyed hash of each patient's id, from which nobody without the key can find or guess it.

    It is HMAC-SHA-256, the first 16 hexadecimal digits. The same id and key give the same hash in every run.

    Parameters
    ----------
    patient_ids : text
    key_file : beside the labels table; made, with a new random key, where there is none. Keep it, and keep it
        to yourself: whoever has it can test whether a patient is in a run.

    Raises
    ------
    UserError : the key can neither be read nor be made.
    """
    key = _key(key_file)
    codes, unique_ids = pd.factorize(patient_ids)
    hashes = [hmac.digest(key, id.encode(), "sha256").hex()[:16] for id in unique_ids]
    return pd.Series(hashes, dtype=str).take(codes).set_axis(patient_ids.index)


def key_fingerprint(key_file: Path) -> str:
    """Return a hash that does not reveal the key; only pseudonyms of the same key can be compared."""
    return hmac.digest(_key(key_file), b"patient_key", "sha256").hex()[:16]


def _key(key_file: Path) -> bytes:
    """Return the key; where there is none, make one."""
    try:
        if not key_file.exists():
            _make_key(key_file)
        key = bytes.fromhex(_text(key_file))
    except OSError as error:
        raise UserError(
            f"{key_file}: the key of the patients' pseudonyms cannot be read or made ({error.strerror}); "
            "name another file with --patient-key"
        ) from None
    except ValueError:
        raise UserError(f"{key_file}: found no hexadecimal number, expected the key of pseudonyms") from None
    if len(key) < 16:
        raise UserError(f"{key_file}: found a key of {len(key)} bytes, expected 16 or more in hexadecimal")
    return key


def _make_key(key_file: Path) -> None:
    """Write a random key that only the owner may read; where another run is faster, its key stands."""
    aside = key_file.with_name(f".{key_file.name}.{os.getpid()}")
    with open(os.open(aside, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="ascii") as handle:
        handle.write(secrets.token_hex(32) + "\n")
    try:
        with contextlib.suppress(FileExistsError):
            _put(aside, key_file)
    finally:
        aside.unlink()


def _put(aside: Path, key_file: Path) -> None:
    """Give a whole key its name, and never replace one, as renaming would.

    Raises
    ------
    FileExistsError : there is a key.
    """
    try:
        os.link(aside, key_file)
    except FileExistsError:
        raise
    except OSError:  # FAT, exFAT and many network drives have no hard links
        content = aside.read_bytes()
        with open(os.open(key_file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())


def _text(key_file: Path) -> str:
    """Return what a key's file holds, after waiting for another run that may be writing it just now."""
    for _ in range(PATIENCE):
        if text := key_file.read_text(encoding="ascii").strip():
            return text
        time.sleep(0.01)
    return ""
