"""How fast a GPU trains, by each way of launching a step, and what it does in the meantime.

All rates are of whole epochs of training, after one that is not counted, in which cuDNN chooses its
algorithms, torch.compile compiles and CUDA graphs are captured. Ways that are compared take turns.
"""

import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.speed.epoch_speed import gpu_seconds, on_gpu
from benchmarks.speed.model_speed import META, flops_per_ecg, matrix_product, types_of
from benchmarks.speed.our_training import build, new_step, training_batches, validation_batches
from benchmarks.speed.script_speed import SCRIPT, run_script
from benchmarks.speed.timing import Conditions, Row, drain, number, seconds_of, time_in_turn
from dataset.batches import EvaluationBatches, TrainingBatches
from dataset.signals import SignalsOnDevice, SignalsOnDisk
from inference.scoring import forward, scoring_type
from models import MODELS
from run_folder.files import RunFiles
from run_folder.run import Run
from training.loop import TrainingStep, fit

MODEL = "resnet18_with_atten"
LARGER = (128, 512)  # batches of the attention model, beside the usual
WAYS = {"step by step": {"cuda_graph": False}, "graph": {"cuda_graph": True}}
COMPILED = {
    "compiled": {"compile": "default", "cuda_graph": False},
    "compiled, graph": {"compile": "default", "cuda_graph": True},
    "reduce-overhead": {"compile": "reduce-overhead"},
}
GRAPHS = ("graph", "compiled, graph")
FOLDS = 5
OF_SCRIPT = 10  # epochs of a script's cross-validation
EPOCHS = 4  # that are timed with validation
LINES = 12  # that wait, at most so many
SCORED = 256  # ECGs in a batch of inference


class _Epoch(NamedTuple):
    """A step and the batches that it trains on."""

    step: TrainingStep
    batches: TrainingBatches

    @classmethod
    def of_new_model(
        cls, given: Conditions, signals: SignalsOnDevice | SignalsOnDisk, name: str = MODEL, **options: Any
    ) -> "_Epoch":
        """Return a new model's; ``options`` are those of `new_step`."""
        epoch = cls(new_step(given, name, **options), training_batches(given, signals, "independent"))
        epoch.step.capture(epoch.batches)
        return epoch

    def __call__(self) -> None:
        drain(self.step.losses(self.batches, 1, 0))


def steps(given: Conditions) -> Iterator[Row]:
    """Training of the five models step by step and by graph; of the attention model in larger batches too."""
    product = matrix_product(given, types_of(given)["training"])
    yield product
    larger = LARGER if given.device.type == "cuda" else ()
    for size in (given.batch_size, *larger):
        yield from _train(replace(given, batch_size=size), MODEL, _ways(given), product)
    for name in MODELS:
        if name != MODEL:
            yield from _train(given, name, _ways(given), product)


def compiled(given: Conditions) -> Iterator[Row]:
    """Training of the attention model by torch.compile; on a GPU alone, as compiling takes minutes."""
    if given.device.type == "cuda":
        product = matrix_product(given, types_of(given)["training"])
        for way, options in COMPILED.items():
            yield from _train(given, MODEL, {way: options}, product)


def _ways(given: Conditions) -> dict[str, dict[str, Any]]:
    """Return the ways of launching a step that the device has."""
    return WAYS if given.device.type == "cuda" else {"step by step": WAYS["step by step"]}


def _train(given: Conditions, name: str, ways: Mapping[str, dict[str, Any]], product: Row) -> Iterator[Row]:
    """Train an epoch by each way in turn; the share is that of the matrix product's rate."""
    signals = SignalsOnDevice(given.cohort.signals, given.device)
    epochs = {way: _Epoch.of_new_model(given, signals, name, **options) for way, options in ways.items()}
    flops = flops_per_ecg(build(name, META), training=True, n_samples=given.n_samples)
    for way, seconds in time_in_turn(epochs, given.seconds, given.device).items():
        rate, n_steps = len(given.indices) / seconds, len(epochs[way].batches)
        words = f"{number(1e3 * seconds / n_steps)} ms a step{_of_gpu(epochs[way], n_steps, seconds, given)}"
        share = f"{100 * flops * rate / (1e9 * product.value):.0f} % of the product"
        if way in GRAPHS and epochs[way].step.graph is None:
            words = f"NOT CAPTURED: kernel by kernel; {words}"
        yield Row(f"{name}, {given.batch_size}, {way}", rate, "ECG/s", f"{words}; {share}")


def _of_gpu(epoch: Callable[[], object], n_steps: int, seconds: float, given: Conditions) -> str:
    """Return what the GPU does in a step, by a profile of one more epoch."""
    if given.device.type != "cuda":
        return ""
    events = on_gpu(_profiled(epoch, given))
    busy, kernels = gpu_seconds(events), number(len(events) / n_steps)
    return (
        f", {number(1e3 * busy / n_steps)} ms of {kernels} kernels and copies ({100 * busy / seconds:.0f} %)"
    )


def _profiled(call: Callable[[], object], given: Conditions) -> list:
    with torch.profiler.profile(activities=list(torch.profiler.supported_activities())) as profiler:
        seconds_of(call, given.device)
    return list(profiler.events())


def streamed(given: Conditions) -> Iterator[Row]:
    """Training of the attention model, step by step, on signals that threads read from the disk ahead."""
    larger = (LARGER[0],) if given.device.type == "cuda" else ()
    for size in (given.batch_size, *larger):
        shape = replace(given, batch_size=size)
        places = {"held on the device": SignalsOnDevice, "streamed from disk": SignalsOnDisk}
        epochs = {
            place: _Epoch.of_new_model(shape, kind(given.cohort.signals, given.device), cuda_graph=False)
            for place, kind in places.items()
        }
        for place, seconds in time_in_turn(epochs, given.seconds, given.device).items():
            yield Row(f"{size}, {place}", len(given.indices) / seconds, "ECG/s")


def inference(given: Conditions) -> Iterator[Row]:
    """Scoring of a batch on the device, as `predict.py` and `evaluate.py` compute it."""
    size = SCORED if given.device.type == "cuda" else given.batch_size
    signal = torch.randn(size, 12, given.n_samples, device=given.device)
    for name in MODELS:
        model = build(name, given.device).eval()
        score = torch.inference_mode()(
            lambda model=model: forward(model, (signal,), scoring_type(given.device))
        )
        seconds = time_in_turn({name: score}, given.seconds, given.device)[name]
        yield Row(f"{name}, {size}", size / seconds, "ECG/s")


def epochs(given: Conditions) -> Iterator[Row]:
    """Epochs as scripts run them, with validation and log; how busy the GPU is, and who waits for it."""
    signals = SignalsOnDevice(given.cohort.signals, given.device)
    training = training_batches(given, signals, "independent")
    # Every eighth, from the positive ones on: the validation needs both kinds
    eighth = np.argsort(given.cohort.targets[:, 0], kind="stable")[::-8].copy()
    validation = validation_batches(given, signals, eighth)
    for way, options in _ways(given).items():
        step = new_step(given, **options)

        def run(n_epochs: int, step: TrainingStep = step) -> Path:
            return _fit(step, training, validation, n_epochs, given)

        run(1)
        log = RunFiles(run(EPOCHS)).table("log.csv")
        whole, rate = log["seconds"].median(), log["ecgs_per_second"].median()
        words = f"training alone {number(rate)} ECG/s; {training.n_ecgs:,} ECGs, {len(eighth):,} validated"
        yield Row(f"an epoch, {way}", 1e3 * whole, "ms", words)
        if given.device.type == "cuda":
            yield from _busy_and_waiting(run, way, whole, given)


def _busy_and_waiting(
    run: Callable[[int], object], way: str, seconds: float, given: Conditions
) -> Iterator[Row]:
    """Yield the share of an epoch in which the GPU works, and each line that waits for it.

    What two epochs have beyond one is an epoch, without the checkpoint at the end.
    """
    one, two = (gpu_seconds(_profiled(lambda n=n_epochs: run(n), given)) for n_epochs in (1, 2))
    yield Row(f"GPU busy, {way}", 100 * (two - one) / seconds, "%", "of an epoch with validation and log")
    one, two = (waits(lambda n=n_epochs: run(n)) for n_epochs in (1, 2))
    for place, count in (two - one).most_common(LINES):
        yield Row(f"waits, {way}, {place}", count, "times", "in an epoch")


def waits(run: Callable[[], object]) -> Counter[str]:
    """Return how often each file:line waits for the GPU, by PyTorch's warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waiting = (one for one in caught if "synchroniz" in str(one.message))
    return Counter(f"{Path(one.filename).name}:{one.lineno}" for one in waiting)


def _fit(
    step: TrainingStep,
    training: TrainingBatches,
    validation: EvaluationBatches,
    n_epochs: int,
    given: Conditions,
) -> Path:
    """Train as a script does, in a new folder, and return that."""
    folder = given.scratch / f"fit-{time.monotonic_ns()}"
    folder.mkdir()
    fit(step, training, validation, Run(folder), epochs=n_epochs, patience=0, keep="last", monitor="loss")
    return folder


def folds(given: Conditions) -> Iterator[Row]:
    """Five models' epochs by graph: one after another, and side by side, on a stream each.

    Side by side, dropout of one may be drawn by the seed of another, as they share PyTorch's generator.
    """
    has_streams, signals = given.device.type == "cuda", SignalsOnDevice(given.cohort.signals, given.device)
    models = [_Epoch.of_new_model(given, signals, seed=seed) for seed in range(FOLDS if has_streams else 2)]
    streams = [torch.cuda.Stream(given.device) if has_streams else None for _ in models]

    def one_after_another() -> None:
        for model in models:
            model()

    def at_once() -> None:
        trainings = [model.step.losses(model.batches, 1, 0) for model in models]
        for _ in range(len(models[0].batches)):
            for training, stream in zip(trainings, streams, strict=True):
                with torch.cuda.stream(stream):
                    next(training)

    calls = {"one after another": one_after_another, "at once": at_once}
    for way, seconds in time_in_turn(calls, given.seconds, given.device).items():
        rate = len(models) * len(given.indices) / seconds
        yield Row(f"{len(models)} models, {way}", rate, "ECG/s", "together")


def cross_validation(given: Conditions) -> Iterator[Row]:
    """`train_atten.py --folds` as a user runs it, fold after fold and side by side; on a GPU alone.

    On the CPU it would take minutes; there, a test compares the bits.
    """
    if given.device.type == "cuda":
        yield from cross_validate(given)


def cross_validate(given: Conditions) -> Iterator[Row]:
    """Yield the seconds of each way, with start-up, tests and report, and how far the weights are apart."""
    weights = []
    for way, at_once in (("one after another", 1), ("at once", FOLDS)):
        output = given.scratch / f"{at_once}-at-once"
        flags = {"--folds": FOLDS, "--folds-at-once": at_once, "--epochs": OF_SCRIPT, "--output-dir": output}
        flags |= {"--batch-size": given.batch_size, "--cache-dir": given.scratch / "own_cache"}
        words = [str(word) for flag in flags.items() for word in flag]
        script = run_script(given, [sys.executable, str(SCRIPT), *given.data, *words])
        (run,) = output.iterdir()
        logs = [fold.log() for fold in RunFiles(run).folds().values()]
        trained = f"of which {number(sum(log['seconds'].sum() for log in logs))} s in epochs, folds added up"
        yield Row(f"{FOLDS} folds, {way}", script.seconds, "s", f"{OF_SCRIPT} epochs each; {trained}")
        weights.append([Run(run / f"fold-{fold}").read_weights() for fold in range(1, FOLDS + 1)])
    apart = [
        float((one[name].double() - other[name].double()).abs().max())
        for one, other in zip(*weights, strict=True)
        for name in one
    ]
    yield Row("weights at once, largest difference", max(apart), "", "from those one after another")


def search(given: Conditions) -> Iterator[Row]:
    """Training by graph with and without cuDNN's search for the fastest algorithms, and what it costs."""
    signals, epochs, firsts = SignalsOnDevice(given.cohort.signals, given.device), {}, {}
    before = torch.backends.cudnn.benchmark
    try:
        for way, searches in (("without cuDNN's search", False), ("with cuDNN's search", True)):
            torch.backends.cudnn.benchmark = searches
            started = time.perf_counter()
            epochs[way] = _Epoch.of_new_model(given, signals)
            seconds_of(epochs[way], given.device)
            firsts[way] = time.perf_counter() - started
    finally:
        torch.backends.cudnn.benchmark = before
    for way, seconds in time_in_turn(epochs, given.seconds, given.device).items():
        words = f"{number(firsts[way])} s for a model, its graphs and the first epoch"
        yield Row(way, len(given.indices) / seconds, "ECG/s", words)


def saving(given: Conditions) -> Iterator[Row]:
    """A checkpoint and the weights, from the device to the disk."""
    step, folder = new_step(given), given.scratch / "saving"
    drain(
        step.losses(
            training_batches(given, SignalsOnDevice(given.cohort.signals, given.device), "none"), 1, 0
        )
    )
    folder.mkdir()
    run = Run(folder)
    calls = {
        "checkpoint.pt": lambda: run.save_checkpoint(step.state_dict()),
        "model.safetensors": lambda: run.save_weights(step.average.model.state_dict()),
    }
    for file, seconds in time_in_turn(calls, 0, given.device).items():
        yield Row(file, 1e3 * seconds, "ms", f"{(folder / file).stat().st_size / 1e6:.0f} MB")
