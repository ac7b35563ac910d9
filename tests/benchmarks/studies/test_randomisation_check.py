"""A model's explanation and that of copies with random weights: the check tells when they agree."""

import numpy as np
import pytest
import torch
from explained_models import build, ecg
from torch import nn

from benchmarks.studies.randomisation_check import randomisation_check, randomised
from dataset.batches import normalise
from ecg.recording import LEADS
from models import MODELS

pytest.importorskip("captum", reason="captum is not installed: pip install captum")

V2 = LEADS.index("V2")


class SmallNetwork(nn.Module):
    """Two convolutions and the mean over time: a detector of one wave in one lead."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(12, 8, 15, 4, 7),
            nn.ReLU(),
            nn.Conv1d(8, 8, 15, 4, 7),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(1),
        )
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.layers(x).flatten(1))


@pytest.fixture(scope="module")
def trained():
    """A small network that has learned to tell inverted T waves, and an ECG that has them."""
    torch.manual_seed(0)
    signals = np.stack([ecg(seed, T_inversion_V1_V4=seed % 2) for seed in range(32)])
    x = normalise(torch.tensor(signals, dtype=torch.float32), "recording")
    y = (torch.arange(32) % 2).float()[:, None]
    model = SmallNetwork()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        loss = nn.functional.binary_cross_entropy_with_logits(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert ((model(x) > 0) == y.bool()).float().mean() > 0.95
    return model.eval(), ecg(101, T_inversion_V1_V4=1)


def test_a_trained_model_and_its_random_copies_disagree(trained):
    model, signal = trained
    check = randomisation_check(model, signal, label=0, normalisation="recording", n_copies=3)
    assert check.attributions.shape == check.gradients.shape == (3,)
    assert (np.abs(check.gradients) < 0.4).all()
    assert (check.attributions < 0.95).all()
    assert (check.attributions > check.gradients).all()  # the height of the waves is common to both
    assert check.passed


def test_the_same_model_agrees_with_itself_and_fails_the_check(trained, monkeypatch):
    model, signal = trained
    monkeypatch.setattr("benchmarks.studies.randomisation_check.randomised", lambda model, seed: model)
    check = randomisation_check(model, signal, label=0, normalisation="recording", n_copies=2)
    np.testing.assert_allclose(check.attributions, 1)
    np.testing.assert_allclose(check.gradients, 1)
    assert not check.passed


def test_a_model_whose_explanation_owes_nothing_to_training_fails_the_check():
    class EnergyOfV2(nn.Module):
        """What it learns is a factor: the attribution ranks the samples the same for any weight."""

        def __init__(self):
            super().__init__()
            self.head = nn.Linear(1, 1)

        def forward(self, x):
            return self.head(x[:, V2].square().mean(dim=1, keepdim=True))

    torch.manual_seed(0)
    check = randomisation_check(EnergyOfV2(), ecg(), label=0, normalisation="none", n_copies=2)
    assert (check.gradients > 0.99).all()
    assert not check.passed


@pytest.mark.parametrize("name", MODELS)
def test_a_randomised_copy_has_other_weights_and_leaves_the_model_alone(name):
    model = build(name)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    copies = [randomised(model, seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
        first, again, other = (copy.state_dict()[name] for copy in copies)
        assert torch.equal(first, again)
        if "weight" in name and tensor.dim() > 1:
            assert not torch.equal(first, tensor) and not torch.equal(first, other)


def test_weights_that_cannot_be_drawn_again_are_named():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

    with pytest.raises(ValueError, match=r"0: found weights of a Scaled without reset_parameters\(\)"):
        randomised(nn.Sequential(Scaled()), 0)
