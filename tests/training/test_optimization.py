"""Learning rates by hand, and the moving average of the weights."""

import pytest
import torch
from torch import nn

from training.optimization import WeightAverage, adamw, learning_rate_schedule, length_of_training

SCHEDULES = ("constant", "step", "milestones", "cosine", "one_cycle")


def make_schedule(optimizer, schedule, **sizes):
    options = {"warmup_epochs": 1.0, "step_epochs": 2, "milestones": [1, 3], "decay": 0.5}
    return learning_rate_schedule(optimizer, schedule=schedule, **options, **sizes)


# Length


def test_few_ecgs_are_seen_more_often(capsys):
    assert length_of_training(25, epochs=5, min_steps=100) == 5  # 811 ECGs in batches of 32
    assert length_of_training(20, epochs=5, min_steps=100) == 5 and not capsys.readouterr().out
    assert length_of_training(3, epochs=5, min_steps=100) == 34  # 80
    assert "34 instead of 5, so that at least 100 steps are made" in capsys.readouterr().out
    assert length_of_training(3, epochs=5, min_steps=0) == 5


# Averaged weights


def averages_of(weights, decay):
    """Return the averaged weight after each step at which the model had the given ones."""
    model = torch.nn.Linear(1, 1, bias=False)
    average, found = WeightAverage(model, decay=decay), []
    for weight in weights:
        torch.nn.init.constant_(model.weight, weight)
        average.update()
        found.append(average.model.weight.item())
    return found


def test_averaged_weights_by_hand():
    # The first step is copied. After n of them the decay is (1 + n) / (10 + n): 2/11, then 3/12.
    second = 1.0 * 2 / 11 + 2.0 * 9 / 11
    third = second * 3 / 12 + 4.0 * 9 / 12
    assert averages_of([1.0, 2.0, 4.0], decay=0.9) == pytest.approx([1.0, second, third])


def test_decay_is_a_limit():
    assert averages_of([1.0, 2.0], decay=0.1)[1] == pytest.approx(1.0 * 0.1 + 2.0 * 0.9)


def test_without_decay_the_average_is_the_model():
    weights = torch.randn(20).tolist()
    assert averages_of(weights, decay=0.0) == weights


def test_averaged_batch_norm_has_averaged_statistics_and_the_count_of_batches():
    model = torch.nn.BatchNorm1d(1)
    average = WeightAverage(model, decay=0.5)
    for _ in range(3):
        model(torch.randn(8, 1) + 5)
        average.update()
    assert average.model.num_batches_tracked == 3
    assert 0 < average.model.running_mean < model.running_mean


def test_a_resumed_average_goes_on_where_it_was():
    model = torch.nn.Linear(1, 1, bias=False)
    whole = WeightAverage(model, decay=0.9)
    for weight in (1.0, 2.0, 4.0):
        torch.nn.init.constant_(model.weight, weight)
        whole.update()
    resumed = WeightAverage(torch.nn.Linear(1, 1, bias=False), decay=0.9)
    resumed.load_state_dict(whole.state_dict())
    assert resumed.model.weight == whole.model.weight and resumed.n_steps == 3


# Learning rates


def learning_rates(schedule, *, epochs, steps_per_epoch):
    """Return the factor of the learning rate in each step, and after the last."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = make_schedule(optimizer, schedule, epochs=epochs, steps_per_epoch=steps_per_epoch)
    rates = []
    for _ in range(epochs * steps_per_epoch):
        rates.append(optimizer.param_groups[0]["lr"] / 2)
        optimizer.step()
        scheduler.step()
    return [*rates, optimizer.param_groups[0]["lr"] / 2]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1] * 9),
        ("step", [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]),
        ("milestones", [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]),
        # A third a step in the first epoch; then 0.5 + 0.5 cos of 0°, 30°, 60°, … 180°.
        ("cosine", [1 / 3, 2 / 3, 1, 0.9330127, 0.75, 0.5, 0.25, 0.0669873, 0]),
    ],
)
def test_learning_rate_of_each_step_by_hand(schedule, expected):
    assert learning_rates(schedule, epochs=4, steps_per_epoch=2) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_pretrained_weights_learn_at_their_share_of_the_rate(schedule):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    optimizer = adamw(
        model, pretrained={"0.weight", "0.bias"}, learning_rate=0.2, weight_decay=0.05, pretrained_rate=0.1
    )
    scheduler = make_schedule(optimizer, schedule, epochs=2, steps_per_epoch=3)
    for _ in range(6):
        new, loaded = (group["lr"] for group in optimizer.param_groups)
        assert loaded == pytest.approx(0.1 * new)
        optimizer.step()
        scheduler.step()
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05, 0.05]
    assert [sum(p.numel() for p in group["params"]) for group in optimizer.param_groups] == [3, 6]


def test_one_cycle_rises_to_its_peak_at_30_percent_and_ends_near_zero():
    rates = learning_rates("one_cycle", epochs=3, steps_per_epoch=3)
    assert rates[:3] == pytest.approx([0.04, 0.52, 1])  # half a cosine up from a 25th
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] == pytest.approx(0.04 / 1e4)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_single_step_is_trained_with_a_learning_rate_above_zero(schedule):
    first, _ = learning_rates(schedule, epochs=1, steps_per_epoch=1)
    assert 0 < first <= 1
