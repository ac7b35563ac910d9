"""Parts of a command's work in processes of their own: side by side, their lines, failures and signals."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from tiny_runs import ROOT

from runtime import side_by_side
from runtime.errors import UserError
from runtime.side_by_side import do_parts

WAIT = """
import os, pathlib, sys, time
def wait_for(*names):
    while not all(pathlib.Path(name).exists() for name in names):
        time.sleep(0.01)
part = os.environ["ECG_PART"]
"""
# A part that notes SIGTERM and ends, as a training does
STOPPABLE = (
    WAIT
    + """
import signal
def note(*_):
    pathlib.Path(part + ".stopped").touch()
    sys.exit("script.py: stopped")
signal.signal(signal.SIGTERM, note)
pathlib.Path(part + ".ready").touch()
time.sleep(60)
"""
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["some/script.py"])
    return tmp_path


def do(codes, *, at_once=2, ended=lambda name: None):
    """Do parts that are Python's code each, by name."""
    do_parts(
        list(codes),
        lambda name, number: [sys.executable, "-c", codes[name], str(number)],
        at_once=at_once,
        environment={"ECG_NEIGHBOURS": "2"},
        begin="begin",
        ended=ended,
    )


def test_two_at_once_and_the_third_after_one_of_them(capfd):
    """The first two wait for each other; the third takes the number of the one that has ended."""
    together = WAIT + (
        "print('before'); print('begin'); print('number', sys.argv[1], os.environ['ECG_NEIGHBOURS']);"
        "pathlib.Path(part).touch(); print('to be seen', file=sys.stderr); wait_for('a', 'b', *{more})"
    )
    codes = {"a": together.format(more="['c']"), "b": together.format(more="[]")}
    ended = []
    do(codes | {"c": together.format(more="[]")}, ended=ended.append)
    assert ended.index("b") < ended.index("c") and sorted(ended) == ["a", "b", "c"]
    lines = capfd.readouterr().out.splitlines()
    numbers = [line for line in lines if "number" in line]
    assert sorted(numbers) == ["a  number 0 2", "b  number 1 2", "c  number 1 2"]
    assert sorted(set(lines) - set(numbers)) == [f"{name}  to be seen" for name in "abc"]


def test_a_part_that_fails_is_one_line_and_stops_the_others(here, capfd):
    fails = WAIT + "wait_for('b.ready'); print('a note', file=sys.stderr); sys.exit('script.py: no disk')"
    with pytest.raises(UserError, match=r"^a: no disk$"):
        do({"a": fails, "b": STOPPABLE, "c": "open('c', 'w')"})
    assert (here / "b.stopped").exists() and not (here / "c").exists()
    assert capfd.readouterr() == ("a  a note\n", "")


def test_a_part_that_is_killed_says_so():
    with pytest.raises(UserError, match=r"^a: its process ended with status -9$"):
        do({"a": "import os; os.kill(os.getpid(), 9)"})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_and_all_have_ended_when_it_is_raised(here, number):
    before = signal.getsignal(number)
    threading.Thread(target=send_when_ready, args=(here, number), daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        do({"a": STOPPABLE, "b": STOPPABLE, "c": "open('c', 'w')"})
    assert (here / "a.stopped").exists() and (here / "b.stopped").exists() and not (here / "c").exists()
    assert signal.getsignal(number) is before


def test_a_second_signal_does_not_wait_for_the_first(here):
    """The parts end only by a second SIGTERM."""
    stubborn = STOPPABLE.replace(
        "def note(*_):", "def note(*_):\n    signal.signal(signal.SIGTERM, signal.SIG_DFL); return"
    )
    threading.Thread(target=send_when_ready, args=(here, signal.SIGINT, 2), daemon=True).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        do({"a": stubborn, "b": stubborn})
    assert time.monotonic() - started < 50  # they would sleep for 60 s


def send_when_ready(folder, number, times=1):
    while not all((folder / f"{name}.ready").exists() for name in "ab"):
        time.sleep(0.01)
    for _ in range(times):
        os.kill(os.getpid(), number)
        time.sleep(10 * side_by_side.POLL)


def test_a_part_ends_with_the_process_that_started_it_even_if_that_is_killed(here):
    part = "from runtime.side_by_side import end_with_parent\nend_with_parent()\n" + STOPPABLE
    starter = (
        "import sys\nfrom runtime.side_by_side import do_parts\n"
        f"do_parts(['a'], lambda *_: [sys.executable, '-c', {part!r}], at_once=1, environment={{}},"
        " begin='', ended=print)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", starter], env=environment)
    wait_until((here / "a.ready").exists)
    assert not (here / "a.stopped").exists()
    process.kill()
    process.wait()
    wait_until((here / "a.stopped").exists)


def wait_until(is_true):
    deadline = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
