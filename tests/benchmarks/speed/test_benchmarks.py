"""The benchmark prints every line, the published way is what it should be, and FLOPs are counted right."""

import inspect
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from fake_cohort import cohort_of
from format_writers import WRITERS
from one_line import failure_of
from tiny_runs import run_here
from torch import nn
from torch.autograd import DeviceType

import train_atten
from benchmarks.speed import model_speed, predict_speed, run, script_speed, timing
from benchmarks.speed.epoch_speed import gpu_seconds
from benchmarks.speed.model_speed import META, flops_per_ecg
from benchmarks.speed.our_training import build, training_step
from benchmarks.speed.published_style import (
    PublishedAttention,
    PublishedBaseline,
    PublishedItems,
    PublishedStep,
    published_loader,
    published_loss,
)
from benchmarks.speed.timing import Conditions, Row, number, time_in_turn
from dataset.batches import normalise
from hyperparameters.reading import read_hyperparameters
from models import MODELS
from runtime.precision import cpu_has_amx
from training import loop
from xml_loader import LEADS, read_recording

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*using an HTML parser to parse an XML document"),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths"),
]
CPU = torch.device("cpu")
LINES = [
    ("a file by BeautifulSoup over lxml", "ms"),
    ("a file by our loader, at rest and judged", "ms"),
    ("an ECG from the cache, held on the device", "ms"),
    ("an ECG from the cache, streamed from disk", "ms"),
    ("a file to rest, beyond the XML parser", "ms"),
    ("published DataLoader, no augmentation", "batch/s"),
    ("published DataLoader, published augmentation", "batch/s"),
    ("held on the device, no augmentation", "batch/s"),
    ("held on the device, published augmentation", "batch/s"),
    ("held on the device, our augmentation", "batch/s"),
    ("streamed from disk, no augmentation", "batch/s"),
    ("streamed from disk, published augmentation", "batch/s"),
    ("streamed from disk, our augmentation", "batch/s"),
    ("duplicates among 200 ECGs", "s"),
    ("checkpoint.pt", "ms"),
    ("model.safetensors", "ms"),
    ("both, share of a training", "%"),
    *([("matrix product, 2048 x 2048, bfloat16", "GFLOP/s")] if cpu_has_amx() else []),
    ("matrix product, 2048 x 2048, float32", "GFLOP/s"),
    ("training, resnet18_with_atten", "ECG/s"),
    ("inference, resnet18_with_atten", "ECG/s"),
    ("training, resnet18_with_atten, 250 Hz", "ECG/s"),
    ("training, resnet18_with_atten, 100 Hz", "ECG/s"),
    ("training, published, resnet18_with_atten", "ECG/s"),
    ("training, ours, resnet18_with_atten", "ECG/s"),
    ("inference, published, resnet18_with_atten", "ECG/s"),
    ("inference, ours, resnet18_with_atten", "ECG/s"),
    ("an epoch, published files and model", "s"),
    ("an epoch, published model, our batches", "s"),
    ("an epoch, ours", "s"),
]
LINE = re.compile(
    r"(?P<name>.+?) +(?P<value>[\d,.e+-]+) (?P<unit>ms|s|MB|%|batch/s|ECG/s|GFLOP/s)(?: +\S.*)?"
)
# In place of train_atten.py: it takes time, then memory where it goes on, and leaves the log of two epochs.
SCRIPT = """
import pathlib, sys, time
print(" epoch   train loss   val loss", flush=True)
time.sleep(0 if "--help" in sys.argv else 0.3)
if "--output-dir" in sys.argv:
    taken = bytearray(1_500_000_000)
    run = pathlib.Path(sys.argv[sys.argv.index("--output-dir") + 1], "run")
    run.mkdir(parents=True)
    (run / "log.csv").write_text("epoch,ecgs_per_second\\n1,10\\n2,20\\n")
"""


@pytest.fixture
def given(tmp_path):
    """Conditions for the scripts, which need no ECGs here."""
    return Conditions(
        cohort=cohort_of([0, 1]),
        paths=[],
        data=["--data-dir", "ecgs", "--labels", "labels.csv", "--label-columns", "PE"],
        device=CPU,
        batch_size=8,
        seconds=0,
        threads=1,
        loader_workers=0,
        processes=[1],
        compile="none",
        scratch=tmp_path,
    )


def test_each_measurement_has_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "ROUNDS", 1)
    monkeypatch.setattr(model_speed, "flops_per_ecg", lambda *model, **options: 1e9)  # counting takes seconds
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)  # those of the other tests stay
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    quick = ["--ecgs", 24, "--batch-size", 4, "--seconds", 0, "--models", "resnet18_with_atten"]
    few = ["--threads", 1, "--loader-workers", 1, "--device", "cpu"]
    parts = ["--parts", "epochs", "published", "models", "data", "scale", "saving"]
    written = ["--duplicates", 200, "--json", "speed.json"]
    outcome = run_here("benchmarks.speed.run", *quick, *few, *parts, *written)
    assert outcome.returncode == 0, outcome.stderr
    head, *parts = outcome.stdout.strip().split("\n\n")
    names = [line.split()[0] for line in head.splitlines()]
    assert names == ["date", "processor", "device", "software", "ECGs"]
    lines = [LINE.fullmatch(line) for part in parts for line in part.splitlines()[1:]]
    assert [(line["name"], line["unit"]) for line in lines] == LINES
    assert all(float(line["value"].replace(",", "")) > 0 for line in lines)
    record = json.loads((tmp_path / "speed.json").read_text())
    assert list(record["conditions"]) == names
    assert [(row["name"], row["unit"]) for row in record["rows"]] == LINES
    goals = {row["name"]: row["goal"] for row in record["rows"] if row["goal"] is not None}
    assert goals == {
        "a file to rest, beyond the XML parser": 3,
        "duplicates among 200 ECGs": pytest.approx(60 * 200 / 1e6),
        "both, share of a training": 2,
    }


def test_a_row_with_a_goal_has_the_share_of_it():
    row = Row("predict.py, one file", 1.5, "s", "by turns", goal=2.0)
    assert str(row).endswith("1.50 s        by turns; 75 % of the goal, 2.00")


def test_the_lines_of_predict(given, tmp_path, monkeypatch):
    """Scores of 10 files take 1 s and 0.1 s a file; 20 files take 1.05 times the memory of 2."""
    scored = []

    def run_script(given, command):
        words = command[3:]
        paths = [Path(word) for word in words[: words.index("--engine")]] if "--engine" in words else []
        files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
        assert all(file.exists() for file in files)
        scored.append((Path(command[1]).name, len(files)))
        return script_speed.Script(float("nan"), 1 + 0.1 * len(files), 210 if len(files) == 20 else 200)

    paths = [tmp_path / f"{number}.xml" for number in range(10)]
    for path in paths:
        path.write_text("<ecg/>")
    monkeypatch.setattr(predict_speed, "run_script", run_script)
    monkeypatch.setattr(predict_speed, "train", lambda given, output: output / "run")
    rows = list(predict_speed.one_and_all_files(replace(given, paths=paths, many=20)))
    both = [("predict.py", 1), ("predict.py", 10)]
    assert scored == [("export.py", 0), *both, *both, ("predict.py", 2), ("predict.py", 20)]
    assert [row.value for row in rows] == pytest.approx([1.1, 2, 1.1, 2, 210])
    assert [row.goal for row in rows] == pytest.approx([2, 250 / 1014, 2, 250 / 1014, 220])
    assert rows[-1].relation == "1.05 times that of 2"


def test_the_lines_of_the_scripts(given, tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    monkeypatch.setattr(script_speed, "SCRIPT", script)
    started, cold, cached = script_speed.start_up(given)
    assert [row.name for row in (cold, cached)] == [
        "until the first step, files to be read",
        "until the first step, files in the cache",
    ]
    assert min(started.value, cold.value, cached.value) > 0
    assert not list(tmp_path.glob("*/log.csv"))  # they were stopped
    speed, peak = script_speed.trainings(given)
    assert (speed.name, speed.value) == ("1 process of 1 thread, epoch 2", 20)
    assert peak.unit == "MB" and 1500 < peak.value < 4000


def test_the_script_is_called_as_it_wants_to_be(given):
    script, *flags = script_speed._training(given, Path("runs"))
    values = read_hyperparameters("", train_atten.HYPERPARAMETERS, {}, train_atten.PUBLISHED, flags)
    assert Path(script).name == "train_atten.py" and values.batch_size == 8 and values.output_dir == "runs"
    assert f'"{script_speed.FIRST_STEP}' in inspect.getsource(loop.fit)


def test_a_script_that_fails_is_named_with_its_last_line(given):
    command = [sys.executable, "-c", "raise SystemExit('no such thing')"]
    with pytest.raises(OSError, match=r"exit status 1: no such thing$"):
        script_speed.run_script(given, command)


def test_a_folder_of_another_format(tmp_path):
    folder = tmp_path / "ecgs"
    folder.mkdir()
    counts = np.random.default_rng(0).integers(-400, 400, (12, 5000))
    WRITERS["Schiller EDI"](folder / "1.xml", counts, leads=LEADS)
    (folder / "labels.csv").write_text("file,PE\n1.xml,1\n")
    cohort, where, _ = run.read_ecgs(run.options_of([str(folder)]), tmp_path, run.SYNTHETIC_ECGS)
    assert failure_of(run.require_published_format, cohort, where) == (
        f"{folder / '1.xml'}: found the format Schiller EDI, expected hospital, as published"
    )


def test_some_files_of_a_table_and_those_that_cannot_be_read(tmp_path, write_ecgs):
    folder = write_ecgs([f"{index}.xml" for index in range(30)])
    (folder / "29.xml").write_text("<ecg")
    (folder / "labels.csv").write_text(
        "file,A,B\n" + "".join(f"{i}.xml,0,{i % 2 or ''}\n" for i in range(30))
    )
    options = run.options_of([str(folder), "--ecgs", "24", "--label-columns", "B"])
    cohort, where, table = run.read_ecgs(options, tmp_path, run.SYNTHETIC_ECGS)
    assert where == folder and len(pd.read_csv(table)) == 24
    assert cohort.table["file"][0] == "0.xml" and list(cohort.reading.rejected["file"]) == ["29.xml"]
    assert cohort.label_names == ("B",) and len(cohort.table) == 23
    assert set(cohort.targets[:, 0]) == {0, 1}  # empty fields count as 0
    assert not (folder / "patient_key.txt").exists()
    given = SimpleNamespace(cohort=cohort, paths=[folder / "0.xml"], threads=1, device=CPU)
    given.batch_size, given.loader_workers, given.compile = 8, 0, "none"
    assert (
        run.header(run.head(given))
        .splitlines()[-1]
        .startswith("left out   1 files that cannot be read, the first: 29.xml ")
    )


@pytest.mark.parametrize("flags", [["--ecgs", "20"], ["--batch-size", "0"], ["--processes", "0"]])
def test_flags_that_cannot_be_used(flags, capsys):
    with pytest.raises(SystemExit):
        run.options_of(flags)
    assert f"{flags[0]}" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match="--device cuda: found no GPU"):
        run.conditions(run.options_of(["--device", "cuda"]), tmp_path)


def test_published_items_are_the_ecgs_that_our_batches_have(cohort_folder):
    paths = sorted(cohort_folder.glob("*.xml"))[:3]
    items = PublishedItems(paths, [0, 1, 0], augmented=False)
    for path, (signal, label), expected in zip(paths, items, [0, 1, 0], strict=False):
        millivolts = torch.from_numpy(read_recording(path).signal[None, :, 451:4547])
        torch.testing.assert_close(signal, normalise(millivolts, "recording")[0], rtol=1e-4, atol=1e-4)
        assert label == expected


def test_the_published_loader_gives_each_ecg_once(given, cohort_folder):
    paths = sorted(cohort_folder.glob("*.xml"))
    items = PublishedItems(paths, list(range(len(paths))), augmented=True)
    batches = list(published_loader(items, replace(given, batch_size=5)))
    assert [tuple(signal.shape) for signal, _ in batches] == [(5, 12, 4096), (5, 12, 4096), (2, 12, 4096)]
    assert sorted(torch.cat([classes for _, classes in batches]).tolist()) == list(range(12))
    for signal, _ in batches:
        torch.testing.assert_close(signal.mean((1, 2)), torch.zeros(len(signal)), atol=1e-4, rtol=0)
        torch.testing.assert_close(signal.std((1, 2)), torch.ones(len(signal)), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_flops_of_each_model_are_counted_without_computing(name):
    """Of a quarter of an ECG, as the recurrent network takes a step for each of its places."""
    model = build(name, META)
    forward, training = (flops_per_ecg(model, training=kind, n_samples=1024) for kind in (False, True))
    assert 1e8 < forward < 1e9 and 2.5 * forward < training <= 3 * forward


@pytest.mark.parametrize("model", [PublishedAttention, PublishedBaseline])
def test_a_published_model_has_two_classes_and_one_length(model):
    torch.manual_seed(0)
    model = model().eval()
    assert model(torch.randn(2, 12, 4096)).shape == (2, 2)
    with pytest.raises(RuntimeError):
        model(torch.randn(2, 12, 2048))


def test_the_parameters_of_the_published_attention_model():
    """A stage of n_in to n: two blocks of 1, 3 and 1 samples, and a skip if n changes; a norm has 2 n."""
    stages = 0
    for n_in, n in ((64, 64), (64, 128), (128, 256), (256, 512)):
        stages += n_in * n + 3 * n * n + n * n + 6 * n  # first block
        stages += n * n + 3 * n * n + n * n + 6 * n  # second
        stages += n_in * n + 2 * n if n_in != n else 0
    stem = 12 * 64 * 17 + 2 * 64
    attention = 4 * (512 * 512 + 512)
    head = 512 * 128 * 2 + 2
    counted = sum(parameter.numel() for parameter in PublishedAttention().parameters())
    assert counted == stem + stages + attention + head


def test_published_loss_by_hand():
    log_p = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()
    loss = published_loss(log_p, torch.tensor([1, 0]), torch.tensor([0.3, 0.7]))
    expected = (0.7 * 0.25**2 * -np.log(0.75) + 0.3 * 0.5**2 * -np.log(0.5)) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_a_published_step_learns():
    torch.manual_seed(0)
    step = PublishedStep(nn.Sequential(nn.Flatten(), nn.Linear(12 * 8, 2)))
    signal, classes = torch.randn(16, 12, 8), torch.arange(16) % 2
    losses = [step(signal, classes) for _ in range(50)]
    assert losses[-1] < losses[0]


def test_flops_by_hand():
    """A convolution of 5 samples to 3 filters at 4,096 places, then 3 x 4096 numbers to 2: two FLOPs each."""
    layers = nn.Sequential(nn.Conv1d(12, 3, 5, padding=2), nn.Flatten(), nn.Linear(3 * 4096, 2))
    convolution, linear = 2 * 12 * 5 * 3 * 4096, 2 * 3 * 4096 * 2
    assert flops_per_ecg(layers, training=False) == convolution + linear
    # Backward: the gradients of both layers' weights, and of the linear layer's input.
    assert flops_per_ecg(layers, training=True) == 2 * convolution + 3 * linear


@pytest.mark.parametrize("name", MODELS)
def test_our_models_train_as_the_scripts_do(name):
    torch.manual_seed(0)
    model = build(name, CPU)
    step = training_step(name, model)
    assert step.optimizer.defaults["fused"] and step.optimizer.defaults["weight_decay"] == 0.05
    before = [parameter.clone() for parameter in model.parameters()]
    assert step((torch.randn(2, 12, 512),), torch.tensor([[0.0], [1.0]]), 1) > 0
    assert any(not torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))


def test_gpu_time_is_of_kernels_alone():
    kernel = SimpleNamespace(device_type=DeviceType.CUDA, is_user_annotation=False, self_device_time_total=30)
    named = SimpleNamespace(device_type=DeviceType.CUDA, is_user_annotation=True, self_device_time_total=30)
    on_cpu = SimpleNamespace(device_type=DeviceType.CPU, is_user_annotation=False, self_device_time_total=30)
    assert gpu_seconds([kernel, named, on_cpu, kernel]) == pytest.approx(60e-6)


def test_calls_take_turns():
    order = []
    times = time_in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 0, CPU)
    assert "".join(order) == "abababab"  # the first of each is not counted
    assert set(times) == {"a", "b"} and min(times.values()) >= 0


def test_a_row_is_one_line():
    row = Row("a file", 12345.6, "ms", "the published way")
    assert str(row).split() == ["a", "file", "12,346", "ms", "the", "published", "way"]
    assert [number(value) for value in (0.01234, 1.234, 12.34)] == ["0.012", "1.23", "12.3"]
