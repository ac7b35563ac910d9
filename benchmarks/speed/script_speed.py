"""train_atten.py as a user runs it: how soon it starts, how fast it trains, how much memory it takes."""

import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed.timing import Conditions, Row, number
from run_folder.files import RunFiles

SCRIPT = Path(__file__).resolve().parents[2] / "train_atten.py"
FIRST_STEP = " epoch   train loss"  # the line that the script prints just before it
EPOCHS = 2  # the second is timed
BYTES = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
# Where the cohort is small, these shares leave positives in each part.
SPLIT = ["--validation-fraction", "0.2", "--test-fraction", "0.2"]


@dataclass(frozen=True)
class Script:
    """What one run of the script took: seconds, and the peak memory of one process in MB."""

    seconds_to_first_step: float
    seconds: float
    peak: float


def start_up(given: Conditions) -> list[Row]:
    """Time ``--help``, and the wait for the first step, with and without the files in the cache."""
    started = run_script(given, [sys.executable, str(SCRIPT), "--help"])
    rows = [Row("train_atten.py --help", started.seconds, "s")]
    for words in ("files to be read", "files in the cache"):
        script = run_script(given, [sys.executable, *_training(given, given.scratch)], until_first_step=True)
        rows.append(Row(f"until the first step, {words}", script.seconds_to_first_step, "s"))
    return rows


def trainings(given: Conditions) -> list[Row]:
    """Train by one process, and by torchrun with several, which share the threads; time the last epoch."""
    rows, first = [], None
    for n_processes in given.processes:
        output = given.scratch / f"{n_processes}-processes"
        threads = max(1, given.threads // n_processes)
        launcher = [sys.executable]
        if n_processes > 1:
            launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_processes}"]
        script = run_script(given, [*launcher, *_training(given, output)], threads=threads)
        speed = float(RunFiles(_only_folder(output)).table("log.csv")["ecgs_per_second"].iloc[-1])
        first = first or speed
        relation = f"{number(speed / first)} times as fast as {given.processes[0]}" if n_processes > 1 else ""
        where = "GPU" if given.device.type == "cuda" else f"{threads} thread{'s' * (threads > 1)}"
        name = f"{n_processes} process{'es' * (n_processes > 1)} of {where}"
        rows.append(Row(f"{name}, epoch {EPOCHS}", speed, "ECG/s", relation))
        rows.append(Row(f"{name}, peak memory", script.peak, "MB", "of the largest process"))
    return rows


def train(given: Conditions, output: Path) -> Path:
    """Train by one process, and return the folder of the run."""
    run_script(given, [sys.executable, *_training(given, output)])
    return _only_folder(output)


def _only_folder(output: Path) -> Path:
    (run,) = output.iterdir()
    return run


def _training(given: Conditions, output: Path) -> list[str]:
    flags = ["--epochs", str(EPOCHS), "--batch-size", str(given.batch_size), "--compile", given.compile]
    cache = ["--cache-dir", str(given.scratch / "cache"), "--output-dir", str(output)]
    return [str(SCRIPT), *given.data, *flags, *SPLIT, *cache]


def run_script(
    given: Conditions, command: list[str], *, threads: int | None = None, until_first_step: bool = False
) -> Script:
    """Run a command to its end, or stop it at the first step.

    The peak is that of only the child, which is no lower than this process's memory when it starts the child.
    """
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": str(threads or given.threads)}
    if given.device.type == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    errors, started = given.scratch / "errors.txt", time.perf_counter()
    with open(errors, "w") as stderr:
        child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True)
    first_step = _read_to_end(child, until_first_step) - started
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode and not (until_first_step and first_step > 0):
        lines = errors.read_text().strip().splitlines()
        raise OSError(f"{' '.join(command)}: exit status {child.returncode}: {lines[-1] if lines else ''}")
    return Script(first_step, time.perf_counter() - started, usage.ru_maxrss * BYTES / 1e6)


def _read_to_end(child: subprocess.Popen, until_first_step: bool) -> float:
    """Return when the first step began, by the clock, or nan; end the child there if that is enough."""
    first_step = math.nan
    try:
        with child.stdout as lines:
            for line in lines:
                if line.startswith(FIRST_STEP) and math.isnan(first_step):
                    first_step = time.perf_counter()
                    if until_first_step:
                        child.terminate()
    except KeyboardInterrupt:
        child.terminate()
        raise
    return first_step
