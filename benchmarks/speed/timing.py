"""What the benchmarks share: their conditions, their way of timing, and a row of their table."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from dataset.cohort import Cohort

ROUNDS = 3  # at least, of every timing


@dataclass(frozen=True)
class Conditions:
    """What every measurement needs to know.

    Attributes
    ----------
    cohort, paths : the ECGs, and their files in the same order.
    data : the flags by which the training scripts find the same ECGs.
    device, batch_size : of models and batches.
    seconds : roughly how long each call is timed; at least three times.
    threads : of PyTorch on the CPU.
    loader_workers : processes of the published way's DataLoader.
    processes : of the trainings by torchrun.
    compile : "none", or a mode of ``torch.compile`` for our models.
    scratch : a folder for what the training scripts leave.
    n_samples : of each ECG that a model sees.
    many : files whose scoring shows whether memory grows with their number.
    duplicates : ECGs among which duplicates are searched.
    """

    cohort: Cohort
    paths: list[Path]
    data: list[str]
    device: torch.device
    batch_size: int
    seconds: float
    threads: int
    loader_workers: int
    processes: list[int]
    compile: str
    scratch: Path
    n_samples: int = 4096
    many: int = 10_000
    duplicates: int = 1_000_000
    indices: np.ndarray = field(init=False)  # of all ECGs

    def __post_init__(self) -> None:
        object.__setattr__(self, "indices", np.arange(len(self.paths)))


@dataclass(frozen=True)
class Row:
    """One row of the table: a measurement, and how it relates to the published way, or to a goal.

    Attributes
    ----------
    goal : what the value should be at most, in its unit; None where there is none.
    """

    name: str
    value: float
    unit: str
    relation: str = ""
    goal: float | None = field(default=None, kw_only=True)

    def __str__(self) -> str:
        words = [self.relation] if self.relation else []
        if self.goal is not None:
            words.append(f"{100 * self.value / self.goal:.0f} % of the goal, {number(self.goal)}")
        return f"{self.name:<46}{number(self.value):>8} {self.unit:<9}{'; '.join(words)}".rstrip()


def number(value: float) -> str:
    """Return a number with about three digits."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else None
    return f"{value:.2g}" if digits is None else f"{value:,.{digits}f}"


def times_as_fast(published: float, ours: float) -> str:
    """Return how two durations of the same work compare."""
    return f"{number(published / ours)} times as fast as published"


def wait_for(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    """Return the seconds by the clock that a call takes, the work that it leaves to the device included."""
    wait_for(device)
    started = time.perf_counter()
    call()
    wait_for(device)
    return time.perf_counter() - started


def time_in_turn(
    calls: Mapping[str, Callable[[], object]], seconds: float, device: torch.device
) -> dict[str, float]:
    """Return the median seconds of each call, after one that is not counted.

    They take turns, so that other programs on the machine disturb them alike, for about ``seconds`` each.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    while min(map(len, times.values())) < ROUNDS or sum(map(sum, times.values())) < seconds * len(calls):
        for name, call in calls.items():
            times[name].append(seconds_of(call, device))
    return {name: statistics.median(call_times) for name, call_times in times.items()}


def drain(batches: Iterable) -> None:
    """Go through all batches."""
    for _ in batches:
        pass
