"""Where the weights of a run come from, and whose ECGs they have seen."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from run_folder.ensemble import members_of
from run_folder.files import KEY_FINGERPRINT, RunFiles, part_columns, refuse_unfinished
from run_folder.shipped import is_shipped, read_seen, start_folder
from runtime.errors import UserError

SEEN = ("train", "validation")  # parts that the weights, or the choice of their epoch, come from


def root_of(folder: Path) -> Path:
    """Return the run that a folder belongs to: itself or, for a fold, the cross-validation that contains it.

    A shipped trunk is itself too. A UserError where it is none of these.
    """
    if (folder / "splits.csv").exists() or is_shipped(folder):
        return folder
    if not (folder / "model.json").exists():
        refuse_unfinished(folder)
    return folder.resolve().parent


def roots_of(folder: Path) -> list[Path]:
    """Return the run folders, those with splits.csv, of a run, of one of its folds, or of a comparison."""
    if (folder / "splits.csv").exists():
        return [folder]
    return list(dict.fromkeys(root_of(member) for member in members_of(folder)))


def ancestors(folder: Path) -> Iterator[Path]:
    """Yield the runs and folds that the weights in a folder come from, each before those that it began from.

    The first is the folder itself or, for the ensemble of a comparison, the runs of its members; then follow
    those whose weights it began from (--init-from). A folder that no longer exists, or a shipped trunk, is
    the last of its line.
    """
    for one in roots_of(folder) if (folder / "ensemble.json").exists() else [folder]:
        yield one
        if not one.is_dir() or is_shipped(one):
            continue
        if before := RunFiles(root_of(one)).hyperparameters().get("init_from"):
            yield from ancestors(start_folder(before))


def seen_by(folder: Path) -> pd.DataFrame:
    """Return digest, waveform, patient_id and part of each ECG of the run or fold that trained a model.

    A cross-validation as a whole has each ECG once per fold; waveform is nan in runs of earlier versions. Of
    a shipped trunk there is one row per patient, without digest and waveform: see ``shipped.read_seen``.
    """
    if is_shipped(folder):
        patients = read_seen(folder).patient_ids
        return pd.DataFrame({"digest": None, "waveform": None, "patient_id": patients, "part": SEEN[0]})
    root = root_of(folder)
    splits = RunFiles(root).splits()
    if "waveform" not in splits:
        splits["waveform"] = None
    columns = part_columns(splits) if root == folder else [folder.resolve().name]
    keys = ["digest", "waveform", "patient_id"]
    return splits.melt(keys, columns, value_name="part")[[*keys, "part"]]


def patient_key_of(folder: Path) -> str | None:
    """Return the fingerprint of the key of a run's or fold's pseudonyms, None where it is not known."""
    try:
        return RunFiles(root_of(folder)).json("environment.json")[KEY_FINGERPRINT]
    except (UserError, KeyError):
        return None
