"""What a cache knows of each file: an index in parts, each written once and never changed.

A part, such as ``index/000017.csv``, has a header, one line per file, and at its end the CRC-32 of
everything before it. It appears whole or not at all. Where parts disagree on a file, the latest wins. So what
is written grows with the number of files, however they come.
"""

import csv
import io
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from runtime.atomic_files import write_atomically

NO_ROW = -1
COLUMNS = {
    "file": str,
    "size": np.int64,
    "modified_ns": np.int64,
    "changed_ns": np.int64,
    "digest": str,
    "file_format": str,
    "row": np.int64,
    "checksum": np.uint32,
    "measurements_crc": np.uint32,
    "rejected": str,
}
# The same in every cache so far: with another one, all files would be read again.
HEADER = b"file,size,modified_ns,changed_ns,digest,form,row,checksum,measured,rejected\n"
STATE = ["size", "modified_ns", "changed_ns"]
PARSED_AT_ONCE = 200  # parts; parsing all at once would need several times the memory of the result


class Entry(NamedTuple):
    """What the cache knows of one file.

    ``digest`` is that of its content, "" where it could not be read; ``row`` is its signal's, ``NO_ROW``
    where it has none, and ``rejected`` then says why; ``checksum`` and ``measurements_crc`` are the CRC-32 of
    the signal and of the measurements.
    """

    digest: str
    file_format: str = ""
    row: int = NO_ROW
    checksum: int = 0
    measurements_crc: int = 0
    rejected: str = ""


@dataclass
class Index:
    """All parts together.

    Attributes
    ----------
    lines : DataFrame of ``COLUMNS``, one row per file; files that were forgotten are not among them.
    n_rows : one more than the last row that any part names, forgotten or not.
    damaged : the parts that could not be read or are not as they were written, with the lines that they have.
    next_number : the number of the part to be written next.
    whole : whether no part is damaged or missing.
    """

    lines: pd.DataFrame
    n_rows: int
    damaged: dict[Path, int]
    next_number: int
    whole: bool


def load_index(folder: Path) -> Index:
    """Read all parts of an index; a folder that does not exist has none."""
    paths = [path for path in folder.glob("*.csv") if path.stem.isdecimal()]
    paths.sort(key=lambda path: int(path.stem))
    damaged, tables = {}, [_parse([])]
    for start in range(0, len(paths), PARSED_AT_ONCE):
        contents = {path: _content(path) for path in paths[start : start + PARSED_AT_ONCE]}
        texts = {path: _verified_lines(content) for path, content in contents.items()}
        whole_parts, unparsed = _parse_parts({path: text for path, text in texts.items() if text is not None})
        tables += whole_parts
        lost = [path for path, text in texts.items() if text is None] + unparsed
        damaged |= {path: contents[path].count(b"\n") for path in lost}
    lines = pd.concat(tables, ignore_index=True)
    n_rows = int(lines["row"].max()) + 1 if len(lines) else 0
    superseded = lines["file"].duplicated(keep="last")
    lines = lines[~superseded & (lines["digest"] != "")].reset_index(drop=True)
    next_number = int(paths[-1].stem) + 1 if paths else 0
    whole = 0 < len(paths) == next_number and not damaged
    return Index(lines, n_rows, damaged, next_number, whole)


def _content(part: Path) -> bytes:
    """Return what is in a part; nothing where it cannot be read."""
    try:
        return part.read_bytes()
    except OSError:
        return b""


def _verified_lines(content: bytes) -> bytes | None:
    """Return the lines of a part, or None where they are not what was written."""
    end = len(content) - len(_last_line(b""))
    if end < len(HEADER) or not content.startswith(HEADER) or content[end:] != _last_line(content[:end]):
        return None
    return content[len(HEADER) : end]


def _last_line(before: bytes) -> bytes:
    return b"# CRC-32 %08x\n" % zlib.crc32(before)


def _parse_parts(texts: dict[Path, bytes]) -> tuple[list[pd.DataFrame], list[Path]]:
    """Return the lines of parts, and the parts that are no table of ``COLUMNS``.

    Earlier versions left a carriage return in a file's name unquoted, which ends the line for pandas.
    """
    try:
        return [_parse(texts.values())], []
    except ValueError:
        if len(texts) == 1:
            return [], list(texts)
    tables, unparsed = [], []
    for path, text in texts.items():
        its_tables, its_paths = _parse_parts({path: text})
        tables += its_tables
        unparsed += its_paths
    return tables, unparsed


def _parse(texts: Iterable[bytes]) -> pd.DataFrame:
    content = io.BytesIO(HEADER + b"".join(texts))
    as_written = {"dtype": COLUMNS, "keep_default_na": False, "encoding_errors": "surrogateescape"}
    return pd.read_csv(content, header=0, names=list(COLUMNS), **as_written)


def write_part(
    folder: Path, number: int, files: Iterable[str], states: Iterable, entries: Iterable[Entry]
) -> None:
    """Write one part of an index.

    Parameters
    ----------
    states : each file's size, modification time and change time (ns).

    Raises
    ------
    OSError : the disk is full or may not be written.
    """
    lines = [(file, *state, *entry) for file, state, entry in zip(files, states, entries, strict=True)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).writerows(lines)  # a \r, too
    content = HEADER + text.getvalue().encode("utf-8", "surrogateescape")  # names that are not UTF-8
    folder.mkdir(exist_ok=True)
    part = folder / f"{number:06d}.csv"
    write_atomically(part, lambda aside: aside.write_bytes(content + _last_line(content)))
