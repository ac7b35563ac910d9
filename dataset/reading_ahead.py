"""Files that are read by processes of their own, before they are needed."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, ClassVar

from runtime.errors import UserError

PARALLEL_FROM = 32  # files; fewer are read sooner than processes start
AHEAD = 64  # files that are read before they are needed


def read_ahead(files: Sequence[Path], read: Callable[[Path], Any]) -> Iterator[Any]:
    """Yield what ``read`` returns of each file, in their order; of many files, one process per core reads.

    Parameters
    ----------
    read : and what it returns, can be pickled.

    Raises
    ------
    UserError : a process was killed.
    """
    if n_cores() == 1 or len(files) < PARALLEL_FROM:
        yield from map(read, files)
        return
    waiting: deque = deque()
    pool = ProcessPoolExecutor(n_cores(), reading_processes(), _Reader.start, (read,))
    try:
        for file in files:
            waiting.append(pool.submit(_Reader.read, file))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError("a process that read files was killed, perhaps for memory") from None
    finally:
        pool.shutdown(cancel_futures=True)


class _Reader:
    """One of the processes; the class keeps what it has from its parent, so that it is sent only once."""

    function: ClassVar[Callable[[Path], Any]]

    @classmethod
    def start(cls, function: Callable[[Path], Any]) -> None:
        cls.function = function
        serve_parent()

    @classmethod
    def read(cls, file: Path) -> Any:
        return cls.function(file)


def reading_processes() -> BaseContext:
    """Return how processes are started that read files.

    Forked children need not import the script again; they use only NumPy.
    """
    return multiprocessing.get_context("fork" if sys.platform == "linux" else None)


def serve_parent() -> None:
    """In a new process: leave Ctrl-C to the parent, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End a process whose parent was killed: it may hold a lock, and would wait for work forever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def n_cores() -> int:
    """Return the cores that this process may use; on macOS and Windows, all that there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
