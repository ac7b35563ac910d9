"""What a run folder holds."""

from pathlib import Path
from typing import NoReturn

from runtime.errors import UserError


def refuse_unfinished(folder: Path) -> NoReturn:
    """Raise a UserError that says what a folder without ``model.json`` is."""
    fold = folder / "fold-1"
    if fold.is_dir() and (folder / "ensemble.json").exists():
        found = f"a cross-validation, expected one model; name a fold, such as {fold}"
    elif fold.is_dir():
        found = "a cross-validation that is not finished, expected a finished run; "
        found += f"--resume it, or name a finished fold, such as {fold}"
    elif (folder / "splits.csv").exists():
        found = f"a run that is not finished, expected a finished one: --resume {folder}"
    elif (folder / "checkpoint.pt").exists():
        found = f"a fold that is not finished, expected a finished one: --resume {folder.parent}"
    else:
        reason = "no such file" if folder.is_dir() else "no such folder"
        path = folder / "model.json"
        raise UserError(f"{path}: found no usable model ({reason}), expected a finished run")
    raise UserError(f"{folder}: found {found}")
