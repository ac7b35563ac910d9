"""What --device says is the device that computes, or one line."""

import pytest
import torch
from one_line import failure_of
from tiny_runs import run_here

from hyperparameters.declaration import DeviceName
from runtime.device import EXPECTED, checked_name, choose_device

NONE = "no GPU that PyTorch can use"


def pretend(monkeypatch, n_gpus):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)


@pytest.mark.parametrize(
    ("name", "n_gpus", "device"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda:0"),
        ("cpu", 2, "cpu"),
        ("cuda", 2, "cuda:0"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_a_name_means_a_device(monkeypatch, name, n_gpus, device):
    pretend(monkeypatch, n_gpus)
    assert choose_device(name) == torch.device(device)


@pytest.mark.parametrize(("name", "devices"), [("cuda", "cuda:0 cuda:1"), ("cpu", "cpu cpu")])
def test_each_process_takes_its_own_gpu_or_all_share_the_cpu(monkeypatch, name, devices):
    pretend(monkeypatch, 2)
    found = [choose_device(name, n_processes=2, number=number) for number in range(2)]
    assert found == [torch.device(device) for device in devices.split()]


@pytest.mark.parametrize(
    ("name", "n_gpus", "n_processes", "line"),
    [
        ("cuda", 0, 1, f"--device: found cuda and {NONE}, expected auto or cpu on this machine"),
        ("cuda:2", 2, 1, "--device: found cuda:2 and 2 GPUs, expected a number from 0 to 1"),
        ("cuda:1", 2, 2, "--device: found cuda:1 for 2 processes, expected cuda: one GPU each"),
        ("gpu", 2, 1, f"--device: found gpu, expected {EXPECTED}"),
    ],
)
def test_a_device_that_is_not_there_is_one_line(monkeypatch, name, n_gpus, n_processes, line):
    pretend(monkeypatch, n_gpus)
    assert failure_of(choose_device, name, n_processes=n_processes) == line


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_a_hyperparameter_takes_what_the_flag_takes(name):
    assert DeviceName(name) == checked_name(name) == name


@pytest.mark.parametrize("name", ["", "cuda:", "cuda:x", "CPU", "mps", "cuda:1 cpu"])
def test_a_hyperparameter_refuses_what_the_flag_refuses(name):
    with pytest.raises(ValueError):
        DeviceName(name)
    assert failure_of(checked_name, name).startswith("--device: found")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("script", "words", "line"),
    [
        ("predict.py", ["run", "ecg.xml", "--device", "gpu"], "argument --device: found gpu, expected auto"),
        ("train_atten.py", ["--device", "gpu"], "device: found gpu, expected auto, cpu, cuda, or"),
        ("train_atten.py", ["--device", "cuda"], "--device: found cuda and no GPU that PyTorch can use"),
    ],
)
def test_scripts_refuse_it_in_one_line(script, words, line):
    result = run_here(script, *words)
    assert result.returncode and result.stderr.startswith(f"{script}: {line}")
    assert result.stderr.count("\n") == 1
