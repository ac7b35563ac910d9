"""Batch norms folded into convolutions while a model scores: same outputs, and the model as it was after."""

import copy

import pytest
import torch
from model_arguments import ARGUMENTS
from torch import nn

from inference.channel_statistics import ChannelStatistics
from inference.scoring import predict_logits
from models import MODELS
from models.folding import folded_norms

# By hand, from the architectures: a stem; eight blocks of two, and three skip paths; the baseline's four
# blocks, of which one norm follows a sum
N_FOLDED = dict.fromkeys(MODELS, 20) | {"res_net_model": 5}
CONSTANT = {"resnet18_with_atten_spectr": 1, "res_net_model": 4}  # batch norms that follow no convolution


def build(name):
    """Return a model as after some training: each batch norm has statistics and weights of its own."""
    torch.manual_seed(0)
    model = MODELS[name](n_labels=3, dropout=0.2, **ARGUMENTS[name])
    for norm in norms(model):
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.1, 3)
        nn.init.uniform_(norm.weight, -1.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
    return model.eval()


def norms(model):
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def ecgs(n=4):
    return torch.randn(n, 12, 1000, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def logits(model, dtype=torch.float32):
    return model(ecgs().to(dtype)).double()


@pytest.mark.parametrize("name", MODELS)
def test_folded_logits_are_those_of_the_model_in_double_precision(name):
    model = build(name)
    reference = copy.deepcopy(model).double()
    if name == "resnet_with_rnn":
        reference.rnn.float()  # it computes in float32 always
    expected = logits(reference, torch.float64)
    with folded_norms(model):
        assert len(norms(model)) == CONSTANT.get(name, 0)  # they are gone
        found = logits(model)
    error = (found - expected).abs().max() / expected.abs().max()
    assert error < 1e-5
    assert len(norms(model)) == N_FOLDED[name] + CONSTANT.get(name, 0)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_afterwards_what_it_was(name):
    model = build(name)
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    state, before = copy.deepcopy(model.state_dict()), logits(model)
    with pytest.raises(KeyboardInterrupt), folded_norms(model):
        raise KeyboardInterrupt
    assert list(model.named_modules()) == list(modules.items())
    assert all(one is parameters[name] for name, one in model.named_parameters())
    assert all(torch.equal(one, state[name]) for name, one in model.state_dict().items())
    assert torch.equal(logits(model), before)


def test_scoring_folds_and_its_training_goes_on_as_if_it_had_not():
    model, other = build("resnet18_with_atten"), build("resnet18_with_atten")
    seen = []
    watch = model.attention.register_forward_pre_hook(lambda *_: seen.append(len(norms(model))))
    expected = logits(model)
    found = torch.from_numpy(predict_logits(model, [(ecgs(),)]))
    as_it_is = torch.from_numpy(predict_logits(model, [(ecgs(),)], fold=False))
    watch.remove()
    assert seen == [20, 0, 20]
    assert torch.equal(as_it_is, expected) and torch.allclose(found, expected, rtol=1e-5, atol=1e-6)
    for one in (model, other):
        one.train()
        torch.manual_seed(2)
        one(ecgs()).sum().backward()
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(one.grad, two.grad) for one, two in pairs)


def test_norms_that_are_watched_stay_and_are_watched():
    model = build("resnet18_with_atten")
    with ChannelStatistics(model) as statistics:
        logits(model)
        (expected,) = statistics.take()
        with folded_norms(model):
            assert len(norms(model)) == 5  # a quarter
            logits(model)
        (found,) = statistics.take()
    assert expected.any() and (found == expected).all()


def test_a_compiled_model_is_left_alone():
    model = build("resnet18_with_atten")
    model.compile(backend="eager")
    with folded_norms(model):
        assert len(norms(model)) == 20
