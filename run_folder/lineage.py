"""Where the weights of a run come from, and whom they have seen."""

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from hyperparameters.reading import read_yaml
from run_folder.ensemble import members_of
from run_folder.environment import KEY_FINGERPRINT
from run_folder.files import refuse_unfinished
from run_folder.run import Run
from runtime.errors import UserError

SEEN = ("train", "validation")  # parts that the weights, or the choice of their epoch, come from


def root_of(folder: Path) -> Path:
    """Return the run that a folder is of: itself or, of a fold, the cross-validation around it.

    A UserError where it is neither.
    """
    if (folder / "splits.csv").exists():
        return folder
    if not (folder / "model.json").exists():
        refuse_unfinished(folder)
    return folder.resolve().parent


def roots_of(folder: Path) -> list[Path]:
    """Return the run folders, those with splits.csv, of a run, of one of its folds, or of a comparison."""
    if (folder / "splits.csv").exists():
        return [folder]
    return list(dict.fromkeys(root_of(member) for member in members_of(folder)))


def patient_key_of(root: Path) -> str | None:
    """Return the fingerprint of the key that a run's pseudonyms were made by, None where it is not known."""
    try:
        return json.loads((root / "environment.json").read_text(encoding="utf-8"))[KEY_FINGERPRINT]
    except (OSError, ValueError, KeyError):
        return None


def beginnings_of(folder: Path) -> Iterator[Path]:
    """Yield a run or fold, then the one whose weights it began from (--init-from), and so on."""
    yield folder
    before = read_yaml(root_of(folder) / "hyperparameters.yml")[0].get("init_from")
    if before:
        yield from beginnings_of(Path(before))


def splits_of(run: Run) -> pd.DataFrame:
    """Return digest, patient_id and part of each ECG of the run, or of the fold, that a model is of."""
    root = root_of(run.folder)
    path, column = root / "splits.csv", "split" if root == run.folder else run.folder.resolve().name
    try:
        table = pd.read_csv(path, usecols=["digest", "patient_id", column], dtype=str)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: found no usable splits ({error}), expected those of a run") from None
    return table.rename(columns={column: "part"})
