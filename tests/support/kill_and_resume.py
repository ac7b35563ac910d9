"""Kill one training at random moments, resume it each time, and compare it with one that nobody killed.

    PYTHONPATH=. python tests/support/kill_and_resume.py [--kills 20] [--epochs 40] [--seed 0]

Two of three kills are SIGKILL, which nothing can answer; the others SIGTERM, which lets the step end and be
saved. They fall anywhere but in the imports, as trainings are forks of a process that has imported PyTorch:
while files are read into the cache, in the middle of an epoch, of a checkpoint, of the report. Ends with
status 0 if weights, scores, metrics and losses are the same bits, else with 1.
"""

import argparse
import os
import re
import runpy
import signal
import sys
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn.metrics  # noqa: F401 - with PyTorch what takes seconds to import, once for all trainings
import torch._dynamo  # noqa: F401
from forks import FORK
from tiny_runs import ENVIRONMENT, command, make_tiny_cohort, tiny

import reporting.run_report  # noqa: F401
import training.loop

SCRIPT = "train_atten.py"
SAVE_EVERY = 0.2  # s, of a training that takes some
SAME = ("model.safetensors", "model.json", "predictions.csv", "metrics.json", "splits.csv")
TIMINGS = ["seconds", "ecgs_per_second"]


def main() -> int:
    """Run both, compare, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        places = Path(folder)
        cohort = make_tiny_cohort(places / "ecgs")
        whole, to_start, in_all = run_to_the_end(cohort, places / "whole", arguments.epochs)
        print(f"nobody killed the first run: {in_all:.0f} s, of which {to_start:.0f} until the first step")
        generator = np.random.default_rng(arguments.seed)
        longest = to_start + (in_all - to_start) / arguments.kills  # then about as many kills fit
        delays = generator.uniform(0, longest, arguments.kills)
        killed = run_and_kill(cohort, places / "killed", arguments.epochs, delays)
        return report(differences(whole, killed))


def start(cohort: Path, folder: Path, epochs: int) -> BaseProcess:
    """Start a training in a folder, or resume the one that is there, in a fork of this process."""
    runs = [run for run in folder.glob("runs/*") if (run / "splits.csv").exists()]
    flags = tiny(cohort, "--output-dir", folder / "runs", "--cache-dir", folder / "cache", "--epochs", epochs)
    _, *words = command(SCRIPT, *(["--resume", runs[0]] if runs else flags))
    folder.mkdir(exist_ok=True)
    process = FORK.Process(target=run_script, args=(words, folder))
    process.start()
    return process


def run_script(words: list[str], folder: Path) -> None:
    """Run a script in this process; what it prints goes into files of the folder."""
    for stream, number in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(folder / stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ |= ENVIRONMENT
    os.chdir(folder)
    training.loop.SAVE_EVERY = SAVE_EVERY
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")


def run_to_the_end(cohort: Path, folder: Path, epochs: int) -> tuple[Path, float, float]:
    """Return the folder of a training that ends well, and the seconds until its first step and its end."""
    process, started, to_start = start(cohort, folder, epochs), time.monotonic(), 0.0
    while process.is_alive():
        process.join(0.02)
        if not to_start and "\n epoch" in printed(folder):
            to_start = time.monotonic() - started
    if process.exitcode:
        sys.exit(f"the training ended with status {process.exitcode}: {printed(folder, 'stderr')}")
    run = re.search(r"^run +(\S+)", printed(folder), re.MULTILINE).group(1)
    return Path(run), to_start, time.monotonic() - started


def run_and_kill(cohort: Path, folder: Path, epochs: int, delays: np.ndarray) -> Path:
    """Return the run folder of a training that was killed after each of these delays, s, and then ended."""
    for number, delay in enumerate(delays, 1):
        process = start(cohort, folder, epochs)
        process.join(delay)
        if not process.is_alive():
            if process.exitcode:
                sys.exit(f"resuming ended with status {process.exitcode}: {printed(folder, 'stderr')}")
            print(f"the training was done before kill {number}")
            break
        how = signal.SIGTERM if number % 3 == 0 else signal.SIGKILL
        os.kill(process.pid, how)
        process.join(120)
        print(
            f"kill {number:>2}, {how.name}: {where(folder)}; {printed(folder, 'stderr').strip()[-200:]}",
            flush=True,
        )
    return run_to_the_end(cohort, folder, epochs)[0]


def printed(folder: Path, stream: str = "stdout") -> str:
    """Return what a training has printed, as far as it was written."""
    path = folder / stream
    return path.read_text(encoding="utf-8") if path.exists() else ""


def where(folder: Path) -> str:
    """Return how far the training has come."""
    logs = list(folder.glob("runs/*/log.csv"))
    return f"{len(pd.read_csv(logs[0]))} epochs done" if logs else "no epoch done"


def differences(whole: Path, killed: Path) -> list[str]:
    """Return the names of the files of two runs that are not the same."""
    found = [name for name in SAME if (whole / name).read_bytes() != (killed / name).read_bytes()]
    logs = [pd.read_csv(run / "log.csv").drop(columns=TIMINGS) for run in (whole, killed)]
    return found + ([] if logs[0].equals(logs[1]) else ["log.csv"])


def report(found: list[str]) -> int:
    if found:
        print(f"not the same: {', '.join(found)}")
        return 1
    print(f"the same bits: {', '.join(SAME)}, and the losses of log.csv")
    return 0


if __name__ == "__main__":
    sys.exit(main())
