"""The focal loss against values worked by hand, binary cross-entropy, and the derivative in the paper."""

import math

import pytest
import torch
from torch.nn import functional

from focal_loss import FocalLoss

LOGIT_OF_90_PERCENT = math.log(9)


def loss_of(logit, target, **arguments):
    return FocalLoss(**arguments)(torch.tensor([[logit]]), torch.tensor([[float(target)]])).item()


@pytest.mark.parametrize(
    ("logit", "target", "gamma", "alpha", "expected"),
    [
        (0.0, 1, 2.0, None, 0.1732868),  # p_t = 0.5: 0.5^2 x 0.6931472
        (0.0, 1, 2.0, 0.25, 0.0433217),  # x 0.25
        (0.0, 0, 2.0, 0.25, 0.1299651),  # x 0.75
        (LOGIT_OF_90_PERCENT, 1, 2.0, None, 0.001053605),  # p_t = 0.9: 0.1^2 x 0.1053605
        (LOGIT_OF_90_PERCENT, 0, 2.0, None, 1.8650939),  # p_t = 0.1: 0.9^2 x 2.3025851
        (LOGIT_OF_90_PERCENT, 0, 2.0, 0.7, 0.5595282),  # x 0.3
        (LOGIT_OF_90_PERCENT, 1, 0.5, None, 0.0333179),  # sqrt(0.1) x 0.1053605
        (LOGIT_OF_90_PERCENT, 1, 5.0, 0.7, 7.375235e-7),  # 0.7 x 0.1^5 x 0.1053605
    ],
)
def test_values_worked_by_hand(logit, target, gamma, alpha, expected):
    assert loss_of(logit, target, gamma=gamma, alpha=alpha) == pytest.approx(expected, rel=2e-6)


def test_mean_over_ecgs_and_labels():
    logits = torch.tensor([[0.0, LOGIT_OF_90_PERCENT], [LOGIT_OF_90_PERCENT, 0.0]])
    targets = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    loss = FocalLoss(gamma=2.0)(logits, targets)
    assert loss.shape == () and loss.dtype == torch.float32
    assert loss.item() == pytest.approx((0.1732868 + 0.001053605 + 1.8650939 + 0.1732868) / 4, rel=2e-6)


@pytest.mark.parametrize("n_labels", [1, 5])
def test_without_gamma_and_alpha_it_is_binary_cross_entropy(n_labels):
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(64, n_labels, generator=generator)
    targets = torch.randint(0, 2, (64, n_labels), generator=generator).float()
    expected = functional.binary_cross_entropy_with_logits(logits, targets)
    torch.testing.assert_close(FocalLoss(gamma=0.0)(logits, targets), expected, rtol=0, atol=1e-6)


def test_alpha_weighs_positives_and_its_rest_negatives():
    positive, negative = (loss_of(1.3, y, gamma=1.0) for y in (1, 0))
    assert loss_of(1.3, 1, gamma=1.0, alpha=0.8) == pytest.approx(0.8 * positive)
    assert loss_of(1.3, 0, gamma=1.0, alpha=0.8) == pytest.approx(0.2 * negative)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("autocast", [False, True])
def test_finite_for_extreme_logits(gamma, autocast):
    logits = torch.tensor([[100.0], [-100.0], [100.0], [-100.0]], requires_grad=True)
    targets = torch.tensor([[1.0], [1.0], [0.0], [0.0]])
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss = FocalLoss(gamma=gamma)(logits, targets)
    loss.backward()
    # Two right answers cost nothing and pull nowhere; two wrong ones cost 100 each, with a slope of 1.
    assert loss.item() == pytest.approx(50.0)
    torch.testing.assert_close(4 * logits.grad, torch.tensor([[0.0], [-1.0], [1.0], [0.0]]))


def test_float32_from_bfloat16_logits():
    logits = torch.full((3, 1), 2.0, dtype=torch.bfloat16)
    loss = FocalLoss()(logits, torch.ones(3, 1))
    p = 1 / (1 + math.exp(-2))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(-((1 - p) ** 2) * math.log(p), rel=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.5, 1.0, 2.0, 3.5])
def test_gradient_is_that_of_the_paper(gamma):
    logits = torch.linspace(-8, 8, 41).repeat(2)[:, None].requires_grad_()
    targets = torch.cat([torch.ones(41, 1), torch.zeros(41, 1)])
    FocalLoss(gamma=gamma)(logits, targets).backward()
    # Lin et al. 2017, appendix B: dFL/dx = y (1 - p_t)^gamma (gamma p_t log p_t + p_t - 1), y = -1 or 1.
    y = 2 * targets.double() - 1
    p_t = torch.sigmoid(y * logits.detach().double())
    expected = y * (1 - p_t) ** gamma * (gamma * p_t * p_t.log() + p_t - 1) / len(logits)
    torch.testing.assert_close(logits.grad.double(), expected, rtol=2e-5, atol=1e-9)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_gradient_is_the_slope_of_the_value(gamma):
    # The loss computes in float32, which torch.autograd.gradcheck cannot resolve; hence the wide step.
    step = 1e-2
    for target in (0, 1):
        logit = torch.tensor([[0.7]], requires_grad=True)
        FocalLoss(gamma=gamma, alpha=0.3)(logit, torch.tensor([[float(target)]])).backward()
        above, below = (loss_of(0.7 + s, target, gamma=gamma, alpha=0.3) for s in (step, -step))
        assert logit.grad.item() == pytest.approx((above - below) / (2 * step), rel=1e-3)


@pytest.mark.parametrize(("logits", "targets"), [((4, 1), (4,)), ((4,), (4, 1)), ((4, 2), (4, 1))])
def test_shapes_that_merely_broadcast_are_refused(logits, targets):
    with pytest.raises(ValueError) as caught:
        FocalLoss()(torch.zeros(logits), torch.zeros(targets))
    assert str(caught.value) == f"logits have shape {logits}, targets {targets}"


def test_unknown_labels_count_for_nothing():
    logits = torch.tensor([[0.3, -1.0], [2.0, 0.7]], requires_grad=True)
    targets = torch.tensor([[1.0, math.nan], [0.0, 1.0]])
    loss = FocalLoss(gamma=2.0, alpha=0.7)(logits, targets)
    known = FocalLoss(gamma=2.0, alpha=0.7)(logits.flatten()[[0, 2, 3]], targets.flatten()[[0, 2, 3]])
    torch.testing.assert_close(loss, known)
    loss.backward()
    assert logits.grad[0, 1] == 0 and logits.grad.isfinite().all() and (logits.grad != 0).sum() == 3
    nothing = FocalLoss(gamma=0.0)(logits, torch.full((2, 2), math.nan))
    assert nothing == 0
