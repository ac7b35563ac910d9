"""Weights of a model that is not of this project: a .safetensors file that a run starts from.

Nothing says which ECGs they have seen. The run keeps the file's name and SHA-256, so that whoever reads its
report can find out.
"""

import hashlib
from pathlib import Path
from typing import Any

from runtime.errors import UserError, reason

SUFFIX = ".safetensors"
FOREIGN_WEIGHTS = "foreign_weights"  # in environment.json
CHUNK = 1 << 20  # bytes


def is_foreign(init_from: Any) -> bool:
    """Return whether ``--init-from`` names a file of weights, and not a run or weights that ship."""
    return isinstance(init_from, str | Path) and Path(init_from).suffix.lower() == SUFFIX


def record_of(file: str | Path) -> dict[str, str]:
    """Return the name and the SHA-256 of a file of weights. A UserError where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(file, "rb") as weights:
            while chunk := weights.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise UserError(
            f"{file}: found no usable weights ({reason(error)}), expected a {SUFFIX} file (--init-from)"
        ) from None
    return {"file": Path(file).name, "sha256": digest.hexdigest()}
