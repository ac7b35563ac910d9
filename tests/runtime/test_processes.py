"""Two processes train as one: the same gradients, losses and scores; one of them writes."""

import copy
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
import torch
from forks import call_in_two
from one_line import failure_of
from tiny_runs import make_tiny_cohort, run_folder_of, run_here, tiny, torchrun, train_here

from focal_loss import FocalLoss
from models import MODELS
from runtime import processes

# One process


def test_one_process_is_all_there_is():
    items = np.arange(5)
    assert processes.count() == 1 and processes.is_first()
    assert processes.share_of(items).tolist() == items.tolist()
    assert processes.from_first("value") == "value"
    model = torch.nn.Linear(1, 1)
    assert processes.wrap_ddp(model) is model is processes.sync_batch_norms(model)


@pytest.mark.parametrize(("n_items", "n_processes"), [(7, 2), (2, 3), (0, 2), (16, 4)])
def test_shares_hold_every_item_once_in_order(monkeypatch, n_items, n_processes):
    monkeypatch.setattr(processes, "count", lambda: n_processes)
    shares = []
    for number in range(n_processes):
        monkeypatch.setattr(processes, "rank", lambda number=number: number)
        shares.append(processes.share_of(np.arange(n_items)))
    assert np.concatenate(shares).tolist() == list(range(n_items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(("wanted", "there", "fine"), [(2, 1, False), (8, 4, False), (4, 4, True)])
def test_more_processes_than_gpus_is_one_line(monkeypatch, wanted, there, fine):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(wanted))
    monkeypatch.setenv("LOCAL_RANK", str(there - 1))
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    if fine:
        assert processes.start() == torch.device("cuda", there - 1)
    else:
        gpus = "1 GPU" if there == 1 else f"{there} GPUs"
        assert failure_of(processes.start) == (
            f"--nproc-per-node: found {wanted} processes for {gpus}, expected one for each at most"
        )


@pytest.mark.parametrize(
    ("device", "group"),
    [
        ("cpu", {"backend": "gloo"}),
        ("cuda", {"backend": "nccl", "device_id": torch.device("cuda", 1)}),
    ],
)
def test_processes_on_gpus_join_with_their_device(monkeypatch, device, group):
    for name, value in {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "LOCAL_RANK": 1}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    joined = []
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda **given: joined.append(given))
    processes.start(device)
    assert joined == [{**group, "timeout": timedelta(hours=12)}]


# Two processes


def losses(steps=4):
    """Return the loss of each step of the 1D attention model in float64, with AdamW, of 7 ECGs a step."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    model = MODELS["resnet18_with_atten"](n_labels=1, dropout=0.0, kernel_size=3, attention_heads=4)
    model = processes.sync_batch_norms(model)
    parallel = processes.wrap_ddp(model)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    loss, generator, found = FocalLoss(gamma=0.0), torch.Generator().manual_seed(1), []
    for _ in range(steps):
        signal = torch.randn(7, 12, 512, generator=generator)
        targets = (torch.rand(7, 1, generator=generator) < 0.4).double()
        share = processes.share_of(np.arange(7))
        batch_loss = loss(parallel(signal[share]), targets[share])
        optimizer.zero_grad()
        (batch_loss * len(share) * processes.count() / 7).backward()
        optimizer.step()
        found.append(processes.all_reduce_sum(batch_loss.detach() * len(share)).item() / 7)
    model.eval()
    found.append(model(signal).sum().item())  # the running statistics
    torch.set_default_dtype(torch.float32)
    return found


BATCHES = np.random.default_rng(2).normal(size=(3, 7, 2, 4))


def joined_norms():
    """Return mean and variance of norms of two channels that saw shares of batches, of one that kept its own
    in training, and of the average's."""
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)).double()
    average, parallel = copy.deepcopy(model), processes.wrap_ddp(model)
    model[1].eval().running_mean.fill_(processes.rank() + 5)
    for batch in BATCHES:
        parallel(torch.from_numpy(batch[processes.share_of(np.arange(7))]))
    average[0].running_mean.fill_(processes.rank() + 1)
    processes.average_norms(model, average)
    own = model[0].running_mean, model[0].running_var, model[1].running_mean, average[0].running_mean
    return torch.cat(own).tolist()


def in_a_group():
    processes.start()
    found = losses(), joined_norms()
    processes.stop()
    return found


@pytest.fixture(scope="module")
def found():
    """Losses and norms of the first of two processes."""
    return call_in_two(in_a_group)[0]


def test_losses_are_those_of_one_process(found):
    """The batches have an odd number of ECGs: the shares differ. In float64, so that rounding does not hide a
    wrong gradient, or a right one, behind AdamW's division by its size."""
    np.testing.assert_allclose(found[0], losses(), rtol=1e-9)


def test_norms_that_saw_shares_take_the_mean_statistics(found):
    mean, variance = np.zeros((2, 2)), np.ones((2, 2))  # of two processes and channels
    for batch in BATCHES:
        shares = batch[:4], batch[4:]
        mean = 0.9 * mean + 0.1 * np.array([share.mean(axis=(0, 2)) for share in shares])
        variance = 0.9 * variance + 0.1 * np.array([share.var(axis=(0, 2), ddof=1) for share in shares])
    expected = [*mean.mean(axis=0), *variance.mean(axis=0), 5, 5, 1.5, 1.5]
    np.testing.assert_allclose(found[1], expected, rtol=1e-9)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run in one process, and the same in two."""
    places = tmp_path_factory.mktemp("places")
    cohort = make_tiny_cohort(places / "ecgs")
    flags = tiny(cohort, "--output-dir", places / "runs", "--cache-dir", places / "cache", "--epochs", 2)
    # Rounding grows from step to step, faster with larger steps.
    flags += ["--augmentation", "none", "--dropout", 0, "--learning-rate", 1e-5, "--precision", "float32"]
    return run_here("train_atten.py", *flags), torchrun("train_atten.py", *flags)


def test_a_script_in_two_processes_gives_the_losses_of_one(runs):
    tables = [pd.read_csv(run_folder_of(run) / "log.csv") for run in runs]
    for column in ("train_loss", "val_loss"):
        np.testing.assert_allclose(tables[0][column], tables[1][column], atol=1e-4)
    assert len(tables[0]) == 2


def test_both_score_every_ecg_once_in_the_same_order(runs):
    tables = [pd.read_csv(run_folder_of(run) / "predictions.csv") for run in runs]
    assert tables[0]["file"].tolist() == tables[1]["file"].tolist()
    assert not tables[0].duplicated(["file", "split"]).any()
    np.testing.assert_allclose(tables[0]["y_score_PE"], tables[1]["y_score_PE"], atol=1e-3)


def test_one_of_two_processes_prints_and_writes(runs):
    one, two = runs
    assert "on 2 processes, each on " in two.stdout
    lines = [[line.split()[0] for line in run.stdout.splitlines() if line.strip()] for run in (one, two)]
    assert lines[0] == lines[1]
    files = [sorted(path.name for path in run_folder_of(run).iterdir()) for run in runs]
    assert files[0] == files[1]


def test_a_run_of_two_processes_is_resumed_by_one(runs):
    _, two = runs
    folder = run_folder_of(two)
    expected = pd.read_csv(folder / "predictions.csv")
    words = "train_atten.py", "--resume", folder
    outcome = train_here(*words)
    assert outcome.returncode == 0 and "tested before" in outcome.stdout
    for name in ("metrics.json", "predictions.csv"):
        (folder / name).unlink()
    outcome = train_here(*words)
    assert outcome.returncode == 0, outcome.stderr
    again = pd.read_csv(folder / "predictions.csv")
    np.testing.assert_allclose(again["y_score_PE"], expected["y_score_PE"], atol=1e-6)
