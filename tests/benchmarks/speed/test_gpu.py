"""The benchmark for GPUs runs to its end on the CPU, and what it would find wrong is found."""

import re
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_runs import run_here
from torch.autograd import DeviceType

from benchmarks.speed import gpu, gpu_fast, gpu_right, timing
from benchmarks.speed.script_speed import Script
from benchmarks.speed.timing import Row
from models import MODELS
from run_folder.run import Run
from runtime.precision import cpu_has_amx
from training.loop import TrainingStep

ATTENTION = "resnet18_with_atten"
OTHERS = [name for name in MODELS if name != ATTENTION]
RATES = [
    f"matrix product, 2048 x 2048, {'bfloat16' if cpu_has_amx() else 'float32'}",
    *(f"{name}, 2, step by step" for name in [ATTENTION, *OTHERS]),
    "an epoch, step by step",
    "2 models, one after another",
    "2 models, at once",
    "2, held on the device",
    "2, streamed from disk",
    *(f"{name}, 2" for name in MODELS),
    "without cuDNN's search",
    "with cuDNN's search",
    "checkpoint.pt",
    "model.safetensors",
]
RIGHT = [
    "crops held on the device",
    "crops streamed from disk",
    *(f"{kind}, {name}" for name in MODELS for kind in ("float32", "bfloat16")),
    "recurrent layer, results not in float32",
    *(f"graph, {what}, {name}" for name in MODELS for what in ("losses", "weights")),
    *(f"resumed, {what}, {way}" for way in ("step by step", "graph") for what in ("losses", "weights")),
]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    options = gpu.options_of(["--device", "cpu", "--tiny"])
    return gpu.conditions(options, tmp_path_factory.mktemp("ecgs"))


def test_it_runs_to_its_end_on_the_cpu(monkeypatch):
    monkeypatch.setattr(timing, "ROUNDS", 1)
    monkeypatch.setattr(gpu_fast, "flops_per_ecg", lambda *model, **options: 1e9)  # counting takes seconds
    outcome = run_here("benchmarks.speed.gpu", "--device", "cpu", "--tiny")
    assert outcome.returncode == 0, outcome.stdout
    head, right, *rates, end = outcome.stdout.strip().split("\n\n")
    assert [line.split()[0] for line in head.splitlines()] == [
        "date",
        "processor",
        "device",
        "software",
        "ECGs",
    ]
    found = [re.match(r"(.+?)  +(\S+) ", line).groups() for line in right.splitlines()[1:]]
    assert [name for name, _ in found] == RIGHT
    assert all(value == "0" for name, value in found if not name.startswith("bfloat16"))
    assert all(0 < float(value) < gpu_right.BFLOAT16 for name, value in found if name.startswith("bfloat16"))
    lines = [re.match(r"(.+?)  +(\S+) ", line).groups() for part in rates for line in part.splitlines()[1:]]
    assert [name for name, _ in lines] == RATES
    assert all(float(value.replace(",", "")) > 0 for _, value in lines)
    assert end.startswith("nothing wrong was found; ")


def test_a_part_and_its_status(monkeypatch, tmp_path):
    """A checkpoint without the weights is seen, and makes the status 1."""
    parts = TrainingStep._parts.fget

    def without_model(self):
        return {name: part for name, part in parts(self).items() if name != "model"}

    monkeypatch.setattr(TrainingStep, "_parts", property(without_model))
    monkeypatch.setitem(gpu.PARTS, "right", ("Is it right?", {gpu_right.resumed: 0}))
    monkeypatch.setattr("sys.argv", ["gpu.py", "--device", "cpu", "--tiny", "--parts", "right"])
    assert gpu.main() == 1


def test_an_optimizer_that_starts_anew_is_seen(given, monkeypatch):
    load = TrainingStep.load_state_dict
    monkeypatch.setattr(
        TrainingStep,
        "load_state_dict",
        lambda self, state: load(self, state | {"optimizer": self.optimizer.state_dict()}),
    )
    rows = list(gpu_right.resumed(given))
    wrong = [row.name for row in rows if not row.is_right]
    assert wrong == ["resumed, weights, step by step", "resumed, weights, graph"]
    assert all(re.search(r"  WRONG: expected at most 0$", str(row)) for row in rows if not row.is_right)


@pytest.mark.parametrize(("value", "right"), [(0.02, True), (0.021, False), (float("nan"), False)])
def test_a_difference_is_right_up_to_its_limit(value, right):
    row = gpu_right.Difference("bfloat16, a model", value, "logit", limit=0.02)
    assert row.is_right == right
    verdict = "right" if right else "WRONG"
    assert str(row).endswith(f"{verdict}: expected at most 0.02")


def test_a_recurrent_layer_in_half_precision_is_counted(given, monkeypatch):
    model = SimpleNamespace(rnn=torch.nn.LSTM(2, 2, batch_first=True).half())
    monkeypatch.setattr(gpu_right, "build", lambda name, device: model)
    half = torch.ones(1, 3, 2, dtype=torch.half)
    monkeypatch.setattr(gpu_right, "forward", lambda model, inputs, compute_type: model.rnn(half))
    (row,) = gpu_right.recurrent(given)
    assert row.value == 1 and not row.is_right


def test_what_fails_has_a_line_and_the_rest_goes_on(given, capsys):
    def failing(given):
        yield Row("first", 1, "s")
        raise RuntimeError("CUDA error:\nan illegal memory access")

    assert not gpu.show(failing, 0, given, float("inf"))
    first, failed = capsys.readouterr().out.splitlines()
    assert first.startswith("first ")
    assert failed == "test_gpu.failing: FAILED: RuntimeError: CUDA error: an illegal memory access"


def test_what_finds_no_time_has_a_line(given, capsys):
    def slow(given):
        yield Row("first", 1, "s")
        yield Row("second", 1, "s")

    assert gpu.show(slow, 0, given, 0)  # the time was over long ago
    assert capsys.readouterr().out == "test_gpu.slow: no time left\n"


@pytest.fixture
def on_gpu(given, monkeypatch):
    """As on a GPU that works for 1 ms in each of 40 kernels of every epoch, and for 5 ms afterwards."""

    def profiled(call, given):
        times = [1e3] * 40 * (call() or 1) + [5e3]
        kernel = {"device_type": DeviceType.CUDA, "is_user_annotation": False}
        return [SimpleNamespace(self_device_time_total=time, **kernel) for time in times]

    monkeypatch.setattr(gpu_fast, "_profiled", profiled)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: None)
    return replace(given, device=torch.device("cuda", 0))


def test_what_a_gpu_does_in_a_step(on_gpu):
    """41 kernels and copies of 45 ms in all, in two steps of 90 ms together."""
    words = gpu_fast._of_gpu(lambda: None, 2, 0.09, on_gpu)
    assert words == ", 22.5 ms of 20.5 kernels and copies (50 %)"


def test_an_epoch_is_what_two_have_beyond_one(on_gpu):
    """What an epoch takes is 40 ms of 50, without the 5 ms of the checkpoint; and what waits, twice."""

    def run(n_epochs):
        for _ in range(2 * n_epochs):
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)  # of the checkpoint
        return n_epochs

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        busy, waiting = gpu_fast._busy_and_waiting(run, "graph", 0.05, on_gpu)
    assert busy.name == "GPU busy, graph" and busy.value == pytest.approx(80)
    assert re.fullmatch(r"waits, graph, test_gpu\.py:\d+", waiting.name) and waiting.value == 2


@pytest.mark.parametrize(("captured", "begins"), [(True, "5"), (False, "NOT CAPTURED: kernel by kernel; 5")])
def test_a_graph_that_was_not_captured_says_so(on_gpu, monkeypatch, captured, begins):
    """Two steps of 5 ms; 0.004 GFLOP an ECG at 400 ECG/s are 1.6 of 16 GFLOP/s."""
    epoch = gpu_fast._Epoch(SimpleNamespace(graph=object() if captured else None), [None, None])
    monkeypatch.setattr(gpu_fast, "SignalsOnDevice", lambda signals, device: None)
    monkeypatch.setattr(gpu_fast._Epoch, "of_new_model", lambda *arguments, **options: epoch)
    monkeypatch.setattr(gpu_fast, "time_in_turn", lambda calls, *others: dict.fromkeys(calls, 0.01))
    monkeypatch.setattr(gpu_fast, "_of_gpu", lambda *arguments: "")
    monkeypatch.setattr(gpu_fast, "flops_per_ecg", lambda *model, **options: 4e6)
    (row,) = gpu_fast._train(on_gpu, ATTENTION, {"graph": {}}, Row("product", 16, "GFLOP/s"))
    assert row.value == pytest.approx(400)
    assert row.relation == f"{begins}.00 ms a step; 10 % of the product"


def test_lines_that_wait_for_the_gpu_are_counted(monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def run():
        for _ in range(2):
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("something else", stacklevel=1)

    ((place, count),) = gpu_fast.waits(run).items()
    assert re.fullmatch(r"test_gpu\.py:\d+", place) and count == 2
    assert modes == ["warn", "default"]


@pytest.mark.parametrize("flags", [["--batch-size", "0"], ["--ecgs", "3"], ["--minutes", "0"]])
def test_flags_that_cannot_be_used(flags, capsys):
    with pytest.raises(SystemExit):
        gpu.options_of(flags)
    assert flags[0] in capsys.readouterr().err.splitlines()[-1]


def test_folds_of_a_script_at_once_are_compared_with_those_one_after_another(given, monkeypatch):
    """By a script that takes 7 s and leaves weights that differ in one fold."""

    def run_script(_, command):
        flags = dict(zip(command[2::2], command[3::2], strict=True))
        at_once = flags["--folds-at-once"] == "5"
        for fold in range(1, int(flags["--folds"]) + 1):
            run = Run(Path(flags["--output-dir"]) / "run" / f"fold-{fold}")
            run.folder.mkdir(parents=True)
            (run.folder / "log.csv").write_text("epoch,seconds\n1,1.5\n2,0.5\n")
            run.save_weights({"bias": torch.tensor([0.5, fold + 0.25 * (at_once and fold == 3)])})
        return Script(float("nan"), 7.0, 0.0)

    monkeypatch.setattr(gpu_fast, "run_script", run_script)
    *ways, weights = gpu_fast.cross_validate(given)
    words = "10 epochs each; of which 10.0 s in epochs, folds added up"
    assert [(row.name, row.value, row.relation) for row in ways] == [
        ("5 folds, one after another", 7, words),
        ("5 folds, at once", 7, words),
    ]
    assert weights.value == 0.25
