"""Intervals and tests against published values, scikit-learn, SciPy, brute force and simulation."""

import hashlib
import math
import time

import numpy as np
import pytest
from scipy.stats import binomtest
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
    metrics = {"metric": of_counts}
    return bootstrap.bootstrap_intervals(metrics, y_true, y_score, patient_ids, n_resamples, seed)["metric"]


# Wilson


@pytest.mark.parametrize(
    "successes, n, low, high",  # Newcombe, Stat Med 1998;17:857, Table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_of_newcombe(successes, n, low, high):
    assert bootstrap.wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_of_scipy():
    for successes, n, confidence in [(0, 7, 0.95), (7, 7, 0.9), (14, 21, 0.95), (133, 181, 0.99)]:
        expected = binomtest(successes, n).proportion_ci(confidence, method="wilson")
        found = bootstrap.wilson_interval(successes, n, confidence)
        assert found == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert 0 <= found[0] <= successes / n <= found[1] <= 1
    assert np.isnan(bootstrap.wilson_interval(0, 0)).all()
    with pytest.raises(ValueError, match="successes"):
        bootstrap.wilson_interval(5, 4)


def test_design_effect_by_hand():
    # patients of 2, 2 and 1 ECGs with 2, 0 and 1 right: share 3/5, deviations 0.8, -1.2 and 0.4
    right, patients = np.array([1, 1, 0, 0, 1], bool), np.array([0, 0, 1, 1, 2])
    variance = 3 / 2 * (0.64 + 1.44 + 0.16) / 25
    assert bootstrap.design_effect(right, patients) == pytest.approx(variance / (0.6 * 0.4 / 5))
    assert bootstrap.design_effect(right, np.arange(5)) == 1
    assert bootstrap.design_effect(np.ones(6, bool), np.repeat([0, 1], 3)) == 3
    assert bootstrap.design_effect(np.array([], bool), np.array([], int)) == 1
    opposite = np.array([0, 1] * 10, bool), np.repeat(range(10), 2)
    assert bootstrap.design_effect(*opposite) == 1  # never narrower than independent ECGs


def test_wilson_interval_of_patients_covers(rng):
    covered = {"patients": 0, "ECGs": 0}
    for _ in range(400):
        patients = np.repeat(np.arange(60), 4)
        chance = rng.beta(1.4, 0.6, size=60)[patients]  # 0.7 in the mean, alike within a patient
        right = rng.random(240) < chance
        for name, effect in (("patients", bootstrap.design_effect(right, patients)), ("ECGs", 1)):
            low, high = bootstrap.wilson_interval(right.sum() / effect, 240 / effect)
            covered[name] += low <= 0.7 <= high
    assert covered["patients"] / 400 == pytest.approx(0.95, abs=0.025)
    assert covered["ECGs"] / 400 < 0.85


# Bootstrap


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
        low, high, _ = bootstrap_interval(bootstrap.auroc_of_counts, y_true, y_score, range(200), 400)
        covered += low <= truth <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_too_few_patients_give_no_interval():
    with pytest.warns(UndefinedMetricWarning, match="resamples with both classes"):
        interval = bootstrap_interval(bootstrap.auroc_of_counts, [1, 0, 0, 0], [0.9, 0.1, 0.2, 0.3], range(4))
    assert math.isnan(interval.low) and 0 < interval.n_resamples < 1800
    with pytest.warns(UndefinedMetricWarning, match="patients: 1"):
        assert math.isnan(bootstrap_interval(bootstrap.auroc_of_counts, [1, 0], [0.9, 0.1], ["a", "a"]).low)
    with pytest.warns(UndefinedMetricWarning, match="0 of 2000"):
        assert math.isnan(bootstrap_interval(bootstrap.auroc_of_counts, [0, 0], [0.9, 0.1], [1, 2]).low)
    with pytest.raises(ValueError, match="1 of 2 are missing"):
        bootstrap_interval(bootstrap.auroc_of_counts, [1, 0], [0.9, 0.1], ["a", None])


def test_two_thousand_resamples_of_a_thousand_ecgs_are_quick(rng):
    y_true, y_score = make_scores(rng, 1000, prevalence=0.1)
    start = time.perf_counter()
    bootstrap.bootstrap_intervals(mp.RANKING_METRICS, y_true, y_score, range(1000))
    assert time.perf_counter() - start < 2  # seconds; 0.12 on one idle core


def test_each_metric_has_the_interval_it_has_alone(rng):
    y_true, y_score = make_scores(rng, 200)
    metrics = dict(enumerate(of_counts for of_counts, _ in RESAMPLED_METRICS))
    together = bootstrap.bootstrap_intervals(metrics, y_true, y_score, range(200), 100)
    for name, of_counts in metrics.items():
        assert together[name] == bootstrap_interval(of_counts, y_true, y_score, range(200), 100)


def test_resamples_that_leave_a_metric_undefined_are_dropped(rng):
    y_true, y_score = make_scores(rng, 100)

    def undefined_now_and_then(share):
        def of_counts(counts):
            values = bootstrap.auroc_of_counts(counts)
            values[: math.ceil(share * len(values))] = np.nan
            return values

        return bootstrap_interval(of_counts, y_true, y_score, range(100), 1000)

    assert undefined_now_and_then(0.05).n_resamples == 950 and undefined_now_and_then(0.05).low > 0.5
    assert math.isnan(undefined_now_and_then(0.2).low)


def test_bootstrap_difference(rng):
    y_true, score_a = make_scores(rng, 150)
    score_b = score_a + rng.normal(scale=0.3, size=150)
    patients = np.arange(150) + 1000  # in the same order as numbers and as text
    arguments = {"patient_ids": patients, "n_resamples": 50, "seed": 3}
    found = bootstrap.bootstrap_difference(y_true, score_a, score_b, **arguments)
    weights = np.concatenate(list(bootstrap.resampled_weights(np.arange(150), 50, seed=3)))
    auroc = sklearn_metrics.roc_auc_score
    differences = [
        auroc(y_true, score_a, sample_weight=row) - auroc(y_true, score_b, sample_weight=row)
        for row in weights
    ]
    assert found[1:3] == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])))
    assert found.difference == pytest.approx(auroc(y_true, score_a) - auroc(y_true, score_b))
    mirrored = bootstrap.bootstrap_difference(y_true, score_b, score_a, **arguments)
    assert mirrored[:3] == pytest.approx((-found.difference, -found.high, -found.low))
    of_itself = bootstrap.bootstrap_difference(y_true, score_a, score_a, **arguments)
    assert of_itself[:3] == (0, 0, 0)


def test_bootstrap_difference_without_positives_or_of_one_patient_is_nan():
    with pytest.warns(UndefinedMetricWarning, match="no positive ECG"):
        assert math.isnan(bootstrap.bootstrap_difference([0, 0], [0.1, 0.2], [0.2, 0.1], [1, 2]).difference)
    with pytest.warns(UndefinedMetricWarning, match="interval of the difference"):
        found = bootstrap.bootstrap_difference([0, 1], [0.1, 0.2], [0.2, 0.1], [1, 1])
    assert found.difference == 1 and math.isnan(found.low)


# DeLong


def covariance_by_brute_force(y_true, scores):
    """The covariance matrix of AUROCs from all pairs, formulas 5 to 8 of DeLong 1988: O(n m)."""
    placements = []
    for label in (1, 0):
        of_label = []
        for score in scores:
            pairs = score[y_true == 1][:, None] - score[y_true == 0]
            won = (pairs > 0) + 0.5 * (pairs == 0)
            of_label.append(won.mean(axis=1 if label else 0))
        placements.append(np.cov(of_label) / len(of_label[0]))
    return sum(placements)


@pytest.mark.parametrize("digits", [1, 8])  # many ties, none
def test_delong_by_brute_force(rng, digits):
    y_true, score_a = make_scores(rng, 200)
    score_b = score_a + rng.normal(scale=0.2, size=200)
    scores = score_a.round(digits), score_b.round(digits)
    covariance = covariance_by_brute_force(y_true, scores)
    areas = [sklearn_metrics.roc_auc_score(y_true, score) for score in scores]
    for score, area, variance in zip(scores, areas, covariance.diagonal(), strict=True):
        logit, margin = np.log(area / (1 - area)), 1.959964 * np.sqrt(variance) / (area * (1 - area))
        expected = 1 / (1 + np.exp([margin - logit, -margin - logit]))
        assert bootstrap.delong_interval(y_true, score) == pytest.approx(tuple(expected), rel=1e-6)
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    found = bootstrap.delong_test(y_true, *scores)
    assert found.difference == pytest.approx(areas[0] - areas[1])
    assert found.z == pytest.approx((areas[0] - areas[1]) / error)
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * error, rel=1e-6)
    assert found.p == pytest.approx(math.erfc(abs(found.z) / math.sqrt(2)))


def test_delong_agrees_with_the_bootstrap(rng):
    y_true, score_a = make_scores(rng, 1000, prevalence=0.1)
    score_b = score_a + rng.normal(scale=0.2, size=1000)
    for patients in (np.arange(1000), np.arange(1000) // 3):
        low, high, _ = bootstrap_interval(bootstrap.auroc_of_counts, y_true, score_a, patients)
        # two percentiles of 2,000 resamples: each is known to about a tenth of the standard error
        of_delong = bootstrap.delong_interval(y_true, score_a, patients)
        assert of_delong == pytest.approx((low, high), abs=0.1 * (high - low))
        resampled = bootstrap.bootstrap_difference(y_true, score_a, score_b, patients)
        tested = bootstrap.delong_test(y_true, score_a, score_b, patients)
        assert tested.difference == pytest.approx(resampled.difference)
        width = resampled.high - resampled.low
        assert tested[1:3] == pytest.approx(resampled[1:3], abs=0.1 * width)


def test_delong_of_repeated_ecgs(rng):
    y_true, score_a = make_scores(rng, 150)
    score_b = rng.random(150)
    repeated = [np.repeat(column, 4) for column in (y_true, score_a, score_b)]
    patients = np.repeat(np.arange(150), 4)
    once = bootstrap.delong_interval(y_true, score_a)
    assert bootstrap.delong_interval(*repeated[:2], patients) == pytest.approx(once)
    assert bootstrap.delong_test(*repeated, patients) == pytest.approx(
        bootstrap.delong_test(y_true, score_a, score_b)
    )
    assert bootstrap.delong_test(y_true, score_a, score_b, np.arange(150)) == pytest.approx(
        bootstrap.delong_test(y_true, score_a, score_b)
    )
    low, high = bootstrap.delong_interval(*repeated[:2])
    assert high - low < 0.6 * (once[1] - once[0])


@pytest.mark.parametrize(
    "y_true, y_score, reason",
    [
        ([0, 0], [0.1, 0.2], "no positive ECG"),
        ([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], "AUROC 1"),
        ([1, 1, 0, 0], [0.1, 0.2, 0.3, 0.4], "AUROC 0"),
        ([0, 0, 1], [0.1, 0.3, 0.2], "variance nan"),
        ([0, 1, 0, 1], [0.5] * 4, "variance 0"),
    ],
)
def test_delong_is_nan_where_undefined(y_true, y_score, reason):
    with pytest.warns(UndefinedMetricWarning, match=reason):
        assert np.isnan(bootstrap.delong_interval(y_true, y_score)).all()
    with pytest.warns(UndefinedMetricWarning, match="DeLong's test"):
        assert math.isnan(bootstrap.delong_test(y_true, y_score, y_score).p)


# McNemar


def test_mcnemar_by_hand():
    # 20 positives: A alone finds 4, B alone 12; 10 negatives: both right on 7, A alone on 3
    y_true = np.repeat([1, 1, 1, 0, 0], [4, 12, 4, 7, 3])
    decision_a = np.repeat([1, 0, 1, 0, 0], [4, 12, 4, 7, 3])
    decision_b = np.repeat([0, 1, 1, 0, 1], [4, 12, 4, 7, 3])
    found = bootstrap.mcnemar_test(y_true, decision_a, decision_b)
    sensitivity = found["sensitivity"]
    assert (sensitivity["only_a"], sensitivity["only_b"], sensitivity["n"]) == (4, 12, 20)
    assert sensitivity["difference"] == pytest.approx(-8 / 20)
    # statsmodels 0.15.0, mcnemar([[0, 4], [12, 0]], exact=True)
    assert sensitivity["p"] == pytest.approx(0.076812744140625)
    # Bonett & Price: p12 = 5 / 22, p21 = 13 / 22
    margin = 1.959964 * math.sqrt((18 / 22 - (8 / 22) ** 2) / 22)
    assert (sensitivity["low"], sensitivity["high"]) == pytest.approx(
        (-8 / 22 - margin, -8 / 22 + margin), abs=1e-6
    )
    assert (found["specificity"]["only_a"], found["specificity"]["p"]) == (3, pytest.approx(2 / 2**3))
    assert (found["accuracy"]["only_a"], found["accuracy"]["only_b"], found["accuracy"]["n"]) == (7, 12, 30)


def test_mcnemar_of_equal_decisions_and_of_one_class():
    with pytest.warns(UndefinedMetricWarning, match="specificity"):
        found = bootstrap.mcnemar_test([1, 1], [1, 0], [1, 0])
    assert found["sensitivity"]["p"] == 1 and found["sensitivity"]["difference"] == 0
    assert math.isnan(found["specificity"]["p"]) and found["specificity"]["n"] == 0
    with pytest.raises(ValueError, match="decision_b"):
        bootstrap.mcnemar_test([1, 0], [1, 0], [0.2, 0.7])
