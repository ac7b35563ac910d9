"""Resamples and their intervals against scikit-learn, brute force and simulation."""

import hashlib
import math
import time

import numpy as np
import pytest
import scipy.stats
from sklearn import metrics as sklearn_metrics
from sklearn.exceptions import UndefinedMetricWarning

import metrics_and_performance as mp
from metrics import bootstrap

RESAMPLED_METRICS = [
    (bootstrap.auroc_of_counts, sklearn_metrics.roc_auc_score),
    (bootstrap.average_precision_of_counts, sklearn_metrics.average_precision_score),
]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def make_scores(rng, n_ecgs, prevalence=0.2, shift=1.0):
    y_true = (rng.random(n_ecgs) < prevalence).astype(int)
    return y_true, 1 / (1 + np.exp(-(rng.normal(size=n_ecgs) + shift * y_true)))


def bootstrap_interval(of_counts, y_true, y_score, patient_ids, n_resamples=2000, seed=42):
    metrics = {"metric": bootstrap.RankingMetric(of_counts)}
    return bootstrap.bootstrap_intervals(metrics, y_true, y_score, patient_ids, n_resamples, seed)["metric"]


@pytest.mark.parametrize("of_counts, of_sklearn", RESAMPLED_METRICS)
@pytest.mark.parametrize("digits", [1, 2, 8])  # many ties, some, none
def test_each_resample_agrees_with_sklearn(rng, of_counts, of_sklearn, digits):
    y_true, y_score = make_scores(rng, 120)
    y_score, patient_ids = y_score.round(digits), rng.integers(60, size=120)
    patients = np.unique(patient_ids, return_inverse=True)[1]
    found = [
        of_counts(counts) for counts in bootstrap.resampled_counts(y_true, y_score, patients, 40, seed=3)
    ]
    weights = np.concatenate(list(bootstrap.resampled_weights(patients, 40, seed=3)))
    expected = [of_sklearn(y_true, y_score, sample_weight=row) for row in weights]
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-10)


def test_patients_are_drawn_with_all_their_ecgs(rng):
    patients = rng.integers(30, size=100)
    patients = np.unique(patients, return_inverse=True)[1]
    weights = np.concatenate(list(bootstrap.resampled_weights(patients, 500, seed=1)))
    _, first = np.unique(patients, return_index=True)
    np.testing.assert_array_equal(weights, weights[:, first][:, patients])  # one weight a patient
    assert (weights[:, first].sum(axis=1) == len(first)).all()  # as many patients as there are
    assert weights[:, first].mean(axis=0) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("of_counts, _", RESAMPLED_METRICS)
def test_repeated_ecgs_of_a_patient_add_no_certainty(rng, of_counts, _):
    y_true, y_score = make_scores(rng, 150)
    patient_ids = np.arange(150)
    once = bootstrap_interval(of_counts, y_true, y_score, patient_ids)
    repeated = [np.repeat(column, 4) for column in (y_true, y_score, patient_ids)]
    by_patient = bootstrap_interval(of_counts, *repeated)
    by_ecg = bootstrap_interval(of_counts, *repeated[:2], np.arange(600))
    assert by_patient[:2] == pytest.approx(once[:2], abs=1e-12)
    assert by_ecg.high - by_ecg.low < 0.65 * (once.high - once.low)  # about 1 / sqrt(4)


def test_bootstrap_is_determined_by_its_seed_and_not_by_the_chunks(rng, monkeypatch):
    y_true, y_score = make_scores(rng, 90)
    interval = bootstrap_interval(bootstrap.auroc_of_counts, y_true, y_score, range(90), 300, seed=5)
    assert bootstrap_interval(bootstrap.auroc_of_counts, y_true, y_score, range(90), 300, seed=5) == interval
    assert bootstrap_interval(bootstrap.auroc_of_counts, y_true, y_score, range(90), 300, seed=6) != interval
    monkeypatch.setattr(bootstrap, "WEIGHTS_PER_CHUNK", 7 * 90)
    assert bootstrap_interval(bootstrap.auroc_of_counts, y_true, y_score, range(90), 300, seed=5) == interval


def test_bootstrap_is_the_same_whatever_the_patients_are_called(rng):
    y_true, y_score = make_scores(rng, 90)
    patients = rng.integers(60, size=90)
    renamed = [hashlib.sha256(b"%d" % number).hexdigest() for number in patients]
    intervals = [
        bootstrap_interval(bootstrap.auroc_of_counts, y_true, y_score, names, 300)
        for names in (patients, renamed)
    ]
    assert intervals[0] == intervals[1]


def test_bootstrap_covers_the_true_auroc(rng):
    truth = 0.7602  # Phi(1 / sqrt(2)), two normal distributions one standard deviation apart
    covered = 0
    for _ in range(200):
        y_true, y_score = make_scores(rng, 200)
        interval = bootstrap_interval(bootstrap.auroc_of_counts, y_true, y_score, range(200), 400)
        low, high = interval[:2]
        covered += low <= truth <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_too_few_patients_give_no_interval():
    with pytest.warns(UndefinedMetricWarning, match="resamples with both classes"):
        interval = bootstrap_interval(bootstrap.auroc_of_counts, [1, 0, 0, 0], [0.9, 0.1, 0.2, 0.3], range(4))
    assert math.isnan(interval.low) and 0 < interval.n_resamples < 1800
    assert interval.reason == "too few patients"
    with pytest.warns(UndefinedMetricWarning, match="patients: 1"):
        assert math.isnan(bootstrap_interval(bootstrap.auroc_of_counts, [1, 0], [0.9, 0.1], ["a", "a"]).low)
    with pytest.warns(UndefinedMetricWarning, match="0 of 2000"):
        assert math.isnan(bootstrap_interval(bootstrap.auroc_of_counts, [0, 0], [0.9, 0.1], [1, 2]).low)
    with pytest.raises(ValueError, match="1 of 2 are missing"):
        bootstrap_interval(bootstrap.auroc_of_counts, [1, 0], [0.9, 0.1], ["a", None])


def test_expanded_percentiles_are_those_of_t_moved_by_the_bias():
    sample, positives = np.linspace(0, 1, 10_001), bootstrap.Positives(n_ecgs=20, n_patients=10)
    margin = scipy.stats.t.ppf(0.975, 9)
    centred = bootstrap.expanded_percentiles(0.5, sample, positives, 0.95)
    assert centred == pytest.approx(scipy.stats.norm.cdf([-margin, margin]), abs=1e-6)
    # 30 % of the resamples lie below: the metric is too high in small samples, the interval moves down
    moved = bootstrap.expanded_percentiles(0.3, sample, positives, 0.95)
    assert moved == pytest.approx(
        scipy.stats.norm.cdf(2 * scipy.stats.norm.ppf(0.3) + np.array([-margin, margin])), abs=1e-4
    )


def test_the_share_of_positives_is_that_of_the_effective_number():
    positives = bootstrap.Positives(n_ecgs=20, n_patients=12)
    sample = 0.5 + np.sqrt(0.025 * 999 / 1000) * np.tile([-1, 1], 500)  # of variance 0.5 * 0.5 / 10
    expected = scipy.stats.binomtest(5, 10).proportion_ci(method="exact")
    assert bootstrap.share_of_positives(0.5, sample, positives, 0.95) == pytest.approx(expected)
    # never more than there are, and at the edges the patients
    sure = bootstrap.share_of_positives(0.5, 0.5 + (sample - 0.5) / 100, positives, 0.95)
    assert sure == pytest.approx(scipy.stats.binomtest(10, 20).proportion_ci(method="exact"))
    nothing = bootstrap.share_of_positives(0.2, np.full(1000, 0.2), positives, 0.95, lowest=0.2)
    assert nothing == pytest.approx((0.2, 0.2 + 0.8 * (1 - 0.025 ** (1 / 12))))


def test_an_interval_without_width_is_none():
    found = bootstrap_interval(
        bootstrap.average_precision_of_counts, np.repeat([0, 1], 10), np.arange(20), range(20)
    )
    assert math.isnan(found.low) and math.isnan(found.high)
    assert found.reason == "the same value in all resamples"


def test_two_thousand_resamples_of_a_thousand_ecgs_are_quick(rng):
    y_true, y_score = make_scores(rng, 1000, prevalence=0.1)
    start = time.perf_counter()
    bootstrap.bootstrap_intervals(mp.RANKING_METRICS, y_true, y_score, range(1000))
    assert time.perf_counter() - start < 2  # seconds; 0.12 on one idle core


def test_each_metric_has_the_interval_it_has_alone(rng):
    y_true, y_score = make_scores(rng, 200)
    metrics = dict(enumerate(bootstrap.RankingMetric(of_counts) for of_counts, _ in RESAMPLED_METRICS))
    together = bootstrap.bootstrap_intervals(metrics, y_true, y_score, range(200), 100)
    for name, metric in metrics.items():
        assert together[name] == bootstrap_interval(metric.of_counts, y_true, y_score, range(200), 100)


def test_resamples_that_leave_a_metric_undefined_are_dropped(rng):
    y_true, y_score = make_scores(rng, 100)

    def undefined_now_and_then(share):
        def of_counts(counts):
            values = bootstrap.auroc_of_counts(counts)
            values[: math.ceil(share * len(values))] = np.nan
            return values

        return bootstrap_interval(of_counts, y_true, y_score, range(100), 1000)

    assert undefined_now_and_then(0.05).n_resamples == 950 and undefined_now_and_then(0.05).low > 0
    assert math.isnan(undefined_now_and_then(0.2).low)
