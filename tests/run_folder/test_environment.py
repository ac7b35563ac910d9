"""Where and with what a run was trained."""

import re
import subprocess
from types import SimpleNamespace

import pytest
import torch

from run_folder import environment
from run_folder.environment import device_name, environment_of, gpu_versions
from run_folder.files import KEY_FINGERPRINT


def test_versions_device_commit_and_key_are_recorded():
    found = environment_of(torch.device("cpu"), "0123456789abcdef")
    assert found["packages"]["torch"] == torch.__version__
    assert found["gpu"] == {}
    assert found["threads"] == torch.get_num_threads() and found["device"] == device_name(torch.device("cpu"))
    assert found[KEY_FINGERPRINT] == "0123456789abcdef"
    assert found["git_commit"] is None or re.fullmatch(r"[0-9a-f]{40}\+?", found["git_commit"])


def test_the_cpu_is_named_with_its_threads():
    assert re.fullmatch(r"the CPU \((1 thread|\d+ threads)\)", device_name(torch.device("cpu")))


def test_the_build_of_torch_is_recorded(monkeypatch):
    """The package's version is 2.11.0, that of PyPI's CUDA wheel 2.11.0+cu130."""
    monkeypatch.setattr(torch, "__version__", "2.11.0+cu130")
    assert environment_of(torch.device("cpu"), "")["packages"]["torch"] == "2.11.0+cu130"


@pytest.mark.parametrize("answer", ["580.95.05\n580.95.05\n", "", None])
def test_versions_of_a_gpu(monkeypatch, answer):
    def nvidia_smi(command, **options):
        assert command[0] == "nvidia-smi"
        if answer is None:
            raise FileNotFoundError("nvidia-smi")
        return SimpleNamespace(stdout=answer)

    monkeypatch.setattr(environment, "subprocess", SimpleNamespace(**vars(subprocess) | {"run": nvidia_smi}))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91900)
    driver = "580.95.05" if answer else "not known"
    found = gpu_versions(torch.device("cuda", 0))
    assert found == {"CUDA": "13.0", "cuDNN": "91900", "driver": driver}
