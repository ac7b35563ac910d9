"""Thresholds against hand-worked values and scikit-learn."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from sklearn import metrics as sklearn_metrics
from sklearn.exceptions import UndefinedMetricWarning

import metrics_and_performance as mp
from metrics.thresholds import choose_threshold, expected_of_choice


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def make_scores(rng, n_ecgs, prevalence=0.2, shift=1.0):
    y_true = (rng.random(n_ecgs) < prevalence).astype(int)
    return y_true, 1 / (1 + np.exp(-(rng.normal(size=n_ecgs) + shift * y_true)))


def test_youden_threshold_is_a_midpoint_and_prefers_sensitivity():
    assert mp.youden_threshold([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.8]) == pytest.approx(0.4)
    # flagging from 0.3 or from 0.7 on gives J = 1/2 both: the lower threshold wins
    assert mp.youden_threshold([0, 1, 0, 1], [0.1, 0.3, 0.5, 0.7]) == pytest.approx(0.2)


def test_youden_threshold_reaches_the_best_point_of_the_roc_curve(rng):
    for digits in (1, 2, 8):
        y_true, y_score = make_scores(rng, 200)
        y_score = y_score.round(digits)
        false_positive_rate, sensitivity, _ = sklearn_metrics.roc_curve(y_true, y_score)
        confusion = mp.confusion_metrics(y_true, y_score, mp.youden_threshold(y_true, y_score))
        found = confusion["sensitivity"].value + confusion["specificity"].value - 1
        assert found == pytest.approx((sensitivity - false_positive_rate).max())


def test_youden_threshold_of_neighbouring_floats_and_of_scores_that_say_nothing():
    low = 0.5
    assert mp.youden_threshold([0, 1], [low, np.nextafter(low, 1)]) == np.nextafter(low, 1)
    assert mp.youden_threshold([0, 1], [0.3, 0.3]) == 0.3
    assert mp.youden_threshold([1, 0], [0.2, 0.6]) == 0.2  # reversed scores: every ECG is flagged
    with pytest.warns(UndefinedMetricWarning, match=r"0\.5"):
        assert mp.youden_threshold([0, 0], [0.1, 0.2]) == 0.5


@pytest.mark.parametrize("policy, threshold", [("sensitivity>=0.6", 0.45), ("specificity>=0.8", 0.65)])
def test_choose_threshold_by_hand(policy, threshold):
    # ascending: - - + - + - + ; two of three positives are above 0.45, all negatives below 0.65
    y_true, y_score = [0, 0, 1, 0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert mp.choose_threshold(y_true, y_score, policy) == pytest.approx(threshold)
    assert mp.choose_threshold(y_true, y_score, "youden") == mp.youden_threshold(y_true, y_score)
    assert mp.choose_threshold(y_true, y_score) == pytest.approx(3 / 7)  # the prevalence


@pytest.mark.parametrize("digits", [1, 2, 8])
@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.9, 0.95])
def test_chosen_threshold_is_the_best_point_of_the_roc_curve(rng, wanted, digits):
    y_true, y_score = make_scores(rng, 300)
    y_score = y_score.round(digits)
    curve = sklearn_metrics.roc_curve(y_true, y_score, drop_intermediate=False)
    specificities, sensitivities = 1 - curve[0], curve[1]
    for metric, other, met, best in (
        ("sensitivity", "specificity", sensitivities, specificities),
        ("specificity", "sensitivity", specificities, sensitivities),
    ):
        chosen = mp.choose_threshold(y_true, y_score, f"{metric}>={wanted}")
        found = mp.confusion_metrics(y_true, y_score, chosen)
        assert found[metric].value >= wanted and chosen not in y_score
        assert found[other].value == pytest.approx(best[met >= wanted - 1e-12].max())


def test_choose_threshold_meets_a_share_exactly():
    y_true, y_score = np.repeat([0, 1], [1, 20]), np.arange(21) / 21
    chosen = mp.choose_threshold(y_true, y_score, "sensitivity>=0.95")
    assert mp.confusion_metrics(y_true, y_score, chosen)["sensitivity"].successes == 19


def test_choose_threshold_that_flags_everything_or_nothing_warns():
    with pytest.warns(UndefinedMetricWarning, match="flags every"):
        assert mp.choose_threshold([1, 0, 1], [0.1, 0.5, 0.9], "sensitivity>=0.9") == 0.1
    with pytest.warns(UndefinedMetricWarning, match="flags no"):
        chosen = mp.choose_threshold([1, 0, 0], [0.1, 0.5, 1.0], "specificity>=0.9")
    assert 1 < chosen < 1.0001
    with pytest.warns(UndefinedMetricWarning, match=r"no positive ECG; 0\.5"):
        assert mp.choose_threshold([0, 0], [0.1, 0.2], "specificity>=0.9") == 0.5


UNKNOWN_POLICIES = ["", "Youden", "sensitivity", "sensitivity>=", "sensitivity>=1.2", "sensitivity>=0.9.5"]
UNKNOWN_POLICIES += ["sensitivity>=-0.1", "sensitivity>=nan", "specificity=0.9", "npv>=0.9"]


@pytest.mark.parametrize("policy", UNKNOWN_POLICIES)
def test_unknown_policy_is_named(policy):
    with pytest.raises(ValueError, match=f"threshold policy '{policy}'"):
        mp.choose_threshold([0, 1], [0.1, 0.9], policy)


def test_the_prevalence_is_youdens_threshold_of_right_probabilities(rng):
    """Binormal ECGs whose score is their probability: their best point is where it equals the prevalence."""
    y_true = np.repeat([0, 1], [180_000, 20_000])
    value = rng.normal(size=200_000) + y_true
    y_score = 1 / (1 + np.exp(-(value - 0.5 + np.log(1 / 9))))
    chosen = mp.confusion_metrics(y_true, y_score, mp.choose_threshold(y_true, y_score))
    best = mp.confusion_metrics(y_true, y_score, mp.youden_threshold(y_true, y_score))
    index = [one["sensitivity"].value + one["specificity"].value for one in (chosen, best)]
    assert index[0] == pytest.approx(index[1], abs=0.003)
    assert chosen["sensitivity"].value == pytest.approx(norm.cdf(0.5), abs=0.01)


def test_ten_positives_leave_the_sensitivity_of_a_lowest_point_open():
    y_true, y_score = np.repeat([0, 1], [90, 10]), np.arange(100) / 100
    threshold = choose_threshold(y_true, y_score, "sensitivity>=0.95")
    expected = expected_of_choice(y_true, y_score, threshold, "sensitivity>=0.95")
    assert expected["sensitivity"] == pytest.approx([0.025**0.1, 1])  # the lowest of ten: Beta(10, 1)
    assert expected["specificity"] == pytest.approx([0.025 ** (1 / 90), 1])
    youden = expected_of_choice(y_true, y_score, threshold, "youden")
    assert youden["sensitivity"] == pytest.approx([0.005**0.1, 1])
    assert expected_of_choice([0, 0], [0.1, 0.2], 0.5, "youden") == {}


def test_expected_is_the_interval_of_scipy_and_counts_patients(rng):
    y_true, y_score = make_scores(rng, 120)
    right = int((y_score >= 0.6)[y_true == 1].sum())
    found = expected_of_choice(y_true, y_score, 0.6, "sensitivity>=0.5")["sensitivity"]
    exact = binomtest(right, int(y_true.sum())).proportion_ci(method="exact")
    assert found == pytest.approx([exact.low, exact.high])
    twice = [np.repeat(values, 2) for values in (y_true, y_score, np.arange(120))]
    assert expected_of_choice(*twice[:2], 0.6, "sensitivity>=0.5", twice[2])["sensitivity"] == pytest.approx(
        found, abs=0.01
    )


@pytest.mark.parametrize("policy", ["youden", "sensitivity>=0.95"])
def test_expected_holds_the_truth(rng, policy):
    """300 studies of 10 positives among 100, binormal with an AUROC of 0.75; the truth by the formula."""
    y_true, shift, held = np.repeat([0, 1], [90, 10]), np.sqrt(2) * norm.ppf(0.75), []
    for _ in range(300):
        score = rng.normal(size=100) + shift * y_true
        threshold = choose_threshold(y_true, score, policy)
        expected = expected_of_choice(y_true, score, threshold, policy)
        truth = {"sensitivity": norm.sf(threshold - shift), "specificity": norm.cdf(threshold)}
        held.append([expected[name][0] <= value <= expected[name][1] for name, value in truth.items()])
    assert (np.mean(held, axis=0) > 0.92).all()
