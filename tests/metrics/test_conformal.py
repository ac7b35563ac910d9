"""Conformal sets against hand-worked values, their definition, and the guarantee that they give."""

import numpy as np
import pytest

from metrics.conformal import NOT_SURE, ConformalSets, fewest_for


def test_hand_worked():
    """With nine of each class and alpha 0.1, a class is left out beyond the most extreme one of it."""
    sets = ConformalSets.fit(np.repeat([1, 0], 9), np.r_[np.arange(41, 50), np.arange(1, 46, 5)] / 50)
    # positives 0.82 to 0.98; negatives 0.02 to 0.82: where they meet, at 0.82, it can be either
    found = sets.decide(np.array([0.0, 0.81, 0.82, 0.83, 1.0]), 0.1)
    assert found.tolist() == [0, 0, NOT_SURE, 1, 1]


def test_the_empty_set_is_not_sure():
    sets = ConformalSets(np.arange(80, 99) / 100, np.arange(1, 20) / 100)
    assert sets.decide(np.array([0.5]), 0.1).tolist() == [NOT_SURE]


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.25])
def test_p_values_by_their_definition(alpha):
    generator = np.random.default_rng(3)
    y_true, y_score = generator.integers(0, 2, 200), np.round(generator.random(200), 2)  # with ties
    new = np.round(generator.random(50), 2)
    expected = []
    for score in new:
        positive = (1 + sum(one <= score for one in y_score[y_true == 1])) / (1 + (y_true == 1).sum())
        negative = (1 + sum(one >= score for one in y_score[y_true == 0])) / (1 + (y_true == 0).sum())
        expected.append({(True, False): 1, (False, True): 0}.get((positive > alpha, negative > alpha), -1))
    assert ConformalSets.fit(y_true, y_score).decide(new, alpha).tolist() == expected


def test_each_class_is_covered():
    """Of 4,000 draws of 30 positives at most alpha, and three standard errors, is called the other class."""
    generator, alpha, wrong = np.random.default_rng(5), 0.1, np.zeros(2)
    for _ in range(4000):
        sets = ConformalSets(np.sort(generator.normal(1, 1, 30)), np.sort(generator.normal(0, 1, 300)))
        wrong += sets.decide(generator.normal([0, 1], 1), alpha) == [1, 0]
    assert (wrong / 4000 <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / 4000)).all()
    assert (wrong > 0).all()


@pytest.mark.parametrize(("alpha", "fewest"), [(0.1, 9), (0.05, 19), (0.3, 3), (0.5, 1)])
def test_fewest(alpha, fewest):
    """(n + 1) alpha reaches 1: then the most extreme score of all leaves its class out."""
    assert fewest_for(alpha) == fewest
    enough, too_few = (ConformalSets(np.full(n, 0.9), np.full(99, 0.5)) for n in (fewest, fewest - 1))
    assert enough.decide(np.array([0.1]), alpha).tolist() == [0]
    assert too_few.decide(np.array([0.1]), alpha).tolist() == [NOT_SURE]
