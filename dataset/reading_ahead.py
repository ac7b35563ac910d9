"""Work that processes of their own do before it is needed: files that are read, ECGs that are measured."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
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
    try:
        yield from in_processes(files, read, n_processes=n_cores(), ahead=AHEAD)
    except BrokenProcessPool:
        raise UserError("a process that read files was killed, perhaps for memory") from None


def in_processes(
    items: Iterable[Any], work: Callable[[Any], Any], *, n_processes: int, ahead: int
) -> Iterator[Any]:
    """Yield what ``work`` returns of each item, in their order.

    Parameters
    ----------
    items : taken as they are needed; like ``work``, and what it returns, they can be pickled.
    ahead : items that are worked on before they are needed.

    Raises
    ------
    BrokenProcessPool : a process was killed.
    """
    waiting: deque = deque()
    pool = ProcessPoolExecutor(n_processes, reading_processes(), _Worker.start, (work,))
    try:
        for item in items:
            waiting.append(pool.submit(_Worker.do, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class _Worker:
    """One of the processes; the class keeps what it has from its parent, so that it is sent only once."""

    work: ClassVar[Callable[[Any], Any]]

    @classmethod
    def start(cls, work: Callable[[Any], Any]) -> None:
        cls.work = work
        serve_parent()

    @classmethod
    def do(cls, item: Any) -> Any:
        return cls.work(item)


def reading_processes() -> BaseContext:
    """Return how processes are started that read files or measure ECGs.

    Forked children need not import the script again; they use only NumPy and SciPy.
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
