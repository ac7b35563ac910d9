"""Numbers and intervals as text."""

import math

import pytest

from metrics.metric import Metric
from reporting.words.formatting import interval, number, percent, typeset, with_interval


def test_a_metric_with_its_interval():
    assert with_interval(Metric(0.7421, 0.6412, 0.8358)) == "0.742 (0.641-0.836)"
    assert with_interval(Metric(0.62, -0.41, 0.93), 2) == "0.62 (-0.41 to 0.93)"
    assert with_interval(Metric(0.7421)) == "0.742"
    assert with_interval(Metric(math.nan)) == number(math.nan) == "undefined"


def test_a_page_has_dashes_and_minus_signs():
    assert typeset(interval(Metric(0.7, 0.6412, 0.8358))) == "0.641–0.836"
    assert typeset(interval(Metric(-0.3, -1.2, -0.11), 2)) == "−1.20 to −0.11"
    assert typeset("-0.300") == "−0.300"


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.339, "33.9 %"),
        (0, "0.0 %"),
        (1e-5, "< 0.1 %"),
        (0.0005, "0.1 %"),
        (0.9996, "> 99.9 %"),
        (1, "100.0 %"),
    ],
)
def test_percent_rounds_no_probability_to_certainty(share, words):
    assert percent(share) == words
