"""How a script ends early: by a signal, which in training waits until a step is saved, or by a failure.

A script imports this module first. It takes no time, and from then on Ctrl-C ends with one line, also while
the imports that follow are under way.
"""

import atexit
import shlex
import signal
import sys
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn

from runtime.errors import UserError

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C; kill, a batch system, the end of a session
_usual_excepthook = sys.excepthook


class StoppedError(UserError):
    """Training was asked to stop; one line that says where it stopped and what goes on."""

    def __init__(self, where: str, run_folder: Path):
        super().__init__(f"{where}; {_command_that_resumes(run_folder)} goes on from there")


class Interruption:
    """Within this context the first SIGINT or SIGTERM is only noted; the second interrupts at once.

    Attributes
    ----------
    signal : name of the signal that came, or nothing.
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


class Ending:
    """What a signal does in a script, outside of the loop: it interrupts at once.

    Attributes
    ----------
    came : whether one came; libraries may have made another error of the KeyboardInterrupt in their midst.
    run_folder : the run that is under way, once there is one.
    """

    def __init__(self) -> None:
        self.came = False
        self.run_folder: Path | None = None

    def __call__(self, *_: object) -> NoReturn:
        self.came = True
        raise KeyboardInterrupt

    def take_over(self) -> None:
        """Answer the signals, except one that this process is to ignore; at its very end ignore both."""
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self)
                atexit.register(signal.signal, number, signal.SIG_IGN)

    def how_to_go_on(self) -> str:
        """Return the command that goes on with the training."""
        if self.run_folder is None or not any(self.run_folder.rglob("checkpoint.pt")):  # of a fold, perhaps
            return "nothing was trained yet by this command; start it again"
        return f"{_command_that_resumes(self.run_folder)} goes on from what is saved"


def name_run(run_folder: Path) -> None:
    """Let the line with which a signal ends this script name the run that is under way."""
    ending = signal.getsignal(signal.SIGTERM)
    if isinstance(ending, Ending):
        ending.run_folder = run_folder


def _command_that_resumes(run_folder: Path) -> str:
    script, folder = shlex.quote(Path(sys.argv[0]).name), shlex.quote(str(run_folder))
    return f"python {script} --resume {folder}"


def _one_line_of_interrupt(
    kind: type[BaseException], error: BaseException, place: TracebackType | None
) -> None:
    """Print one line instead of the traceback of a Ctrl-C that came before or after a script's main()."""
    if issubclass(kind, KeyboardInterrupt):
        print(f"{Path(sys.argv[0]).name}: interrupted", file=sys.stderr)
    else:
        _usual_excepthook(kind, error, place)


sys.excepthook = _one_line_of_interrupt
