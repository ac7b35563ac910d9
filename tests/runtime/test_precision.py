"""runtime/precision.py: which type a training step computes in."""

import pytest
import torch

from runtime import precision
from runtime.precision import training_type

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 1)


@pytest.mark.parametrize(
    "asked, device, amx, expected",
    [
        ("auto", CPU, True, torch.bfloat16),
        ("auto", CPU, False, torch.float32),
        ("auto", CUDA, False, torch.bfloat16),
        ("float32", CPU, True, torch.float32),
        ("float32", CUDA, True, torch.float32),
        ("bfloat16", CPU, False, torch.bfloat16),
    ],
)
def test_training_type(monkeypatch, asked, device, amx, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx, "avx512_bf16": True})
    assert training_type(asked, device) == expected


def test_a_processor_that_does_not_know_of_amx(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "arm64"})
    assert not precision.cpu_has_amx()
