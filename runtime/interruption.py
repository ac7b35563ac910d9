"""How a script ends early: by a signal, which in training waits until a step is saved."""

import atexit
import shlex
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import NoReturn

from runtime.errors import UserError

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C; kill, a batch system, the end of a session


class StoppedError(UserError):
    """A signal stopped training; the line names the place, and the command that goes on from there."""

    def __init__(self, where: str, run_folder: Path):
        super().__init__(f"{where}; {_command_that_resumes(run_folder)} goes on from there")


class Interruption:
    """Within this context the first SIGINT or SIGTERM is only noted; the second interrupts immediately.

    Attributes
    ----------
    signal : name of the signal that was received, or "".
    """

    def __init__(self) -> None:
        self.signal = ""
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            before = self._before[number]
            if callable(before):
                before(number, frame)
            raise KeyboardInterrupt
        self.signal = signal.Signals(number).name


class SignalHandler:
    """Handler of SIGINT and SIGTERM outside the training loop: raise KeyboardInterrupt immediately.

    Attributes
    ----------
    came : whether a signal was received; a library may turn the KeyboardInterrupt into an error of its own.
    run_folder : the current run, once there is one.
    """

    def __init__(self) -> None:
        self.came = False
        self.run_folder: Path | None = None

    def __call__(self, *_: object) -> NoReturn:
        self.came = True
        raise KeyboardInterrupt

    def take_over(self) -> None:
        """Handle the signals from now on, except one that this process ignores; ignore both at exit."""
        self.came, self.run_folder = False, None
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self)
                atexit.register(signal.signal, number, signal.SIG_IGN)

    def how_to_go_on(self) -> str:
        """Return the command that continues the training."""
        if self.run_folder is None or not any(self.run_folder.rglob("checkpoint.pt")):  # a fold may have it
            return "nothing was saved yet by this command; start it again"
        return f"{_command_that_resumes(self.run_folder)} goes on from what is saved"


HANDLER = SignalHandler()  # a process has one handler per signal


def _command_that_resumes(run_folder: Path) -> str:
    script, folder = shlex.quote(Path(sys.argv[0]).name), shlex.quote(str(run_folder))
    return f"python {script} --resume {folder}"
