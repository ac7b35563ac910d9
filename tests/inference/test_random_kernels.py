"""MiniRocket of many channels, against a computation sample by sample; nothing of the test part is used."""

import itertools
import math

import numpy as np
import pytest

from inference.random_kernels import RandomKernels, _dilations, _in_span, at_low_rate, kernel_scores

FEW = 84 * 8


@pytest.fixture(scope="module")
def signals():
    return np.random.default_rng(1).normal(size=(5, 12, 100)).astype(np.float32)


def output_by_hand(signal, leads, kernel, dilation):
    """Return a kernel's output for one ECG, sample by sample; zeros surround the ECG."""
    wide = list(itertools.combinations(range(9), 3))[kernel]
    one, n = signal[leads].sum(axis=0).astype(float), signal.shape[1]
    output = np.zeros(n)
    for place, position in itertools.product(range(n), range(9)):
        source = place + (position - 4) * dilation
        if 0 <= source < n:
            output[place] += (2 if position in wide else -1) * one[source]
    return output


def test_dilations_are_those_of_the_paper():
    # 119 numbers per kernel, 32 dilations from 2^0 to 2^log2(999 / 8), rounded down; 119 / 32 of each
    exponents = [number * math.log2(999 / 8) / 31 for number in range(32)]
    drawn = [int(2**exponent + 1e-9) for exponent in exponents]
    dilations, n_thresholds = _dilations(1000, 119)
    assert dilations == sorted(set(drawn)) and sum(n_thresholds) == 119
    assert n_thresholds[0] == int(drawn.count(1) * 119 / 32) + 1  # and one of those that rounding left
    assert _dilations(100, 8) == ([1, 2, 4, 6, 8, 12], [2, 2, 1, 1, 1, 1])


def test_features_are_shares_of_samples_above_the_thresholds(signals):
    kernels = RandomKernels(12, 100, seed=3, n_features=FEW).fit(signals[:3])
    features = kernels.transform(signals)
    assert features.shape == (5, FEW) and features.dtype == np.float32
    column = 0
    for number, (dilation, thresholds) in enumerate(zip(kernels.dilations, kernels.thresholds, strict=True)):
        n_thresholds = thresholds.shape[1]
        for kernel in (0, 1, 50, 83):
            output = output_by_hand(signals[4], kernels.leads[number, kernel], kernel, dilation)
            if (number + kernel) % 2:
                output = output[4 * dilation : 100 - 4 * dilation]
            above = [(output > threshold).mean() for threshold in thresholds[kernel]]
            first = column + kernel * n_thresholds
            np.testing.assert_allclose(features[4, first : first + n_thresholds], above, atol=0.021)
        column += thresholds.size
    seen = kernels.leads.sum(axis=-1)
    assert seen.min() >= 1 and seen.max() <= 9 and len(np.unique(kernels.leads.reshape(-1, 12), axis=0)) > 50


def test_thresholds_are_quantiles_of_an_ecg_that_was_given(signals):
    kernels = RandomKernels(12, 100, seed=3, n_features=FEW).fit(signals[2:3])
    first = 1
    for number, thresholds in enumerate(kernels.thresholds):
        levels = (first + np.arange(thresholds.size)) * (math.sqrt(5) + 1) / 2 % 1
        first += thresholds.size
        output = output_by_hand(signals[2], kernels.leads[number, 7], 7, kernels.dilations[number])
        n_thresholds = thresholds.shape[1]
        expected = np.quantile(output, levels[7 * n_thresholds : 8 * n_thresholds])
        np.testing.assert_allclose(thresholds[7], expected, atol=1e-4)


def test_the_same_seed_gives_the_same_kernels(signals):
    one, two, other = (
        RandomKernels(12, 100, seed=seed, n_features=FEW).fit(signals).transform(signals)
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_the_low_rate_has_no_alias():
    seconds = np.arange(5000) / 500
    signals = np.zeros((2, 12, 5000), np.int16)
    signals[0] = 1000 * np.sin(2 * np.pi * 7 * seconds)
    signals[1] = 1000 * np.sin(2 * np.pi * 93 * seconds)  # would look like 7 Hz
    low = at_low_rate(signals)
    assert low.shape == (2, 12, 1000) and low.dtype == np.float32
    inside = slice(50, 950)
    np.testing.assert_allclose(low[0, 0, inside], np.sin(2 * np.pi * 7 * seconds[::5])[inside], atol=0.01)
    assert np.abs(low[1, :, inside]).max() < 0.01


def test_the_span_of_the_development_ecgs_keeps_their_products():
    generator = np.random.default_rng(0)
    features = generator.normal(2, 3, (12, 40)).astype(np.float32)
    features[:, 5] = 1
    rotated = _in_span(features, np.arange(8))
    kept = np.delete(features, 5, axis=1).astype(float)
    standard = (kept - kept[:8].mean(axis=0)) / kept[:8].std(axis=0) / math.sqrt(39)
    np.testing.assert_allclose(rotated @ rotated[:8].T, standard @ standard[:8].T, atol=1e-5)
    assert rotated.shape == (12, 7)  # the mean is taken off


def test_scores_find_what_differs_and_never_see_the_tested_labels(signals):
    generator = np.random.default_rng(5)
    targets = np.tile([[0.0, 1.0], [1.0, 0.0]], (15, 1))
    ecgs = generator.normal(size=(30, 12, 100)).astype(np.float32)
    ecgs[targets[:, 0] == 1] += 1.5 * np.sin(np.arange(100) / 3).astype(np.float32)
    parts = np.array_split(np.arange(30), 3)
    nothing = np.zeros(0, int)
    folds = [
        {"train": np.setdiff1d(np.arange(30), part), "validation": nothing, "test": part} for part in parts
    ]
    targets[3, 1] = np.nan
    scores = kernel_scores(ecgs, targets, folds, np.arange(30), seed=0)
    assert scores.shape == (30, 2) and np.isfinite(scores).all()
    assert scores[targets[:, 0] == 1, 0].min() > scores[targets[:, 0] == 0, 0].max()
    changed = targets.copy()
    changed[parts[1]] = 1 - changed[parts[1]]
    again = kernel_scores(ecgs, changed, folds[1:2], np.arange(30), seed=0)
    np.testing.assert_array_equal(again[parts[1]], scores[parts[1]])
    assert np.isnan(again[parts[0]]).all()
