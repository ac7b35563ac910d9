"""Kill one training at random moments, resume it each time, and compare it with one that nobody killed.

    PYTHONPATH=. python tests/support/kill_and_resume.py [--kills 20] [--epochs 40] [--seed 0]

Two of three kills are SIGKILL, which nothing can answer; the others SIGTERM, which lets the step end and be
saved. They fall anywhere: while files are read into the cache, in the middle of an epoch, of a checkpoint, of
the report. Ends with status 0 if weights, scores, metrics and losses are the same bits, else with 1.
"""

import argparse
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from tiny_runs import ENVIRONMENT, command, make_tiny_cohort, tiny

SCRIPT = "train_atten.py"
SAVE_OFTEN = """
import runpy, sys
import training.loop
training.loop.SAVE_EVERY = 0.2  # seconds, of a training that takes some
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
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


def start(cohort: Path, folder: Path, epochs: int) -> subprocess.Popen:
    """Start a training in a folder, or resume the one that is there."""
    runs = [run for run in folder.glob("runs/*") if (run / "splits.csv").exists()]
    flags = tiny(cohort, "--output-dir", folder / "runs", "--cache-dir", folder / "cache", "--epochs", epochs)
    python, *words = command(SCRIPT, *(["--resume", runs[0]] if runs else flags))
    words = [python, "-c", SAVE_OFTEN, *words]
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        words, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
    )


def run_to_the_end(cohort: Path, folder: Path, epochs: int) -> tuple[Path, float, float]:
    """Return the folder of a training that ends well, and the seconds until its first step and its end."""
    process, started, lines, to_start = start(cohort, folder, epochs), time.monotonic(), [], 0.0
    for line in process.stdout:
        lines.append(line)
        if line.startswith(" epoch"):
            to_start = time.monotonic() - started
    if process.wait():
        sys.exit(f"the training ended with status {process.returncode}: {process.stderr.read()}")
    run = re.search(r"^run +(\S+)", "".join(lines), re.MULTILINE).group(1)
    return Path(run), to_start, time.monotonic() - started


def run_and_kill(cohort: Path, folder: Path, epochs: int, delays: np.ndarray) -> Path:
    """Return the run folder of a training that was killed after each of these delays, s, and then ended."""
    for number, delay in enumerate(delays, 1):
        process = start(cohort, folder, epochs)
        try:
            _, errors = process.communicate(timeout=delay)
            if process.returncode:
                sys.exit(f"resuming ended with status {process.returncode}: {errors}")
            print(f"the training was done before kill {number}")
            break
        except subprocess.TimeoutExpired:
            how = signal.SIGTERM if number % 3 == 0 else signal.SIGKILL
            process.send_signal(how)
            _, errors = process.communicate(timeout=120)
            print(f"kill {number:>2}, {how.name}: {where(folder)}; {errors.strip()[-200:]}", flush=True)
    return run_to_the_end(cohort, folder, epochs)[0]


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
