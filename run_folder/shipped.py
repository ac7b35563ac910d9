"""A trunk that ships with the program: a folder of ``pretrained/``, for ``--init-from NAME``.

It holds the weights that a run can start from, ``model.json``, a README.md, and which ECGs it has seen: no
file, no label, only what recognises a recording or a patient of a public set.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ecg.fingerprint import N_BITS
from run_folder.files import RunFiles
from run_folder.hub import is_copy, located
from runtime.atomic_files import write_atomically

PRETRAINED = Path(__file__).resolve().parents[1] / "pretrained"
SEEN_FILE = "seen.safetensors"
PUBLIC_KEY_FILE = "patient_key.txt"  # of the pseudonyms: whoever has the public set has the ids anyway
OF_A_RUN = ("model.json", "splits.csv", "ensemble.json", "checkpoint.pt")
PSEUDONYM_BYTES = 8


class SeenEcgs(NamedTuple):
    """What a shipped trunk has seen: fingerprints, uint8 (n_ecgs, 16), and the pseudonyms of the patients."""

    fingerprints: np.ndarray
    patient_ids: list[str]


def start_folder(name: str | Path) -> Path:
    """Return the folder that ``--init-from`` means: that of a run or, by its name alone, a shipped trunk's.

    A folder of that name counts only if it is a run: the ECGs of PTB-XL may well lie in ``ptbxl``. What
    ``hf://owner/name`` means, see ``hub.located``.
    """
    if is_copy(name):
        return located(str(name))
    folder, shipped = Path(name), PRETRAINED / name
    is_name = len(folder.parts) == 1 and folder.parts[0] != ".."
    is_run = any((folder / file).exists() for file in OF_A_RUN) or (folder / "fold-1").is_dir()
    return shipped if is_name and not is_run and shipped.is_dir() else folder


def is_shipped(folder: Path) -> bool:
    return (folder / SEEN_FILE).exists()


def companions_head(model: str) -> str:
    """Return under which name the weights of a companion's head ship, beside the one of the run itself."""
    return f"head.{model}.weight"


def write_seen(folder: Path, seen: SeenEcgs) -> None:
    """Write what a trunk has seen, sorted, so that nothing tells which patient an ECG is of."""
    patients = np.frombuffer(bytes.fromhex("".join(sorted(set(seen.patient_ids)))), np.uint8)
    state = {
        "fingerprints": seen.fingerprints[np.lexsort(seen.fingerprints.T[::-1])],
        "patients": patients.reshape(-1, PSEUDONYM_BYTES),
    }
    write_atomically(folder / SEEN_FILE, lambda aside: save_file(state, aside))


def read_seen(folder: Path) -> SeenEcgs:
    """Return what a shipped trunk has seen. A UserError where its file is damaged."""
    return RunFiles(folder).read(SEEN_FILE, _read, "that of a trunk that ships")


def _read(path: Path) -> SeenEcgs:
    try:
        state = load_file(path)
        fingerprints, patients = state["fingerprints"], state["patients"]
    except (SafetensorError, KeyError) as error:
        raise ValueError(error) from None
    if fingerprints.shape[1:] != (N_BITS // 8,) or patients.shape[1:] != (PSEUDONYM_BYTES,):
        raise ValueError(f"arrays of shape {fingerprints.shape} and {patients.shape}")
    return SeenEcgs(fingerprints, [row.tobytes().hex() for row in patients])
