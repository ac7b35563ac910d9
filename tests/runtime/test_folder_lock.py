"""One process works in a folder; another is told which."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest
from one_line import failure_of
from tiny_runs import ENVIRONMENT

from runtime.folder_lock import LOCK_FILE, hold, release_all

HOLDER = """
import sys, time
from pathlib import Path
from runtime.folder_lock import hold
hold(Path(sys.argv[1]), "training this run")
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Return another process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


@pytest.fixture(autouse=True)
def released():
    yield
    release_all()


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path, holder):
    line = failure_of(hold, tmp_path, "training this run")
    assert line.startswith(
        f"{tmp_path}: found another process that is training this run (process {holder.pid} on "
    )
    assert line.endswith("); wait until it has ended, or stop it")
    holder.kill()  # as a crash does: nothing is tidied up
    holder.wait()
    assert (tmp_path / LOCK_FILE).exists()
    hold(tmp_path, "training this run")


def test_the_same_process_holds_a_folder_twice_and_leaves_nothing(tmp_path):
    hold(tmp_path, "x")
    hold(tmp_path, "x")
    with open(tmp_path / LOCK_FILE) as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    release_all()
    assert os.listdir(tmp_path) == []


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    hold(tmp_path, "x")
    assert "cannot be locked (No locks available): let one process work there" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    line = failure_of(hold, tmp_path / "none", "x")
    assert line.endswith("none: cannot be written (No such file or directory), expected a folder to go on in")
