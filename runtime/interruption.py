"""How a script ends early: by a signal, which in training waits until a step is saved."""

import _thread
import atexit
import shlex
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from runtime.errors import UserError

AGAIN_AFTER = 0.05  # seconds, until what Python was in the midst of has ended
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
    run_folder : the folder of the current run, or evaluation, once there is one.
    """

    def __init__(self) -> None:
        self.came = False
        self.run_folder: Path | None = None
        self._usual_hook = sys.unraisablehook

    def __call__(self, *_: object) -> NoReturn:
        self.came = True
        raise KeyboardInterrupt

    def take_over(self) -> None:
        """Handle the signals from now on, except one that this process ignores; ignore both at exit."""
        self.came, self.run_folder = False, None
        if sys.unraisablehook != self._unraisable:
            self._usual_hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self)
                atexit.register(signal.signal, number, signal.SIG_IGN)

    def how_to_go_on(self, *, trains: bool) -> str:
        """Return what an interrupted script has left, and how a training is continued; "" if nothing."""
        if trains and self.run_folder:
            saved = any(self.run_folder.rglob("checkpoint.pt"))  # a fold may have it
            ends = "goes on from what is saved" if saved else "begins it anew: no step was saved yet"
            return f"{_command_that_resumes(self.run_folder)} {ends}"
        if trains:
            return "nothing was saved yet by this command; start it again"
        return f"{self.run_folder} holds a part of the result: start it again" if self.run_folder else ""

    def _unraisable(self, unraisable: Any) -> None:
        """Interrupt once more where Python discards a KeyboardInterrupt, as in a callback of an import."""
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            self._usual_hook(unraisable)
            return
        again = threading.Timer(AGAIN_AFTER, _interrupt)
        again.daemon = True
        again.start()


HANDLER = SignalHandler()  # a process has one handler per signal


def _interrupt() -> None:
    """Interrupt the main thread, also while it waits."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    else:  # Windows
        _thread.interrupt_main()


def _command_that_resumes(run_folder: Path) -> str:
    script, folder = shlex.quote(Path(sys.argv[0]).name), shlex.quote(str(run_folder))
    return f"python {script} --resume {folder}"
