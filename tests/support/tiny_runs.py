"""A cohort that trains in seconds, and the scripts run on it, as a user does or in this process."""

import contextlib
import io
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pandas as pd

from cohorts.synthetic import make_cohort

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'support'}"}
TINY = {
    "--epochs": 1,
    "--batch-size": 8,
    "--n-samples": 512,
    "--validation-fraction": 0.3,
    "--test-fraction": 0.3,
    "--workers": 1,
    "--seed": 42,
    "--learning-rate": 1e-4,
    "--schedule": "one_cycle",
    "--dropout": 0.3,
    "--gaussian-noise": 0.5,
}


TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


class Outcome(NamedTuple):
    """What a script leaves in the terminal."""

    returncode: int
    stdout: str
    stderr: str


def make_tiny_cohort(folder):
    """Write 24 ECGs of 22 patients with the labels PE and MI, and return their folder."""
    table_file = make_cohort(folder, n_ecgs=24, n_patients=22, prevalence=0.4, seed=7)
    table = pd.read_csv(table_file)
    table["MI"] = table["patient_id"].str[-1].astype(int) % 2
    table.to_csv(table_file, index=False)
    return Path(folder)


def tiny(cohort, *others):
    """Return the flags of a tiny training; of a flag that comes twice, the second counts."""
    return ["--data-dir", cohort, *(word for pair in TINY.items() for word in pair), *others]


def command(script, *flags):
    """Return the command of a script, or of a room's, such as cohorts.ptbxl."""
    words = [str(ROOT / script)] if script.endswith(".py") else ["-m", script]
    return [sys.executable, *words, *map(str, flags)]


def run_as_user(script, *flags, cwd):
    """Run a script in a process of its own."""
    done = subprocess.run(
        command(script, *flags), cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=600
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def run_here(script, *flags):
    """Run a script in this process, which saves the seconds of importing torch again."""
    path = ROOT / (script if script.endswith(".py") else f"{script.replace('.', '/')}.py")
    stdout, stderr, status = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", [str(path), *map(str, flags)]),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as end:
            status = end.code or 0
    if isinstance(status, str):  # as the interpreter does with sys.exit("a message")
        stderr.write(status + "\n")
        status = 1
    return Outcome(status, stdout.getvalue(), stderr.getvalue())


def train_here(script, *flags):
    """Run a training in this process, without its figures and page: half of a tiny one's time."""
    with mock.patch("reporting.run_report.report_run"):
        return run_here(script, *flags)


def run_folder_of(outcome):
    """Return the run folder that a script has printed last, after checking that it ended well."""
    assert outcome.returncode == 0, outcome.stderr
    return Path(re.search(r"^run +(\S+)", outcome.stdout, re.MULTILINE).group(1))


def line_of(outcome, status=1):
    """Return the one line of an error that ended a script."""
    assert outcome.returncode == status
    assert "Traceback" not in outcome.stderr
    assert len(outcome.stderr.strip().splitlines()) == 1, outcome.stderr
    return outcome.stderr.strip()


def torchrun(*words):
    """Run a script in two processes that train together."""
    return subprocess.run(
        [*TWO, *map(str, words)], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=240
    )
