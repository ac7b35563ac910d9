"""Run training scripts to their end in processes of their own, for programs that need many of them.

What is finished is not done again, and what was interrupted goes on: the same call in the same folder.
"""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from run_folder.files import RunFiles
from runtime.atomic_files import write_text_atomically
from runtime.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path.name for path in ROOT.glob("train_*.py"))
# Unbuffered, or an error would come before earlier output; in UTF-8, as the file that it goes to.
CHILD = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}


class Training(NamedTuple):
    """A finished training: its run folder, and the seconds that it took, 0 where it was finished before."""

    run: Path
    seconds: float


def train(script: str, flags: Sequence[str], folder: Path, device: str = "auto") -> Training:
    """Run a training script, unless it has finished in this folder; go on where it was interrupted.

    The script's output is kept in ``output.txt``, its flags in ``flags.txt``, but for the device: a training
    may go on on another. The last checkpoint of a finished run is removed: it is four times as large as the
    weights.

    Raises
    ------
    UserError : the folder has a training with other flags, or the script fails.
    KeyboardInterrupt : after the script has saved its step.
    """
    _check_flags(folder / "flags.txt", shlex.join([script, *flags]))
    if finished := _finished(folder, script):
        return Training(finished[-1].folder, 0.0)
    begun = [run.folder for run in _runs(folder, script) if run.checkpoints()]
    words = ["--resume", str(begun[-1])] if begun else [*flags, "--output-dir", str(folder)]
    started = time.perf_counter()
    words += [] if device == "auto" else ["--device", device]
    _run([sys.executable, str(ROOT / script), *words], folder / "output.txt")
    run = _finished(folder, script)[-1]
    for checkpoint in run.checkpoints():
        checkpoint.unlink()
    return Training(run.folder, time.perf_counter() - started)


def _runs(folder: Path, script: str) -> list[RunFiles]:
    return [RunFiles(run) for run in sorted(folder.glob(f"{Path(script).stem}-*/"))]


def _finished(folder: Path, script: str) -> list[RunFiles]:
    return [run for run in _runs(folder, script) if run.is_tested]


def _check_flags(path: Path, flags: str) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(path, flags + "\n")
    elif (before := path.read_text(encoding="utf-8").strip()) != flags:
        raise UserError(f"{path}: found {before!r}, expected {flags!r}; name another --output-dir")


def _run(command: Sequence[str], output: Path) -> None:
    """Run a command to its end; pass an interruption on to it, and wait until it has saved its step."""
    interrupted = False
    with open(output, "a", encoding="utf-8") as handle:
        # In a session of its own, or Ctrl-C would reach it twice, which ends it at once
        streams = {"stdout": handle, "stderr": subprocess.STDOUT}
        child = subprocess.Popen(command, **streams, env=CHILD, start_new_session=True)
    while child.returncode is None:
        try:
            child.wait()
        except KeyboardInterrupt:
            interrupted = True
            child.terminate()
    if interrupted:
        raise KeyboardInterrupt
    if child.returncode:
        lines = output.read_text(encoding="utf-8").strip().splitlines()
        raise UserError(f"{output}: the training ended with status {child.returncode}: {(lines or [''])[-1]}")
