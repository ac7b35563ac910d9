"""Ctrl-C at any moment ends a script in one line, which says what is left."""

import importlib
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

from runtime.interruption import SignalHandler

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("script", ["train_atten.py", "predict.py"])
def test_while_packages_are_imported(script):
    """Python prints each import, so that the moment is certain: torch, for one, is still to come."""
    words = [sys.executable, "-X", "importtime", script]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "runtime.early_end" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 130 and "Traceback" not in rest
    assert rest.endswith(f"{script}: interrupted\n") and " torch\n" not in rest


def test_a_program_that_imports_a_script_keeps_its_handler(monkeypatch):
    """Such as pytest in a virtual environment that lies in the project's folder, as make has it."""
    program = types.ModuleType("__main__")
    program.__file__ = str(ROOT / ".venv" / "bin" / "pytest")
    monkeypatch.setitem(sys.modules, "__main__", program)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        importlib.reload(importlib.import_module("runtime.early_end"))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


IN_A_CALLBACK = """
import signal, sys, time, weakref
from runtime.command_line import one_line_errors

class Object:
    pass

sys.argv = ["script.py"]
with one_line_errors():
    one = Object()
    noticed = weakref.ref(one, lambda _: signal.raise_signal(signal.SIGINT))  # Python discards what it raises
    del one
    time.sleep(30)
    print("went on")
"""


def test_in_a_callback_whose_exceptions_are_discarded():
    words = [sys.executable, "-c", IN_A_CALLBACK]
    outcome = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=25)
    assert (outcome.stdout, outcome.stderr, outcome.returncode) == ("", "script.py: interrupted\n", 1)


def test_what_is_left_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["train_x.py"])
    handler = SignalHandler()
    assert handler.how_to_go_on(trains=False) == ""
    assert handler.how_to_go_on(trains=True).startswith("nothing was saved yet")
    handler.run_folder = tmp_path
    assert handler.how_to_go_on(trains=False) == f"{tmp_path} holds a part of the result: start it again"
    command = f"python train_x.py --resume {tmp_path}"
    assert handler.how_to_go_on(trains=True) == f"{command} begins it anew: no step was saved yet"
    (tmp_path / "fold-1").mkdir()
    (tmp_path / "fold-1" / "checkpoint.pt").touch()
    assert handler.how_to_go_on(trains=True) == f"{command} goes on from what is saved"
