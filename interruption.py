"""How training ends early: by a signal, which waits until a step is done and saved, or by a failure."""

import shlex
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C; kill, a batch system, the end of a session


class TrainingError(RuntimeError):
    """Training that cannot go on; one line that says where it stopped and what is kept."""


class StoppedError(RuntimeError):
    """Training was asked to stop; one line that says where it stopped and what goes on."""

    def __init__(self, where: str, run_folder: Path):
        script, folder = shlex.quote(Path(sys.argv[0]).name), shlex.quote(str(run_folder))
        super().__init__(f"{where}; python {script} --resume {folder} goes on from there")


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

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number).name
