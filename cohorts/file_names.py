"""File names of a table that was written on another system: back slashes, capitals, composed letters."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path


def located_names(folder: Path, names: Iterable[str]) -> list[str]:
    r"""Return each name as the folder has it, or as it is where the folder has none like it, or several.

    ``2023\A.XML`` is ``2023/a.xml`` where that is there. The folder is only listed where a name with the
    system's own separators is not found.
    """
    names = list(names)
    found = [name if _is_there(folder, name) else name.replace("\\", "/") for name in names]
    if all(_is_there(folder, name) for name in found):
        return found
    there = [
        os.path.relpath(os.path.join(parent, file), folder).replace(os.sep, "/")
        for parent, _, files in os.walk(folder, followlinks=False)
        for file in files
    ]
    n_of_key = Counter(map(_key, there))
    name_of_key = {key: name for key, name in zip(map(_key, there), there, strict=True) if n_of_key[key] == 1}
    return [
        slashed if _is_there(folder, slashed) else name_of_key.get(_key(slashed), name)
        for name, slashed in zip(names, found, strict=True)
    ]


def _is_there(folder: Path, name: str) -> bool:
    return os.path.exists(os.path.join(folder, name))


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", os.path.normpath(name)).casefold()
