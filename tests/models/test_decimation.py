"""models/decimation.py, and the trunk at lower sampling rates."""

import numpy as np
import pytest
import torch
from model_arguments import ARGUMENTS
from scipy.signal import decimate

from models import MODELS
from models.decimation import Decimation
from models.resnet18 import ResNet18

WITH_THE_1D_TRUNK = ["resnet18_with_atten", "resnet_with_rnn", "resnet_with_encoder"]


@pytest.mark.parametrize("sampling_rate, factor", [(250, 2), (100, 5)])
@pytest.mark.parametrize("n_samples", [1000, 4096])
def test_as_scipy_decimates(sampling_rate, factor, n_samples):
    signal = np.random.default_rng(0).normal(size=(2, 3, n_samples))
    found = Decimation(sampling_rate)(torch.from_numpy(signal).float()).numpy()
    expected = decimate(signal, factor, ftype="fir", axis=-1)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_what_would_alias_is_gone():
    seconds = torch.arange(5000) / 500
    kept, aliasing = (torch.sin(2 * torch.pi * f * seconds)[None, None] for f in (20, 95))
    inner = slice(50, -50)  # 0.5 s from the ends
    decimation = Decimation(100)
    assert decimation(aliasing)[..., inner].abs().max() < 0.002  # 95 Hz would look like 5 Hz
    torch.testing.assert_close(decimation(kept)[..., inner], kept[..., ::5][..., inner], atol=0.005, rtol=0)


def test_autocast_leaves_the_signal_in_float32():
    with torch.autocast("cpu", torch.bfloat16):
        assert Decimation(250)(torch.randn(1, 12, 1000)).dtype == torch.float32


@pytest.mark.parametrize("sampling_rate, n_positions", [(500, 128), (250, 64), (100, 52)])
def test_positions_of_the_trunk(sampling_rate, n_positions):
    """T / 32 at 500 Hz; 2,048 / 32 at 250 Hz; 820 / 16, rounded up, at 100 Hz."""
    trunk = ResNet18.for_signals(sampling_rate=sampling_rate).eval()
    assert trunk(torch.randn(1, 12, 4096)).shape == (1, n_positions, 512)
    assert (n_positions - 1) * trunk.samples_per_position < 4096 <= n_positions * trunk.samples_per_position


@pytest.mark.parametrize("name", WITH_THE_1D_TRUNK)
@pytest.mark.parametrize("sampling_rate", [100, 250])
def test_models_train_at_lower_rates(name, sampling_rate):
    model = MODELS[name](n_labels=2, dropout=0.0, sampling_rate=sampling_rate, **ARGUMENTS[name])
    logits = model(torch.randn(3, 12, 1000))
    logits.square().sum().backward()
    assert logits.shape == (3, 2)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
    assert "trunk.decimation.taps" not in model.state_dict()  # it follows from the arguments
