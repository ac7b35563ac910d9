"""A training epoch over the same ECGs, the published way and ours; and how busy a GPU is in ours."""

from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.autograd import DeviceType

from benchmarks.speed.our_training import build, training_batches, training_step
from benchmarks.speed.published_style import (
    PublishedAttention,
    PublishedItems,
    PublishedStep,
    published_loader,
)
from benchmarks.speed.timing import Conditions, Row, drain, number, seconds_of, times_as_fast
from dataset.signals import SignalsOnDevice, SignalsOnDisk

MODEL = "resnet18_with_atten"


def epochs(given: Conditions) -> list[Row]:
    """Time one epoch of each, after a first step that is not counted."""
    signals = SignalsOnDevice(given.cohort.signals, given.device)
    timed = {
        "published files and model": _published(given, PublishedAttention()),
        "published model, our batches": _published_on_our_batches(given, PublishedAttention(), signals),
        "ours": ours(given, build(MODEL, given.device), signals),
    }
    rows, published = [], 0.0
    for name, epoch in timed.items():
        seconds = seconds_of(epoch, given.device)
        published = published or seconds
        relation = "the published way" if not rows else times_as_fast(published, seconds)
        rate = f"{number(len(given.paths) / seconds)} ECG/s"
        rows.append(Row(f"an epoch, {name}", seconds, "s", f"{rate}; {relation}"))
    return rows


def ours(
    given: Conditions, model: nn.Module, signals: SignalsOnDevice | SignalsOnDisk
) -> Callable[[], object]:
    """Return an epoch of our batches, with the script's augmentation and the step of training/loop.py."""
    batches = training_batches(given, signals, "independent")
    step = training_step(MODEL, model, compile=given.compile)
    step.capture(batches)
    # A step of each size first: it chooses algorithms, compiles and takes memory.
    for size in set(batches.sizes):
        next(step.losses(batches, 0, batches.sizes.index(size)))
    return lambda: drain(step.losses(batches, 1, 0))


def busy_share(given: Conditions) -> list[Row]:
    """Measure the share of an epoch in which the GPU computes or copies, by PyTorch's profiler.

    The profiler slows the processor down, so the true share is no lower.
    """
    if given.device.type != "cuda":
        return []
    rows = []
    for place, signals in (("held on the device", SignalsOnDevice), ("streamed from disk", SignalsOnDisk)):
        epoch = ours(given, build(MODEL, given.device), signals(given.cohort.signals, given.device))
        plain = seconds_of(epoch, given.device)
        with torch.profiler.profile(activities=list(torch.profiler.supported_activities())) as profiler:
            seconds = seconds_of(epoch, given.device)
        rate = f"of an epoch of {number(len(given.paths) / plain)} ECG/s in bfloat16"
        rows.append(Row(f"GPU busy, {place}", 100 * gpu_seconds(profiler.events()) / seconds, "%", rate))
    return rows


def on_gpu(events: Iterable) -> list:
    """Return all kernels and copies on the GPU among events of PyTorch's profiler."""
    return [
        event
        for event in events
        if event.device_type == DeviceType.CUDA and not event.is_user_annotation  # which spans kernels
    ]


def gpu_seconds(events: Iterable) -> float:
    """Return the time of all kernels and copies on the GPU, from events of PyTorch's profiler."""
    return 1e-6 * sum(event.self_device_time_total for event in on_gpu(events))


def _published(given: Conditions, model: nn.Module) -> Callable[[], object]:
    items = PublishedItems(given.paths, given.cohort.targets[:, 0].astype(int).tolist(), augmented=True)
    loader = published_loader(items, given)
    step = PublishedStep(model.to(given.device))
    _warm_up(step, {min(given.batch_size, len(items)), len(items) % given.batch_size}, given)

    def run() -> None:
        for signal, classes in loader:
            step(signal.to(given.device), classes.to(given.device))

    return run


def _published_on_our_batches(
    given: Conditions, model: nn.Module, signals: SignalsOnDevice
) -> Callable[[], object]:
    batches, step = training_batches(given, signals, "published"), PublishedStep(model.to(given.device))
    _warm_up(step, set(batches.sizes), given)

    def run() -> None:
        for (signal,), targets, _ in batches.epoch(1):
            step(signal, targets[:, 0].long())

    return run


def _warm_up(step: PublishedStep, sizes: set[int], given: Conditions) -> None:
    """Take a step of each size of batch, which chooses algorithms and takes memory."""
    for size in sizes - {0}:
        classes = torch.arange(size, device=given.device) % 2
        step(torch.randn(size, 12, given.n_samples, device=given.device), classes)
