"""Where the weights of a run come from, and whose ECGs they have seen."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from run_folder.ensemble import members_of
from run_folder.files import KEY_FINGERPRINT, RunFiles, part_columns, refuse_unfinished
from run_folder.foreign_weights import FOREIGN_WEIGHTS, is_foreign
from run_folder.hub import is_copy, is_published
from run_folder.shipped import is_shipped, read_seen, start_folder
from runtime.errors import UserError

SEEN = ("train", "validation")  # parts that the weights, or the choice of their epoch, come from


def root_of(folder: Path) -> Path:
    """Return the run that a folder belongs to: itself or, for a fold, the cross-validation that contains it.

    A shipped trunk is itself too, and a published folder. A UserError where it is none of these.
    """
    if (folder / "splits.csv").exists() or is_shipped(folder) or is_published(folder):
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
    the last of its line. A file of weights is no run: see ``foreign_starts``.
    """
    for one in roots_of(folder) if (folder / "ensemble.json").exists() else [folder]:
        yield one
        if not one.is_dir() or is_shipped(one):
            continue
        before = RunFiles(root_of(one)).hyperparameters().get("init_from")
        if before and not is_foreign(before):
            yield from ancestors(_start_of(before))


def _start_of(name: str) -> Path:
    """Return the folder that a run began from; of a copy that is no longer at hand, one that is not there."""
    try:
        return start_folder(name)
    except UserError:
        if not is_copy(name):
            raise
        return Path(name)


def foreign_starts(folder: Path) -> list[dict[str, str]]:
    """Return name and SHA-256 (keys "file" and "sha256") of the files that a folder's weights come from.

    Those are weights of other models, which a run in its line began from. Nobody knows what they have seen.
    """
    found = []
    for one in ancestors(folder):
        files = RunFiles(root_of(one)) if one.is_dir() and not is_shipped(one) else None
        if files and files.has("environment.json"):
            found.append(files.json("environment.json").get(FOREIGN_WEIGHTS))
    return [record for number, record in enumerate(found) if record and record not in found[:number]]


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
