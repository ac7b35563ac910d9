"""What needs processes of its own, in forks of this one, which have imported PyTorch already."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

FORK = multiprocessing.get_context("fork")


def call_in_two(call: Callable[[], Any]) -> list[Any]:
    """Call a function in two processes that find each other as torchrun's do, and return both results."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes, answers = [], []
    for number in range(2):
        answer, given = FORK.Pipe(duplex=False)
        processes.append(FORK.Process(target=_join, args=(call, number, port, given)))
        processes[-1].start()
        given.close()  # so that a process that ends without an answer is an error here
        answers.append(answer)
    try:
        return [answer.recv() for answer in answers]
    finally:
        for process in processes:
            process.join(60)
            process.kill()


def _join(call: Callable[[], Any], number: int, port: int, given: Connection) -> None:
    shared = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {
        name: str(value) for name, value in (shared | {"RANK": number, "LOCAL_RANK": number}).items()
    }
    torch.set_num_threads(1)  # the threads of this process's parent are not in it
    given.send(call())
