"""Ctrl-C while a script imports its packages, which takes seconds: one line and no traceback.

Scripts import this module first. It does nothing in a program that imports a script, such as a test.
"""

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
INTERRUPTED = 130  # exit status, by the shells' convention


def _end(*_: object) -> NoReturn:
    os.write(2, os.fsencode(f"{Path(sys.argv[0]).name}: interrupted\n"))
    os._exit(INTERRUPTED)  # an exception may be discarded in the midst of an import


# The scripts lie in the root; a virtual environment, and pytest in it, may lie in a folder below
_program = Path(getattr(sys.modules["__main__"], "__file__", None) or "/").resolve()
if _program.parent == ROOT and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end)
