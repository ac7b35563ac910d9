"""Parts of a command's work, each done by a process of its own, some of them side by side.

Such processes share nothing but files, so that none can change what another computes. A part is known by its
name, which its process finds in the environment.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from runtime.errors import UserError
from runtime.interruption import Interruption

PART, NEIGHBOURS = "ECG_PART", "ECG_NEIGHBOURS"  # in the environment of such a process
POLL = 0.05  # s between two looks at the processes


def own_part() -> str:
    """Return the name of the part that this process was started for, or "" where it does all."""
    return os.environ.get(PART, "")


def neighbours() -> int:
    """Return how many such processes share this one's device, itself included."""
    return int(os.environ.get(NEIGHBOURS, 1))


def end_with_parent() -> None:
    """Send this process SIGTERM when the one that started it has ended, however that came."""

    def wait() -> None:
        while os.read(0, 1):  # of standard input, whose other end the parent holds
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def do_parts(
    names: Sequence[str],
    command_of: Callable[[str, int], Sequence[str]],
    *,
    at_once: int,
    environment: Mapping[str, str],
    begin: str,
    ended: Callable[[str], None],
) -> None:
    """Do each part by a command of its own, some at once, and print what they print behind their names.

    The first signal is passed on to all of them, which may save what they have; the second ends them at once.
    Where one fails the others are stopped in the same way.

    Parameters
    ----------
    command_of : name, and a number below ``at_once`` that no other part has at the time -> its command.
    environment : what its process has beside this one's.
    begin : how the line starts after which a process's lines are printed; those before are this one's again.
    ended : called with the name of each part that has come to its end.

    Raises
    ------
    UserError : a part failed; its name and the last line of its errors.
    KeyboardInterrupt : a signal came; all processes have ended.
    """
    waiting, running = list(names), []
    with Interruption() as interruption:
        try:
            while waiting or running:
                if interruption.signal:
                    waiting.clear()
                    _stop(running)
                while waiting and len(running) < at_once:
                    number = min(set(range(at_once)) - {part.number for part in running})
                    name = waiting.pop(0)
                    running.append(_Part(name, number, command_of(name, number), environment, begin))
                for part in [part for part in running if part.has_ended]:
                    running.remove(part)
                    if not interruption.signal:
                        part.check()
                        ended(part.name)
                time.sleep(POLL)
        finally:  # an error, or a second signal
            _stop(running, again=bool(interruption.signal))
            for part in running:
                part.wait()
    if interruption.signal:
        raise KeyboardInterrupt


class _Part:
    """A process and its output."""

    def __init__(
        self, name: str, number: int, command: Sequence[str], environment: Mapping[str, str], begin: str
    ):
        self.name, self.number, self.is_stopped = name, number, False
        self._begin, self._last_error = begin, ""
        own = {PART: name, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        text = {"encoding": "utf-8", "errors": "replace"}
        # In a session of its own, or Ctrl-C would reach it twice, which ends it at once
        self._process = subprocess.Popen(
            command, env={**os.environ, **environment, **own}, start_new_session=True, **streams, **text
        )
        readers = (self._show_output, self._show_errors)
        self._readers = [threading.Thread(target=reader, daemon=True) for reader in readers]
        for reader in self._readers:
            reader.start()

    @property
    def has_ended(self) -> bool:
        if self._process.poll() is None:
            return False
        self.wait()
        return True

    def wait(self) -> None:
        self._process.wait()
        for reader in self._readers:
            reader.join()

    def stop(self) -> None:
        self.is_stopped = True
        self._process.terminate()

    def check(self) -> None:
        """Raise a UserError where the process did not end well."""
        status = self._process.returncode
        if status:
            line = self._last_error.removeprefix(f"{Path(sys.argv[0]).name}: ")
            raise UserError(f"{self.name}: {line or f'its process ended with status {status}'}")

    def _show_output(self) -> None:
        begun = False
        for line in self._process.stdout:
            if begun:
                self._print(line)
            begun = begun or line.startswith(self._begin)

    def _show_errors(self) -> None:
        """Print the lines of standard error, but not the last of a process that has not ended well."""
        for line in self._process.stderr:
            if self._last_error:
                self._print(self._last_error)
            self._last_error = line.rstrip()
        if self._process.wait() == 0 and self._last_error:
            self._print(self._last_error)

    def _print(self, line: str) -> None:
        print(f"{self.name}  {line.rstrip()}", flush=True)


def _stop(parts: Sequence[_Part], *, again: bool = False) -> None:
    for part in parts:
        if again or not part.is_stopped:
            part.stop()
