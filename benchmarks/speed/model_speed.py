"""How fast our models and the published ones train and score, and how much of the machine they use.

FLOPs are those of convolutions and matrix products (``torch.utils.flop_counter``), two for a multiplication
and its addition; norms, activations and the Fourier transform of the spectrogram do not count. They are
counted without computing, on PyTorch's device "meta", where recurrent networks and attention are plain
matrix products: fused ones are not counted.
"""

from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed.our_training import build, training_step
from benchmarks.speed.published_style import N_SAMPLES, PublishedAttention, PublishedBaseline, PublishedStep
from benchmarks.speed.timing import Conditions, Row, number, time_in_turn, times_as_fast
from inference.scoring import predict_logits, scoring_type
from models.resnet18 import STEMS
from runtime.precision import training_type

SCORED = 4  # batches of a scoring: what is done once for all of them counts, too
COUNTED = 2  # ECGs whose FLOPs are counted: a batch norm needs more than one
PUBLISHED_MODELS = {"resnet18_with_atten": PublishedAttention, "res_net_model": PublishedBaseline}
META = torch.device("meta")


def flops_per_ecg(model: nn.Module, *, training: bool, n_samples: int = N_SAMPLES) -> float:
    """Return the FLOPs of one ECG: a forward pass, in training also the backward pass."""
    model = model.to(META).train(training)
    with FlopCounterMode(display=False) as counter:
        output = model(torch.empty(COUNTED, 12, n_samples, device=META))
        if training:
            output.sum().backward()
    return counter.get_total_flops() / COUNTED


def matrix_product(given: Conditions, dtype: torch.dtype) -> Row:
    """Time the product of two large matrices of a type."""
    size = 8192 if given.device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=given.device, dtype=dtype) for _ in range(2))
    product = torch.empty_like(a)
    calls = {"product": lambda: torch.mm(a, b, out=product)}
    rate = 2 * size**3 / time_in_turn(calls, given.seconds, given.device)["product"]
    words = f"{size} x {size}, {str(dtype).removeprefix('torch.')}"
    return Row(f"matrix product, {words}", rate / 1e9, "GFLOP/s", "shares below refer to it")


def types_of(given: Conditions) -> dict[str, torch.dtype]:
    """Return the types in which scripts train and score on this device."""
    return {"training": training_type("auto", given.device), "inference": scoring_type(given.device)}


def our_model(given: Conditions, name: str, machine: Mapping[str, Row]) -> list[Row]:
    """Time training and inference of one of the five models on a random batch.

    Where a CPU trains in bfloat16, training in float32 takes its turn, too; on a CPU, so does inference with
    the batch norms as they are. ``machine`` : the matrix product in the type of each, "training" and
    "inference".
    """
    signal, targets = _batch(given)
    step, score = _ours(given, name)
    calls = {"training": lambda: step((signal,), targets, 1), "inference": lambda: score(signal)}
    if given.device.type == "cpu" and given.compile == "none":
        calls["unfolded"] = lambda: score(signal, fold=False)
    if given.device.type == "cpu" and types_of(given)["training"] == torch.bfloat16:
        exact = training_step(name, build(name, given.device), compile=given.compile, precision="float32")
        calls["float32"] = lambda: exact((signal,), targets, 1)
    times = time_in_turn(calls, given.seconds, given.device)
    rows = []
    for kind in types_of(given):
        flops = flops_per_ecg(build(name, META), training=kind == "training") / 1e9
        rate = _n_ecgs(kind, given) / times[kind]
        share = f"{100 * flops * rate / machine[kind].value:.0f} %"
        relation = f"{flops:.2f} GFLOP each, {number(flops * rate)} GFLOP/s, {share}"
        if kind == "training" and "float32" in times:
            relation += f"; {times['float32'] / times[kind]:.1f} times as fast as in float32"
        if kind == "inference" and "unfolded" in times:
            relation += f"; {times['unfolded'] / times[kind]:.2f} times as fast as with batch norms"
        rows.append(Row(f"{kind}, {name}", rate, "ECG/s", relation))
    return rows


def at_lower_rates(given: Conditions, name: str) -> list[Row]:
    """Time training steps of a model with the 1D trunk at the sampling rates that it can have, in turn."""
    signal, targets = _batch(given)
    steps = {hz: training_step(name, build(name, given.device, sampling_rate=hz)) for hz in STEMS}
    calls = {str(hz): (lambda step=step: step((signal,), targets, 1)) for hz, step in steps.items()}
    times = time_in_turn(calls, given.seconds, given.device)
    return [
        Row(
            f"training, {name}, {hz} Hz",
            given.batch_size / times[hz],
            "ECG/s",
            f"{times['500'] / times[hz]:.2f} times as fast as at 500 Hz",
        )
        for hz in times
        if hz != "500"
    ]


def published_model(given: Conditions, name: str) -> list[Row]:
    """Time a published model and ours in turn, on the same batch."""
    signal, targets = _batch(given)
    classes = targets[:, 0].long()
    trained, scored = (PUBLISHED_MODELS[name]().to(given.device) for _ in range(2))
    theirs, their_score = PublishedStep(trained), torch.inference_mode()(scored.eval().forward)
    step, score = _ours(given, name)
    calls = {
        "training, published": lambda: theirs(signal, classes),
        "training, ours": lambda: step((signal,), targets, 1),
        "inference, published": lambda: [their_score(signal) for _ in range(SCORED)],
        "inference, ours": lambda: score(signal),
    }
    times = time_in_turn(calls, given.seconds, given.device)
    rows = []
    for kind, seconds in times.items():
        as_published = times[kind.replace("ours", "published")]
        ours = kind.endswith("ours")
        relation = times_as_fast(as_published, seconds) if ours else "the published way"
        model = build(name, META) if ours else PUBLISHED_MODELS[name]()
        flops = flops_per_ecg(model, training=kind.startswith("training")) / 1e9
        rate = _n_ecgs(kind, given) / seconds
        rows.append(Row(f"{kind}, {name}", rate, "ECG/s", f"{flops:.2f} GFLOP each; {relation}"))
    return rows


def _n_ecgs(kind: str, given: Conditions) -> int:
    """Return how many ECGs a call of this kind takes."""
    return given.batch_size * (SCORED if kind.startswith("inference") else 1)


def _ours(given: Conditions, name: str) -> tuple[Callable, Callable]:
    """Return the training step of one of our models, and a scoring, of `SCORED` batches, by another."""
    trained, scored = build(name, given.device), build(name, given.device).eval()
    step = training_step(name, trained, compile=given.compile)
    if given.compile != "none":
        scored.compile(mode=given.compile, dynamic=False)
    return step, lambda signal, fold=True: predict_logits(scored, [(signal,)] * SCORED, fold=fold)


def _batch(given: Conditions) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random signals (N, 12, 4096) and targets (N, 1)."""
    signal = torch.randn(given.batch_size, 12, N_SAMPLES, device=given.device)
    targets = (torch.arange(given.batch_size, device=given.device) % 2).float()[:, None]
    return signal, targets
